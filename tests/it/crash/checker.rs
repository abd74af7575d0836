//! Says what is wrong with a history. Pure: facts in, faults out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use longhaul::proto::v1::{job::State, job_event::Type};

use super::history::{Fact, Hold, is_terminal};

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
    /// What a watcher was told of the end is not what is stored.
    EndChanged { job: String },
    /// The history of a job has a gap, or does not lead to what is stored.
    HistoryTorn { job: String, revision: u64 },
    /// The history of a job goes on after its end.
    HistoryAfterEnd { job: String, revision: u64 },
    /// Two leases of a task bear the same fencing token.
    TokenReused { task: String, fencing_token: u64 },
    /// More than one worker was told that its completion of the same attempt counts.
    CompletedTwice { task: String, attempt: u32 },
    /// A completion counted although the task was leased to somebody else by then.
    StaleAccepted { task: String, fencing_token: u64 },
    /// A success was accepted and the history does not know it.
    SuccessLost { task: String },
    /// The ranges of a watch do not tile, or `coalesced` is not what is between them.
    Gap { watch: usize, revision: u64 },
    /// A watch did not see the end.
    NoEnd { watch: usize },
}

/// All faults, sorted.
pub fn check(facts: &[Fact]) -> BTreeSet<Fault> {
    let mut faults = BTreeSet::new();
    let stored: HashMap<&str, (State, u64)> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Stored {
                job,
                state,
                revision,
            } => Some((job.as_str(), (*state, *revision))),
            _ => None,
        })
        .collect();
    check_jobs(facts, &stored, &mut faults);
    check_histories(facts, &stored, &mut faults);
    check_leases(facts, &mut faults);
    check_watches(facts, &stored, &mut faults);
    faults
}

type Stored<'a> = HashMap<&'a str, (State, u64)>;

fn check_jobs(facts: &[Fact], stored: &Stored<'_>, faults: &mut BTreeSet<Fault>) {
    let mut answers: HashMap<&str, &str> = HashMap::new();
    for fact in facts {
        if let Fact::Acknowledged { request, job } = fact {
            if *answers.entry(request).or_insert(job) != job {
                let request = request.clone();
                faults.insert(Fault::Doubled { request });
            }
            if !stored.contains_key(job.as_str()) {
                faults.insert(Fault::Lost { job: job.clone() });
            }
        }
    }
    let known: BTreeSet<&str> = answers.into_values().collect();
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

/// What is known of one attempt of one task.
#[derive(Default)]
struct Attempt<'a> {
    leased: BTreeSet<&'a Hold>,
    completed: BTreeSet<&'a Hold>,
    /// How often its end is in the history.
    recorded: u32,
}

fn check_leases(facts: &[Fact], faults: &mut BTreeSet<Fault>) {
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

/// Where a watch is, as it was told.
#[derive(Default)]
struct Course<'a> {
    job: &'a str,
    revision: u64,
    ended: bool,
}

