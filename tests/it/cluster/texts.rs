//! PostgreSQL keeps no NUL in a text. Whoever sends one is told so, or it is kept in another way; nobody else's commit fails for it.

use longhaul::{
    client::Client,
    proto::{
        Struct,
        v1::{
            AcquireRequest, CancelRequest, Cancelled, DeleteRequest, ExplainRequest, Failure,
            GetRequest, JobSpec, JobTaskSpec, Lease, ListEventsRequest, ListRequest, Object,
            PauseDriverRequest, Progress, ProgressReport, Release, ReportRequest,
            ResumeDriverRequest, RetryRequest, SubmitRequest, Success, TaskReport, WaitRequest,
            Warning, WatchJobRequest, WatchJobsRequest, WorkRequest, WorkerHello,
            task_report::Report,
        },
    },
};
use prost::Message as _;
use prost_types::{Value, value};
use tokio::task::spawn_blocking;
use tonic::{Code, Status};

use super::coming;
use crate::{
    harness::Server,
    jobs::{reason, submission, submit},
    postgres::Database,
};

/// A text in the middle of which is what PostgreSQL does not keep.
fn nul() -> String {
    "a\0b".to_owned()
}

fn document() -> Option<Struct> {
    let value = Value {
        kind: Some(value::Kind::StringValue(nul())),
    };
    let object = prost_types::Struct {
        fields: [(nul(), value)].into(),
    };
    Some(Struct::from_encoded(object.encode_to_vec().into()))
}

