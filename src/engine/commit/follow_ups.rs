//! Commands of the commit loop's own, which nobody waits for: they make sooner what reports, sweeps and the ends of leases bring about anyway.
//!
//! So nothing may fail, wait or last because of them: where others write too they are decided when nobody else is at their jobs, or in the end not at all.

use std::time::Duration;

use crate::domain::{Timestamp, command::Command};

/// How long they are left alone after others were at their jobs.
const PAUSE: Duration = Duration::from_millis(25);
/// How often one is tried while others are at its job: for about a second.
const MAX_TRIES: u32 = 40;
/// As how many tries a batch counts that failed with it, whoever is to blame.
const TRIES_OF_A_FAILURE: u32 = 10;
/// So many ride in one batch: after a failover there is one for each lease.
const MAX_AT_ONCE: usize = 256;

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
        let rest = self.waiting.split_off(self.waiting.len().min(MAX_AT_ONCE));
        std::mem::replace(&mut self.waiting, rest)
    }

    /// The batch came to nothing: they are for the next one, unless it is they who fail.
    pub(super) fn put_back(&mut self, mut taken: Vec<FollowUp>, is_away: bool) {
        self.skipped.clear();
        if !is_away {
            taken.retain_mut(|taken| {
                taken.tries += TRIES_OF_A_FAILURE;
                taken.tries < MAX_TRIES
            });
        }
        self.waiting.splice(0..0, taken);
    }

    /// Splits a batch's into those whose jobs were found, and those that have waited long enough for theirs. The others are tried again.
    pub(super) fn split(
        &mut self,
        taken: &[FollowUp],
        is_found: impl Fn(&Command) -> bool,
    ) -> (Vec<Command>, Vec<Command>) {
        // A batch that is tried again begins anew.
        self.skipped.clear();
        let (mut found, mut missing) = (Vec::with_capacity(taken.len()), Vec::new());
        for FollowUp { command, tries } in taken.iter().cloned() {
            let tries = tries + 1;
            if is_found(&command) {
                found.push(command);
            } else if tries < MAX_TRIES {
                self.skipped.push(FollowUp { command, tries });
            } else {
                missing.push(command);
            }
        }
        (found, missing)
    }

    /// The batch is done: what was left out is tried again in a moment.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if !self.skipped.is_empty() {
            self.until = now.after(PAUSE);
            self.waiting.append(&mut self.skipped);
        }
    }
}
