//! How much of what an HTTP/2 peer sends is work that asks for nothing: frames are counted by their heads, and nothing else of them is looked at.
//!
//! h2 bounds what it has to keep, not what it has to do: a ping, a change of settings, or a call that is taken back at once costs the peer a few bytes and may be
//! repeated for ever. So each connection has a balance. Such frames take from it; calls, what we have to say, and time add to it.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of a frame before its payload: 3 of its length, its type, its flags, 4 of its stream (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

/// What a connection begins with, and the most that it may have: 20,000 calls that are taken back as soon as they are made, which a client with many may do.
pub(super) const BALANCE: u32 = 400_000;
/// What each second adds: 1,000 pings, or 2 changes of settings.
const PER_SECOND: u32 = 4_000;
/// What a call adds: two frames, such as a ping to measure the way and the room for the answer.
const CALL: u32 = 8;
/// Bytes that we write for one more: each of our messages may be answered with room for another.
const BYTES: usize = 16;
/// What any other frame takes, or one of data with none in it.
const SMALL: u32 = 4;
/// What it takes to take back a call that is new: what it added, and what we have done for it.
const RESET: u32 = 20;
/// What a change of settings takes: each may have to be told to all streams.
const CHANGE: u32 = 2_000;
/// What a call takes of somebody who has not shown who it is.
const STRANGE_CALL: u32 = 40;
/// A call that is older may be taken back for nothing.
const NEW: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// How much of it is there.
    length: usize,
    /// What is left of the payload.
    payload: usize,
    /// Frames of this turn.
    passed: u32,
    balance: u32,
    most: u32,
    /// Up to when time was counted, and when something came last.
    since: Instant,
    heard: Instant,
    /// Streams that were opened and not reset.
    open: u32,
    /// The newest stream, the newest one when that was last noted, and the newest one of those that are no longer new.
    newest: u32,
    noted: u32,
    settled: u32,
    noted_at: Instant,
}

impl Frames {
    pub(super) fn new(most: u32, now: Instant) -> Self {
        Self {
            head: [0; HEAD_BYTES],
            length: 0,
            payload: 0,
            passed: 0,
            balance: most,
            most,
            since: now,
            heard: now,
            open: 0,
            newest: 0,
            noted: 0,
            settled: 0,
            noted_at: now,
        }
    }

    /// The newest stream.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// How many there were since the turn began.
    pub(super) fn passed(&self) -> u32 {
        self.passed
    }

    pub(super) fn begin_turn(&mut self) {
        self.passed = 0;
    }

