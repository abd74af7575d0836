//! What can be taken, what is due, what is over.

use longhaul::{
    domain::{
        JobId, JobState, TaskState, Tenant, Timestamp,
        command::{Changes, ReadyTask},
        event::EventKind,
    },
    store::{MAX_TENANTS_PER_CLAIM, Whose},
};

use crate::fixture::*;

fn numbers(ready: &[ReadyTask]) -> Vec<JobId> {
    ready.iter().map(|task| task.key.job).collect()
}

pub async fn tasks_are_ready_by_priority_then_age(mut stored: Stored) {
    for (n, priority, second) in [(1, 0, 5), (2, 9, 7), (3, 0, 4), (4, -3, 1), (5, 9, 7)] {
        let mut job = job("acme", n);
        respec(&mut job, |spec| spec.priority = priority);
        job.tasks[0].ready_time = Some(at(second));
        stored.submit(&job).await;
    }
    let mut waiting = job("acme", 6);
    waiting.tasks[0].ready_time = None;
    stored.submit(&waiting).await;
    let mut others = job("acme", 7);
    others.tasks[0] = task(7, "terraform");
    stored.submit(&others).await;

    let ready = stored.ready(None, 10).await;
    assert_eq!(numbers(&ready), [2, 5, 3, 1, 4].map(|n| JobId(id(n))));
    let first = &ready[0];
    assert_eq!(
        (first.ordinal, first.priority, first.ready_time),
        (0, 9, at(7))
    );
    let ready = stored.ready(None, 2).await;
    assert_eq!(numbers(&ready), [2, 5].map(|n| JobId(id(n))));
}

pub async fn a_task_that_was_taken_is_not_ready(mut stored: Stored) {
    let mut job = job("acme", 1);
    job.tasks.push(task(2, "ansible"));
    stored.submit(&job).await;
    job.tasks[0].state = TaskState::Running;
    job.tasks[0].ready_time = None;
    job.revision += 1;
    stored.change(&job, EventKind::TaskLeased).await;
    let ready = stored.ready(None, 10).await;
    let ordinals: Vec<_> = ready.iter().map(|task| task.ordinal).collect();
    assert_eq!(ordinals, [1]);
}

pub async fn a_paused_driver_has_nothing_ready(mut stored: Stored) {
    stored.submit(&job("acme", 1)).await;
    let set = |paused: Option<(Timestamp, String)>| Changes {
        drivers: vec![("ansible".into(), paused)],
        ..Changes::default()
    };
    for paused in [true, false] {
        let pause = paused.then(|| (at(1), "broken".to_owned()));
        stored.commit(set(pause)).await;
        let acme = Tenant::new("acme");
        for whose in [Whose::All { served: None }, Whose::One(&acme)] {
            let ready = stored.ready_of(whose, 9).await;
            assert_eq!((ready.is_paused, ready.tasks.is_empty()), (paused, paused));
            assert!(!ready.more);
        }
    }
}

pub async fn turns_go_round_the_tenants(mut stored: Stored) {
    for (n, tenant) in (1..).zip(["b", "a", "c", "b"]) {
        stored.submit(&job(tenant, n)).await;
    }
    let mut after = async |served: Option<&str>| {
        let served = served.map(Tenant::new);
        let ready = stored.ready(served.as_ref(), 1).await;
        ready
            .iter()
            .map(|task| task.key.tenant.to_string())
            .collect::<String>()
    };
    assert_eq!(after(None).await, "abc");
    assert_eq!(after(Some("a")).await, "bca");
    assert_eq!(after(Some("b")).await, "cab");
    assert_eq!(after(Some("c")).await, "abc");
    assert_eq!(after(Some("bb")).await, "cab");
}

pub async fn one_tenants_tasks_are_ready_by_themselves(mut stored: Stored) {
    // More tenants before it than take part in a round.
    let others = MAX_TENANTS_PER_CLAIM as u64 + 1;
    for n in 0..others {
        stored.submit(&job(&format!("a-{n:04}"), n)).await;
    }
    for (n, priority, second) in [(1, 0, 5), (2, 9, 7), (3, 0, 4)] {
        let mut own = job("b", others + n);
        respec(&mut own, |spec| spec.priority = priority);
        own.tasks[0].ready_time = Some(at(second));
        stored.submit(&own).await;
    }
    let mut elsewhere = job("b", others + 4);
    elsewhere.tasks[0] = task(others + 4, "terraform");
    stored.submit(&elsewhere).await;
    stored.submit(&job("bb", others + 5)).await;

    let round = stored.ready(None, 5).await;
    assert!(round.iter().all(|task| *task.key.tenant.0 != *"b"));
    let own = Tenant::new("b");
    let ready = stored.ready_of(Whose::One(&own), 9).await;
    let expected = [2, 3, 1].map(|n| JobId(id(others + n)));
    assert_eq!(
        (numbers(&ready.tasks), ready.more),
        (expected.to_vec(), false)
    );
    assert!(ready.tasks.iter().all(|task| task.key.tenant == own));
    let ready = stored.ready_of(Whose::One(&own), 1).await;
    assert_eq!(numbers(&ready.tasks), expected[..1]);
    let nobody = Tenant::new("");
    assert_eq!(stored.ready_of(Whose::One(&nobody), 9).await.tasks, []);
}

