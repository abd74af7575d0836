//! What the author of a worker writes: a handler per driver, and how a task ended.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    context::TaskContext,
    limits::{MAX_REASON_BYTES, MAX_RESULT_BYTES, MAX_RETRY_AFTER, MAX_TEXT_BYTES, truncated},
};
use crate::proto::{
    Struct,
    v1::{Cancelled, Failure, Release, Success, task_report::Report},
};

/// The reason of a failure whose task did succeed: what it returned can not be stored.
pub(super) const BAD_RESULT: &str = "BAD_RESULT";

/// Carries out the tasks of a driver, many at once. An async closure `|task: TaskContext| async { … }` is one, too.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Carries out one attempt. It should end soon when [`TaskContext::stop_requested`] says so; a panic counts as a failure of the attempt.
    async fn run(&self, task: TaskContext) -> Outcome;
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(TaskContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    async fn run(&self, task: TaskContext) -> Outcome {
        self(task).await
    }
}

/// How an attempt ended. Texts longer than 4,096 bytes are cut; an empty status detail leaves the former one.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The task is done.
    Succeeded {
        /// What it returns. At most 1 MiB as stored; with more the attempt fails for good, and its error says how much it was.
        result: Option<Struct>,
        /// A line for people.
        status_detail: String,
    },
    /// The attempt failed.
    Failed {
        /// Why, for people.
        message: String,
        /// Why, for programs: UPPER_SNAKE of at most 63 bytes; TASK_FAILED if empty.
        reason: String,
        /// Do not try again, even if attempts are left.
        permanent: bool,
        /// The pause before the next attempt, instead of the retry policy's.
        retry_after: Option<Duration>,
        /// A line for people.
        status_detail: String,
    },
    /// The worker gives the task back: it is queued again at no cost.
    Released {
        /// Why, for people.
        reason: String,
    },
    /// The work was stopped because of a request to cancel.
    Cancelled {
        /// A line for people.
        status_detail: String,
    },
}

impl Outcome {
    /// Success, with nothing more to say.
    pub fn success() -> Self {
        Self::Succeeded {
            result: None,
            status_detail: String::new(),
        }
    }

    /// Success, with what the task returns.
    pub fn success_with(result: Struct) -> Self {
        Self::Succeeded {
            result: Some(result),
            status_detail: String::new(),
        }
    }

    /// A failure that another attempt may mend.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            reason: String::new(),
            permanent: false,
            retry_after: None,
            status_detail: String::new(),
        }
    }

    /// Gives the task back.
    pub fn released(reason: impl Into<String>) -> Self {
        Self::Released {
            reason: reason.into(),
        }
    }

    /// As the protocol says it, within its limits.
    pub(super) fn into_report(self) -> Report {
        let text = |text| truncated(text, MAX_TEXT_BYTES);
        match self {
            Self::Succeeded {
                result,
                status_detail,
            } => match result.map(checked).transpose() {
                Ok(result) => Report::Success(Success {
                    result,
                    status_detail: text(status_detail),
                }),
                Err(problem) => Report::Failure(Failure {
                    message: text(problem),
                    reason: BAD_RESULT.to_owned(),
                    permanent: true,
                    retry_after: None,
                    status_detail: text(status_detail),
                }),
            },
            Self::Failed {
                message,
                reason,
                permanent,
                retry_after,
                status_detail,
            } => Report::Failure(Failure {
                message: if message.is_empty() {
                    "the task failed without a word".to_owned()
                } else {
                    text(message)
                },
                reason: truncated(reason, MAX_REASON_BYTES),
                permanent,
                retry_after: retry_after
                    .and_then(|pause| pause.min(MAX_RETRY_AFTER).try_into().ok()),
                status_detail: text(status_detail),
            }),
            Self::Released { reason } => Report::Release(Release {
                reason: text(reason),
            }),
            Self::Cancelled { status_detail } => Report::Cancelled(Cancelled {
                status_detail: text(status_detail),
            }),
        }
    }
}

/// The result as the server stores it, or why it would not.
fn checked(result: Struct) -> Result<Struct, String> {
    let result = result
        .canonical()
        .map_err(|error| format!("the task succeeded, but its result is {error}"))?;
    let bytes = result.encoded().len();
    if bytes > MAX_RESULT_BYTES {
        return Err(format!(
            "the task succeeded, but its result has {bytes} bytes, and at most {MAX_RESULT_BYTES} are stored"
        ));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_the_server_would_refuse_fails_the_task() {
        let large = serde_json::json!({ "text": "x".repeat(MAX_RESULT_BYTES) });
        let large = Struct::from_json(&large).expect("an object");
        for bad in [large, Struct::from_encoded(b"\xff\xff".as_slice().into())] {
            let report = Outcome::success_with(bad).into_report();
            assert!(
                matches!(&report, Report::Failure(failure) if failure.reason == BAD_RESULT && failure.permanent),
                "{report:?}"
            );
        }
    }

    #[test]
    fn texts_are_cut_to_what_the_server_takes() {
        let Report::Failure(failure) = Outcome::failure("x".repeat(5000)).into_report() else {
            panic!("a failure");
        };
        assert_eq!(failure.message.len(), MAX_TEXT_BYTES);
        let Report::Failure(failure) = Outcome::failure("").into_report() else {
            panic!("a failure");
        };
        assert!(!failure.message.is_empty(), "the message is required");
    }
}
