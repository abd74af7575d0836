//! A database for one test.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{Cluster, USER};

/// An empty database that belongs to [`USER`], who is nobody special.
pub struct Database {
    cluster: Arc<Cluster>,
    name: String,
    kept: bool,
}

impl Database {
    /// On the server that the tests of this process share; gone when it is dropped.
    pub fn fresh() -> Self {
        let mut database = Cluster::shared().database();
        database.kept = false;
        database
    }

    /// On this server; gone with it.
    pub(super) fn on(cluster: Arc<Cluster>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        cluster.sql(&format!(
            "CREATE DATABASE {name} OWNER {USER} TEMPLATE template0"
        ));
        Self {
            cluster,
            name,
            kept: true,
        }
    }

    /// Where it is, with user and password.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// Where it is by this name of the server, with user and password.
    pub fn url_at(&self, host: &str) -> String {
        self.url_as(&format!("{USER}:{}", self.password()), host)
    }

    /// Where it is, with a user but no password.
    pub fn url_without_password(&self) -> String {
        self.url_as(USER, "127.0.0.1")
    }

    /// Where it is for this user (`USER` or `USER:PASSWORD`), by this name of the server.
    pub fn url_as(&self, user: &str, host: &str) -> String {
        let port = self.cluster.port();
        format!("postgres://{user}@{host}:{port}/{}", self.name)
    }

    /// The password of [`USER`].
    pub fn password(&self) -> &str {
        &self.cluster.password
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is on.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Runs one statement as the superuser: a line for each row, its columns divided by `|`.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        self.cluster
            .psql(&self.name, statement)
            .unwrap_or_else(|error| panic!("{statement}\n{error}"))
    }

    /// Cuts its connections of this `application_name`; how many there were.
    pub fn kill_backends(&self, application_name: &str) -> usize {
        let killed = self.sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND application_name = '{application_name}'",
            self.name
        ));
        killed.lines().filter(|line| *line == "t").count()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !self.kept {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            // Only disk is lost, and that until the process ends.
            let _ = self.cluster.psql("postgres", &drop);
        }
    }
}
