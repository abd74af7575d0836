//! A thousand requests that wait, in every form that there is: each is answered once, with the change that it waits for, and until then they cost
//! next to nothing.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use longhaul::{
    client::Client,
    proto::v1::{AcquireRequest, Lease, ReportRequest, Success, TaskReport, task_report::Report},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::web::{Reply, get};
use crate::{harness::Server, jobs::submit_many};

/// Requests that wait.
const POLLS: usize = 1_000;
/// Any wait in these tests, on a busy machine and in a debug build; shorter than those of the requests.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long the server is left alone while they wait.
const IDLE: Duration = Duration::from_secs(3);
/// The most of that time in which it may be at work: a server that looks for changes at intervals needs more than all of it.
const BUSY: Duration = Duration::from_millis(300);
/// The most memory that a request may hold while it waits, its connection included; `longhaul bench --scenario polls` has a stricter aim.
const KB_EACH: u64 = 20;
/// What the watched jobs themselves take, and what the allocator keeps.
const SLACK_KB: u64 = 8_192;

/// In which form a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// For a revision that is newer than the first.
    Native,
    /// For the end: this dialect has no other wait.
    Aiqum,
    /// For a time of change that is later than the first.
    Deploy,
    /// As the native one.
    Nse,
    /// For all changes, to the end.
    Events,
}

const FORMS: [Form; 5] = [
    Form::Native,
    Form::Aiqum,
    Form::Deploy,
    Form::Nse,
    Form::Events,
];

/// What a request was answered with.
#[derive(Debug)]
struct Told {
    form: Form,
    id: String,
    revision: u64,
    state: String,
}

/// A job as it was at first.
struct Watched {
    id: String,
    last_modified: String,
}

/// Each request has a connection, which takes a descriptor here as well.
fn make_room() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < 4 * POLLS as u64) {
        let limit = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

/// Asks, again if there was no room, and waits for the answer.
async fn ask(server: &Server, form: Form, job: &Watched) -> Told {
    let id = &job.id;
    loop {
        let call = match form {
            Form::Native => get(server, &format!("/v1/jobs/{id}"))
                .header("prefer", "wait=120")
                .header("if-none-match", "\"1\""),
            Form::Aiqum => get(server, &format!("/management-server/jobs/{id}?wait=120")),
            Form::Deploy => {
                let known = &job.last_modified;
                let query = format!("poll_timeout=120&last_modified=%3E={known}");
                get(server, &format!("/api/v3/jobs/{id}?{query}"))
            }
            Form::Nse => get(server, &format!("/v2.1/jobs/{id}"))
                .header("prefer", "wait=120")
                .header("if-none-match", "\"1\""),
            Form::Events => {
                get(server, &format!("/v1/jobs/{id}")).header("accept", "text/event-stream")
            }
        };
        let reply = call.send().await;
        // Who looks whether all are there takes a place for a moment.
        if reply.status.as_u16() != 429 {
            return told(form, &reply);
        }
    }
}

fn told(form: Form, reply: &Reply) -> Told {
    let (body, id, state) = match form {
        Form::Native => (reply.expect(200), "/id", "/state"),
        Form::Aiqum => (reply.expect(200), "/key", "/state"),
        Form::Deploy => (reply.expect(200), "/record/id", "/record/state"),
        Form::Nse => (
            reply.expect(200),
            "/result/records/0/id",
            "/result/records/0/status",
        ),
        Form::Events => (last_event(&reply.text), "/job/id", "/job/state"),
    };
    let text = |pointer: &str| body.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let revision = match form {
        Form::Events => text("/revision"),
        _ => reply.header("etag").trim_matches('"').to_owned(),
    };
    Told {
        form,
        id: text(id),
        revision: revision.parse().unwrap(),
        state: text(state),
    }
}

/// The last event of a stream; all of them have to be later than the ones before.
fn last_event(text: &str) -> Value {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    let events: Vec<Value> = events
        .filter(|event| event["revision"].is_string())
        .collect();
    let revisions = events.iter().map(|event| {
        let revision = event["revision"].as_str().unwrap();
        revision.parse::<u64>().unwrap()
    });
    let revisions: Vec<u64> = revisions.collect();
    assert!(
        revisions.is_sorted_by(|a, b| a < b),
        "{revisions:?}: {text}"
    );
    let ends = events.iter().filter(|event| event["final"] == true);
    assert_eq!(ends.count(), 1, "{text}");
    events.last().unwrap().clone()
}

/// Waits until there is no room for another request that waits.
async fn all_are_there(server: &Server, job: &Watched) {
    let path = format!("/v1/jobs/{}", job.id);
    let probe = || get(server, &path).header("prefer", "wait=0").send();
    while probe().await.status.as_u16() != 429 {}
}

async fn watched(server: &Server, id: &str) -> Watched {
    let reply = get(server, &format!("/api/v3/jobs/{id}")).send().await;
    let last_modified = reply.expect(200)["record"]["last_modified"].clone();
    Watched {
        id: id.to_owned(),
        last_modified: last_modified.as_str().unwrap().to_owned(),
    }
}

async fn leases(client: &Client, count: usize) -> Vec<Lease> {
    let request = AcquireRequest {
        worker: "w".to_owned(),
        drivers: vec!["d".to_owned()],
        max_leases: count as u32,
        wait: None,
    };
    let answer = client.workers().acquire(request).await.unwrap();
    let leases = answer.into_inner().leases;
    assert_eq!(leases.len(), count);
    leases
}

async fn succeed(client: &Client, leases: &[Lease]) {
    let reports = leases.iter().map(|lease| TaskReport {
        lease_token: lease.lease_token.clone(),
        report: Some(Report::Success(Success::default())),
    });
    let request = ReportRequest {
        reports: reports.collect(),
        wait: None,
    };
    let answer = client.workers().report(request).await.unwrap();
    let results = answer.into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()));
}

