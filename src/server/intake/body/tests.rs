use std::convert::Infallible;

use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::*;

type Frames = mpsc::Sender<Bytes>;

/// A body that is sent by hand.
fn body(draining: Option<Arc<CancellationToken>>) -> (Frames, impl Body<Error = BoxError> + Unpin) {
    let (frames, sent) = mpsc::channel(1);
    let sent = ReceiverStream::new(sent).map(|data| Ok::<_, Infallible>(Frame::data(data)));
    let body = RequestBody::new(StreamBody::new(sent), draining, |error| error.into());
    (frames, body)
}

fn nobody_goes() -> Option<Arc<CancellationToken>> {
    Some(Arc::new(CancellationToken::new()))
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
    let (frames, body) = body(nobody_goes());
    frames.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(outcome(body).await, (Some(BodyError::TooSlow), SILENCE));
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_byte() {
    let (frames, body) = body(nobody_goes());
    let every = Duration::from_secs(15);
    let (outcome, ()) = tokio::join!(outcome(body), async {
        dribble(frames.clone(), every, 2).await;
        frames.closed().await;
    });
    assert_eq!(outcome, (Some(BodyError::TooSlow), every + SILENCE));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_pauses_for_long_has_an_end_all_the_same() {
    let (frames, body) = body(nobody_goes());
    let dribble = dribble(frames, Duration::from_secs(5), u32::MAX);
    let (outcome, ()) = tokio::join!(outcome(body), dribble);
    assert_eq!(outcome, (Some(BodyError::TooSlow), WHOLE));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_in_time_is_read_to_its_end() {
    let (frames, body) = body(nobody_goes());
    let every = Duration::from_secs(19);
    let (outcome, ()) = tokio::join!(outcome(body), dribble(frames, every, 3));
    assert_eq!(outcome, (None, every * 3));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_silent() {
    let (frames, body) = body(None);
    let every = 10 * WHOLE;
    let (outcome, ()) = tokio::join!(outcome(body), dribble(frames, every, 3));
    assert_eq!(outcome, (None, every * 3));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_does_not_wait_for_the_rest() {
    let draining = Arc::new(CancellationToken::new());
    let (frames, body) = body(Some(Arc::clone(&draining)));
    let go = async {
        frames.send(Bytes::from_static(b"x")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        draining.cancel();
        frames.closed().await;
    };
    let (outcome, ()) = tokio::join!(outcome(body), go);
    let second = Duration::from_secs(1);
    assert_eq!(outcome, (Some(BodyError::Draining), second));
}
