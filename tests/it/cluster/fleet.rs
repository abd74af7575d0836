//! Three nodes and their database, and what can be done to them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use longhaul::client::Client;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use super::{
    coming,
    plan::{Blow, Plan},
};
use crate::{
    harness::Server,
    load::history::{Fact, History},
    postgres::{Cluster, Database},
};

pub const NODES: usize = 3;
/// How long a lease lasts here.
pub const LEASE: Duration = Duration::from_secs(2);
/// Leases are lost on purpose here; nobody is to be punished for it.
const FLAGS: [&str; 8] = [
    "--lease-duration",
    "2s",
    "--heartbeat-interval",
    "500ms",
    "--max-lost-leases",
    "1000000",
    "--log-level",
    "warn",
];
/// Blows that may be under way at once.
const AT_ONCE: usize = 3;
/// The pause before somebody is looked for again who is to listen.
const LISTENER_PAUSE: Duration = Duration::from_millis(50);
/// Cuts off those that wait for notifications, and counts them.
const CUT_LISTENERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE datname = current_database() AND query ILIKE 'LISTEN%' AND pid <> pg_backend_pid()";

/// Nodes on one database. All methods that take long may overlap; each node, and the database, suffers one blow at a time.
pub struct Fleet {
    nodes: Vec<Mutex<Server>>,
    endpoints: Vec<String>,
    database: Arc<Database>,
    turn: Mutex<()>,
}

impl Fleet {
    /// On a database of the server that tests share, which nobody harms.
    pub async fn start() -> Self {
        let database = spawn_blocking(Database::fresh).await.unwrap();
        let url = database.url_without_password();
        Self::on(database, &url).await
    }

    /// On a database server of its own.
    pub async fn start_on(cluster: Arc<Cluster>) -> Self {
        let database = spawn_blocking(move || cluster.database()).await.unwrap();
        let url = database.url_without_password();
        Self::on(database, &url).await
    }

    /// On a database that is reached by this URL. All nodes start at once, and find it empty.
    pub async fn on(database: Database, url: &str) -> Self {
        let start = || Server::start_node(url, database.password(), &FLAGS);
        let nodes = join_all((0..NODES).map(|_| start())).await;
        Self {
            endpoints: nodes.iter().map(Server::endpoint).collect(),
            nodes: nodes.into_iter().map(Mutex::new).collect(),
            database: Arc::new(database),
            turn: Mutex::new(()),
        }
    }

    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// A client of each node.
    pub fn clients(&self) -> [Client; NODES] {
        let connect = |endpoint: &String| Client::connect_lazy(endpoint).unwrap();
        let clients: Vec<_> = self.endpoints.iter().map(connect).collect();
        clients.try_into().unwrap()
    }

    pub async fn node(&self, number: usize) -> MutexGuard<'_, Server> {
        self.nodes[number].lock().await
    }

    /// Does something with the database server that takes a moment.
    pub async fn with_database<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Database) -> T + Send + 'static,
    ) -> T {
        let _turn = self.turn.lock().await;
        let database = Arc::clone(&self.database);
        spawn_blocking(move || act(&database)).await.unwrap()
    }

    /// One blow after the other, some of them at once, until all are over.
    pub async fn suffer(self: &Arc<Self>, plan: Plan, history: &History) {
        let mut under_way = JoinSet::new();
        for (pause, blow) in plan {
            sleep(pause).await;
            while under_way.len() >= AT_ONCE {
                ended(&mut under_way).await;
            }
            let (fleet, history) = (Arc::clone(self), history.clone());
            under_way.spawn(async move {
                let note = |blow, is_over| history.note(Fact::Struck { blow, is_over });
                let what = format!("{blow:?}");
                note(what.clone(), false);
                fleet.strike(blow).await;
                note(what, true);
            });
        }
        while !under_way.is_empty() {
            ended(&mut under_way).await;
        }
    }

    async fn strike(&self, blow: Blow) {
        match blow {
            Blow::Kill { node, down } => {
                let mut server = self.nodes[node].lock().await;
                server.kill9().await;
                sleep(down).await;
                server.restart_until_it_serves().await;
            }
            Blow::Freeze { node } => {
                let server = self.nodes[node].lock().await;
                server.freeze();
                sleep(LEASE * 2).await;
                server.thaw();
            }
            Blow::Crash => {
                self.with_database(|database| database.cluster().restart_immediately())
                    .await;
            }
            Blow::Cut => coming("somebody who listens", self.cut_listeners()).await,
        }
    }

    /// Cuts those who listen; they may be about to come back from the last time.
    async fn cut_listeners(&self) {
        let cut = || self.with_database(|database| database.sql(CUT_LISTENERS));
        while cut().await == "0" {
            sleep(LISTENER_PAUSE).await;
        }
    }

    /// Drains all nodes, and fails if one was ever refused a connection to the database for want of room.
    pub async fn stop(self: Arc<Self>) {
        let fleet = Arc::into_inner(self).expect("all blows are over");
        let log = fleet.database.cluster().log();
        for server in fleet.nodes {
            let server = server.into_inner();
            assert_room("node", &server.logs());
            server.stop().await;
        }
        assert_room("PostgreSQL", &log);
    }
}

/// Waits for a blow to be over.
async fn ended(blows: &mut JoinSet<()>) {
    if let Some(ended) = blows.join_next().await {
        ended.unwrap();
    }
}

/// PostgreSQL says so in two ways: the last connections are for superusers.
fn assert_room(who: &str, log: &str) {
    for refusal in ["too many clients", "remaining connection slots"] {
        let line = log.lines().find(|line| line.contains(refusal));
        assert_eq!(line, None, "{who} found no room");
    }
}
