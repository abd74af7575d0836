//! Peers that send what costs them nothing, as fast as they can, over HTTP/2.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use rustix::process::setpriority_process;
use tokio::{runtime::Builder, time::timeout};

use crate::{
    honest::meanwhile,
    server::Server,
    wire::{
        ACK, CONTINUATION, DATA, END_HEADERS, Ended, HEADERS, PING, PRIORITY, Peer, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, call, fields, frame, get, request,
    },
};

/// How long a flood may take until it is over, in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// How long others are watched meanwhile, at least.
const LONG: Duration = Duration::from_secs(2);
const LEAST_PRIORITY: i32 = 19;
/// Far more than a connection may send.
const ENDLESS: usize = 50_000_000;
/// ENHANCE_YOUR_CALM, PROTOCOL_ERROR and FLOW_CONTROL_ERROR (RFC 9113, 7).
const CALM: u32 = 0xb;
const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;

/// Sends one frame after the other, each for a stream of its own if it is for any, until it is ended; `reasons` says why it may be.
async fn flood(
    server: &Server,
    key: Option<&str>,
    reasons: &[u32],
    next: impl FnMut(u32) -> Vec<u8>,
) -> Ended {
    let peer = Peer::http2(server, key).await;
    let ended = peer.floods(SOON, ENDLESS, next).await;
    assert!(ended.sent < ENDLESS, "{}", ended.sent);
    // A frame on its way when the socket closes may be lost.
    if let Some(reason) = ended.reason() {
        assert!(reasons.contains(&reason), "{reason}");
    }
    ended
}

/// The number of the stream that comes after those before, and after the first request.
fn nth(n: u32) -> u32 {
    2 * n + 3
}

fn rapid_reset(n: u32) -> Vec<u8> {
    let reset = frame(RST_STREAM, 0, nth(n), &8_u32.to_be_bytes());
    [request(nth(n), "/v1/jobs", None), reset].concat()
}

/// An attack that needs its server for as long as it goes on.
type Attack = BoxFuture<'static, ()>;

/// As often as it can be, for as long as it takes to see how others fare; by threads that leave the processor to whoever wants it, as an attacker does who has a
/// machine of its own.
async fn again(server: &Arc<Server>, attack: fn(Arc<Server>) -> Attack) {
    let attackers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| setpriority_process(None, LEAST_PRIORITY).unwrap())
        .build()
        .unwrap();
    let server = Arc::clone(server);
    let attacks = attackers.spawn(async move {
        // One that has begun is not waited for: each was carried out before.
        attack(Arc::clone(&server)).await;
        let more = async {
            loop {
                attack(Arc::clone(&server)).await;
            }
        };
        let _ = timeout(LONG, more).await;
    });
    let attacked = attacks.await;
    attackers.shutdown_background();
    attacked.unwrap();
}

/// All of them, one after the other.
async fn all(server: &Server, key: Option<&str>) {
    flood(server, key, &[CALM], |_| frame(PING, 0, 0, &[7; 8])).await;
    flood(server, key, &[CALM], |_| frame(PING, ACK, 0, &[7; 8])).await;
    flood(server, key, &[CALM], |_| frame(SETTINGS, 0, 0, &[])).await;
    // Each makes all open streams be looked at.
    let mut size = 65_535_u32;
    flood(server, key, &[CALM], |_| {
        size ^= 1;
        let change = [&[0, 4], &size.to_be_bytes()[..]].concat();
        frame(SETTINGS, 0, 0, &change)
    })
    .await;
    flood(server, key, &[CALM, FLOW], |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
    })
    .await;
    flood(server, key, &[CALM], |n| {
        frame(PRIORITY, 0, nth(n), &[0, 0, 0, 0, 1])
    })
    .await;
    flood(server, key, &[CALM], |_| frame(0xbb, 0, 0, b"grease")).await;
    flood(server, key, &[CALM], rapid_reset).await;
    // A stream that there never was, and one that there was.
    flood(server, key, &[CALM, PROTOCOL], |_| {
        frame(RST_STREAM, 0, 1, &[0; 4])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_strangers_are_cut_off() {
    let server = Arc::new(Server::start(&[]).await);
    let attack = again(&server, |server| {
        async move { all(&server, None).await }.boxed()
    });
    meanwhile(&server, "floods of strangers", attack).await;
    assert!(server.log().contains("ask for nothing"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_those_who_are_known_are_cut_off() {
    let server = Arc::new(Server::start(&[]).await);
    let attack = again(&server, |server| {
        let attack = async move {
            all(&server, Some(&server.key)).await;
            headers_without_end(&server).await;
            data_without_end(&server).await;
        };
        attack.boxed()
    });
    meanwhile(&server, "floods of those who are known", attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_over_tls_are_cut_off() {
    let server = Arc::new(Server::start_tls().await);
    let attack = again(&server, |server| {
        let attack = async move {
            let key = Some(server.key.as_str());
            flood(&server, key, &[CALM], |_| frame(PING, 0, 0, &[7; 8])).await;
            flood(&server, None, &[CALM], rapid_reset).await;
        };
        attack.boxed()
    });
    meanwhile(&server, "floods over TLS", attack).await;
}

/// A head that goes on and on, in frames with and without something in them.
async fn headers_without_end(server: &Server) {
    let begin = frame(HEADERS, 0, nth(0), &get("/v1/jobs", None));
    for more in [vec![], fields(&[("x-long", &"x".repeat(100))]).repeat(150)] {
        let more = frame(CONTINUATION, 0, nth(0), &more);
        let ended = flood(server, Some(&server.key), &[CALM, PROTOCOL], |n| match n {
            0 => begin.clone(),
            _ => more.clone(),
        })
        .await;
        assert!(ended.sent < 100_000, "{}", ended.sent);
    }
}

/// A body of nothing.
async fn data_without_end(server: &Server) {
    let fields = call("/longhaul.v1.WorkerService/Work", &server.key, &[]);
    let begin = frame(HEADERS, END_HEADERS, nth(0), &fields);
    flood(server, Some(&server.key), &[CALM], |n| match n {
        0 => begin.clone(),
        _ => frame(DATA, 0, nth(0), &[]),
    })
    .await;
}

/// A client that gives up on many calls at once means no harm.
#[tokio::test]
async fn twenty_thousand_calls_may_be_taken_back_at_once() {
    let server = Server::start(&[]).await;
    let mut peer = Peer::http2(&server, Some(&server.key)).await;
    for n in 0..20_000 / 100 {
        let bytes: Vec<u8> = (100 * n..100 * (n + 1)).flat_map(rapid_reset).collect();
        peer.send(&bytes).await.unwrap();
    }
    let last = nth(20_000);
    let asked = request(last, "/v1/jobs", Some(&server.key));
    peer.send(&asked).await.unwrap();
    peer.answer(last, SOON).await;
}
