//! How requests come in: the service of a connection, in front of every route and for every protocol.
//!
//! A method waits for its message for as long as it takes, and holds what there is of it; so the body of each request has an end of its own, and all
//! that are not complete share a bounded room. Both are set here.

mod body;
mod framing;
mod gate;
mod room;

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};
use http::{Request, StatusCode, Version, header};
use hyper::{body::Incoming, service::Service};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use self::{
    body::{Bounds, RequestBody},
    gate::{Entry, Found, Gate},
    room::Room,
};
use super::{routes::Front, standing::Standing};
use crate::{
    api::BodyError,
    auth::{Authenticator, Peer},
    grpc::error,
    locale::Language,
};

/// Methods whose requests are streams for as long as the caller likes: a worker's has a clock of its own, and reflection's end with the answers.
const STREAMS: [&str; 3] = [
    "/longhaul.v1.WorkerService/Work",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The service of connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Intake {
    front: Front,
    bounds: Arc<Bounds>,
    gate: Gate,
}

impl Intake {
    /// After `draining`, requests that are not complete are not waited for any more.
    pub(super) fn new(
        front: Front,
        authenticator: Authenticator,
        draining: CancellationToken,
    ) -> Self {
        let room = Room::default();
        Self {
            front,
            bounds: Arc::new(Bounds { draining, room }),
            gate: Gate::new(authenticator),
        }
    }

    /// For a connection from there.
    pub(super) fn of(&self, peer: Peer, standing: Arc<Standing>) -> Self {
        Self {
            front: self.front.clone(),
            bounds: Arc::clone(&self.bounds),
            gate: self.gate.of(peer, standing),
        }
    }
}

type Answer = <Front as tower::Service<Request<Body>>>::Future;
/// An answer that does not come from the front at once.
type Other = BoxFuture<'static, Result<Response, Infallible>>;

impl Service<Request<Incoming>> for Intake {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Answer, Other>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_grpc = is_grpc(&request);
        if is_grpc && request.version() < Version::HTTP_2 {
            return Either::Right(ready(Ok(needs_http_2())).boxed());
        }
        let is_stream = is_grpc && STREAMS.contains(&request.uri().path());
        let bounds = Arc::clone(&self.bounds);
        let request = request.map(|body| {
            Body::new(match (is_grpc, is_stream) {
                (_, true) => RequestBody::stream(body, bounds, in_grpc),
                (true, false) => RequestBody::whole(body, bounds, in_grpc),
                (false, false) => RequestBody::whole(body, bounds, in_general),
            })
        });
        let presented = self.gate.presented(request.headers());
        match self.gate.recall(&presented) {
            Some(found) => self.admit(request, found),
            None => {
                let intake = self.clone();
                let answer = async move {
                    let found = intake.gate.find(&presented).await;
                    intake.admit(request, found).await
                };
                Either::Right(answer.boxed())
            }
        }
    }
}

impl Intake {
    /// Lets a request in, or not.
    fn admit(&self, mut request: Request<Body>, found: Found) -> Either<Answer, Other> {
        let stay = match self.gate.admit(&mut request, found) {
            Entry::Out(response) => return Either::Right(ready(Ok(response)).boxed()),
            Entry::In(stay) => stay,
        };
        // It is always ready.
        let answer = self.front.clone().call(request);
        match stay {
            None => Either::Left(answer),
            Some(stay) => Either::Right(stay.bounds(answer.map(whole)).map(Ok).boxed()),
        }
    }
}

/// An answer is always whole: what went wrong is in it.
fn whole(answer: Result<Response, Infallible>) -> Response {
    let Ok(response) = answer;
    response
}

/// Whether the caller speaks gRPC.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// In HTTP/1 no status would ever arrive: it comes after the answer, in trailers.
fn needs_http_2() -> Response {
    let text = "gRPC needs HTTP/2, and this call came over HTTP/1: let the client, and each proxy between, speak HTTP/2\n";
    (StatusCode::HTTP_VERSION_NOT_SUPPORTED, text).into_response()
}

/// As tonic takes it for an answer.
fn in_grpc(error: BodyError) -> axum::BoxError {
    error::status(&error.into(), Language::English).into()
}

/// As whoever reads the body can recognise it.
fn in_general(error: BodyError) -> axum::BoxError {
    error.into()
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto::DESCRIPTORS;

    #[test]
    fn every_method_that_takes_a_stream_is_known() {
        let of = |descriptors: &[u8]| {
            let pool = DescriptorPool::decode(descriptors).expect("descriptors");
            let methods = pool.services().flat_map(|service| {
                let methods = service.methods().filter(|m| m.is_client_streaming());
                let paths = methods.map(|m| format!("/{}/{}", service.full_name(), m.name()));
                paths.collect::<Vec<_>>()
            });
            methods.collect::<Vec<_>>()
        };
        let served = [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut served: Vec<_> = served.into_iter().flat_map(of).collect();
        served.sort();
        let mut known = STREAMS.to_vec();
        known.sort();
        assert_eq!(served, known);
    }
}
