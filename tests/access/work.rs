//! Workers, kept to the tasks of their tenant: what they are given, what they may report on, and what they hear.

use longhaul::proto::v1::{
    AcquireRequest, AcquireResponse, CreateKeyRequest, CreateKeyResponse, Directive,
    ExplainRequest, ExplainResponse, GetServerInfoRequest, GetServerInfoResponse, Heartbeat, Lease,
    ReportRequest, ReportResponse, Role, Success, TaskReport, WorkRequest, WorkResponse,
    WorkerHello, directive, task_report::Report,
};
use prost::Message;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    cast::{Cast, OTHER, OWN, acquire, cancel, key, submit, wanted},
    contract::ROLES,
    served::{On, Served, on_each_store, reason},
    wire::{Ask, Lasting, PATIENCE},
};

/// The fields of `Work`, which the tests here try.
pub const FIELDS: [&str; 3] = [
    "WorkerService.Work hello.held",
    "WorkerService.Work acknowledge",
    "WorkerService.Work reports.lease_token",
];

fn driver() -> String {
    Uuid::now_v7().to_string()
}

fn hello(driver: &str, slots: u32, held: &[&Lease]) -> WorkRequest {
    let held = held.iter().map(|lease| lease.lease_token.clone());
    WorkRequest {
        hello: Some(WorkerHello {
            name: "worker-1".to_owned(),
            drivers: vec![driver.to_owned()],
            slots,
            held: held.collect(),
        }),
        ..WorkRequest::default()
    }
}

/// A worker's stream.
struct Worker {
    stream: Lasting,
    said: Vec<WorkResponse>,
}

impl Worker {
    async fn open(served: &Served, key: &str, hello: &WorkRequest) -> Self {
        let path = "/longhaul.v1.WorkerService/Work";
        let mut ask = Ask::grpc(path, &hello.encode_to_vec()).key(key);
        ask.stays_open = true;
        let mut worker = Self {
            stream: served.wire().open(&ask).await,
            said: Vec::new(),
        };
        worker.hear().await;
        worker
    }

    async fn hear(&mut self) {
        let said = timeout(PATIENCE, self.stream.first()).await;
        let said = said.expect("it speaks");
        said.grpc().unwrap();
        let said = said.messages().into_iter();
        self.said
            .extend(said.map(|m| WorkResponse::decode(m).unwrap()));
    }

    async fn lease(&mut self) -> Lease {
        loop {
            let mut leases = self.said.iter().flat_map(|said| &said.leases);
            if let Some(lease) = leases.next() {
                return lease.clone();
            }
            self.hear().await;
        }
    }

    async fn results(&mut self, count: usize) -> Vec<bool> {
        loop {
            let results = self.said.iter().flat_map(|said| &said.results);
            let results: Vec<_> = results.map(|result| result.error.is_none()).collect();
            if results.len() >= count {
                return results;
            }
            self.hear().await;
        }
    }

    fn directives(&self) -> Vec<&Directive> {
        self.said.iter().flat_map(|said| &said.directives).collect()
    }

    async fn directive(&mut self) -> directive::Type {
        loop {
            if let Some(directive) = self.directives().first() {
                return directive.r#type();
            }
            self.hear().await;
        }
    }
}

fn report(lease: &Lease, report: Report) -> TaskReport {
    TaskReport {
        lease_token: lease.lease_token.clone(),
        report: Some(report),
    }
}

/// Takes what there is at once.
async fn taken(served: &Served, key: &str, driver: &str) -> usize {
    let request = AcquireRequest {
        worker: "worker-1".to_owned(),
        drivers: vec![driver.to_owned()],
        max_leases: 10,
        wait: None,
    };
    let leased = served.call(key, "WorkerService/Acquire", &request);
    let leased: AcquireResponse = leased.await.unwrap();
    leased.leases.len()
}

async fn a_worker_takes_the_tasks_of_its_tenant(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let driver = driver();
    submit(served, &cast.owner, &driver, "").await;
    assert_eq!(taken(served, &cast.other, &driver).await, 0);
    let mut stranger = Worker::open(served, &cast.other, &hello(&driver, 1, &[])).await;
    let mine = submit(served, &cast.other, &driver, "").await;
    let lease = stranger.lease().await;
    assert_eq!(lease.task.unwrap().job_id, mine.id);
    assert_eq!(taken(served, &cast.owner, &driver).await, 1);
    // Whoever works for all takes from all.
    submit(served, &cast.owner, &driver, "").await;
    let everywhere = key(served, "default", &ROLES, true).await;
    acquire(served, &everywhere, &driver).await;
    cast.served.stop().await;
}

async fn a_batch_of_reports_counts_as_far_as_it_is_ones_own(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let driver = driver();
    submit(served, &cast.other, &driver, "").await;
    let (own, anothers) = (
        acquire(served, &cast.other, &driver).await,
        cast.lease().await,
    );
    let request = ReportRequest {
        reports: vec![
            report(&own, Report::Heartbeat(Heartbeat {})),
            report(&anothers, Report::Success(Success::default())),
            report(&own, Report::Success(Success::default())),
        ],
        wait: None,
    };
    let answer = served.call(&cast.other, "WorkerService/Report", &request);
    let answer: ReportResponse = answer.await.unwrap();
    let accepted: Vec<_> = answer.results.iter().map(|r| r.error.is_none()).collect();
    assert_eq!(accepted, [true, false, true]);
    // And it is still its worker's.
    let request = ReportRequest {
        reports: vec![report(&anothers, Report::Success(Success::default()))],
        wait: None,
    };
    let answer = served.call(&cast.owner, "WorkerService/Report", &request);
    let answer: ReportResponse = answer.await.unwrap();
    assert_eq!(answer.results[0].error, None);
    cast.served.stop().await;
}

