//! The limits of the machine on their own: bare calls, raw inserts, and the disk.

use super::{
    batch::stored_rows,
    submit::{CONNECTIONS, IN_FLIGHT, echo_like, submissions},
};
use crate::bench::{
    Bench, BenchError, Row, Scenario, Unit, disk,
    load::{Sample, Until},
    rounds::figures,
    scratch::Scratch,
};

/// Jobs in a transaction.
const BATCHES: [usize; 3] = [1, 100, 1_000];

struct Limits {
    fsync: Sample,
    many: Sample,
    lone: Sample,
    inserts: [Sample; 3],
}

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let rows = stored_rows(bench, Scenario::Floor).await?;
    let server = bench.own_server(Scenario::Floor).await?;
    let echo = echo_like(bench, &server).await?;
    server.stop().await?;
    let clients = echo.connect(CONNECTIONS).await?;
    let (options, job) = (bench.options, bench.sample.clone());
    let time = options.round_time / 3;
    let rounds = bench
        .ticker
        .alone(async || {
            let insert = |batch| {
                let scratch = Scratch::new(&options.dir)?;
                rows.insert(scratch.path(), batch, time)
            };
            Ok(Limits {
                fsync: disk::fdatasync(Scratch::new(&options.dir)?.path(), time)?,
                many: submissions(&clients, &job, IN_FLIGHT, Until::Elapsed(time)).await?,
                lone: submissions(&clients[..1], &job, 1, Until::Elapsed(time)).await?,
                inserts: [
                    insert(BATCHES[0])?,
                    insert(BATCHES[1])?,
                    insert(BATCHES[2])?,
                ],
            })
        })
        .await?;
    let row = |what: String, unit, figure: &dyn Fn(&Limits) -> f64| {
        Row::new(Scenario::Floor, what, unit, &figures(&rounds, figure))
    };
    let mut report = vec![
        row("fdatasync of a page".to_owned(), Unit::PerSecond, &|l| {
            l.fsync.per_second()
        }),
        row("fdatasync of a page, p50".to_owned(), Unit::Seconds, &|l| {
            l.fsync.latency(0.5)
        }),
        row(
            format!("bare echo, {IN_FLIGHT} in flight"),
            Unit::PerSecond,
            &|l| l.many.per_second(),
        ),
        row("bare echo alone, p50".to_owned(), Unit::Seconds, &|l| {
            l.lone.latency(0.5)
        }),
    ];
    for (at, batch) in BATCHES.into_iter().enumerate() {
        let jobs = match batch {
            1 => "one job".to_owned(),
            many => format!("{many} jobs"),
        };
        let what = format!(
            "raw inserts, {} rows a job, {jobs} to a transaction",
            rows.rows_per_job()
        );
        report.push(row(what, Unit::PerSecond, &move |l| {
            l.inserts[at].per_second()
        }));
    }
    Ok(report)
}
