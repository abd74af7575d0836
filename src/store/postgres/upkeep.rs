//! What has to be done now and then, by any node: ranges for jobs to come, and the end of those that are over, with all that is left in them.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    leftovers::{self, Place, TOMBSTONES_AT_ONCE},
    partitions,
    readers::Readers,
};

/// How often it is looked after: often beside the narrowest range there is.
const INTERVAL: Duration = Duration::from_secs(60);
/// Slices of each kind in one turn, so that none lasts; what is left then is done in the next one.
const MAX_SLICES: usize = 2_000;
/// Slices of rows in which nothing was left, until the next turn: who comes by where there is little to do is not to keep the disks busy.
const MAX_IN_VAIN: usize = 50;

/// Goes on for as long as it is polled. `retention`: how long finished jobs stay; `width`: of a range.
pub(super) async fn run(readers: Arc<Readers>, retention: Duration, width: Duration) {
    // In a range that has ended for longer, a job is an exception.
    let kept = retention + width;
    let mut place = Place::default();
    loop {
        sleep(INTERVAL).await;
        make_and_drop(&readers, width).await;
        remove_leftovers(&readers, kept, &mut place).await;
        tidy(&readers).await;
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

/// Goes round the ranges whose time is over, some way with each turn.
async fn remove_leftovers(readers: &Readers, kept: Duration, place: &mut Place) {
    let mut in_vain = 0;
    for _slice in 0..MAX_SLICES {
        let from = place.clone();
        let removed = readers.read(move |client| Box::pin(leftovers::remove(client, kept, from)));
        match removed.await {
            Ok(slice) => {
                in_vain += usize::from(slice.removed == 0);
                let is_over = slice.next.is_none();
                *place = slice.next.unwrap_or_default();
                if is_over || in_vain >= MAX_IN_VAIN {
                    break;
                }
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
    for _slice in 0..MAX_SLICES {
        match readers
            .read(|client| Box::pin(leftovers::tidy_now(client)))
            .await
        {
            Ok(removed) if removed == TOMBSTONES_AT_ONCE => {}
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(%error, "what is left of removed jobs could not be taken away; trying again in a minute");
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
