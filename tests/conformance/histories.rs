//! The database against the model: random commands are decided once, from what the database loads, and committed to both; whatever can be asked of them
//! must come out the same.

mod said;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use longhaul::{
    domain::{
        Document, Job, JobId, JobKey, JobSpec, JobState, LeaseKey, TaskSpec, Tenant, Timestamp,
        command::{Claim, Command, Context, Decision, Loaded, RequestKey, Source, Submission},
        counts::{Counted, Counts},
        decide::decide,
        filter::{Filter, Order},
        job::FailurePolicy,
        limits::Policy,
        task::{RetryPolicy, Timeouts},
    },
    store::{FeedCursor, FeedItem, ListOrder, ListQuery, Locked, Store, StoreError, Whose},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::fixture::{Stored, at, block_on, hidden_of_first, id, vault};
pub use said::Said;
use said::said;

pub const TENANTS: [&str; 2] = ["acme", "umbrella"];
pub const DRIVERS: [&str; 2] = ["ansible", "terraform"];
pub const REQUEST_IDS: [&str; 4] = ["", "r1", "r2", "r3"];

/// A step of a history. Numbers choose among what is there when its turn comes.
#[derive(Clone, Debug)]
pub enum Step {
    Submit {
        tenant: usize,
        request_id: usize,
        tasks: usize,
        chained: bool,
        priority: i32,
        parent: Option<usize>,
        delayed: bool,
        attempts: u32,
        payload: usize,
    },
    /// Of one tenant, or of all.
    Claim(u32, Option<usize>),
    Report(usize, Said),
    Cancel(usize),
    Retry(usize, usize),
    Delete(usize),
    Pause(usize),
    Resume(usize),
    /// So many seconds go by, and the sweeper looks.
    Wait(u64),
}

fn submit() -> impl Strategy<Value = Step> {
    let texts = (0..TENANTS.len(), 0..REQUEST_IDS.len());
    let shape = (1..4usize, any::<bool>(), -1..2i32, 1..3u32);
    let more = (
        proptest::option::weighted(0.3, any::<usize>()),
        proptest::bool::weighted(0.2),
        prop_oneof![Just(0), Just(200), Just(2_000)],
    );
    (texts, shape, more).prop_map(
        |(
            (tenant, request_id),
            (tasks, chained, priority, attempts),
            (parent, delayed, payload),
        )| Step::Submit {
            tenant,
            request_id,
            tasks,
            chained,
            priority,
            parent,
            delayed,
            attempts,
            payload,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => submit(),
        3 => (1..5u32, proptest::option::weighted(0.3, 0..TENANTS.len()))
            .prop_map(|(slots, tenant)| Step::Claim(slots, tenant)),
        6 => (any::<usize>(), said()).prop_map(|(lease, said)| Step::Report(lease, said)),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => (any::<usize>(), 0..REQUEST_IDS.len()).prop_map(|(job, id)| Step::Retry(job, id)),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => (0..DRIVERS.len()).prop_map(Step::Pause),
        1 => (0..DRIVERS.len()).prop_map(Step::Resume),
        2 => prop_oneof![Just(1), Just(40), Just(90_000)].prop_map(Step::Wait),
    ]
}

/// Ids that can be told in advance, so that a failure can be repeated.
struct Ids(u64);

impl Source for Ids {
    fn id(&mut self, _now: Timestamp) -> Uuid {
        self.0 += 1;
        id(self.0)
    }

    fn chance(&mut self) -> f64 {
        0.25
    }
}

/// Both stores, and what a server would know.
pub struct History {
    pub model: Stored,
    pub database: Stored,
    /// Where the feeds of both were at the same moments.
    marks: Vec<[FeedCursor; 2]>,
    ids: Ids,
    pub now: Timestamp,
    policy: Policy,
    paused: Vec<String>,
    served: HashMap<Arc<str>, Tenant>,
    /// Every job that ever was.
    pub jobs: Vec<JobKey>,
    /// Every lease that ever was.
    pub leases: Vec<LeaseKey>,
}

impl History {
    /// A history that has just begun.
    pub async fn begin(database: Stored) -> Self {
        let mut history = Self::new(database);
        let start = [history.database.mark().await, history.model.mark().await];
        history.marks.push(start);
        history
    }

    fn new(database: Stored) -> Self {
        Self {
            model: Stored::in_memory(),
            database,
            marks: Vec::new(),
            ids: Ids(0),
            now: at(0),
            policy: Policy {
                retention: Duration::from_secs(60),
                ..Policy::default()
            },
            paused: Vec::new(),
            served: HashMap::new(),
            jobs: Vec::new(),
            leases: Vec::new(),
        }
    }

    /// Does it, and says what was decided.
    pub async fn take(&mut self, step: Step) -> Decision {
        self.now = self.now.after(Duration::from_millis(1));
        let pick = |number: usize| self.jobs.get(number % self.jobs.len().max(1)).cloned();
        let (commands, claims) = match step {
            Step::Claim(slots, tenant) => (Vec::new(), vec![claim(slots, tenant)]),
            Step::Wait(seconds) => {
                self.now = self.now.after(Duration::from_secs(seconds));
                (self.sweep().await, Vec::new())
            }
            Step::Report(number, said) => {
                let lease = self.leases.get(number % self.leases.len().max(1)).cloned();
                let report = lease.map(|lease| Command::Report {
                    lease,
                    report: said.report(),
                    reach: None,
                });
                (Vec::from_iter(report), Vec::new())
            }
            Step::Submit { parent, .. } => {
                let parent = parent.and_then(pick);
                (vec![self.submission(&step, parent)], Vec::new())
            }
            Step::Cancel(number) => {
                let reason = "not needed".to_owned();
                let cancel = pick(number).map(|key| Command::Cancel { key, reason });
                (Vec::from_iter(cancel), Vec::new())
            }
            Step::Retry(number, request_id) => {
                let retry = pick(number).map(|key| Command::Retry {
                    key,
                    request_id: REQUEST_IDS[request_id].to_owned(),
                    fingerprint: [9; 32],
                });
                (Vec::from_iter(retry), Vec::new())
            }
            Step::Delete(number) => {
                let delete = pick(number).map(|key| Command::Delete { key });
                (Vec::from_iter(delete), Vec::new())
            }
            Step::Pause(driver) => {
                self.paused.push(DRIVERS[driver].to_owned());
                let (driver, reason) = (DRIVERS[driver].into(), "broken".to_owned());
                (vec![Command::PauseDriver { driver, reason }], Vec::new())
            }
            Step::Resume(driver) => {
                self.paused.retain(|paused| paused != DRIVERS[driver]);
                let driver = DRIVERS[driver].into();
                (vec![Command::ResumeDriver { driver }], Vec::new())
            }
        };
        self.turn(commands, &claims).await
    }

    /// The timers and the removals that are due, which both stores must agree on.
    async fn sweep(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut found = Vec::new();
        // Of nodes it is no matter of the writer: all keep their tombstones here.
        let tidies = self.database.exclusive;
        for stored in [&mut self.model, &mut self.database] {
            let writer = &mut stored.writer;
            writer.begin().await.unwrap();
            let due = writer.due(self.now, 100).await.unwrap();
            let expired = writer.expired(self.now, 100).await.unwrap();
            let next = writer.next_due().await.unwrap();
            writer.rollback().await;
            if tidies {
                writer.tidy(self.now).await.unwrap();
            }
            found.push((due, expired, next));
        }
        assert_eq!(found[0], found[1]);
        let (due, expired, _) = found.swap_remove(1);
        commands.extend(due.into_iter().map(|key| Command::Sweep { key }));
        commands.extend(expired.into_iter().map(|key| Command::Expire { key }));
        commands
    }

    fn submission(&mut self, step: &Step, parent: Option<JobKey>) -> Command {
        let Step::Submit {
            tenant,
            request_id,
            tasks,
            chained,
            priority,
            delayed,
            attempts,
            payload,
            ..
        } = *step
        else {
            unreachable!("only submissions are made here");
        };
        let tenant = Tenant::new(TENANTS[tenant]);
        let task = |position: usize| TaskSpec {
            name: format!("task-{position}"),
            action: "create".into(),
            driver: DRIVERS[position % DRIVERS.len()].into(),
            object: None,
            resource_type: String::new(),
            depends_on: match (chained, u32::try_from(position).unwrap()) {
                (true, position @ 1..) => vec![position - 1],
                _ => Vec::new(),
            },
            max_attempts: attempts,
            retry_policy: RetryPolicy::default(),
            timeouts: Timeouts {
                start_to_close: chained.then_some(Duration::from_secs(20)),
                ..Timeouts::default()
            },
            request_payload: (payload > 0).then(|| Document(vec![b'p'; payload].into())),
        };
        Command::Submit(Submission {
            request_id: REQUEST_IDS[request_id].to_owned(),
            fingerprint: [u8::try_from(tasks).unwrap(); 32],
            spec: JobSpec {
                action: "create".into(),
                summary: String::new(),
                object: None,
                labels: [("size".to_owned(), tasks.to_string())].into(),
                priority,
                creator: "ada".into(),
                parent: parent.filter(|p| p.tenant == tenant).map(|p| p.job),
                failure_policy: FailurePolicy::FailFast,
                schedule_time: delayed.then(|| self.now.after(Duration::from_secs(30))),
                traceparent: String::new(),
            },
            tenant,
            tasks: (0..tasks)
                .map(|position| Arc::new(task(position)))
                .collect(),
            hidden: hidden_of_first(chained, payload),
        })
    }

    pub async fn turn(&mut self, commands: Vec<Command>, claims: &[Claim]) -> Decision {
        self.model.writer.begin().await.unwrap();
        self.database.writer.begin().await.unwrap();
        let loaded = self.load(&commands, claims).await;
        let decision = self.decide(commands, claims, loaded);
        let changes = &decision.changes;
        let here = self.database.writer.commit(changes).await.unwrap();
        let there = self.model.writer.commit(changes).await.unwrap();
        assert!(here == there || !self.database.exclusive);
        self.marks
            .push([self.database.mark().await, self.model.mark().await]);
        let keys = changes.jobs.iter().map(|write| write.job.key());
        let new: Vec<_> = keys.filter(|key| !self.jobs.contains(key)).collect();
        self.jobs.extend(new);
        let grants = decision.grants.iter().flatten();
        self.leases.extend(grants.map(|grant| grant.lease.clone()));
        decision
    }

    /// Loads what the batch names from the database, and sees that the model has the same.
    async fn load(&mut self, commands: &[Command], claims: &[Claim]) -> Loaded {
        let (model, database) = (&mut self.model.writer, &mut self.database.writer);
        let mut loaded = Loaded::default();
        let mut wanted = Vec::new();
        let tenants = TENANTS.iter().map(|tenant| Tenant::new(tenant));
        let requests: Vec<_> = tenants
            .flat_map(|tenant| {
                REQUEST_IDS[1..].iter().map(move |id| RequestKey {
                    tenant: tenant.clone(),
                    id: (*id).to_owned(),
                })
            })
            .collect();
        let found = database.requests(&requests).await.unwrap();
        assert_eq!(found, model.requests(&requests).await.unwrap());
        wanted.extend(found.iter().map(|(_, record)| record.key.clone()));
        loaded.requests.extend(found);
        for driver in DRIVERS.iter().filter(|_| !claims.is_empty()) {
            let served = self.served.get(*driver);
            let tenant = claims.first().and_then(|claim| claim.tenant.as_ref());
            let whose = tenant.map_or(Whose::All { served }, Whose::One);
            let ready = database.ready(driver, whose, 5).await.unwrap();
            let same = model.ready(driver, whose, 5).await.unwrap();
            // A shared store may have to leave some for the next round.
            assert!(ready.more || !same.more);
            assert_eq!(ready.tasks, same.tasks);
            wanted.extend(ready.tasks.iter().map(|task| task.key.clone()));
            loaded.ready.insert((*driver).into(), ready.tasks);
        }
        wanted.extend(commands.iter().filter_map(named));
        let mut seen = Vec::new();
        while let Some(key) = wanted.pop() {
            if seen.contains(&key) {
                continue;
            }
            let keys = [key.clone()];
            let mut jobs = database.jobs(&keys, Locked::Wait).await.unwrap();
            // A shared store brings the ancestors as well.
            jobs.truncate(1);
            assert_eq!(jobs, model.jobs(&keys, Locked::Wait).await.unwrap());
            wanted.extend(jobs.iter().filter_map(Job::parent_key));
            loaded.jobs.extend(jobs.into_iter().map(Arc::new));
            seen.push(key);
        }
        loaded
    }

    fn decide(&mut self, commands: Vec<Command>, claims: &[Claim], loaded: Loaded) -> Decision {
        let paused = &self.paused;
        let mut context = Context {
            now: self.now,
            policy: self.policy,
            leases_hold_until: self.now,
            source: &mut self.ids,
            secrecy: &vault(),
            is_paused: &|driver| paused.iter().any(|paused| paused == driver),
            served: &mut self.served,
            is_watched: &|_| false,
        };
        decide(commands, claims, loaded, &mut context)
    }

    /// Asks both for everything.
    async fn compare(&mut self) {
        let (model, database) = (&self.model.store, &self.database.store);
        let paused = database.paused_drivers().await.unwrap();
        assert_eq!(paused, model.paused_drivers().await.unwrap());
        for key in &self.jobs {
            let job = database.job(key).await.unwrap();
            assert_eq!(job, model.job(key).await.unwrap());
            let events = database.events(key, 1, 1_000).await.unwrap();
            assert_eq!(events, model.events(key, 1, 1_000).await.unwrap());
        }
        for tenant in TENANTS.map(Tenant::new) {
            let counts = database.counts(&tenant).await.unwrap();
            assert_eq!(counts, model.counts(&tenant).await.unwrap());
            assert_eq!(counts, self.recount(&tenant).await);
            let last = self.marks.len() - 1;
            for after in [0, last / 2, last] {
                let (after, end) = (&self.marks[after], &self.marks[last]);
                let here = self.database.feed(&tenant.0, &after[0], &end[0]).await;
                let there = self.model.feed(&tenant.0, &after[1], &end[1]).await;
                let counted = self.database.exclusive;
                assert_eq!(told(here, counted), told(there, counted));
            }
            for query in queries(&tenant) {
                let here = all_pages(&**database, query.clone()).await.unwrap();
                let there = all_pages(&**model, query).await.unwrap();
                assert_eq!(here, there);
            }
        }
    }

    /// What the counters must say.
    async fn recount(&self, tenant: &Tenant) -> Counts {
        let mut counted = BTreeMap::<Counted, i64>::new();
        for key in self.jobs.iter().filter(|key| key.tenant == *tenant) {
            let Some(job) = self.model.store.job(key).await.unwrap() else {
                continue;
            };
            let tenant = || tenant.clone();
            *counted
                .entry(Counted::Jobs(tenant(), job.state, job.status))
                .or_default() += 1;
            for task in &job.tasks {
                let counted = counted.entry(Counted::Tasks(
                    tenant(),
                    task.spec.driver.clone(),
                    task.state,
                ));
                *counted.or_default() += 1;
            }
        }
        let mut counts = Counts::default();
        for (counted, count) in counted {
            match counted {
                Counted::Jobs(_, state, status) => counts.jobs.push((state, status, count)),
                Counted::Tasks(_, driver, state) => counts.tasks.push((driver, state, count)),
            }
        }
        counts
    }
}

fn claim(slots: u32, tenant: Option<usize>) -> Claim {
    Claim {
        worker: "worker-1".into(),
        tenant: tenant.map(|tenant| Tenant::new(TENANTS[tenant])),
        drivers: DRIVERS.map(Arc::from).into(),
        slots,
    }
}

/// The job that a command names.
fn named(command: &Command) -> Option<JobKey> {
    match command.bare() {
        Command::Submit(submission) => submission.spec.parent.map(|job: JobId| JobKey {
            tenant: submission.tenant.clone(),
            job,
        }),
        Command::Cancel { key, .. }
        | Command::Retry { key, .. }
        | Command::Delete { key }
        | Command::Sweep { key }
        | Command::Expire { key } => Some(key.clone()),
        Command::Report { lease, .. }
        | Command::CancelDelivered { lease }
        | Command::Recall { lease } => Some(lease.job_key()),
        _ => None,
    }
}

/// What a feed tells of each job. Positions are the same where they are counted; elsewhere several events share one, and the order of these is open.
fn told(mut items: Vec<FeedItem>, counted: bool) -> Vec<String> {
    if !counted {
        for item in &mut items {
            (item.first_position, item.position) = (0, 0);
        }
        items.sort_by(|one, other| one.key.cmp(&other.key));
    }
    items.iter().map(|item| format!("{item:?}")).collect()
}

pub fn queries(tenant: &Tenant) -> Vec<ListQuery> {
    let orders = [
        ListOrder::CreateTime,
        ListOrder::CreateTimeDesc,
        ListOrder::UpdateTimeDesc,
        ListOrder::UpdateTime,
    ];
    let query = |filter: &Filter, order| ListQuery {
        tenant: tenant.clone(),
        filter: filter.clone(),
        order,
        after: None,
        limit: 3,
    };
    let mut filters = vec![Filter::All];
    filters.extend(JobState::ALL.map(|s| Filter::State(Order::Equal, s)));
    let each = filters
        .iter()
        .flat_map(|filter| orders.map(|order| query(filter, order)));
    each.collect()
}

pub async fn all_pages(
    store: &dyn Store,
    mut query: ListQuery,
) -> Result<Vec<Arc<Job>>, StoreError> {
    let mut jobs = Vec::new();
    loop {
        let page = store.list(query.clone()).await?;
        jobs.extend(page.jobs);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(jobs),
        }
    }
}

fn run(database: impl Future<Output = Stored>, steps: Vec<Step>) {
    block_on(async {
        let mut history = History::begin(database.await).await;
        for step in steps {
            history.take(step).await;
        }
        history.compare().await;
    });
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_database_is_as_the_model(steps in steps()) {
        run(async { Stored::in_sqlite() }, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_shared_database_is_as_the_model(steps in steps()) {
        run(Stored::in_postgres(), steps);
    }
}