/// The next answers: so many of each form, all with this revision and the word of their form for this state.
async fn heard(
    answers: &mut mpsc::Receiver<Told>,
    of: &[(Form, &str)],
    revision: u64,
    ids: &[String],
    each: usize,
) {
    let mut counts: BTreeMap<(Form, String), usize> = BTreeMap::new();
    for _ in 0..of.len() * ids.len() * each {
        let told = timeout(PATIENCE, answers.recv()).await;
        let told = told.expect("all are answered").unwrap();
        let expected = of.iter().find(|(form, _)| *form == told.form);
        let (_, state) = expected.unwrap_or_else(|| panic!("answered too early: {told:?}"));
        assert_eq!(
            (told.revision, told.state.as_str()),
            (revision, *state),
            "{told:?}"
        );
        *counts.entry((told.form, told.id)).or_default() += 1;
    }
    for (form, _) in of {
        for id in ids {
            let count = counts.get(&(*form, id.clone()));
            assert_eq!(count, Some(&each), "{form:?} of {id}");
        }
    }
    // Nobody else was answered by these changes.
    assert!(answers.try_recv().is_err());
}

/// Answers a request of each form, so that what the server needs for the first of its kind is not taken for what each of them needs.
async fn warm_up(server: &Server, client: &Client) {
    let ended = submit_many(client, "d", 1).await.remove(0);
    succeed(client, &leases(client, 1).await).await;
    let ended = Watched {
        id: ended,
        last_modified: "2019-04-04T15:41:29Z".to_owned(),
    };
    for form in FORMS {
        let told = timeout(PATIENCE, ask(server, form, &ended)).await;
        assert_eq!(told.expect("it has ended").revision, 3);
    }
}

/// A thousand requests that wait for so many jobs, each for the same number in each form.
async fn a_thousand_wait(jobs: usize) {
    make_room();
    let each = POLLS / FORMS.len() / jobs;
    let most = POLLS.to_string();
    let flags = ["--quota-watches", &most, "--lease-duration", "10m"];
    let server = Server::start_with(&flags).await;
    let client = server.client().await;
    warm_up(&server, &client).await;
    let ids = submit_many(&client, "d", jobs).await;
    let mut jobs = Vec::new();
    for id in &ids {
        jobs.push(watched(&server, id).await);
    }
    let before = server.resident_kb();
    let (say, mut answers) = mpsc::channel(POLLS);
    let asking = jobs.iter().flat_map(|job| FORMS.map(|form| (form, job)));
    let asking = asking.flat_map(|asking| std::iter::repeat_n(asking, each));
    let asking = asking.map(|(form, job)| ask(&server, form, job));
    let waiting: FuturesUnordered<_> = asking.collect();
    assert_eq!(waiting.len(), POLLS);
    let waiting = waiting.for_each(|told| async { say.send(told).await.unwrap() });

    let story = async {
        timeout(PATIENCE, all_are_there(&server, &jobs[0]))
            .await
            .expect("room for all");
        let memory = server.resident_kb().saturating_sub(before);
        let busy = server.cpu();
        sleep(IDLE).await;
        let busy = server.cpu() - busy;
        report(&format!(
            "{POLLS} requests for {} jobs: {memory} kB, {busy:?} of {IDLE:?} at work",
            ids.len()
        ));
        assert!(busy <= BUSY, "at work for {busy:?} of {IDLE:?}");
        assert!(memory <= KB_EACH * POLLS as u64 + SLACK_KB, "{memory} kB");
        assert!(answers.try_recv().is_err(), "nothing has happened");

        let leases = leases(&client, ids.len()).await;
        let started = [
            (Form::Native, "STATE_RUNNING"),
            (Form::Deploy, "running"),
            (Form::Nse, "in_progress"),
        ];
        heard(&mut answers, &started, 2, &ids, each).await;

        // Some end before the others.
        let ended = [(Form::Aiqum, "NORMAL"), (Form::Events, "STATE_SUCCEEDED")];
        let (first, rest) = leases.split_at(leases.len().div_ceil(2));
        for leases in [first, rest] {
            let of = |lease: &Lease| lease.task.as_ref().unwrap().job_id.clone();
            let ids: Vec<String> = leases.iter().map(of).collect();
            if !leases.is_empty() {
                succeed(&client, leases).await;
            }
            heard(&mut answers, &ended, 3, &ids, each).await;
        }
    };
    tokio::join!(waiting, story);
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wait_for_one_job() {
    a_thousand_wait(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wait_for_many_jobs() {
    a_thousand_wait(200).await;
}

#[expect(
    clippy::print_stderr,
    reason = "what a build was measured at belongs to the output"
)]
fn report(line: &str) {
    eprintln!("{line}");
}
