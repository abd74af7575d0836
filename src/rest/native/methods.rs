//! The methods of the API by name, on encoded messages.

use futures_util::future::BoxFuture;
use prost::Message;

use crate::{
    api::{Api, Caller, Fault},
    proto::v1,
};

/// Answers an encoded request with an encoded answer.
pub(super) type Unary = fn(Api, Caller, Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, Fault>>;

macro_rules! methods {
    ($($name:literal => $method:ident($request:ident $(, $caller:ident)?);)+) => {
        /// The unary method of this full name.
        pub(super) fn unary(name: &str) -> Option<Unary> {
            match name {
                $(concat!("longhaul.v1.", $name) => Some(|api, _caller, request| {
                    Box::pin(async move {
                        let request = decode::<v1::$request>(&request)?;
                        $(let $caller = &_caller;)?
                        let answer = api.$method($($caller,)? request).await?;
                        Ok(answer.encode_to_vec())
                    })
                }),)+
                _ => None,
            }
        }
    };
}

methods! {
    "JobService.Submit" => submit(SubmitRequest, caller);
    "JobService.SubmitBatch" => submit_batch(SubmitBatchRequest, caller);
    "JobService.Get" => get(GetRequest, caller);
    "JobService.List" => list(ListRequest, caller);
    "JobService.Wait" => wait(WaitRequest, caller);
    "JobService.Cancel" => cancel(CancelRequest, caller);
    "JobService.Retry" => retry(RetryRequest, caller);
    "JobService.Delete" => delete(DeleteRequest, caller);
    "JobService.ListEvents" => list_events(ListEventsRequest, caller);
    "JobService.Explain" => explain(ExplainRequest, caller);
    "JobService.GetCounts" => get_counts(GetCountsRequest, caller);
    "WorkerService.Acquire" => acquire(AcquireRequest, caller);
    "WorkerService.Report" => report(ReportRequest, caller);
    "AdminService.GetServerInfo" => get_server_info(GetServerInfoRequest, caller);
    "AdminService.PauseDriver" => pause_driver(PauseDriverRequest, caller);
    "AdminService.ResumeDriver" => resume_driver(ResumeDriverRequest, caller);
    "AdminService.GetCaller" => get_caller(GetCallerRequest, caller);
    "AdminService.CreateTenant" => create_tenant(CreateTenantRequest, caller);
    "AdminService.ListTenants" => list_tenants(ListTenantsRequest);
    "AdminService.UpdateTenant" => update_tenant(UpdateTenantRequest, caller);
    "AdminService.CreateKey" => create_key(CreateKeyRequest, caller);
    "AdminService.ListKeys" => list_keys(ListKeysRequest, caller);
    "AdminService.RevokeKey" => revoke_key(RevokeKeyRequest, caller);
    "AdminService.RotateDataKeys" => rotate_data_keys(RotateDataKeysRequest, caller);
    "AdminService.ListAudit" => list_audit(ListAuditRequest, caller);
}

/// A message from its encoded form.
pub(super) fn decode<M: Message + Default>(request: &[u8]) -> Result<M, Fault> {
    M::decode(request).map_err(|error| Fault::malformed(&error))
}