pub async fn a_round_has_a_bound(mut stored: Stored) {
    let many = MAX_TENANTS_PER_CLAIM as u64 + 10;
    for n in 0..many {
        stored.submit(&job(&format!("tenant-{n:04}"), n)).await;
    }
    let served = Tenant::new(&format!("tenant-{:04}", many - 3));
    let ready = stored.ready(Some(&served), 5).await;
    assert_eq!(ready.len(), MAX_TENANTS_PER_CLAIM);
    assert_eq!(
        ready[0].key.tenant.to_string(),
        format!("tenant-{:04}", many - 2)
    );
    assert_eq!(ready[2].key.tenant.to_string(), "tenant-0000");
}

pub async fn the_tasks_ahead_are_counted(mut stored: Stored) {
    for (n, priority, second) in [(1, 0, 5), (2, 9, 7), (3, 0, 4), (4, -3, 1)] {
        let mut job = job("acme", n);
        respec(&mut job, |spec| spec.priority = priority);
        job.tasks[0].ready_time = Some(at(second));
        stored.submit(&job).await;
    }
    stored.submit(&job("umbrella", 5)).await;
    let ready = stored.ready(None, 10).await;
    for (ahead, task) in (0..4).zip(&ready) {
        let counted = stored.store.queued_before("ansible", task).await.unwrap();
        assert_eq!(counted, ahead);
    }
}

pub async fn due_jobs_come_longest_overdue_first(mut stored: Stored) {
    for (n, timer) in [(1, Some(30)), (2, Some(10)), (3, None), (4, Some(20))] {
        let mut job = job("acme", n);
        job.timer = timer.map(at);
        stored.submit(&job).await;
    }
    let writer = &mut stored.writer;
    writer.begin().await.unwrap();
    assert_eq!(writer.next_due().await.unwrap(), Some(at(10)));
    assert_eq!(writer.due(at(9), 10).await.unwrap(), []);
    let due = writer.due(at(20), 10).await.unwrap();
    let due: Vec<_> = due.iter().map(|key| key.job).collect();
    assert_eq!(due, [2, 4].map(|n| JobId(id(n))));
    assert_eq!(writer.due(at(99), 1).await.unwrap().len(), 1);
    writer.rollback().await;

    let mut handled = job("acme", 2);
    handled.timer = None;
    handled.revision += 1;
    stored.change(&handled, EventKind::TaskDue).await;
    stored.writer.begin().await.unwrap();
    assert_eq!(stored.writer.next_due().await.unwrap(), Some(at(20)));
}

pub async fn expired_jobs_come_longest_over_first(mut stored: Stored) {
    for (n, expires) in [(1, Some(30)), (2, Some(10)), (3, None), (4, Some(20))] {
        let mut job = job("acme", n);
        job.expire_time = expires.map(at);
        stored.submit(&job).await;
    }
    let writer = &mut stored.writer;
    writer.begin().await.unwrap();
    assert_eq!(writer.expired(at(9), 10).await.unwrap(), []);
    let expired = writer.expired(at(20), 10).await.unwrap();
    let expired: Vec<_> = expired.iter().map(|key| key.job).collect();
    assert_eq!(expired, [2, 4].map(|n| JobId(id(n))));
    assert_eq!(writer.expired(at(99), 1).await.unwrap().len(), 1);
}

pub async fn open_children_are_those_that_have_not_ended(mut stored: Stored) {
    let parent = job("acme", 1);
    stored.submit(&parent).await;
    for (n, state) in (2..).zip(JobState::ALL) {
        let mut child = job("acme", n);
        child.state = state;
        respec(&mut child, |spec| spec.parent = Some(parent.id));
        stored.submit(&child).await;
    }
    let mut theirs = job("umbrella", 20);
    respec(&mut theirs, |spec| spec.parent = Some(parent.id));
    stored.submit(&theirs).await;

    let writer = &mut stored.writer;
    writer.begin().await.unwrap();
    let open = writer.open_children(&parent.key(), 10).await.unwrap();
    let open: Vec<_> = open.iter().map(|key| key.job).collect();
    assert_eq!(open, [2, 3, 4].map(|n| JobId(id(n))));
    let open = writer.open_children(&parent.key(), 2).await.unwrap();
    assert_eq!(open.len(), 2);
}
