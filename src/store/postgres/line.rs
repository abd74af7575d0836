//! The connection that writes: made when it is first needed, and made again when it is lost, while callers are told at once.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connect::{Connector, Pauses},
    session,
};
use crate::store::StoreError;

/// How long the loop that writes waits for a connection, once. Whoever waits for it is told, and may try again.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    connector: Connector,
    unsafe_durability: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Hung,
    Dialing(Dialing),
    Open(Box<Open>),
}

/// Wrapped, because the client can not be shown.
struct Open(ClientWrapper);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Open")
    }
}

/// Attempts until one succeeds.
#[derive(Debug)]
struct Dialing {
    task: AbortOnDropHandle<Open>,
    /// Why the last attempt failed.
    failed: watch::Receiver<Option<StoreError>>,
    /// It was waited for.
    is_late: bool,
}

impl Line {
    pub(super) fn new(connector: Connector, unsafe_durability: bool) -> Self {
        Self {
            connector,
            unsafe_durability,
            state: State::Hung,
        }
    }

    /// The connection, if there is one.
    pub(super) fn client(&self) -> Option<&ClientWrapper> {
        match &self.state {
            State::Open(open) if !open.0.is_closed() => Some(&open.0),
            State::Open(_) | State::Hung | State::Dialing(_) => None,
        }
    }

    /// Ends the connection: it is of no more use.
    pub(super) fn hang_up(&mut self) {
        self.state = State::Hung;
    }

    /// Sees to it that there is a connection. Waits for one attempt at the most; others go on behind it.
    pub(super) async fn open(&mut self) -> Result<(), StoreError> {
        if self.client().is_some() {
            return Ok(());
        }
        if !matches!(self.state, State::Dialing(_)) {
            self.state = State::Dialing(dial(self.connector.clone(), self.unsafe_durability));
        }
        let State::Dialing(dialing) = &mut self.state else {
            return Ok(());
        };
        let why = || {
            let failed = dialing.failed.borrow().clone();
            let slow = || StoreError::Unavailable("there is no connection yet".into());
            failed.unwrap_or_else(slow)
        };
        if std::mem::replace(&mut dialing.is_late, true) && !dialing.task.is_finished() {
            return Err(why());
        }
        let mut failed = dialing.failed.clone();
        let opened = tokio::select! {
            opened = &mut dialing.task => opened,
            Ok(()) = failed.changed() => return Err(why()),
            () = sleep(LONGEST_WAIT) => return Err(why()),
        };
        self.state = State::Hung;
        let open = opened.map_err(|error| {
            StoreError::Unavailable(format!("connecting was given up: {error}"))
        })?;
        self.state = State::Open(Box::new(open));
        Ok(())
    }
}

fn dial(connector: Connector, unsafe_durability: bool) -> Dialing {
    let (told, failed) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut pauses = Pauses::default();
        loop {
            match session::begin_to_write(&connector, unsafe_durability).await {
                Ok(client) => return Open(client),
                Err(error) => {
                    // Callers are not told why.
                    if told.borrow().is_none() {
                        tracing::warn!(%error, "PostgreSQL can not be written to; trying again until it can");
                    }
                    told.send_replace(Some(error));
                }
            }
            sleep(pauses.next().unwrap_or_default()).await;
        }
    });
    Dialing {
        task: AbortOnDropHandle::new(task),
        failed,
        is_late: false,
    }
}
