//! Lists in an order without an index.

use std::{collections::BTreeSet, sync::Arc};

use longhaul::{
    domain::{
        Document, Job, JobState, Status,
        command::Changes,
        counts::Counted,
        filter::{Filter, Order},
    },
    engine::{Anchor, EngineError, MAX_SORTED, SortKey, SortValue, SortedSelection},
};

use crate::{
    rig::{Rig, rig_with, submission, tenant},
    select::{add, stocked},
};

/// By priority, the highest first, then by state.
fn by_priority(job: &Job) -> Vec<SortKey> {
    let priority = SortValue::Number(job.spec.priority.into());
    let state = SortValue::text(job.state.name());
    vec![SortKey::new(priority, true), SortKey::new(state, false)]
}

/// By the end: first those that have not ended.
fn by_end(job: &Job) -> Vec<SortKey> {
    vec![SortKey::new(SortValue::time(job.end_time), false)]
}

type Keys = fn(&Job) -> Vec<SortKey>;

fn selection(keys: &Keys, limit: usize) -> SortedSelection<'_> {
    SortedSelection {
        tenant: tenant(),
        filter: Filter::All,
        residual: None,
        keys,
        after: None,
        limit,
    }
}

/// All of them, sorted at once.
async fn sorted(rig: &Rig, keys: Keys) -> Vec<Arc<Job>> {
    let page = rig
        .engine
        .select_sorted(selection(&keys, 1_000))
        .await
        .unwrap();
    assert_eq!(page.next, None);
    let mut expected = page.jobs.clone();
    expected.sort_by_key(|job| (keys(job), std::cmp::Reverse(job.id)));
    assert_eq!(page.jobs, expected);
    expected
}

#[tokio::test]
async fn sorted_pages_follow_and_offsets_lead_into_them() {
    let rig = stocked(50).await;
    for keys in [by_priority as Keys, by_end] {
        let expected = sorted(&rig, keys).await;
        assert_eq!(expected.len(), 50);
        for limit in [1, 7, 50] {
            let mut page = selection(&keys, limit);
            let mut found = Vec::new();
            loop {
                let selected = rig.engine.select_sorted(page.clone()).await.unwrap();
                assert_eq!(selected.at.len(), selected.jobs.len());
                found.extend(selected.jobs);
                assert_eq!(selected.next.is_some(), found.len() < 50);
                match selected.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
                assert_eq!(found.len() % limit, 0, "no page in the middle is short");
            }
            assert_eq!(found, expected);
        }
        for offset in [0, 1, 20, 49, 50] {
            let sought = rig
                .engine
                .seek_sorted(selection(&keys, 9), offset)
                .await
                .unwrap();
            let page = rig.engine.select_sorted(sought.unwrap()).await.unwrap();
            assert_eq!(
                page.jobs,
                expected[offset..50.min(offset + 9)],
                "from {offset}"
            );
        }
        assert!(
            rig.engine
                .seek_sorted(selection(&keys, 9), 51)
                .await
                .unwrap()
                .is_none()
        );
    }
    let keys: Keys = by_end;
    let cancelled = SortedSelection {
        filter: Filter::State(Order::Equal, JobState::Cancelled),
        residual: Some(&|job| job.spec.priority == 1),
        ..selection(&keys, 100)
    };
    let page = rig.engine.select_sorted(cancelled).await.unwrap();
    let fits = |job: &Job| job.state == JobState::Cancelled && job.spec.priority == 1;
    assert!(!page.jobs.is_empty() && page.jobs.iter().all(|job| fits(job)));
    let nothing = rig.engine.select_sorted(selection(&keys, 0)).await.unwrap();
    assert!(nothing.jobs.is_empty() && nothing.next.is_none());
}

