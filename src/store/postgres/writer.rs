//! The one writer of a node: short transactions on a connection of its own.
//!
//! A transaction begins with the first statement that needs it, in the same packet; it ends with all that was decided and COMMIT, in one packet too.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use futures_util::{
    FutureExt,
    future::{join, join_all, maybe_done},
    poll,
};
use tokio::time::timeout;
use tokio_postgres::Error;

use super::{
    Shared, fault,
    line::Line,
    lock, partitions, queue, read, registry, scan,
    session::{self, prepared},
    write::{self, Step},
};
use crate::{
    domain::{
        Job, JobKey, Timestamp,
        command::{Changes, RequestKey, RequestRecord},
        registry::{Record, RecordKey},
    },
    store::{Committed, Locked, Note, Ready, StoreError, Whose, Writer},
};

/// Shards of the counters: more than there are nodes, mostly, and few enough to sum up.
const COUNTER_SHARDS: i16 = 16;
/// How long one call may take. The server ends by itself what takes longer than [`LIMITS`] say, if it is alive.
const LONGEST_CALL: Duration = Duration::from_secs(35);
/// Nobody waits long for a row: the others' transactions are short. A node that stands still must not hold up the others with what it has locked.
const LIMITS: &str =
    "lock_timeout = '3s'; idle_in_transaction_session_timeout = '2s'; statement_timeout = '30s'";

/// See [`Writer`].
pub(super) struct PostgresWriter {
    line: Line,
    shared: Arc<Shared>,
    /// What begins a transaction.
    begin: String,
    shard: i16,
    /// Whether it has begun for the server too.
    begun: bool,
}

/// A transaction, as far as it goes without the writer.
#[derive(Clone, Copy)]
struct Transaction<'a> {
    client: &'a ClientWrapper,
    /// What has to be sent first.
    begin: Option<&'a str>,
}

impl PostgresWriter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let limits = LIMITS.split("; ");
        let limits: String = limits.map(|limit| format!("SET LOCAL {limit};")).collect();
        Self {
            line: Line::new(shared.connector.clone(), shared.unsafe_durability),
            begin: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; {limits} {}",
                session::settings("SET LOCAL")
            ),
            shard: rand::random_range(0..COUNTER_SHARDS),
            shared,
            begun: false,
        }
    }

    /// The transaction, for a statement that is about to be sent.
    fn transaction(&mut self) -> Result<Transaction<'_>, StoreError> {
        let Some(client) = self.line.client() else {
            return Err(StoreError::Unavailable(
                "the connection was lost in the middle of a transaction".into(),
            ));
        };
        let begin = (!self.begun).then_some(self.begin.as_str());
        self.begun = true;
        Ok(Transaction { client, begin })
    }

    /// What a batch needs that is tried again.
    async fn make_partitions(&mut self, changes: &Changes) {
        let Some(client) = self.line.client() else {
            return;
        };
        let jobs: Vec<_> = changes.jobs.iter().map(|write| write.job.id.0).collect();
        let making = partitions::make_for(client, self.shared.width, &jobs);
        match timeout(LONGEST_CALL, making).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the range of new jobs could not be made"),
            Err(_) => self.line.hang_up(),
        }
    }

    /// Notes what an answer says of the connection.
    fn heard<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        // A failure may be that of the connection: a plan that does not fit any more, a statement that a pooler has lost.
        if let Err(
            StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) | StoreError::Failed(_),
        ) = answer
        {
            self.line.hang_up();
            self.begun = false;
        }
        answer
    }
}

impl Transaction<'_> {
    /// Waits for an answer, having sent BEGIN if need be.
    async fn ask<T>(
        self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begin = async {
            match self.begin {
                Some(begin) => self.client.batch_execute(begin).await,
                None => Ok(()),
            }
        };
        // Polled in this order, and so sent.
        let both = timeout(LONGEST_CALL, join(begin, question)).await;
        let (begun, answer) = both.map_err(|_| silent())?;
        begun?;
        answer
    }

    /// Writes everything, and commits; notes when COMMIT is on its way.
    async fn commit(self, steps: &[Step<'_>], is_sent: &mut bool) -> Result<(), Stopped> {
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(prepared(self.client, step.sql).await?);
        }
        let begin = self.begin.map(|begin| self.client.batch_execute(begin));
        let writes = steps
            .iter()
            .zip(&statements)
            .map(async |(step, statement)| {
                let written = self.client.execute(statement, &step.parameters()).await;
                written.map(drop)
            });
        let begin = begin.into_iter().map(FutureExt::boxed);
        let all = begin.chain(writes.map(FutureExt::boxed)).map(maybe_done);
        let mut all: Vec<_> = all.collect();
        for statement in &mut all {
            // Sends it. Of what can not be sent the server knows nothing: it would commit the rest.
            let _ = poll!(&mut *statement);
            let mut statement = Pin::new(statement);
            if let Some(Err(_)) = statement.as_mut().output_mut()
                && let Some(Err(error)) = statement.take_output()
            {
                return Err(Stopped::uncommitted(&error));
            }
        }
        *is_sent = true;
        let commit = self.client.batch_execute("COMMIT");
        let (_, committed) = join(join_all(all.iter_mut()), commit).await;
        // After an error PostgreSQL answers COMMIT with ROLLBACK, and calls that a success.
        all.iter_mut()
            .filter_map(|statement| Pin::new(statement).take_output())
            .try_for_each(|done| done.map_err(|error| Stopped::before_commit(&error)))?;
        committed.map_err(|error| Stopped {
            error: fault::of_commit(&error),
            lacks_partition: false,
        })
    }
}

