//! Random histories: whatever anybody does in whatever order, the audit holds after every batch, and in the end every job ends.
//!
//! A failure prints the smallest history that still fails, and the seed to run it again.

use std::time::Duration;

use longhaul::domain::{
    JobKey, LeaseKey, Tenant,
    command::{Claim, Command, Report, Submission},
    job::FailurePolicy,
    submission::{NewJob, NewRetryPolicy, NewTask},
    task::Timeouts,
};
use proptest::prelude::*;

use crate::{
    registering::{Change, actor, administration, change},
    secrets::secrets,
    world::*,
};

const DRIVERS: [&str; 3] = ["d0", "d1", "d2"];
const TENANTS: [&str; 2] = ["acme", "globex"];

#[derive(Clone, Debug)]
struct Step {
    millis: u64,
    /// The server restarts: leases hold for a while.
    restart: bool,
    /// The operator changes how long leases last.
    lease_seconds: u64,
    acts: Vec<Act>,
    claims: Vec<Claims>,
    sweep: bool,
}

#[derive(Clone, Debug)]
struct Claims {
    worker: u8,
    tenant: Option<u8>,
    /// One bit for each.
    drivers: u8,
    slots: u32,
}

/// A tenant, and one bit for each driver; `None` for all.
type Within = (Option<u8>, Option<u8>);

#[derive(Clone, Debug)]
enum Act {
    Submit(Shape),
    Cancel(usize),
    Retry(usize, Option<u8>),
    Delete(usize),
    /// By the holder of a living lease.
    Honest(usize, Say, Option<Within>),
    /// On any lease that ever was.
    Any(usize, Say, Option<Within>),
    /// On a lease that never was.
    Forged(usize, u32, u64, u32, Say, Option<Within>),
    CancelDelivered(usize),
    Recall(usize),
    Sweep(usize),
    Expire(usize),
    Pause(u8),
    Resume(u8),
    /// Somebody changes tenants or credentials.
    Administer(Change),
    /// Somebody does something that is logged.
    Audited(u8, Box<Act>),
    /// Somebody tries what he may not do.
    Denied(u8),
}

#[derive(Clone, Debug)]
struct Shape {
    tenant: u8,
    request: Option<u8>,
    parent: Option<usize>,
    priority: i32,
    proceed: bool,
    delay_seconds: Option<u64>,
    tasks: Vec<TaskShape>,
}

#[derive(Clone, Debug)]
struct TaskShape {
    driver: u8,
    /// One bit for each task before this one.
    after: u8,
    max_attempts: u32,
    backoff_millis: u64,
    timeouts: [Option<u64>; 4],
}

#[derive(Clone, Debug)]
enum Say {
    Heartbeat,
    Progress(i64),
    Warning,
    Success,
    Failure { permanent: bool, after: Option<u64> },
    Release,
    CancelAcknowledged,
    Cancelled,
}

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        1 => Just(Say::Heartbeat),
        2 => (0..4i64).prop_map(Say::Progress),
        1 => Just(Say::Warning),
        4 => Just(Say::Success),
        3 => (prop::bool::weighted(0.2), prop::option::of(0..20u64))
            .prop_map(|(permanent, after)| Say::Failure { permanent, after }),
        1 => Just(Say::Release),
        1 => Just(Say::CancelAcknowledged),
        1 => Just(Say::Cancelled),
    ]
}

fn task() -> impl Strategy<Value = TaskShape> {
    let limit = || prop::option::weighted(0.2, 1..40u64);
    (
        0..3u8,
        any::<u8>(),
        1..4u32,
        0..3_000u64,
        [limit(), limit(), limit(), limit()],
    )
        .prop_map(
            |(driver, after, max_attempts, backoff_millis, timeouts)| TaskShape {
                driver,
                after,
                max_attempts,
                backoff_millis,
                timeouts,
            },
        )
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        0..2u8,
        prop::option::weighted(0.3, 0..4u8),
        prop::option::weighted(0.4, any::<usize>()),
        -1..2i32,
        any::<bool>(),
        prop::option::weighted(0.2, 0..60u64),
        prop::collection::vec(task(), 1..7),
    )
        .prop_map(
            |(tenant, request, parent, priority, proceed, delay_seconds, tasks)| Shape {
                tenant,
                request,
                parent,
                priority,
                proceed,
                delay_seconds,
                tasks,
            },
        )
}

