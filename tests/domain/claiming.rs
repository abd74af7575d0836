//! Who gets which task.

use longhaul::domain::{
    JobKey, Tenant,
    command::{Command, Submission},
    submission::{NewJob, NewTask},
};

use crate::world::*;

fn submit(world: &mut World, tenant: &str, name: &str, priority: i32) -> JobKey {
    let submission = Submission {
        tenant: Tenant::new(tenant),
        ..world.submission(NewJob {
            priority,
            ..new_job([new_task(name, &[])])
        })
    };
    world.try_submit(submission).expect("accepted").0.key()
}

fn names(grants: &[longhaul::domain::command::Grant]) -> Vec<&str> {
    grants.iter().map(|g| g.task.spec.name.as_str()).collect()
}

#[test]
fn priority_comes_first_then_age_then_position() {
    let mut world = World::new();
    submit(&mut world, "acme", "old", 0);
    world.pass(seconds(1));
    submit(&mut world, "acme", "low", -1);
    submit(&mut world, "acme", "young", 0);
    submit(&mut world, "acme", "high", 1_000);
    world.submit(new_job([new_task("first", &[]), new_task("second", &[])]));
    let grants = world.claim("d", 10);
    assert_eq!(
        names(&grants),
        ["high", "old", "young", "first", "second", "low"]
    );
}

#[test]
fn tenants_take_turns_and_go_on_where_they_were() {
    let mut world = World::new();
    for i in 0..4 {
        submit(&mut world, "big", &format!("big{i}"), 1_000);
    }
    submit(&mut world, "small", "small0", 0);
    submit(&mut world, "tiny", "tiny0", 0);
    assert_eq!(names(&world.claim("d", 1)), ["big0"]);
    assert_eq!(names(&world.claim("d", 1)), ["small0"]);
    assert_eq!(names(&world.claim("d", 1)), ["tiny0"]);
    submit(&mut world, "small", "small1", 0);
    assert_eq!(names(&world.claim("d", 3)), ["big1", "small1", "big2"]);
    assert_eq!(names(&world.claim("d", 9)), ["big3"]);
}

#[test]
fn workers_take_turns() {
    let mut world = World::new();
    for i in 0..4 {
        submit(&mut world, "acme", &format!("t{i}"), 0);
    }
    let claims = [
        claim("w1", &["d"], 10),
        claim("w2", &["d"], 1),
        claim("w3", &["d"], 10),
    ];
    let decision = world.run(Vec::new(), &claims);
    let got: Vec<_> = decision.grants.iter().map(|g| names(g)).collect();
    assert_eq!(got, [vec!["t0", "t3"], vec!["t1"], vec!["t2"]]);
    assert_eq!(decision.exhausted, [queue("d", None)]);
}

#[test]
fn a_worker_gets_only_tasks_of_its_drivers_and_no_more_than_its_slots() {
    let mut world = World::new();
    world.submit(new_job(["x", "y", "z"].map(|driver| NewTask {
        driver: driver.into(),
        ..new_task(driver, &[])
    })));
    let claims = [claim("w", &["z", "y"], 1), claim("none", &["x"], 0)];
    let decision = world.run(Vec::new(), &claims);
    assert_eq!(names(&decision.grants[0]), ["z"]);
    assert!(decision.grants[1].is_empty());
}

#[test]
fn a_paused_driver_gives_nothing_until_it_is_resumed() {
    let mut world = World::new();
    submit(&mut world, "acme", "t", 0);
    let driver = || "d".into();
    let pause = Command::PauseDriver {
        driver: driver(),
        reason: "maintenance".into(),
    };
    world.one(pause).expect("done");
    assert!(world.claim("d", 1).is_empty());
    world
        .one(Command::ResumeDriver { driver: driver() })
        .expect("done");
    assert_eq!(world.claim("d", 1).len(), 1);
}

#[test]
fn what_becomes_ready_in_a_batch_can_be_taken_in_it() {
    let mut world = World::new();
    world.submit(new_job([new_task("a", &[]), new_task("b", &["a"])]));
    let lease = world.lease("d");
    let done = Command::Report {
        lease,
        report: success(),
        reach: None,
    };
    let new = Command::Submit(world.submission(new_job([new_task("new", &[])])));
    let decision = world.run(vec![new, done], &[claim("w", &["d"], 5)]);
    assert_eq!(
        names(&decision.grants[0]),
        ["b", "new"],
        "the older job first"
    );
}

#[test]
fn what_a_batch_takes_away_does_not_hide_what_was_not_loaded() {
    let mut world = World::new();
    let first = submit(&mut world, "acme", "first", 0);
    world.pass(seconds(1));
    submit(&mut world, "acme", "second", 0);
    let cancel = Command::Cancel {
        key: first,
        reason: String::new(),
    };
    let decision = world.run(vec![cancel], &[claim("w", &["d"], 1)]);
    assert!(decision.grants[0].is_empty(), "only the first was loaded");
    assert!(decision.exhausted.is_empty());
    assert_eq!(decision.ready, [queue("d", None)]);
    assert_eq!(names(&world.claim("d", 1)), ["second"]);
    let decision = world.run(Vec::new(), &[claim("w", &["d"], 1)]);
    assert_eq!(decision.exhausted, [queue("d", None)]);
}

