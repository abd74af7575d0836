//! What a watch says, message by message, over the wire: of one job, and of all that match a filter.

use std::time::Duration;

use longhaul::{
    client::Client,
    proto::v1::{
        CancelRequest, DeleteRequest, JobChange, WatchJobRequest, WatchJobResponse,
        WatchJobsRequest, WatchJobsResponse, job::State, job_change::Type,
        watch_job_response::Kind, watch_jobs_response::Kind as FollowKind,
    },
};
use tonic::{Code, Streaming};

use crate::{
    harness::Server,
    jobs::{reason, submit, submit_many},
};

/// The shortest silence that may be asked for.
const HEARTBEAT: Duration = Duration::from_secs(5);

async fn watch(client: &Client, job_id: &str, after: u64) -> Streaming<WatchJobResponse> {
    let request = WatchJobRequest {
        job_id: job_id.to_owned(),
        after_revision: after,
        heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
        ..WatchJobRequest::default()
    };
    let answer = client.jobs().watch_job(request).await;
    answer.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<WatchJobResponse>) -> WatchJobResponse {
    watch.message().await.unwrap().expect("it goes on")
}

async fn cancel(client: &Client, job_id: &str) {
    let request = CancelRequest {
        job_id: job_id.to_owned(),
        ..CancelRequest::default()
    };
    client.jobs().cancel(request).await.unwrap();
}