fn act() -> impl Strategy<Value = Act> {
    let any_index = || any::<usize>();
    prop_oneof![
        6 => shape().prop_map(Act::Submit),
        2 => any_index().prop_map(Act::Cancel),
        2 => (any_index(), prop::option::of(0..4u8)).prop_map(|(j, r)| Act::Retry(j, r)),
        2 => any_index().prop_map(Act::Delete),
        16 => (any_index(), say(), within()).prop_map(|(l, s, w)| Act::Honest(l, s, w)),
        4 => (any_index(), say(), within()).prop_map(|(l, s, w)| Act::Any(l, s, w)),
        1 => (any_index(), 0..2u32, 0..3u64, 0..9u32, say(), within())
            .prop_map(|(l, a, t, o, s, w)| Act::Forged(l, a, t, o, s, w)),
        2 => any_index().prop_map(Act::CancelDelivered),
        1 => any_index().prop_map(Act::Recall),
        2 => any_index().prop_map(Act::Sweep),
        1 => any_index().prop_map(Act::Expire),
        1 => (0..3u8).prop_map(Act::Pause),
        1 => (0..3u8).prop_map(Act::Resume),
        4 => change().prop_map(Act::Administer),
        4 => (0..2u8, change())
            .prop_map(|(by, change)| Act::Audited(by, Act::Administer(change).into())),
        1 => (0..2u8, any_index()).prop_map(|(by, j)| Act::Audited(by, Act::Cancel(j).into())),
        1 => (0..2u8).prop_map(Act::Denied),
    ]
}

/// How far a reporter's word goes; `None` for the server's own.
fn within() -> impl Strategy<Value = Option<Within>> {
    let tenant = prop::option::weighted(0.4, 0..2u8);
    let drivers = prop::option::weighted(0.4, 0..8u8);
    prop::option::weighted(0.7, (tenant, drivers))
}

fn claims() -> impl Strategy<Value = Claims> {
    let tenant = prop::option::weighted(0.5, 0..2u8);
    (0..3u8, tenant, 1..8u8, 0..4u32).prop_map(|(worker, tenant, drivers, slots)| Claims {
        worker,
        tenant,
        drivers,
        slots,
    })
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop_oneof![3 => 0..100u64, 2 => 100..12_000u64, 1 => 12_000..90_000u64],
        prop::bool::weighted(0.05),
        prop_oneof![9 => Just(30u64), 1 => Just(5u64)],
        prop::collection::vec(act(), 0..6),
        prop::collection::vec(claims(), 0..5),
        prop::bool::weighted(0.4),
    )
        .prop_map(
            |(millis, restart, lease_seconds, acts, claims, sweep)| Step {
                millis,
                restart,
                lease_seconds,
                acts,
                claims,
                sweep,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_passes_the_audit_and_every_job_ends(
        steps in prop::collection::vec(step(), 1..40),
        watched: bool,
    ) {
        let mut world = World::new();
        world.watched = watched;
        for step in &steps {
            play(&mut world, step);
        }
        finish(&mut world);
    }
}

fn play(world: &mut World, step: &Step) {
    world.policy.lease_duration = seconds(step.lease_seconds);
    world.now = world.now.after(Duration::from_millis(step.millis));
    if step.restart {
        let hold = world.now.after(world.policy.lease_duration);
        // Timers are stored under the former one: a shorter lease after a restart takes hold when the longer one would have.
        world.hold = world.hold.max(hold);
    }
    if step.sweep {
        world.sweep();
        nothing_is_overdue(world);
    }
    let commands = step
        .acts
        .iter()
        .filter_map(|act| command(world, act))
        .collect();
    let claims: Vec<Claim> = step
        .claims
        .iter()
        .map(|claims| {
            let worker = format!("w{}", claims.worker);
            let drivers = drivers(claims.drivers);
            match claims.tenant {
                Some(tenant) => claim_of(TENANTS[tenant as usize], &worker, &drivers, claims.slots),
                None => claim(&worker, &drivers, claims.slots),
            }
        })
        .collect();
    world.run(commands, &claims);
}

fn drivers(bits: u8) -> Vec<&'static str> {
    let taken = (0..3).filter(|d| bits & (1 << d) != 0);
    taken.map(|d| DRIVERS[d]).collect()
}

