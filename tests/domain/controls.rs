//! Proof that the audit can fail: a decision is falsified the way a broken core would make it, and the audit has to say so.

use std::sync::Arc;

use longhaul::domain::{
    Job, JobState, LeaseKey, Status, TaskState, Tenant, Timestamp,
    access::Roles,
    audit::{AuditRecord, Outcome},
    command::{Command, Decision, Refusal, Reply, Reported, WriteKind},
    counts::Counted,
    registry::{Administration, Entry, Quotas},
    secrecy::Secrets,
};

use crate::{
    registering::{actor, key},
    world::*,
};

/// A job with one running and one pending task.
fn running() -> (World, LeaseKey) {
    let mut world = World::new();
    world.submit(new_job([new_task("a", &[]), new_task("b", &["a"])]));
    let lease = world.lease("d");
    (world, lease)
}

/// Falsifies the decision on a report of success; answers what the audit says.
fn falsify(tamper: impl FnOnce(&mut Vec<Command>, &mut Decision)) -> String {
    let (mut world, lease) = running();
    let report = Command::Report {
        lease,
        report: success(),
        reach: None,
    };
    world.run_tampered(vec![report], &[], tamper).1.join("\n")
}

fn written(decision: &mut Decision) -> &mut Job {
    Arc::make_mut(&mut decision.changes.jobs[0].job)
}

#[track_caller]
fn says(told: &str, fault: &str) {
    assert!(told.contains(fault), "{fault:?} is not in: {told}");
}

#[test]
fn the_truth_passes() {
    assert_eq!(falsify(|_, _| {}), "");
}

#[test]
fn a_lost_event_is_noticed() {
    let told = falsify(|_, decision| {
        decision.changes.events.clear();
        decision.history.clear();
    });
    says(&told, "without an event");
}

#[test]
fn a_gap_in_the_revisions_is_noticed() {
    let told = falsify(|_, decision| decision.changes.events[0].revision += 1);
    says(&told, "has a gap");
}

/// As if the time of a revision were simply the clock's.
#[test]
fn two_revisions_of_one_time_are_noticed() {
    let told = falsify(|_, decision| {
        // The clock has stood still since the job was submitted.
        let event = &mut decision.changes.events[0];
        event.time = Timestamp::from_micros(event.time.as_micros() - 1);
    });
    says(&told, "is not of");
    let told = falsify(|_, d| written(d).update_time = Timestamp::default());
    says(&told, "was not updated when");
}

#[test]
fn secrets_that_outlive_their_task_are_noticed() {
    let told = falsify(|_, decision| {
        written(decision).tasks[0].secrets = Secrets::Sealed(Default::default());
    });
    says(&told, "secrets are there until the end");
    let told = falsify(|_, decision| written(decision).tasks[1].secrets = Secrets::Erased);
    says(&told, "secrets are there until the end");
}

#[test]
fn a_stale_report_that_is_applied_is_noticed() {
    // The core accepted the lease that it was given; the worker had said another one.
    let stale = |commands: &mut Vec<Command>| {
        if let Command::Report { lease, .. } = &mut commands[0] {
            lease.fencing_token = 0;
        }
    };
    let told = falsify(|commands, _| stale(commands));
    says(&told, "was accepted, which is not alive");
    // And one that is refused, and applied all the same.
    let told = falsify(|commands, decision| {
        stale(commands);
        decision.replies[0] = Err(Refusal::LeaseLost);
    });
    says(&told, "was changed by nothing");
}

#[test]
fn an_honest_holder_that_is_refused_is_noticed() {
    let told = falsify(|_, decision| decision.replies[0] = Err(Refusal::LeaseLost));
    says(&told, "the holder of");
}

#[test]
fn a_second_end_of_a_lease_is_noticed() {
    let (mut world, lease) = running();
    let report = || Command::Report {
        lease: lease.clone(),
        report: failure("x"),
        reach: None,
    };
    world.run(vec![report()], &[]);
    let forged = |_: &mut Vec<Command>, decision: &mut Decision| {
        decision.ended.push(longhaul::domain::command::EndedLease {
            lease: lease.clone(),
            by_server: false,
        });
    };
    let (_, told) = world.run_tampered(vec![report()], &[], forged);
    says(&told.join("\n"), "ended twice");
    // Accepting another end for it is worse.
    let forged = |_: &mut Vec<Command>, decision: &mut Decision| {
        decision.replies[0] = Ok(Reply::Reported(Reported::default()));
    };
    let other = Command::Report {
        lease: lease.clone(),
        report: success(),
        reach: None,
    };
    let (_, told) = world.run_tampered(vec![other], &[], forged);
    says(&told.join("\n"), "which is not alive");
}

#[test]
fn a_counter_off_by_one_is_noticed() {
    let told = falsify(|_, decision| {
        let counted = Counted::Jobs(Tenant::new("acme"), JobState::Running, Status::Normal);
        decision.changes.counts.add(counted, 1);
    });
    says(&told, "differ from a recount");
    // As if only the state had been counted.
    let told = falsify(|_, decision| {
        let counted = |status| Counted::Jobs(Tenant::new("acme"), JobState::Running, status);
        decision.changes.counts.add(counted(Status::Normal), -1);
        decision.changes.counts.add(counted(Status::Warning), 1);
    });
    says(&told, "differ from a recount");
}