#[test]
fn a_grant_tells_the_worker_what_it_has_to_know() {
    let mut world = World::new();
    let mut spec = new_job([new_task("a", &[]), new_task("b", &["a"])]);
    spec.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    let key = world.submit(spec.clone());
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    let grant = world.claim("d", 1).remove(0);
    assert_eq!(grant.lease, world.job(&key).lease_key(1));
    assert_eq!(grant.task, world.job(&key).tasks[1]);
    assert_eq!(grant.depends_on, ["a"]);
    assert_eq!(grant.job.traceparent, spec.traceparent);
    assert_eq!(grant.duration, world.policy.lease_duration);
}

#[test]
fn a_worker_of_one_tenant_gets_that_tenant_s_tasks_alone() {
    let mut world = World::new();
    submit(&mut world, "acme", "low", -1);
    submit(&mut world, "acme", "high", 1);
    submit(&mut world, "globex", "theirs", 1_000);
    let claims = [
        claim_of("acme", "w", &["d"], 1),
        claim_of("nobody", "n", &["d"], 1),
    ];
    let decision = world.run(Vec::new(), &claims);
    assert_eq!(names(&decision.grants[0]), ["high"]);
    assert!(decision.grants[1].is_empty());
    // Of the others it is not told that they have nothing.
    assert_eq!(decision.exhausted, [queue("d", Some("nobody"))]);
    let decision = world.run(Vec::new(), &[claim_of("acme", "w", &["d"], 2)]);
    assert_eq!(names(&decision.grants[0]), ["low"]);
    assert_eq!(decision.exhausted, [queue("d", Some("acme"))]);
    assert_eq!(names(&world.claim("d", 9)), ["theirs"]);
}

#[test]
fn who_can_take_nothing_more_ends_the_round_for_nobody() {
    let mut world = World::new();
    for i in 0..2 {
        submit(&mut world, "big", &format!("big{i}"), 0);
        submit(&mut world, "small", &format!("small{i}"), 0);
    }
    let claims = [
        claim_of("nobody", "n", &["d"], 9),
        claim_of("small", "s", &["d"], 1),
        claim("w", &["d"], 9),
        claim_of("big", "b", &["d"], 9),
    ];
    let decision = world.run(Vec::new(), &claims);
    let got: Vec<_> = decision.grants.iter().map(|g| names(g)).collect();
    assert_eq!(
        got,
        [vec![], vec!["small0"], vec!["big0", "small1"], vec!["big1"]]
    );
    let mut exhausted = decision.exhausted;
    exhausted.sort_unstable();
    let of = |tenant| queue("d", tenant);
    assert_eq!(exhausted, [of(None), of(Some("big")), of(Some("nobody"))]);
}

#[test]
fn a_tenant_s_own_worker_costs_it_no_turn_at_the_others() {
    let mut world = World::new();
    for i in 0..4 {
        submit(&mut world, "acme", &format!("acme{i}"), 0);
        submit(&mut world, "globex", &format!("globex{i}"), 0);
    }
    assert_eq!(names(&world.claim("d", 1)), ["acme0"]);
    let own = world.run(Vec::new(), &[claim_of("globex", "g", &["d"], 1)]);
    assert_eq!(names(&own.grants[0]), ["globex0"]);
    assert_eq!(names(&world.claim("d", 2)), ["globex1", "acme1"]);
    let claims = [claim_of("acme", "a", &["d"], 1), claim("w", &["d"], 2)];
    let decision = world.run(Vec::new(), &claims);
    assert_eq!(names(&decision.grants[0]), ["acme2"]);
    assert_eq!(names(&decision.grants[1]), ["globex2", "acme3"]);
}

#[test]
fn what_others_took_does_not_hide_what_was_not_loaded_for_them() {
    let mut world = World::new();
    for i in 0..3 {
        submit(&mut world, "acme", &format!("t{i}"), 0);
    }
    // For each of them one is loaded, and it is the same.
    let claims = [claim("w", &["d"], 1), claim_of("acme", "a", &["d"], 1)];
    let decision = world.run(Vec::new(), &claims);
    assert_eq!(names(&decision.grants[0]), ["t0"]);
    assert!(decision.grants[1].is_empty());
    assert!(decision.exhausted.is_empty());
    assert_eq!(decision.ready, [queue("d", Some("acme"))]);
    let claims = [claim_of("acme", "a", &["d"], 1), claim("w", &["d"], 1)];
    let decision = world.run(Vec::new(), &claims);
    assert_eq!(names(&decision.grants[0]), ["t1"]);
    assert_eq!(decision.ready, [queue("d", None)]);
    assert_eq!(names(&world.claim("d", 9)), ["t2"]);
}
