//! Jobs as a whole: what is written is what is read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use longhaul::{
    domain::{
        Document, JobId, JobKey, JobState, Status, TaskState, Tenant,
        command::{Changes, WriteKind},
        event::EventKind,
        filter::{Field, Filter, Order, Pattern},
        job::{CancelReceipt, ChildCounts, FailurePolicy},
        secrecy::Secrets,
        task::{LeaseEnd, Object, Progress, RetryPolicy, Timeouts},
    },
    store::{ListOrder, ListQuery, Locked, StoreError},
};

use crate::fixture::*;

/// A job with every field set to something of its own.
fn full_job() -> longhaul::domain::Job {
    let mut job = job("acme", 1);
    let object = |of: &str| Object {
        kind: format!("{of} bucket"),
        id: format!("{of}/42"),
        name: format!("{of} \"test1234\" ü"),
    };
    respec(&mut job, |spec| {
        spec.object = Some(object("job"));
        spec.labels = BTreeMap::from([
            ("env".into(), "prod".into()),
            ("quoted".into(), "say \"hi\"\n".into()),
        ]);
        spec.priority = -7;
        spec.parent = Some(JobId(id(77)));
        spec.failure_policy = FailurePolicy::Continue;
        spec.schedule_time = Some(at(5));
        spec.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    });
    job.request_id = "request 1".into();
    job.depth = 2;
    job.retry_of = Some(JobId(id(78)));
    job.state = JobState::Cancelling;
    job.status = Status::Warning;
    job.last_error = "disk on fire".into();
    job.revision = 12;
    job.children = ChildCounts {
        total: 9,
        succeeded: 3,
        failed: 2,
        cancelled: 1,
    };
    job.cancel = Some(CancelReceipt {
        requested: at(10),
        delivered: Some(at(11)),
        acknowledged: Some(at(12)),
        forced: Some(at(13)),
        reason: "not needed".into(),
    });
    job.timer = Some(at(20));
    job.start_time = Some(at(6));
    job.update_time = at(13);
    job.end_time = Some(at(14));
    job.expire_time = Some(at(15));

    let task = &mut job.tasks[0];
    let spec = Arc::make_mut(&mut task.spec);
    spec.object = Some(object("task"));
    spec.resource_type = "s3_bucket".into();
    spec.depends_on = vec![3, 1];
    spec.max_attempts = 4;
    spec.retry_policy = RetryPolicy {
        initial_backoff: Duration::from_millis(1_500),
        max_backoff: Duration::from_secs(90),
        multiplier: 1.1,
        jitter: 0.3,
    };
    spec.timeouts = Timeouts {
        schedule_to_start: Some(Duration::from_secs(1)),
        start_to_close: Some(Duration::from_secs(2)),
        schedule_to_close: Some(Duration::from_secs(3)),
        heartbeat: Some(Duration::from_secs(4)),
    };
    spec.request_payload = Some(Document(b"payload".to_vec().into()));
    task.state = TaskState::Cancelling;
    task.status = Status::Error;
    task.status_detail = "half way".into();
    task.last_error = "no route".into();
    task.error_reason = "NO_ROUTE".into();
    task.attempt = 3;
    task.failures = 2;
    task.fencing_token = 5;
    task.lost_leases = 1;
    task.worker = "worker-1".into();
    task.lease_expiry = Some(at(30));
    task.last_end = Some((4, LeaseEnd::Released));
    task.progress = Some(Progress {
        done: 3,
        total: 9,
        unit: "files".into(),
        message: "copying".into(),
    });
    task.warnings = vec!["slow".into(), "slower".into()];
    task.result = Some(Document(b"result".to_vec().into()));
    task.schedule_time = Some(at(5));
    task.ready_time = Some(at(6));
    task.first_ready_time = Some(at(5));
    task.start_time = Some(at(7));
    task.update_time = at(13);
    task.end_time = Some(at(14));
    task.cancel_acknowledged = true;
    task.secrets = Secrets::Sealed(b"sealed".to_vec().into());
    job
}

pub async fn a_job_reads_back_as_it_was_written(mut stored: Stored) {
    let (plain, full) = (job("acme", 2), full_job());
    stored.submit(&full).await;
    stored.submit(&plain).await;
    assert_eq!(stored.job(&full.key()).await.as_ref(), Some(&full));
    assert_eq!(stored.job(&plain.key()).await.as_ref(), Some(&plain));

    // The writer reads the same, and so does a list.
    stored.writer.begin().await.unwrap();
    let keys = [plain.key(), full.key()];
    let read = stored.writer.jobs(&keys, Locked::Wait).await.unwrap();
    assert_eq!(read, [plain.clone(), full.clone()]);
    stored.writer.rollback().await;
    let page = stored.store.list(list("acme", 10)).await.unwrap();
    let listed: Vec<_> = page.jobs.iter().map(|job| job.as_ref().clone()).collect();
    assert_eq!(listed, [plain.clone(), full.clone()]);

    // And an update carries over all that can change.
    let mut changed = full_job();
    changed.id = plain.id;
    changed.revision = plain.revision + 1;
    changed.spec = plain.spec.clone();
    changed.request_id = plain.request_id.clone();
    changed.depth = plain.depth;
    changed.retry_of = plain.retry_of;
    changed.tasks[0].id = plain.tasks[0].id;
    changed.tasks[0].spec = plain.tasks[0].spec.clone();
    changed.tasks[0].secrets = plain.tasks[0].secrets.clone();
    stored.change(&changed, EventKind::TaskProgress).await;
    assert_eq!(stored.job(&plain.key()).await, Some(changed));
}