/// Jobs are added before and behind each page, and the job that a page ended with moves in the order, or goes.
#[tokio::test]
async fn sorted_pages_follow_while_jobs_are_added_and_changed_and_removed() {
    let rig = stocked(40).await;
    let keys: Keys = by_priority;
    let before = sorted(&rig, keys).await;
    let mut page = selection(&keys, 3);
    let mut told = Vec::new();
    let (mut changed, mut removed) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let selected = rig.engine.select_sorted(page.clone()).await.unwrap();
        told.extend(selected.jobs.iter().map(|job| job.id));
        let last = selected.jobs.last().unwrap();
        if last.state.is_terminal() {
            rig.engine.delete(last.key(), None).await.unwrap();
            removed.insert(last.id);
        } else {
            rig.engine
                .cancel(last.key(), String::new(), None)
                .await
                .unwrap();
            changed.insert(last.id);
        }
        if told.len() < 200 {
            add(&rig, told.len() / 3).await;
        }
        let Some(next) = selected.next else { break };
        // As a client carries it.
        let token = rig
            .engine
            .seal_position(b"sorted", &[b"by priority"], &next);
        let opened = rig
            .engine
            .open_position::<Anchor>(b"sorted", &[b"by priority"], &token);
        assert_eq!(opened, Some(next));
        page.after = opened;
    }
    assert!(!changed.is_empty() && !removed.is_empty());
    let each: BTreeSet<_> = told.iter().filter(|id| !changed.contains(id)).collect();
    let unchanged = told.iter().filter(|id| !changed.contains(id)).count();
    assert_eq!(each.len(), unchanged, "none twice, but what moved");
    for job in before {
        assert!(told.contains(&job.id), "left out: {job:?}");
    }
}

#[tokio::test]
async fn a_page_that_is_too_large_ends_early_and_has_no_gap() {
    let rig = stocked(0).await;
    for n in 0..40 {
        let mut new = submission(&["a"]);
        new.spec.priority = n % 3;
        // Those that come last would fit where a large one before them did not.
        let bytes = if n % 3 == 0 { 1_000 } else { 1_000_000 };
        let task = Arc::make_mut(&mut new.tasks[0]);
        task.request_payload = Some(Document(vec![b'p'; bytes].into()));
        rig.engine.submit(vec![new]).await.unwrap();
    }
    let keys: Keys = by_priority;
    let mut page = selection(&keys, 1_000);
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let selected = rig.engine.select_sorted(page.clone()).await.unwrap();
        let bytes = selected.jobs.iter().map(|job| job.memory_bytes());
        assert!(bytes.sum::<usize>() <= 16 * 1024 * 1024);
        found.extend(selected.jobs);
        pages += 1;
        match selected.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert!((2..=3).contains(&pages), "{pages} pages");
    let mut expected = found.clone();
    expected.sort_by_key(|job| (by_priority(job), std::cmp::Reverse(job.id)));
    expected.dedup_by_key(|job| job.id);
    assert_eq!((found.len(), found), (40, expected));
}

/// Refused in the terms of the request.
fn assert_too_many<T>(answer: Result<T, EngineError>) {
    match answer {
        Err(EngineError::Invalid(violations)) => {
            let violations = format!("{violations:?}");
            assert!(violations.contains("order_by") && violations.contains("narrow the filter"));
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it came to an end"),
    }
}

#[tokio::test]
async fn what_is_too_much_to_sort_is_refused() {
    let keys: Keys = by_priority;
    // By the counters, before anything is read.
    let mut stored = Changes::default();
    let counted = Counted::Jobs(tenant(), JobState::Failed, Status::Error);
    stored
        .counts
        .add(counted, i64::try_from(MAX_SORTED).unwrap() + 1);
    let rig = rig_with(|_| {}, &stored).await;
    assert_too_many(rig.engine.select_sorted(selection(&keys, 5)).await);
    assert_too_many(rig.engine.seek_sorted(selection(&keys, 5), 1).await);

    // By looking: this store's list has no end.
    let rig = rig_with(|store| store.endless = true, &Changes::default()).await;
    let new = vec![submission(&["a"]); 500];
    rig.engine.submit(new).await.unwrap();
    let uncounted = SortedSelection {
        filter: Filter::Priority(Order::Equal, 0),
        ..selection(&keys, 5)
    };
    assert_too_many(rig.engine.select_sorted(uncounted).await);
}

#[test]
fn keys_sort_as_they_say() {
    let key = |value, descending| SortKey::new(value, descending);
    let (one, two) = (SortValue::Number(1), SortValue::Number(2));
    assert!(key(one.clone(), false) < key(two.clone(), false));
    assert!(key(one.clone(), true) > key(two, true));
    assert!(key(SortValue::Nothing, false) < key(one.clone(), false));
    assert!(key(SortValue::Nothing, true) > key(one, true));
    // Texts that begin alike for long are alike, and no character is cut.
    let long = |end: &str| SortValue::text(&format!("{}{end}", "x".repeat(127)));
    assert_eq!(long("üa"), long("üb"));
    assert!(SortValue::text("a") < SortValue::text("b"));
}
