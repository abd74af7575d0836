//! A few connections that only read, each for one short look at one moment of the store.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::task;
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, open};
use crate::store::StoreError;

/// Connections at the most: a read waits for the processor, not for the disk, and machines that run the embedded store are small.
pub(super) const READERS: usize = 4;

/// The connections, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    // Last: the directory's lock must outlive the connections.
    shared: Arc<Shared>,
}

impl Readers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            idle: Mutex::new(Vec::with_capacity(READERS)),
            shared,
        }
    }

    /// Runs `look` on a thread that may block; all that it reads is of one moment, which includes every commit that was answered before.
    pub(super) async fn read<T, F>(self: &Arc<Self>, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let readers = Arc::clone(self);
        // In a task of its own: a call that waits to be read from is not polled, and would keep a turn that came to it from all others.
        let read = task::spawn(async move {
            let turn = Arc::clone(&readers.shared.turns).acquire_owned().await;
            let turn = turn.map_err(|closed| StoreError::Failed(closed.to_string()))?;
            // The turn is over when the read is, even if nobody waits for it any more.
            let read = move || {
                let seen = readers.read_now(look);
                drop(turn);
                seen
            };
            task::spawn_blocking(read).await.map_err(gone)?
        });
        AbortOnDropHandle::new(read).await.map_err(gone)?
    }

    fn read_now<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open::reader(&self.shared.dir)?,
        };
        let moment = connection.unchecked_transaction()?;
        let seen = look(&moment);
        moment.rollback()?;
        self.idle().push(connection);
        seen
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // The list is in order whatever happened to whoever held it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(error: task::JoinError) -> StoreError {
    StoreError::Failed(format!("a read was given up: {error}"))
}
