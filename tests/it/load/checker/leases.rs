//! Attempts, leases and fencing tokens: who was told that a task is his, and whose word counted.

use std::collections::{BTreeMap, BTreeSet};

use longhaul::proto::v1::job_event::Type;

use super::{Fact, Fault};
use crate::load::{history::Hold, jobs::MAX_ATTEMPTS};

/// What is known of one attempt of one task.
#[derive(Default)]
struct Attempt<'a> {
    leased: BTreeSet<&'a Hold>,
    completed: BTreeSet<&'a Hold>,
    /// How often its end is in the history.
    recorded: u32,
}

/// What is in the history of one task.
#[derive(Default)]
struct Task {
    /// The attempts of its leases, by revision.
    leases: BTreeMap<u64, u32>,
    lost_leases: u32,
}

pub(super) fn check(facts: &[Fact], faults: &mut BTreeSet<Fault>) {
    check_attempts(facts, faults);
    let tasks = tasks(facts);
    check_known(facts, &tasks, faults);
    check_stored(facts, &tasks, faults);
}

fn check_attempts(facts: &[Fact], faults: &mut BTreeSet<Fault>) {
    let mut attempts: BTreeMap<(&str, u32), Attempt<'_>> = BTreeMap::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut recorded: BTreeSet<&str> = BTreeSet::new();
    for fact in facts {
        match fact {
            Fact::Leased(hold) => {
                let attempt = attempts.entry((&hold.task, hold.attempt)).or_default();
                attempt.leased.insert(hold);
            }
            Fact::Completed { hold, succeeded } => {
                let attempt = attempts.entry((&hold.task, hold.attempt)).or_default();
                attempt.completed.insert(hold);
                if *succeeded {
                    told.insert(&hold.task);
                }
            }
            Fact::Changed {
                kind: kind @ (Type::TaskSucceeded | Type::TaskFailed | Type::TaskBackingOff),
                task,
                attempt,
                ..
            } => {
                attempts.entry((task, *attempt)).or_default().recorded += 1;
                if *kind == Type::TaskSucceeded {
                    recorded.insert(task);
                }
            }
            _ => {}
        }
    }
    for ((task, attempt), seen) in attempts {
        let task = || task.to_owned();
        if seen.completed.len() > 1 || seen.recorded > 1 {
            let task = task();
            faults.insert(Fault::CompletedTwice { task, attempt });
        }
        let mut tokens = BTreeSet::new();
        for fencing_token in seen.leased.iter().map(|hold| hold.fencing_token) {
            if !tokens.insert(fencing_token) {
                let task = task();
                faults.insert(Fault::TokenReused {
                    task,
                    fencing_token,
                });
            }
        }
        for fencing_token in seen.completed.iter().map(|hold| hold.fencing_token) {
            // Its completion would have ended the attempt, so a newer lease of it was granted before.
            if tokens.last().is_some_and(|newest| fencing_token < *newest) {
                let task = task();
                faults.insert(Fault::StaleAccepted {
                    task,
                    fencing_token,
                });
            }
        }
    }
    for task in told.difference(&recorded) {
        let task = (*task).to_owned();
        faults.insert(Fault::SuccessLost { task });
    }
}

fn tasks(facts: &[Fact]) -> BTreeMap<&str, Task> {
    let mut tasks: BTreeMap<&str, Task> = BTreeMap::new();
    for fact in facts {
        if let Fact::Changed {
            revision,
            kind,
            task,
            attempt,
            ..
        } = fact
        {
            let history = tasks.entry(task).or_default();
            match kind {
                Type::TaskLeased => drop(history.leases.insert(*revision, *attempt)),
                Type::TaskLeaseLost => history.lost_leases += 1,
                _ => {}
            }
        }
    }
    tasks
}

/// The history tells of leases in the order of their fencing tokens, and of some that reached nobody.
fn check_known(facts: &[Fact], tasks: &BTreeMap<&str, Task>, faults: &mut BTreeSet<Fault>) {
    let mut leased: BTreeMap<&str, BTreeSet<(u64, u32)>> = BTreeMap::new();
    for fact in facts {
        if let Fact::Leased(hold) = fact {
            let leases = leased.entry(&hold.task).or_default();
            leases.insert((hold.fencing_token, hold.attempt));
        }
    }
    for (task, leases) in leased {
        let mut known = tasks
            .get(task)
            .into_iter()
            .flat_map(|task| task.leases.values());
        let mut last = None;
        for (fencing_token, attempt) in leases {
            let task = task.to_owned();
            if last.replace(fencing_token) == Some(fencing_token) {
                faults.insert(Fault::TokenReused {
                    task,
                    fencing_token,
                });
            } else if !known.any(|known| *known == attempt) {
                faults.insert(Fault::LeaseUnknown {
                    task,
                    fencing_token,
                });
            }
        }
    }
}

fn check_stored(facts: &[Fact], tasks: &BTreeMap<&str, Task>, faults: &mut BTreeSet<Fault>) {
    for fact in facts {
        if let Fact::StoredTask {
            task,
            attempt,
            lost_leases,
        } = fact
        {
            let history = tasks.get(task.as_str());
            let lost = history.map_or(0, |history| history.lost_leases);
            let attempts = history.and_then(|history| history.leases.values().max());
            let same = (attempts.copied().unwrap_or(0), lost) == (*attempt, *lost_leases);
            if !same || *attempt > MAX_ATTEMPTS {
                faults.insert(Fault::Miscounted { task: task.clone() });
            }
        }
    }
}
