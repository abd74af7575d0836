//! The behaviours as a client sees them: real servers on each store, and calls of gRPC over real sockets. With several nodes each call goes to another one
//! than the last.

mod changes;
mod feed;
mod jobs;
mod queue;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{
    auth::AuthSettings,
    client::Client,
    domain::Timestamp,
    engine::{Clock as _, SteadyClock},
    proto::{
        Struct,
        v1::{
            AcquireRequest, CancelRequest, CreateKeyRequest, CreateTenantRequest, DeleteRequest,
            GetCountsRequest, GetCountsResponse, GetRequest, Job, JobChange, JobEvent, JobSpec,
            JobTaskSpec, Lease, ListEventsRequest, ListRequest, ReportRequest, RetryRequest,
            SubmitBatchRequest, SubmitRequest, SubmitResponse, TaskReport, Tenant, WaitRequest,
            WatchJobsRequest, WatchJobsResponse, task_report::Report, watch_jobs_response::Kind,
        },
    },
    server::{self, RunningServer, ServeSettings},
    vault::{MasterKeySource, MasterKeys},
};
use tonic::{Status, Streaming};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::fixture::{Opened, Place, database};

pub use changes::*;
pub use feed::*;
pub use jobs::*;
pub use queue::*;

/// For what is not to run out while a slow machine thinks.
const HOUR: Duration = Duration::from_secs(3_600);
/// How long to wait for a task that is there: long enough for any machine.
const SOON: Duration = Duration::from_secs(60);

/// The service, by one node or several.
pub struct Served {
    servers: Vec<RunningServer>,
    clients: Vec<Client>,
    /// What the clients show: whoever works and administers for all tenants, and has jobs of its own.
    key: String,
    calls: AtomicUsize,
    // Last: they go when the servers have gone.
    _places: Vec<Place>,
}

impl Served {
    pub async fn from_memory() -> Self {
        Self::by([Opened::in_memory()]).await
    }

    pub async fn from_sqlite() -> Self {
        Self::by([Opened::in_sqlite()]).await
    }

    pub async fn from_postgres() -> Self {
        let database = Arc::new(database());
        Self::by([Opened::in_postgres_at(&database).await]).await
    }

    pub async fn from_postgres_by_two() -> Self {
        let database = Arc::new(database());
        let one = Opened::in_postgres_at(&database).await;
        let other = Opened::in_postgres_at(&database).await;
        Self::by([one, other]).await
    }

