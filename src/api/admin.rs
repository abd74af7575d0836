//! `AdminService`.

use super::{
    Api, Caller, Fault, MAX_MESSAGE_BYTES,
    fields::{Fields, driver_name},
    render,
};
use crate::{
    domain::{access::Permission, limits, submission::is_driver},
    proto::v1,
};

impl Api {
    /// `GetServerInfo`.
    pub(crate) async fn get_server_info(
        &self,
        caller: &Caller,
        _request: v1::GetServerInfoRequest,
    ) -> Result<v1::GetServerInfoResponse, Fault> {
        let paused = self.engine.paused_drivers().await?;
        // What all tenants do together is nobody's business but the operator's.
        let (commits, committed_changes) = match caller.holder.principal.may(Permission::Operate) {
            true => self.engine.committed(),
            false => (0, 0),
        };
        let connected = self.engine.connected_drivers(&caller.tenant).await?;
        Ok(v1::GetServerInfoResponse {
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
        })
    }

    /// `PauseDriver`.
    pub(crate) async fn pause_driver(
        &self,
        caller: &Caller,
        request: v1::PauseDriverRequest,
    ) -> Result<v1::PauseDriverResponse, Fault> {
        let v1::PauseDriverRequest { driver, reason } = request;
        let mut fields = Fields::default();
        check_driver(&mut fields, &driver);
        fields.line("reason", &reason);
        fields.check()?;
        let actor = Some(caller.actor());
        self.engine.pause_driver(&driver, reason, actor).await?;
        Ok(v1::PauseDriverResponse {})
    }

    /// `ResumeDriver`.
    pub(crate) async fn resume_driver(
        &self,
        caller: &Caller,
        request: v1::ResumeDriverRequest,
    ) -> Result<v1::ResumeDriverResponse, Fault> {
        let v1::ResumeDriverRequest { driver } = request;
        let mut fields = Fields::default();
        check_driver(&mut fields, &driver);
        fields.check()?;
        let actor = Some(caller.actor());
        self.engine.resume_driver(&driver, actor).await?;
        Ok(v1::ResumeDriverResponse {})
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

fn check_driver(fields: &mut Fields, driver: &str) {
    if !is_driver(driver) {
        fields.bad("driver", driver_name());
    }
}