pub async fn a_change_of_a_task_leaves_the_others_alone(mut stored: Stored) {
    let mut before = job("acme", 1);
    before.tasks = vec![task(1, "a"), task(2, "b"), task(3, "c")];
    stored.submit(&before).await;

    let mut after = before.clone();
    after.tasks[1].state = TaskState::Running;
    let how = |job, tasks| WriteKind::Update { job, tasks };
    stored
        .commit(Changes {
            jobs: vec![write(&after, how(false, vec![1]))],
            ..Changes::default()
        })
        .await;
    assert_eq!(stored.job(&before.key()).await, Some(after));
}

pub async fn a_large_document_reads_back_whole(mut stored: Stored) {
    let large = |byte: u8| Some(Document(vec![byte; 300_000].into()));
    let mut job = job("acme", 1);
    Arc::make_mut(&mut job.tasks[0].spec).request_payload = large(b'p');
    stored.submit(&job).await;
    job.tasks[0].result = large(b'r');
    job.revision += 1;
    stored.change(&job, EventKind::TaskSucceeded).await;
    assert_eq!(stored.job(&job.key()).await.as_ref(), Some(&job));
    // Written again with the result that it has.
    job.tasks[0].status_detail = "done".into();
    job.revision += 1;
    stored.change(&job, EventKind::TaskProgress).await;
    assert_eq!(stored.job(&job.key()).await, Some(job));
}

pub async fn secrets_are_kept_until_they_are_erased(mut stored: Stored) {
    for (n, bytes) in [(1, 20), (2, 100_000)] {
        let sealed = |byte: u8| Secrets::Sealed(vec![byte; bytes].into());
        let mut job = job("acme", n);
        job.tasks = vec![task(1, "a"), task(2, "a"), task(3, "a")];
        job.tasks[0].secrets = sealed(b's');
        job.tasks[1].secrets = sealed(b't');
        stored.submit(&job).await;
        assert_eq!(stored.job(&job.key()).await.as_ref(), Some(&job));
        // What else changes of a task leaves them alone.
        job.tasks[0].status_detail = "half way".into();
        job.revision += 1;
        stored.change(&job, EventKind::TaskProgress).await;
        assert_eq!(stored.job(&job.key()).await.as_ref(), Some(&job));
        job.tasks[0].secrets = Secrets::Erased;
        job.revision += 1;
        stored.change(&job, EventKind::TaskSucceeded).await;
        assert_eq!(stored.job(&job.key()).await.as_ref(), Some(&job));
        // Written again, as what is erased.
        job.tasks[0].status_detail = "done".into();
        job.revision += 1;
        stored.change(&job, EventKind::TaskProgress).await;
        assert_eq!(stored.job(&job.key()).await, Some(job));
    }
}

pub async fn another_tenants_job_is_not_found(mut stored: Stored) {
    let job = job("acme", 1);
    stored.submit(&job).await;
    let key = JobKey {
        tenant: Tenant::new("umbrella"),
        job: job.id,
    };
    assert_eq!(stored.job(&key).await, None);
    let keys = std::slice::from_ref(&key);
    stored.writer.begin().await.unwrap();
    let jobs = stored.writer.jobs(keys, Locked::Wait).await.unwrap();
    stored.writer.rollback().await;
    assert_eq!(jobs, []);
    assert_eq!(stored.store.events(&key, 0, 10).await.unwrap(), []);
    let page = stored.store.list(list("umbrella", 10)).await.unwrap();
    assert!(page.jobs.is_empty() && page.next.is_none());
}

pub async fn what_was_not_committed_is_gone(mut stored: Stored) {
    let job = job("acme", 1);
    stored.writer.begin().await.unwrap();
    stored.writer.rollback().await;
    assert_eq!(stored.job(&job.key()).await, None);
    // And the writer goes on.
    stored.submit(&job).await;
    assert_eq!(stored.job(&job.key()).await, Some(job));
}

pub async fn the_writer_is_taken_once(stored: Stored) {
    assert!(matches!(stored.store.writer(), Err(StoreError::Failed(_))));
}

