//! The audit log as it grows, through disconnects and restarts of the server.
//!
//! Invariant: no record is told twice, and none is left out without a word: after a disconnect the newest ones come again, and are told apart by their ids.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::time::timeout;
use tonic::Streaming;

use super::{Backoff, Calls, ClientError};
use crate::proto::v1::{
    AuditRecord, WatchAuditRequest, WatchAuditResponse, admin_service_client::AdminServiceClient,
};

/// Records asked for with each connection: the most that the server gives. What was written during a longer outage is missed.
const NEWEST: usize = 1_000;
/// Ids that are remembered: of all that may come again, with room for those that several servers wrote in another order.
const REMEMBERED: usize = 4 * NEWEST;
/// After which silence the connection counts as dead: twice as long as the server lets pass, and some.
const MAX_SILENCE: Duration = Duration::from_secs(35);

/// How to follow the audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// Of which tenant; of all that the caller reaches if empty.
    pub tenant: String,
    /// How many of the newest records come first; at most 1,000.
    pub newest: usize,
}

/// What is told of the log.
#[derive(Debug)]
pub enum AuditUpdate {
    /// New records, oldest first.
    Records {
        /// The records.
        records: Vec<AuditRecord>,
        /// More were written while the server could not be reached than it gives at once: `ListAudit` has them all.
        missed: bool,
    },
    /// Nothing was written, and the server is there.
    Heartbeat,
    /// The connection broke; it goes on by itself.
    Disconnected {
        /// Why.
        error: ClientError,
        /// When it tries again.
        retry_in: Duration,
    },
}

/// The records of the log, for ever. Made by [`Client::watch_audit`](super::Client::watch_audit); does nothing unless it is read.
#[must_use = "it does nothing unless it is read"]
pub struct AuditWatch {
    updates: BoxStream<'static, Result<AuditUpdate, ClientError>>,
}

impl AuditWatch {
    pub(super) fn new(service: AdminServiceClient<Calls>, options: AuditOptions) -> Self {
        let follower = Follower {
            service,
            options,
            told: Told::default(),
            link: Link::Down(Duration::ZERO),
            backoff: Backoff::default(),
        };
        let updates = futures_util::stream::unfold(follower, |mut follower| async {
            let update = follower.next().await?;
            Some((update, follower))
        });
        Self {
            updates: updates.boxed(),
        }
    }

    /// The next update; none after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<AuditUpdate, ClientError>> {
        self.updates.next().await
    }
}

impl fmt::Debug for AuditWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditWatch").finish_non_exhaustive()
    }
}

/// Where it is with its connection.
enum Link {
    /// To be opened, after a pause.
    Down(Duration),
    /// Open, and nothing has come yet.
    New(Box<Streaming<WatchAuditResponse>>),
    /// Open.
    Up(Box<Streaming<WatchAuditResponse>>),
    /// It is over.
    Ended,
}

