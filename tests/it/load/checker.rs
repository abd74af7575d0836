//! Says what is wrong with a history. Pure: facts in, faults out.

mod leases;
#[cfg(test)]
mod tests;
mod watches;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use longhaul::proto::v1::job::State;

use super::history::{Fact, is_terminal};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A job was acknowledged and is not there.
    Lost { job: String },
    /// One request id was answered with two jobs.
    Doubled { request: String },
    /// A job is there that nobody was told of, though every submitter asked until it was answered.
    Unknown { job: String },
    /// A job has not ended.
    Open { job: String },
    /// Two nodes say different things of a job, and nobody was changing it.
    NodesDiffer { job: String },
    /// The counts of jobs at a node are not those of the jobs that it lists.
    CountsDiffer { node: usize, state: State },
    /// What a watcher was told of the end is not what is stored.
    EndChanged { job: String },
    /// The history of a job has a gap, or does not lead to what is stored.
    HistoryTorn { job: String, revision: u64 },
    /// The history of a job goes on after its end.
    HistoryAfterEnd { job: String, revision: u64 },
    /// Two leases of a task bear the same fencing token.
    TokenReused { task: String, fencing_token: u64 },
    /// A worker was given a lease that the history does not know, or knows for another attempt.
    LeaseUnknown { task: String, fencing_token: u64 },
    /// More than one worker was told that its completion of the same attempt counts.
    CompletedTwice { task: String, attempt: u32 },
    /// A completion counted although the task was leased to somebody else by then.
    StaleAccepted { task: String, fencing_token: u64 },
    /// A success was accepted and the history does not know it.
    SuccessLost { task: String },
    /// The attempts or lost leases of a task are not those of its history, or more than it may have.
    Miscounted { task: String },
    /// The ranges of a watch do not tile, or `coalesced` is not what is between them.
    Gap { watch: usize, revision: u64 },
    /// A watch did not see the end.
    NoEnd { watch: usize },
    /// A stream of a watch ended before the end of the job, and neither did the server say that it can not go on, nor did the connection break.
    CutShort { watch: usize },
    /// The same of a follower.
    LeftAlone { follower: usize },
    /// A follower had to begin anew.
    Relisted { follower: usize },
    /// A follower was told of a change, and not of the one before.
    Skipped {
        follower: usize,
        job: String,
        revision: u64,
    },
    /// A follower does not know what became of a job.
    Missed { follower: usize, job: String },
}

/// All faults, sorted.
pub fn check(facts: &[Fact]) -> BTreeSet<Fault> {
    let mut faults = BTreeSet::new();
    let mut accounts = accounts(facts, &mut faults);
    check_counts(&accounts, &mut faults);
    let stored = accounts.pop_first().unwrap_or_default().1.stored;
    for other in accounts.values().map(|account| &account.stored) {
        let jobs = stored.keys().chain(other.keys());
        let differ = jobs.filter(|job| stored.get(*job) != other.get(*job));
        faults.extend(differ.map(|&job| Fault::NodesDiffer { job: job.into() }));
    }
    check_jobs(facts, &stored, &mut faults);
    check_histories(facts, &stored, &mut faults);
    leases::check(facts, &mut faults);
    watches::check(facts, &stored, &mut faults);
    watches::check_followers(facts, &stored, &mut faults);
    faults
}

/// State and revision of each job at the end.
type Stored<'a> = HashMap<&'a str, (State, u64)>;

/// What one node says at the end.
#[derive(Default)]
struct Account<'a> {
    stored: Stored<'a>,
    counted: BTreeMap<State, usize>,
}

/// What each node says. That of the first is what everything else is compared with.
fn accounts<'a>(facts: &'a [Fact], faults: &mut BTreeSet<Fault>) -> BTreeMap<usize, Account<'a>> {
    let mut accounts: BTreeMap<usize, Account<'_>> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Inspected { node } => drop(accounts.entry(*node).or_default()),
            Fact::Stored {
                node,
                job,
                state,
                revision,
            } => {
                let now = (*state, *revision);
                let stored = &mut accounts.entry(*node).or_default().stored;
                if *stored.entry(job).or_insert(now) != now {
                    faults.insert(Fault::NodesDiffer { job: job.clone() });
                }
            }
            Fact::Counted { node, state, count } => {
                let counted = &mut accounts.entry(*node).or_default().counted;
                *counted.entry(*state).or_default() += count;
            }
            _ => {}
        }
    }
    accounts
}

fn check_jobs(facts: &[Fact], stored: &Stored<'_>, faults: &mut BTreeSet<Fault>) {
    let mut answers: HashMap<&str, &str> = HashMap::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for fact in facts {
        if let Fact::Acknowledged { request, job } = fact {
            known.insert(job);
            if *answers.entry(request).or_insert(job) != job {
                let request = request.clone();
                faults.insert(Fault::Doubled { request });
            }
            if !stored.contains_key(job.as_str()) {
                faults.insert(Fault::Lost { job: job.clone() });
            }
        }
    }
    for (&job, (state, _)) in stored {
        let job = || job.to_owned();
        if !known.contains(job().as_str()) {
            faults.insert(Fault::Unknown { job: job() });
        }
        if !is_terminal(*state) {
            faults.insert(Fault::Open { job: job() });
        }
    }
}

/// A state without jobs need not be counted.
fn check_counts(accounts: &BTreeMap<usize, Account<'_>>, faults: &mut BTreeSet<Fault>) {
    for (&node, account) in accounts {
        let mut there: BTreeMap<State, usize> = BTreeMap::new();
        for (state, _) in account.stored.values() {
            *there.entry(*state).or_default() += 1;
        }
        for &state in there.keys().chain(account.counted.keys()) {
            if there.get(&state).unwrap_or(&0) != account.counted.get(&state).unwrap_or(&0) {
                faults.insert(Fault::CountsDiffer { node, state });
            }
        }
    }
}

fn check_histories(facts: &[Fact], stored: &Stored<'_>, faults: &mut BTreeSet<Fault>) {
    let mut histories: BTreeMap<&str, BTreeMap<u64, State>> = BTreeMap::new();
    for fact in facts {
        if let Fact::Changed {
            job,
            revision,
            state,
            ..
        } = fact
        {
            let history = histories.entry(job).or_default();
            if history.insert(*revision, *state).is_some() {
                let (job, revision) = (job.clone(), *revision);
                faults.insert(Fault::HistoryTorn { job, revision });
            }
        }
    }
    for (&job, (state, revision)) in stored {
        let history = histories.remove(job).unwrap_or_default();
        let job = || job.to_owned();
        for (expected, (&found, _)) in (1..).zip(&history) {
            if found != expected {
                let (job, revision) = (job(), expected);
                faults.insert(Fault::HistoryTorn { job, revision });
                break;
            }
        }
        if history.last_key_value() != Some((revision, state)) {
            let (job, revision) = (job(), *revision);
            faults.insert(Fault::HistoryTorn { job, revision });
        }
        let end = history.iter().find(|(_, state)| is_terminal(**state));
        if let Some((&end, _)) = end
            && let Some((&revision, _)) = history.range(end + 1..).next()
        {
            let job = job();
            faults.insert(Fault::HistoryAfterEnd { job, revision });
        }
    }
}
