//! Lists for front ends with a language of their own, over a store that looks at three jobs at a time.

use std::{collections::BTreeSet, sync::Arc};

use longhaul::{
    domain::{
        Job, JobId, JobState, Status,
        command::Changes,
        filter::{Field, Filter, Order, Pattern},
    },
    engine::{Residual, Selected, Selection},
    store::{ListOrder, ListPosition},
};

use crate::rig::{Rig, rig_with, submission, tenant};

const ORDERS: [ListOrder; 4] = [
    ListOrder::CreateTime,
    ListOrder::CreateTimeDesc,
    ListOrder::UpdateTime,
    ListOrder::UpdateTimeDesc,
];

/// Jobs with priorities 0, 1, 2, 0, 1, 2, …; every fourth was cancelled.
pub async fn stocked(jobs: usize) -> Rig {
    let rig = rig_with(|store| store.sight = 3, &Changes::default()).await;
    for n in 0..jobs {
        let job = add(&rig, n).await;
        if n % 4 == 0 {
            rig.engine
                .cancel(job.key(), String::new(), None)
                .await
                .unwrap();
        }
    }
    rig
}

pub async fn add(rig: &Rig, n: usize) -> Arc<Job> {
    let mut new = submission(&["a"]);
    new.spec.priority = i32::try_from(n % 3).unwrap();
    new.spec.summary = format!("job {n:03}");
    let mut answers = rig.engine.submit(vec![new]).await.unwrap();
    answers.pop().unwrap().unwrap().0
}

fn selection(filter: Filter, order: ListOrder, limit: usize) -> Selection {
    Selection {
        tenant: tenant(),
        filter,
        order,
        after: None,
        limit,
    }
}

fn filters() -> Vec<Filter> {
    let text = |text: &str| Filter::Text(Field::Summary, Pattern::from_wildcard(text));
    vec![
        Filter::All,
        Filter::State(Order::Equal, JobState::Queued),
        Filter::Status(Order::Equal, Status::Error),
        Filter::Priority(Order::Equal, 2),
        text("job *7"),
        text("job 000"),
        text("nothing"),
    ]
}

/// An odd number in its summary.
fn is_odd(job: &Job) -> bool {
    job.spec.summary.ends_with(['1', '3', '5', '7', '9'])
}

/// All that match, from the newest to the oldest, or as `order` says.
async fn all(rig: &Rig, filter: &Filter, order: ListOrder, residual: Residual<'_>) -> Selected {
    let everything = selection(Filter::All, order, 1_000);
    let mut found = rig.engine.select(everything, None).await.unwrap();
    assert_eq!(found.next, None);
    let jobs = found.jobs.into_iter().zip(found.at);
    let fits = |job: &Job| filter.matches(job) && residual.is_none_or(|fits| fits(job));
    (found.jobs, found.at) = jobs.filter(|(job, _)| fits(job)).unzip();
    found
}

#[tokio::test]
async fn pages_are_full_and_only_the_last_has_no_next() {
    let rig = stocked(50).await;
    for (filter, order) in filters()
        .iter()
        .flat_map(|f| ORDERS.map(|order| (f, order)))
    {
        for residual in [None, Some(&is_odd as &(dyn Fn(&Job) -> bool + Sync))] {
            let expected = all(&rig, filter, order, residual).await;
            for limit in [1, 4, 7, 50] {
                let mut page = selection(filter.clone(), order, limit);
                let mut found: Vec<Arc<Job>> = Vec::new();
                loop {
                    let selected = rig.engine.select(page.clone(), residual).await.unwrap();
                    found.extend(selected.jobs.iter().cloned());
                    assert_eq!(
                        selected.at,
                        expected.at[found.len() - selected.at.len()..found.len()]
                    );
                    let more = found.len() < expected.jobs.len();
                    assert_eq!(selected.next.is_some(), more, "{filter:?} in {order:?}");
                    if !more {
                        break;
                    }
                    assert_eq!(selected.jobs.len(), limit, "{filter:?} in {order:?}");
                    page.after = selected.next;
                }
                assert_eq!(found, expected.jobs, "{filter:?} in {order:?} by {limit}");
            }
        }
    }
    let none = selection(Filter::All, ListOrder::CreateTime, 0);
    let selected = rig.engine.select(none, None).await.unwrap();
    assert!(selected.jobs.is_empty() && selected.next.is_none());
}

