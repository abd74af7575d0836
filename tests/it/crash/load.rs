//! Everybody who is at work while the server is killed. Each acts by a seed of its own, and none gives up.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use longhaul::{
    client::{Client, WatchOptions, WatchUpdate},
    proto::v1::{
        self, AcquireRequest, Failure, JobSpec, JobTaskSpec, Lease, ReportRequest, RetryPolicy,
        SubmitRequest, Success, TaskReport, Timeouts, WaitRequest, task_report::Report,
    },
    worker::{Outcome, TaskContext, Worker},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::history::{Fact, History, Hold};

/// Jobs that a submitter may be ahead of its watcher: keeps the load in step with the server.
pub const AHEAD: usize = 4;
/// Jobs that one watcher watches at once.
const WATCHED_AT_ONCE: usize = 4;
/// The driver of the workers that keep their leases.
const STEADY: &str = "steady";
/// The driver of the workers that sometimes do not.
const CONTESTED: &str = "contested";
/// How long a worker without a stream waits for a lease, and for news of a task that it has let go.
const WAIT: Duration = Duration::from_millis(500);
/// The pause before a call is made again that found no server.
const PAUSE: Duration = Duration::from_millis(20);

/// Where everybody finds the server, and writes down what they see.
#[derive(Clone)]
pub struct Stage {
    pub client: Client,
    pub history: History,
    pub seed: u64,
    watches: Arc<AtomicUsize>,
}

impl Stage {
    pub fn new(endpoint: &str, history: History, seed: u64) -> Self {
        Self {
            client: Client::connect_lazy(endpoint).unwrap(),
            history,
            seed,
            watches: Arc::default(),
        }
    }

