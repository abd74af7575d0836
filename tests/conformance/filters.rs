//! A filter means the same to every store as to [`Filter::matches`].

use std::sync::Arc;

use longhaul::{
    domain::{
        Job, JobId, JobState, Status,
        command::Changes,
        filter::{Field, Filter, Order, Pattern},
        task::Object,
    },
    store::{ListOrder, ListQuery},
};
use proptest::prelude::*;

use crate::fixture::{Stored, at, id, job, list, respec, submitted, task};

/// Texts that are alike but for what a careless comparison overlooks: case, wildcards, quotes, length in bytes, NUL.
const TEXTS: [&str; 14] = [
    "", "a", "A", "ab", "b", "a%", "_b", "a*b", "ü", "aü\"b", "a'b", "a\0b", "abab", "ba_ab",
];
/// Jobs that filters choose among.
const JOBS: u64 = 24;

fn text() -> impl Strategy<Value = String> {
    proptest::sample::select(&TEXTS[..]).prop_map(str::to_owned)
}

fn state() -> impl Strategy<Value = JobState> {
    proptest::sample::select(&JobState::ALL[..])
}

fn status() -> impl Strategy<Value = Status> {
    proptest::sample::select(&Status::ALL[..])
}

fn parent() -> impl Strategy<Value = Option<JobId>> {
    proptest::option::of((0..3u64).prop_map(|n| JobId(id(1_000 + n))))
}

fn a_job(n: u64) -> impl Strategy<Value = Job> {
    let object = proptest::option::of((text(), text(), text()));
    let labels = proptest::collection::btree_map(text(), text(), 0..3);
    let drivers = proptest::collection::vec(text(), 1..3);
    let sometimes = || proptest::option::of((0..3i64).prop_map(at));
    (
        (text(), text(), text(), object, labels, drivers),
        (state(), status(), parent(), -2..3i32),
        (0..3i64, sometimes(), sometimes(), 0..3i64),
    )
        .prop_map(
            move |(
                (action, summary, creator, object, labels, drivers),
                (state, status, parent, priority),
                (created, started, ended, updated),
            )| {
                let mut job = job("acme", n);
                job.state = state;
                job.status = status;
                job.create_time = at(created);
                job.start_time = started;
                job.end_time = ended;
                job.update_time = at(updated);
                job.tasks = drivers.iter().map(|driver| task(n, driver)).collect();
                respec(&mut job, |spec| {
                    spec.action = action;
                    spec.summary = summary;
                    spec.creator = creator;
                    spec.object = object.map(|(kind, id, name)| Object { kind, id, name });
                    spec.labels = labels;
                    spec.priority = priority;
                    spec.parent = parent;
                });
                job
            },
        )
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    (0..JOBS).map(a_job).collect::<Vec<_>>()
}

fn order() -> impl Strategy<Value = Order> {
    proptest::sample::select(vec![
        Order::Equal,
        Order::Less,
        Order::LessOrEqual,
        Order::Greater,
        Order::GreaterOrEqual,
    ])
}

