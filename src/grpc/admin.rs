//! `AdminService`.

use futures_util::{StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{
    accept,
    error::{answer, status},
    service::admin_service_server::AdminService,
};
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
        let (caller, request) = accept(request)?;
        let answered = self.api.get_server_info(&caller, request).await;
        answer(answered, caller.language)
    }

    async fn pause_driver(
        &self,
        request: Request<v1::PauseDriverRequest>,
    ) -> Result<Response<v1::PauseDriverResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.pause_driver(&caller, request).await,
            caller.language,
        )
    }

    async fn resume_driver(
        &self,
        request: Request<v1::ResumeDriverRequest>,
    ) -> Result<Response<v1::ResumeDriverResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.resume_driver(&caller, request).await,
            caller.language,
        )
    }

    async fn get_caller(
        &self,
        request: Request<v1::GetCallerRequest>,
    ) -> Result<Response<v1::GetCallerResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.get_caller(&caller, request).await, caller.language)
    }

    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.create_tenant(&caller, request).await,
            caller.language,
        )
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.list_tenants(request).await, caller.language)
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::UpdateTenantResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.update_tenant(&caller, request).await,
            caller.language,
        )
    }

    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.create_key(&caller, request).await, caller.language)
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.list_keys(&caller, request).await, caller.language)
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.revoke_key(&caller, request).await, caller.language)
    }

    async fn rotate_data_keys(
        &self,
        request: Request<v1::RotateDataKeysRequest>,
    ) -> Result<Response<v1::RotateDataKeysResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.rotate_data_keys(&caller, request).await,
            caller.language,
        )
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.list_audit(&caller, request).await, caller.language)
    }

    type WatchAuditStream = BoxStream<'static, Result<v1::WatchAuditResponse, Status>>;

    async fn watch_audit(
        &self,
        request: Request<v1::WatchAuditRequest>,
    ) -> Result<Response<Self::WatchAuditStream>, Status> {
        let (caller, request) = accept(request)?;
        let language = caller.language;
        let records = self.api.watch_audit(&caller, request).await;
        let records = records.map(|records| {
            let records = records.map(move |r| r.map_err(|fault| status(&fault, language)));
            records.boxed()
        });
        answer(records, language)
    }
}
