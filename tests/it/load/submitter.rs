//! Submitters: each repeats a submission, wherever it gets through, until it is answered.

use longhaul::proto::v1::{JobSpec, SubmitRequest};
use rand::RngExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Roamer, Slip, Stage, answer,
    history::Fact,
    jobs::{contested_job, steady_job},
};

impl Stage {
    /// Submits jobs one after the other until it is told to stop.
    pub(super) async fn submitter(
        self,
        number: usize,
        stop: CancellationToken,
        watcher: mpsc::Sender<String>,
    ) {
        let mut roamer = self.roamer("submitter", number);
        for n in 0.. {
            let Some(Ok(room)) = stop.run_until_cancelled(watcher.reserve()).await else {
                return;
            };
            let request = SubmitRequest {
                request_id: format!("{number}-{n}"),
                // A contested job may take seconds, and would hold up the steady ones.
                job: Some(match number % 4 {
                    0 => contested_job(),
                    _ => steady_job(&mut roamer.rng),
                }),
            };
            let job = self.acknowledged(&mut roamer, &request).await;
            if roamer.rng.random_ratio(1, 8) {
                let again = self.acknowledged(&mut roamer, &request).await;
                // It never is, unless by mistake; then its end has to be waited for, too.
                if again != job && watcher.send(again).await.is_err() {
                    return;
                }
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
        let mut roamer = self.roamer("one", number);
        self.acknowledged(&mut roamer, &request).await;
    }

    /// Submits until it is answered.
    async fn acknowledged(&self, roamer: &mut Roamer, request: &SubmitRequest) -> String {
        loop {
            roamer.wander();
            let mut sent = request.clone();
            if self.slips(Slip::NewRequestId) {
                sent.request_id = Uuid::now_v7().to_string();
            }
            let request = request.request_id.clone();
            match answer(roamer.here().jobs().submit(sent)).await {
                Ok(answer) => {
                    let job = answer.job.unwrap().id;
                    let acknowledged = job.clone();
                    self.history.note(Fact::Acknowledged {
                        request,
                        job: acknowledged,
                    });
                    return job;
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    let error = error.to_string();
                    self.history.note(Fact::Unanswered { request, error });
                    roamer.retreat().await;
                }
            }
        }
    }
}