    /// We have written so much.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.add(u32::try_from(bytes / BYTES).unwrap_or(u32::MAX));
    }

    /// The peer has sent this, after the preface; false if that was too much.
    #[must_use]
    pub(super) fn read(&mut self, mut bytes: &[u8], is_known: bool, now: Instant) -> bool {
        self.pass(now);
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_BYTES - self.length).min(bytes.len());
            self.head[self.length..][..taken].copy_from_slice(&bytes[..taken]);
            self.length += taken;
            bytes = &bytes[taken..];
            if self.length == HEAD_BYTES && !self.count(is_known) {
                return false;
            }
        }
        true
    }

    /// Counts the frame whose head is there.
    fn count(&mut self, is_known: bool) -> bool {
        let [a, b, c, kind, _, stream @ ..] = self.head;
        let payload = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        self.length = 0;
        self.payload = payload as usize;
        self.passed = self.passed.saturating_add(1);
        match kind {
            DATA if payload > 0 => true,
            HEADERS if stream > self.newest => {
                self.newest = stream;
                self.open = self.open.saturating_add(1);
                if !is_known {
                    return self.take(STRANGE_CALL);
                }
                self.add(CALL);
                true
            }
            RST_STREAM if self.open > 0 => {
                self.open -= 1;
                stream <= self.settled || self.take(RESET)
            }
            SETTINGS => self.take(CHANGE),
            _ => self.take(SMALL),
        }
    }

    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_millis();
        if let Ok(millis @ 1..) = u32::try_from(passed) {
            // What is left of a millisecond counts the next time.
            self.since += Duration::from_millis(millis.into());
            self.add(millis.saturating_mul(PER_SECOND / 1_000));
        }
        if now.saturating_duration_since(self.noted_at) >= NEW {
            let is_first = now.saturating_duration_since(self.heard) >= NEW;
            self.settled = if is_first { self.newest } else { self.noted };
            self.noted = self.newest;
            self.noted_at = now;
        }
        self.heard = now;
    }

    fn add(&mut self, units: u32) {
        self.balance = self.balance.saturating_add(units).min(self.most);
    }

    fn take(&mut self, units: u32) -> bool {
        let left = self.balance.checked_sub(units);
        self.balance = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::monotonic_now;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let stream = stream.to_be_bytes();
        let head = [&length[1..], &[kind, 0], &stream].concat();
        [head, vec![kind; payload]].concat()
    }

    fn frames() -> (Frames, Instant) {
        let now = monotonic_now();
        (Frames::new(BALANCE, now), now)
    }

    /// How many of these at once are let through, of so many.
    fn at_once(most: usize, mut next: impl FnMut(u32) -> Vec<u8>) -> usize {
        let (mut frames, now) = frames();
        let numbers = (0..).map(|number| 2 * number + 1);
        let passed = numbers
            .take(most)
            .take_while(|&n| frames.read(&next(n), true, now));
        passed.count()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let sent = [
            frame(HEADERS, 1, 40),
            frame(DATA, 1, 300),
            frame(PING, 0, 8),
            frame(HEADERS, 3, 0),
            frame(DATA, 3, 0),
            frame(SETTINGS, 0, 6),
        ]
        .concat();
        let expected = {
            let (mut frames, now) = frames();
            frames.balance = 10_000;
            assert!(frames.read(&sent, true, now));
            (frames.balance, frames.newest, frames.open)
        };
        assert_eq!(expected, (10_000 + 2 * 8 - 2 * 4 - 2_000, 3, 2));
        for size in 1..40 {
            let (mut frames, now) = frames();
            frames.balance = 10_000;
            assert!(sent.chunks(size).all(|part| frames.read(part, true, now)));
            let counted = (frames.balance, frames.newest, frames.open);
            assert_eq!(counted, expected, "{size}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_bounded() {
        let many = 1_000_000;
        for (kind, payload, most) in [
            (PING, 8, 100_000),
            (WINDOW_UPDATE, 4, 100_000),
            (SETTINGS, 0, 200),
            (DATA, 0, 100_000),
            (0xbb, 100, 100_000),
            // Resets of nothing.
            (RST_STREAM, 4, 100_000),
        ] {
            let passed = at_once(many, |_| frame(kind, 1, payload));
            assert_eq!(passed, most, "{kind}");
        }
        let rapid = |n| [frame(HEADERS, n, 30), frame(RST_STREAM, n, 4)].concat();
        let passed = at_once(many, rapid);
        assert!((20_000..40_000).contains(&passed), "{passed}");
    }

    #[test]
    fn work_is_not_bounded() {
        let many = 1_000_000;
        let call = |n| {
            let around = [frame(PING, 0, 8), frame(WINDOW_UPDATE, 0, 4)].concat();
            [frame(HEADERS, n, 30), frame(DATA, n, 50), around].concat()
        };
        assert_eq!(at_once(many, call), many);
        assert_eq!(at_once(many, |_| frame(DATA, 1, 1)), many);
        // Somebody who makes room for each small message that we send.
        let (mut frames, now) = frames();
        for _ in 0..many {
            frames.wrote(100);
            assert!(frames.read(&frame(WINDOW_UPDATE, 1, 4), true, now));
        }
    }

    #[test]
    fn calls_that_lasted_may_all_be_taken_back() {
        let (mut frames, now) = frames();
        let calls = 200_000;
        for n in 0..calls {
            assert!(frames.read(&frame(HEADERS, 2 * n + 1, 30), true, now));
        }
        for n in 0..calls {
            assert!(frames.read(&frame(RST_STREAM, 2 * n + 1, 4), true, now + NEW));
        }
    }

    /// The same, while others come all the time.
    #[test]
    fn calls_of_a_busy_client_may_be_taken_back() {
        let (mut frames, mut now) = frames();
        let ids = (0..2_000_000).map(|number| 2 * number + 1);
        for n in ids {
            // 20,000 in a second, each of which lasts for a second.
            now += Duration::from_micros(50);
            assert!(frames.read(&frame(HEADERS, n, 30), true, now), "{n}");
            if let Some(old @ 1..) = n.checked_sub(40_000) {
                assert!(frames.read(&frame(RST_STREAM, old, 4), true, now), "{n}");
            }
        }
    }

    #[test]
    fn time_restores_what_was_taken() {
        let (mut frames, mut now) = frames();
        for _ in 0..2_000 {
            now += Duration::from_secs(1);
            let pings = frame(PING, 0, 8).repeat(1_000);
            assert!(frames.read(&pings, true, now));
        }
        // Also if it is looked at often.
        for _ in 0..1_000_000 {
            now += Duration::from_millis(1);
            assert!(frames.read(&frame(PING, 0, 8), true, now));
        }
    }

    #[test]
    fn strangers_may_ask_less() {
        let (mut frames, now) = frames();
        let mut ids = (0..).map(|number| 2 * number + 1);
        let passed = ids
            .by_ref()
            .take_while(|&n| frames.read(&frame(HEADERS, n, 30), false, now));
        assert_eq!(passed.count(), 10_000);
    }
}
