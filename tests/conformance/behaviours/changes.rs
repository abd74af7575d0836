//! What else a commit changes: events, request ids, counters, drivers; and what it takes away.

use longhaul::{
    domain::{
        JobId, JobState, Status, TaskId, TaskState, Tenant,
        command::{Changes, RequestKey, RequestRecord},
        counts::Counted,
        event::{EventKind, TaskRef},
    },
    store::FeedCursor,
};

use crate::fixture::*;

pub async fn events_read_back_in_order_and_from_a_revision(mut stored: Stored) {
    let mut job = job("acme", 1);
    stored.submit(&job).await;
    let mut expected = vec![event(&job, EventKind::JobSubmitted)];
    for kind in EventKind::ALL {
        job.revision += 1;
        let mut event = event(&job, kind);
        event.task = Some(TaskRef {
            ordinal: 3,
            id: TaskId(id(9)),
            attempt: 2,
        });
        event.before = Some((JobState::Running, Status::Warning));
        event.after = (JobState::Failed, Status::PartialFailures);
        event.detail = format!("{kind:?} \"quoted\"");
        stored
            .commit(Changes {
                events: vec![event.clone()],
                ..Changes::default()
            })
            .await;
        expected.push(event);
    }
    let key = job.key();
    let events = stored.store.events(&key, 0, 100).await.unwrap();
    assert_eq!(events, expected);
    let events = stored.store.events(&key, 4, 3).await.unwrap();
    assert_eq!(events, expected[4..7]);
}

pub async fn positions_follow_without_gap(mut stored: Stored) {
    if !stored.exclusive {
        return;
    }
    assert_eq!(stored.mark().await, FeedCursor::at(0));
    let one = stored.submit(&job("acme", 1)).await;
    assert_eq!(one.first_position, Some(1));
    let (second, third) = (job("acme", 2), job("umbrella", 3));
    let mut both = submitted(&second);
    both.jobs.extend(submitted(&third).jobs);
    both.events.extend(submitted(&third).events);
    assert_eq!(stored.commit(both).await.first_position, Some(2));
    assert_eq!(stored.mark().await, FeedCursor::at(3));
    let next = stored.submit(&job("acme", 4)).await;
    assert_eq!(next.first_position, Some(4));
}

pub async fn a_removed_job_leaves_only_its_tombstone(mut stored: Stored) {
    let (gone, stays) = (job("acme", 1), job("acme", 2));
    stored.submit(&gone).await;
    stored.submit(&stays).await;
    stored.remove(&gone, at(1)).await;

    assert_eq!(stored.job(&gone.key()).await, None);
    assert_eq!(stored.job(&stays.key()).await.as_ref(), Some(&stays));
    let events = stored.store.events(&gone.key(), 0, 10).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::JobDeleted]);
    let page = stored.store.list(list("acme", 10)).await.unwrap();
    assert_eq!(page.jobs.len(), 1);
    assert_eq!(stored.ready(None, 10).await.len(), 1);
}

pub async fn a_tombstone_goes_after_a_day(mut stored: Stored) {
    // Of nodes it is no matter of the writer, but of the upkeep, which has tests of its own.
    if !stored.exclusive {
        return;
    }
    let jobs = [job("acme", 1), job("acme", 2), job("acme", 3)];
    let start = stored.mark().await;
    for job in &jobs {
        stored.submit(job).await;
    }
    let day = 24 * 3600;
    stored.remove(&jobs[0], at(0)).await;
    stored.remove(&jobs[1], at(5)).await;
    let tombstones = async |stored: &Stored| {
        let items = stored.feed("acme", &start, &stored.mark().await).await;
        let removed = items.iter().filter(|item| item.job.is_none());
        removed.map(|item| item.key.job).collect::<Vec<_>>()
    };
    stored.writer.tidy(at(day)).await.unwrap();
    assert_eq!(tombstones(&stored).await, [jobs[0].id, jobs[1].id]);
    stored.writer.tidy(at(day + 1)).await.unwrap();
    assert_eq!(tombstones(&stored).await, [jobs[1].id]);
    // Where positions are counted the newest event stays, whatever it is, and its position is not given away twice.
    let end = stored.mark().await;
    stored.writer.tidy(at(2 * day)).await.unwrap();
    assert!(stored.mark().await.includes(&end));
}

