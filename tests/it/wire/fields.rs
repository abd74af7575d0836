//! Messages whose fields are not as they should be: all of them are named at once, and nothing is stored.

use std::time::Duration;

use longhaul::proto::{
    Struct,
    v1::{
        self, AcquireRequest, CancelRequest, GetRequest, JobSpec, JobTaskSpec, ListEventsRequest,
        ListRequest, ReportRequest, RetryPolicy, RetryRequest, SubmitBatchRequest, SubmitRequest,
        Success, TaskReport, Timeouts, WaitRequest, WatchJobRequest, WatchJobsRequest,
        task_report::Report, watch_jobs_response::Kind,
    },
};
use prost::Message as _;
use prost_types::{Duration as Span, Timestamp, Value, value};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    harness::Server,
    jobs::{reason, submission, submit, submit_many},
};

/// A refusal that names these fields and no others.
#[track_caller]
fn assert_names(status: &Status, expected: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(reason(status), "INVALID_REQUEST", "{status:?}");
    let named = status.get_details_bad_request().unwrap().field_violations;
    let mut named: Vec<&str> = named.iter().map(|v| v.field.as_str()).collect();
    let mut expected = expected.to_vec();
    named.sort_unstable();
    named.dedup();
    expected.sort_unstable();
    assert_eq!(named, expected, "{status:?}");
}

fn negative() -> Option<Span> {
    Some(Span {
        seconds: -1,
        nanos: 0,
    })
}

/// A value within so many lists.
fn nested(depth: usize) -> Struct {
    let leaf = Value {
        kind: Some(value::Kind::BoolValue(true)),
    };
    let value = (0..depth).fold(leaf, |inner, _| Value {
        kind: Some(value::Kind::ListValue(prost_types::ListValue {
            values: vec![inner],
        })),
    });
    payload(value)
}

fn payload(value: Value) -> Struct {
    let object = prost_types::Struct {
        fields: [("k".to_owned(), value)].into(),
    };
    Struct::from_encoded(object.encode_to_vec().into())
}

fn task(name: &str, depends_on: &[&str]) -> JobTaskSpec {
    JobTaskSpec {
        name: name.to_owned(),
        driver: "d".to_owned(),
        depends_on: depends_on.iter().map(|&name| name.to_owned()).collect(),
        ..JobTaskSpec::default()
    }
}

