//! Jobs as tests submit them and wait for them, and errors as they are told.

use longhaul::{
    client::Client,
    proto::v1::{Job, JobSpec, JobTaskSpec, SubmitBatchRequest, SubmitRequest, WaitRequest},
};
use tonic::Status;
use tonic_types::StatusExt as _;

/// A job of one task.
pub fn submission(driver: &str) -> SubmitRequest {
    SubmitRequest {
        job: Some(JobSpec {
            tasks: vec![JobTaskSpec {
                driver: driver.to_owned(),
                ..JobTaskSpec::default()
            }],
            ..JobSpec::default()
        }),
        ..SubmitRequest::default()
    }
}

/// Submits a job of one task.
pub async fn submit(client: &Client, driver: &str) -> Job {
    let answer = client.submit(submission(driver)).await.unwrap();
    answer.job.unwrap()
}

/// Submits that many jobs of one task each, at most 1,000; answers their ids.
pub async fn submit_many(client: &Client, driver: &str, count: usize) -> Vec<String> {
    submit_copies(client, submission(driver), count).await
}

/// Submits a job that many times, in one commit; answers the ids.
pub async fn submit_copies(client: &Client, request: SubmitRequest, count: usize) -> Vec<String> {
    let requests = vec![request; count];
    let request = SubmitBatchRequest { requests };
    let answer = client.jobs().submit_batch(request).await.unwrap();
    let results = answer.into_inner().results.into_iter();
    results
        .map(|result| {
            assert_eq!(result.error, None);
            result.job_id
        })
        .collect()
}

/// The job as soon as it is as wanted.
pub async fn job_when(client: &Client, job_id: &str, wanted: impl Fn(&Job) -> bool) -> Job {
    let mut seen = 0;
    loop {
        let request = WaitRequest {
            job_id: job_id.to_owned(),
            after_revision: Some(seen),
            ..WaitRequest::default()
        };
        let answer = client.jobs().wait(request).await.unwrap().into_inner();
        let job = answer.job.unwrap();
        if wanted(&job) {
            return job;
        }
        assert!(!answer.timed_out, "nothing happened to it: {job:#?}");
        seen = job.revision;
    }
}

/// The reason that programs branch on; empty if there is none.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.filter(|info| info.domain == "longhaul")
        .map(|info| info.reason)
        .unwrap_or_default()
}
