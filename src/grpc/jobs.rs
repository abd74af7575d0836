//! `JobService`.

use futures_util::{StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{
    accept,
    error::{answer, status},
    service::job_service_server::JobService,
    watch::WatchJobFrames,
};
use crate::{api::Api, proto::v1};

/// Serves `JobService`.
pub struct Jobs {
    api: Api,
}

impl Jobs {
    /// On the API.
    pub fn new(api: Api) -> Self {
        Self { api }
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.submit(&caller, request).await, caller.language)
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.submit_batch(&caller, request).await,
            caller.language,
        )
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.get(&caller, request).await, caller.language)
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.list(&caller, request).await, caller.language)
    }

    type WatchJobStream = WatchJobFrames;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let (caller, request) = accept(request)?;
        let watch = self.api.watch_job(&caller, request).await;
        let language = caller.language;
        answer(
            watch.map(|watch| WatchJobFrames::new(watch, language)),
            language,
        )
    }

    type WatchJobsStream = BoxStream<'static, Result<v1::WatchJobsResponse, Status>>;

    async fn watch_jobs(
        &self,
        request: Request<v1::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let (caller, request) = accept(request)?;
        let watch = self.api.watch_jobs(&caller, request).await;
        let language = caller.language;
        let messages = watch.map(|watch| {
            let messages = watch.messages();
            let messages = messages.map(move |m| m.map_err(|fault| status(&fault, language)));
            messages.boxed()
        });
        answer(messages, language)
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<v1::WaitResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.wait(&caller, request).await, caller.language)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.cancel(&caller, request).await, caller.language)
    }

    async fn retry(
        &self,
        request: Request<v1::RetryRequest>,
    ) -> Result<Response<v1::RetryResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.retry(&caller, request).await, caller.language)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.delete(&caller, request).await, caller.language)
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(
            self.api.list_events(&caller, request).await,
            caller.language,
        )
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.explain(&caller, request).await, caller.language)
    }

    async fn get_counts(
        &self,
        request: Request<v1::GetCountsRequest>,
    ) -> Result<Response<v1::GetCountsResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.get_counts(&caller, request).await, caller.language)
    }
}