fn request(tenant: &str, text: &str, job: u64) -> (RequestKey, RequestRecord) {
    let key = RequestKey {
        tenant: Tenant::new(tenant),
        id: text.into(),
    };
    let record = RequestRecord {
        key: longhaul::domain::JobKey {
            tenant: Tenant::new(tenant),
            job: JobId(id(job)),
        },
        fingerprint: [7; 32],
    };
    (key, record)
}

pub async fn request_ids_are_found_again(mut stored: Stored) {
    let ours = request("acme", "r1", 1);
    let theirs = request("umbrella", "r1", 2);
    stored
        .commit(Changes {
            requests: vec![ours.clone(), theirs.clone()],
            events: vec![event(&job("acme", 1), EventKind::JobSubmitted)],
            ..Changes::default()
        })
        .await;
    let unknown = request("acme", "r2", 3).0;
    let keys = [theirs.0.clone(), unknown, ours.0.clone()];
    stored.writer.begin().await.unwrap();
    let found = stored.writer.requests(&keys).await.unwrap();
    assert_eq!(found, [theirs, ours]);
}

pub async fn a_removed_job_gives_its_request_id_back(mut stored: Stored) {
    let mut job = job("acme", 1);
    job.request_id = "r1".into();
    let mut changes = submitted(&job);
    changes.requests = vec![request("acme", "r1", 1), request("acme", "r2", 2)];
    stored.commit(changes).await;
    stored.remove(&job, at(1)).await;
    let keys = [request("acme", "r1", 1).0, request("acme", "r2", 2).0];
    stored.writer.begin().await.unwrap();
    let found = stored.writer.requests(&keys).await.unwrap();
    assert_eq!(found, [request("acme", "r2", 2)]);
}

pub async fn counters_add_up(mut stored: Stored) {
    let acme = Tenant::new("acme");
    let queued = |status| Counted::Jobs(acme.clone(), JobState::Queued, status);
    let (normal, warned) = (queued(Status::Normal), queued(Status::Warning));
    let running = Counted::Tasks(acme.clone(), "ansible".into(), TaskState::Running);
    let theirs = Counted::Jobs(Tenant::new("umbrella"), JobState::Queued, Status::Normal);
    for (revision, (count, by)) in (1..).zip([
        (&normal, 5),
        (&warned, 4),
        (&normal, -2),
        (&running, 1),
        (&theirs, 9),
        (&running, 1),
    ]) {
        let mut job = job("acme", 1);
        job.revision = revision;
        let mut changes = Changes {
            events: vec![event(&job, EventKind::TaskProgress)],
            ..Changes::default()
        };
        changes.counts.add(count.clone(), by);
        stored.commit(changes).await;
    }
    let counts = stored.store.counts(&acme).await.unwrap();
    let queued = |status, count| (JobState::Queued, status, count);
    assert_eq!(
        counts.jobs,
        [queued(Status::Normal, 3), queued(Status::Warning, 4)]
    );
    assert_eq!(counts.tasks, [("ansible".into(), TaskState::Running, 2)]);
}

pub async fn drivers_pause_and_resume(mut stored: Stored) {
    let mut set = async |driver: &str, paused: Option<(i64, &str)>| {
        let paused = paused.map(|(second, reason)| (at(second), reason.to_owned()));
        stored
            .commit(Changes {
                drivers: vec![(driver.into(), paused)],
                ..Changes::default()
            })
            .await;
        stored.store.paused_drivers().await.unwrap()
    };
    set("b", Some((1, "broken"))).await;
    let paused = set("a", Some((2, "also"))).await;
    let expected = [
        ("a".into(), at(2), "also".to_owned()),
        ("b".into(), at(1), "broken".to_owned()),
    ];
    assert_eq!(paused, expected);
    let paused = set("b", Some((3, "still"))).await;
    assert_eq!(paused[1], ("b".into(), at(3), "still".to_owned()));
    set("a", None).await;
    assert_eq!(set("b", None).await, []);
}
