//! The ledger against a server that answers, refuses, loses connections and forgets answers, at random.

use proptest::prelude::*;

use super::*;
use crate::{
    client::clock,
    proto::v1::{Success, Warning},
};

const LEASE: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(10);

fn token(number: usize) -> Bytes {
    format!("lease-{number}").into()
}

fn lease(number: usize) -> Lease {
    Lease {
        lease_token: token(number),
        duration: LEASE.try_into().ok(),
        heartbeat_interval: HEARTBEAT.try_into().ok(),
        ..Default::default()
    }
}

fn lost(handle: &'static str) -> Lost<&'static str> {
    Lost {
        handle,
        was_running: true,
    }
}

fn success() -> Report {
    Report::Success(Success::default())
}

fn progress(done: i64) -> ProgressReport {
    ProgressReport {
        progress: Some(crate::proto::v1::Progress {
            done,
            ..Default::default()
        }),
        status_detail: String::new(),
    }
}

fn accepted(lease_token: Bytes) -> ReportResult {
    ReportResult {
        lease_token,
        ..Default::default()
    }
}

fn refused(lease_token: Bytes, code: Code, reason: &str) -> ReportResult {
    use tonic_types::{ErrorDetails, StatusExt as _};
    let details = ErrorDetails::with_error_info(reason, "longhaul", HashMap::new());
    let status = tonic::Status::with_error_details(code, "refused", details);
    let error = prost::Message::decode(status.details()).expect("a google.rpc.Status");
    ReportResult {
        lease_token,
        error: Some(error),
        ..Default::default()
    }
}

/// A ledger with one lease, past its hello and the acknowledgement.
fn with_lease() -> (Ledger<&'static str>, Instant) {
    let now = clock::now();
    let mut ledger = Ledger::new(4, now);
    ledger.hello("w", &[], now);
    assert_eq!(ledger.grant(&lease(1), "one", now), None);
    let message = ledger.next_message(now).expect("an acknowledgement");
    assert_eq!(message.acknowledge, [token(1)]);
    assert_eq!(message.reports, []);
    (ledger, now)
}

fn sent(ledger: &mut Ledger<&'static str>, now: Instant) -> Vec<Report> {
    let message = ledger.next_message(now).unwrap_or_default();
    message
        .reports
        .into_iter()
        .filter_map(|report| report.report)
        .collect()
}

#[test]
fn a_lease_is_taken_once() {
    let (mut ledger, now) = with_lease();
    assert_eq!(ledger.grant(&lease(1), "again", now), Some("again"));
    assert!(ledger.is_quiet());
}

#[test]
fn only_the_newest_progress_is_sent_and_one_at_a_time() {
    let (mut ledger, now) = with_lease();
    ledger.progress(&token(1), progress(1));
    ledger.progress(&token(1), progress(2));
    assert_eq!(sent(&mut ledger, now), [Report::Progress(progress(2))]);
    ledger.progress(&token(1), progress(3));
    assert_eq!(sent(&mut ledger, now), [], "one is under way");
    ledger.answer(accepted(token(1))).expect("an answer");
    assert_eq!(sent(&mut ledger, now), [Report::Progress(progress(3))]);
    ledger.progress(&token(1), progress(4));
    assert!(ledger.end(&token(1), success()));
    assert_eq!(
        sent(&mut ledger, now),
        [Report::Progress(progress(4)), success()],
        "the last one is not lost"
    );
}

#[test]
fn what_was_said_last_is_not_lost_between_reports() {
    let saying = |message: &str, status_detail: &str| {
        let mut report = progress(1);
        report.status_detail = status_detail.to_owned();
        if let Some(progress) = &mut report.progress {
            progress.message = message.to_owned();
        }
        report
    };
    for (older, newer, sent_in_one) in [
        (saying("", "a"), saying("b", ""), saying("b", "")),
        (saying("a", ""), saying("", "b"), saying("", "b")),
        (saying("a", ""), saying("", ""), saying("", "a")),
        (saying("", "a"), saying("", ""), saying("", "a")),
    ] {
        let (mut ledger, now) = with_lease();
        ledger.progress(&token(1), older);
        ledger.progress(&token(1), newer);
        assert_eq!(sent(&mut ledger, now), [Report::Progress(sent_in_one)]);
    }
}

#[test]
fn a_detail_does_not_hide_the_progress_before_it() {
    let (mut ledger, now) = with_lease();
    let detail = ProgressReport {
        progress: None,
        status_detail: "copying".to_owned(),
    };
    ledger.progress(&token(1), progress(5));
    ledger.progress(&token(1), detail.clone());
    let both = ProgressReport {
        status_detail: "copying".to_owned(),
        ..progress(5)
    };
    assert_eq!(sent(&mut ledger, now), [Report::Progress(both.clone())]);
    ledger.progress(&token(1), progress(6));
    ledger.hello("w", &[], now);
    assert_eq!(
        sent(&mut ledger, now),
        [Report::Progress(ProgressReport {
            status_detail: detail.status_detail,
            ..progress(6)
        })],
        "what a lost connection swallowed is made good"
    );
}

#[test]
fn warnings_are_bounded_but_never_dropped() {
    let (mut ledger, now) = with_lease();
    let mut warned = 0;
    while ledger.warn(&token(1), format!("{warned}")).is_ok() {
        warned += 1;
    }
    assert_eq!(warned, held::MAX_WARNINGS);
    assert_eq!(sent(&mut ledger, now).len(), warned);
    assert!(
        ledger
            .warn(&token(1), "sent but not answered".to_owned())
            .is_err()
    );
    ledger.answer(accepted(token(1))).expect("an answer");
    assert!(ledger.warn(&token(1), "room".to_owned()).is_ok());
}

#[test]
fn all_leases_share_a_heartbeat_message() {
    let now = clock::now();
    let mut ledger = Ledger::new(4000, now);
    ledger.hello("w", &[], now);
    for number in 0..1500 {
        ledger.grant(
            &lease(number),
            "h",
            now + Duration::from_millis(number as u64),
        );
    }
    while ledger.next_message(now).is_some() {}
    assert!(!ledger.has_message(now + HEARTBEAT / 2));
    let due = ledger.next_due();
    assert!(due <= now + HEARTBEAT);
    assert_eq!(sent(&mut ledger, due).len(), MAX_BATCH);
    assert_eq!(sent(&mut ledger, due).len(), 500);
    assert!(ledger.next_message(due).is_none());
    assert_eq!(ledger.next_due(), due + HEARTBEAT);
}

#[test]
fn a_worker_without_leases_is_heard_too() {
    let now = clock::now();
    let mut ledger = Ledger::<()>::new(1, now);
    ledger.hello("w", &[], now);
    assert_eq!(ledger.next_message(now), None);
    assert_eq!(
        ledger.next_message(now + HEARTBEAT),
        Some(WorkRequest::default())
    );
    assert_eq!(ledger.next_message(now + HEARTBEAT), None);
}

#[test]
fn a_lease_runs_out_by_our_own_clock_counted_from_the_last_report_that_was_accepted() {
    let (mut ledger, now) = with_lease();
    let heartbeat_at = now + HEARTBEAT;
    assert_eq!(sent(&mut ledger, heartbeat_at).len(), 1);
    ledger.answer(accepted(token(1))).expect("an answer");
    assert_eq!(ledger.expire(now + LEASE), []);
    assert_eq!(ledger.next_expiry(), Some(heartbeat_at + LEASE));
    assert_eq!(ledger.expire(heartbeat_at + LEASE), [lost("one")]);
    assert!(!ledger.is_settled(), "its handler still runs");
    let slots = ledger
        .next_message(heartbeat_at + LEASE)
        .and_then(|message| message.slots);
    assert_eq!(slots, Some(3), "and keeps its slot busy");
    assert!(!ledger.end(&token(1), success()));
    assert!(ledger.is_settled());
    assert_eq!(
        ledger.next_message(now).and_then(|message| message.slots),
        Some(4)
    );
}

#[test]
fn an_outcome_is_kept_though_the_lease_ran_out() {
    let (mut ledger, now) = with_lease();
    ledger.end(&token(1), success());
    assert_eq!(ledger.expire(now + LEASE * 10), []);
    assert_eq!(sent(&mut ledger, now), [success()]);
}

#[test]
fn a_lost_lease_is_told_once() {
    let (mut ledger, now) = with_lease();
    ledger.progress(&token(1), progress(1));
    ledger.warn(&token(1), "w".to_owned()).expect("room");
    assert_eq!(sent(&mut ledger, now).len(), 2);
    let refusal = || refused(token(1), Code::FailedPrecondition, "LEASE_LOST");
    assert!(matches!(
        ledger.answer(refusal()),
        Ok(Answer::Lost(Lost {
            handle: "one",
            was_running: true
        }))
    ));
    assert!(matches!(ledger.answer(refusal()), Ok(Answer::Accepted)));
    assert_eq!(ledger.lose(&token(1)), None);
}

#[test]
fn a_refused_outcome_becomes_a_failure_that_says_so() {
    let (mut ledger, now) = with_lease();
    ledger.end(&token(1), success());
    assert_eq!(sent(&mut ledger, now), [success()]);
    let too_large = || refused(token(1), Code::ResourceExhausted, "RESULT_TOO_LARGE");
    assert!(matches!(ledger.answer(too_large()), Ok(Answer::Refused(_))));
    let reports = sent(&mut ledger, now);
    assert!(
        matches!(&reports[..], [Report::Failure(failure)] if failure.reason == "OUTCOME_REFUSED" && failure.permanent)
    );
    assert!(matches!(ledger.answer(too_large()), Ok(Answer::Refused(_))));
    assert!(ledger.is_settled(), "it is not tried for ever");
}

#[test]
fn what_the_server_can_not_take_now_goes_out_again() {
    let (mut ledger, now) = with_lease();
    ledger.end(&token(1), success());
    assert_eq!(sent(&mut ledger, now), [success()]);
    assert!(
        ledger
            .answer(refused(token(1), Code::Unavailable, "OUTCOME_UNKNOWN"))
            .is_err()
    );
    let hello = ledger.hello("w", &[], now).hello.expect("a hello");
    assert_eq!(hello.held, [token(1)]);
    assert_eq!(sent(&mut ledger, now), [success()]);
    assert!(matches!(
        ledger.answer(accepted(token(1))),
        Ok(Answer::Ended)
    ));
}

#[test]
fn cancel_is_acknowledged_each_time_and_before_the_outcome() {
    let (mut ledger, now) = with_lease();
    let acknowledged = Report::CancelAcknowledged(Default::default());
    assert_eq!(ledger.cancel(&token(1)), Some(&"one"));
    assert_eq!(sent(&mut ledger, now), std::slice::from_ref(&acknowledged));
    assert_eq!(ledger.cancel(&token(1)), Some(&"one"));
    ledger.end(&token(1), success());
    assert_eq!(sent(&mut ledger, now), [acknowledged, success()]);
    assert_eq!(ledger.cancel(&token(1)), None, "the outcome says it all");
    assert_eq!(ledger.cancel(&token(2)), None);
}

#[test]
fn messages_are_bounded_in_bytes() {
    let now = clock::now();
    let mut ledger = Ledger::new(8, now);
    ledger.hello("w", &[], now);
    for number in 0..5 {
        ledger.grant(&lease(number), "h", now);
        let result = Some(crate::proto::Struct::from_encoded(
            vec![0; 900 * 1024].into(),
        ));
        ledger.end(
            &token(number),
            Report::Success(Success {
                result,
                ..Default::default()
            }),
        );
    }
    let mut sizes = Vec::new();
    while let Some(message) = ledger.next_message(now) {
        sizes.push(message.reports.len());
        assert!(message.encoded_len() <= MAX_BATCH_BYTES + 1024);
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn answers_out_of_step_end_the_session() {
    let (mut ledger, now) = with_lease();
    assert!(ledger.answer(accepted(token(1))).is_err());
    ledger.progress(&token(1), progress(1));
    sent(&mut ledger, now);
    assert!(ledger.answer(accepted(token(2))).is_err());
    assert!(ledger.answer(accepted(token(1))).is_ok());
}

/// What happens next to a ledger.
#[derive(Clone, Debug)]
enum Step {
    Grant(usize),
    Progress(usize, i64),
    Warn(usize),
    End(usize),
    Send,
    Answer,
    Disconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let lease = 0_usize..6;
    prop_oneof![
        lease.clone().prop_map(Step::Grant),
        (lease.clone(), 1_i64..100).prop_map(|(lease, done)| Step::Progress(lease, done)),
        lease.clone().prop_map(Step::Warn),
        lease.prop_map(Step::End),
        Just(Step::Send),
        Just(Step::Answer),
        Just(Step::Disconnect),
    ]
}

/// What a lease was told to report, and what a server has accepted of it.
#[derive(Default)]
struct Account {
    warned: Vec<String>,
    heard: Vec<String>,
    ended: bool,
    outcomes: usize,
    newest: i64,
    last_heard: i64,
}

impl Account {
    fn accept(&mut self, report: &Report) {
        match report {
            Report::Warning(Warning { message }) => self.heard.push(message.clone()),
            Report::Success(_) => self.outcomes += 1,
            Report::Progress(report) => {
                self.last_heard = report
                    .progress
                    .as_ref()
                    .map_or(self.last_heard, |progress| progress.done)
            }
            _ => {}
        }
    }
}

proptest! {
    /// Whatever happens, a server that answers at last has every warning in order, the newest progress and one outcome of each lease.
    #[test]
    fn nothing_that_counts_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let now = clock::now();
        let mut ledger = Ledger::new(100, now);
        ledger.hello("w", &[], now);
        let mut accounts: HashMap<usize, Account> = HashMap::new();
        let mut wire: VecDeque<TaskReport> = VecDeque::new();
        let number = |lease_token: &Bytes| (0..6).find(|number| token(*number) == *lease_token).expect("a known lease");
        let ending = [Step::Disconnect].into_iter().chain((0..6).map(Step::End)).chain([Step::Send]);
        for step in steps.into_iter().chain(ending) {
            match step {
                Step::Grant(lease_number) => {
                    if let std::collections::hash_map::Entry::Vacant(account) = accounts.entry(lease_number) {
                        account.insert(Account::default());
                        prop_assert_eq!(ledger.grant(&lease(lease_number), "h", now), None);
                    }
                }
                Step::Progress(lease_number, done) => {
                    ledger.progress(&token(lease_number), progress(done));
                    if let Some(account) = accounts.get_mut(&lease_number).filter(|account| !account.ended) {
                        account.newest = done;
                    }
                }
                Step::Warn(lease_number) => {
                    if let Some(account) = accounts.get_mut(&lease_number).filter(|account| !account.ended) {
                        let message = account.warned.len().to_string();
                        if ledger.warn(&token(lease_number), message.clone()).is_ok() {
                            account.warned.push(message);
                        }
                    }
                }
                Step::End(lease_number) => {
                    if let Some(account) = accounts.get_mut(&lease_number).filter(|account| !account.ended) {
                        account.ended = true;
                        prop_assert!(ledger.end(&token(lease_number), success()));
                    }
                }
                Step::Send => wire.extend(ledger.next_message(now).unwrap_or_default().reports),
                Step::Answer => {
                    if let Some(report) = wire.pop_front() {
                        let account = accounts.get_mut(&number(&report.lease_token)).expect("a granted lease");
                        account.accept(report.report.as_ref().expect("a report"));
                        prop_assert!(ledger.answer(accepted(report.lease_token)).is_ok());
                    }
                }
                Step::Disconnect => {
                    wire.clear();
                    ledger.hello("w", &[], now);
                }
            }
        }
        while let Some(report) = wire.pop_front() {
            let account = accounts.get_mut(&number(&report.lease_token)).expect("a granted lease");
            account.accept(report.report.as_ref().expect("a report"));
            prop_assert!(ledger.answer(accepted(report.lease_token)).is_ok());
            wire.extend(ledger.next_message(now).unwrap_or_default().reports);
        }
        prop_assert!(ledger.is_settled() && ledger.is_quiet());
        for account in accounts.values() {
            prop_assert_eq!(&account.heard, &account.warned);
            prop_assert_eq!(account.outcomes, 1);
            prop_assert_eq!(account.last_heard, account.newest);
        }
    }
}