/// Every text of a submission on its own.
fn submissions() -> Vec<(&'static str, SubmitRequest)> {
    let job = |change: fn(&mut JobSpec)| {
        let mut request = submission("d");
        change(request.job.as_mut().unwrap());
        request
    };
    let task = |change: fn(&mut JobTaskSpec)| {
        let mut request = submission("d");
        change(&mut request.job.as_mut().unwrap().tasks[0]);
        request
    };
    let mut of_requests = submission("d");
    of_requests.request_id = nul();
    vec![
        ("request_id", of_requests),
        ("action", job(|job| job.action = nul())),
        ("summary", job(|job| job.summary = nul())),
        ("creator", job(|job| job.creator = nul())),
        ("parent_job_id", job(|job| job.parent_job_id = nul())),
        (
            "labels",
            job(|job| job.labels = [(nul(), String::new())].into()),
        ),
        (
            "labels[k]",
            job(|job| job.labels = [("k".to_owned(), nul())].into()),
        ),
        ("object.type", job(|job| object(job).r#type = nul())),
        ("object.id", job(|job| object(job).id = nul())),
        ("object.name", job(|job| object(job).name = nul())),
        ("tasks[0].name", task(|task| task.name = nul())),
        ("tasks[0].action", task(|task| task.action = nul())),
        ("tasks[0].driver", task(|task| task.driver = nul())),
        (
            "tasks[0].resource_type",
            task(|task| task.resource_type = nul()),
        ),
        (
            "tasks[0].depends_on",
            task(|task| task.depends_on = vec![nul()]),
        ),
        (
            "tasks[0].object",
            task(|task| task.object.get_or_insert_default().id = nul()),
        ),
        (
            "tasks[0].request_payload",
            task(|task| task.request_payload = document()),
        ),
    ]
}

fn object(job: &mut JobSpec) -> &mut Object {
    job.object.get_or_insert_default()
}

/// Every text of a report on its own.
fn reports() -> Vec<(&'static str, Report)> {
    let progress = |progress| {
        Report::Progress(ProgressReport {
            progress: Some(progress),
            ..ProgressReport::default()
        })
    };
    let failure = |message: &str| Failure {
        message: message.to_owned(),
        ..Failure::default()
    };
    let status_detail = nul();
    vec![
        (
            "unit",
            progress(Progress {
                unit: nul(),
                ..Progress::default()
            }),
        ),
        (
            "progress.message",
            progress(Progress {
                message: nul(),
                ..Progress::default()
            }),
        ),
        (
            "progress.status_detail",
            Report::Progress(ProgressReport {
                status_detail,
                progress: None,
            }),
        ),
        ("warning", Report::Warning(Warning { message: nul() })),
        (
            "success.result",
            Report::Success(Success {
                result: document(),
                ..Success::default()
            }),
        ),
        (
            "success.status_detail",
            Report::Success(Success {
                status_detail: nul(),
                result: None,
            }),
        ),
        ("failure.message", Report::Failure(failure(&nul()))),
        (
            "failure.reason",
            Report::Failure(Failure {
                reason: nul(),
                ..failure("x")
            }),
        ),
        (
            "failure.status_detail",
            Report::Failure(Failure {
                status_detail: nul(),
                ..failure("x")
            }),
        ),
        ("release.reason", Report::Release(Release { reason: nul() })),
        (
            "cancelled.status_detail",
            Report::Cancelled(Cancelled {
                status_detail: nul(),
            }),
        ),
    ]
}

/// It was done, or the caller alone was told that something is wrong with the request.
#[track_caller]
fn assert_caller<T>(what: &str, answer: Result<T, Status>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(status) => {
            let faults = [Code::InvalidArgument, Code::NotFound];
            assert!(faults.contains(&status.code()), "{what}: {status:?}");
            assert!(!reason(&status).is_empty(), "{what}: {status:?}");
            None
        }
    }
}

/// Takes the only task that is ready.
async fn lease(client: &Client, worker: String) -> Lease {
    let request = AcquireRequest {
        worker,
        drivers: vec!["d".to_owned()],
        max_leases: 1,
        wait: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
    };
    let answer = coming("a lease", client.workers().acquire(request)).await;
    answer.unwrap().into_inner().leases.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nul_in_any_text_is_the_matter_of_who_sends_it() {
    let database = spawn_blocking(Database::fresh).await.unwrap();
    let url = database.url_without_password();
    let server = Server::start_node(&url, database.password(), &[]).await;
    let client = server.client().await;

    for (what, request) in submissions() {
        let answer = client.jobs().submit(request).await;
        if let Some(answer) = assert_caller(what, answer) {
            let job = answer.into_inner().job.unwrap();
            assert_eq!(what, "tasks[0].request_payload", "{job:#?}");
            cancel(&client, &job.id, "").await.unwrap();
        }
    }
    for (what, report) in reports() {
        let job = submit(&client, "d").await;
        let lease = lease(&client, nul()).await;
        let report = TaskReport {
            lease_token: lease.lease_token,
            report: Some(report),
        };
        let request = ReportRequest {
            reports: vec![report],
            wait: None,
        };
        let answer = assert_caller(what, client.workers().report(request).await);
        for result in answer
            .into_iter()
            .flat_map(|answer| answer.into_inner().results)
        {
            let error = result.error.map(|error| Code::from_i32(error.code));
            assert!(
                matches!(error, None | Some(Code::InvalidArgument)),
                "{what}: {error:?}"
            );
        }
        // Whatever was made of it can be read and told.
        let request = GetRequest {
            job_id: job.id.clone(),
            view: 0,
        };
        client.jobs().get(request).await.unwrap();
        cancel(&client, &job.id, "").await.unwrap();
    }

    let job = submit(&client, "elsewhere").await;
    let refused = cancel(&client, &job.id, &nul()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let request = PauseDriverRequest {
        driver: "d".to_owned(),
        reason: nul(),
    };
    let refused = client.admin().pause_driver(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    texts_that_ask(&client, &job.id).await;
    // Nobody else has noticed any of it.
    submit(&client, "d").await;
    server.stop().await;
}

async fn cancel(client: &Client, job_id: &str, reason: &str) -> Result<(), Status> {
    let request = CancelRequest {
        job_id: job_id.to_owned(),
        reason: reason.to_owned(),
    };
    client.jobs().cancel(request).await.map(drop)
}

/// Texts of requests that store nothing, or only if they name what is there.
async fn texts_that_ask(client: &Client, job_id: &str) {
    let (mut jobs, mut admin) = (client.jobs(), client.admin());
    let driver = nul();
    let request = PauseDriverRequest {
        driver,
        reason: String::new(),
    };
    assert_caller("pause", admin.pause_driver(request).await);
    assert_caller(
        "resume",
        admin
            .resume_driver(ResumeDriverRequest { driver: nul() })
            .await,
    );
    let request = RetryRequest {
        job_id: job_id.to_owned(),
        request_id: nul(),
    };
    assert_caller("retry", jobs.retry(request).await);
    let job_id = nul;
    assert_caller(
        "retry",
        jobs.retry(RetryRequest {
            job_id: job_id(),
            ..RetryRequest::default()
        })
        .await,
    );
    assert_caller(
        "delete",
        jobs.delete(DeleteRequest { job_id: job_id() }).await,
    );
    assert_caller(
        "explain",
        jobs.explain(ExplainRequest { job_id: job_id() }).await,
    );
    assert_caller(
        "get",
        jobs.get(GetRequest {
            job_id: job_id(),
            view: 0,
        })
        .await,
    );
    assert_caller(
        "wait",
        jobs.wait(WaitRequest {
            job_id: job_id(),
            ..WaitRequest::default()
        })
        .await,
    );
    let request = WatchJobRequest {
        job_id: job_id(),
        ..WatchJobRequest::default()
    };
    assert_caller("watch_job", jobs.watch_job(request).await);
    let request = ListEventsRequest {
        job_id: job_id(),
        page_token: nul(),
        ..ListEventsRequest::default()
    };
    assert_caller("list_events", jobs.list_events(request).await);
    for field in [
        "summary", "action", "driver", "labels.k", "job_id", "creator",
    ] {
        for wildcard in ["", "*"] {
            let filter = format!("{field} = \"{}{wildcard}\"", nul());
            let request = ListRequest {
                filter: filter.clone(),
                ..ListRequest::default()
            };
            assert_caller(&filter, jobs.list(request).await);
            let request = WatchJobsRequest {
                filter: filter.clone(),
                ..WatchJobsRequest::default()
            };
            assert_caller(&filter, jobs.watch_jobs(request).await);
        }
    }
    for filter in [
        format!("labels.\"{}\":*", nul()),
        format!("labels:\"{}\"", nul()),
    ] {
        let request = ListRequest {
            filter: filter.clone(),
            ..ListRequest::default()
        };
        assert_caller(&filter, jobs.list(request).await);
    }
    let request = ListRequest {
        order_by: nul(),
        ..ListRequest::default()
    };
    assert_caller("order_by", jobs.list(request).await);
    let request = ListRequest {
        page_token: nul(),
        ..ListRequest::default()
    };
    assert_caller("page_token", jobs.list(request).await);
    let request = WatchJobsRequest {
        cursor: nul(),
        ..WatchJobsRequest::default()
    };
    assert_caller("cursor", jobs.watch_jobs(request).await);
    let request = AcquireRequest {
        worker: "w".to_owned(),
        drivers: vec![nul()],
        ..AcquireRequest::default()
    };
    assert_caller("acquire", client.workers().acquire(request).await);
    for (name, driver) in [(nul(), "d".to_owned()), ("w".to_owned(), nul())] {
        let hello = WorkerHello {
            name,
            drivers: vec![driver],
            ..WorkerHello::default()
        };
        let first = WorkRequest {
            hello: Some(hello),
            ..WorkRequest::default()
        };
        let answer = client
            .workers()
            .work(futures_util::stream::iter([first]))
            .await;
        assert_caller("work", answer);
    }
}
