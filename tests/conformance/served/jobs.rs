//! Jobs as a whole: what was submitted is what is read.

use std::{collections::HashMap, time::Duration};

use longhaul::proto::{
    Struct,
    v1::{
        CancelRequest, Failure, GetRequest, JobSpec, JobTaskSpec, ListEventsRequest, ListRequest,
        Object, Progress, ProgressReport, Release, RetryPolicy, Success, Timeouts, Warning,
        job::{FailurePolicy, State},
        job_task,
        task_report::Report,
    },
};
use serde_json::json;

use super::{Served, document, in_an_hour, reason, request, spec};

fn object(of: &str) -> Option<Object> {
    Some(Object {
        r#type: format!("{of} bucket"),
        id: format!("{of}/42"),
        name: format!("{of} \"test1234\" ü"),
    })
}

fn span(millis: u64) -> Option<prost_types::Duration> {
    Duration::from_millis(millis).try_into().ok()
}

/// A job with every field set to something of its own.
fn full_spec(parent: &str) -> JobSpec {
    let task = |name: &str, depends_on: &[&str]| JobTaskSpec {
        name: name.to_owned(),
        action: format!("{name} it"),
        driver: "ansible".to_owned(),
        object: object(name),
        resource_type: "s3_bucket".to_owned(),
        depends_on: depends_on.iter().map(|&name| name.to_owned()).collect(),
        max_attempts: 4,
        retry_policy: Some(RetryPolicy {
            initial_backoff: span(1_500),
            max_backoff: span(90_000),
            multiplier: 1.1,
            jitter: Some(0.3),
        }),
        timeouts: Some(Timeouts {
            schedule_to_start: span(10_000),
            start_to_close: span(20_000),
            schedule_to_close: span(30_000),
            heartbeat: span(4_000),
        }),
        request_payload: Some(document(&format!("for {name}"))),
        ..JobTaskSpec::default()
    };
    JobSpec {
        action: "create".to_owned(),
        summary: "Create a bucket \u{1f600}".to_owned(),
        object: object("job"),
        labels: HashMap::from([
            ("env".to_owned(), "prod".to_owned()),
            ("quoted".to_owned(), "say \"hi\"".to_owned()),
        ]),
        priority: -7,
        creator: "ada".to_owned(),
        parent_job_id: parent.to_owned(),
        failure_policy: FailurePolicy::Continue.into(),
        schedule_time: Some(in_an_hour()),
        tasks: vec![task("first", &[]), task("second", &["first"])],
    }
}

pub async fn a_job_reads_back_as_it_was_written(served: &Served) {
    let parent = served.submit_for("nobody").await;
    let sent = full_spec(&parent.id);
    let answer = served.submit(request(sent.clone(), "")).await.unwrap();
    let job = served.get(&answer.job.unwrap().id).await.unwrap();
    assert_eq!((job.state(), job.revision), (State::Queued, 1));
    let names: HashMap<_, _> = job
        .tasks
        .iter()
        .map(|task| (&task.id, &task.name))
        .collect();
    let tasks = job.tasks.iter().map(|task| JobTaskSpec {
        name: task.name.clone(),
        action: task.action.clone(),
        driver: task.driver.clone(),
        object: task.object.clone(),
        resource_type: task.resource_type.clone(),
        depends_on: (task.depends_on.iter())
            .map(|on| names.get(on).map_or(on, |name| *name).clone())
            .collect(),
        max_attempts: task.max_attempts,
        retry_policy: task.retry_policy,
        timeouts: task.timeouts,
        request_payload: task.request_payload.clone(),
        ..JobTaskSpec::default()
    });
    let read = JobSpec {
        action: job.action.clone(),
        summary: job.summary.clone(),
        object: job.object.clone(),
        labels: job.labels.clone(),
        priority: job.priority,
        creator: job.creator.clone(),
        parent_job_id: job.parent_job_id.clone(),
        failure_policy: job.failure_policy,
        schedule_time: job.schedule_time,
        tasks: tasks.collect(),
    };
    assert_eq!(read, sent);
}