    /// The choices of one actor.
    fn rng(&self, role: &str, number: usize) -> StdRng {
        let mut seed = [0; 32];
        let name = format!("{role} {number}");
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..8 + name.len()].copy_from_slice(name.as_bytes());
        StdRng::from_seed(seed)
    }

    /// Submits jobs one after the other until it is told to stop.
    pub async fn submitter(
        self,
        number: usize,
        stop: CancellationToken,
        watcher: mpsc::Sender<String>,
    ) {
        let mut rng = self.rng("submitter", number);
        for n in 0.. {
            let Some(Ok(room)) = stop.run_until_cancelled(watcher.reserve()).await else {
                return;
            };
            let request = SubmitRequest {
                request_id: format!("{number}-{n}"),
                // A contested job may take seconds, and would hold up the steady ones.
                job: Some(match number % 4 {
                    0 => contested_job(),
                    _ => steady_job(&mut rng),
                }),
            };
            let job = self.acknowledged(&request).await;
            if rng.random_ratio(1, 8) {
                self.acknowledged(&request).await;
            }
            room.send(job);
        }
    }

    /// Submits one job.
    pub async fn submit(&self, number: usize, job: JobSpec) {
        let request = SubmitRequest {
            request_id: number.to_string(),
            job: Some(job),
        };
        self.acknowledged(&request).await;
    }

    /// Submits until it is answered.
    async fn acknowledged(&self, request: &SubmitRequest) -> String {
        loop {
            match self.client.submit(request.clone()).await {
                Ok(answer) => {
                    let job = answer.job.unwrap().id;
                    self.history.note(Fact::Acknowledged {
                        request: request.request_id.clone(),
                        job: job.clone(),
                    });
                    return job;
                }
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    }

    /// Watches jobs to their ends.
    pub async fn watcher(self, jobs: mpsc::Receiver<String>) {
        let watch = |job| self.watch(job);
        ReceiverStream::new(jobs)
            .for_each_concurrent(WATCHED_AT_ONCE, watch)
            .await;
    }

    async fn watch(&self, job: String) {
        let watch = self.watches.fetch_add(1, Ordering::Relaxed);
        let options = WatchOptions {
            min_interval: Some(Duration::ZERO),
            ..WatchOptions::default()
        };
        let mut updates = self.client.watch(&job, options);
        while let Some(update) = updates.next().await {
            match update {
                Ok(WatchUpdate::Snapshot {
                    job,
                    from_revision,
                    revision,
                    coalesced,
                    is_final,
                    ..
                }) => self.history.note(Fact::Shown {
                    watch,
                    state: job.state(),
                    job: job.id,
                    from: from_revision,
                    to: revision,
                    coalesced,
                    last: is_final,
                }),
                Ok(WatchUpdate::Synced { revision } | WatchUpdate::Heartbeat { revision }) => {
                    self.history.note(Fact::Synced { watch, revision });
                }
                Ok(WatchUpdate::Disconnected { .. }) => {}
                Err(error) => {
                    let error = error.to_string();
                    self.history.note(Fact::Broken { watch, error });
                }
            }
        }
    }

    /// A worker on a stream, which keeps its leases as long as it can.
    pub async fn worker(self, number: usize, stop: CancellationToken) {
        let history = self.history.clone();
        let rng = Arc::new(Mutex::new(self.rng("worker", number)));
        let name = format!("steady-{number}");
        let holder = name.clone();
        let leases = Arc::new(AtomicUsize::new(0));
        let handler = move |task: TaskContext| {
            let nth = leases.fetch_add(1, Ordering::Relaxed);
            history.note(Fact::Leased(Hold {
                task: task.task().id.clone(),
                attempt: task.attempt(),
                fencing_token: task.fencing_token(),
                holder: format!("{holder}/{nth}"),
            }));
            let (steps, fails, pause) = {
                let mut rng = rng.lock().unwrap();
                (
                    rng.random_range(0..4),
                    rng.random_ratio(1, 10),
                    Duration::from_millis(rng.random_range(0..15)),
                )
            };
            async move {
                for done in 1..=steps {
                    sleep(pause).await;
                    task.progress(v1::Progress {
                        done,
                        total: steps,
                        ..v1::Progress::default()
                    });
                }
                match fails {
                    true => Outcome::failure("by the seed"),
                    false => Outcome::success(),
                }
            }
        };
        Worker::builder(self.client.clone())
            .name(name)
            .driver(STEADY, handler)
            .slots(4)
            .build()
            .unwrap()
            .run(stop)
            .await
            .unwrap();
    }

    /// A worker without a stream, which sometimes lets a lease run out and reports all the same.
    pub async fn rival(self, number: usize, stop: CancellationToken) {
        let mut rng = self.rng("rival", number);
        let name = format!("rival-{number}");
        for nth in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let Some(lease) = self.acquire(&name).await else {
                continue;
            };
            let hold = hold(&lease, &format!("{name}/{nth}"));
            self.history.note(Fact::Leased(hold.clone()));
            let succeeded = !rng.random_ratio(1, 6);
            if rng.random_ratio(1, 4) {
                self.let_go(&lease).await;
            } else {
                sleep(Duration::from_millis(rng.random_range(0..40))).await;
            }
            if self.end(&lease, succeeded).await {
                self.history.note(Fact::Completed { hold, succeeded });
            }
        }
    }

    /// A lease of a contested task, as soon as there is one.
    pub async fn lease(&self, worker: &str) -> Lease {
        loop {
            if let Some(lease) = self.acquire(worker).await {
                return lease;
            }
        }
    }

    /// A lease of a contested task, if there is one.
    async fn acquire(&self, worker: &str) -> Option<Lease> {
        let request = AcquireRequest {
            worker: worker.to_owned(),
            drivers: vec![CONTESTED.to_owned()],
            max_leases: 1,
            wait: Some(WAIT.try_into().unwrap()),
        };
        match self.client.workers().acquire(request).await {
            Ok(answer) => answer.into_inner().leases.pop(),
            Err(_unavailable) => {
                sleep(PAUSE).await;
                None
            }
        }
    }

    /// Waits until the lease is lost.
    pub async fn let_go(&self, lease: &Lease) {
        let task = lease.task.as_ref().unwrap();
        let mut seen = 0;
        loop {
            let request = WaitRequest {
                job_id: task.job_id.clone(),
                after_revision: Some(seen),
                timeout: Some(WAIT.try_into().unwrap()),
                ..WaitRequest::default()
            };
            match self.client.jobs().wait(request).await {
                Ok(answer) => {
                    let job = answer.into_inner().job.unwrap();
                    let now = &job.tasks[0];
                    if now.lost_leases > task.lost_leases || now.end_time.is_some() {
                        return;
                    }
                    seen = job.revision;
                }
                // A server that lost the job has lost the lease.
                Err(status) if status.code() == tonic::Code::NotFound => return,
                Err(_unavailable) => sleep(PAUSE).await,
            }
        }
    }

    /// Ends an attempt; answers whether that counted.
    pub async fn end(&self, lease: &Lease, succeeded: bool) -> bool {
        let report = match succeeded {
            true => Report::Success(Success::default()),
            false => Report::Failure(Failure {
                message: "by the seed".to_owned(),
                ..Failure::default()
            }),
        };
        let request = ReportRequest {
            wait: None,
            reports: vec![TaskReport {
                lease_token: lease.lease_token.clone(),
                report: Some(report),
            }],
        };
        loop {
            match self.client.workers().report(request.clone()).await {
                Ok(answer) => return answer.into_inner().results[0].error.is_none(),
                Err(_unavailable) => sleep(PAUSE).await,
            }
        }
    }

    /// Writes down what is stored at the end.
    pub async fn inspect(&self) {
        let mut page_token = String::new();
        loop {
            let request = v1::ListRequest {
                page_size: 1_000,
                page_token,
                ..v1::ListRequest::default()
            };
            let page = self.client.jobs().list(request).await.unwrap().into_inner();
            for job in &page.jobs {
                self.history.note(Fact::Stored {
                    job: job.id.clone(),
                    state: job.state(),
                    revision: job.revision,
                });
                self.inspect_history(&job.id).await;
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return;
            }
        }
    }

    async fn inspect_history(&self, job: &str) {
        let request = v1::ListEventsRequest {
            job_id: job.to_owned(),
            page_size: 1_000,
            ..v1::ListEventsRequest::default()
        };
        let page = self.client.jobs().list_events(request).await.unwrap();
        for event in page.into_inner().events {
            self.history.note(Fact::Changed {
                job: job.to_owned(),
                revision: event.revision,
                kind: event.r#type(),
                state: event.state(),
                task: event.task_id,
                attempt: event.attempt,
            });
        }
    }
}

