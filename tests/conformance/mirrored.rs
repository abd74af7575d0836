//! The service against the model: random histories are decided by the model, done again through gRPC, and must be answered and read alike.
//!
//! Ids and times are the service's own, so jobs are told by their number. Nothing is due before the end: all that takes time is given an hour.

use std::{collections::HashMap, time::Duration};

use longhaul::{
    domain::{
        Job, JobKey, JobState, LeaseKey, Tenant,
        command::{Command, Decision, Refusal, Reply},
        job::ChildCounts,
    },
    proto::v1::{self, task_report::Report},
};
use proptest::prelude::*;
use tonic::Status;

use crate::{
    fixture::{Stored, block_on, hidden},
    histories::{DRIVERS, History, REQUEST_IDS, Said, Step, TENANTS, steps},
    served::{Served, document, in_an_hour, reason, reason_of},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// The model, and the service that has to do the same.
struct Mirror {
    model: History,
    service: Served,
    /// The service's name of each job.
    ids: Vec<String>,
    /// The service's name of each lease.
    tokens: HashMap<LeaseKey, v1::Lease>,
    /// What was submitted first under a request id, by how many tasks it has: the model tells submissions apart by that.
    submitted: HashMap<(usize, usize), Step>,
    /// When delayed jobs are to start: the same for all, as it is part of what a request id stands for.
    later: prost_types::Timestamp,
}

impl Mirror {
    async fn begin(service: Served) -> Self {
        Self {
            model: History::begin(Stored::in_memory()).await,
            service,
            ids: Vec::new(),
            tokens: HashMap::new(),
            submitted: HashMap::new(),
            later: in_an_hour(),
        }
    }

    /// The step as both can take it; `None` for those that cannot be compared, as nobody waits here.
    fn comparable(&mut self, mut step: Step) -> Option<Step> {
        let count = self.model.jobs.len();
        match &mut step {
            Step::Wait(_) => None,
            // Callers have no credentials that would say less.
            Step::Claim(_, tenant) => {
                *tenant = None;
                Some(step)
            }
            // What the model takes for the content of a job is the same for all jobs.
            Step::Retry(_, request_id) => {
                *request_id = 0;
                Some(step)
            }
            Step::Submit {
                tenant,
                request_id,
                tasks,
                parent,
                ..
            } => {
                *tenant = 0;
                *parent = parent.and_then(|number| number.checked_rem(count));
                match (*request_id, *tasks) {
                    (0, _) => Some(step),
                    named => Some(self.submitted.entry(named).or_insert(step).clone()),
                }
            }
            _ => Some(step),
        }
    }

    async fn take(&mut self, step: Step) {
        let Some(step) = self.comparable(step) else {
            return;
        };
        let (jobs, leases) = (self.model.jobs.len(), self.model.leases.len());
        let decision = self.model.take(step.clone()).await;
        match step {
            Step::Claim(slots, _) => self.claim(slots, &decision).await,
            Step::Submit { .. } => self.submit(&step, jobs, &decision).await,
            Step::Report(number, said) if leases > 0 => {
                let lease = self.model.leases[number % leases].clone();
                self.report(&lease, said, &decision).await;
            }
            Step::Cancel(number) if jobs > 0 => {
                let request = v1::CancelRequest {
                    job_id: self.ids[number % jobs].clone(),
                    reason: "not needed".to_owned(),
                };
                let answer = self.service.client().jobs().cancel(request).await;
                self.answered(answer.map(|answer| answer.into_inner().job), &decision);
            }
            Step::Retry(number, _) if jobs > 0 => {
                let request = v1::RetryRequest {
                    job_id: self.ids[number % jobs].clone(),
                    ..v1::RetryRequest::default()
                };
                let answer = self.service.client().jobs().retry(request).await;
                let answer = answer.map(|answer| answer.into_inner().job);
                self.new_job(jobs, answer.as_ref().ok());
                self.answered(answer, &decision);
            }
            Step::Delete(number) if jobs > 0 => {
                let job_id = self.ids[number % jobs].clone();
                let request = v1::DeleteRequest { job_id };
                let answer = self.service.client().jobs().delete(request).await;
                self.answered(answer.map(|_| None), &decision);
            }
            Step::Pause(driver) => {
                let request = v1::PauseDriverRequest {
                    driver: DRIVERS[driver].to_owned(),
                    reason: "broken".to_owned(),
                };
                let answer = self.service.client().admin().pause_driver(request).await;
                answer.unwrap();
            }
            Step::Resume(driver) => {
                let driver = DRIVERS[driver].to_owned();
                let request = v1::ResumeDriverRequest { driver };
                let answer = self.service.client().admin().resume_driver(request).await;
                answer.unwrap();
            }
            Step::Wait(_)
            | Step::Report(..)
            | Step::Cancel(_)
            | Step::Retry(..)
            | Step::Delete(_) => {}
        }
        self.cancel_children(decision).await;
    }

    /// Takes what the model took, and sees that there is no more.
    async fn claim(&mut self, slots: u32, decision: &Decision) {
        let expected: Vec<_> = decision.grants.iter().flatten().collect();
        let left = slots as usize - expected.len();
        let leases = self.service.acquire(&DRIVERS, expected.len()).await;
        for (grant, lease) in expected.iter().zip(leases) {
            let task = lease.task.as_ref().unwrap();
            let position = |task: &str| task.trim_start_matches("task-").to_owned();
            let job = self.ids.iter().position(|id| *id == task.job_id);
            let expected = self
                .model
                .jobs
                .iter()
                .position(|key| *key == grant.lease.job_key());
            assert_eq!(job, expected);
            assert_eq!(position(&task.name), grant.lease.ordinal.to_string());
            assert_eq!(lease.attempt, grant.task.attempt);
            self.tokens.insert(grant.lease.clone(), lease);
        }
        if left > 0 {
            let more = self.service.there(self.service.client(), &DRIVERS).await;
            assert!(more.is_empty(), "{more:#?}");
        }
    }

    async fn submit(&mut self, step: &Step, jobs: usize, decision: &Decision) {
        let Step::Submit {
            request_id,
            tasks,
            chained,
            priority,
            parent,
            delayed,
            attempts,
            payload,
            ..
        } = *step
        else {
            unreachable!("only submissions are submitted");
        };
        let hour = || HOUR.try_into().ok();
        let task = |position: usize| v1::JobTaskSpec {
            name: format!("task-{position}"),
            action: "create".to_owned(),
            driver: DRIVERS[position % DRIVERS.len()].to_owned(),
            depends_on: match (chained, position) {
                (true, 1..) => vec![format!("task-{}", position - 1)],
                _ => Vec::new(),
            },
            max_attempts: attempts,
            retry_policy: Some(v1::RetryPolicy {
                initial_backoff: hour(),
                max_backoff: hour(),
                multiplier: 1.0,
                jitter: Some(0.0),
            }),
            request_payload: (payload > 0).then(|| document(&"p".repeat(payload))),
            secrets: match (chained, position) {
                (true, 0) => hidden(payload).secrets().clone().into_iter().collect(),
                _ => HashMap::new(),
            },
            ..v1::JobTaskSpec::default()
        };
        let parent = parent.and_then(|number| self.ids.get(number));
        let spec = v1::JobSpec {
            action: "create".to_owned(),
            labels: [("size".to_owned(), tasks.to_string())].into(),
            priority,
            creator: "ada".to_owned(),
            parent_job_id: parent.cloned().unwrap_or_default(),
            schedule_time: delayed.then_some(self.later),
            tasks: (0..tasks).map(task).collect(),
            ..v1::JobSpec::default()
        };
        let request = v1::SubmitRequest {
            job: Some(spec),
            request_id: REQUEST_IDS[request_id].to_owned(),
        };
        let answer = self.service.submit(request).await;
        let answer = answer.map(|answer| answer.job);
        self.new_job(jobs, answer.as_ref().ok());
        self.answered(answer, decision);
    }

    async fn report(&mut self, lease: &LeaseKey, said: Said, decision: &Decision) {
        let token = &self.tokens[lease].lease_token;
        let request = v1::ReportRequest {
            reports: vec![v1::TaskReport {
                lease_token: token.clone(),
                report: Some(report(said)),
            }],
            ..v1::ReportRequest::default()
        };
        let answer = self.service.client().workers().report(request).await;
        let result = answer.unwrap().into_inner().results.remove(0);
        let told = result.error.map(|error| reason_of(&error));
        let meant = decision.replies[0].as_ref().err();
        assert_eq!(told.as_deref(), meant.map(word));
    }

    /// A new job has the next number.
    fn new_job(&mut self, jobs: usize, answer: Option<&Option<v1::Job>>) {
        let id = answer.and_then(Option::as_ref).map(|job| job.id.clone());
        let is_new = |id: &String| !self.ids.contains(id);
        self.ids.extend(id.filter(is_new));
        assert_eq!(self.ids.len(), self.model.jobs.len(), "{jobs} before");
    }

    /// The call is answered as the model answers: with the job, or for the same reason.
    fn answered(&self, answer: Result<Option<v1::Job>, Status>, decision: &Decision) {
        match (&decision.replies[0], answer) {
            (Ok(Reply::Submitted { job, .. } | Reply::Job(job)), Ok(Some(answer))) => {
                assert_eq!(self.told(&answer), self.meant(job));
            }
            (Ok(Reply::Done), Ok(None)) => {}
            (Err(refusal), Err(status)) => assert_eq!(reason(&status), word(refusal)),
            (expected, answer) => panic!("{answer:?} instead of {expected:?}"),
        }
    }

    /// What a job's end asks of its children: the service does that by itself, soon.
    async fn cancel_children(&mut self, decision: Decision) {
        let mut parents = decision.cancel_children;
        while let Some((parent, reason)) = parents.pop() {
            let writer = &mut self.model.model.writer;
            writer.begin().await.unwrap();
            let open = writer.open_children(&parent, 1_000).await.unwrap();
            writer.rollback().await;
            for key in open {
                let number = self.number(&key);
                let reason = reason.clone();
                let cancel = Command::Cancel { key, reason };
                let decision = self.model.turn(vec![cancel], &[]).await;
                parents.extend(decision.cancel_children);
                self.service.asked_to_stop(&self.ids[number]).await;
            }
        }
    }

    fn number(&self, key: &JobKey) -> usize {
        let jobs = &mut self.model.jobs.iter();
        jobs.position(|job| job == key).unwrap()
    }

    /// Reads everything of both.
    async fn compare(&self) {
        let tenant = Tenant::new(TENANTS[0]);
        let (model, service) = (&self.model.model.store, &self.service);
        let mut jobs = Vec::new();
        for (key, id) in self.model.jobs.iter().zip(&self.ids) {
            let Some(job) = model.job(key).await.unwrap() else {
                let refused = service.get(id).await.unwrap_err();
                assert_eq!(reason(&refused), "JOB_NOT_FOUND");
                continue;
            };
            let answer = service.get(id).await.unwrap();
            assert_eq!(self.told(&answer), self.meant(&job));
            let meant = model.events(key, 0, 1_000).await.unwrap();
            let meant = meant.iter().map(|event| {
                let task = event.task.as_ref();
                let task = task.map_or((String::new(), 0), |task| {
                    (format!("task-{}", task.ordinal), task.attempt)
                });
                format!(
                    "{:?} {task:?} {:?} {:?}",
                    event.kind, event.after.0, event.after.1
                )
            });
            let told = service.events(id).await;
            assert_eq!(told.last().unwrap().revision, answer.revision);
            let told = told.iter().map(|event| {
                let task = (event.task_name.clone(), event.attempt);
                format!(
                    "{:?} {task:?} {:?} {:?}",
                    event.r#type(),
                    event.state(),
                    event.status()
                )
            });
            assert_eq!(told.collect::<Vec<_>>(), meant.collect::<Vec<_>>());
            jobs.push((job.state, id.clone()));
        }
        for state in JobState::ALL {
            let filter = format!("state = {}", state.name());
            let listed = service.list(&filter, "create_time", 3).await;
            let meant = jobs.iter().filter(|(of, _)| *of == state);
            let meant: Vec<_> = meant.map(|(_, id)| id.clone()).collect();
            assert_eq!(listed.total, i64::try_from(meant.len()).ok(), "{filter}");
            assert_eq!(listed.ids, meant, "{filter}");
        }
        let meant = model.counts(&tenant).await.unwrap();
        let meant = meant
            .tasks
            .iter()
            .map(|(driver, state, count)| format!("{driver} {state:?} {count}"));
        let told = service.counts().await.tasks;
        let told = told
            .iter()
            .map(|c| format!("{} {:?} {}", c.driver, c.state(), c.count));
        let (mut told, mut meant): (Vec<_>, Vec<_>) = (told.collect(), meant.collect());
        told.sort_unstable();
        meant.sort_unstable();
        assert_eq!(told, meant);
    }

    /// All of a job that does not depend on whose ids and times it has, as the model has it.
    fn meant(&self, job: &Job) -> String {
        let number = |id| self.model.jobs.iter().position(|key| Some(key.job) == id);
        let ChildCounts {
            total,
            succeeded,
            failed,
            cancelled,
        } = job.children;
        let cancel = job.cancel.as_ref();
        let tasks = job.tasks.iter().map(|task| {
            let progress = task.progress.as_ref().map(|progress| progress.done);
            let (state, status) = (task.state, task.status);
            format!(
                "{} {state:?} {status:?} {} {progress:?} {:?} {:?} {:?} {} {}\n",
                task.spec.name,
                task.attempt,
                task.last_error,
                &*task.worker,
                task.warnings,
                task.start_time.is_some(),
                task.end_time.is_some(),
            )
        });
        format!(
            "{:?} {:?} {:?} {} {:?} {:?} {:?} {:?} {} {}\n{}",
            job.state,
            job.status,
            job.last_error,
            job.spec.priority,
            number(job.spec.parent),
            number(job.retry_of),
            (total, succeeded, failed, cancelled),
            cancel.map(|cancel| cancel.acknowledged.is_some()),
            job.start_time.is_some(),
            job.end_time.is_some(),
            tasks.collect::<String>()
        )
    }

    /// The same as the service tells it.
    fn told(&self, job: &v1::Job) -> String {
        let number = |id: &str| self.ids.iter().position(|known| known == id);
        let children = job.child_summary.unwrap_or_default();
        let cancel = job.cancel.as_ref();
        let tasks = job.tasks.iter().map(|task| {
            let progress = task.progress.as_ref().map(|progress| progress.done);
            let (state, status) = (task.state(), task.status());
            format!(
                "{} {state:?} {status:?} {} {progress:?} {:?} {:?} {:?} {} {}\n",
                task.name,
                task.attempt,
                task.last_error,
                task.worker,
                task.warnings,
                task.start_time.is_some(),
                task.end_time.is_some(),
            )
        });
        format!(
            "{:?} {:?} {:?} {} {:?} {:?} {:?} {:?} {} {}\n{}",
            job.state(),
            job.status(),
            job.last_error,
            job.priority,
            number(&job.parent_job_id),
            number(&job.retry_of_job_id),
            (
                children.total,
                children.succeeded,
                children.failed,
                children.cancelled
            ),
            cancel.map(|cancel| cancel.acknowledged_time.is_some()),
            job.start_time.is_some(),
            job.end_time.is_some(),
            tasks.collect::<String>()
        )
    }
}

/// The word for programs by which the service says that it refuses.
fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::JobNotFound(_) => "JOB_NOT_FOUND",
        Refusal::RequestIdReused { .. } => "REQUEST_ID_REUSED",
        Refusal::ParentNotFound(_) => "PARENT_NOT_FOUND",
        Refusal::ParentEnded(_) => "PARENT_ENDED",
        Refusal::TooDeep(_) => "NESTED_TOO_DEEP",
        Refusal::JobNotEnded(_) => "JOB_NOT_ENDED",
        Refusal::JobSucceeded(_) => "JOB_SUCCEEDED",
        Refusal::SecretsErased(_) => "SECRETS_ERASED",
        Refusal::MasterKeyRequired => "MASTER_KEY_REQUIRED",
        Refusal::ResultTooLarge => "RESULT_TOO_LARGE",
        Refusal::TenantExists(_) => "TENANT_EXISTS",
        Refusal::TenantNotFound(_) => "TENANT_NOT_FOUND",
        Refusal::KeyExists(_) => "KEY_EXISTS",
        Refusal::KeyNotFound(_) => "KEY_NOT_FOUND",
        Refusal::LeaseLost => "LEASE_LOST",
    }
}

