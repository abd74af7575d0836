//! What is served: the gRPC services, health and reflection to those who speak gRPC, the REST gateway to everybody else.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::routing::future::RouteFuture;
use axum::{Router, extract::State, middleware::Next};
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, FutureExt as _, Map};
use http::{Request, Uri};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{body::Body, server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service;

use super::{intake::is_grpc, stream_end::EndWith};
use crate::{
    api::{Api, MAX_MESSAGE_BYTES},
    grpc::{
        Admin, Jobs, Workers, error,
        service::{
            admin_service_server::AdminServiceServer, job_service_server::JobServiceServer,
            worker_service_server::WorkerServiceServer,
        },
    },
    proto::DESCRIPTORS,
    rest::Gateway,
};

/// The readiness of all services.
#[derive(Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
}

/// Names under which readiness is asked for; the empty one is the server as a whole.
const NAMES: [&str; 4] = [
    "",
    JobServiceServer::<Jobs>::NAME,
    WorkerServiceServer::<Workers>::NAME,
    AdminServiceServer::<Admin>::NAME,
];

impl Health {
    async fn set(&self, status: ServingStatus) {
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// The server is about to go.
    pub(super) async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Says that nothing can be served while the store can not be reached; for as long as it is polled.
    pub(super) async fn follow(self, mut reached: watch::Receiver<bool>) {
        loop {
            let status = match *reached.borrow_and_update() {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            self.set(status).await;
            if reached.changed().await.is_err() {
                return;
            }
        }
    }
}

/// All of gRPC on one router.
pub(super) async fn build(
    api: &Api,
    draining: &CancellationToken,
    streams: &TaskTracker,
) -> Result<(Router, Health), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Their streams end only when the caller wishes, so they are ended here.
    let foreign = Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .into_axum_router()
        .reset_fallback()
        .layer(axum::middleware::from_fn_with_state(
            draining.clone(),
            end_when_draining,
        ));
    let jobs =
        JobServiceServer::new(Jobs::new(api.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let workers = WorkerServiceServer::new(Workers::new(api.clone(), streams.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let admin = AdminServiceServer::new(Admin::new(api.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let router = Routes::new(jobs)
        .add_service(workers)
        .add_service(admin)
        .into_axum_router()
        .reset_fallback()
        .merge(foreign)
        .fallback(unknown)
        .layer(axum::middleware::map_response(name_foreign_errors));
    let health = Health { reporter };
    health.set(ServingStatus::Serving).await;
    Ok((router, health))
}

type Response = http::Response<axum::body::Body>;

/// Ends the response when the server goes, and the request with the response: reflection reads requests in a task of its own, which would stay.
async fn end_when_draining(
    State(draining): State<CancellationToken>,
    request: Request<axum::body::Body>,
    next: Next,
) -> Response {
    let answered = CancellationToken::new();
    let end = answered.clone();
    let request = request.map(|body| axum::body::Body::new(EndWith::request(body, end)));
    let response = next.run(request).await;
    response.map(|body| axum::body::Body::new(EndWith::response(body, draining, answered)))
}

/// Errors that tonic finds by itself, before any method of ours sees the call, as we say them.
async fn name_foreign_errors(uri: Uri, mut response: Response) -> Response {
    let Some(status) = tonic::Status::from_header_map(response.headers()) else {
        return response;
    };
    // tonic has no words for a method that a service does not have.
    let status = match status.code() {
        tonic::Code::Unimplemented if status.message().is_empty() => no_method(uri.path()),
        _ => status,
    };
    if status.code() != tonic::Code::Ok {
        // A status that has no form in headers stays as it was.
        let _ = error::foreign(status).add_header(response.headers_mut());
    }
    response
}

fn no_method(path: &str) -> tonic::Status {
    tonic::Status::unimplemented(format!(
        "there is no method {path}; list what there is with server reflection"
    ))
}

/// A method that is not served.
async fn unknown(uri: Uri) -> Response {
    let response: http::Response<Body> = no_method(uri.path()).into_http();
    response.map(axum::body::Body::new)
}

/// An answer is always whole: what went wrong is in it.
type Whole = fn(Response) -> Result<Response, Infallible>;

/// Parts gRPC from the rest by the type of the request's content.
#[derive(Clone)]
pub(super) struct Front {
    grpc: Router,
    rest: Gateway,
}

impl Front {
    pub(super) fn new(grpc: Router, rest: Gateway) -> Self {
        Self { grpc, rest }
    }
}

impl<B> Service<Request<B>> for Front
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Map<BoxFuture<'static, Response>, Whole>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_grpc(&request) {
            return Either::Left(self.grpc.call(request));
        }
        let answer = self.rest.clone().answer(request.map(axum::body::Body::new));
        Either::Right(answer.map(Ok as Whole))
    }
}
