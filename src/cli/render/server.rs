//! Which server this is, and its limits.

use jiff::Timestamp;
use longhaul::{
    domain::wording::count,
    proto::v1::{GetServerInfoResponse, Limits, PausedDriver},
};

use crate::cli::{
    text::{FAINT, ODD, one_line, paint},
    time,
};

/// What a server says of itself.
pub fn lines(info: &GetServerInfoResponse, now: Timestamp) -> Vec<String> {
    let GetServerInfoResponse {
        version,
        api_versions,
        store,
        start_time,
        limits,
        paused_drivers,
        connected_drivers,
        commits,
        committed_changes,
    } = info;
    let mut lines = vec![
        fact("version", one_line(version)),
        fact("api", one_line(&api_versions.join(", "))),
        fact("store", one_line(store)),
    ];
    if let Some(start) = time::instant(start_time.as_ref()) {
        let up = time::between(start, now);
        lines.push(fact(
            "started",
            format_args!("{} (up {up})", time::to_the_second(start)),
        ));
    }
    lines.push(fact(
        "workers",
        if connected_drivers.is_empty() {
            "none connected; start one: longhaul work --driver NAME -- COMMAND".into()
        } else {
            one_line(&connected_drivers.join(", ")).into_owned()
        },
    ));
    lines.extend(paused_drivers.iter().map(paused));
    lines.push(fact(
        "commits",
        format_args!(
            "{commits}, with {} of jobs",
            count(*committed_changes, "change")
        ),
    ));
    lines.extend(limits.iter().flat_map(limit_lines));
    lines
}

fn paused(paused: &PausedDriver) -> String {
    let PausedDriver {
        driver,
        reason,
        pause_time,
    } = paused;
    let since = time::instant(pause_time.as_ref()).map_or_else(String::new, |since| {
        format!(" since {}", time::to_the_second(since))
    });
    let why = if reason.is_empty() {
        String::new()
    } else {
        format!(": {}", one_line(reason))
    };
    fact(
        "paused",
        format_args!("{}{since}{why}", paint(ODD, one_line(driver))),
    )
}

fn limit_lines(limits: &Limits) -> Vec<String> {
    let Limits {
        max_tasks_per_job,
        max_job_bytes,
        max_batch_jobs,
        max_message_bytes,
        max_page_size,
        lease_duration,
        heartbeat_interval,
        max_lost_leases,
        cancel_grace,
        retention,
        drain_timeout,
    } = limits;
    let numbers = [
        ("max tasks per job", max_tasks_per_job),
        ("max job bytes", max_job_bytes),
        ("max batch jobs", max_batch_jobs),
        ("max message bytes", max_message_bytes),
        ("max page size", max_page_size),
        ("max lost leases", max_lost_leases),
    ]
    .map(|(name, number)| fact(name, number));
    let times = [
        ("lease duration", lease_duration),
        ("heartbeat interval", heartbeat_interval),
        ("cancel grace", cancel_grace),
        ("retention", retention),
        ("drain timeout", drain_timeout),
    ]
    .into_iter()
    .filter_map(|(name, length)| Some(fact(name, time::duration(length.as_ref())?)));
    numbers.into_iter().chain(times).collect()
}

fn fact(name: &str, value: impl std::fmt::Display) -> String {
    format!("{}{value}", paint(FAINT, format_args!("{name:<20}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::plain;

    #[test]
    fn a_server_is_told_with_its_limits() {
        let start = prost_types::Timestamp::default();
        let info = GetServerInfoResponse {
            version: "0.1.0".into(),
            api_versions: vec!["longhaul.v1".into()],
            store: "sqlite 3.54.0".into(),
            start_time: Some(start),
            limits: Some(Limits {
                max_tasks_per_job: 1_000,
                max_lost_leases: 3,
                retention: Some(prost_types::Duration {
                    seconds: 604_800,
                    nanos: 0,
                }),
                ..Default::default()
            }),
            paused_drivers: vec![PausedDriver {
                driver: "copier".into(),
                reason: "maintenance".into(),
                pause_time: Some(start),
            }],
            connected_drivers: vec!["a".into(), "b".into()],
            commits: 12,
            committed_changes: 345,
        };
        let now = Timestamp::from_second(90).expect("an instant");
        let lines = plain(lines(&info, now));
        for expected in [
            "store               sqlite 3.54.0",
            "started             1970-01-01T00:00:00Z (up 1m 30s)",
            "workers             a, b",
            "paused              copier since 1970-01-01T00:00:00Z: maintenance",
            "commits             12, with 345 changes of jobs",
            "max tasks per job   1000",
            "retention           7d",
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected}: {lines:#?}"
            );
        }
    }
}
