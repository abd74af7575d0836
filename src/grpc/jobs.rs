//! `JobService`.

use std::time::Duration;

use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{
    admit::{self, Fields},
    error::{self, status},
    render::{self, View},
    room::Room,
    service::job_service_server::JobService,
    submission, watch,
};
use crate::{
    domain::{
        command::Submission,
        limits::{MAX_BATCH_JOBS, MAX_TRACEPARENT_BYTES},
        submission::{Violation, check_request_id},
    },
    engine::{Engine, ListRequest, WatchOptions},
    proto::v1,
};

/// The longest wait of one call.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// The wait of a call that does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The least time between messages of progress, if the caller does not say.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_millis(250);
/// The largest that a caller may ask for.
const MAX_MIN_INTERVAL: Duration = Duration::from_secs(60);
/// The longest silence, if the caller does not say.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// The silences that a caller may ask for.
const HEARTBEATS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(60);

/// Serves `JobService`.
pub struct Jobs {
    engine: Engine,
}

impl Jobs {
    /// On an engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let tenant = admit::tenant(&request);
        let traceparent = traceparent(&request);
        let now = self.engine.now();
        let submission = submission::read(request.into_inner(), "", &tenant, now, &traceparent)
            .map_err(error::invalid)?;
        let mut answers = self.engine.submit(vec![submission]).await.map_err(status)?;
        let answer = answers.pop().ok_or_else(error::draining)?;
        let (job, created) = answer.map_err(|refusal| status(refusal.into()))?;
        Ok(Response::new(v1::SubmitResponse {
            job: Some(render::job(&job, View::Full)),
            created,
        }))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let tenant = admit::tenant(&request);
        let traceparent = traceparent(&request);
        let requests = request.into_inner().requests;
        if requests.is_empty() || requests.len() > MAX_BATCH_JOBS {
            let description = format!("must have from 1 to {MAX_BATCH_JOBS} entries");
            return Err(error::bad_field("requests", &description));
        }
        let now = self.engine.now();
        let read: Vec<Result<Submission, Vec<Violation>>> = requests
            .into_iter()
            .enumerate()
            .map(|(i, request)| {
                let path = format!("requests[{i}].");
                submission::read(request, &path, &tenant, now, &traceparent)
            })
            .collect();
        let mut refused = Vec::with_capacity(read.len());
        let mut accepted = Vec::with_capacity(read.len());
        for submission in read {
            match submission {
                Ok(submission) => {
                    accepted.push(submission);
                    refused.push(None);
                }
                Err(violations) => refused.push(Some(violations)),
            }
        }
        let mut answers = self
            .engine
            .submit(accepted)
            .await
            .map_err(status)?
            .into_iter();
        let results = refused
            .into_iter()
            .filter_map(|violations| match violations {
                Some(violations) => Some(bad_result(&error::invalid(violations))),
                None => answers.next().map(|answer| match answer {
                    Ok((job, created)) => v1::SubmitResult {
                        job_id: job.id.to_string(),
                        created,
                        revision: job.revision,
                        error: None,
                    },
                    Err(refusal) => bad_result(&status(refusal.into())),
                }),
            })
            .collect();
        Ok(Response::new(v1::SubmitBatchResponse { results }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let tenant = admit::tenant(&request);
        let v1::GetRequest { job_id, view } = request.into_inner();
        let mut fields = Fields::default();
        let view = fields.view(view, View::Full);
        let key = fields.job(tenant, &job_id);
        fields.check()?;
        let job = self.engine.get(&key).await.map_err(status)?;
        Ok(Response::new(v1::GetResponse {
            job: Some(render::job(&job, view)),
        }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let tenant = admit::tenant(&request);
        let v1::ListRequest {
            page_size,
            page_token,
            filter,
            order_by,
            view,
        } = request.into_inner();
        let mut fields = Fields::default();
        let view = fields.view(view, View::Basic);
        let list = ListRequest {
            page_size,
            page_token,
            filter,
            order_by,
        };
        fields.besides(|| self.engine.check_list(&tenant, &list));
        fields.check()?;
        let page = self.engine.list(tenant, &list).await.map_err(status)?;
        let mut room = Room::new();
        let jobs = page.jobs.iter().map(|job| render::job(job, view));
        let jobs: Vec<_> = jobs.take_while(|job| room.takes(job)).collect();
        Ok(Response::new(v1::ListResponse {
            next_page_token: self.engine.page_token(&page, jobs.len()),
            jobs,
            total_size: page.total,
        }))
    }

    type WatchJobStream = watch::WatchJobStream;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let tenant = admit::tenant(&request);
        let v1::WatchJobRequest {
            job_id,
            after_revision,
            min_interval,
            heartbeat_interval,
            view,
        } = request.into_inner();
        let mut fields = Fields::default();
        let view = fields.view(view, View::Result);
        let key = fields.job(tenant, &job_id);
        let options = WatchOptions {
            after_revision,
            min_interval: fields.span(
                "min_interval",
                min_interval,
                DEFAULT_MIN_INTERVAL,
                Duration::ZERO..=MAX_MIN_INTERVAL,
            ),
            heartbeat: heartbeat(&mut fields, heartbeat_interval),
        };
        fields.check()?;
        let watch = self.engine.watch(&key, options).await.map_err(status)?;
        Ok(Response::new(watch::WatchJobStream::new(watch, view)))
    }

    type WatchJobsStream = BoxStream<'static, Result<v1::WatchJobsResponse, Status>>;

    async fn watch_jobs(
        &self,
        request: Request<v1::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let tenant = admit::tenant(&request);
        let v1::WatchJobsRequest {
            filter,
            cursor,
            heartbeat_interval,
            view,
        } = request.into_inner();
        let mut fields = Fields::default();
        let view = fields.view(view, View::Basic);
        let heartbeat = heartbeat(&mut fields, heartbeat_interval);
        fields.besides(|| self.engine.check_follow(&tenant, &filter, &cursor));
        fields.check()?;
        let follow = self
            .engine
            .follow(tenant, &filter, &cursor, heartbeat)
            .await
            .map_err(status)?;
        Ok(Response::new(watch::jobs(follow, view)))
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<v1::WaitResponse>, Status> {
        let tenant = admit::tenant(&request);
        let v1::WaitRequest {
            job_id,
            after_revision,
            timeout,
            view,
        } = request.into_inner();
        let mut fields = Fields::default();
        let view = fields.view(view, View::Result);
        let key = fields.job(tenant, &job_id);
        let timeout = fields.span("timeout", timeout, DEFAULT_WAIT, Duration::ZERO..=MAX_WAIT);
        fields.check()?;
        let (version, timed_out) = self
            .engine
            .wait(&key, after_revision, timeout)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::WaitResponse {
            job: Some(render::job(&version.job, view)),
            timed_out,
        }))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let tenant = admit::tenant(&request);
        let v1::CancelRequest { job_id, reason } = request.into_inner();
        let mut fields = Fields::default();
        fields.line("reason", &reason);
        let key = fields.job(tenant, &job_id);
        fields.check()?;
        let job = self.engine.cancel(key, reason).await.map_err(status)?;
        Ok(Response::new(v1::CancelResponse {
            job: Some(render::job(&job, View::Full)),
        }))
    }

    async fn retry(
        &self,
        request: Request<v1::RetryRequest>,
    ) -> Result<Response<v1::RetryResponse>, Status> {
        let tenant = admit::tenant(&request);
        let v1::RetryRequest { job_id, request_id } = request.into_inner();
        let mut fields = Fields::default();
        check_request_id(&request_id, "request_id", &mut fields.violations);
        let key = fields.job(tenant, &job_id);
        fields.check()?;
        let (job, created) = self.engine.retry(key, request_id).await.map_err(status)?;
        Ok(Response::new(v1::RetryResponse {
            job: Some(render::job(&job, View::Full)),
            created,
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let tenant = admit::tenant(&request);
        let key = admit::job_key(tenant, &request.into_inner().job_id)?;
        self.engine.delete(key).await.map_err(status)?;
        Ok(Response::new(v1::DeleteResponse {}))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let tenant = admit::tenant(&request);
        let v1::ListEventsRequest {
            job_id,
            after_revision,
            page_size,
            page_token,
        } = request.into_inner();
        let mut fields = Fields::default();
        let key = fields.job(tenant, &job_id);
        fields.besides(|| self.engine.check_events(&key, page_size, &page_token));
        fields.check()?;
        let page = self
            .engine
            .events(&key, after_revision, page_size, &page_token)
            .await
            .map_err(status)?;
        let mut room = Room::new();
        let events = page.events.iter();
        let events = events.map(|event| render::event(event.clone(), &page.job));
        let events: Vec<_> = events.take_while(|event| room.takes(event)).collect();
        Ok(Response::new(v1::ListEventsResponse {
            next_page_token: self.engine.event_page_token(&page, events.len()),
            events,
        }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let tenant = admit::tenant(&request);
        let key = admit::job_key(tenant, &request.into_inner().job_id)?;
        let (summary, explanations) = self.engine.explain(&key).await.map_err(status)?;
        Ok(Response::new(v1::ExplainResponse {
            summary,
            explanations: explanations.into_iter().map(render::explanation).collect(),
        }))
    }

    async fn get_counts(
        &self,
        request: Request<v1::GetCountsRequest>,
    ) -> Result<Response<v1::GetCountsResponse>, Status> {
        let tenant = admit::tenant(&request);
        let counts = self.engine.counts(&tenant).await.map_err(status)?;
        Ok(Response::new(render::counts(counts)))
    }
}

fn bad_result(status: &Status) -> v1::SubmitResult {
    v1::SubmitResult {
        error: Some(error::embedded(status)),
        ..v1::SubmitResult::default()
    }
}

/// When to break a silence, so that it is broken in time: a timer is never early.
fn heartbeat(fields: &mut Fields, given: Option<prost_types::Duration>) -> Duration {
    let longest_silence = fields.span("heartbeat_interval", given, DEFAULT_HEARTBEAT, HEARTBEATS);
    longest_silence * 15 / 16
}

/// The caller's W3C trace context, which workers get with the lease. One that can not be right is ignored, as its standard asks: no job fails for it.
fn traceparent<T>(request: &Request<T>) -> String {
    /// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may only add to that.
    const LEAST: usize = 55;
    let value = request.metadata().get("traceparent");
    value
        .and_then(|value| value.to_str().ok())
        .filter(|value| (LEAST..=MAX_TRACEPARENT_BYTES).contains(&value.len()))
        .unwrap_or_default()
        .to_owned()
}
