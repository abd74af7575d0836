//! Each kind of fault is found in a history that was sound without it.

use longhaul::{client::ClientError, proto::v1::job_event::Type};
use tonic::{Code, Status};

use super::*;
use crate::load::history::{Ending, Hold};

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

fn told(from: u64, to: u64) -> Fact {
    Fact::Told {
        follower: 1,
        job: "j".to_owned(),
        from,
        to,
    }
}

fn completed(fencing_token: u64, holder: &str) -> Fact {
    Fact::Completed {
        hold: hold(fencing_token, holder),
        succeeded: true,
    }
}

fn stored(node: usize, state: State, revision: u64) -> Fact {
    Fact::Stored {
        node,
        job: "j".to_owned(),
        state,
        revision,
    }
}

fn counted(node: usize, state: State, count: usize) -> Fact {
    Fact::Counted { node, state, count }
}

fn disconnected(ending: Ending) -> Fact {
    Fact::Disconnected { watch: 1, ending }
}

fn unfollowed(ending: Ending) -> Fact {
    Fact::Unfollowed {
        follower: 1,
        ending,
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
        stored(0, State::Succeeded, 5),
        changed(1, Type::JobSubmitted, State::Queued),
        changed(2, Type::TaskLeased, State::Running),
        changed(3, Type::TaskLeaseLost, State::Running),
        changed(4, Type::TaskLeased, State::Running),
        changed(5, Type::TaskSucceeded, State::Succeeded),
        Fact::StoredTask {
            task: "t".to_owned(),
            attempt: 1,
            lost_leases: 1,
        },
        counted(0, State::Succeeded, 1),
        Fact::Followed {
            follower: 1,
            node: 0,
        },
        told(0, 3),
        told(2, 4),
        told(4, 5),
        Fact::Inspected { node: 1 },
        stored(1, State::Succeeded, 5),
        counted(1, State::Succeeded, 1),
        disconnected(Ending::Broken("connection reset".to_owned())),
        unfollowed(Ending::Said(Code::Unavailable, "it drains".to_owned())),
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
        facts[7] = stored(0, State::Running, 4);
        facts.remove(12);
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
        [
            Fault::HistoryTorn {
                job: job(),
                revision: 3
            },
            Fault::Miscounted { task: task() }
        ]
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
    assert!(recorded.contains(&twice));
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

#[test]
fn a_stream_that_ends_before_its_end_for_no_reason_is_found() {
    let cut_short = [Fault::CutShort { watch: 1 }];
    let left_alone = [Fault::LeftAlone { follower: 1 }];
    for error in [
        ClientError::EndedEarly,
        Status::internal("").into(),
        Status::not_found("").into(),
    ] {
        let wrong = Ending::of(&error);
        let watched = faults(|facts| facts.push(disconnected(wrong.clone())));
        assert_eq!(watched, cut_short, "{error}");
        let followed = faults(|facts| facts.push(unfollowed(wrong)));
        assert_eq!(followed, left_alone, "{error}");
    }
    let silent = ClientError::Silent(std::time::Duration::from_secs(1));
    for error in [silent, Status::unavailable("").into()] {
        let lawful = Ending::of(&error);
        assert_eq!(faults(|facts| facts.push(disconnected(lawful))), []);
    }
}

#[test]
fn a_follower_that_has_to_begin_anew_is_found() {
    let anew = faults(|facts| facts.push(Fact::Relisted { follower: 1 }));
    assert_eq!(anew, [Fault::Relisted { follower: 1 }]);
}

/// A job that only one of the nodes lists, and counts.
fn another(node: usize) -> [Fact; 2] {
    let one = Fact::Stored {
        node,
        job: "k".to_owned(),
        state: State::Failed,
        revision: 1,
    };
    [one, counted(node, State::Failed, 1)]
}

#[test]
fn nodes_that_differ_are_found() {
    let differ = [Fault::NodesDiffer { job: job() }];
    let (at, running) = (1, State::Running);
    let older = faults(|facts| {
        facts[20] = stored(at, running, 4);
        facts[21] = counted(at, running, 1);
    });
    assert_eq!(older, differ);
    let twice = faults(|facts| facts.push(stored(1, State::Succeeded, 4)));
    assert_eq!(twice, differ);
    let without = faults(|facts| drop(facts.drain(20..22)));
    assert_eq!(without, differ);
    let alone = Fault::NodesDiffer {
        job: "k".to_owned(),
    };
    for node in [0, 1] {
        let more = faults(|facts| facts.extend(another(node)));
        assert!(more.contains(&alone), "{node}: {more:?}");
    }
}

#[test]
fn wrong_counts_are_found() {
    for node in [0, 1] {
        let at = [14, 21][node];
        let differ = |state| Fault::CountsDiffer { node, state };
        let (succeeded, failed) = (State::Succeeded, State::Failed);
        let more = faults(|facts| facts.push(counted(node, failed, 1)));
        assert_eq!(more, [differ(failed)]);
        let none = faults(|facts| drop(facts.remove(at)));
        assert_eq!(none, [differ(succeeded)]);
        let two = faults(|facts| facts[at] = counted(node, succeeded, 2));
        assert_eq!(two, [differ(succeeded)]);
        let zero = faults(|facts| facts.push(counted(node, failed, 0)));
        assert_eq!(zero, []);
    }
}

#[test]
fn a_miscounted_task_is_found() {
    for (attempt, lost_leases) in [(1, 0), (2, 1)] {
        let wrong = faults(|facts| {
            facts[13] = Fact::StoredTask {
                task: task(),
                attempt,
                lost_leases,
            };
        });
        assert_eq!(wrong, [Fault::Miscounted { task: task() }]);
    }
}

#[test]
fn a_lease_that_is_not_in_the_history_is_found() {
    let unknown = |fencing_token| Fault::LeaseUnknown {
        task: task(),
        fencing_token,
    };
    let third = faults(|facts| facts.push(Fact::Leased(hold(3, "c"))));
    assert!(third.contains(&unknown(3)));
    let second = Hold {
        attempt: 2,
        ..hold(2, "c")
    };
    let other_attempt = faults(|facts| facts[3] = Fact::Leased(second));
    assert_eq!(other_attempt, [unknown(2)]);
}

#[test]
fn fencing_tokens_only_have_to_grow() {
    let leased = |fencing_token, attempt| {
        Fact::Leased(Hold {
            attempt,
            ..hold(fencing_token, "c")
        })
    };
    // A second attempt, with one lease.
    let another = |facts: &mut Vec<Fact>, lease| {
        facts[11] = Fact::Changed {
            job: job(),
            revision: 4,
            kind: Type::TaskLeased,
            task: task(),
            attempt: 2,
            state: State::Running,
        };
        facts[13] = Fact::StoredTask {
            task: task(),
            attempt: 2,
            lost_leases: 1,
        };
        facts[3] = lease;
        facts.remove(5);
    };
    let grown = faults(|facts| another(facts, leased(1_000, 2)));
    assert_eq!(grown, []);
    let same = faults(|facts| another(facts, leased(1, 2)));
    let reused = Fault::TokenReused {
        task: task(),
        fencing_token: 1,
    };
    assert_eq!(same, [reused]);
    let shrunk = faults(|facts| another(facts, leased(0, 2)));
    let unknown = Fault::LeaseUnknown {
        task: task(),
        fencing_token: 1,
    };
    assert_eq!(shrunk, [unknown]);
}

#[test]
fn a_follower_that_was_not_told_is_found() {
    let skipped = Fault::Skipped {
        follower: 1,
        job: job(),
        revision: 2,
    };
    let missed = Fault::Missed {
        follower: 1,
        job: job(),
    };
    assert_eq!(faults(|facts| drop(facts.remove(16))), [skipped]);
    let unseen = faults(|facts| drop(facts.remove(18)));
    assert_eq!(unseen, [missed.clone()].as_slice());
    assert_eq!(faults(|facts| drop(facts.drain(16..))), [missed]);
}
