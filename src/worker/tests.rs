//! A worker whose server is played by the test.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::*;
use crate::{
    client::scripted::{Call, ScriptedServer},
    proto::v1::{
        Directive, JobTask, Lease, ReportResult, WorkRequest, WorkResponse, directive,
        task_report::Report,
    },
};

type Server = ScriptedServer<WorkRequest, WorkResponse>;
type Stream = Call<WorkRequest, WorkResponse>;

/// More than any of these conversations takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const HEARTBEAT: Duration = Duration::from_millis(50);

fn welcome() -> WorkResponse {
    WorkResponse {
        heartbeat_interval: HEARTBEAT.try_into().ok(),
        ..Default::default()
    }
}

fn lease(name: &'static str) -> WorkResponse {
    let lease = Lease {
        task: Some(JobTask {
            name: name.to_owned(),
            driver: "d".to_owned(),
            ..Default::default()
        }),
        attempt: 1,
        fencing_token: 1,
        lease_token: name.into(),
        duration: Duration::from_secs(30).try_into().ok(),
        heartbeat_interval: HEARTBEAT.try_into().ok(),
        ..Default::default()
    };
    WorkResponse {
        leases: vec![lease],
        ..Default::default()
    }
}

fn direct(r#type: directive::Type, lease: &'static str) -> WorkResponse {
    let directive = Directive {
        r#type: r#type.into(),
        lease_token: lease.into(),
        ..Default::default()
    };
    WorkResponse {
        directives: vec![directive],
        ..Default::default()
    }
}

impl Stream {
    async fn welcomed(mut self) -> (Self, crate::proto::v1::WorkerHello) {
        let hello = self.request().await.hello.expect("a hello first");
        self.answer(welcome()).await;
        (self, hello)
    }

    /// Accepts everything until a report that ends a lease, which it leaves unanswered.
    async fn until_end(&mut self) -> (bytes::Bytes, Report) {
        loop {
            for report in self.request().await.reports {
                let kind = report.report.expect("a report");
                if matches!(
                    kind,
                    Report::Success(_)
                        | Report::Failure(_)
                        | Report::Release(_)
                        | Report::Cancelled(_)
                ) {
                    return (report.lease_token, kind);
                }
                self.accept(report.lease_token).await;
            }
        }
    }

    /// Accepts everything until the lease is acknowledged.
    async fn until_acknowledged(&mut self, lease: &'static str) {
        loop {
            let message = self.request().await;
            for report in message.reports {
                self.accept(report.lease_token).await;
            }
            if message.acknowledge == [lease] {
                break;
            }
        }
    }

    async fn accept(&self, lease_token: bytes::Bytes) {
        let result = ReportResult {
            lease_token,
            ..Default::default()
        };
        self.answer(WorkResponse {
            results: vec![result],
            ..Default::default()
        })
        .await;
    }
}

/// Runs a worker of driver `d` while the script plays the server; the worker must leave when the script is over.
async fn play<F>(handler: impl Handler, script: impl FnOnce(Server, CancellationToken) -> F)
where
    F: Future<Output = ()>,
{
    let server = Server::start().await;
    let worker = Worker::builder(server.client().await)
        .name("w")
        .driver("d", handler)
        .slots(2)
        .drain_timeout(Duration::from_millis(100))
        .stop_timeout(Duration::from_millis(100))
        .build()
        .expect("a worker");
    let shutdown = CancellationToken::new();
    let run = timeout(PATIENCE, worker.run(shutdown.clone()));
    let script = timeout(PATIENCE, async {
        script(server, shutdown.clone()).await;
        shutdown.cancel();
    });
    let (ended, played) = tokio::join!(run, script);
    played.expect("the script ends");
    ended.expect("the worker leaves").expect("without an error");
}

#[tokio::test]
async fn an_outcome_is_repeated_until_it_is_answered() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let handler = move |_: TaskContext| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Outcome::success() }
    };
    play(handler, async |mut server, _| {
        let (mut stream, hello) = server.next_call().await.welcomed().await;
        assert_eq!(
            (hello.name.as_str(), &hello.drivers[..], hello.slots),
            ("w", &["d".to_owned()][..], 2)
        );
        stream.answer(lease("a")).await;
        assert!(matches!(stream.until_end().await, (_, Report::Success(_))));
        stream.fail(tonic::Status::unavailable("killed")).await;

        let (mut stream, hello) = server.next_call().await.welcomed().await;
        assert_eq!(hello.held, ["a"]);
        let (lease_token, report) = stream.until_end().await;
        assert!(matches!(report, Report::Success(_)));
        stream.accept(lease_token).await;
        drop(stream);

        let (_, hello) = server.next_call().await.welcomed().await;
        assert!(hello.held.is_empty(), "answered, so no longer held");
    })
    .await;
    assert_eq!(
        runs.load(Ordering::Relaxed),
        1,
        "the work itself is not repeated"
    );
}

