//! Every way that a secret can go: in by each interface, to workers, back in what they report, out by each interface, through errors, a crash and a restart.

mod faces;

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use longhaul::{
    client::Client,
    proto::{
        Struct,
        v1::{
            AcquireRequest, CancelRequest, Cancelled, DeleteRequest, ExplainRequest, Failure,
            GetRequest, JobSpec, JobTaskSpec, Lease, ListEventsRequest, ListRequest, Progress,
            ProgressReport, Release, ReportRequest, RetryRequest, SubmitBatchRequest,
            SubmitRequest, Success, TaskReport, View, WaitRequest, Warning, WatchJobRequest,
            WatchJobsRequest, task_report::Report,
        },
    },
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Response, Status};

use super::{
    Kept,
    birds::{Bird, Birds, Sight},
};
use crate::{harness::Server, jobs::reason};

/// Nothing here should take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Goes all ways; `stored` looks at what is stored meanwhile.
pub async fn fly(
    server: &mut Server,
    birds: &Birds,
    kept: Kept,
    sight: &mut Sight,
    stored: impl Fn(&mut Sight),
) {
    let client = server.client().await;
    let feed = watch_jobs(&client).await;
    let mut flight = Flight {
        client,
        birds,
        kept,
        sight,
    };
    let job = flight.submit().await;
    flight.is_refused().await;
    let lease = flight.lease("d").await;
    flight.report(&lease).await;
    flight.looks(&job).await;
    stored(flight.sight);
    // Its log has all of it, and the next server takes it from there.
    server.kill9().await;
    server.restart().await;
    flight.client = server.client().await;
    stored(flight.sight);
    flight.looks(&job).await;
    flight.fail(&lease).await;
    let lease = flight.lease("d").await;
    flight.succeed(&lease).await;
    flight.looks(&job).await;
    flight.watch(&job).await;
    flight.retries().await;
    flight.cancels().await;
    flight.rest(server).await;
    flight.routed(server).await;
    flight.command_line(server).await;
    for message in feed.end().await {
        flight.sight.look("watched with all", "feed", &message);
    }
}

struct Flight<'a> {
    client: Client,
    birds: &'a Birds,
    kept: Kept,
    sight: &'a mut Sight,
}

/// Follows all jobs, from a moment on and until there is no more.
struct Feed {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Vec<Vec<u8>>>,
}

async fn watch_jobs(client: &Client) -> Feed {
    let request = WatchJobsRequest {
        view: View::Full.into(),
        ..WatchJobsRequest::default()
    };
    let client = client.clone();
    let opened = client.jobs().watch_jobs(request).await;
    let mut stream = opened.unwrap().into_inner();
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut messages = Vec::new();
        let mut cursor = String::new();
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                _ = &mut stopped => return messages,
            };
            match next {
                Some(Ok(message)) => messages.push(message.encode_to_vec()),
                // The server was killed: from the beginning, so that all of it comes again.
                Some(Err(_)) | None => {
                    cursor.clear();
                    stream = loop {
                        let request = WatchJobsRequest {
                            view: View::Full.into(),
                            cursor: cursor.clone(),
                            ..WatchJobsRequest::default()
                        };
                        match client.jobs().watch_jobs(request).await {
                            Ok(stream) => break stream.into_inner(),
                            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                        }
                    };
                }
            }
        }
    });
    Feed { stop, task }
}

impl Feed {
    async fn end(self) -> Vec<Vec<u8>> {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }
}

/// The bytes of an answer, whatever it is.
fn bytes<M: Message>(answer: &Result<Response<M>, Status>) -> Vec<u8> {
    match answer {
        Ok(answer) => answer.get_ref().encode_to_vec(),
        Err(status) => of_status(status),
    }
}

fn of_status(status: &Status) -> Vec<u8> {
    let mut bytes = format!("{status:?}").into_bytes();
    bytes.extend_from_slice(status.details());
    bytes
}

fn structure(value: &Value) -> Struct {
    // As the server gives it back.
    Struct::from_json(value).unwrap().canonical().unwrap()
}

