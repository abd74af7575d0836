//! `JobService`.

use std::{sync::Arc, time::Duration};

use super::{
    Api, Caller, Fault,
    fields::{Fields, entries, job_key},
    render::{self, View},
    room::Room,
    submission,
    watch::{JobWatchStream, JobsWatch},
};
use crate::{
    domain::{
        Job, JobKey,
        command::Submission,
        limits::MAX_BATCH_JOBS,
        submission::{Violation, check_request_id},
    },
    engine::{EngineError, ListRequest, WaitEnd, WatchOptions},
    locale::Language,
    proto::v1,
    quota::Stored,
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

impl Api {
    /// `Submit`.
    pub(crate) async fn submit(
        &self,
        caller: &Caller,
        request: v1::SubmitRequest,
    ) -> Result<v1::SubmitResponse, Fault> {
        let (job, created) = self.submit_job(caller, request).await?;
        Ok(v1::SubmitResponse {
            job: Some(render::job(&job, View::Full)),
            created,
        })
    }

    /// As [`Self::submit`], for a front end with a form of its own for jobs.
    pub(crate) async fn submit_job(
        &self,
        caller: &Caller,
        request: v1::SubmitRequest,
    ) -> Result<(Arc<Job>, bool), Fault> {
        let now = self.engine.now();
        let submission = submission::read(request, "", caller, now, self.engine.secrecy())
            .map_err(Fault::invalid)?;
        self.may_submit(caller, 1).await?;
        let mut answers = self.engine.submit(vec![submission]).await?;
        let answer = answers.pop().ok_or_else(Fault::draining)?;
        Ok(answer?)
    }

    /// Whether the tenant may submit so many more.
    async fn may_submit(&self, caller: &Caller, jobs: usize) -> Result<(), Fault> {
        let number = u32::try_from(jobs).unwrap_or(u32::MAX);
        caller.holder.allowance.submit(number).await?;
        let more = Stored {
            open_jobs: number.into(),
        };
        let count = async {
            let counts = self.engine.counts(&caller.tenant).await?;
            let open = counts
                .jobs
                .iter()
                .filter(|(state, _, _)| !state.is_terminal());
            let open: i64 = open.map(|(_, _, count)| count).sum();
            Ok::<_, Fault>(Stored {
                open_jobs: open.unsigned_abs(),
            })
        };
        caller
            .holder
            .allowance
            .store(more, self.engine.now(), count)
            .await
    }

    /// `SubmitBatch`.
    pub(crate) async fn submit_batch(
        &self,
        caller: &Caller,
        request: v1::SubmitBatchRequest,
    ) -> Result<v1::SubmitBatchResponse, Fault> {
        let requests = request.requests;
        if requests.is_empty() || requests.len() > MAX_BATCH_JOBS {
            return Err(Fault::bad_field("requests", entries(MAX_BATCH_JOBS)));
        }
        let now = self.engine.now();
        let read: Vec<Result<Submission, Vec<Violation>>> = requests
            .into_iter()
            .enumerate()
            .map(|(i, request)| {
                let path = format!("requests[{i}].");
                submission::read(request, &path, caller, now, self.engine.secrecy())
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
        self.may_submit(caller, accepted.len()).await?;
        let mut answers = self.engine.submit(accepted).await?.into_iter();
        let results = refused
            .into_iter()
            .filter_map(|violations| match violations {
                Some(violations) => Some(bad_result(&Fault::invalid(violations), caller.language)),
                None => answers.next().map(|answer| match answer {
                    Ok((job, created)) => v1::SubmitResult {
                        job_id: job.id.to_string(),
                        created,
                        revision: job.revision,
                        error: None,
                    },
                    Err(refusal) => bad_result(&refusal.into(), caller.language),
                }),
            })
            .collect();
        Ok(v1::SubmitBatchResponse { results })
    }

    /// What a `Get` asks for.
    pub(crate) fn read_get(
        caller: &Caller,
        request: v1::GetRequest,
    ) -> Result<(JobKey, View), Fault> {
        let v1::GetRequest { job_id, view } = request;
        let mut fields = Fields::default();
        let view = fields.view(view, View::Full);
        let key = fields.job(caller, &job_id);
        fields.check().map(|()| (key, view))
    }

    /// `Get`.
    pub(crate) async fn get(
        &self,
        caller: &Caller,
        request: v1::GetRequest,
    ) -> Result<v1::GetResponse, Fault> {
        let (key, view) = Self::read_get(caller, request)?;
        let job = self.engine.get(&key).await?;
        Ok(v1::GetResponse {
            job: Some(render::job(&job, view)),
        })
    }

    /// `List`.
    pub(crate) async fn list(
        &self,
        caller: &Caller,
        request: v1::ListRequest,
    ) -> Result<v1::ListResponse, Fault> {
        let v1::ListRequest {
            page_size,
            page_token,
            filter,
            order_by,
            view,
        } = request;
        let mut fields = Fields::default();
        let view = fields.view(view, View::Basic);
        let list = ListRequest {
            page_size,
            page_token,
            filter,
            order_by,
        };
        fields.besides(|| self.engine.check_list(&caller.tenant, &list));
        fields.check()?;
        let page = self.engine.list(caller.tenant.clone(), &list).await?;
        let mut room = Room::new();
        let jobs = page.jobs.iter().map(|job| render::job(job, view));
        let jobs: Vec<_> = jobs.take_while(|job| room.takes(job)).collect();
        Ok(v1::ListResponse {
            next_page_token: self.engine.page_token(&page, jobs.len()),
            jobs,
            total_size: page.total,
        })
    }

    /// `WatchJob`.
    pub(crate) async fn watch_job(
        &self,
        caller: &Caller,
        request: v1::WatchJobRequest,
    ) -> Result<JobWatchStream, Fault> {
        let v1::WatchJobRequest {
            job_id,
            after_revision,
            min_interval,
            heartbeat_interval,
            view,
        } = request;
        let mut fields = Fields::default();
        let view = fields.view(view, View::Result);
        let key = fields.job(caller, &job_id);
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
        let held = caller.holder.allowance.watch()?;
        let watch = self.engine.watch(&key, options).await?;
        Ok(JobWatchStream::new(watch, view, held))
    }

    /// `WatchJobs`.
    pub(crate) async fn watch_jobs(
        &self,
        caller: &Caller,
        request: v1::WatchJobsRequest,
    ) -> Result<JobsWatch, Fault> {
        let v1::WatchJobsRequest {
            filter,
            cursor,
            heartbeat_interval,
            view,
        } = request;
        let mut fields = Fields::default();
        let view = fields.view(view, View::Basic);
        let heartbeat = heartbeat(&mut fields, heartbeat_interval);
        fields.besides(|| self.engine.check_follow(&caller.tenant, &filter, &cursor));
        fields.check()?;
        let held = caller.holder.allowance.watch()?;
        let follow = self
            .engine
            .follow(caller.tenant.clone(), &filter, &cursor, heartbeat)
            .await?;
        Ok(JobsWatch::new(follow, view, held))
    }

    /// `Wait`.
    pub(crate) async fn wait(
        &self,
        caller: &Caller,
        request: v1::WaitRequest,
    ) -> Result<v1::WaitResponse, Fault> {
        let v1::WaitRequest {
            job_id,
            after_revision,
            timeout,
            view,
        } = request;
        let mut fields = Fields::default();
        let view = fields.view(view, View::Result);
        let key = fields.job(caller, &job_id);
        let timeout = fields.span("timeout", timeout, DEFAULT_WAIT, Duration::ZERO..=MAX_WAIT);
        fields.check()?;
        let waits = !timeout.is_zero();
        let _one_of_those_who_wait = waits.then(|| caller.holder.allowance.watch()).transpose()?;
        let (version, end) = self.engine.wait(&key, after_revision, timeout).await?;
        let timed_out = match end {
            WaitEnd::Done => false,
            WaitEnd::TimedOut => true,
            WaitEnd::Draining => return Err(EngineError::Draining.into()),
        };
        Ok(v1::WaitResponse {
            job: Some(render::job(&version.job, view)),
            timed_out,
        })
    }

    /// `Cancel`.
    pub(crate) async fn cancel(
        &self,
        caller: &Caller,
        request: v1::CancelRequest,
    ) -> Result<v1::CancelResponse, Fault> {
        let v1::CancelRequest { job_id, reason } = request;
        let mut fields = Fields::default();
        fields.line("reason", &reason);
        let key = fields.job(caller, &job_id);
        fields.check()?;
        let job = self
            .engine
            .cancel(key, reason, Some(caller.actor()))
            .await?;
        Ok(v1::CancelResponse {
            job: Some(render::job(&job, View::Full)),
        })
    }

    /// `Retry`.
    pub(crate) async fn retry(
        &self,
        caller: &Caller,
        request: v1::RetryRequest,
    ) -> Result<v1::RetryResponse, Fault> {
        let v1::RetryRequest { job_id, request_id } = request;
        let mut fields = Fields::default();
        check_request_id(&request_id, "request_id", &mut fields.violations);
        let key = fields.job(caller, &job_id);
        fields.check()?;
        let (job, created) = {
            self.may_submit(caller, 1).await?;
            let actor = Some(caller.actor());
            self.engine.retry(key, request_id, actor).await?
        };
        Ok(v1::RetryResponse {
            job: Some(render::job(&job, View::Full)),
            created,
        })
    }

    /// `Delete`.
    pub(crate) async fn delete(
        &self,
        caller: &Caller,
        request: v1::DeleteRequest,
    ) -> Result<v1::DeleteResponse, Fault> {
        let key = job_key(caller, &request.job_id)?;
        self.engine.delete(key, Some(caller.actor())).await?;
        Ok(v1::DeleteResponse {})
    }

    /// `ListEvents`.
    pub(crate) async fn list_events(
        &self,
        caller: &Caller,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Fault> {
        let v1::ListEventsRequest {
            job_id,
            after_revision,
            page_size,
            page_token,
        } = request;
        let mut fields = Fields::default();
        let key = fields.job(caller, &job_id);
        fields.besides(|| self.engine.check_events(&key, page_size, &page_token));
        fields.check()?;
        let page = self
            .engine
            .events(&key, after_revision, page_size, &page_token)
            .await?;
        let mut room = Room::new();
        let events = page.events.iter();
        let events = events.map(|event| render::event(event.clone(), &page.job));
        let events: Vec<_> = events.take_while(|event| room.takes(event)).collect();
        Ok(v1::ListEventsResponse {
            next_page_token: self.engine.event_page_token(&page, events.len()),
            events,
        })
    }

    /// `Explain`.
    pub(crate) async fn explain(
        &self,
        caller: &Caller,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, Fault> {
        let key = job_key(caller, &request.job_id)?;
        let (summary, explanations) = self.engine.explain(&key).await?;
        Ok(v1::ExplainResponse {
            summary,
            explanations: explanations.into_iter().map(render::explanation).collect(),
        })
    }

    /// `GetCounts`.
    pub(crate) async fn get_counts(
        &self,
        caller: &Caller,
        _request: v1::GetCountsRequest,
    ) -> Result<v1::GetCountsResponse, Fault> {
        let counts = self.engine.counts(&caller.tenant).await?;
        Ok(render::counts(counts))
    }
}

fn bad_result(fault: &Fault, language: Language) -> v1::SubmitResult {
    v1::SubmitResult {
        error: Some(fault.to_rpc(language)),
        ..v1::SubmitResult::default()
    }
}

/// When to break a silence, so that it is broken in time: a timer is never early.
fn heartbeat(fields: &mut Fields, given: Option<prost_types::Duration>) -> Duration {
    let longest_silence = fields.span("heartbeat_interval", given, DEFAULT_HEARTBEAT, HEARTBEATS);
    longest_silence * 15 / 16
}
