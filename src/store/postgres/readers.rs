//! The connections that read: as many as were granted, made when they are needed, and none while the database is away. One of them is the node's own.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
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
/// How often it looks for one that has become free while no further one can be made,
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// and how many times.
const MOST_LOOKS: u32 = 100;
/// How long a read may take.
const LONGEST_READ: Duration = session::PATIENCE;
/// The same where little is read, and the server is asked all the time: so a node knows of a server that has fallen silent.
const SOON: Duration = Duration::from_secs(10);

type Pool = managed::Pool<Maker>;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers {
    /// For what callers read.
    for_calls: Pool,
    /// For what the node itself has to hear and to say, which is not to wait behind what callers read. The same one if there is only one connection: then
    /// the server may be at work for some time on what was given up.
    own: Pool,
    /// Of the reads that are under way; they end with this.
    end: CancellationToken,
    _end: DropGuard,
}

impl Readers {
    pub(super) fn new(connector: Connector, connections: usize) -> Self {
        let gate = Arc::default();
        let pool = |connections, longest, is_own| {
            let maker = Maker {
                connector: connector.clone(),
                longest,
                is_own,
                gate: Arc::clone(&gate),
                dialing: AtomicUsize::new(0),
            };
            managed::Pool::builder(maker)
                .max_size(connections)
                .wait_timeout(Some(PATIENCE))
                .runtime(Runtime::Tokio1)
                .build()
                .expect("only a time limit without a runtime can not be built, and there is one")
        };
        let for_calls = pool(connections.saturating_sub(1).max(1), LONGEST_READ, false);
        let own = match connections {
            0 | 1 => for_calls.clone(),
            _ => pool(1, SOON, true),
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
        self.read_by(&self.for_calls, LONGEST_READ, read).await
    }

    /// What the node itself has to hear or to say: little, and soon.
    pub(super) async fn read_own<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.read_by(&self.own, SOON, read).await
    }

    /// Reads with a connection of its own, in a task of its own: a call whose client takes nothing is not polled, and would keep what it has from all
    /// others. A read that nobody waits for any more is not begun; if it has begun it ends, so that the server is not left at work for nobody.
    async fn read_by<T, F>(&self, pool: &Pool, longest: Duration, read: F) -> Result<T, StoreError>
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
                client = connection(&pool) => client,
                () = reply.closed() => return,
            };
            let answer = match client {
                Ok(client) => timeout(longest, read_with(client, read)).await,
                Err(error) => Ok(Err(error)),
            };
            let answer = answer.unwrap_or_else(|_| {
                // The others are not tried one after another: new ones find out soon whether the server is there.
                pool.retain(|_, _| false);
                Err(StoreError::Unavailable(format!(
                    "PostgreSQL did not answer within {} s",
                    longest.as_secs()
                )))
            });
            // To whoever still waits.
            let _ = reply.send(answer);
        };
        tokio::spawn(self.end.clone().run_until_cancelled_owned(task));
        answer
            .await
            .map_err(|_| StoreError::Failed("a read was given up".into()))?
    }
}

/// A connection; as long as no further one can be made, one of those that there are, when it is free.
async fn connection(pool: &Pool) -> Result<Object<Maker>, StoreError> {
    for _ in 0..MOST_LOOKS {
        match pool.get().await {
            Ok(client) => return Ok(client),
            Err(PoolError::Backend(_)) if pool.status().size > 0 => sleep(LOOK_AGAIN).await,
            Err(error) => return Err(no_connection(error, pool)),
        }
    }
    Err(StoreError::Busy(
        "no connection was free for some seconds, and no further one can be made".into(),
    ))
}

/// A connection that did not answer in time is not used again; nor is one on which something failed, which may be the connection's own: a plan that does
/// not fit any more, a statement that a pooler has lost, a transaction that was left open.
async fn read_with<T, F>(client: Object<Maker>, read: F) -> Result<T, StoreError>
where
    F: for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>,
{
    let mut taken = Taken(Some(client));
    let Some(client) = &taken.0 else {
        return Err(StoreError::Failed("a connection was given away".into()));
    };
    let answer = read(client).await;
    if !matches!(
        answer,
        Err(StoreError::Failed(_) | StoreError::Unavailable(_))
    ) {
        // Back to the others.
        drop(taken.0.take());
    }
    answer
}