pub async fn a_change_of_a_task_leaves_the_others_alone(served: &Served) {
    let answer = served.submit(request(spec(&["a", "b", "c"]), "")).await;
    let before = answer.unwrap().job.unwrap().id;
    let before = served.get(&before).await.unwrap();
    let lease = served.acquire(&["b"], 1).await.remove(0);
    let progress = Some(Progress {
        done: 3,
        total: 9,
        unit: "files".to_owned(),
        message: "half way".to_owned(),
    });
    let report = Report::Progress(ProgressReport {
        progress: progress.clone(),
        ..ProgressReport::default()
    });
    served.report(&lease, report).await;
    let after = served.get(&before.id).await.unwrap();
    assert_eq!(after.tasks[0], before.tasks[0]);
    assert_eq!(after.tasks[2], before.tasks[2]);
    let changed = &after.tasks[1];
    assert_eq!(changed.state(), job_task::State::Running);
    assert_eq!((&changed.progress, changed.attempt), (&progress, 1));
}

pub async fn a_large_document_reads_back_whole(served: &Served) {
    let payload = Some(document(&"p".repeat(300_000)));
    let result = Some(document(&"r".repeat(300_000)));
    let mut spec = spec(&["ansible"]);
    spec.tasks[0].request_payload = payload.clone();
    let answer = served.submit(request(spec, "")).await.unwrap();
    let lease = served.acquire(&["ansible"], 1).await.remove(0);
    assert_eq!(lease.task.as_ref().unwrap().request_payload, payload);
    let success = Report::Success(Success {
        result: result.clone(),
        ..Success::default()
    });
    served.report(&lease, success).await;
    let job = served.get(&answer.job.unwrap().id).await.unwrap();
    assert_eq!(job.state(), State::Succeeded);
    assert_eq!(job.tasks[0].request_payload, payload);
    assert_eq!(job.tasks[0].result, result);
}

pub async fn secrets_are_kept_until_they_are_erased(served: &Served) {
    for bytes in [20, 3_000] {
        let mut spec = spec(&["ansible"]);
        let payload = Struct::from_json(&json!({"user": "u", "db": {"pin": "p".repeat(bytes)}}));
        let payload = payload.unwrap().canonical().unwrap();
        let task = &mut spec.tasks[0];
        task.request_payload = Some(payload.clone());
        task.sensitive_fields = vec!["db.pin".into()];
        task.secrets = [("key".to_owned(), "k".repeat(bytes))].into();
        let secrets = task.secrets.clone();
        let answer = served.submit(request(spec.clone(), "r")).await.unwrap();
        let id = answer.job.unwrap().id;
        let shown = json!({"user": "u", "db": {"pin": "********"}});
        for lease_number in 1..=2 {
            let lease = served.acquire(&["ansible"], 1).await.remove(0);
            let task = lease.task.as_ref().unwrap();
            assert!(task.request_payload.as_ref() == Some(&payload));
            assert!(lease.secrets == secrets);
            let job = served.get(&id).await.unwrap();
            let told = job.tasks[0].request_payload.as_ref().unwrap();
            assert_eq!(told.to_json().unwrap(), shown);
            let message = format!("no use for {}", "k".repeat(bytes));
            let warning = Report::Warning(Warning { message });
            served.report(&lease, warning).await;
            let job = served.get(&id).await.unwrap();
            let warnings = vec!["no use for ********"; lease_number];
            assert_eq!(job.tasks[0].warnings, warnings);
            let end = match lease_number {
                1 => Report::Release(Release::default()),
                _ => Report::Failure(Failure {
                    message: "broken".to_owned(),
                    ..Failure::default()
                }),
            };
            served.report(&lease, end).await;
        }
        // The same request is the same job, and another secret makes another request.
        let again = served.submit(request(spec.clone(), "r")).await.unwrap();
        assert_eq!((again.created, again.job.unwrap().id), (false, id.clone()));
        spec.tasks[0].secrets = [("key".to_owned(), "other".to_owned())].into();
        let refused = served.submit(request(spec, "r")).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
        let refused = served.retry(&id).await.unwrap_err();
        assert_eq!(reason(&refused), "SECRETS_ERASED");
        served.delete(&id).await;
    }
}