pub async fn pages_follow_without_gap_or_repeat(mut stored: Stored) {
    for n in 0..25 {
        let tenant = if n % 5 == 0 { "umbrella" } else { "acme" };
        stored.submit(&job(tenant, n)).await;
    }
    let expected: Vec<_> = (0..25)
        .filter(|n| n % 5 != 0)
        .map(|n| JobId(id(n)))
        .collect();
    for order in [
        ListOrder::CreateTime,
        ListOrder::CreateTimeDesc,
        ListOrder::UpdateTimeDesc,
        ListOrder::UpdateTime,
    ] {
        let mut found = Vec::new();
        let mut query = ListQuery {
            order,
            ..list("acme", 7)
        };
        loop {
            let page = stored.store.list(query.clone()).await.unwrap();
            found.extend(page.jobs.iter().map(|job| job.id));
            match page.next {
                Some(_) => query.after = page.next,
                None => break,
            }
        }
        if matches!(order, ListOrder::CreateTimeDesc | ListOrder::UpdateTimeDesc) {
            found.reverse();
        }
        assert_eq!(found, expected, "{order:?}");
    }
    // The last page is not followed by an empty one.
    let page = stored.store.list(list("acme", 20)).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (20, None));
}

pub async fn a_page_says_what_it_has_seen(mut stored: Stored) {
    let empty = stored.store.list(list("acme", 7)).await.unwrap();
    let before = stored.mark().await;
    assert!(before.includes(&empty.seen));
    stored.submit(&job("acme", 1)).await;
    let after = stored.mark().await;
    let page = stored.store.list(list("acme", 7)).await.unwrap();
    assert!(page.seen.is_ahead_of(&before) && page.seen.includes(&after));
    // What a page has not seen is told from there on, what it has is not.
    assert_eq!(stored.feed("acme", &empty.seen, &page.seen).await.len(), 1);
    let end = stored.mark().await;
    assert!(stored.feed("acme", &page.seen, &end).await.is_empty());
}

pub async fn the_order_of_changes_is_that_of_the_feed(mut stored: Stored) {
    let mut jobs: Vec<_> = (0..4).map(|n| job("acme", n)).collect();
    for job in &jobs {
        stored.submit(job).await;
    }
    for n in [2, 0, 2] {
        jobs[n].revision += 1;
        stored.change(&jobs[n], EventKind::TaskProgress).await;
    }
    let query = ListQuery {
        order: ListOrder::UpdateTimeDesc,
        ..list("acme", 10)
    };
    let page = stored.store.list(query.clone()).await.unwrap();
    let ids: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, [2, 0, 3, 1].map(|n| JobId(id(n))));
    let query = ListQuery {
        order: ListOrder::UpdateTime,
        ..query
    };
    let page = stored.store.list(query).await.unwrap();
    let ids: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, [1, 3, 0, 2].map(|n| JobId(id(n))));
}

pub async fn a_tally_counts_what_a_list_reads(mut stored: Stored) {
    for n in 0..25 {
        let tenant = if n % 5 == 0 { "umbrella" } else { "acme" };
        let mut job = job(tenant, n);
        respec(&mut job, |spec| spec.priority = i32::from(n % 3 == 0));
        job.state = if n % 2 == 0 {
            JobState::Running
        } else {
            JobState::Failed
        };
        if n % 4 == 0 {
            respec(&mut job, |spec| spec.parent = Some(JobId(id(77))));
        }
        stored.submit(&job).await;
    }
    let filters = [
        Filter::All,
        Filter::Priority(Order::Equal, 1),
        Filter::Parent(Some(JobId(id(77)))),
        Filter::State(Order::Equal, JobState::Running),
        Filter::Text(Field::Driver, Pattern::Exact("ansible".into())),
        Filter::Id(Order::Equal, JobId(id(3))),
        Filter::Not(Box::new(Filter::All)),
    ];
    let orders = [
        ListOrder::CreateTime,
        ListOrder::CreateTimeDesc,
        ListOrder::UpdateTimeDesc,
        ListOrder::UpdateTime,
    ];
    for (filter, order) in filters.iter().flat_map(|f| orders.map(|order| (f, order))) {
        let query = |limit| ListQuery {
            filter: filter.clone(),
            order,
            ..list("acme", limit)
        };
        let all = stored.store.list(query(100)).await.unwrap();
        for step in 1..=all.jobs.len() + 1 {
            // Step by step, each from where the one before ended.
            let mut after = None;
            let mut counted = 0;
            loop {
                let query = ListQuery {
                    after,
                    ..query(step)
                };
                let tally = stored.store.tally(query).await.unwrap();
                assert!(tally.count <= step);
                counted += tally.count;
                let Some(next) = tally.next else { break };
                assert_eq!(
                    Some(&next),
                    all.at.get(counted - 1),
                    "{filter:?} in {order:?}"
                );
                after = Some(next);
            }
            assert_eq!(counted, all.jobs.len(), "{filter:?} in {order:?}");
        }
    }
}
