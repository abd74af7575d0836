//! Turns of those who wait, where they are more than a commit looks at.

use super::*;

fn open(dispatch: &mut Dispatch, number: u64, tenant: &str, drivers: usize) {
    let drivers = (0..drivers).map(|n| Arc::from(format!("d{n}")));
    let (outbox, _nobody) = mpsc::channel(1);
    let session = Session {
        worker: "w".into(),
        tenant: Some(Tenant::new(tenant)),
        drivers: drivers.collect(),
        slots: 1,
        held: HashMap::new(),
        unacknowledged: HashSet::new(),
        outbox,
    };
    dispatch.open(SessionId(number), session);
}

/// What one commit looks at, and that it finds nothing there.
fn look(dispatch: &mut Dispatch) -> HashSet<Queue> {
    let claims = dispatch.claims(&Queues::default());
    let queues = claims.iter().flat_map(|claim| {
        let of = |driver: &Arc<str>| Queue {
            driver: driver.clone(),
            tenant: claim.tenant.clone(),
        };
        claim.drivers.iter().map(of)
    });
    let queues: HashSet<Queue> = queues.collect();
    let mut decision = Decision {
        exhausted: queues.iter().cloned().collect(),
        grants: vec![Vec::new(); claims.len()],
        ..Decision::default()
    };
    assert!(dispatch.take(&mut decision).is_empty());
    queues
}

#[test]
fn a_commit_looks_at_so_many_queues_and_the_next_at_others() {
    let mut dispatch = Dispatch::default();
    let tenants = 3 * MAX_QUEUES_PER_COMMIT / 2;
    // Two workers of each.
    for n in 0..2 * tenants {
        open(&mut dispatch, n as u64, &format!("t{}", n % tenants), 2);
    }
    let mut seen = HashSet::new();
    for _commit in 0..3 {
        assert!(dispatch.has_demand());
        let queues = look(&mut dispatch);
        assert_eq!(queues.len(), MAX_QUEUES_PER_COMMIT);
        seen.extend(queues);
    }
    assert_eq!(seen.len(), 2 * tenants);
    assert!(!dispatch.has_demand());
    // One worker's are looked at however many they are.
    open(&mut dispatch, u64::MAX, "one", MAX_QUEUES_PER_COMMIT + 1);
    assert_eq!(look(&mut dispatch).len(), MAX_QUEUES_PER_COMMIT + 1);
    assert!(!dispatch.has_demand());
}

#[test]
fn what_a_tenant_lacks_is_forgotten_when_it_has_some() {
    let mut dispatch = Dispatch::default();
    for (number, tenant) in (0..).zip(["acme", "globex"]) {
        open(&mut dispatch, number, tenant, 1);
    }
    assert_eq!(look(&mut dispatch).len(), 2);
    let driver = Arc::from("d0");
    let acme = Queue::of_one(&driver, &Tenant::new("acme"));
    // That nobody has any is more than that some have none.
    let none = Decision {
        exhausted: vec![Queue::of_all(&driver)],
        ..Decision::default()
    };
    dispatch.take(&mut { none });
    assert!(!dispatch.has_demand());
    dispatch.look_again_at([acme.clone()].into_iter());
    assert_eq!(look(&mut dispatch), HashSet::from([acme.clone()]));
    dispatch.look_again_for(&HashSet::from([Tenant::new("umbrella")]));
    assert!(!dispatch.has_demand());
    dispatch.look_again_for(&HashSet::from([Tenant::new("acme")]));
    assert_eq!(look(&mut dispatch), HashSet::from([acme]));
    dispatch.look_again();
    assert_eq!(look(&mut dispatch).len(), 2);
}

#[test]
fn names_that_callers_make_up_are_forgotten_and_what_is_waited_for_is_not() {
    let mut dispatch = Dispatch::default();
    let workers = MAX_KNOWN_QUEUES / MAX_QUEUES_PER_COMMIT + 5;
    let tenant = |n: usize| format!("t{n}");
    for n in 0..workers {
        open(&mut dispatch, n as u64, &tenant(n), MAX_QUEUES_PER_COMMIT);
    }
    // More than are remembered, and all of them waited for: to look has an end.
    for _commit in 0..workers {
        assert_eq!(look(&mut dispatch).len(), MAX_QUEUES_PER_COMMIT);
    }
    assert!(!dispatch.has_demand());
    let made_up = |n: usize| Queue::of_all(&format!("made-up-{n}").into());
    for n in 0..4 * MAX_KNOWN_QUEUES {
        let mut decision = Decision {
            exhausted: vec![made_up(n)],
            ..Decision::default()
        };
        dispatch.take(&mut decision);
        let awaited = workers * MAX_QUEUES_PER_COMMIT;
        assert!(dispatch.exhausted.len() <= MAX_KNOWN_QUEUES + 2 * awaited + 1);
    }
    let is_known = |n| dispatch.exhausted.contains(&made_up(n).driver, None);
    assert!(!is_known(0) && is_known(4 * MAX_KNOWN_QUEUES - 1));
    assert!(!dispatch.has_demand());
}