/// P5: after a sweep nothing is left that time should have done.
fn nothing_is_overdue(world: &World) {
    for job in world.store.jobs.values() {
        let next = crate::sound::next_change(job, &world.policy, world.hold);
        assert!(next.is_none_or(|t| t > world.now), "overdue: {job:#?}");
    }
}

/// P3: with workers that do their work, every job ends, in a bounded number of rounds.
fn finish(world: &mut World) {
    let resume = |driver: &str| Command::ResumeDriver {
        driver: driver.into(),
    };
    world.run(DRIVERS.map(resume).into(), &[]);
    for _round in 0..1_000 {
        world.sweep();
        nothing_is_overdue(world);
        let decision = world.run(Vec::new(), &[claim("last", &DRIVERS, 100)]);
        let leases: Vec<LeaseKey> = decision.grants[0].iter().map(|g| g.lease.clone()).collect();
        if leases.is_empty() {
            match world.store.next_due() {
                Some(due) => world.now = world.now.max(due),
                None => break,
            }
        }
        for lease in leases {
            let report = success();
            world
                .one(Command::Report {
                    lease,
                    report,
                    reach: None,
                })
                .expect("its lease is alive");
        }
    }
    for job in world.store.jobs.values() {
        assert!(job.state.is_terminal(), "it never ends: {job:#?}");
    }
}

fn command(world: &World, act: &Act) -> Option<Command> {
    let job = |index: &usize| -> Option<JobKey> {
        let keys: Vec<&JobKey> = world.store.jobs.keys().collect();
        (!keys.is_empty()).then(|| keys[index % keys.len()].clone())
    };
    let any_lease = |index: &usize| -> Option<LeaseKey> {
        let leases = &world.leases;
        (!leases.is_empty()).then(|| leases[index % leases.len()].clone())
    };
    Some(match act {
        Act::Submit(shape) => Command::Submit(submission(world, shape, job)?),
        Act::Cancel(index) => Command::Cancel {
            key: job(index)?,
            reason: "enough".into(),
        },
        Act::Retry(index, request) => {
            let key = job(index)?;
            let mut fingerprint = [1; 32];
            fingerprint[..16].copy_from_slice(key.job.0.as_bytes());
            Command::Retry {
                key,
                request_id: request.map_or(String::new(), |r| format!("r{r}")),
                fingerprint,
            }
        }
        Act::Delete(index) => Command::Delete { key: job(index)? },
        Act::Honest(index, say, within) => {
            let alive = living(world);
            let lease = (!alive.is_empty()).then(|| alive[index % alive.len()].clone())?;
            report(lease, say, within)
        }
        Act::Any(index, say, within) => report(any_lease(index)?, say, within),
        Act::Forged(index, attempt, token, ordinal, say, within) => {
            let mut lease = any_lease(index)?;
            lease.attempt += attempt;
            lease.fencing_token += token;
            lease.ordinal = *ordinal;
            // It may be somebody's by accident; then it is not forged.
            let real = world.leases.contains(&lease);
            (!real).then(|| report(lease, say, within))?
        }
        Act::CancelDelivered(index) => Command::CancelDelivered {
            lease: any_lease(index)?,
        },
        Act::Recall(index) => Command::Recall {
            lease: any_lease(index)?,
        },
        Act::Sweep(index) => Command::Sweep { key: job(index)? },
        Act::Expire(index) => Command::Expire { key: job(index)? },
        Act::Pause(driver) => Command::PauseDriver {
            driver: DRIVERS[*driver as usize].into(),
            reason: String::new(),
        },
        Act::Resume(driver) => Command::ResumeDriver {
            driver: DRIVERS[*driver as usize].into(),
        },
        Act::Administer(change) => Command::Administer(administration(change, world.now)),
        Act::Audited(by, act) => command(world, act)?.by(Some(actor(TENANTS[*by as usize]))),
        Act::Denied(by) => {
            let (action, target) = ("PauseDriver".into(), "d0".into());
            Command::Denied { action, target }.by(Some(actor(TENANTS[*by as usize])))
        }
    })
}

