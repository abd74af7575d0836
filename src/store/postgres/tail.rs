//! The feed for a node: what all of them commit.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Shared, feed, nodes, read};
use crate::{
    domain::{Job, JobKey},
    store::{Connected, FeedCursor, StoreError, Stretch, Tail},
};

/// Jobs that are read at once.
const JOBS_AT_ONCE: usize = 256;

/// See [`Tail`].
pub(super) struct FeedTail {
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl Tail for FeedTail {
    async fn woken(&self) {
        self.shared.news.heard_or_due().await;
    }

    async fn read(&self, after: &FeedCursor) -> Result<Stretch, StoreError> {
        let after = after.clone();
        let readers = &self.shared.readers;
        readers
            .read_own(move |client| Box::pin(async move { feed::stretch(client, &after).await }))
            .await
    }

    async fn jobs(&self, keys: &[JobKey]) -> Result<Vec<Arc<Job>>, StoreError> {
        let mut jobs = Vec::with_capacity(keys.len());
        for keys in keys.chunks(JOBS_AT_ONCE) {
            let keys = keys.to_vec();
            let readers = &self.shared.readers;
            let found = readers
                // It may be much, and what is heard of the others must not wait for it.
                .read(move |client| Box::pin(async move { read::jobs(client, &keys).await }))
                .await?;
            jobs.extend(found.into_iter().map(Arc::new));
        }
        Ok(jobs)
    }

    async fn announce(&self, connected: &[Connected]) -> Result<(), StoreError> {
        let node = self.shared.news.node();
        let roster = nodes::pack(connected)?;
        let readers = &self.shared.readers;
        readers
            .read_own(move |client| {
                let roster = roster.clone();
                Box::pin(async move { nodes::announce(client, node, &roster).await })
            })
            .await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        let node = self.shared.news.node();
        let readers = &self.shared.readers;
        readers
            .read_own(move |client| Box::pin(nodes::leave(client, node)))
            .await
    }

    async fn announced(&self) -> Result<Vec<Connected>, StoreError> {
        let node = self.shared.news.node();
        let readers = &self.shared.readers;
        readers
            .read(move |client| Box::pin(nodes::announced(client, node)))
            .await
    }
}