#[tokio::test]
async fn all_bad_fields_of_a_submission_are_named_at_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let long = "x".repeat(5_000);
    let not_a_number = Value {
        kind: Some(value::Kind::NumberValue(f64::NAN)),
    };
    let bad = JobSpec {
        action: long.clone(),
        summary: long.clone(),
        labels: [("Not A Key".to_owned(), long.clone())].into(),
        priority: 1_001,
        creator: long.clone(),
        parent_job_id: "not-a-uuid".to_owned(),
        failure_policy: 99,
        schedule_time: Some(Timestamp {
            seconds: 253_402_300_799,
            nanos: 0,
        }),
        tasks: vec![
            JobTaskSpec {
                driver: String::new(),
                max_attempts: 101,
                retry_policy: Some(RetryPolicy {
                    initial_backoff: negative(),
                    max_backoff: negative(),
                    multiplier: f64::NAN,
                    jitter: Some(-0.5),
                }),
                timeouts: Some(Timeouts {
                    schedule_to_start: negative(),
                    start_to_close: negative(),
                    schedule_to_close: negative(),
                    heartbeat: negative(),
                }),
                request_payload: Some(payload(not_a_number)),
                ..task("a", &[])
            },
            JobTaskSpec {
                driver: "no spaces".to_owned(),
                request_payload: Some(nested(101)),
                ..task("b", &["nobody"])
            },
            task("b", &[]),
        ],
        ..JobSpec::default()
    };
    let request = SubmitRequest {
        job: Some(bad),
        request_id: "not\nprintable".to_owned(),
    };
    let status = client.jobs().submit(request).await.unwrap_err();
    let named = status.get_details_bad_request().unwrap().field_violations;
    let message = status.message();
    assert!(message.len() < 500, "{message}");
    assert!(
        message.contains(&format!("bad: {}: ", named[0].field)) && message.ends_with(" more"),
        "{message}"
    );
    for field in [
        "request_id",
        "job.action",
        "job.summary",
        "job.priority",
        "job.creator",
        "job.parent_job_id",
        "job.failure_policy",
        "job.schedule_time",
        "job.tasks[0].driver",
        "job.tasks[0].max_attempts",
        "job.tasks[0].retry_policy.initial_backoff",
        "job.tasks[0].retry_policy.max_backoff",
        "job.tasks[0].retry_policy.multiplier",
        "job.tasks[0].retry_policy.jitter",
        "job.tasks[0].timeouts.schedule_to_start",
        "job.tasks[0].timeouts.start_to_close",
        "job.tasks[0].timeouts.schedule_to_close",
        "job.tasks[0].timeouts.heartbeat",
        "job.tasks[0].request_payload",
        "job.tasks[1].driver",
        "job.tasks[1].request_payload",
        "job.tasks[1].depends_on[0]",
        "job.tasks[2].name",
    ] {
        assert!(
            named.iter().any(|v| v.field == field),
            "{field} is missing: {named:#?}"
        );
    }
    assert!(
        named.iter().any(|v| v.field.starts_with("job.labels")),
        "{named:#?}"
    );
    assert!(named.iter().all(|v| !v.description.is_empty()));

    let cycle = SubmitRequest {
        job: Some(JobSpec {
            tasks: vec![task("a", &["c"]), task("b", &["a"]), task("c", &["b"])],
            ..JobSpec::default()
        }),
        ..SubmitRequest::default()
    };
    let status = client.jobs().submit(cycle).await.unwrap_err();
    assert!(
        format!("{:?}", status.get_details_bad_request()).contains("cycle"),
        "{status:?}"
    );
    let nothing = client
        .jobs()
        .submit(SubmitRequest::default())
        .await
        .unwrap_err();
    assert_names(&nothing, &["job"]);

    let stored = client
        .jobs()
        .list(ListRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (stored.jobs.len(), stored.total_size),
        (0, Some(0)),
        "nothing is stored"
    );
    server.stop().await;
}

#[tokio::test]
async fn batches_have_bounds_and_a_bad_job_does_not_harm_the_others() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut jobs = client.jobs();
    for requests in [Vec::new(), vec![submission("d"); 1_001]] {
        let status = jobs
            .submit_batch(SubmitBatchRequest { requests })
            .await
            .unwrap_err();
        assert_names(&status, &["requests"]);
    }
    let requests = vec![submission("d"), submission("not good"), submission("d")];
    let answer = jobs
        .submit_batch(SubmitBatchRequest { requests })
        .await
        .unwrap();
    let results = answer.into_inner().results;
    assert!(results[0].error.is_none() && results[2].error.is_none());
    let error = results[1].error.as_ref().unwrap();
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(
        format!("{error:?}").contains("requests[1].job.tasks[0].driver"),
        "{error:?}"
    );

    let report = TaskReport {
        lease_token: vec![7; 40].into(),
        report: Some(Report::Success(Success::default())),
    };
    let mut workers = client.workers();
    for reports in [Vec::new(), vec![report.clone(); 1_001]] {
        let status = workers
            .report(ReportRequest {
                reports,
                wait: None,
            })
            .await
            .unwrap_err();
        assert_names(&status, &["reports"]);
    }
    let reports = vec![report];
    let answer = workers
        .report(ReportRequest {
            reports,
            wait: None,
        })
        .await
        .unwrap()
        .into_inner();
    let error = answer.results[0]
        .error
        .as_ref()
        .expect("nobody made this token");
    assert_eq!(error.code, Code::FailedPrecondition as i32);
    server.stop().await;
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused_for_its_size() {
    let server = Server::start().await;
    let client = server.client().await;
    submit(&client, "d").await;
    let mut workers = client.workers();
    let acquire = AcquireRequest {
        worker: "w".to_owned(),
        drivers: vec!["d".to_owned()],
        ..AcquireRequest::default()
    };
    let leases = workers.acquire(acquire).await.unwrap().into_inner().leases;
    let text = Value {
        kind: Some(value::Kind::StringValue("x".repeat(1024 * 1024))),
    };
    let report = |result| {
        let report = TaskReport {
            lease_token: leases[0].lease_token.clone(),
            report: Some(Report::Success(Success {
                result,
                ..Success::default()
            })),
        };
        let reports = vec![report];
        let mut workers = workers.clone();
        async move {
            workers
                .report(ReportRequest {
                    reports,
                    wait: None,
                })
                .await
                .unwrap()
        }
    };
    let answer = report(Some(payload(text))).await.into_inner();
    let error = answer.results[0].error.as_ref().unwrap();
    assert_eq!(error.code, Code::ResourceExhausted as i32, "{error:?}");
    // The lease is still held.
    let answer = report(None).await.into_inner();
    assert_eq!(answer.results[0].error, None);
    server.stop().await;
}