async fn a_stream_reports_on_ones_own(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let driver = driver();
    submit(served, &cast.other, &driver, "").await;
    let anothers = cast.lease().await;
    let mut worker = Worker::open(served, &cast.other, &hello(&driver, 1, &[])).await;
    let own = worker.lease().await;
    let message = WorkRequest {
        acknowledge: vec![anothers.lease_token.clone(), own.lease_token.clone()],
        reports: vec![
            report(&anothers, Report::Success(Success::default())),
            report(&own, Report::Success(Success::default())),
        ],
        ..WorkRequest::default()
    };
    worker.stream.say(&message).await;
    assert_eq!(worker.results(2).await, [false, true]);
    cast.served.stop().await;
}

/// Whoever says that it holds a lease of another tenant neither hears what its worker is asked to do, nor keeps that from hearing it.
async fn a_lease_is_held_by_its_tenant(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let driver = driver();
    let job = submit(served, &cast.owner, &driver, "").await;
    let mut worker = Worker::open(served, &cast.owner, &hello(&driver, 1, &[])).await;
    let lease = worker.lease().await;
    let message = WorkRequest {
        acknowledge: vec![lease.lease_token.clone()],
        reports: vec![report(&lease, Report::Heartbeat(Heartbeat {}))],
        ..WorkRequest::default()
    };
    worker.stream.say(&message).await;
    assert_eq!(worker.results(1).await, [true]);
    let mut thief = Worker::open(served, &cast.other, &hello("idle", 1, &[&lease])).await;
    let message = WorkRequest {
        acknowledge: vec![lease.lease_token.clone()],
        ..WorkRequest::default()
    };
    thief.stream.say(&message).await;
    cancel(served, &cast.owner, &job.id).await.unwrap();
    let told = worker.directive().await;
    assert_eq!(told, directive::Type::Cancel);
    // It has been told nothing, or that this is not its lease.
    submit(served, &cast.other, "idle", "").await;
    thief.lease().await;
    let told = thief.directives().into_iter().map(Directive::r#type);
    assert!(
        told.into_iter()
            .all(|told| told == directive::Type::LeaseLost)
    );
    cast.served.stop().await;
}

/// Of the drivers that its key is for.
async fn a_worker_takes_the_tasks_of_its_drivers(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let (own, others) = (driver(), driver());
    for driver in [&own, &others] {
        submit(served, &cast.owner, driver, "").await;
    }
    let request = CreateKeyRequest {
        drivers: vec![own.clone()],
        ..wanted(OWN, &[Role::Work])
    };
    let made = served.call(&served.first_key, "AdminService/CreateKey", &request);
    let made: CreateKeyResponse = made.await.unwrap();
    let key = made.secret;
    let mine = acquire(served, &key, &own).await;
    for drivers in [vec![others.clone()], vec![own, others.clone()]] {
        let request = AcquireRequest {
            worker: "worker-1".to_owned(),
            drivers,
            ..AcquireRequest::default()
        };
        let refused = served.call::<AcquireResponse>(&key, "WorkerService/Acquire", &request);
        assert_eq!(reason(&refused.await.unwrap_err()), "ROLE_REQUIRED");
    }
    let path = "/longhaul.v1.WorkerService/Work";
    let ask = Ask::grpc(path, &hello(&others, 1, &[]).encode_to_vec()).key(&key);
    let refused = served.wire().ask(&ask, true).await.grpc().unwrap_err();
    assert_eq!(reason(&refused), "ROLE_REQUIRED");
    // Nor does it report on what others were given.
    let anothers = acquire(served, &cast.owner, &others).await;
    let request = ReportRequest {
        reports: [&anothers, &mine]
            .map(|l| report(l, Report::Success(Success::default())))
            .into(),
        wait: None,
    };
    let answer = served.call(&key, "WorkerService/Report", &request);
    let answer: ReportResponse = answer.await.unwrap();
    let accepted: Vec<_> = answer.results.iter().map(|r| r.error.is_none()).collect();
    assert_eq!(accepted, [false, true]);
    cast.served.stop().await;
}

/// How many of another tenant's tasks wait, and who works for it, is nobody else's business.
async fn others_queues_and_workers_are_not_told(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let driver = driver();
    let _worker = Worker::open(served, &cast.owner, &hello(&driver, 0, &[])).await;
    for _ in 0..3 {
        submit(served, &cast.owner, &driver, "").await;
    }
    let mine = submit(served, &cast.other, &driver, "").await;
    let request = ExplainRequest { job_id: mine.id };
    let explained = served.call(&cast.other, "JobService/Explain", &request);
    let explained: ExplainResponse = explained.await.unwrap();
    let message = &explained.explanations[0].message;
    assert!(message.contains("no worker"), "{message}");
    assert!(!message.contains("3 tasks"), "{message}");
    let path = "AdminService/GetServerInfo";
    let info = served.call(&cast.other, path, &GetServerInfoRequest {});
    let info: GetServerInfoResponse = info.await.unwrap();
    assert!(
        !info.connected_drivers.contains(&driver),
        "{OWN} works, and {OTHER} is told"
    );
    cast.served.stop().await;
}

on_each_store!(
    a_worker_takes_the_tasks_of_its_tenant,
    a_worker_takes_the_tasks_of_its_drivers,
    a_batch_of_reports_counts_as_far_as_it_is_ones_own,
    a_stream_reports_on_ones_own,
    a_lease_is_held_by_its_tenant,
    others_queues_and_workers_are_not_told,
);