#[test]
fn a_change_that_is_not_marked_is_noticed() {
    let told = falsify(|_, decision| {
        if let WriteKind::Update { tasks, .. } = &mut decision.changes.jobs[0].how {
            tasks.pop();
        }
    });
    says(&told, "changed and is not marked");
}

#[test]
fn a_job_in_a_state_that_its_tasks_belie_is_noticed() {
    says(
        &falsify(|_, d| written(d).status = Status::Error),
        "state and status follow from",
    );
    says(
        &falsify(|_, d| written(d).tasks[1].ready_time = None),
        "since when it is ready",
    );
    says(
        &falsify(|_, d| written(d).tasks[1].state = TaskState::Running),
        "a lease that runs out",
    );
    says(
        &falsify(|_, d| written(d).tasks[1].state = TaskState::Skipped),
        "skipped only because",
    );
}

/// Falsifies the decision to give the task of a new job to a worker.
fn falsify_grant(tamper: impl FnOnce(&mut Decision)) -> String {
    let mut world = World::new();
    world.submit(new_job([new_task("a", &[])]));
    let claims = [claim("w", &["d"], 1)];
    world
        .run_tampered(Vec::new(), &claims, |_, decision| tamper(decision))
        .1
        .join("\n")
}

#[test]
fn a_timer_that_is_late_is_noticed() {
    let late = |d: &mut Decision| written(d).timer = written(d).timer.map(|t| t.after(seconds(1)));
    says(&falsify_grant(late), "the timer is later");
    says(
        &falsify_grant(|d| written(d).timer = None),
        "the timer is later",
    );
}

#[test]
fn a_fencing_token_that_does_not_grow_is_noticed() {
    for token in [0, 1] {
        let told = falsify_grant(|d| d.grants[0][0].lease.fencing_token = token);
        says(&told, "does not grow with time");
    }
}

#[test]
fn a_task_given_to_nobody_is_noticed() {
    says(
        &falsify_grant(|decision| decision.grants[0].clear()),
        "leases are told wrong",
    );
}

#[test]
fn a_ready_task_that_nobody_hears_of_is_noticed() {
    says(
        &falsify(|_, decision| decision.ready.clear()),
        "nobody hears",
    );
    let lie = |_: &mut Vec<Command>, d: &mut Decision| d.exhausted.push(queue("d", None));
    says(&falsify(lie), "is said to be exhausted");
}

#[test]
fn a_ready_task_of_which_only_some_hear_is_noticed() {
    // Who waits for the tasks of this tenant alone does not look when others do.
    let told = falsify(|_, decision| decision.ready = vec![queue("d", None)]);
    says(&told, "nobody hears");
    let told = falsify(|_, decision| decision.ready = vec![queue("d", Some("globex"))]);
    says(&told, "nobody hears");
}

/// Falsifies the decision on claims of one tenant each, and one of all; answers what the audit says.
fn falsify_claims(tamper: impl FnOnce(&mut Decision)) -> String {
    let mut world = World::new();
    world.submit(new_job([new_task("a", &[])]));
    let claims = [
        claim_of("globex", "w", &["d"], 1),
        claim_of("acme", "w", &["d"], 2),
        claim("w", &["e"], 1),
    ];
    let (_, told) = world.run_tampered(Vec::new(), &claims, |_, decision| tamper(decision));
    told.join("\n")
}

#[test]
fn another_tenant_s_task_that_is_given_is_noticed() {
    assert_eq!(falsify_claims(|_| {}), "");
    says(&falsify_claims(|d| d.grants.swap(0, 1)), "P11: ");
}

#[test]
fn a_queue_that_is_looked_at_for_nothing_is_noticed() {
    for at in 0..3 {
        let told = falsify_claims(|decision| drop(decision.exhausted.remove(at)));
        says(&told, "nobody is told how");
    }
    // Once nothing is left and nothing happens, there is no reason to look again.
    let mut world = World::new();
    let claims = [claim_of("acme", "w", &["d"], 1)];
    let again = |_: &mut Vec<Command>, decision: &mut Decision| {
        decision.ready.append(&mut decision.exhausted);
    };
    let (_, told) = world.run_tampered(Vec::new(), &claims, again);
    says(&told.join("\n"), "nobody is told how");
}

#[test]
fn a_report_from_beyond_the_reporter_s_reach_is_noticed() {
    let beyond = [
        reach(Some("globex"), None),
        reach(None, Some(&["e"])),
        reach(Some("acme"), Some(&[])),
    ];
    for beyond in beyond {
        let told = falsify(|commands, _| {
            if let Command::Report { reach, .. } = &mut commands[0] {
                *reach = Some(beyond);
            }
        });
        says(&told, "P11: ");
        says(&told, "was changed by nothing");
    }
    // And the holder that is refused because of a reach that does go so far.
    let told = falsify(|commands, decision| {
        if let Command::Report { reach: of, .. } = &mut commands[0] {
            *of = Some(reach(Some("acme"), Some(&["d"])));
        }
        decision.replies[0] = Err(Refusal::LeaseLost);
    });
    says(&told, "the holder of");
}

