//! Commands of the commit loop's own, which nobody waits for: they make sooner what reports, sweeps and the ends of leases bring about anyway.
//!
//! So nothing may fail, wait or last because of them: where others write too they are decided when nobody else is at their jobs, or in the end not at all.

use std::{collections::HashSet, time::Duration};

use crate::domain::{JobKey, Timestamp, command::Command};

/// How long they are left alone after others were at their jobs.
const PAUSE: Duration = Duration::from_millis(25);
/// How often one is tried while others are at its job, or the job is gone: for about a second.
const MAX_TRIES: u32 = 40;

/// A command, and how often others were at its job.
#[derive(Clone, Debug)]
pub(super) struct FollowUp {
    pub(super) command: Command,
    tries: u32,
}

/// See the module.
pub(super) struct FollowUps {
    waiting: Vec<FollowUp>,
    /// Those of this batch whose jobs others are at.
    skipped: Vec<FollowUp>,
    /// Until then they wait.
    until: Timestamp,
}

impl FollowUps {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            waiting: Vec::new(),
            skipped: Vec::new(),
            until: now,
        }
    }

    pub(super) fn add(&mut self, commands: impl IntoIterator<Item = Command>) {
        let new = commands.into_iter();
        let new = new.map(|command| FollowUp { command, tries: 0 });
        self.waiting.extend(new);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the next batch may have them.
    pub(super) fn next_time(&self) -> Timestamp {
        self.until
    }

    /// Those for the next batch.
    pub(super) fn take(&mut self) -> Vec<FollowUp> {
        std::mem::take(&mut self.waiting)
    }

    /// The batch came to nothing: they are for the next one.
    pub(super) fn put_back(&mut self, taken: Vec<FollowUp>) {
        self.skipped.clear();
        self.waiting.splice(0..0, taken);
    }

    /// Leaves out of a batch those whose jobs were not found because others are at them, or because they are gone.
    pub(super) fn leave_out(
        &mut self,
        taken: &[FollowUp],
        found: &HashSet<JobKey>,
        key_of: impl Fn(&Command) -> Option<JobKey>,
    ) -> Vec<Command> {
        // A batch that is tried again begins anew.
        self.skipped.clear();
        let mut commands = Vec::with_capacity(taken.len());
        for FollowUp { command, tries } in taken.iter().cloned() {
            let tries = tries + 1;
            if key_of(&command).is_none_or(|key| found.contains(&key)) {
                commands.push(command);
            } else if tries < MAX_TRIES {
                self.skipped.push(FollowUp { command, tries });
            }
        }
        commands
    }

    /// The batch is done: what was left out is tried again in a moment.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if !self.skipped.is_empty() {
            self.until = now.after(PAUSE);
            self.waiting.append(&mut self.skipped);
        }
    }
}