async fn delete(client: &Client, job_id: &str) {
    let job_id = job_id.to_owned();
    client
        .jobs()
        .delete(DeleteRequest { job_id })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_watch_begins_at_once_and_ends_with_the_job() {
    let server = Server::start().await;
    let client = server.client().await;
    let job = submit(&client, "nobody").await;

    let mut fresh = watch(&client, &job.id, 0).await;
    let first = next(&mut fresh).await;
    assert_eq!(
        (first.kind(), first.from_revision, first.revision),
        (Kind::Snapshot, 0, 1)
    );
    assert_eq!(first.job.unwrap().id, job.id);

    let mut current = watch(&client, &job.id, 1).await;
    let first = next(&mut current).await;
    assert_eq!(
        (first.kind(), first.from_revision, first.revision),
        (Kind::Synced, 1, 1)
    );
    assert_eq!(first.job, None);
    let quiet = next(&mut current).await;
    assert_eq!((quiet.kind(), quiet.revision), (Kind::Heartbeat, 1));

    let mut ahead = watch(&client, &job.id, 40).await;
    let first = next(&mut ahead).await;
    assert_eq!(
        (first.kind(), first.from_revision, first.revision),
        (Kind::Snapshot, 0, 1)
    );
    assert!(first.reset && !first.r#final);

    cancel(&client, &job.id).await;
    let mut end = 0;
    for watch in [&mut fresh, &mut current, &mut ahead] {
        let mut known = 1;
        loop {
            let message = next(watch).await;
            if message.kind() == Kind::Heartbeat {
                continue;
            }
            assert_eq!((message.from_revision, message.reset), (known, false));
            known = message.revision;
            if message.r#final {
                assert_eq!(message.job.unwrap().state(), State::Cancelled);
                break;
            }
        }
        assert!(
            watch.message().await.unwrap().is_none(),
            "then it ends with OK"
        );
        end = known;
    }

    // Whoever comes later, or has seen it all, is told the end as well.
    for after in [0, end] {
        let mut late = watch(&client, &job.id, after).await;
        let last = next(&mut late).await;
        assert_eq!(
            (last.from_revision, last.revision, last.r#final),
            (after, end, true)
        );
        assert!(late.message().await.unwrap().is_none());
    }
    delete(&client, &job.id).await;
    let request = WatchJobRequest {
        job_id: job.id,
        ..WatchJobRequest::default()
    };
    let gone = client.jobs().watch_job(request).await.unwrap_err();
    assert_eq!(
        (gone.code(), reason(&gone).as_str()),
        (Code::NotFound, "JOB_NOT_FOUND")
    );
    server.stop().await;
}

async fn follow(client: &Client, filter: &str, cursor: &str) -> Streaming<WatchJobsResponse> {
    let request = WatchJobsRequest {
        filter: filter.to_owned(),
        cursor: cursor.to_owned(),
        heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
        ..WatchJobsRequest::default()
    };
    let answer = client.jobs().watch_jobs(request).await;
    answer.unwrap().into_inner()
}

/// Changes from a stream until there are that many, and the cursor behind them.
async fn changes(
    follow: &mut Streaming<WatchJobsResponse>,
    count: usize,
) -> (Vec<JobChange>, String) {
    let mut changes = Vec::new();
    loop {
        let message = follow.message().await.unwrap().expect("it goes on");
        if message.kind() == FollowKind::Heartbeat {
            continue;
        }
        assert_eq!(message.kind(), FollowKind::Changes);
        changes.extend(message.changes);
        if changes.len() >= count {
            return (changes, message.cursor);
        }
    }
}

/// What happened to which job.
fn told(changes: &[JobChange]) -> Vec<(Type, &str)> {
    let told = changes
        .iter()
        .map(|change| (change.r#type(), change.job_id.as_str()));
    told.collect()
}

#[tokio::test]
async fn a_list_is_followed_exactly_and_over_a_restart() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let [a, b, c]: [String; 3] = submit_many(&client, "d", 3).await.try_into().unwrap();
    cancel(&client, &c).await;

    let mut stream = follow(&client, "state = QUEUED", "").await;
    let listed = stream.message().await.unwrap().unwrap();
    assert_eq!(
        (listed.kind(), listed.cursor.as_str()),
        (FollowKind::Listed, "")
    );
    assert_eq!(
        told(&listed.changes),
        [(Type::Upsert, b.as_str()), (Type::Upsert, a.as_str())],
        "newest first, and only what matches"
    );
    let synced = stream.message().await.unwrap().unwrap();
    assert_eq!(
        (synced.kind(), synced.changes.len()),
        (FollowKind::Synced, 0)
    );

    let d = submit(&client, "d").await.id;
    let (upsert, after_d) = changes(&mut stream, 1).await;
    assert_eq!(told(&upsert), [(Type::Upsert, d.as_str())]);
    cancel(&client, &a).await;
    let (left, after_a) = changes(&mut stream, 1).await;
    assert_eq!(told(&left), [(Type::Left, a.as_str())]);
    assert_eq!(left[0].job.as_ref().unwrap().state(), State::Cancelled);
    assert_eq!(left[0].from_revision, 1);
    delete(&client, &a).await;
    let (deleted, _) = changes(&mut stream, 1).await;
    assert_eq!(
        (told(&deleted), &deleted[0].job),
        (vec![(Type::Deleted, a.as_str())], &None)
    );
    let quiet = stream.message().await.unwrap().unwrap();
    assert_eq!(quiet.kind(), FollowKind::Heartbeat);
    drop(stream);

    // While nobody follows, and then over a kill: what was told is not told again, and the rest is.
    cancel(&client, &b).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client().await;
    let mut resumed = follow(&client, "state = QUEUED", &after_a).await;
    let (missed, after_b) = changes(&mut resumed, 2).await;
    assert_eq!(
        told(&missed),
        [(Type::Deleted, a.as_str()), (Type::Left, b.as_str())]
    );
    let mut resumed = follow(&client, "state = QUEUED", &after_d).await;
    let (missed, _) = changes(&mut resumed, 2).await;
    assert_eq!(
        told(&missed),
        [(Type::Deleted, a.as_str()), (Type::Left, b.as_str())],
        "of a job that is gone only that"
    );
    let mut resumed = follow(&client, "state = QUEUED", &after_b).await;
    let quiet = resumed.message().await.unwrap().unwrap();
    assert_eq!(
        (quiet.kind(), quiet.cursor),
        (FollowKind::Heartbeat, after_b)
    );
    drop(resumed);
    server.stop().await;
}