impl Flight<'_> {
    /// A task with all texts but the routed one.
    fn task(&self, driver: &str) -> JobTaskSpec {
        let Birds {
            secret,
            field,
            named,
            listed,
            ..
        } = self.birds;
        let (payload, secrets, sensitive_fields) = match self.kept {
            Kept::Secret => (
                json!({
                    "spec": {"db": [{"pin": field.text}, {"pin": 7}]},
                    "ssh": {"Private-Key": [named.text]},
                    "env": [{"name": "API_TOKEN", "value": listed.text}],
                }),
                HashMap::from([("db".to_owned(), secret.text.clone())]),
                vec!["spec.db.*.pin".to_owned()],
            ),
            Kept::Open => (
                json!({"a": field.text, "b": [named.text], "c": {"d": listed.text}, "e": secret.text}),
                HashMap::new(),
                Vec::new(),
            ),
        };
        JobTaskSpec {
            driver: driver.to_owned(),
            max_attempts: 2,
            request_payload: Some(structure(&payload)),
            secrets,
            sensitive_fields,
            ..JobTaskSpec::default()
        }
    }

    fn request(&self, driver: &str, request_id: &str) -> SubmitRequest {
        SubmitRequest {
            job: Some(JobSpec {
                action: "create".to_owned(),
                tasks: vec![self.task(driver)],
                ..JobSpec::default()
            }),
            request_id: request_id.to_owned(),
        }
    }

    async fn submit_one(&mut self, driver: &str, request_id: &str) -> String {
        let request = self.request(driver, request_id);
        let answer = self.client.jobs().submit(request).await;
        self.sight.look("submitted", "Submit", &bytes(&answer));
        answer.unwrap().into_inner().job.unwrap().id
    }

    async fn submit(&mut self) -> String {
        let job = self.submit_one("d", "r1").await;
        assert_eq!(self.submit_one("d", "r1").await, job, "the same request");
        let requests = vec![self.request("nobody", ""), self.request("nobody", "")];
        let answer = self
            .client
            .jobs()
            .submit_batch(SubmitBatchRequest { requests })
            .await;
        self.sight.look("submitted", "SubmitBatch", &bytes(&answer));
        job
    }

    /// What is wrong in a request is told without the rest of it.
    async fn is_refused(&mut self) {
        let change: [fn(&mut JobTaskSpec); 6] = [
            |task| task.driver = "not a driver".to_owned(),
            |task| task.depends_on = vec!["nobody".to_owned()],
            |task| task.sensitive_fields = vec!["a[0]".to_owned()],
            |task| {
                let value = task.secrets.values().next().cloned().unwrap_or_default();
                task.secrets.insert("large".to_owned(), value.repeat(4_000));
            },
            |task| {
                let value = task.secrets.values().next().cloned().unwrap_or_default();
                task.secrets.insert("not a name".to_owned(), value);
            },
            |task| task.action = "x".repeat(200),
        ];
        for change in change {
            let mut request = self.request("nobody", "");
            change(&mut request.job.as_mut().unwrap().tasks[0]);
            let answer = self.client.jobs().submit(request.clone()).await;
            if answer.is_err() || self.kept == Kept::Secret {
                assert_eq!(
                    reason(&answer.as_ref().unwrap_err().clone()),
                    "INVALID_REQUEST"
                );
            }
            self.sight.look("refused", "Submit", &bytes(&answer));
            let requests = vec![request];
            let answer = self
                .client
                .jobs()
                .submit_batch(SubmitBatchRequest { requests })
                .await;
            self.sight.look("refused", "SubmitBatch", &bytes(&answer));
        }
        let mut request = self.request("d", "r1");
        request.job.as_mut().unwrap().tasks[0].max_attempts = 3;
        let answer = self.client.jobs().submit(request).await;
        assert_eq!(reason(answer.as_ref().unwrap_err()), "REQUEST_ID_REUSED");
        self.sight.look("refused", "Submit", &bytes(&answer));
    }

    async fn lease_with(&mut self, driver: &str, birds: &[&Bird]) -> Lease {
        let request = AcquireRequest {
            worker: "w".to_owned(),
            drivers: vec![driver.to_owned()],
            max_leases: 1,
            wait: Some(PATIENCE.try_into().unwrap()),
        };
        let answer = self.client.workers().acquire(request).await.unwrap();
        let lease = answer.into_inner().leases.remove(0);
        let whole = lease.encode_to_vec();
        assert!(self.sight.finds(&whole, birds), "the worker gets all");
        lease
    }

    async fn lease(&mut self, driver: &str) -> Lease {
        let Birds {
            secret,
            field,
            named,
            listed,
            ..
        } = self.birds;
        let lease = self
            .lease_with(driver, &[secret, field, named, listed])
            .await;
        let given = self.task(driver);
        let got = (
            &lease.task.as_ref().unwrap().request_payload,
            &lease.secrets,
        );
        assert!(got == (&given.request_payload, &given.secrets));
        lease
    }

    /// As a worker may repeat of its own task: of the routed job's text it does not know.
    fn said_of_task(&self) -> String {
        let routed = &self.birds.routed;
        let all = self.birds.all();
        let mine = all.into_iter().filter(|bird| !std::ptr::eq(*bird, routed));
        let said = mine.map(|bird| {
            let (text, url) = (
                &bird.text,
                utf8_percent_encode(&bird.text, NON_ALPHANUMERIC),
            );
            let basic = STANDARD.encode(format!("admin:{text}"));
            format!("{text} {url} {} {basic}", json!({"p": text}))
        });
        said.collect::<Vec<_>>().join(" ")
    }

    async fn send(&mut self, lease: &Lease, report: Report) {
        let request = ReportRequest {
            reports: vec![TaskReport {
                lease_token: lease.lease_token.clone(),
                report: Some(report),
            }],
            wait: None,
        };
        let answer = self.client.workers().report(request).await;
        self.sight.look("reported", "Report", &bytes(&answer));
        assert_eq!(answer.unwrap().into_inner().results[0].error, None);
    }

    async fn report(&mut self, lease: &Lease) {
        let said = self.said_of_task();
        let progress = Progress {
            message: self.birds.named.text.clone(),
            unit: self.birds.secret.text.clone(),
            ..Progress::default()
        };
        let progress = ProgressReport {
            progress: Some(progress),
            status_detail: said.clone(),
        };
        self.send(lease, Report::Progress(progress)).await;
        self.send(lease, Report::Warning(Warning { message: said }))
            .await;
        let wrong = Report::Failure(Failure {
            message: self.birds.secret.text.repeat(200),
            ..Failure::default()
        });
        let request = ReportRequest {
            reports: vec![TaskReport {
                lease_token: lease.lease_token.clone(),
                report: Some(wrong),
            }],
            wait: None,
        };
        let answer = self.client.workers().report(request).await;
        self.sight
            .look("reported", "a report that is too long", &bytes(&answer));
        assert!(answer.unwrap().into_inner().results[0].error.is_some());
    }

    async fn fail(&mut self, lease: &Lease) {
        let failure = Failure {
            message: self.said_of_task(),
            reason: self.birds.secret.text.clone(),
            retry_after: Some(prost_types::Duration::default()),
            status_detail: self.said_of_task(),
            ..Failure::default()
        };
        self.send(lease, Report::Failure(failure)).await;
    }

    async fn succeed(&mut self, lease: &Lease) {
        let said = self.said_of_task();
        let result = json!({"said": [said, {"deep": {said.as_str(): said}}], "size": 3});
        let success = Success {
            result: Some(structure(&result)),
            status_detail: said,
        };
        self.send(lease, Report::Success(success)).await;
    }

    /// Everything that a client can ask about a job.
    async fn looks(&mut self, job_id: &str) {
        let (id, view) = (|| job_id.to_owned(), View::Full.into());
        let mut jobs = self.client.jobs();
        let answer = jobs.get(GetRequest { job_id: id(), view }).await;
        self.sight.look("got", "Get", &bytes(&answer));
        let list = ListRequest {
            view,
            ..ListRequest::default()
        };
        self.sight
            .look("listed", "List", &bytes(&jobs.list(list).await));
        let wait = WaitRequest {
            job_id: id(),
            after_revision: Some(0),
            view,
            ..WaitRequest::default()
        };
        self.sight
            .look("waited for", "Wait", &bytes(&jobs.wait(wait).await));
        let events = ListEventsRequest {
            job_id: id(),
            ..ListEventsRequest::default()
        };
        self.sight.look(
            "events",
            "ListEvents",
            &bytes(&jobs.list_events(events).await),
        );
        let explained = jobs.explain(ExplainRequest { job_id: id() }).await;
        self.sight.look("explained", "Explain", &bytes(&explained));
    }

    async fn watch(&mut self, job_id: &str) {
        let request = WatchJobRequest {
            job_id: job_id.to_owned(),
            view: View::Full.into(),
            ..WatchJobRequest::default()
        };
        let mut stream = self
            .client
            .jobs()
            .watch_job(request)
            .await
            .unwrap()
            .into_inner();
        while let Some(message) = timeout(PATIENCE, stream.next()).await.unwrap() {
            self.sight
                .look("watched", "WatchJob", &message.unwrap().encode_to_vec());
        }
    }

    async fn retries(&mut self) {
        let job_id = self.submit_one("e", "").await;
        let lease = self.lease("e").await;
        let failure = Failure {
            message: self.said_of_task(),
            permanent: true,
            ..Failure::default()
        };
        self.send(&lease, Report::Failure(failure)).await;
        self.looks(&job_id).await;
        let request_id = String::new();
        let answer = self
            .client
            .jobs()
            .retry(RetryRequest { job_id, request_id })
            .await;
        self.sight.look("retried", "Retry", &bytes(&answer));
        match self.kept {
            Kept::Secret => assert_eq!(reason(answer.as_ref().unwrap_err()), "SECRETS_ERASED"),
            Kept::Open => assert!(answer.is_ok()),
        }
    }

    async fn cancels(&mut self) {
        let job_id = self.submit_one("c", "").await;
        let lease = self.lease("c").await;
        let reason = self.said_of_task();
        self.send(&lease, Report::Release(Release { reason })).await;
        let lease = self.lease("c").await;
        let request = CancelRequest {
            job_id: job_id.clone(),
            reason: String::new(),
        };
        let answer = self.client.jobs().cancel(request).await;
        self.sight.look("cancelled", "Cancel", &bytes(&answer));
        let status_detail = self.said_of_task();
        self.send(&lease, Report::Cancelled(Cancelled { status_detail }))
            .await;
        self.looks(&job_id).await;
        let answer = self.client.jobs().delete(DeleteRequest { job_id }).await;
        self.sight.look("cancelled", "Delete", &bytes(&answer));
    }
}
