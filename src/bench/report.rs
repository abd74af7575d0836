//! What a run found out.

use serde::Serialize;

use super::{BenchOptions, Scenario, rounds::Figures};

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of the load generator.
    pub version: &'static str,
    /// Processors that the load and the server share.
    pub processors: usize,
    /// Rounds of each scenario.
    pub rounds: usize,
    /// Bytes of a task's payload.
    pub payload_bytes: usize,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(options: &BenchOptions) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            rounds: options.rounds,
            payload_bytes: options.payload_bytes,
            rows: Vec::new(),
        }
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Jobs, calls or messages in a second.
    PerSecond,
    /// A time.
    Seconds,
    /// An amount of memory.
    Bytes,
    /// A plain number.
    Number,
}

/// Where a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Here or above.
    AtLeast(f64),
    /// Here or below.
    AtMost(f64),
}

impl Goal {
    /// Whether a figure is where it should be.
    pub fn is_reached(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }
}

/// What a figure is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What it is.
    pub with: String,
    /// Its median, in the unit of the figure.
    pub floor: f64,
    /// The median of figure ÷ floor, of each round.
    pub ratio: f64,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Where it comes from.
    pub scenario: Scenario,
    /// What it is.
    pub what: String,
    /// What it counts.
    pub unit: Unit,
    /// The median of the rounds.
    pub value: f64,
    /// Each round.
    pub rounds: Vec<f64>,
    /// What it is compared with.
    pub comparison: Option<Comparison>,
    /// Where it should be first; of the ratio if there is a comparison.
    pub first: Option<Goal>,
    /// Where it should be in the end.
    pub aim: Option<Goal>,
}

impl Row {
    pub(super) fn new(
        scenario: Scenario,
        what: impl Into<String>,
        unit: Unit,
        rounds: &Figures,
    ) -> Self {
        Self {
            scenario,
            what: what.into(),
            unit,
            value: rounds.median(),
            rounds: rounds.all().to_vec(),
            comparison: None,
            first: None,
            aim: None,
        }
    }

    /// Compares each round with the floors before and after it.
    pub(super) fn compared(mut self, with: impl Into<String>, floors: &Figures) -> Self {
        let rounds: Figures = self.rounds.iter().copied().collect();
        self.comparison = Some(Comparison {
            with: with.into(),
            floor: floors.median(),
            ratio: rounds.over(floors).median(),
        });
        self
    }

    pub(super) fn goals(mut self, first: Goal, aim: Goal) -> Self {
        (self.first, self.aim) = (Some(first), Some(aim));
        self
    }

    /// What the goals are about.
    pub fn judged(&self) -> f64 {
        self.comparison
            .as_ref()
            .map_or(self.value, |comparison| comparison.ratio)
    }
}
