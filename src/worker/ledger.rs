//! What a worker holds and has still to say: leases, reports under way, and what to send next. Pure: no IO, no clock, no tasks.
//!
//! `H` is the shell's way to reach whoever works on a lease; the ledger only keeps it and hands it out. The invariants:
//! - warnings, receipts and outcomes are sent again on each new session until they are answered; of progress only the newest counts;
//! - results come in the order of the reports, so `in_flight` is a queue;
//! - everything is bounded by the number of leases: see [`Held`];
//! - a lease lost while its handler still runs keeps its slot busy until the handler has ended.

mod held;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;

use self::held::Held;
use crate::{
    client::ClientError,
    proto::v1::{
        Lease, ProgressReport, ReportResult, TaskReport, WorkRequest, WorkerHello,
        task_report::Report,
    },
};

/// Reports, and acknowledgements, in one message: as many as the server takes.
const MAX_BATCH: usize = 1_000;
/// Bytes of reports in one message, but for a single larger one: well below the server's limit on messages.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How often the server wants to hear us until it has said so.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lease lasts if the server does not say.
const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger<H> {
    /// Leases that the worker wants to hold at once; 0 when it winds down.
    slots: u32,
    /// What the server was told last.
    announced_slots: u32,
    held: HashMap<Bytes, Held<H>>,
    /// Lost leases whose handlers have not ended yet.
    stopping: HashSet<Bytes>,
    /// New leases, to be acknowledged.
    acknowledge: Vec<Bytes>,
    /// Leases with something to say, each once.
    outgoing: VecDeque<Bytes>,
    /// Reports sent and not answered yet.
    in_flight: VecDeque<Sent>,
    /// How often the server wants to hear the worker, lease or no lease.
    heartbeat_interval: Duration,
    last_sent: Instant,
    /// Not later than the first heartbeat that is due.
    next_heartbeat: Option<Instant>,
    /// Not later than the first lease that runs out.
    next_expiry: Option<Instant>,
}

/// A report that waits for its answer.
#[derive(Debug)]
struct Sent {
    lease_token: Bytes,
    report: Report,
    at: Instant,
}

/// What an answer meant.
#[derive(Debug)]
pub(super) enum Answer<H> {
    /// The report counts, or it concerned a lease that was lost meanwhile.
    Accepted,
    /// The lease has ended with the outcome that was reported.
    Ended,
    /// The lease is no longer the worker's.
    Lost(Lost<H>),
    /// The server did not take the report and never will; the lease goes on, or ends with a failure that says so.
    Refused(ClientError),
}

/// A lease that is no longer the worker's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost<H> {
    pub(super) handle: H,
    /// Whether its handler is still at work; if not, an outcome was dropped, which the server may have accepted before.
    pub(super) was_running: bool,
}

impl<H> Ledger<H> {
    pub(super) fn new(slots: u32, now: Instant) -> Self {
        Self {
            slots,
            announced_slots: slots,
            held: HashMap::new(),
            stopping: HashSet::new(),
            acknowledge: Vec::new(),
            outgoing: VecDeque::new(),
            in_flight: VecDeque::new(),
            heartbeat_interval: DEFAULT_HEARTBEAT,
            last_sent: now,
            next_heartbeat: None,
            next_expiry: None,
        }
    }

    // ---- a session with the server ----

    /// The first message of a new session. What was not answered in the last one will be sent again.
    pub(super) fn hello(&mut self, name: &str, drivers: &[String], now: Instant) -> WorkRequest {
        while let Some(Sent {
            lease_token,
            report,
            ..
        }) = self.in_flight.pop_back()
        {
            if let Some(held) = self.held.get_mut(&lease_token) {
                held.take_back(report);
                self.enqueue(&lease_token);
            }
        }
        // Held leases are named below; those that never were acknowledged are either given back to us or lost.
        self.acknowledge.clear();
        self.announced_slots = self.free_slots();
        self.last_sent = now;
        WorkRequest {
            hello: Some(WorkerHello {
                name: name.to_owned(),
                drivers: drivers.to_vec(),
                slots: self.announced_slots,
                held: self.held.keys().cloned().collect(),
            }),
            ..Default::default()
        }
    }

    /// The server said how often it wants to hear us.
    pub(super) fn set_heartbeat_interval(&mut self, interval: Duration) {
        self.heartbeat_interval = interval;
    }

    /// Whether [`Self::next_message`] has something.
    pub(super) fn has_message(&self, now: Instant) -> bool {
        !self.acknowledge.is_empty()
            || !self.outgoing.is_empty()
            || self.free_slots() != self.announced_slots
            || self.next_heartbeat.is_some_and(|due| due <= now)
            || self.ping_due() <= now
    }

