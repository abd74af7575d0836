//! What can be measured, by name.

mod batch;
mod cluster;
mod floor;
mod history;
mod idle;
mod life;
mod rest;
mod restart;
mod start;
mod submit;
mod watch;

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::{Bench, BenchError, Row};

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// What the machine could do at best.
    Floor,
    /// Many submissions at once, a call each.
    Submit,
    /// One submission after another.
    Lone,
    /// How many jobs share an fsync.
    Group,
    /// Submissions a hundred to a call.
    Batch,
    /// Jobs from submission to the end as a watcher sees it.
    Life,
    /// Stored jobs that workers carry out.
    Drain,
    /// The time until an idle worker starts.
    Start,
    /// How soon a watcher knows, among many others.
    Notice,
    /// What it costs to tell a watcher.
    Deliver,
    /// How soon all watchers of one job know.
    FanOut,
    /// What watchers cost that have nothing to see.
    Watchers,
    /// What finished jobs cost.
    History,
    /// Submissions by REST.
    Rest,
    /// What REST requests cost that wait.
    Polls,
    /// Several nodes on one database.
    Cluster,
    /// How long a killed server is away.
    Restart,
    /// What an idle server costs.
    Idle,
}

impl Scenario {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 18] = [
        Self::Floor,
        Self::Submit,
        Self::Lone,
        Self::Group,
        Self::Batch,
        Self::Life,
        Self::Drain,
        Self::Start,
        Self::Notice,
        Self::Deliver,
        Self::FanOut,
        Self::Watchers,
        Self::History,
        Self::Rest,
        Self::Polls,
        Self::Cluster,
        Self::Restart,
        Self::Idle,
    ];

    /// Whether it can be measured on this kind of store: some floors are rows of SQLite, and several nodes need a database.
    pub fn is_for(self, database: bool, nodes: usize) -> bool {
        match self {
            Self::Cluster => database && nodes > 1,
            Self::Floor | Self::Batch => !database,
            Self::Submit
            | Self::Lone
            | Self::Group
            | Self::Life
            | Self::Drain
            | Self::Start
            | Self::Notice
            | Self::FanOut
            | Self::History
            | Self::Rest => true,
            // These look into the one process that serves.
            Self::Deliver | Self::Watchers | Self::Polls | Self::Restart | Self::Idle => nodes == 1,
        }
    }

    /// As it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Submit => "submit",
            Self::Lone => "lone",
            Self::Group => "group",
            Self::Batch => "batch",
            Self::Life => "life",
            Self::Drain => "drain",
            Self::Start => "start",
            Self::Notice => "notice",
            Self::Deliver => "deliver",
            Self::FanOut => "fan-out",
            Self::Watchers => "watchers",
            Self::History => "history",
            Self::Rest => "rest",
            Self::Polls => "polls",
            Self::Cluster => "cluster",
            Self::Restart => "restart",
            Self::Idle => "idle",
        }
    }

    pub(super) async fn measure(self, bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
        match self {
            Self::Floor => floor::measure(bench).await,
            Self::Submit => submit::many(bench).await,
            Self::Lone => submit::lone(bench).await,
            Self::Group => submit::group(bench).await,
            Self::Batch => batch::measure(bench).await,
            Self::Life => life::steady(bench).await,
            Self::Drain => life::drain(bench).await,
            Self::Start => start::measure(bench).await,
            Self::Notice => watch::notice(bench).await,
            Self::Deliver => watch::deliver(bench).await,
            Self::FanOut => watch::fan_out(bench).await,
            Self::Watchers => idle::watchers(bench).await,
            Self::History => history::measure(bench).await,
            Self::Rest => rest::submit(bench).await,
            Self::Polls => rest::polls(bench).await,
            Self::Cluster => cluster::measure(bench).await,
            Self::Restart => restart::measure(bench).await,
            Self::Idle => idle::server(bench).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|s| s.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no scenario {name}; choose from {names}")
        })
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