fn report(said: Said) -> Report {
    match said {
        Said::Heartbeat => Report::Heartbeat(v1::Heartbeat {}),
        Said::Progress(done) => Report::Progress(v1::ProgressReport {
            progress: Some(v1::Progress {
                done,
                ..v1::Progress::default()
            }),
            ..v1::ProgressReport::default()
        }),
        Said::Warning => Report::Warning(v1::Warning {
            message: "slow".to_owned(),
        }),
        Said::Success(bytes) => Report::Success(v1::Success {
            result: (bytes > 0).then(|| document(&"r".repeat(bytes))),
            ..v1::Success::default()
        }),
        Said::Failure(permanent) => Report::Failure(v1::Failure {
            message: "no route".to_owned(),
            permanent,
            ..v1::Failure::default()
        }),
        Said::Release => Report::Release(v1::Release {
            reason: "going home".to_owned(),
        }),
        Said::CancelAcknowledged => Report::CancelAcknowledged(v1::CancelAcknowledged {}),
        Said::Cancelled => Report::Cancelled(v1::Cancelled::default()),
    }
}

fn run(serve: impl Future<Output = Served>, steps: Vec<Step>) {
    block_on(async {
        let mut mirror = Mirror::begin(serve.await).await;
        for step in steps {
            mirror.take(step).await;
        }
        mirror.compare().await;
        mirror.service.stop().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_service_in_memory_is_as_the_model(steps in steps()) {
        run(Served::from_memory(), steps);
    }

    #[test]
    fn the_service_on_sqlite_is_as_the_model(steps in steps()) {
        run(Served::from_sqlite(), steps);
    }

    #[test]
    fn the_service_on_postgres_is_as_the_model(steps in steps()) {
        run(Served::from_postgres(), steps);
    }
}

/// The negative control: a difference is seen.
#[tokio::test]
#[should_panic(expected = "assertion `left == right` failed")]
async fn what_the_service_does_unasked_is_found_out() {
    let mut mirror = Mirror::begin(Served::from_memory().await).await;
    let submit = Step::Submit {
        tenant: 0,
        request_id: 0,
        tasks: 1,
        chained: false,
        priority: 0,
        parent: None,
        delayed: false,
        attempts: 1,
        payload: 0,
    };
    mirror.take(submit).await;
    mirror.compare().await;
    mirror.service.cancel(&mirror.ids[0]).await;
    mirror.compare().await;
}