pub async fn pages_follow_without_gap_or_repeat(served: &Served) {
    let mut expected = served.submit_many("nobody", 25).await;
    let listed = served.list("", "create_time", 7).await;
    assert_eq!(
        (listed.ids, listed.pages),
        (expected.clone(), vec![7, 7, 7, 4])
    );
    expected.reverse();
    for order in ["", "create_time desc", "update_time desc"] {
        let listed = served.list("", order, 7).await;
        assert_eq!(listed.ids, expected, "{order}");
    }
    // The last page is not followed by an empty one.
    assert_eq!(served.list("", "", 25).await.pages, [25]);
}

pub async fn a_page_says_what_it_has_seen(served: &Served) {
    let before = served.mark().await;
    let first = served.submit_for("nobody").await;
    let between = served.mark().await;
    let second = served.submit_for("nobody").await;
    // Behind a listing comes what it has not seen.
    let (changes, _) = served
        .changes(&before, |change| change.job_id == second.id)
        .await;
    assert_eq!(changes[0].job_id, first.id);
    let (changes, after) = served
        .changes(&between, |change| change.job_id == second.id)
        .await;
    assert!(
        changes
            .iter()
            .filter(|change| change.job_id == second.id)
            .count()
            == 1
    );
    let third = served.submit_for("nobody").await;
    let (changes, _) = served
        .changes(&after, |change| change.job_id == third.id)
        .await;
    assert_eq!(changes.len(), 1);
}

pub async fn the_order_of_changes_is_that_of_the_feed(served: &Served) {
    let mut ids = Vec::new();
    for driver in ["d0", "d1", "d2", "d3"] {
        ids.push(served.submit_for(driver).await.id);
    }
    let lease = served.acquire(&["d2"], 1).await.remove(0);
    served.acquire(&["d0"], 1).await;
    let warning = longhaul::proto::v1::Warning {
        message: "slow".to_owned(),
    };
    served.report(&lease, Report::Warning(warning)).await;
    let listed = served.list("", "update_time desc", 10).await;
    assert_eq!(listed.ids, [2, 0, 3, 1].map(|n: usize| ids[n].clone()));
}

pub async fn a_tally_counts_what_a_list_reads(served: &Served) {
    let ids = served.submit_many("d", 12).await;
    for id in &ids[..5] {
        served.cancel(id).await;
    }
    served.acquire(&["d"], 3).await;
    for (filter, expected) in [
        ("", 12),
        ("state = CANCELLED", 5),
        ("state = RUNNING", 3),
        ("state = QUEUED", 4),
        ("state = RUNNING OR state = QUEUED", 7),
        ("NOT state = CANCELLED", 7),
        ("state = FAILED", 0),
    ] {
        let listed = served.list(filter, "", 5).await;
        assert_eq!(listed.ids.len(), expected, "{filter}");
        assert_eq!(listed.total, i64::try_from(expected).ok(), "{filter}");
    }
}

pub async fn another_tenants_job_is_not_found(served: &Served) {
    let others = served.clients_of("umbrella").await;
    let job = served.submit_for("d").await;
    for client in &others {
        let (jobs, job_id) = (|| client.jobs(), || job.id.clone());
        let read = GetRequest {
            job_id: job_id(),
            ..GetRequest::default()
        };
        let events = ListEventsRequest {
            job_id: job_id(),
            ..ListEventsRequest::default()
        };
        let cancel = CancelRequest {
            job_id: job_id(),
            ..CancelRequest::default()
        };
        for refused in [
            jobs().get(read).await.unwrap_err(),
            jobs().list_events(events).await.unwrap_err(),
            jobs().cancel(cancel).await.unwrap_err(),
        ] {
            assert_eq!(reason(&refused), "JOB_NOT_FOUND");
        }
        let listed = jobs().list(ListRequest::default()).await.unwrap();
        let listed = listed.into_inner();
        assert_eq!((listed.jobs, listed.total_size), (Vec::new(), Some(0)));
    }
    assert_eq!(served.get(&job.id).await.unwrap(), job);
}