fn check_watches(facts: &[Fact], stored: &Stored<'_>, faults: &mut BTreeSet<Fault>) {
    let mut courses: BTreeMap<usize, Course<'_>> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Shown {
                watch,
                job,
                from,
                to,
                coalesced,
                state,
                last,
            } => {
                let course = courses.entry(*watch).or_default();
                let tiles = *from == course.revision && to > from && *coalesced == to - from - 1;
                if !tiles || course.ended || *last != is_terminal(*state) {
                    let (watch, revision) = (*watch, *to);
                    faults.insert(Fault::Gap { watch, revision });
                }
                if *last && stored.get(job.as_str()) != Some(&(*state, *to)) {
                    faults.insert(Fault::EndChanged { job: job.clone() });
                }
                *course = Course {
                    job,
                    revision: *to,
                    ended: *last,
                };
            }
            Fact::Synced { watch, revision } => {
                let course = courses.entry(*watch).or_default();
                if course.revision != *revision || course.ended {
                    let (watch, revision) = (*watch, *revision);
                    faults.insert(Fault::Gap { watch, revision });
                }
            }
            Fact::Broken { watch, .. } => {
                courses.entry(*watch).or_default().ended = false;
                faults.insert(Fault::NoEnd { watch: *watch });
            }
            _ => {}
        }
    }
    for (watch, course) in courses {
        let beyond = stored
            .get(course.job)
            .is_some_and(|(_, revision)| course.revision > *revision);
        if beyond {
            let job = course.job.to_owned();
            faults.insert(Fault::EndChanged { job });
        }
        if !course.ended {
            faults.insert(Fault::NoEnd { watch });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(fencing_token: u64, holder: &str) -> Hold {
        Hold {
            task: "t".to_owned(),
            attempt: 1,
            fencing_token,
            holder: holder.to_owned(),
        }
    }

    fn shown(from: u64, to: u64, state: State) -> Fact {
        Fact::Shown {
            watch: 1,
            job: "j".to_owned(),
            from,
            to,
            coalesced: to - from - 1,
            state,
            last: is_terminal(state),
        }
    }

    fn changed(revision: u64, kind: Type, state: State) -> Fact {
        Fact::Changed {
            job: "j".to_owned(),
            revision,
            kind,
            task: "t".to_owned(),
            attempt: 1,
            state,
        }
    }

    fn acknowledged(request: &str, job: &str) -> Fact {
        Fact::Acknowledged {
            request: request.to_owned(),
            job: job.to_owned(),
        }
    }

    fn completed(fencing_token: u64, holder: &str) -> Fact {
        Fact::Completed {
            hold: hold(fencing_token, holder),
            succeeded: true,
        }
    }

    /// One job whose first lease was lost, told without a fault.
    fn sound() -> Vec<Fact> {
        vec![
            acknowledged("r", "j"),
            Fact::Leased(hold(1, "a")),
            shown(0, 2, State::Running),
            Fact::Leased(hold(2, "b")),
            Fact::Synced {
                watch: 1,
                revision: 2,
            },
            completed(2, "b"),
            shown(2, 5, State::Succeeded),
            Fact::Stored {
                job: "j".to_owned(),
                state: State::Succeeded,
                revision: 5,
            },
            changed(1, Type::JobSubmitted, State::Queued),
            changed(2, Type::TaskLeased, State::Running),
            changed(3, Type::TaskLeaseLost, State::Running),
            changed(4, Type::TaskLeased, State::Running),
            changed(5, Type::TaskSucceeded, State::Succeeded),
        ]
    }

    #[track_caller]
    fn faults(change: impl FnOnce(&mut Vec<Fact>)) -> Vec<Fault> {
        let mut facts = sound();
        change(&mut facts);
        check(&facts).into_iter().collect()
    }

    fn job() -> String {
        "j".to_owned()
    }

    fn task() -> String {
        "t".to_owned()
    }

    #[test]
    fn a_sound_history_has_no_faults() {
        assert_eq!(faults(|_| {}), []);
    }

    #[test]
    fn a_lost_job_is_found() {
        let lost = "k".to_owned();
        assert_eq!(
            faults(|facts| facts.push(acknowledged("s", "k"))),
            [Fault::Lost { job: lost }]
        );
    }

    #[test]
    fn two_jobs_for_one_request_are_found() {
        let two = faults(|facts| facts.push(acknowledged("r", "k")));
        assert!(two.contains(&Fault::Doubled {
            request: "r".to_owned()
        }));
    }

    #[test]
    fn a_job_that_nobody_was_told_of_is_found() {
        assert_eq!(
            faults(|facts| drop(facts.remove(0))),
            [Fault::Unknown { job: job() }]
        );
    }

    #[test]
    fn a_job_that_has_not_ended_is_found() {
        let open = faults(|facts| {
            facts[7] = Fact::Stored {
                job: job(),
                state: State::Running,
                revision: 4,
            };
            facts.pop();
        });
        assert!(open.contains(&Fault::Open { job: job() }));
        assert!(open.contains(&Fault::EndChanged { job: job() }));
    }

    #[test]
    fn an_end_that_changed_is_found() {
        let changed = faults(|facts| facts[6] = shown(2, 5, State::Failed));
        assert_eq!(changed, [Fault::EndChanged { job: job() }]);
    }

    #[test]
    fn a_torn_history_is_found() {
        let torn = faults(|facts| drop(facts.remove(10)));
        assert_eq!(
            torn,
            [Fault::HistoryTorn {
                job: job(),
                revision: 3
            }]
        );
    }

    #[test]
    fn a_history_that_goes_on_after_its_end_is_found() {
        let after = faults(|facts| {
            facts.push(changed(6, Type::TaskProgress, State::Succeeded));
        });
        assert!(after.contains(&Fault::HistoryAfterEnd {
            job: job(),
            revision: 6
        }));
    }

    #[test]
    fn a_second_completion_is_found() {
        let twice = Fault::CompletedTwice {
            task: task(),
            attempt: 1,
        };
        let stale = Fault::StaleAccepted {
            task: task(),
            fencing_token: 1,
        };
        assert_eq!(
            faults(|facts| facts.push(completed(1, "a"))),
            [twice.clone(), stale]
        );
        let recorded = faults(|facts| {
            facts[10] = changed(3, Type::TaskSucceeded, State::Running);
        });
        assert_eq!(recorded, [twice]);
    }

    #[test]
    fn a_stale_completion_that_counted_is_found() {
        let stale = faults(|facts| facts[5] = completed(1, "a"));
        assert_eq!(
            stale,
            [Fault::StaleAccepted {
                task: task(),
                fencing_token: 1
            }]
        );
    }

    #[test]
    fn a_fencing_token_that_is_used_again_is_found() {
        let reused = faults(|facts| facts.push(Fact::Leased(hold(2, "c"))));
        assert_eq!(
            reused,
            [Fault::TokenReused {
                task: task(),
                fencing_token: 2
            }]
        );
    }

    #[test]
    fn a_success_that_is_not_stored_is_found() {
        let lost = faults(|facts| {
            facts[12] = changed(5, Type::TaskCancelled, State::Succeeded);
        });
        assert_eq!(lost, [Fault::SuccessLost { task: task() }]);
    }

    #[test]
    fn a_gap_and_a_repetition_in_a_watch_are_found() {
        let gap = |revision| Fault::Gap { watch: 1, revision };
        assert_eq!(
            faults(|facts| facts[6] = shown(3, 5, State::Succeeded)),
            [gap(5)]
        );
        assert_eq!(
            faults(|facts| facts.insert(3, shown(0, 2, State::Running))),
            [gap(2)]
        );
        assert_eq!(
            faults(|facts| facts[4] = Fact::Synced {
                watch: 1,
                revision: 1
            }),
            [gap(1)]
        );
        assert_eq!(
            faults(|facts| facts[6] = Fact::Shown {
                watch: 1,
                job: job(),
                from: 2,
                to: 5,
                coalesced: 0,
                state: State::Succeeded,
                last: true
            }),
            [gap(5)]
        );
    }

    #[test]
    fn a_watch_that_did_not_see_the_end_is_found() {
        let no_end = [Fault::NoEnd { watch: 1 }];
        assert_eq!(faults(|facts| drop(facts.remove(6))), no_end);
        let broken = Fact::Broken {
            watch: 1,
            error: String::new(),
        };
        assert_eq!(faults(|facts| facts.push(broken)), no_end);
    }
}