#[tokio::test]
async fn totals_are_exact_and_offsets_lead_behind_so_many_matches() {
    let rig = stocked(50).await;
    for filter in filters() {
        for residual in [None, Some(&is_odd as &(dyn Fn(&Job) -> bool + Sync))] {
            for order in ORDERS {
                let expected = all(&rig, &filter, order, residual).await;
                let total = rig
                    .engine
                    .total(&tenant(), &filter, residual)
                    .await
                    .unwrap();
                assert_eq!(
                    usize::try_from(total),
                    Ok(expected.jobs.len()),
                    "{filter:?}"
                );
                for offset in 0..=expected.jobs.len() {
                    let sought = selection(filter.clone(), order, 5);
                    let sought = rig.engine.seek(sought, offset, residual).await.unwrap();
                    let sought = sought.expect("there are so many");
                    let page = rig.engine.select(sought, residual).await.unwrap();
                    let to = expected.jobs.len().min(offset + 5);
                    assert_eq!(
                        page.jobs,
                        expected.jobs[offset..to],
                        "{filter:?} from {offset}"
                    );
                }
                let beyond = selection(filter.clone(), order, 5);
                let beyond = rig
                    .engine
                    .seek(beyond, expected.jobs.len() + 1, residual)
                    .await;
                assert_eq!(beyond.unwrap(), None, "{filter:?}");
            }
        }
    }
}

/// Whoever pages while others submit, change and remove jobs: every job that was there all the while is told once.
/// The store looks at three jobs at a time: the first one changes, and so moves to the end, when the fourth is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_moves_meanwhile_is_told_once() {
    let rig = rig_with(|store| store.sight = 3, &Changes::default()).await;
    let mut jobs = Vec::new();
    for n in 0..8 {
        jobs.push(add(&rig, n).await);
    }
    let judge = |job: &Job| {
        if job.id == jobs[3].id {
            let cancelled = rig.engine.cancel(jobs[0].key(), String::new(), None);
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(cancelled)).unwrap();
        }
        true
    };
    let selection = selection(Filter::All, ListOrder::UpdateTime, 100);
    let selected = rig.engine.select(selection, Some(&judge)).await.unwrap();
    let told: Vec<JobId> = selected.jobs.iter().map(|job| job.id).collect();
    let expected: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_while_jobs_are_added_and_removed() {
    for order in [ListOrder::CreateTime, ListOrder::CreateTimeDesc] {
        let rig = stocked(40).await;
        let before = all(&rig, &Filter::All, order, None).await.jobs;
        let mut page = selection(Filter::All, order, 3);
        let mut told: Vec<JobId> = Vec::new();
        let mut removed = BTreeSet::new();
        loop {
            let selected = rig.engine.select(page.clone(), None).await.unwrap();
            told.extend(selected.jobs.iter().map(|job| job.id));
            // The last one told goes, if it may, and so the position is of a job that is no more.
            let last = selected.jobs.last().unwrap();
            if last.state.is_terminal() {
                rig.engine.delete(last.key(), None).await.unwrap();
                removed.insert(last.id);
            }
            if told.len() < 200 {
                add(&rig, told.len()).await;
            }
            match selected.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert!(!removed.is_empty());
        let each: BTreeSet<_> = told.iter().collect();
        assert_eq!(each.len(), told.len(), "none twice");
        assert!(
            before.iter().all(|job| each.contains(&job.id)),
            "none left out"
        );
    }
}

#[tokio::test]
async fn a_position_opens_for_what_it_was_sealed_for() {
    let rig = stocked(3).await;
    let selected = rig
        .engine
        .select(selection(Filter::All, ListOrder::CreateTime, 1), None)
        .await
        .unwrap();
    let position = selected.next.unwrap();
    let token = rig
        .engine
        .seal_position(b"list", &[b"acme", b"name"], &position);
    let url_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    assert!(token.chars().all(url_safe), "{token}");
    let open = |purpose, bound_to: &[&[u8]], token: &str| {
        rig.engine
            .open_position::<ListPosition>(purpose, bound_to, token)
    };
    assert_eq!(open(b"list", &[b"acme", b"name"], &token), Some(position));
    assert_eq!(open(b"jobs", &[b"acme", b"name"], &token), None);
    assert_eq!(open(b"list", &[b"acme", b"other"], &token), None);
    assert_eq!(open(b"list", &[b"acmename"], &token), None);
    assert_eq!(open(b"list", &[b"acme", b"name"], &token[1..]), None);
    assert_eq!(open(b"list", &[b"acme", b"name"], ""), None);
}

/// A front end runs these in tasks that move between threads.
#[test]
fn what_answers_can_move_between_threads() {
    fn can_move<T: Send>(_: fn(&'static Rig, Residual<'static>) -> T) {}
    can_move(|rig, residual| {
        rig.engine
            .select(selection(Filter::All, ListOrder::CreateTime, 1), residual)
    });
    can_move(|rig, residual| {
        rig.engine.seek(
            selection(Filter::All, ListOrder::CreateTime, 1),
            1,
            residual,
        )
    });
}
