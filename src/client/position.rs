//! Where a watch is: checks that the revisions of its messages tile, and turns messages into updates. No IO.
//!
//! Invariant: `revision` is the newest revision that the caller has been told about, so it is what to resume from.

use super::{ClientError, WatchUpdate};
use crate::proto::v1::{WatchJobResponse, watch_job_response::Kind};

/// How far the caller knows a job.
#[derive(Debug)]
pub(super) struct Position {
    job_id: String,
    revision: u64,
}

impl Position {
    pub(super) fn new(job_id: &str, after_revision: u64) -> Self {
        Self {
            job_id: job_id.to_owned(),
            revision: after_revision,
        }
    }

    pub(super) fn job_id(&self) -> &str {
        &self.job_id
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes a message in. `None` for one that tells the caller nothing: that the server is about to go, or a kind that is newer than this client.
    ///
    /// # Errors
    /// The message does not continue where the last one ended, or is a snapshot without a job.
    pub(super) fn advance(
        &mut self,
        message: WatchJobResponse,
    ) -> Result<Option<WatchUpdate>, ClientError> {
        let kind = message.kind();
        let WatchJobResponse {
            job,
            kind: _,
            from_revision,
            revision,
            coalesced,
            r#final: is_final,
            reset,
        } = message;
        let tiles = match kind {
            Kind::Snapshot if reset => true,
            // Only the last snapshot may repeat what is known: it says that there is no more.
            Kind::Snapshot => {
                from_revision == self.revision
                    && (revision > from_revision || is_final && revision == from_revision)
            }
            Kind::Synced | Kind::Heartbeat | Kind::Draining => revision == self.revision,
            Kind::Unspecified => true,
        };
        if !tiles {
            return Err(ClientError::Gap {
                job_id: self.job_id.clone(),
                known: self.revision,
                from_revision,
                revision,
            });
        }
        Ok(match kind {
            Kind::Snapshot => {
                let job = job.ok_or(ClientError::Malformed("a snapshot without a job"))?;
                self.revision = revision;
                Some(WatchUpdate::Snapshot {
                    job: Box::new(job),
                    from_revision,
                    revision,
                    coalesced,
                    is_final,
                    reset,
                })
            }
            Kind::Synced => Some(WatchUpdate::Synced { revision }),
            Kind::Heartbeat => Some(WatchUpdate::Heartbeat { revision }),
            Kind::Draining | Kind::Unspecified => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::v1::Job;

    fn snapshot(from_revision: u64, revision: u64) -> WatchJobResponse {
        WatchJobResponse {
            job: Some(Job::default()),
            kind: Kind::Snapshot.into(),
            from_revision,
            revision,
            ..Default::default()
        }
    }

    fn mark(kind: Kind, revision: u64) -> WatchJobResponse {
        WatchJobResponse {
            kind: kind.into(),
            from_revision: revision,
            revision,
            ..Default::default()
        }
    }

    fn is_gap(result: Result<Option<WatchUpdate>, ClientError>) -> bool {
        matches!(result, Err(ClientError::Gap { .. }))
    }

    proptest! {
        #[test]
        fn ranges_that_tile_are_taken_and_others_are_not(steps in prop::collection::vec(1_u64..50, 1..20), wrong in 1_u64..100) {
            let mut position = Position::new("j", 0);
            for step in steps {
                let known = position.revision();
                prop_assert!(is_gap(position.advance(snapshot(known + wrong, known + wrong + 1))));
                prop_assert!(is_gap(position.advance(snapshot(known.wrapping_sub(wrong), known + 1))));
                prop_assert_eq!(position.revision(), known);
                prop_assert!(position.advance(snapshot(known, known + step)).is_ok());
                prop_assert_eq!(position.revision(), known + step);
            }
        }
    }

    #[test]
    fn heartbeats_may_not_be_ahead_of_what_was_sent() {
        let mut position = Position::new("j", 4);
        assert!(matches!(
            position.advance(mark(Kind::Synced, 4)),
            Ok(Some(WatchUpdate::Synced { revision: 4 }))
        ));
        assert!(matches!(
            position.advance(mark(Kind::Heartbeat, 4)),
            Ok(Some(WatchUpdate::Heartbeat { revision: 4 }))
        ));
        assert!(is_gap(position.advance(mark(Kind::Heartbeat, 5))));
        assert!(is_gap(position.advance(mark(Kind::Synced, 3))));
        assert!(matches!(
            position.advance(mark(Kind::Draining, 4)),
            Ok(None)
        ));
    }

    #[test]
    fn a_final_snapshot_may_repeat_the_known_revision() {
        let mut position = Position::new("j", 4);
        assert!(is_gap(position.advance(snapshot(4, 4))));
        let last = WatchJobResponse {
            r#final: true,
            ..snapshot(4, 4)
        };
        assert!(matches!(
            position.advance(last),
            Ok(Some(WatchUpdate::Snapshot { is_final: true, .. }))
        ));
    }

    #[test]
    fn a_reset_goes_back() {
        let mut position = Position::new("j", 40);
        let reset = WatchJobResponse {
            reset: true,
            ..snapshot(0, 7)
        };
        assert!(matches!(
            position.advance(reset),
            Ok(Some(WatchUpdate::Snapshot {
                reset: true,
                revision: 7,
                ..
            }))
        ));
        assert_eq!(position.revision(), 7);
    }
}
