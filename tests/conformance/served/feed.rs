//! What those who follow the jobs are told.

use std::collections::{BTreeMap, BTreeSet};

use longhaul::proto::v1::{
    JobChange, Warning, WatchJobsRequest, job_change::Type, task_report::Report,
    watch_jobs_response::Kind,
};

use super::{Served, reason, request, spec};

/// What is told of each job, which must tile: the range of its revisions, and whether it is gone.
fn ranges(changes: &[JobChange]) -> BTreeMap<&str, (u64, u64, bool)> {
    let mut ranges = BTreeMap::new();
    for change in changes {
        let range = ranges.entry(change.job_id.as_str()).or_insert((
            change.from_revision,
            change.from_revision,
            false,
        ));
        assert!(range.1 == change.from_revision && !range.2, "{changes:#?}");
        (range.1, range.2) = (change.revision, change.r#type() == Type::Deleted);
        assert!(range.2 || change.job.as_ref().unwrap().revision >= range.1);
    }
    ranges
}

pub async fn the_feed_tells_each_job_once(served: &Served) {
    let start = served.mark().await;
    let one = served.submit_for("d").await.id;
    let two = served.submit_for("e").await.id;
    let is_at = |id: &str, revision| {
        let id = id.to_owned();
        move |change: &JobChange| change.job_id == id && change.revision >= revision
    };
    let (first, middle) = served.changes(&start, is_at(&two, 1)).await;
    assert_eq!(ranges(&first).len(), 2);
    let lease = served.acquire(&["d"], 1).await.remove(0);
    for message in ["slow", "slower"] {
        let message = message.to_owned();
        served
            .report(&lease, Report::Warning(Warning { message }))
            .await;
    }
    let (all, _) = served.changes(&start, is_at(&one, 4)).await;
    // In one piece or several: no revision is told twice, none is left out.
    let all = ranges(&all);
    assert_eq!(all[two.as_str()], (0, 1, false));
    assert_eq!(all[one.as_str()], (0, 4, false));
    let (rest, _) = served.changes(&middle, is_at(&one, 4)).await;
    assert_eq!(
        ranges(&rest),
        BTreeMap::from([(one.as_str(), (1, 4, false))])
    );
}

pub async fn the_feed_tells_of_removed_jobs(served: &Served) {
    let start = served.mark().await;
    let job = served.submit_for("d").await.id;
    let (_, submitted) = served.changes(&start, |change| change.job_id == job).await;
    served.cancel(&job).await;
    served.delete(&job).await;
    let deleted = |change: &JobChange| change.r#type() == Type::Deleted;
    // Of a job that is gone only the removal is kept.
    for mark in [start, submitted] {
        let (changes, _) = served.changes(&mark, deleted).await;
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].job, None);
        assert_eq!(ranges(&changes)[job.as_str()], (2, 3, true));
    }
}

pub async fn a_long_stretch_of_the_feed_comes_in_parts(served: &Served) {
    let start = served.mark().await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.extend(served.submit_many("d", 800).await);
    }
    expected.sort_unstable();
    let mut told = Vec::new();
    let mut mark = start;
    // From wherever it was cut off, to the end, and nothing twice.
    while told.len() < expected.len() {
        let (changes, reached) = served.changes(&mark, |_| true).await;
        assert_eq!(ranges(&changes).len(), changes.len());
        told.extend(changes.into_iter().map(|change| change.job_id));
        mark = reached;
    }
    told.sort_unstable();
    assert_eq!(told, expected);
}

pub async fn the_feed_is_of_one_tenant(served: &Served) {
    let others = served.clients_of("umbrella").await;
    let start = served.mark().await;
    let own = served.submit_for("d").await.id;
    let after_own = served.mark().await;
    let mut anothers = Vec::new();
    for n in 0..3 {
        let client = &others[n % others.len()];
        let answer = client.jobs().submit(request(spec(&["d"]), "")).await;
        anothers.push(answer.unwrap().into_inner().job.unwrap().id);
    }
    anothers.sort_unstable();
    // Whatever comes last is behind the others'.
    let last = served.submit_for("e").await.id;
    let (changes, _) = served.changes(&start, |change| change.job_id == last).await;
    let told: BTreeSet<_> = ranges(&changes).into_keys().collect();
    assert_eq!(told, BTreeSet::from([own.as_str(), last.as_str()]));
    let (changes, _) = served
        .changes(&after_own, |change| change.job_id == last)
        .await;
    let (told, gone): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.job_id == last);
    assert!(!told.is_empty() && gone.iter().all(|change| change.job_id == own));
    for client in &others {
        let mut follow = client.jobs().watch_jobs(WatchJobsRequest::default()).await;
        let follow = follow.as_mut().unwrap().get_mut();
        let mut listed = Vec::new();
        loop {
            let message = follow.message().await.unwrap().expect("it goes on");
            listed.extend(message.changes.iter().map(|change| change.job_id.clone()));
            if message.kind() == Kind::Synced {
                break;
            }
        }
        listed.sort_unstable();
        assert_eq!(listed, anothers);
        // A place in one tenant's feed is none in another's.
        let cursor = after_own.clone();
        let request = WatchJobsRequest {
            cursor,
            ..WatchJobsRequest::default()
        };
        let refused = client.jobs().watch_jobs(request).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_REQUEST");
    }
}
