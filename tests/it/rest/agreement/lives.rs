//! Random jobs with their children, and what becomes of them.

use std::collections::BTreeMap;

use longhaul::{
    client::Client,
    proto::{
        Struct,
        v1::{
            AcquireRequest, CancelAcknowledged, CancelRequest, Cancelled, Failure, JobSpec,
            JobTaskSpec, Object, Progress, ProgressReport, Release, ReportRequest, RetryPolicy,
            RetryRequest, SubmitRequest, Success, TaskReport, Warning, job::FailurePolicy,
            task_report::Report,
        },
    },
};
use proptest::{prelude::*, sample::select};
use prost_types::{Duration, Timestamp};
use serde_json::{Value, json};

/// A pause that does not end before the test does.
const A_DAY: Duration = Duration {
    seconds: 86_400,
    nanos: 0,
};
/// Texts that something on the way might take apart, escape twice, fold or lose.
const ODD: [&str; 16] = [
    "naïve café",
    "a\u{301} is not á",
    "日本語のジョブ",
    "👩\u{200d}👩\u{200d}👧\u{200d}👦 🏳\u{fe0f}\u{200d}🌈",
    "\u{202e}desrever",
    "\u{feff}begins with a mark",
    "\u{2028}\u{2029}",
    "\u{10ffff}\u{e000}\u{fffd}",
    "\"quoted\" \\ and \\u0041",
    "</script>&amp;<b>",
    "%2F%00 + %",
    "{{ body.name }}",
    "  around  ",
    "null",
    "0",
    "ǅ ß İ",
];

/// A job with its children, and their history.
#[derive(Clone, Debug)]
pub struct Life {
    /// The first one is the parent of the others.
    family: Vec<Shape>,
    acts: Vec<Act>,
    ending: Ending,
}

#[derive(Clone, Debug)]
struct Shape {
    texts: [String; 3],
    object: Option<[String; 3]>,
    labels: BTreeMap<String, String>,
    priority: i32,
    proceed: bool,
    is_delayed: bool,
    tasks: Vec<TaskShape>,
}

#[derive(Clone, Debug)]
struct TaskShape {
    texts: [String; 3],
    object: Option<[String; 3]>,
    /// One bit for each task before this one.
    after: u8,
    max_attempts: u32,
    pauses: bool,
    payload: Option<Value>,
}

#[derive(Clone, Debug)]
enum Act {
    /// Takes so many leases.
    Take(u32),
    /// On one of the leases that are held.
    Say(usize, Said),
    Cancel(usize, String),
    /// Ends pauses of an open job; repeats one that failed or was cancelled.
    Retry(usize),
}

#[derive(Clone, Debug)]
enum Said {
    Progress(Option<(i64, String)>, String),
    Warning(String),
    Success(Option<Value>, String),
    Failure(String, bool),
    Release(String),
    CancelAcknowledged,
    Cancelled(String),
}

#[derive(Clone, Debug)]
enum Ending {
    /// None: the job stays where it is.
    Leave,
    /// Workers do all that can be done; one bit for each task that succeeds.
    Work(u32),
    Cancel,
}

fn text() -> impl Strategy<Value = String> {
    let any_text = prop::collection::vec(any::<char>(), 0..12);
    prop_oneof![
        1 => Just(String::new()),
        2 => "[a-z ]{1,12}",
        4 => select(&ODD[..]).prop_map(str::to_owned),
        2 => any_text.prop_map(|text| text.into_iter().filter(|c| !c.is_control()).collect()),
    ]
}

fn object() -> impl Strategy<Value = Option<[String; 3]>> {
    prop::option::of([text(), text(), text()])
}

fn payload() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i32>().prop_map(Value::from),
        Just(json!(0.5)),
        Just(json!(9_007_199_254_740_991_i64)),
        Just(Value::Null),
    ];
    (text(), text(), number).prop_map(|(one, other, number)| {
        json!({
            "name": one, "size": number, "Admin-Password": other, "kept": {"pass": one, "Api_Key": [1]},
            "list": [{"accessTOKEN": null, "plain": other}, [], {}, true],
        })
    })
}

fn task() -> impl Strategy<Value = TaskShape> {
    (
        [text(), text(), text()],
        object(),
        any::<u8>(),
        1..4u32,
        any::<bool>(),
        prop::option::weighted(0.7, payload()),
    )
        .prop_map(
            |(texts, object, after, max_attempts, pauses, payload)| TaskShape {
                texts,
                object,
                after,
                max_attempts,
                pauses,
                payload,
            },
        )
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        [text(), text(), text()],
        object(),
        prop::collection::btree_map("[a-z0-9_.-]{1,8}", text(), 0..3),
        -3..4i32,
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::collection::vec(task(), 1..6),
    )
        .prop_map(
            |(texts, object, labels, priority, proceed, is_delayed, tasks)| Shape {
                texts,
                object,
                labels,
                priority,
                proceed,
                is_delayed,
                tasks,
            },
        )
}

