//! Messages with secrets in them, as they print themselves for logs and panics: without.

use std::fmt;

use super::v1::{JobTaskSpec, Lease};

impl fmt::Debug for JobTaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobTaskSpec")
            .field("name", &self.name)
            .field("action", &self.action)
            .field("driver", &self.driver)
            .field("depends_on", &self.depends_on)
            .field("request_payload", &self.request_payload)
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("task", &self.task)
            .field("attempt", &self.attempt)
            .field("fencing_token", &self.fencing_token)
            .field("expire_time", &self.expire_time)
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Struct, v1::JobTask};

    #[test]
    fn no_message_prints_a_secret() {
        let payload = Struct::from_json(&serde_json::json!({"a": "my-canary"})).expect("an object");
        let secrets = std::collections::HashMap::from([("db".to_owned(), "my-canary".to_owned())]);
        let spec = JobTaskSpec {
            request_payload: Some(payload.clone()),
            secrets: secrets.clone(),
            ..Default::default()
        };
        let task = Some(JobTask {
            request_payload: Some(payload),
            ..Default::default()
        });
        let lease = Lease {
            task,
            secrets,
            ..Default::default()
        };
        let told = format!("{spec:?} {lease:#?}");
        assert!(!told.contains("canary"), "{told}");
        // As bytes are printed.
        assert!(!told.contains("99, 97, 110"), "{told}");
    }
}
