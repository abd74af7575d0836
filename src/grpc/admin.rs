//! `AdminService`.

use tonic::{Request, Response, Status};

use super::{accept, error::answer, service::admin_service_server::AdminService};
use crate::{api::Api, proto::v1};

/// Serves `AdminService`.
pub struct Admin {
    api: Api,
}

impl Admin {
    /// On the API.
    pub fn new(api: Api) -> Self {
        Self { api }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let (caller, request) = accept(request);
        answer(self.api.get_server_info(request).await, caller.language)
    }

    async fn pause_driver(
        &self,
        request: Request<v1::PauseDriverRequest>,
    ) -> Result<Response<v1::PauseDriverResponse>, Status> {
        let (caller, request) = accept(request);
        answer(self.api.pause_driver(request).await, caller.language)
    }

    async fn resume_driver(
        &self,
        request: Request<v1::ResumeDriverRequest>,
    ) -> Result<Response<v1::ResumeDriverResponse>, Status> {
        let (caller, request) = accept(request);
        answer(self.api.resume_driver(request).await, caller.language)
    }
}
