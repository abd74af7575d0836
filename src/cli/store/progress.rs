//! How far a copy is: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longhaul::store::copy::{Progress, Stage};
use tokio::time::{Interval, MissedTickBehavior};

use crate::cli::output::Output;

/// How often a line is printed where there is no bar.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the bar is drawn anew though nothing happened.
const TICK: Duration = Duration::from_secs(1);

/// What is on the screen.
pub struct Shown<'a> {
    bar: ProgressBar,
    /// Where lines go, if nobody sees the bar, and when the next is due.
    lines: Option<(&'a mut Output, Interval)>,
    stage: Option<Stage>,
}

impl<'a> Shown<'a> {
    /// Shows nothing yet.
    pub fn new(out: &'a mut Output) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let is_seen = io::stderr().is_terminal();
        if is_seen {
            bar.set_style(style());
            bar.enable_steady_tick(TICK);
        }
        Self {
            bar,
            lines: (!is_seen).then(|| (out, interval())),
            stage: None,
        }
    }

    /// Shows this instead of what was.
    pub fn show(&mut self, progress: Progress) {
        let Progress { stage, done, total } = progress;
        let what = match stage {
            Stage::Copying => "copied",
            Stage::Verifying => "verified",
            Stage::Checking => "verified again",
        };
        if self.stage.replace(stage) != Some(stage) {
            self.bar.reset_eta();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(what);
        if let Some((out, interval)) = &mut self.lines
            && is_due(interval)
        {
            out.note(format_args!("{what} {done} of {total} jobs"));
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn interval() -> Interval {
    let mut interval = tokio::time::interval(PAUSE);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Whether it is time; does not wait.
fn is_due(interval: &mut Interval) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    interval.poll_tick(&mut context).is_ready()
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{spinner} {elapsed:>4}  {bar:24.cyan/dim} {wide_msg} {human_pos} of {human_len} jobs, {eta} left",
    )
    .expect("the template is right")
    .progress_chars("━╸─")
}