fn said() -> impl Strategy<Value = Said> {
    let progress = prop::option::of((0..100i64, text()));
    prop_oneof![
        4 => (progress, text()).prop_map(|(progress, line)| Said::Progress(progress, line)),
        3 => text().prop_map(Said::Warning),
        5 => (prop::option::of(payload()), text()).prop_map(|(result, line)| Said::Success(result, line)),
        4 => (text(), prop::bool::weighted(0.4)).prop_map(|(error, permanent)| Said::Failure(error, permanent)),
        1 => text().prop_map(Said::Release),
        1 => Just(Said::CancelAcknowledged),
        1 => text().prop_map(Said::Cancelled),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (1..4u32).prop_map(Act::Take),
        12 => (any::<usize>(), said()).prop_map(|(lease, said)| Act::Say(lease, said)),
        1 => (any::<usize>(), text()).prop_map(|(job, reason)| Act::Cancel(job, reason)),
        1 => any::<usize>().prop_map(Act::Retry),
    ]
}

/// Any life.
pub fn life() -> impl Strategy<Value = Life> {
    let ending = prop_oneof![
        3 => Just(Ending::Leave),
        1 => Just(Ending::Cancel),
        2 => any::<u32>().prop_map(Ending::Work),
        1 => Just(Ending::Work(u32::MAX)),
        1 => Just(Ending::Work(0)),
    ];
    (
        prop::collection::vec(shape(), 1..4),
        prop::collection::vec(act(), 0..20),
        ending,
    )
        .prop_map(|(family, acts, ending)| Life {
            family,
            acts,
            ending,
        })
}

impl Life {
    /// Lives it with a driver of its own; answers the ids of its jobs.
    pub async fn live(&self, client: &Client, driver: &str, now: Timestamp) -> Vec<String> {
        let mut alive = Alive {
            client,
            driver,
            now,
            jobs: Vec::new(),
            leases: Vec::new(),
        };
        for shape in &self.family {
            alive.submit(shape).await;
        }
        for act in &self.acts {
            alive.act(act).await;
        }
        match self.ending {
            Ending::Leave => {}
            Ending::Work(good) => alive.work(good).await,
            Ending::Cancel => alive.cancel(0, "the end").await,
        }
        alive.jobs
    }
}

/// A life that is being lived.
struct Alive<'a> {
    client: &'a Client,
    driver: &'a str,
    now: Timestamp,
    jobs: Vec<String>,
    /// Tokens of leases that were granted and are not known to have ended.
    leases: Vec<prost::bytes::Bytes>,
}

impl Alive<'_> {
    async fn submit(&mut self, shape: &Shape) {
        let parent = self.jobs.first().cloned().unwrap_or_default();
        let request = SubmitRequest {
            job: Some(shape.spec(self.driver, self.now, parent)),
            ..SubmitRequest::default()
        };
        let job = self.client.submit(request).await.unwrap().job.unwrap();
        self.jobs.push(job.id);
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Take(count) => {
                self.take(*count).await;
            }
            Act::Say(lease, said) if !self.leases.is_empty() => {
                let lease = lease % self.leases.len();
                self.say(lease, said.report()).await;
            }
            Act::Say(..) => {}
            Act::Cancel(job, reason) => self.cancel(*job, reason).await,
            Act::Retry(job) => self.retry(*job).await,
        }
    }

    async fn take(&mut self, count: u32) -> bool {
        let request = AcquireRequest {
            worker: format!("worker of {}", self.driver),
            drivers: vec![self.driver.to_owned()],
            max_leases: count,
            wait: None,
        };
        let answer = self.client.workers().acquire(request).await.unwrap();
        let leases = answer.into_inner().leases;
        let any = !leases.is_empty();
        let tokens = leases.into_iter().map(|lease| lease.lease_token);
        self.leases.extend(tokens);
        any
    }

    async fn say(&mut self, lease: usize, report: Report) {
        let ends = !matches!(
            report,
            Report::Progress(_) | Report::Warning(_) | Report::CancelAcknowledged(_)
        );
        let report = TaskReport {
            lease_token: self.leases[lease].clone(),
            report: Some(report),
        };
        let request = ReportRequest {
            reports: vec![report],
            wait: None,
        };
        let answer = self.client.workers().report(request).await.unwrap();
        // Refused if the lease was lost to a cancellation, or nothing was to be cancelled.
        let refused = answer.into_inner().results[0].error.is_some();
        if ends && !refused {
            self.leases.remove(lease);
        }
    }

    async fn cancel(&self, job: usize, reason: &str) {
        let request = CancelRequest {
            job_id: self.jobs[job % self.jobs.len()].clone(),
            reason: reason.to_owned(),
        };
        self.client.jobs().cancel(request).await.unwrap();
    }

    async fn retry(&mut self, job: usize) {
        let request = RetryRequest {
            job_id: self.jobs[job % self.jobs.len()].clone(),
            ..RetryRequest::default()
        };
        // Refused if the job has succeeded, or its parent has ended.
        if let Ok(answer) = self.client.jobs().retry(request).await {
            let id = answer.into_inner().job.unwrap().id;
            if !self.jobs.contains(&id) {
                self.jobs.push(id);
            }
        }
    }

    async fn work(&mut self, good: u32) {
        let mut done = 0;
        loop {
            while let Some(last) = self.leases.len().checked_sub(1) {
                let report = match good >> (done % 32) & 1 {
                    0 => Said::Failure("at last".to_owned(), true),
                    _ => Said::Success(None, String::new()),
                };
                self.say(last, report.report()).await;
                self.leases.truncate(last);
                done += 1;
            }
            if !self.take(100).await {
                return;
            }
        }
    }
}

