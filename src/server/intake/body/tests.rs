use std::convert::Infallible;

use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::*;

type Frames = mpsc::Sender<Bytes>;

/// A body that is sent by hand.
fn by_hand() -> (Frames, impl Body<Data = Bytes, Error = Infallible> + Unpin) {
    let (frames, sent) = mpsc::channel(1);
    let sent = ReceiverStream::new(sent).map(|data| Ok::<_, Infallible>(Frame::data(data)));
    (frames, StreamBody::new(sent))
}

fn whole(
    bounds: &Arc<Bounds>,
) -> (
    Frames,
    impl Body<Data = Bytes, Error = BoxError> + Unpin + use<>,
) {
    let (frames, body) = by_hand();
    let body = RequestBody::whole(body, Arc::clone(bounds), |error| error.into());
    (frames, body)
}

/// Reads to the end; answers what it failed with, and how long that took.
async fn outcome(body: impl Body<Error = BoxError> + Unpin) -> (Option<BodyError>, Duration) {
    let begin = monotonic_now();
    let read = body.collect().await;
    let error = read.err().map(|error| {
        let known = error.downcast_ref::<BodyError>().copied();
        known.unwrap_or_else(|| panic!("not ours: {error}"))
    });
    (error, begin.elapsed())
}

/// Sends a byte now and then, `most` times at the most.
async fn dribble(frames: Frames, every: Duration, most: u32) {
    for _ in 0..most {
        if frames.send(Bytes::from_static(b"x")).await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_it() {
    let (frames, body) = whole(&Arc::default());
    frames.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(outcome(body).await, (Some(BodyError::TooSlow), SILENCE));
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_byte() {
    let (frames, body) = whole(&Arc::default());
    let every = Duration::from_secs(15);
    let (outcome, ()) = tokio::join!(outcome(body), async {
        dribble(frames.clone(), every, 2).await;
        frames.closed().await;
    });
    assert_eq!(outcome, (Some(BodyError::TooSlow), every + SILENCE));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_pauses_for_long_has_an_end_all_the_same() {
    let (frames, body) = whole(&Arc::default());
    let dribble = dribble(frames, Duration::from_secs(5), u32::MAX);
    let (outcome, ()) = tokio::join!(outcome(body), dribble);
    assert_eq!(outcome, (Some(BodyError::TooSlow), WHOLE));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_in_time_is_read_to_its_end() {
    let (frames, body) = whole(&Arc::default());
    let every = Duration::from_secs(19);
    let (outcome, ()) = tokio::join!(outcome(body), dribble(frames, every, 3));
    assert_eq!(outcome, (None, every * 3));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_silent() {
    let (frames, body) = by_hand();
    let body = RequestBody::stream(body, Arc::default(), |error| error.into());
    let every = 10 * WHOLE;
    let (outcome, ()) = tokio::join!(outcome(body), dribble(frames, every, 3));
    assert_eq!(outcome, (None, every * 3));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_does_not_wait_for_the_rest() {
    let bounds = Arc::default();
    let (frames, body) = whole(&bounds);
    let go = async {
        frames.send(Bytes::from_static(b"x")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        bounds.draining.cancel();
        frames.closed().await;
    };
    let (outcome, ()) = tokio::join!(outcome(body), go);
    let second = Duration::from_secs(1);
    assert_eq!(outcome, (Some(BodyError::Draining), second));
}

#[tokio::test]
async fn bodies_that_are_not_complete_share_a_room() {
    let bounds = Arc::default();
    let part = Bytes::from(vec![7; 1024 * 1024]);
    let mut held = Vec::new();
    let refused = loop {
        let (frames, mut body) = whole(&bounds);
        frames.send(part.clone()).await.unwrap();
        match body.frame().await {
            Some(Ok(_)) => held.push((frames, body)),
            other => break other.unwrap().unwrap_err(),
        }
        assert!(held.len() <= 1_000, "there is an end to it");
    };
    let refused = refused.downcast_ref::<BodyError>();
    assert_eq!(refused, Some(&BodyError::NoRoom));
    let (frames, small) = whole(&bounds);
    frames.send(Bytes::from_static(b"x")).await.unwrap();
    drop(frames);
    assert_eq!(outcome(small).await.0, None, "a small one needs none");
    // What is complete or given up leaves room for others.
    held.pop();
    let (frames, mut body) = whole(&bounds);
    frames.send(part).await.unwrap();
    assert!(matches!(body.frame().await, Some(Ok(_))));
}
