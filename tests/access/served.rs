//! Servers that ask for credentials, on each store.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use longhaul::{
    auth::AuthSettings,
    server::{self, RunningServer, ServeSettings},
    store::Store,
    vault::{MasterKeySource, MasterKeys},
};
use prost::Message;
use tempfile::TempDir;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    fixture::{Opened, Place, database},
    wire::{Ask, Wire},
};

/// For what is not to run out while a slow machine thinks.
const HOUR: Duration = Duration::from_secs(3_600);

/// A route in each dialect.
pub const ROUTES: [(&str, &str); 4] = [
    ("native", "/routed/{id}"),
    ("aiqum", "/api/storage-provider/luns/{id}"),
    ("deploy", "/api/v3/hosts/{id}"),
    ("nse", "/v2.1/objectstorage/buckets/{id}"),
];

static ROUTE_FILES: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let routes = ROUTES.map(|(dialect, path)| {
        format!(
            "[[route]]\ndialect = \"{dialect}\"\nmatch = \"POST {path}\"\naction = \"create\"\n\n[[route.task]]\ndriver = \"maker\"\n\n"
        )
    });
    std::fs::write(folder.path().join("routes.toml"), routes.concat()).unwrap();
    folder
});

/// Where the servers are, in the order in which tests name them.
#[derive(Clone, Copy, Debug)]
pub enum On {
    Memory,
    Sqlite,
    Postgres,
    TwoNodes,
}

/// The service, by one node or two.
pub struct Served {
    servers: Vec<RunningServer>,
    pub wires: Vec<Wire>,
    /// The key that the first of them made; empty if they ask for none.
    pub first_key: String,
    // Last: they go when the servers have gone.
    _places: Vec<Place>,
}

impl Served {
    pub async fn on(on: On) -> Self {
        Self::by(opened(on).await, settings()).await
    }

    /// As everybody's own.
    pub async fn without_auth(on: On) -> Self {
        let settings = ServeSettings {
            auth: AuthSettings::default(),
            ..settings()
        };
        Self::by(opened(on).await, settings).await
    }

    pub async fn by(nodes: Vec<Opened>, settings: ServeSettings) -> Self {
        let mut served = Self {
            servers: Vec::new(),
            wires: Vec::new(),
            first_key: String::new(),
            _places: Vec::new(),
        };
        for Opened { store, place } in nodes {
            let (server, first_key) = start(settings.clone(), store).await;
            if served.servers.is_empty() {
                served.first_key = first_key.unwrap_or_default();
            } else {
                assert_eq!(first_key, None, "there is one already");
            }
            served.wires.push(Wire::to(server.local_addr()).await);
            served.servers.push(server);
            served._places.push(place);
        }
        served
    }

    pub async fn stop(self) {
        drop(self.wires);
        for server in self.servers {
            server.drain().await.unwrap();
        }
    }

    pub fn wire(&self) -> &Wire {
        &self.wires[0]
    }

    /// The last node, which is another one if there are two.
    pub fn other_wire(&self) -> &Wire {
        self.wires.last().unwrap()
    }

    /// A call of a method that answers once.
    pub async fn call<A: Message + Default>(
        &self,
        key: &str,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Status> {
        call(self.wire(), key, path, request).await
    }
}

/// A call of a method that answers once, such as `JobService/Get`.
pub async fn call<A: Message + Default>(
    wire: &Wire,
    key: &str,
    path: &str,
    request: &impl Message,
) -> Result<A, Status> {
    let ask = Ask::grpc(&format!("/longhaul.v1.{path}"), &request.encode_to_vec()).key(key);
    wire.ask(&ask, false).await.message()
}

pub fn settings() -> ServeSettings {
    ServeSettings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        lease_duration: HOUR,
        heartbeat_interval: HOUR,
        cancel_grace: HOUR,
        master_key: MasterKeySource::Given(MasterKeys::of([7; 32])),
        routes: Some(ROUTE_FILES.path().to_owned()),
        auth: AuthSettings {
            is_required: true,
            ..AuthSettings::default()
        },
        ..ServeSettings::default()
    }
}

pub async fn opened(on: On) -> Vec<Opened> {
    match on {
        On::Memory => vec![Opened::in_memory()],
        On::Sqlite => vec![Opened::in_sqlite()],
        On::Postgres => vec![Opened::in_postgres_at(&Arc::new(database())).await],
        On::TwoNodes => {
            let database = Arc::new(database());
            let one = Opened::in_postgres_at(&database).await;
            vec![one, Opened::in_postgres_at(&database).await]
        }
    }
}

pub async fn start(
    settings: ServeSettings,
    store: Arc<dyn Store>,
) -> (RunningServer, Option<String>) {
    let mut server = server::start_on(settings, store).await.unwrap();
    let first_key = server.take_first_key();
    (server, first_key)
}

/// The word for programs in an error.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.unwrap_or_else(|| panic!("every error has a reason: {status:?}"))
        .reason
}

/// Makes of a test one for each store.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod on_memory { $(crate::served::on_each_store!(@one $test, Memory);)+ }
        mod on_sqlite { $(crate::served::on_each_store!(@one $test, Sqlite);)+ }
        mod on_postgres { $(crate::served::on_each_store!(@one $test, Postgres);)+ }
        mod on_two_nodes { $(crate::served::on_each_store!(@one $test, TwoNodes);)+ }
    };
    (@one $test:ident, $on:ident) => {
        #[tokio::test]
        async fn $test() {
            super::$test(crate::served::On::$on).await;
        }
    };
}
pub(crate) use on_each_store;