fn comparison() -> impl Strategy<Value = Filter> {
    let field = prop_oneof![
        Just(Field::Action),
        Just(Field::Kind),
        Just(Field::Summary),
        Just(Field::Creator),
        Just(Field::Driver),
        Just(Field::ObjectType),
        Just(Field::ObjectId),
        Just(Field::ObjectName),
        text().prop_map(Field::Label),
    ];
    let pattern = prop_oneof![
        text().prop_map(Pattern::Exact),
        text().prop_map(Pattern::Prefix),
        text().prop_map(Pattern::Suffix),
        text().prop_map(Pattern::Contains),
        proptest::collection::vec(text(), 0..5).prop_map(Pattern::Glob),
        "[ab*_]{0,6}".prop_map(|text| Pattern::from_wildcard(&text)),
    ];
    let number = (0..JOBS).prop_map(|n| JobId(id(n)));
    prop_oneof![
        1 => Just(Filter::All),
        3 => (order(), state()).prop_map(|(order, state)| Filter::State(order, state)),
        1 => (order(), status()).prop_map(|(order, status)| Filter::Status(order, status)),
        5 => (field, pattern).prop_map(|(field, pattern)| Filter::Text(field, pattern)),
        1 => text().prop_map(Filter::HasLabel),
        2 => parent().prop_map(Filter::Parent),
        1 => (order(), -2..3i32).prop_map(|(order, value)| Filter::Priority(order, value)),
        2 => (order(), number).prop_map(|(order, id)| Filter::Id(order, id)),
        1 => (order(), 0..3i64).prop_map(|(order, value)| Filter::CreateTime(order, at(value))),
        1 => (order(), 0..3i64).prop_map(|(order, value)| Filter::StartTime(order, at(value))),
        1 => (order(), 0..3i64).prop_map(|(order, value)| Filter::EndTime(order, at(value))),
        1 => (order(), 0..3i64).prop_map(|(order, value)| Filter::UpdateTime(order, at(value))),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    comparison().prop_recursive(4, 16, 3, |inner| {
        let parts = || proptest::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            parts().prop_map(Filter::And),
            parts().prop_map(Filter::Or),
            inner.clone().prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

async fn all(stored: &Stored, filter: &Filter, order: ListOrder) -> Vec<Arc<Job>> {
    let mut query = ListQuery {
        filter: filter.clone(),
        order,
        ..list("acme", 5)
    };
    let mut jobs = Vec::new();
    loop {
        let page = stored.store.list(query.clone()).await.unwrap();
        jobs.extend(page.jobs);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return jobs,
        }
    }
}

async fn check(mut stored: Stored, jobs: &[Job], filters: &[Filter]) {
    let mut changes = Changes::default();
    for job in jobs {
        let one = submitted(job);
        changes.jobs.extend(one.jobs);
        changes.events.extend(one.events);
    }
    stored.commit(changes).await;
    stored.submit(&job("umbrella", JOBS)).await;
    for filter in filters {
        for job in jobs {
            let told = filter.matches_outcome(job.state, job.status);
            assert!(
                told.is_none_or(|told| told == filter.matches(job)),
                "{filter:?}"
            );
        }
        let expected: Vec<_> = jobs.iter().filter(|job| filter.matches(job)).collect();
        for order in [
            ListOrder::CreateTime,
            ListOrder::CreateTimeDesc,
            ListOrder::UpdateTimeDesc,
            ListOrder::UpdateTime,
        ] {
            let mut found = all(&stored, filter, order).await;
            if matches!(order, ListOrder::CreateTimeDesc | ListOrder::UpdateTimeDesc) {
                found.reverse();
            }
            let found: Vec<_> = found.iter().map(AsRef::as_ref).collect();
            assert_eq!(found, expected, "{filter:?} in {order:?}");
            let query = ListQuery {
                filter: filter.clone(),
                order,
                ..list("acme", usize::MAX)
            };
            let tally = stored.store.tally(query).await.unwrap();
            assert_eq!(
                (tally.count, tally.next),
                (expected.len(), None),
                "{filter:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_means_the_same_everywhere(
        jobs in jobs(),
        filters in proptest::collection::vec(filter(), 24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            check(Stored::in_memory(), &jobs, &filters).await;
            check(Stored::in_sqlite(), &jobs, &filters).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_means_the_same_to_postgres(
        jobs in jobs(),
        filters in proptest::collection::vec(filter(), 24),
    ) {
        let jobs: Vec<_> = jobs.into_iter().map(without_nul).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            check(Stored::in_postgres().await, &jobs, &filters).await;
        });
    }
}

/// Its texts hold none, and no job that is submitted does; filters may ask for it all the same.
fn without_nul(mut job: Job) -> Job {
    let plain = |text: &mut String| *text = text.replace('\0', "0");
    respec(&mut job, |spec| {
        for text in [&mut spec.action, &mut spec.summary, &mut spec.creator] {
            plain(text);
        }
        if let Some(Object { kind, id, name }) = &mut spec.object {
            [kind, id, name].into_iter().for_each(plain);
        }
        let labels = std::mem::take(&mut spec.labels).into_iter();
        spec.labels = labels
            .map(|(mut key, mut value)| {
                plain(&mut key);
                plain(&mut value);
                (key, value)
            })
            .collect();
    });
    for task in &mut job.tasks {
        let spec = Arc::make_mut(&mut task.spec);
        spec.driver = spec.driver.replace('\0', "0").into();
    }
    job
}

/// All texts of up to so many of these letters.
fn texts_of(letters: &[char], most: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut last = texts.clone();
    for _ in 0..most {
        let longer = |text: &String| {
            letters
                .iter()
                .map(|l| format!("{text}{l}"))
                .collect::<Vec<_>>()
        };
        last = last.iter().flat_map(longer).collect();
        texts.extend(last.clone());
    }
    texts
}

/// Chance seldom makes parts that overlap.
#[tokio::test]
async fn parts_of_a_pattern_do_not_overlap_anywhere() {
    for stored in [Stored::in_sqlite(), Stored::in_postgres().await] {
        parts_do_not_overlap(stored).await;
    }
}

async fn parts_do_not_overlap(mut stored: Stored) {
    let mut changes = Changes::default();
    for (n, summary) in (0..).zip(texts_of(&['a', 'b'], 5)) {
        let mut job = job("acme", n);
        respec(&mut job, |spec| spec.summary = summary);
        let one = submitted(&job);
        changes.jobs.extend(one.jobs);
        changes.events.extend(one.events);
    }
    stored.commit(changes).await;
    let query = |filter| ListQuery {
        filter,
        ..list("acme", 100)
    };
    let jobs = stored.store.list(query(Filter::All)).await.unwrap().jobs;
    for text in texts_of(&['a', 'b', '*'], 5) {
        let filter = Filter::Text(Field::Summary, Pattern::from_wildcard(&text));
        let page = stored.store.list(query(filter.clone())).await.unwrap();
        let expected: Vec<_> = jobs.iter().filter(|job| filter.matches(job)).collect();
        assert_eq!(page.jobs.iter().collect::<Vec<_>>(), expected, "{text}");
    }
}

/// No question holds up the others for longer with more jobs: whoever wants to know all goes on from where the answer ended.
#[tokio::test]
async fn a_look_has_a_bound() {
    for stored in [Stored::in_sqlite(), Stored::in_postgres().await] {
        a_look_ends(stored).await;
    }
}

async fn a_look_ends(mut stored: Stored) {
    const MANY: u64 = 20_010;
    let mut changes = Changes::default();
    for n in 0..MANY {
        let one = submitted(&job("acme", n));
        changes.jobs.extend(one.jobs);
        changes.events.extend(one.events);
    }
    stored.commit(changes).await;
    for (filter, count, rest) in [(Filter::All, 20_000, 10), (Filter::Or(Vec::new()), 0, 0)] {
        for order in [ListOrder::CreateTime, ListOrder::UpdateTimeDesc] {
            let query = ListQuery {
                filter: filter.clone(),
                order,
                ..list("acme", usize::MAX)
            };
            let tally = stored.store.tally(query.clone()).await.unwrap();
            assert_eq!(tally.count, count);
            assert!(tally.next.is_some(), "there is more to look at");
            let after = tally.next;
            let tally = stored
                .store
                .tally(ListQuery { after, ..query })
                .await
                .unwrap();
            assert_eq!((tally.count, tally.next), (rest, None));
        }
    }
}
