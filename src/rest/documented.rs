//! The state of a job as the documents of these systems tell it: one word for how far it is and how it went, by which their clients end their loops.
//!
//! Two dialects show it. Clients loop until it is NORMAL, PARTIAL_FAILURES or ERROR, so these three are said of jobs that have ended and of no others.

use crate::domain::{JobState, Status};

/// The word for a job in this state and status.
pub(super) fn state(state: JobState, status: Status) -> &'static str {
    match (state, status) {
        (JobState::Queued | JobState::Running | JobState::Cancelling, Status::Warning) => "WARNING",
        (JobState::Queued, Status::Normal | Status::PartialFailures | Status::Error) => "QUEUED",
        (
            JobState::Running | JobState::Cancelling,
            Status::Normal | Status::PartialFailures | Status::Error,
        ) => "RUNNING",
        // A warning is no failure, and the documents have no loop that ends with WARNING.
        (JobState::Succeeded, _) => "NORMAL",
        (JobState::Failed, Status::PartialFailures) => "PARTIAL_FAILURES",
        (JobState::Failed, Status::Normal | Status::Warning | Status::Error)
        | (JobState::Cancelled, _) => "ERROR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: [&str; 3] = ["NORMAL", "PARTIAL_FAILURES", "ERROR"];

    #[test]
    fn the_words_that_end_a_loop_are_said_of_ended_jobs_alone() {
        for job in JobState::ALL {
            for status in Status::ALL {
                let word = state(job, status);
                assert_eq!(
                    LAST.contains(&word),
                    job.is_terminal(),
                    "{job:?} {status:?}: {word}"
                );
            }
        }
    }

    #[test]
    fn each_outcome_has_its_word() {
        for (job, status, word) in [
            (JobState::Queued, Status::Normal, "QUEUED"),
            (JobState::Queued, Status::Warning, "WARNING"),
            (JobState::Running, Status::Normal, "RUNNING"),
            (JobState::Running, Status::Warning, "WARNING"),
            (JobState::Cancelling, Status::Normal, "RUNNING"),
            (JobState::Cancelling, Status::Warning, "WARNING"),
            (JobState::Succeeded, Status::Normal, "NORMAL"),
            (JobState::Succeeded, Status::Warning, "NORMAL"),
            (
                JobState::Failed,
                Status::PartialFailures,
                "PARTIAL_FAILURES",
            ),
            (JobState::Failed, Status::Error, "ERROR"),
            (JobState::Cancelled, Status::Error, "ERROR"),
        ] {
            assert_eq!(state(job, status), word, "{job:?} {status:?}");
        }
    }
}