    /// When there will be something to send although nobody reports anything.
    pub(super) fn next_due(&self) -> Instant {
        let ping = self.ping_due();
        self.next_heartbeat.map_or(ping, |due| due.min(ping))
    }

    /// Whatever waits, as one message within the limits.
    pub(super) fn next_message(&mut self, now: Instant) -> Option<WorkRequest> {
        if self.next_heartbeat.is_some_and(|due| due <= now) {
            self.queue_heartbeats(now);
        }
        if !self.has_message(now) {
            return None;
        }
        let mut message = WorkRequest {
            acknowledge: self
                .acknowledge
                .drain(..self.acknowledge.len().min(MAX_BATCH))
                .collect(),
            ..Default::default()
        };
        let slots = self.free_slots();
        if slots != self.announced_slots {
            self.announced_slots = slots;
            message.slots = Some(slots);
        }
        self.fill(&mut message.reports, now);
        self.last_sent = now;
        Some(message)
    }

    /// When the oldest unanswered report was sent.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.in_flight.front().map(|sent| sent.at)
    }

    /// Whether nothing waits to be sent or answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.acknowledge.is_empty() && self.outgoing.is_empty() && self.in_flight.is_empty()
    }

    /// Takes the answer to the oldest report.
    ///
    /// # Errors
    /// The server could not take the report now, or answered another one than the oldest: the session must be given up, and the report goes out again
    /// on the next.
    pub(super) fn answer(&mut self, result: ReportResult) -> Result<Answer<H>, ClientError> {
        let sent = self
            .in_flight
            .pop_front_if(|sent| sent.lease_token == result.lease_token)
            .ok_or(ClientError::Malformed(
                "an answer to a report that was not sent",
            ))?;
        let error = match result.error.map(client_error) {
            Some(error) if is_for_later(&error) => {
                self.in_flight.push_front(sent);
                return Err(error);
            }
            error => error,
        };
        let Sent {
            lease_token,
            report,
            at: sent_at,
        } = sent;
        let Some(held) = self.held.get_mut(&lease_token) else {
            return Ok(Answer::Accepted);
        };
        held.answered(&report);
        let answer = match error {
            None if held::is_end(&report) => {
                self.held.remove(&lease_token);
                return Ok(Answer::Ended);
            }
            None => {
                held.extend(sent_at);
                Answer::Accepted
            }
            Some(error) if error.reason().as_deref() == Some("LEASE_LOST") => {
                return Ok(self
                    .lose(&lease_token)
                    .map_or(Answer::Accepted, Answer::Lost));
            }
            Some(error) if held::is_end(&report) && !held.replace_refused_end(&error) => {
                self.held.remove(&lease_token);
                return Ok(Answer::Refused(error));
            }
            Some(error) => Answer::Refused(error),
        };
        self.enqueue(&lease_token);
        Ok(answer)
    }

    // ---- leases ----

    /// Takes a lease in. The handle comes back if the lease is held already.
    pub(super) fn grant(&mut self, lease: &Lease, handle: H, now: Instant) -> Option<H> {
        if self.held.contains_key(&lease.lease_token) {
            return Some(handle);
        }
        let duration = positive(lease.duration).unwrap_or(DEFAULT_LEASE);
        let interval = positive(lease.heartbeat_interval).unwrap_or(self.heartbeat_interval);
        let held = Held::new(handle, duration, interval, now);
        self.next_heartbeat = earlier(self.next_heartbeat, held.heartbeat_due);
        self.next_expiry = earlier(self.next_expiry, held.expires);
        self.held.insert(lease.lease_token.clone(), held);
        self.acknowledge.push(lease.lease_token.clone());
        None
    }

    /// The lease is no longer the worker's; whatever its handler has to say counts for nothing. `None` if it was not held.
    pub(super) fn lose(&mut self, lease_token: &Bytes) -> Option<Lost<H>> {
        let held = self.held.remove(lease_token)?;
        let was_running = !held.has_ended();
        if was_running {
            self.stopping.insert(lease_token.clone());
        }
        Some(Lost {
            handle: held.handle,
            was_running,
        })
    }

    /// The worker was asked to cancel the task. The handle, unless the lease is lost or its handler has ended.
    pub(super) fn cancel(&mut self, lease_token: &Bytes) -> Option<&H> {
        let held = self
            .held
            .get_mut(lease_token)
            .filter(|held| !held.has_ended())?;
        held.acknowledge_cancel();
        self.enqueue(lease_token);
        self.held.get(lease_token).map(|held| &held.handle)
    }

    /// When the first lease may run out.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Gives up leases that ran out because no report was accepted for their duration. An outcome that waits is kept: whether it counts is for the
    /// server to say.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Lost<H>> {
        let running = || self.held.iter().filter(|(_, held)| !held.has_ended());
        let expired: Vec<Bytes> = running()
            .filter(|(_, held)| held.expires <= now)
            .map(|(lease_token, _)| lease_token.clone())
            .collect();
        self.next_expiry = running()
            .map(|(_, held)| held.expires)
            .filter(|expires| *expires > now)
            .min();
        expired
            .iter()
            .filter_map(|lease_token| self.lose(lease_token))
            .collect()
    }

    // ---- handlers ----

    /// The handler got on. Replaces what was not sent yet.
    pub(super) fn progress(&mut self, lease_token: &Bytes, report: ProgressReport) {
        if let Some(held) = self.held.get_mut(lease_token) {
            held.progress(report);
            self.enqueue(lease_token);
        }
    }

    /// The handler warns. The message comes back if too many warnings wait for an answer already.
    pub(super) fn warn(&mut self, lease_token: &Bytes, message: String) -> Result<(), String> {
        if let Some(held) = self.held.get_mut(lease_token) {
            held.warn(message)?;
            self.enqueue(lease_token);
        }
        Ok(())
    }

    /// The handler has ended. True if its outcome will be reported, false if the lease was lost before.
    pub(super) fn end(&mut self, lease_token: &Bytes, outcome: Report) -> bool {
        let Some(held) = self.held.get_mut(lease_token) else {
            self.stopping.remove(lease_token);
            return false;
        };
        held.end(outcome);
        self.enqueue(lease_token);
        true
    }

    // ---- winding down ----

    /// From now on the worker wants no lease.
    pub(super) fn close(&mut self) {
        self.slots = 0;
    }

    /// Whether the worker winds down.
    pub(super) fn is_closed(&self) -> bool {
        self.slots == 0
    }

    /// Whether every handler has ended and every outcome is answered.
    pub(super) fn is_settled(&self) -> bool {
        self.held.is_empty() && self.stopping.is_empty()
    }

    /// The handles of all leases whose handlers have not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = &H> {
        self.held
            .values()
            .filter(|held| !held.has_ended())
            .map(|held| &held.handle)
    }

    // ---- inside ----

    /// Slots less those that handlers of lost leases still occupy.
    fn free_slots(&self) -> u32 {
        let stopping = u32::try_from(self.stopping.len()).unwrap_or(u32::MAX);
        self.slots.saturating_sub(stopping)
    }

    fn ping_due(&self) -> Instant {
        self.last_sent + self.heartbeat_interval
    }

    /// Puts a lease in the queue if it has something to say and is not there yet.
    fn enqueue(&mut self, lease_token: &Bytes) {
        if let Some(held) = self.held.get_mut(lease_token)
            && !held.queued
            && held.has_report()
        {
            held.queued = true;
            self.outgoing.push_back(lease_token.clone());
        }
    }

    /// Queues a heartbeat for each lease whose next one is due now or soon, so that they share a message.
    fn queue_heartbeats(&mut self, now: Instant) {
        let mut next = None;
        for (lease_token, held) in &mut self.held {
            if held.has_ended() {
                continue;
            }
            if held.heartbeat_if_due(now) && !held.queued {
                held.queued = true;
                self.outgoing.push_back(lease_token.clone());
            }
            next = earlier(next, held.heartbeat_due);
        }
        self.next_heartbeat = next;
    }

    /// Moves reports from the leases into a message.
    fn fill(&mut self, reports: &mut Vec<TaskReport>, now: Instant) {
        let mut bytes = 0;
        while let Some(lease_token) = self.outgoing.front().cloned() {
            let Some(held) = self.held.get_mut(&lease_token) else {
                self.outgoing.pop_front();
                continue;
            };
            while let Some(report) = held.next_report() {
                let message = TaskReport {
                    lease_token: lease_token.clone(),
                    report: Some(report.clone()),
                };
                bytes += message.encoded_len();
                if reports.len() == MAX_BATCH || bytes > MAX_BATCH_BYTES && !reports.is_empty() {
                    held.take_back(report);
                    return;
                }
                held.sent(now);
                reports.push(message);
                self.in_flight.push_back(Sent {
                    lease_token: lease_token.clone(),
                    report,
                    at: now,
                });
            }
            held.queued = false;
            self.outgoing.pop_front();
        }
    }
}

/// The status of a refused report, with its details.
fn client_error(status: tonic_types::Status) -> ClientError {
    let details = status.encode_to_vec().into();
    tonic::Status::with_details(status.code.into(), status.message, details).into()
}

/// Whether the server could not take the report now, as opposed to never.
fn is_for_later(error: &ClientError) -> bool {
    let broken = error
        .status()
        .is_some_and(|status| matches!(status.code(), Code::Internal | Code::Unknown));
    error.is_retryable() && !broken
}

fn earlier(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}

fn positive(duration: Option<prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(duration?)
        .ok()
        .filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests;
