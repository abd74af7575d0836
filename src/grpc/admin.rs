//! `AdminService`.

use tonic::{Request, Response, Status};

use super::{
    MAX_MESSAGE_BYTES, admit::Fields, error::status, render,
    service::admin_service_server::AdminService,
};
use crate::{
    domain::{limits, submission::is_driver},
    engine::Engine,
    proto::v1,
};

/// What the server knows of itself besides the engine.
#[derive(Clone, Copy, Debug)]
pub struct ServerFacts {
    /// How long open calls have to end when it stops.
    pub drain_timeout: std::time::Duration,
}

/// Serves `AdminService`.
pub struct Admin {
    engine: Engine,
    facts: ServerFacts,
}

impl Admin {
    /// On an engine.
    pub fn new(engine: Engine, facts: ServerFacts) -> Self {
        Self { engine, facts }
    }

    fn limits(&self) -> v1::Limits {
        let settings = self.engine.settings();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        v1::Limits {
            max_tasks_per_job: number(limits::MAX_TASKS),
            max_job_bytes: number(limits::MAX_JOB_BYTES),
            max_batch_jobs: number(limits::MAX_BATCH_JOBS),
            max_message_bytes: number(MAX_MESSAGE_BYTES),
            max_page_size: number(limits::MAX_PAGE),
            lease_duration: Some(render::span(settings.policy.lease_duration)),
            heartbeat_interval: Some(render::span(settings.heartbeat_interval)),
            max_lost_leases: settings.policy.max_lost_leases,
            cancel_grace: Some(render::span(settings.policy.cancel_grace)),
            retention: Some(render::span(settings.policy.retention)),
            drain_timeout: Some(render::span(self.facts.drain_timeout)),
        }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let paused = self.engine.paused_drivers().await.map_err(status)?;
        let (commits, committed_changes) = self.engine.committed();
        let connected = self.engine.connected_drivers().await.map_err(status)?;
        Ok(Response::new(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_versions: vec!["longhaul.v1".to_owned()],
            store: self.engine.store_info().name.clone(),
            start_time: Some(render::time(self.engine.start_time())),
            limits: Some(self.limits()),
            paused_drivers: paused
                .into_iter()
                .map(|(driver, since, reason)| v1::PausedDriver {
                    driver: driver.to_string(),
                    reason,
                    pause_time: Some(render::time(since)),
                })
                .collect(),
            connected_drivers: connected.iter().map(ToString::to_string).collect(),
            commits,
            committed_changes,
        }))
    }

    async fn pause_driver(
        &self,
        request: Request<v1::PauseDriverRequest>,
    ) -> Result<Response<v1::PauseDriverResponse>, Status> {
        let v1::PauseDriverRequest { driver, reason } = request.into_inner();
        let mut fields = Fields::default();
        check_driver(&mut fields, &driver);
        fields.line("reason", &reason);
        fields.check()?;
        self.engine
            .pause_driver(&driver, reason)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::PauseDriverResponse {}))
    }

    async fn resume_driver(
        &self,
        request: Request<v1::ResumeDriverRequest>,
    ) -> Result<Response<v1::ResumeDriverResponse>, Status> {
        let v1::ResumeDriverRequest { driver } = request.into_inner();
        let mut fields = Fields::default();
        check_driver(&mut fields, &driver);
        fields.check()?;
        self.engine.resume_driver(&driver).await.map_err(status)?;
        Ok(Response::new(v1::ResumeDriverResponse {}))
    }
}

fn check_driver(fields: &mut Fields, driver: &str) {
    if !is_driver(driver) {
        fields.bad("driver", "must be 1 to 128 characters of [A-Za-z0-9_.-]");
    }
}