    async fn by(nodes: impl IntoIterator<Item = Opened>) -> Self {
        let settings = ServeSettings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            lease_duration: HOUR,
            cancel_grace: HOUR,
            master_key: MasterKeySource::Given(MasterKeys::of([7; 32])),
            auth: AuthSettings {
                is_required: true,
                ..AuthSettings::default()
            },
            ..ServeSettings::default()
        };
        let mut served = Self {
            servers: Vec::new(),
            clients: Vec::new(),
            key: String::new(),
            calls: AtomicUsize::new(0),
            _places: Vec::new(),
        };
        for Opened { store, place } in nodes {
            let mut server = server::start_on(settings.clone(), store).await.unwrap();
            // One of the nodes makes it.
            served.key.extend(server.take_first_key());
            served.servers.push(server);
            served._places.push(place);
        }
        served.clients = served.clients_with(&served.key).await;
        served
    }

    /// Clients of each node, with this key.
    async fn clients_with(&self, key: &str) -> Vec<Client> {
        let mut clients = Vec::new();
        for server in &self.servers {
            let endpoint = format!("http://{}", server.local_addr());
            let client = Client::builder(&endpoint).api_key(key).connect().await;
            clients.push(client.unwrap());
        }
        clients
    }

    /// Clients of each node, for whoever may do all in a tenant that is new.
    pub async fn clients_of(&self, tenant: &str) -> Vec<Client> {
        let request = CreateTenantRequest {
            tenant: Some(Tenant {
                name: tenant.to_owned(),
                ..Tenant::default()
            }),
        };
        let made = self.same_client().admin().create_tenant(request).await;
        made.unwrap();
        let roles = 1..=6;
        let request = CreateKeyRequest {
            tenant: tenant.to_owned(),
            roles: roles.collect(),
            ..CreateKeyRequest::default()
        };
        let made = self.client().admin().create_key(request).await.unwrap();
        self.clients_with(&made.into_inner().secret).await
    }

    pub async fn stop(self) {
        drop(self.clients);
        for server in self.servers {
            server.drain().await.unwrap();
        }
    }

    /// The node whose turn it is.
    pub fn client(&self) -> &Client {
        &self.clients[self.calls.fetch_add(1, Ordering::Relaxed) % self.clients.len()]
    }

    /// Always the same node, where what counts is what its clock or its memory says.
    pub fn same_client(&self) -> &Client {
        &self.clients[0]
    }

    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, Status> {
        let answer = self.client().jobs().submit(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Submits a job of one task for this driver.
    pub async fn submit_for(&self, driver: &str) -> Job {
        let answer = self.submit(one_task(driver)).await.unwrap();
        answer.job.unwrap()
    }

    /// Submits a job as often as that, in one call; answers their ids.
    pub async fn submit_many(&self, driver: &str, count: usize) -> Vec<String> {
        let requests = vec![one_task(driver); count];
        let request = SubmitBatchRequest { requests };
        let answer = self.client().jobs().submit_batch(request).await.unwrap();
        let results = answer.into_inner().results.into_iter();
        let ids: Vec<_> = results.map(|result| result.job_id).collect();
        assert!(ids.len() == count && ids.iter().all(|id| !id.is_empty()));
        ids
    }

    /// The whole job, which must be the same for every node.
    pub async fn get(&self, job_id: &str) -> Result<Job, Status> {
        let mut found = Vec::new();
        for client in &self.clients {
            let request = GetRequest {
                job_id: job_id.to_owned(),
                ..GetRequest::default()
            };
            let answer = client.jobs().get(request).await;
            found.push(answer.map(|answer| answer.into_inner().job.unwrap()));
        }
        let last = found.pop().unwrap();
        for other in found {
            match (&last, other) {
                (Ok(last), Ok(other)) => assert_eq!(*last, other),
                (Err(last), Err(other)) => assert_eq!(reason(last), reason(&other)),
                (last, other) => panic!("{last:?} is not {other:?}"),
            }
        }
        last
    }

    /// All jobs that match, in pages of this size, each page from another node.
    pub async fn list(&self, filter: &str, order_by: &str, page_size: i32) -> Listed {
        let mut listed = Listed::default();
        let mut page_token = String::new();
        loop {
            let request = ListRequest {
                page_size,
                page_token,
                filter: filter.to_owned(),
                order_by: order_by.to_owned(),
                ..ListRequest::default()
            };
            let answer = self.client().jobs().list(request).await.unwrap();
            let page = answer.into_inner();
            listed.pages.push(page.jobs.len());
            listed.total = page.total_size;
            listed.ids.extend(page.jobs.into_iter().map(|job| job.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return listed;
            }
        }
    }

    pub async fn cancel(&self, job_id: &str) -> Job {
        let request = CancelRequest {
            job_id: job_id.to_owned(),
            ..CancelRequest::default()
        };
        let answer = self.client().jobs().cancel(request).await.unwrap();
        answer.into_inner().job.unwrap()
    }

    pub async fn retry(&self, job_id: &str) -> Result<Job, Status> {
        let request = RetryRequest {
            job_id: job_id.to_owned(),
            request_id: String::new(),
        };
        let answer = self.client().jobs().retry(request).await;
        answer.map(|answer| answer.into_inner().job.unwrap())
    }

    pub async fn delete(&self, job_id: &str) {
        let job_id = job_id.to_owned();
        let answer = self.client().jobs().delete(DeleteRequest { job_id }).await;
        answer.unwrap();
    }

    /// Takes that many tasks of these drivers, which are there.
    pub async fn acquire(&self, drivers: &[&str], count: usize) -> Vec<Lease> {
        let mut leases = Vec::new();
        while leases.len() < count {
            let wanted = u32::try_from(count - leases.len()).unwrap();
            let more = acquire(self.client(), drivers, wanted, SOON).await;
            assert!(!more.is_empty(), "there is no task for {drivers:?}");
            leases.extend(more);
        }
        leases
    }

    /// The tasks of these drivers that this node gives out at once.
    pub async fn there(&self, client: &Client, drivers: &[&str]) -> Vec<Lease> {
        acquire(client, drivers, 100, Duration::ZERO).await
    }

    /// All that has happened to a job.
    pub async fn events(&self, job_id: &str) -> Vec<JobEvent> {
        let request = ListEventsRequest {
            job_id: job_id.to_owned(),
            page_size: 1_000,
            ..ListEventsRequest::default()
        };
        let answer = self.client().jobs().list_events(request).await;
        let page = answer.unwrap().into_inner();
        assert_eq!(page.next_page_token, "");
        page.events
    }

    pub async fn counts(&self) -> GetCountsResponse {
        let answer = self.client().jobs().get_counts(GetCountsRequest {}).await;
        answer.unwrap().into_inner()
    }

    /// Waits until a job has been asked to stop, or has ended.
    pub async fn asked_to_stop(&self, job_id: &str) {
        let mut seen = 0;
        loop {
            let request = WaitRequest {
                job_id: job_id.to_owned(),
                after_revision: Some(seen),
                ..WaitRequest::default()
            };
            let answer = self.client().jobs().wait(request).await;
            let job = answer.unwrap().into_inner().job.unwrap();
            if job.cancel.is_some() || job.end_time.is_some() {
                return;
            }
            seen = job.revision;
        }
    }

    /// Says one thing about a lease, which must be accepted.
    pub async fn report(&self, lease: &Lease, report: Report) {
        let request = ReportRequest {
            reports: vec![TaskReport {
                lease_token: lease.lease_token.clone(),
                report: Some(report),
            }],
            ..ReportRequest::default()
        };
        let answer = self.client().workers().report(request).await.unwrap();
        assert_eq!(answer.into_inner().results[0].error, None);
    }

    /// Where the changes of all jobs have come to.
    pub async fn mark(&self) -> String {
        let mut follow = self.follow("").await;
        loop {
            let message = follow.message().await.unwrap().expect("it goes on");
            if message.kind() == Kind::Synced {
                return message.cursor;
            }
        }
    }

    async fn follow(&self, cursor: &str) -> Streaming<WatchJobsResponse> {
        let request = WatchJobsRequest {
            cursor: cursor.to_owned(),
            ..WatchJobsRequest::default()
        };
        let answer = self.client().jobs().watch_jobs(request).await;
        answer.unwrap().into_inner()
    }

    /// The changes after a mark, up to the first that is wanted.
    pub async fn changes(
        &self,
        mark: &str,
        last: impl Fn(&JobChange) -> bool,
    ) -> (Vec<JobChange>, String) {
        let mut follow = self.follow(mark).await;
        let mut changes = Vec::new();
        loop {
            let message = follow.message().await.unwrap().expect("it goes on");
            changes.extend(message.changes);
            if changes.iter().any(&last) {
                return (changes, message.cursor);
            }
        }
    }
}

/// What a list said, page by page.
#[derive(Debug, Default)]
pub struct Listed {
    pub ids: Vec<String>,
    pub pages: Vec<usize>,
    /// How many there are, if the last page said so.
    pub total: Option<i64>,
}

async fn acquire(client: &Client, drivers: &[&str], max_leases: u32, wait: Duration) -> Vec<Lease> {
    let request = AcquireRequest {
        worker: "worker-1".to_owned(),
        drivers: drivers.iter().map(|&driver| driver.to_owned()).collect(),
        max_leases,
        wait: Some(wait.try_into().unwrap()),
    };
    let answer = client.workers().acquire(request).await.unwrap();
    answer.into_inner().leases
}

/// A job with a task for each of these drivers.
pub fn spec(drivers: &[&str]) -> JobSpec {
    let tasks = drivers.iter().enumerate().map(|(n, driver)| JobTaskSpec {
        name: format!("task-{n}"),
        driver: (*driver).to_owned(),
        ..JobTaskSpec::default()
    });
    JobSpec {
        tasks: tasks.collect(),
        ..JobSpec::default()
    }
}

pub fn request(job: JobSpec, request_id: &str) -> SubmitRequest {
    SubmitRequest {
        job: Some(job),
        request_id: request_id.to_owned(),
    }
}

fn one_task(driver: &str) -> SubmitRequest {
    request(spec(&[driver]), "")
}

/// A time that does not come before the end of a test.
pub fn in_an_hour() -> prost_types::Timestamp {
    let now = SteadyClock::start(Timestamp::default()).now();
    let micros = now.after(HOUR).as_micros();
    prost_types::Timestamp {
        seconds: micros / 1_000_000,
        nanos: i32::try_from(micros % 1_000_000).unwrap() * 1_000,
    }
}

/// A document with this text in it.
pub fn document(text: &str) -> Struct {
    Struct::from_json(&serde_json::json!({ "text": text })).unwrap()
}

/// The word for programs in an error.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.expect("every error has a reason").reason
}

/// The same in the error of one part of a call.
pub fn reason_of(error: &tonic_types::Status) -> String {
    let info = error.get_details_error_info();
    info.expect("every error has a reason").reason
}