fn no_connection(error: PoolError<StoreError>, pool: &Pool) -> StoreError {
    let patience = PATIENCE.as_secs();
    match error {
        PoolError::Timeout(_) if pool.manager().dialing.load(Ordering::Relaxed) > 0 => {
            StoreError::Unavailable(format!(
                "no connection to PostgreSQL within {patience} s; attempts are under way"
            ))
        }
        PoolError::Timeout(_) if pool.manager().is_own => StoreError::Busy(format!(
            "the connection on which nodes hear of each other was busy for {patience} s: see why the database is slow"
        )),
        PoolError::Timeout(_) => StoreError::Busy(format!(
            "all {} connections that read were busy for {patience} s; grant more with --store-connections, or see why the database is slow",
            pool.status().max_size
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
    /// How long is waited for what they read.
    longest: Duration,
    /// Whether it is for [`Readers::own`] alone.
    is_own: bool,
    gate: Arc<Gate>,
    /// Attempts that are under way.
    dialing: AtomicUsize,
}

/// One of [`Maker::dialing`].
struct Attempt<'a>(&'a AtomicUsize);

impl<'a> Attempt<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl managed::Manager for Maker {
    type Type = ClientWrapper;
    type Error = StoreError;

    async fn create(&self) -> Result<ClientWrapper, StoreError> {
        if let Some(reason) = self.gate.reason() {
            return Err(StoreError::Unavailable(reason));
        }
        let _attempt = Attempt::new(&self.dialing);
        let limit = session::longest_statement(self.longest);
        match session::begin_with(&self.connector, limit).await {
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
    /// That is in the log.
    is_told: bool,
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
        if !state.is_told {
            state.is_told = true;
            tracing::warn!(
                reason,
                "no further connection to PostgreSQL can be made; trying again until it can"
            );
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

#[cfg(test)]
mod tests {
    use super::{super::cluster::Database, *};

    async fn pid(readers: &Readers) -> Result<i32, StoreError> {
        let ask = "SELECT pg_backend_pid()";
        let read = readers.read(move |client| {
            Box::pin(async move { Ok(session::query_one(client, ask, &[]).await?.try_get(0)?) })
        });
        read.await
    }

    #[tokio::test]
    async fn a_connection_that_was_cut_is_replaced() {
        let database = Database::fresh();
        let connector = Connector::new(database.url().parse().expect("an address"));
        let readers = Readers::new(connector, 2);
        let first = pid(&readers).await.expect("an answer");
        assert_eq!(pid(&readers).await.expect("an answer"), first);
        assert_eq!(database.kill_backends("longhaul"), 1);
        // The first one may find out.
        let next = match pid(&readers).await {
            Ok(next) => next,
            Err(_) => pid(&readers).await.expect("an answer"),
        };
        assert_ne!(next, first);
    }

    #[tokio::test]
    async fn the_server_ends_a_read_before_whoever_waits_gives_it_up() {
        let database = Database::fresh();
        let connector = Connector::new(database.url().parse().expect("an address"));
        let readers = Readers::new(connector, 2);
        fn limit(client: &ClientWrapper) -> BoxFuture<'_, Result<String, StoreError>> {
            Box::pin(async move {
                let row = session::query_one(client, "SHOW statement_timeout", &[]).await?;
                Ok(row.try_get(0)?)
            })
        }
        assert_eq!(readers.read(limit).await.expect("an answer"), "24s");
        assert_eq!(readers.read_own(limit).await.expect("an answer"), "8s");
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_costs_the_others_no_connection() {
        let database = Database::fresh();
        let connector = Connector::new(database.url().parse().expect("an address"));
        let readers = Readers::new(connector, 2);
        let first = pid(&readers).await.expect("an answer");
        fn never(_: &ClientWrapper) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(std::future::pending())
        }
        let silent = readers.read_by(&readers.own, Duration::ZERO, never).await;
        assert!(
            matches!(silent, Err(StoreError::Unavailable(_))),
            "{silent:?}"
        );
        assert_eq!(pid(&readers).await.expect("an answer"), first);
        // The rule can fail: those of its own pool are gone.
        let silent = readers
            .read_by(&readers.for_calls, Duration::ZERO, never)
            .await;
        assert!(
            matches!(silent, Err(StoreError::Unavailable(_))),
            "{silent:?}"
        );
        assert_ne!(pid(&readers).await.expect("an answer"), first);
    }

    #[tokio::test]
    async fn where_no_further_connection_can_be_made_those_that_there_are_serve_all() {
        let database = Database::fresh();
        let connector = Connector::new(database.url().parse().expect("an address"));
        let readers = Readers::new(connector, 6);
        let first = pid(&readers).await.expect("an answer");
        database.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 1', current_database()); END $$");
        let slow = || {
            let ask = "SELECT pg_backend_pid() FROM pg_sleep(0.05)";
            readers.read(move |client| {
                Box::pin(async move {
                    let row = session::query_one(client, ask, &[]).await?;
                    Ok(row.try_get::<_, i32>(0)?)
                })
            })
        };
        let answers = futures_util::future::join_all((0..10).map(|_| slow())).await;
        for answer in answers {
            assert_eq!(answer.expect("an answer"), first);
        }
    }

    #[tokio::test]
    async fn whoever_waits_behind_an_attempt_is_not_told_that_others_read() {
        // It takes connections, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable&connect_timeout=600");
        let readers = Readers::new(Connector::new(url.parse().expect("an address")), 2);
        let (_, refused) = tokio::select! {
            biased;
            first = pid(&readers) => panic!("{first:?}"),
            second = async { ((), pid(&readers).await) } => second,
        };
        let error = refused.expect_err("there is no connection");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("under way"), "{error}");
    }
}
