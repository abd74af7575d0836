//! Watches of a server that does what a real one should not.

use tonic::Status;

use super::*;
use crate::{
    client::{
        Client,
        scripted::{Call, ScriptedServer},
    },
    proto::v1::{Job, WatchJobRequest, watch_job_response::Kind},
};

type Server = ScriptedServer<WatchJobRequest, WatchJobResponse>;

fn snapshot(from_revision: u64, revision: u64, is_final: bool) -> WatchJobResponse {
    WatchJobResponse {
        job: Some(Job {
            revision,
            ..Default::default()
        }),
        kind: Kind::Snapshot.into(),
        from_revision,
        revision,
        r#final: is_final,
        ..Default::default()
    }
}

fn mark(kind: Kind, revision: u64) -> WatchJobResponse {
    WatchJobResponse {
        kind: kind.into(),
        from_revision: revision,
        revision,
        ..Default::default()
    }
}

/// The server, the watch, and the first call.
async fn watching(
    options: WatchOptions,
) -> (Server, Watch, Call<WatchJobRequest, WatchJobResponse>) {
    let mut server = Server::start().await;
    let mut watch = server.client().await.watch("j", options);
    let call = tokio::select! {
        call = server.next_call() => call,
        update = watch.next() => panic!("{update:?}"),
    };
    (server, watch, call)
}

async fn revision(watch: &mut Watch) -> u64 {
    match watch.next().await {
        Some(Ok(WatchUpdate::Snapshot { revision, .. })) => revision,
        other => panic!("not a snapshot: {other:?}"),
    }
}

async fn disconnected(watch: &mut Watch) -> ClientError {
    match watch.next().await {
        Some(Ok(WatchUpdate::Disconnected { error, .. })) => error,
        other => panic!("not a disconnect: {other:?}"),
    }
}

/// The next call, while the watch goes on.
async fn reconnected(
    server: &mut Server,
    watch: &mut Watch,
) -> Call<WatchJobRequest, WatchJobResponse> {
    tokio::select! {
        call = server.next_call() => call,
        update = watch.next() => panic!("{update:?}"),
    }
}

#[tokio::test]
async fn it_resumes_where_it_was_and_ends_after_the_final_snapshot() {
    let (mut server, mut watch, mut call) = watching(WatchOptions::default()).await;
    assert_eq!(call.request().await.after_revision, 0);
    call.answer(snapshot(0, 3, false)).await;
    assert_eq!(revision(&mut watch).await, 3);
    call.answer(mark(Kind::Draining, 3)).await;
    call.fail(Status::unavailable("draining")).await;
    assert_eq!(disconnected(&mut watch).await.to_string(), "draining");

    let mut call = reconnected(&mut server, &mut watch).await;
    let request = call.request().await;
    assert_eq!((request.job_id.as_str(), request.after_revision), ("j", 3));
    call.answer(mark(Kind::Synced, 3)).await;
    assert!(matches!(
        watch.next().await,
        Some(Ok(WatchUpdate::Synced { revision: 3 }))
    ));
    call.answer(snapshot(3, 5, true)).await;
    assert_eq!(revision(&mut watch).await, 5);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_ends_well_before_the_final_snapshot_is_resumed() {
    let (mut server, mut watch, call) = watching(WatchOptions::default()).await;
    call.answer(snapshot(0, 1, false)).await;
    drop(call);
    assert_eq!(revision(&mut watch).await, 1);
    assert!(matches!(
        disconnected(&mut watch).await,
        ClientError::EndedEarly
    ));
    assert_eq!(
        reconnected(&mut server, &mut watch)
            .await
            .request()
            .await
            .after_revision,
        1
    );
}

#[tokio::test]
async fn a_gap_and_an_overlap_are_reported_and_end_the_watch() {
    for wrong in [
        snapshot(2, 4, false),
        snapshot(0, 4, false),
        mark(Kind::Heartbeat, 2),
    ] {
        let (_server, mut watch, call) = watching(WatchOptions::default()).await;
        call.answer(snapshot(0, 1, false)).await;
        assert_eq!(revision(&mut watch).await, 1);
        call.answer(wrong).await;
        assert!(matches!(
            watch.next().await,
            Some(Err(ClientError::Gap { known: 1, .. }))
        ));
        assert!(watch.next().await.is_none());
    }
}

#[tokio::test]
async fn what_a_retry_can_not_mend_ends_the_watch() {
    let (_server, mut watch, call) = watching(WatchOptions::default()).await;
    call.fail(Status::not_found("no such job")).await;
    let Some(Err(error)) = watch.next().await else {
        panic!("not an error")
    };
    assert_eq!(error.to_string(), "no such job");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    // Leaves the margin alone as the silence that is allowed.
    let options = WatchOptions {
        heartbeat_interval: Some(Duration::ZERO),
        ..Default::default()
    };
    let (mut server, mut watch, call) = watching(options).await;
    call.answer(snapshot(0, 1, false)).await;
    assert_eq!(revision(&mut watch).await, 1);
    let before = clock::now();
    assert!(matches!(
        disconnected(&mut watch).await,
        ClientError::Silent(_)
    ));
    assert!(before.elapsed() >= SILENCE_MARGIN - Duration::from_millis(500));
    assert_eq!(
        reconnected(&mut server, &mut watch)
            .await
            .request()
            .await
            .after_revision,
        1
    );
}

#[tokio::test]
async fn it_gives_up_when_told_to() {
    let options = WatchOptions {
        give_up_after: Some(Duration::ZERO),
        ..Default::default()
    };
    let client = Client::connect_lazy("127.0.0.1:1").expect("an address");
    let mut watch = client.watch("j", options);
    let Some(Err(error)) = watch.next().await else {
        panic!("not an error")
    };
    assert!(error.is_unreachable(), "{error:?}");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let error = Client::connect("http://127.0.0.1:1")
        .await
        .expect_err("nobody listens");
    let text = error.to_string();
    assert!(
        text.contains("http://127.0.0.1:1") && text.contains("longhaul serve"),
        "{text}"
    );
    assert!(error.is_unreachable());
}