#[tokio::test]
async fn enums_spans_and_ids_are_checked() {
    let server = Server::start().await;
    let client = server.client().await;
    let job_id = submit(&client, "nobody").await.id;
    let mut jobs = client.jobs();
    let view = 99;

    let get = GetRequest {
        job_id: job_id.clone(),
        view,
    };
    assert_names(&jobs.get(get).await.unwrap_err(), &["view"]);
    let list = ListRequest {
        view,
        ..ListRequest::default()
    };
    assert_names(&jobs.list(list).await.unwrap_err(), &["view"]);
    let sized = |page_size| ListRequest {
        page_size,
        ..ListRequest::default()
    };
    let status = jobs.list(sized(-1)).await.unwrap_err();
    assert_names(&status, &["page_size"]);
    // One that is too large is a wish for as many as there may be.
    jobs.list(sized(i32::MAX)).await.unwrap();
    for filter in [
        "state =",
        "nonsense = 1",
        "state = BROKEN",
        &"a".repeat(100_000),
    ] {
        let list = ListRequest {
            filter: filter.to_owned(),
            ..ListRequest::default()
        };
        assert_names(&jobs.list(list).await.unwrap_err(), &["filter"]);
    }
    let list = ListRequest {
        order_by: "size".to_owned(),
        ..ListRequest::default()
    };
    assert_names(&jobs.list(list).await.unwrap_err(), &["order_by"]);

    let watch = WatchJobRequest {
        job_id: job_id.clone(),
        min_interval: negative(),
        heartbeat_interval: negative(),
        view,
        ..WatchJobRequest::default()
    };
    let status = jobs.watch_job(watch).await.unwrap_err();
    assert_names(&status, &["view", "min_interval", "heartbeat_interval"]);
    let follow = WatchJobsRequest {
        heartbeat_interval: negative(),
        ..WatchJobsRequest::default()
    };
    assert_names(
        &jobs.watch_jobs(follow).await.unwrap_err(),
        &["heartbeat_interval"],
    );
    let wait = WaitRequest {
        job_id,
        timeout: negative(),
        view,
        ..WaitRequest::default()
    };
    assert_names(&jobs.wait(wait).await.unwrap_err(), &["timeout", "view"]);
    // What the front end finds and what the engine finds is told together.
    let list = ListRequest {
        page_token: "zz".to_owned(),
        filter: "x =".to_owned(),
        order_by: "foo".to_owned(),
        page_size: -1,
        view,
    };
    let status = jobs.list(list).await.unwrap_err();
    assert_names(
        &status,
        &["view", "page_size", "filter", "order_by", "page_token"],
    );
    // The message alone says it, too.
    let message = status.message();
    assert!(
        message.starts_with("5 fields of the request are bad: view: is not a View; page_size: "),
        "{message}"
    );
    assert!(message.len() < 500, "{message}");
    let follow = WatchJobsRequest {
        filter: "foo".to_owned(),
        cursor: "!!".to_owned(),
        heartbeat_interval: negative(),
        view,
    };
    let status = jobs.watch_jobs(follow).await.unwrap_err();
    assert_names(&status, &["view", "heartbeat_interval", "filter", "cursor"]);
    let events = ListEventsRequest {
        job_id: "x".to_owned(),
        page_size: -1,
        page_token: "q".to_owned(),
        ..ListEventsRequest::default()
    };
    let status = jobs.list_events(events).await.unwrap_err();
    assert_names(&status, &["job_id", "page_size", "page_token"]);
    let acquire = AcquireRequest {
        drivers: vec!["not good".to_owned()],
        max_leases: 1_001,
        wait: negative(),
        ..AcquireRequest::default()
    };
    let status = client.workers().acquire(acquire).await.unwrap_err();
    assert_names(&status, &["worker", "drivers[0]", "max_leases", "wait"]);

    let nobody = "00000000-0000-7000-8000-000000000000";
    for (job_id, code) in [
        ("", Code::InvalidArgument),
        ("x", Code::InvalidArgument),
        (nobody, Code::NotFound),
    ] {
        let job_id = || job_id.to_owned();
        let answers = [
            jobs.get(GetRequest {
                job_id: job_id(),
                view: 0,
            })
            .await
            .err(),
            jobs.watch_job(WatchJobRequest {
                job_id: job_id(),
                ..Default::default()
            })
            .await
            .err(),
            jobs.wait(WaitRequest {
                job_id: job_id(),
                ..Default::default()
            })
            .await
            .err(),
            jobs.cancel(CancelRequest {
                job_id: job_id(),
                ..Default::default()
            })
            .await
            .err(),
            jobs.retry(RetryRequest {
                job_id: job_id(),
                ..Default::default()
            })
            .await
            .err(),
            jobs.delete(v1::DeleteRequest { job_id: job_id() })
                .await
                .err(),
            jobs.list_events(ListEventsRequest {
                job_id: job_id(),
                ..Default::default()
            })
            .await
            .err(),
            jobs.explain(v1::ExplainRequest { job_id: job_id() })
                .await
                .err(),
        ];
        for (method, status) in answers.into_iter().enumerate() {
            let status = status.unwrap_or_else(|| panic!("method {method} takes {:?}", job_id()));
            assert_eq!(status.code(), code, "{method}: {status:?}");
            if code == Code::NotFound {
                assert_eq!(reason(&status), "JOB_NOT_FOUND", "{method}: {status:?}");
            } else {
                assert_names(&status, &["job_id"]);
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn tokens_are_good_for_what_they_were_made_for_alone() {
    let server = Server::start().await;
    let client = server.client().await;
    submit_many(&client, "d", 3).await;
    let mut jobs = client.jobs();
    let page = |filter: &str, page_token: &str| ListRequest {
        page_size: 1,
        filter: filter.to_owned(),
        page_token: page_token.to_owned(),
        ..ListRequest::default()
    };
    let token = jobs
        .list(page("", ""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    jobs.list(page("", &token)).await.unwrap();
    let mut changed = token.clone().into_bytes();
    changed[3] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for (filter, token) in [
        ("", "garbage"),
        ("", changed.as_str()),
        ("state = QUEUED", &token),
    ] {
        let status = jobs.list(page(filter, token)).await.unwrap_err();
        assert_names(&status, &["page_token"]);
    }

    let follow = |filter: &str, cursor: &str| WatchJobsRequest {
        filter: filter.to_owned(),
        cursor: cursor.to_owned(),
        heartbeat_interval: Some(Duration::from_secs(60).try_into().unwrap()),
        ..WatchJobsRequest::default()
    };
    let mut changes = jobs.watch_jobs(follow("", "")).await.unwrap().into_inner();
    let cursor = loop {
        let message = changes.message().await.unwrap().unwrap();
        if message.kind() == Kind::Synced {
            break message.cursor;
        }
    };
    jobs.watch_jobs(follow("", &cursor)).await.unwrap();
    for (filter, cursor) in [
        ("", "garbage"),
        ("", token.as_str()),
        ("state = QUEUED", &cursor),
    ] {
        let status = jobs.watch_jobs(follow(filter, cursor)).await.unwrap_err();
        assert_names(&status, &["cursor"]);
    }
    drop(changes);
    server.stop().await;
}