/// A worker's right, as it stands in its lease.
pub fn hold(lease: &Lease, holder: &str) -> Hold {
    Hold {
        task: lease.task.as_ref().unwrap().id.clone(),
        attempt: lease.attempt,
        fencing_token: lease.fencing_token,
        holder: holder.to_owned(),
    }
}

/// A job of one contested task.
pub fn contested_job() -> JobSpec {
    JobSpec {
        tasks: vec![JobTaskSpec {
            driver: CONTESTED.to_owned(),
            timeouts: Some(Timeouts {
                // The shortest lease that there is.
                heartbeat: Some(Duration::from_secs(1).try_into().unwrap()),
                ..Timeouts::default()
            }),
            ..retried_task()
        }],
        ..JobSpec::default()
    }
}

fn retried_task() -> JobTaskSpec {
    let soon = || Duration::from_millis(10).try_into().ok();
    JobTaskSpec {
        max_attempts: 4,
        retry_policy: Some(RetryPolicy {
            initial_backoff: soon(),
            max_backoff: soon(),
            ..RetryPolicy::default()
        }),
        ..JobTaskSpec::default()
    }
}

/// A job of up to three steady tasks, each after the one before.
fn steady_job(rng: &mut StdRng) -> JobSpec {
    let tasks = (0..rng.random_range(1..=3)).map(|n| JobTaskSpec {
        name: format!("t{n}"),
        driver: STEADY.to_owned(),
        depends_on: (n > 0).then(|| format!("t{}", n - 1)).into_iter().collect(),
        ..retried_task()
    });
    JobSpec {
        tasks: tasks.collect(),
        ..JobSpec::default()
    }
}