struct Follower {
    service: AdminServiceClient<Calls>,
    options: AuditOptions,
    told: Told,
    link: Link,
    backoff: Backoff,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<AuditUpdate, ClientError>> {
        loop {
            let received = match &mut self.link {
                Link::Ended => return None,
                Link::Down(pause) => {
                    tokio::time::sleep(*pause).await;
                    match self.open().await {
                        Ok(stream) => {
                            self.link = Link::New(Box::new(stream));
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                Link::New(stream) | Link::Up(stream) => {
                    match timeout(MAX_SILENCE, stream.message()).await {
                        Ok(Ok(Some(message))) => Ok(message.records),
                        Ok(Ok(None)) => Err(ClientError::EndedEarly),
                        Ok(Err(status)) => Err(status.into()),
                        Err(_) => Err(ClientError::Silent(MAX_SILENCE)),
                    }
                }
            };
            return Some(match received {
                Ok(records) => Ok(self.take(records)),
                Err(error) => self.disconnected(error),
            });
        }
    }

    async fn open(&mut self) -> Result<Streaming<WatchAuditResponse>, ClientError> {
        let request = WatchAuditRequest {
            tenant: self.options.tenant.clone(),
            // As many as there can be, however few are wanted: they are known then if they come again.
            newest: NEWEST as i32,
        };
        match timeout(MAX_SILENCE, self.service.watch_audit(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(ClientError::Silent(MAX_SILENCE)),
        }
    }

    fn take(&mut self, records: Vec<AuditRecord>) -> AuditUpdate {
        self.backoff.reset();
        let is_first = self.told.is_new;
        let mut missed = false;
        match std::mem::replace(&mut self.link, Link::Ended) {
            Link::New(stream) => {
                missed = !is_first && records.len() >= NEWEST && !self.told.knows_any_of(&records);
                self.link = Link::Up(stream);
            }
            link => self.link = link,
        }
        let mut new = self.told.new_of(records);
        if is_first {
            let surplus = new.len().saturating_sub(self.options.newest);
            new.drain(..surplus);
        }
        match new.is_empty() {
            true => AuditUpdate::Heartbeat,
            false => AuditUpdate::Records {
                records: new,
                missed,
            },
        }
    }

    /// Decides whether to go on after an error.
    fn disconnected(&mut self, error: ClientError) -> Result<AuditUpdate, ClientError> {
        if !error.is_retryable() {
            self.link = Link::Ended;
            return Err(error);
        }
        let retry_in = self.backoff.pause_after(&error);
        self.link = Link::Down(retry_in);
        Ok(AuditUpdate::Disconnected { error, retry_in })
    }
}

/// The ids of what was told last.
struct Told {
    /// Nothing has come yet.
    is_new: bool,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            is_new: true,
            ids: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl Told {
    fn knows_any_of(&self, records: &[AuditRecord]) -> bool {
        records.iter().any(|record| self.ids.contains(&record.id))
    }

    /// Those that were not told yet; from now on they were.
    fn new_of(&mut self, mut records: Vec<AuditRecord>) -> Vec<AuditRecord> {
        self.is_new = false;
        records.retain(|record| {
            let is_new = self.ids.insert(record.id.clone());
            if is_new {
                self.order.push_back(record.id.clone());
            }
            is_new
        });
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;
    use crate::client::scripted::{Call, ScriptedServer};

    type Server = ScriptedServer<WatchAuditRequest, WatchAuditResponse>;

    fn message(ids: impl IntoIterator<Item = usize>) -> WatchAuditResponse {
        let records = ids.into_iter().map(|id| AuditRecord {
            id: id.to_string(),
            ..Default::default()
        });
        WatchAuditResponse {
            records: records.collect(),
        }
    }

    async fn told(watch: &mut AuditWatch) -> (Vec<usize>, bool) {
        match watch.next().await {
            Some(Ok(AuditUpdate::Records { records, missed })) => {
                let ids = records.iter().map(|record| record.id.parse().unwrap());
                (ids.collect(), missed)
            }
            Some(Ok(AuditUpdate::Heartbeat)) => (Vec::new(), false),
            other => panic!("no records: {other:?}"),
        }
    }

    async fn call(
        server: &mut Server,
        watch: &mut AuditWatch,
    ) -> Call<WatchAuditRequest, WatchAuditResponse> {
        tokio::select! {
            call = server.next_call() => call,
            update = watch.next() => panic!("{update:?}"),
        }
    }

    async fn is_lost(watch: &mut AuditWatch) {
        let update = watch.next().await;
        assert!(
            matches!(update, Some(Ok(AuditUpdate::Disconnected { .. }))),
            "{update:?}"
        );
    }

    #[tokio::test]
    async fn what_comes_again_after_a_disconnect_is_not_told_again() {
        let mut server = Server::start().await;
        let options = AuditOptions {
            newest: 2,
            ..Default::default()
        };
        let mut watch = server.client().await.watch_audit(options);
        let first = call(&mut server, &mut watch).await;
        first.answer(message(0..5)).await;
        assert_eq!(told(&mut watch).await, (vec![3, 4], false));
        first.answer(message([])).await;
        first.answer(message([5])).await;
        assert_eq!(told(&mut watch).await, (vec![], false));
        assert_eq!(told(&mut watch).await, (vec![5], false));
        first.fail(Status::unavailable("draining")).await;
        is_lost(&mut watch).await;

        // What was not shown at the beginning was not asked for; and one that was written elsewhere stands between the known ones.
        let second = call(&mut server, &mut watch).await;
        second.answer(message([1, 2, 3, 4, 99, 5, 6])).await;
        assert_eq!(told(&mut watch).await, (vec![99, 6], false));
        drop(second);
        is_lost(&mut watch).await;

        let third = call(&mut server, &mut watch).await;
        third.answer(message(1_000..2_000)).await;
        let (ids, missed) = told(&mut watch).await;
        assert!(missed, "more than a thousand may have been written");
        assert_eq!(ids.len(), 1_000);
        third.answer(message(2_000..3_000)).await;
        assert!(!told(&mut watch).await.1);
        third.fail(Status::permission_denied("no more")).await;
        let refused = watch.next().await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("no more"), "{refused}");
        assert!(watch.next().await.is_none());
    }
}