/// Why a commit came to nothing, or to nobody knows what.
struct Stopped {
    error: StoreError,
    lacks_partition: bool,
}

impl Stopped {
    /// COMMIT was never sent.
    fn uncommitted(error: &Error) -> Self {
        Self {
            lacks_partition: fault::has_no_partition(error),
            error: fault::of(error),
        }
    }

    /// COMMIT was on its way too.
    fn before_commit(error: &Error) -> Self {
        Self {
            lacks_partition: fault::has_no_partition(error),
            error: fault::before_commit(error),
        }
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            lacks_partition: false,
        }
    }
}

fn silent() -> StoreError {
    StoreError::Unavailable(format!(
        "PostgreSQL did not answer within {} s",
        LONGEST_CALL.as_secs()
    ))
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.rollback().await;
        self.line.open().await
    }

    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        let open = self.transaction()?;
        let answer = open.ask(read::requests(open.client, keys)).await;
        self.heard(answer)
    }

    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        let open = self.transaction()?;
        let answer = open.ask(registry::lock(open.client, keys)).await;
        self.heard(answer)
    }

    async fn jobs(&mut self, keys: &[JobKey], locked: Locked) -> Result<Vec<Job>, StoreError> {
        let open = self.transaction()?;
        let answer = open.ask(lock::jobs(open.client, keys, locked)).await;
        self.heard(answer)
    }

    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError> {
        let open = self.transaction()?;
        let ready = queue::ready(open.client, driver, whose, limit);
        let answer = open.ask(ready).await;
        self.heard(answer)
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        let open = self.transaction()?;
        let answer = open.ask(read::due(open.client, now, limit)).await;
        self.heard(answer)
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let open = self.transaction()?;
        let answer = open.ask(read::next_due(open.client)).await;
        self.heard(answer)
    }

    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        let open = self.transaction()?;
        let answer = open.ask(read::expired(open.client, now, limit)).await;
        self.heard(answer)
    }

    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        let open = self.transaction()?;
        let children = read::open_children(open.client, parent, limit);
        let answer = open.ask(children).await;
        self.heard(answer)
    }

    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        let steps = write::steps(changes, self.shard);
        let mut is_sent = false;
        let commit = self.transaction()?.commit(&steps, &mut is_sent);
        let answer = match timeout(LONGEST_CALL, commit).await {
            Ok(answer) => answer,
            Err(_) if is_sent => Err(StoreError::OutcomeUnknown(silent().to_string()).into()),
            Err(_) => Err(silent().into()),
        };
        // Until then only a rollback ends it.
        self.begun &= !is_sent;
        match answer {
            Ok(()) => {
                self.shared.news.committed();
                Ok(Committed {
                    first_position: None,
                })
            }
            Err(stopped) => {
                let error = self.heard(Err(stopped.error));
                self.rollback().await;
                if stopped.lacks_partition {
                    self.make_partitions(changes).await;
                }
                error
            }
        }
    }

    async fn rollback(&mut self) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        if let Some(client) = self.line.client() {
            let ended = timeout(LONGEST_CALL, client.batch_execute("ROLLBACK")).await;
            if !matches!(ended, Ok(Ok(()))) {
                self.line.hang_up();
            }
        }
    }

    /// That is done beside it, by any node: see `upkeep`.
    async fn tidy(&mut self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.rollback().await;
        self.line.open().await?;
        let Some(client) = self.line.client() else {
            return Err(StoreError::Unavailable("the connection was lost".into()));
        };
        let answer = timeout(LONGEST_CALL, scan::set_note(client, note, value)).await;
        let unknown = |_| Err(StoreError::OutcomeUnknown(silent().to_string()));
        let answer = answer.unwrap_or_else(unknown);
        self.heard(answer)
    }

    /// Whoever runs the database looks after its disks.
    fn is_low_on_space(&self) -> bool {
        false
    }
}