#[test]
fn a_finished_job_that_changes_is_noticed() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let ended = world.cancel(&key, "");
    let sweep = Command::Sweep { key };
    let (_, told) = world.run_tampered(vec![sweep], &[], |_, decision| {
        let mut job = (*ended).clone();
        job.status = Status::Normal;
        decision
            .changes
            .jobs
            .push(longhaul::domain::command::JobWrite {
                job: job.into(),
                how: WriteKind::Update {
                    job: true,
                    tasks: Vec::new(),
                },
            });
    });
    says(&told.join("\n"), "had ended and was changed");
}

#[test]
fn a_parent_that_miscounts_or_ends_early_is_noticed() {
    let family = || {
        let mut world = World::new();
        let parent = world.submit(new_job([new_task("p", &[])]));
        let child = longhaul::domain::submission::NewJob {
            parent: Some(parent.job),
            ..new_job([new_task("c", &[])])
        };
        (world, parent, child)
    };
    let (mut world, parent, child) = family();
    let submit = Command::Submit(world.submission(child));
    let (_, told) = world.run_tampered(vec![submit], &[], |_, decision| {
        let mut writes = decision.changes.jobs.iter_mut();
        let write = writes
            .find(|w| w.job.id == parent.job)
            .expect("the parent's");
        Arc::make_mut(&mut write.job).children.total = 0;
    });
    says(&told.join("\n"), "miscounts its children");
}

#[test]
fn a_request_that_makes_a_second_job_is_noticed() {
    let mut world = World::new();
    let mut submission = world.submission(new_job([new_task("a", &[])]));
    submission.request_id = "r".into();
    let submit = || vec![Command::Submit(submission.clone())];
    world.run(submit(), &[]);
    world.store.requests.clear();
    let (_, told) = world.run_tampered(submit(), &[], |_, _| {});
    says(&told.join("\n"), "does not fit request id");
}

/// Falsifies the decision on what an operator does: making a tenant, and revoking a key that there is; answers what the audit says.
fn falsify_administration(tamper: impl FnOnce(&mut Vec<Command>, &mut Decision)) -> String {
    let mut world = World::new();
    let tenant = |name: &str| Administration::CreateTenant {
        name: Tenant::new(name),
        quotas: Quotas::default(),
    };
    let key = Administration::CreateKey(key("k", "acme").into());
    let there = [tenant("acme"), key].map(Command::Administer);
    world.run(there.into(), &[]);
    let revoke = Administration::RevokeKey {
        id: "k".into(),
        within: None,
    };
    let acts = [tenant("globex"), revoke].map(Command::Administer);
    let commands = acts.map(|act| act.by(Some(actor("operator")))).into();
    world.run_tampered(commands, &[], tamper).1.join("\n")
}

#[test]
fn the_truth_of_an_administration_passes() {
    assert_eq!(falsify_administration(|_, _| {}), "");
}

#[test]
fn an_audit_log_that_lies_is_noticed() {
    let told = falsify_administration(|_, decision| drop(decision.changes.audit.pop()));
    says(&told, "1 records of 2 commands");
    let told = falsify_administration(|_, decision| decision.changes.audit.swap(0, 1));
    says(&told, "the audit log says");
    let lies: [fn(&mut AuditRecord); 4] = [
        |record| record.outcome = Outcome::Refused,
        |record| record.actor = actor("acme"),
        |record| record.tenant = Tenant::new("operator"),
        |record| record.time = Timestamp::default(),
    ];
    for lie in lies {
        let told = falsify_administration(|_, d| lie(&mut d.changes.audit[1]));
        says(&told, "the audit log says");
    }
    let told = falsify_administration(|commands, _| {
        let bare = commands[0].bare().clone();
        commands[0] = bare;
    });
    says(&told, "2 records of 1 commands");
}

#[test]
fn records_that_change_as_nobody_wanted_are_noticed() {
    let told = falsify_administration(|_, d| {
        let twice = d.changes.records[0].clone();
        d.changes.records.push(twice);
    });
    says(&told, "is written twice");
    let told = falsify_administration(|_, d| d.changes.records[1].before = 0);
    says(&told, "at 1 is written as");
    let told = falsify_administration(|_, d| d.changes.records[1].record.revision = 9);
    says(&told, "at 1 is written as");
    let told = falsify_administration(|_, d| d.replies[0] = Err(Refusal::LeaseLost));
    says(&told, "tenant globex was changed by nothing");
    let told = falsify_administration(|_, d| {
        if let Entry::Key(key) = &mut d.changes.records[1].record.entry {
            key.roles = Roles::all();
        }
    });
    says(&told, "the key k was tampered with");
    let told = falsify_administration(|_, d| {
        if let Entry::Key(key) = &mut d.changes.records[1].record.entry {
            key.tenant = Tenant::new("nowhere");
        }
    });
    says(&told, "the key k has no tenant");
}
