//! Rounds: who takes turns with whom, what is told of the course, and what is kept of many figures.

use super::{BenchError, BenchOptions, Progress, Scenario};

/// What many rounds gave of one figure.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures(Vec<f64>);

impl Figures {
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    pub(super) fn all(&self) -> &[f64] {
        &self.0
    }

    /// Each figure with the mean of the two beside it in `around`, which has one more.
    pub(super) fn over(&self, around: &Self) -> Self {
        let between = around
            .0
            .windows(2)
            .map(|pair| f64::midpoint(pair[0], pair[1]));
        self.0.iter().zip(between).map(|(a, b)| a / b).collect()
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// One figure of each of many samples.
pub(super) fn figures<S>(samples: &[S], figure: impl Fn(&S) -> f64) -> Figures {
    samples.iter().map(figure).collect()
}

/// The samples of two that took turns: floors around, rounds in between.
pub(super) struct Bracketed<F, P> {
    /// One more than there are rounds.
    pub(super) floors: Vec<F>,
    pub(super) rounds: Vec<P>,
}

/// Tells how far the run is.
pub(super) struct Ticker<'a> {
    tell: &'a mut dyn FnMut(Progress),
    rounds: usize,
    finished: usize,
    done: usize,
    scenarios: usize,
    scenario: Option<Scenario>,
}

impl<'a> Ticker<'a> {
    pub(super) fn new(options: &BenchOptions, tell: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            tell,
            rounds: options.rounds,
            finished: 0,
            done: 0,
            scenarios: options.scenarios.len(),
            scenario: None,
        }
    }

    pub(super) fn begin(&mut self, scenario: Scenario) {
        self.scenario = Some(scenario);
        self.done = 0;
        self.say();
    }

    /// A round is over.
    pub(super) fn round(&mut self) {
        self.done = self.rounds.min(self.done + 1);
        self.say();
    }

    pub(super) fn end(&mut self, scenario: Scenario) {
        self.scenario = Some(scenario);
        self.finished += 1;
        self.done = 0;
        self.say();
    }

    fn say(&mut self) {
        if let Some(scenario) = self.scenario {
            (self.tell)(Progress {
                scenario,
                done: self.finished * self.rounds + self.done,
                total: self.scenarios * self.rounds,
            });
        }
    }

    /// Rounds with nothing to compare with.
    pub(super) async fn alone<P>(
        &mut self,
        mut round: impl AsyncFnMut() -> Result<P, BenchError>,
    ) -> Result<Vec<P>, BenchError> {
        let mut rounds = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            rounds.push(round().await?);
            self.round();
        }
        Ok(rounds)
    }

    /// Rounds with a floor before and after each.
    pub(super) async fn bracketed<F, P>(
        &mut self,
        mut floor: impl AsyncFnMut() -> Result<F, BenchError>,
        mut round: impl AsyncFnMut() -> Result<P, BenchError>,
    ) -> Result<Bracketed<F, P>, BenchError> {
        let mut floors = vec![floor().await?];
        let mut rounds = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            rounds.push(round().await?);
            floors.push(floor().await?);
            self.round();
        }
        Ok(Bracketed { floors, rounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |figures: &[f64]| figures.iter().copied().collect::<Figures>().median();
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(of(&[]).is_nan());
    }

    #[test]
    fn a_round_is_judged_by_the_floors_beside_it() {
        let floors: Figures = [1.0, 3.0, 5.0].into_iter().collect();
        let rounds: Figures = [4.0, 2.0].into_iter().collect();
        assert_eq!(rounds.over(&floors).all(), [2.0, 0.5]);
    }
}
