//! What has to be done now and then, by any node: ranges for jobs to come, and the end of those that are over, with all that is left in them.

use std::{pin::pin, sync::Arc, time::Duration};

use deadpool_postgres::ClientWrapper;
use futures_util::{future::BoxFuture, poll};
use tokio::time::sleep;

use super::{
    leftovers::{self, OLD_AT_ONCE, Place, ROWS_AT_ONCE, Slice},
    partitions,
    readers::Readers,
};
use crate::store::StoreError;

/// How often it is looked after: often beside the narrowest range there is.
const INTERVAL: Duration = Duration::from_secs(60);
/// Slices of each kind in one turn, so that none lasts; what is left then is done in the next one.
const MAX_SLICES: usize = 2_000;
/// Slices of rows in which nothing was left, until the next turn: who comes by where there is little to do is not to keep the disks busy.
const MAX_IN_VAIN: usize = 50;
/// How long a turn of them lasts, about.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// Goes on for as long as it is polled. `retention`: how long finished jobs stay; `width`: of a range.
pub(super) async fn run(readers: Arc<Readers>, retention: Duration, width: Duration) {
    // In a range that has ended for longer, a job is an exception.
    let kept = retention + width;
    let mut round = Round::default();
    loop {
        sleep(INTERVAL).await;
        make_and_drop(&readers, width).await;
        remove_leftovers(&readers, kept, &mut round).await;
        tidy(&readers).await;
        tidy_audit(&readers).await;
    }
}

async fn make_and_drop(readers: &Readers, width: Duration) {
    let made = readers.read(move |client| Box::pin(partitions::make(client, width)));
    if let Err(error) = made.await {
        tracing::warn!(%error, "ranges for the jobs to come could not be made; trying again in a minute");
    }
    loop {
        match readers
            .read(|client| Box::pin(partitions::drop_empty(client)))
            .await
        {
            Ok(true) => {}
            Ok(false) => break,
            // Somebody was in the way, most likely.
            Err(error) => {
                tracing::debug!(%error, "a range of jobs could not be dropped; trying again in a minute");
                break;
            }
        }
    }
}

/// How far a round has come that goes through all ranges whose time is over.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    place: Place,
    /// Rows to look at next.
    rows: usize,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            place: Place::default(),
            rows: *ROWS_AT_ONCE.end(),
        }
    }
}

/// Goes some way of the round, and begins the next one behind its end.
async fn remove_leftovers(readers: &Readers, kept: Duration, round: &mut Round) {
    let mut in_vain = 0;
    let mut turn = pin!(sleep(LONGEST_TURN));
    for _slice in 0..MAX_SLICES {
        if poll!(turn.as_mut()).is_ready() {
            break;
        }
        let (from, rows) = (round.place.clone(), round.rows);
        let slice =
            readers.read(move |client| Box::pin(leftovers::remove(client, kept, from, rows)));
        match slice.await {
            Ok(Slice::GoOn { removed, next }) => {
                *round = Round {
                    place: next,
                    rows: (2 * rows).min(*ROWS_AT_ONCE.end()),
                };
                in_vain += usize::from(removed == 0);
                if in_vain >= MAX_IN_VAIN {
                    break;
                }
            }
            Ok(Slice::Over) => {
                *round = Round::default();
                break;
            }
            // The place is kept: they may stop before they are there.
            Ok(Slice::Elsewhere) => break,
            // The server has ended it.
            Err(StoreError::Busy(error)) if rows > *ROWS_AT_ONCE.start() => {
                tracing::debug!(
                    error,
                    rows,
                    "what removed jobs have left goes in smaller slices"
                );
                round.rows = rows / 2;
            }
            Err(error) => {
                tracing::warn!(%error, "what removed jobs have left could not be taken away; trying again in a minute");
                break;
            }
        }
    }
}

/// Takes away all tombstones that are old enough.
async fn tidy(readers: &Readers) {
    if let Err(error) = remove_old(readers, |client| Box::pin(leftovers::tidy(client))).await {
        tracing::warn!(%error, "what is left of removed jobs could not be taken away; trying again in a minute");
    }
}

/// Takes away what is too old of the audit log.
async fn tidy_audit(readers: &Readers) {
    if let Err(error) = remove_old(readers, |client| Box::pin(leftovers::tidy_audit(client))).await
    {
        tracing::warn!(%error, "what is too old of the audit log could not be taken away; trying again in a minute");
    }
}

/// One slice after another, until one finds no more.
async fn remove_old(
    readers: &Readers,
    slice: for<'a> fn(&'a ClientWrapper) -> BoxFuture<'a, Result<usize, StoreError>>,
) -> Result<(), StoreError> {
    for _slice in 0..MAX_SLICES {
        if readers.read(slice).await? < OLD_AT_ONCE {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