fn living(world: &World) -> Vec<LeaseKey> {
    let jobs = world.store.jobs.values();
    jobs.flat_map(|job| {
        (0u32..)
            .zip(&job.tasks)
            .filter(|(_, task)| task.state.is_leased())
            .map(|(ordinal, _)| job.lease_key(ordinal))
    })
    .collect()
}

fn report(lease: LeaseKey, say: &Say, within: &Option<Within>) -> Command {
    let report = match say {
        Say::Heartbeat => Report::Heartbeat,
        Say::Progress(done) => progress(*done),
        Say::Warning => warning("hot"),
        Say::Success => success(),
        Say::Failure { permanent, after } => Report::Failure {
            message: "broken".into(),
            reason: String::new(),
            permanent: *permanent,
            retry_after: after.map(seconds),
            status_detail: "as it was".into(),
        },
        Say::Release => release(),
        Say::CancelAcknowledged => Report::CancelAcknowledged,
        Say::Cancelled => stopped(),
    };
    let reach = within.map(|(tenant, of)| {
        let tenant = tenant.map(|tenant| TENANTS[tenant as usize]);
        reach(tenant, of.map(drivers).as_deref())
    });
    Command::Report {
        lease,
        report,
        reach,
    }
}

fn submission(
    world: &World,
    shape: &Shape,
    job: impl Fn(&usize) -> Option<JobKey>,
) -> Option<Submission> {
    let tasks = shape.tasks.iter().enumerate().map(|(i, task)| NewTask {
        name: format!("t{i}"),
        driver: DRIVERS[task.driver as usize].into(),
        depends_on: (0..i)
            .filter(|d| task.after & (1 << d) != 0)
            .map(|d| format!("t{d}"))
            .collect(),
        max_attempts: task.max_attempts,
        retry_policy: NewRetryPolicy {
            initial_backoff: Some(Duration::from_millis(task.backoff_millis)),
            ..NewRetryPolicy::default()
        },
        timeouts: Timeouts {
            schedule_to_start: task.timeouts[0].map(seconds),
            start_to_close: task.timeouts[1].map(seconds),
            schedule_to_close: task.timeouts[2].map(seconds),
            heartbeat: task.timeouts[3].map(seconds),
        },
        hidden: (task.after % 2 == 1).then(|| secrets(&[("word", "broken")])),
        ..NewTask::default()
    });
    // Positions in a job need not follow dependencies.
    let mut tasks: Vec<NewTask> = tasks.collect();
    if shape.priority == 0 {
        tasks.reverse();
    }
    let submission = world.submission(NewJob {
        priority: shape.priority,
        failure_policy: match shape.proceed {
            true => FailurePolicy::Continue,
            false => FailurePolicy::FailFast,
        },
        schedule_time: shape.delay_seconds.map(|s| world.now.after(seconds(s))),
        parent: shape
            .parent
            .and_then(|index| job(&index))
            .map(|key| key.job),
        tasks: tasks.clone(),
        ..NewJob::default()
    });
    let mut fingerprint = [0; 32];
    fingerprint[0] = u8::try_from(tasks.len()).ok()?;
    Some(Submission {
        tenant: Tenant::new(TENANTS[shape.tenant as usize]),
        request_id: shape.request.map_or(String::new(), |r| format!("r{r}")),
        fingerprint,
        ..submission
    })
}
