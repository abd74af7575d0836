//! What has to be done now and then, by any node: ranges for jobs to come, and the end of those that are over.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{partitions, readers::Readers};

/// How often it is looked after: often beside the narrowest range there is.
const INTERVAL: Duration = Duration::from_secs(60);

/// Goes on for as long as it is polled.
pub(super) async fn run(readers: Arc<Readers>, width: Duration) {
    loop {
        sleep(INTERVAL).await;
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
}