fn about(object: &Option<[String; 3]>) -> Option<Object> {
    let [kind, id, name] = object.clone()?;
    Some(Object {
        r#type: kind,
        id,
        name,
    })
}

fn document(value: &Value) -> Struct {
    Struct::from_json(value).unwrap()
}

impl Shape {
    fn spec(&self, driver: &str, now: Timestamp, parent_job_id: String) -> JobSpec {
        let [action, summary, creator] = self.texts.clone();
        let name = |n: usize| format!("{n} {}", self.tasks[n].texts[0]);
        let tasks = self.tasks.iter().enumerate();
        let tasks = tasks.map(|(n, task)| {
            let after = (0..n).filter(|before| task.after >> before & 1 == 1);
            // Few of many, so that some tasks can start.
            let after = after.filter(|before| (before + n) % 2 == 1);
            task.spec(driver, name(n), after.map(name).collect())
        });
        let tomorrow = Timestamp {
            seconds: now.seconds + A_DAY.seconds,
            nanos: now.nanos,
        };
        JobSpec {
            action,
            summary,
            creator,
            object: about(&self.object),
            labels: self.labels.clone().into_iter().collect(),
            priority: self.priority,
            parent_job_id,
            failure_policy: match self.proceed {
                true => FailurePolicy::Continue.into(),
                false => FailurePolicy::FailFast.into(),
            },
            schedule_time: self.is_delayed.then_some(tomorrow),
            tasks: tasks.collect(),
        }
    }
}

impl TaskShape {
    fn spec(&self, driver: &str, name: String, depends_on: Vec<String>) -> JobTaskSpec {
        let [_, action, resource_type] = self.texts.clone();
        let pause = match self.pauses {
            true => A_DAY,
            false => Duration::default(),
        };
        JobTaskSpec {
            name,
            action,
            driver: driver.to_owned(),
            object: about(&self.object),
            resource_type,
            depends_on,
            max_attempts: self.max_attempts,
            retry_policy: Some(RetryPolicy {
                initial_backoff: Some(pause),
                max_backoff: Some(pause),
                ..RetryPolicy::default()
            }),
            request_payload: self.payload.as_ref().map(document),
            ..JobTaskSpec::default()
        }
    }
}

impl Said {
    fn report(&self) -> Report {
        match self.clone() {
            Self::Progress(progress, status_detail) => Report::Progress(ProgressReport {
                progress: progress.map(|(done, message)| Progress {
                    done,
                    total: 100,
                    unit: "nodes".to_owned(),
                    message,
                }),
                status_detail,
            }),
            Self::Warning(text) => Report::Warning(Warning {
                message: format!("warning {text}"),
            }),
            Self::Success(result, status_detail) => Report::Success(Success {
                result: result.as_ref().map(document),
                status_detail,
            }),
            Self::Failure(text, permanent) => Report::Failure(Failure {
                message: format!("error {text}"),
                permanent,
                ..Failure::default()
            }),
            Self::Release(reason) => Report::Release(Release { reason }),
            Self::CancelAcknowledged => Report::CancelAcknowledged(CancelAcknowledged {}),
            Self::Cancelled(status_detail) => Report::Cancelled(Cancelled { status_detail }),
        }
    }
}
