//! Workers: those on a stream, who keep their leases as long as they can, and their rivals without one, who now and then let a lease run out and report all
//! the same, at whichever node.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{
    proto::v1::{
        self, AcquireRequest, Failure, Lease, ReportRequest, Success, TaskReport, WaitRequest,
        task_report::Report,
    },
    worker::{Outcome, TaskContext, Worker},
};
use rand::RngExt as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    Roamer, Slip, Stage, answer,
    history::{Fact, Hold},
    jobs::{CONTESTED, STEADY},
};

/// How long a worker without a stream waits for a lease, and for news of a task that it has let go.
const WAIT: Duration = Duration::from_millis(500);

impl Stage {
    /// A worker on a stream, which keeps its leases as long as it can.
    pub(super) async fn worker(self, number: usize, stop: CancellationToken) {
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
        Worker::builder(self.front.clone())
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
    pub(super) async fn rival(self, number: usize, stop: CancellationToken) {
        let mut roamer = self.roamer("rival", number);
        let name = format!("rival-{number}");
        for nth in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let Some(lease) = acquire(&mut roamer, &name).await else {
                continue;
            };
            let hold = hold(&lease, &format!("{name}/{nth}"));
            self.history.note(Fact::Leased(hold.clone()));
            let succeeded = !roamer.rng.random_ratio(1, 6);
            if roamer.rng.random_ratio(1, 4) {
                self.let_go(&mut roamer, &lease).await;
            } else {
                sleep(Duration::from_millis(roamer.rng.random_range(0..40))).await;
            }
            self.complete(&mut roamer, &lease, hold, succeeded).await;
        }
    }

    /// A lease of a contested task, as soon as there is one.
    pub async fn lease(&self, roamer: &mut Roamer, worker: &str) -> Lease {
        loop {
            if let Some(lease) = acquire(roamer, worker).await {
                self.history.note(Fact::Leased(hold(&lease, worker)));
                return lease;
            }
        }
    }

    /// Waits until the lease is lost.
    pub async fn let_go(&self, roamer: &mut Roamer, lease: &Lease) {
        let task = lease.task.as_ref().unwrap();
        let mut seen = 0;
        loop {
            let request = WaitRequest {
                job_id: task.job_id.clone(),
                after_revision: Some(seen),
                timeout: Some(WAIT.try_into().unwrap()),
                ..WaitRequest::default()
            };
            match answer(roamer.here().jobs().wait(request)).await {
                Ok(answer) => {
                    let job = answer.job.unwrap();
                    let now = &job.tasks[0];
                    if now.lost_leases > task.lost_leases || now.end_time.is_some() {
                        return;
                    }
                    seen = job.revision;
                }
                // A server that lost the job has lost the lease.
                Err(error) if is_not_found(&error) => return,
                Err(_unavailable) => roamer.retreat().await,
            }
        }
    }

    /// Ends an attempt, and notes whether that counted.
    pub async fn complete(&self, roamer: &mut Roamer, lease: &Lease, hold: Hold, succeeded: bool) {
        let accepted = end(roamer, lease, succeeded).await || self.slips(Slip::IgnoresRefusals);
        self.history.note(match accepted {
            true => Fact::Completed { hold, succeeded },
            false => Fact::Refused(hold),
        });
    }
}

/// A lease of a contested task, if there is one.
async fn acquire(roamer: &mut Roamer, worker: &str) -> Option<Lease> {
    roamer.wander();
    let request = AcquireRequest {
        worker: worker.to_owned(),
        drivers: vec![CONTESTED.to_owned()],
        max_leases: 1,
        wait: Some(WAIT.try_into().unwrap()),
    };
    match answer(roamer.here().workers().acquire(request)).await {
        Ok(mut answer) => answer.leases.pop(),
        Err(_unavailable) => {
            roamer.retreat().await;
            None
        }
    }
}

/// Ends an attempt, wherever it gets through; answers whether that counted.
async fn end(roamer: &mut Roamer, lease: &Lease, succeeded: bool) -> bool {
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
        roamer.wander();
        if let Ok(mut answer) = answer(roamer.here().workers().report(request.clone())).await {
            match answer.results.pop().unwrap().error {
                None => return true,
                Some(error) if error.code == Code::FailedPrecondition as i32 => return false,
                Some(error) => assert_eq!(error.code, Code::Unavailable as i32, "{error:?}"),
            }
        }
        roamer.retreat().await;
    }
}

fn is_not_found(error: &longhaul::client::ClientError) -> bool {
    let code = error.status().map(tonic::Status::code);
    code == Some(Code::NotFound) && !error.is_unreachable()
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
