//! The job that is submitted over and over: one task with a small payload, as a storage operator's bucket would be.

use serde_json::json;
use uuid::Uuid;

use super::BenchError;
use crate::proto::{
    Struct,
    v1::{JobSpec, JobTaskSpec, Object, SubmitBatchRequest, SubmitRequest},
};

/// Who carries out what is submitted.
pub(super) const DRIVER: &str = "bench";

/// A job to submit.
#[derive(Clone, Debug)]
pub(super) struct JobSample {
    spec: JobSpec,
}

impl JobSample {
    /// With this many bytes of encoded payload, or a few more.
    pub(super) fn new(payload_bytes: usize) -> Result<Self, BenchError> {
        let payload = |note: &str| {
            let object = json!({"s3_bucket_name": "test1234", "versioned": true, "note": note});
            Struct::from_json(&object).map_err(|error| BenchError::Broken(error.to_string()))
        };
        let missing = payload_bytes.saturating_sub(payload("")?.encoded().len());
        let spec = JobSpec {
            action: "create".to_owned(),
            object: Some(Object {
                r#type: "sg_buckets".to_owned(),
                id: "test1234".to_owned(),
                ..Object::default()
            }),
            tasks: vec![JobTaskSpec {
                driver: DRIVER.to_owned(),
                request_payload: Some(payload(&"x".repeat(missing))?),
                ..JobTaskSpec::default()
            }],
            ..JobSpec::default()
        };
        Ok(Self { spec })
    }

    /// The same job for another driver.
    pub(super) fn with_driver(mut self, driver: &str) -> Self {
        for task in &mut self.spec.tasks {
            driver.clone_into(&mut task.driver);
        }
        self
    }

    /// As it is described.
    pub(super) fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// A request to store one more of it, with a request id as the client library would add.
    pub(super) fn request(&self) -> SubmitRequest {
        SubmitRequest {
            job: Some(self.spec.clone()),
            request_id: Uuid::now_v7().to_string(),
        }
    }

    /// A request to store `count` more.
    pub(super) fn batch(&self, count: usize) -> SubmitBatchRequest {
        SubmitBatchRequest {
            requests: (0..count).map(|_| self.request()).collect(),
        }
    }
}
