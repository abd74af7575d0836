//! The store as a whole, as those see it who copy it.

use longhaul::{
    domain::{
        JobId, Tenant,
        command::{Changes, RequestKey, RequestRecord, WriteKind},
        event::EventKind,
    },
    store::{Kept, MAX_KEPT_EVENTS, Note, Scan},
};

use crate::fixture::*;

/// Page by page.
async fn scan(stored: &Stored, from: Scan, limit: usize) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut next = Some(from);
    while let Some(from) = next {
        let page = stored.store.scan(&from, limit).await.unwrap();
        assert!(page.jobs.len() <= limit);
        kept.extend(page.jobs);
        next = page.next;
    }
    kept
}

fn ids(kept: &[Kept]) -> Vec<(&str, JobId)> {
    let keys = kept.iter().map(|kept| (&*kept.job.tenant.0, kept.job.id));
    keys.collect()
}

pub async fn tenants_are_those_that_have_jobs(mut stored: Stored) {
    assert_eq!(stored.store.tenants(None, 9).await.unwrap(), []);
    for (n, tenant) in ["b", "a", "a b", "B", "c"].iter().enumerate() {
        stored.submit(&job(tenant, n as u64)).await;
        stored.submit(&job(tenant, n as u64 + 100)).await;
    }
    stored.remove(&job("c", 4), at(1)).await;
    stored.remove(&job("c", 104), at(1)).await;
    let names = |tenants: Vec<Tenant>| -> Vec<String> {
        tenants.iter().map(|tenant| tenant.to_string()).collect()
    };
    let all = stored.store.tenants(None, 9).await.unwrap();
    assert_eq!(names(all), ["B", "a", "a b", "b"]);
    let some = stored.store.tenants(Some(&Tenant::new("B")), 2).await;
    assert_eq!(names(some.unwrap()), ["a", "a b"]);
    let behind = stored.store.tenants(Some(&Tenant::new("a c")), 2).await;
    assert_eq!(names(behind.unwrap()), ["b"]);
}

pub async fn a_scan_meets_every_job_with_all_that_is_kept_of_it(mut stored: Stored) {
    let mut request = (
        RequestKey {
            tenant: Tenant::new("acme"),
            id: "again".into(),
        },
        RequestRecord {
            key: job("acme", 2).key(),
            fingerprint: [7; 32],
        },
    );
    let mut jobs = [job("acme", 2), job("acme", 1), job("umbrella", 3)];
    jobs[0].request_id = "again".into();
    jobs[0].tasks.push(task(20, "terraform"));
    jobs[1].request_id = "again".into();
    let requests = vec![request.clone()];
    stored
        .commit(Changes {
            requests,
            ..submitted(&jobs[0])
        })
        .await;
    // It says that it was made under the same id, which is the other's.
    stored.submit(&jobs[1]).await;
    stored.submit(&jobs[2]).await;
    jobs[0].revision = 2;
    stored.change(&jobs[0], EventKind::TaskProgress).await;
    // Another tenant's, under the same name.
    request.0.tenant = Tenant::new("umbrella");
    request.1.key = job("umbrella", 4).key();
    let mut other = job("umbrella", 4);
    other.request_id = "again".into();
    let requests = vec![request];
    stored
        .commit(Changes {
            requests,
            ..submitted(&other)
        })
        .await;

    let id = |n| JobId(crate::fixture::id(n));
    for limit in [1, 2, 9] {
        let by_key = scan(&stored, Scan::ByKey(None), limit).await;
        let expected = [("acme", 1), ("acme", 2), ("umbrella", 3), ("umbrella", 4)];
        assert_eq!(ids(&by_key), expected.map(|(of, n)| (of, id(n))));
        let by_change = scan(&stored, Scan::ByChange(None), limit).await;
        let expected = [("acme", 1), ("umbrella", 3), ("acme", 2), ("umbrella", 4)];
        assert_eq!(ids(&by_change), expected.map(|(of, n)| (of, id(n))));
        for kept in by_key.iter().chain(&by_change) {
            let key = kept.job.key();
            assert_eq!(stored.job(&key).await.as_ref(), Some(&*kept.job));
            let events = stored.store.events(&key, 0, 99).await.unwrap();
            assert_eq!(kept.events, events);
            assert!(kept.has_all_events());
            let has_request = [id(2), id(4)].contains(&key.job);
            assert_eq!(kept.request, has_request.then_some([7; 32]), "{key:?}");
        }
    }
}

pub async fn a_scan_of_large_jobs_is_cut_and_goes_on(mut stored: Stored) {
    let jobs = 20;
    for n in 0..jobs {
        stored.submit(&large_job("acme", n)).await;
    }
    for begin in [Scan::ByKey(None), Scan::ByChange(None)] {
        let first = stored.store.scan(&begin, 99).await.unwrap();
        assert!((1..jobs as usize).contains(&first.jobs.len()));
        let all = scan(&stored, begin, 99).await;
        let expected: Vec<_> = (0..jobs).map(|n| ("acme", JobId(id(n)))).collect();
        assert_eq!(ids(&all), expected);
        for kept in &all {
            let payload = kept.job.tasks[0].spec.request_payload.as_ref();
            assert_eq!(payload.map(|payload| payload.0.len()), Some(1024 * 1024));
            assert_eq!(kept.events.len(), 1);
        }
    }
}

pub async fn a_scan_tells_the_first_events_of_a_long_life(mut stored: Stored) {
    let mut long = job("acme", 1);
    stored.submit(&long).await;
    let mut changes = Changes::default();
    for _ in 0..MAX_KEPT_EVENTS {
        long.revision += 1;
        changes.events.push(event(&long, EventKind::TaskProgress));
    }
    let (job, tasks) = (true, Vec::new());
    changes.jobs = vec![write(&long, WriteKind::Update { job, tasks })];
    stored.commit(changes).await;

    let kept = scan(&stored, Scan::ByKey(None), 9).await;
    assert_eq!(kept[0].events.len(), MAX_KEPT_EVENTS);
    assert!(!kept[0].has_all_events());
    let last = kept[0].events.last().unwrap().revision;
    let rest = stored.store.events(&long.key(), last, 9).await.unwrap();
    assert_eq!(rest, [event(&long, EventKind::TaskProgress)]);
}

pub async fn a_note_is_there_until_it_is_taken_away(mut stored: Stored) {
    let key = stored.store.info().token_key;
    let noted = stored.store.note(Note::TokenKey).await.unwrap();
    assert_eq!(noted, Some(key.to_vec()));
    assert_eq!(stored.store.note(Note::HalfCopied).await.unwrap(), None);
    for value in [&b"first"[..], b"second", b""] {
        let set = stored.writer.set_note(Note::HalfCopied, Some(value)).await;
        set.unwrap();
        let noted = stored.store.note(Note::HalfCopied).await.unwrap();
        assert_eq!(noted.as_deref(), Some(value));
    }
    for _ in 0..2 {
        let removed = stored.writer.set_note(Note::HalfCopied, None).await;
        removed.unwrap();
        assert_eq!(stored.store.note(Note::HalfCopied).await.unwrap(), None);
    }
    assert_eq!(stored.store.others().await.unwrap(), 0);
}
