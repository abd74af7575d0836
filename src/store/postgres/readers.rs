//! The connections that read: as many as were granted, made when they are needed, and none while the database is away. One of them is the node's own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult},
};
use deadpool_postgres::ClientWrapper;
use futures_util::future::BoxFuture;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use super::{
    connect::{Connector, Pauses},
    session,
};
use crate::store::StoreError;

/// How long a read waits for a connection that others use.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a read may take: far longer than any does on a server that is alive.
const LONGEST_READ: Duration = Duration::from_secs(30);

type Pool = managed::Pool<Maker>;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers {
    /// For what callers read.
    for_calls: Pool,
    /// For what the node itself has to hear and to say, which is not to wait behind what callers read. The same one if there is only one connection.
    own: Pool,
    /// Of the reads that are under way; they end with this.
    end: CancellationToken,
    _end: DropGuard,
}

impl Readers {
    pub(super) fn new(connector: Connector, connections: usize) -> Self {
        let gate = Arc::default();
        let pool = |connections| {
            let maker = Maker {
                connector: connector.clone(),
                gate: Arc::clone(&gate),
            };
            managed::Pool::builder(maker)
                .max_size(connections)
                .wait_timeout(Some(PATIENCE))
                .runtime(Runtime::Tokio1)
                .build()
                .expect("only a time limit without a runtime can not be built, and there is one")
        };
        let for_calls = pool(connections.saturating_sub(1).max(1));
        let own = match connections {
            0 | 1 => for_calls.clone(),
            _ => pool(1),
        };
        let end = CancellationToken::new();
        Self {
            for_calls,
            own,
            _end: end.clone().drop_guard(),
            end,
        }
    }

    /// What a caller asks for.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.read_by(&self.for_calls, read).await
    }

    /// What the node itself has to hear or to say: little, and soon.
    pub(super) async fn read_own<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.read_by(&self.own, read).await
    }

    /// Reads with a connection of its own, in a task of its own: a call whose client takes nothing is not polled, and would keep what it has from all
    /// others. A read that nobody waits for any more is not begun; if it has begun it ends, so that the server is not left at work for nobody.
    async fn read_by<T, F>(&self, pool: &Pool, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (mut reply, answer) = oneshot::channel();
        let pool = pool.clone();
        let task = async move {
            let client = tokio::select! {
                client = pool.get() => client,
                () = reply.closed() => return,
            };
            let answer = match client {
                Ok(client) => read_with(client, read).await,
                Err(error) => Err(no_connection(error, pool.status().max_size)),
            };
            // To whoever still waits.
            let _ = reply.send(answer);
        };
        tokio::spawn(self.end.clone().run_until_cancelled_owned(task));
        answer
            .await
            .map_err(|_| StoreError::Failed("a read was given up".into()))?
    }
}

/// A connection that did not answer in time is not used again.
async fn read_with<T, F>(client: Object<Maker>, read: F) -> Result<T, StoreError>
where
    F: for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>,
{
    let mut taken = Taken(Some(client));
    let Some(client) = &taken.0 else {
        return Err(StoreError::Failed("a connection was given away".into()));
    };
    let answer = timeout(LONGEST_READ, read(client)).await;
    let answer = answer.map_err(|_| {
        StoreError::Unavailable(format!(
            "PostgreSQL did not answer within {} s",
            LONGEST_READ.as_secs()
        ))
    })?;
    // Back to the others.
    drop(taken.0.take());
    answer
}

fn no_connection(error: PoolError<StoreError>, connections: usize) -> StoreError {
    match error {
        PoolError::Timeout(_) => StoreError::Busy(format!(
            "all {connections} connections that read were busy for {} s; grant more with --store-connections",
            PATIENCE.as_secs()
        )),
        PoolError::Backend(error) => error,
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// A connection with a statement under way.
struct Taken(Option<Object<Maker>>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Makes connections, as far as the gate allows.
#[derive(Debug)]
struct Maker {
    connector: Connector,
    gate: Arc<Gate>,
}

impl managed::Manager for Maker {
    type Type = ClientWrapper;
    type Error = StoreError;

    async fn create(&self) -> Result<ClientWrapper, StoreError> {
        if let Some(reason) = self.gate.reason() {
            return Err(StoreError::Unavailable(reason));
        }
        match session::begin(&self.connector).await {
            Ok(client) => {
                self.gate.open_for_good();
                Ok(client)
            }
            Err(error) => {
                if let StoreError::Unavailable(reason) = &error {
                    self.gate.shut(reason);
                }
                Err(error)
            }
        }
    }

    async fn recycle(&self, client: &mut ClientWrapper, _: &Metrics) -> RecycleResult<StoreError> {
        match client.is_closed() {
            true => Err(RecycleError::message("the connection is closed")),
            false => Ok(()),
        }
    }
}

/// Shut for a while after an attempt has failed, so that callers learn it at once and the server is not stormed.
#[derive(Debug, Default)]
struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    /// Why it is shut, and the task that opens it.
    shut: Option<(String, AbortOnDropHandle<()>)>,
    pauses: Pauses,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        // No panic leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reason(&self) -> Option<String> {
        let state = self.state();
        state.shut.as_ref().map(|(reason, _)| reason.clone())
    }

    fn shut(self: &Arc<Self>, reason: &str) {
        let mut state = self.state();
        if state.shut.is_some() {
            return;
        }
        let pause = state.pauses.next().unwrap_or_default();
        let gate = Arc::downgrade(self);
        let open = tokio::spawn(async move {
            sleep(pause).await;
            if let Some(gate) = Weak::upgrade(&gate) {
                gate.state().shut = None;
            }
        });
        state.shut = Some((reason.to_owned(), AbortOnDropHandle::new(open)));
    }

    fn open_for_good(&self) {
        *self.state() = GateState::default();
    }
}
