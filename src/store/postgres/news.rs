//! Telling the other nodes that something is new, and being told.
//!
//! A notification only wakes: the feed is read all the same, at intervals if need be. It is not part of a commit, because those with one go through a lock
//! of the whole server one after another; it follows soon after, one for all commits of a moment.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::AsyncMessage;
use uuid::Uuid;

use super::{
    connect::{Connector, Pauses},
    fault,
    readers::Readers,
};
use crate::store::{StoreError, TAIL_INTERVAL};

/// Between two notifications of a node, at least.
const PACE: Duration = Duration::from_millis(5);
/// What is listened to. A pooler that has no sessions passes nothing on, which does no harm.
const LISTEN: &str = "LISTEN longhaul";

/// What wakes whom.
#[derive(Debug)]
pub(super) struct News {
    /// Tells this node's notifications from others'.
    node: Uuid,
    /// There are commits that the others have not been told of.
    untold: Notify,
    /// There may be something new in the feed.
    new: Notify,
}

impl News {
    pub(super) fn new() -> Self {
        Self {
            node: Uuid::new_v4(),
            untold: Notify::new(),
            new: Notify::new(),
        }
    }

    /// This node.
    pub(super) fn node(&self) -> Uuid {
        self.node
    }

    /// This node has committed something.
    pub(super) fn committed(&self) {
        self.untold.notify_one();
        self.new.notify_one();
    }

    /// Resolves when there may be something new: when somebody says so, and by and by if nobody does.
    pub(super) async fn heard_or_due(&self) {
        // By nobody: then it is time to look anyway.
        let _ = timeout(TAIL_INTERVAL, self.new.notified()).await;
    }
}

/// Tells the others of this node's commits, for as long as it is polled. What can not be told they find by themselves.
pub(super) async fn tell(news: Arc<News>, readers: Arc<Readers>) {
    // Without an fsync: nothing is lost with it. The node's id is no text of anybody else's.
    let notify = format!(
        "BEGIN; SET LOCAL synchronous_commit = off; NOTIFY longhaul, '{}'; COMMIT",
        news.node.simple()
    );
    loop {
        news.untold.notified().await;
        let sql = notify.clone();
        let told = readers
            .read_own(move |client| Box::pin(async move { Ok(client.batch_execute(&sql).await?) }));
        if let Err(error) = told.await {
            tracing::debug!(%error, "the other nodes could not be notified");
        }
        sleep(PACE).await;
    }
}

/// Listens to the others, for as long as it is polled, with a connection of its own that is made again when it is lost.
pub(super) async fn listen(news: Arc<News>, connector: Connector) {
    let mut pauses = Pauses::default();
    let mut is_lost = false;
    loop {
        if let Err(error) = listen_once(&news, &connector, &mut pauses).await {
            match is_lost {
                true => tracing::debug!(%error, "still no notifications"),
                false => {
                    tracing::warn!(%error, "no notifications from other nodes for now: they are asked at intervals")
                }
            }
        }
        is_lost = true;
        sleep(pauses.next().unwrap_or_default()).await;
    }
}

/// Until the connection ends.
async fn listen_once(
    news: &News,
    connector: &Connector,
    pauses: &mut Pauses,
) -> Result<(), StoreError> {
    let (client, mut connection) = connector.connect().await?;
    let own = news.node.simple().to_string();
    let hear = poll_fn(|cx| {
        while let Some(message) = std::task::ready!(connection.poll_message(cx)) {
            match message {
                Ok(AsyncMessage::Notification(told)) if told.payload() != own => {
                    news.new.notify_one();
                }
                Ok(_) => {}
                Err(error) => return std::task::Poll::Ready(Err(fault::of(&error))),
            }
        }
        std::task::Poll::Ready(Ok(()))
    });
    let ask = async {
        client.batch_execute(LISTEN).await?;
        *pauses = Pauses::default();
        // What was told before this is not told again.
        news.new.notify_one();
        // The client has to stay: the connection ends with it.
        std::future::pending::<Result<(), StoreError>>().await
    };
    tokio::select! {
        ended = hear => ended,
        failed = ask => failed,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime's time, which stands still but for timers"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_look_each_second_though_nobody_says_anything() {
        let news = News::new();
        let begin = now();
        for second in 1..=3 {
            news.heard_or_due().await;
            // Timers go by milliseconds, and never off too soon.
            assert_eq!(begin.elapsed().as_secs(), second);
        }
        news.committed();
        news.heard_or_due().await;
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
}