#[tokio::test]
async fn cancel_is_acknowledged_and_carried_out() {
    let handler = |task: TaskContext| async move {
        let request = task.cancelled().await;
        Outcome::Cancelled {
            status_detail: format!("stopped{}", request.reason),
        }
    };
    play(handler, async |mut server, _| {
        let (mut stream, _) = server.next_call().await.welcomed().await;
        stream.answer(lease("a")).await;
        stream.answer(direct(directive::Type::Cancel, "a")).await;
        let mut acknowledged = false;
        loop {
            for report in stream.request().await.reports {
                stream.accept(report.lease_token).await;
                match report.report {
                    Some(Report::CancelAcknowledged(_)) => acknowledged = true,
                    Some(Report::Cancelled(cancelled)) => {
                        assert!(acknowledged, "the receipt comes first");
                        assert_eq!(cancelled.status_detail, "stopped");
                        return;
                    }
                    _ => {}
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_lease_stops_the_handler_and_its_outcome_is_dropped() {
    let (stopped, mut stops) = mpsc::channel(1);
    let handler = move |task: TaskContext| {
        let stopped = stopped.clone();
        async move {
            task.lease_lost_token().cancelled().await;
            stopped
                .send(task.stop_requested().await)
                .await
                .expect("the test listens");
            Outcome::success()
        }
    };
    play(handler, async |mut server, _| {
        let (mut stream, _) = server.next_call().await.welcomed().await;
        stream.answer(lease("a")).await;
        stream.answer(direct(directive::Type::LeaseLost, "a")).await;
        assert_eq!(stops.recv().await, Some(Stop::LeaseLost));
        stream.answer(lease("b")).await;
        loop {
            let message = stream.request().await;
            assert!(
                message
                    .reports
                    .iter()
                    .all(|report| !matches!(report.report, Some(Report::Success(_))))
            );
            if message.acknowledge == ["b"] {
                break;
            }
        }
        stream.answer(direct(directive::Type::LeaseLost, "b")).await;
        assert_eq!(stops.recv().await, Some(Stop::LeaseLost));
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_a_failure_and_the_worker_goes_on() {
    let handler = |task: TaskContext| async move {
        assert_ne!(task.task().name, "bad", "this task is bad");
        Outcome::success()
    };
    play(handler, async |mut server, _| {
        let (mut stream, _) = server.next_call().await.welcomed().await;
        stream.answer(lease("bad")).await;
        let (lease_token, report) = stream.until_end().await;
        stream.accept(lease_token).await;
        assert!(matches!(&report, Report::Failure(failure) if failure.message.contains("this task is bad")), "{report:?}");
        stream.answer(lease("good")).await;
        let (lease_token, report) = stream.until_end().await;
        assert!(matches!(report, Report::Success(_)));
        stream.accept(lease_token).await;
    })
    .await;
}

#[tokio::test]
async fn drain_makes_it_connect_again_with_what_it_holds() {
    let handler = |task: TaskContext| async move {
        task.shutdown_token().cancelled().await;
        Outcome::released("shutdown")
    };
    play(handler, async |mut server, shutdown| {
        let (mut stream, _) = server.next_call().await.welcomed().await;
        stream.answer(lease("a")).await;
        stream.until_acknowledged("a").await;
        stream.answer(direct(directive::Type::Drain, "")).await;
        while let Ok(Some(message)) = stream.requests.message().await {
            for report in message.reports {
                stream.accept(report.lease_token).await;
            }
        }
        let (mut stream, hello) = server.next_call().await.welcomed().await;
        assert_eq!(hello.held, ["a"]);
        shutdown.cancel();
        let (lease_token, report) = stream.until_end().await;
        assert!(matches!(report, Report::Release(_)), "{report:?}");
        stream.accept(lease_token).await;
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_does_not_stop_is_cut_off_and_its_lease_given_back() {
    let handler = |_: TaskContext| std::future::pending();
    play(handler, async |mut server, shutdown| {
        let (mut stream, _) = server.next_call().await.welcomed().await;
        stream.answer(lease("a")).await;
        stream.until_acknowledged("a").await;
        shutdown.cancel();
        let (lease_token, report) = stream.until_end().await;
        assert!(matches!(report, Report::Release(_)), "{report:?}");
        stream.accept(lease_token).await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_hello_ends_the_worker() {
    let mut server = Server::start().await;
    let worker = Worker::builder(server.client().await)
        .driver("d", async |_: TaskContext| Outcome::success())
        .build()
        .expect("a worker");
    let refuse = async {
        server
            .next_call()
            .await
            .fail(tonic::Status::permission_denied("not you"))
            .await
    };
    let (ended, ()) = tokio::join!(worker.run(CancellationToken::new()), refuse);
    let error = ended.expect_err("refused");
    assert_eq!(error.to_string(), "the server refused this worker: not you");
}

#[tokio::test]
async fn a_worker_is_checked_before_it_runs() {
    let builder = || Worker::builder(Client::connect_lazy("127.0.0.1:1").expect("an address"));
    let handler = |_: TaskContext| async { Outcome::success() };
    assert!(builder().driver("d", handler).build().is_ok());
    for bad in [
        builder(),
        builder().driver("", handler),
        builder().driver("d", handler).slots(0),
        builder().driver("d", handler).slots(10_001),
        builder().driver("d", handler).name(""),
    ] {
        assert!(bad.build().is_err());
    }
}
