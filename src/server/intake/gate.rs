//! Who may come in: the one place where a request is told who sends it, before anything looks at where it goes.
//!
//! What speaks gRPC is turned away here, by the table that the contract makes; the REST gateway is told who calls and says no in the words of a dialect, by
//! the same table. What lasts ends with its credential.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use super::{STREAMS, is_grpc};
use crate::{
    api::{Fault, Tried, admit, lasts, required},
    auth::{AuthError, Authenticator, Holder, Identity, Peer, Presented},
    domain::access::Permission,
    grpc::error,
    locale::Language,
    server::{standing::Standing, stream_end::EndWith},
};

/// Whether the server serves is for probes, which have no credential: in gRPC by the beginning of its paths, and over REST.
const HEALTH: &str = "/grpc.health.v1.Health/";
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// Methods of others that are served beside the contract's own, by the beginning of their paths.
const FOREIGN: [(&str, Permission); 2] = [
    (HEALTH, Permission::Open),
    ("/grpc.reflection.", Permission::Identified),
];

/// See the module.
#[derive(Clone)]
pub(super) struct Gate {
    authenticator: Authenticator,
    /// Who is at the other end of the connection.
    peer: Option<Arc<Peer>>,
    /// What the connection has shown.
    standing: Arc<Standing>,
}

/// What becomes of a request.
pub(super) enum Entry {
    /// It goes in, and its answer ends with the credential if that may end.
    In(Option<Stay>),
    /// It does not.
    Out(Response),
}

/// How long an answer may last.
pub(super) struct Stay {
    ended: CancellationToken,
    is_grpc: bool,
}

impl Gate {
    pub(super) fn new(authenticator: Authenticator) -> Self {
        Self {
            authenticator,
            peer: None,
            standing: Arc::default(),
        }
    }

    /// For a connection from there.
    pub(super) fn of(&self, peer: Peer, standing: Arc<Standing>) -> Self {
        Self {
            authenticator: self.authenticator.clone(),
            peer: Some(peer.into()),
            standing,
        }
    }

    /// What a request brings to say who sends it.
    pub(super) fn presented(&self, headers: &HeaderMap) -> Presented {
        Presented::of(headers, self.peer.as_deref())
    }

    /// Who sends it, if that is known at once.
    pub(super) fn recall(&self, presented: &Presented) -> Option<Found> {
        self.authenticator.recall(presented)
    }

    /// Who sends it.
    pub(super) async fn find(&self, presented: &Presented) -> Found {
        self.authenticator.find(presented).await
    }

    /// Tells a request who sends it.
    pub(super) fn admit(&self, request: &mut Request<Body>, found: Found) -> Entry {
        let is_grpc = is_grpc(request);
        let path = request.uri().path();
        let is_connected = match &found {
            Ok(holder) => self.standing.let_in(&holder.allowance),
            Err(_) => {
                if PROBES.contains(&path) || is_grpc && path.starts_with(HEALTH) {
                    self.standing.probe();
                }
                Ok(())
            }
        };
        let identity = Identity {
            holder: found,
            is_connected,
            peer: self.peer.clone(),
            denials: self.authenticator.denials(),
        };
        if is_grpc && let Err(fault) = turn_away(&identity, request) {
            return Entry::Out(said_in_grpc(&fault));
        }
        let ended = match &identity.holder {
            Ok(holder) if !is_grpc || lasts(path) => holder.end().cloned(),
            Ok(_) | Err(_) => None,
        };
        if let Some(ended) = ended.as_ref().filter(|_| STREAMS.contains(&path)) {
            // Its sender may never read that the answer has ended, and go on.
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Body::new(EndWith::at_once(body, ended.clone(), None));
        }
        request.extensions_mut().insert(identity);
        Entry::In(ended.map(|ended| Stay { ended, is_grpc }))
    }
}

/// Who was found, or why nobody was.
pub(super) type Found = Result<Arc<Holder>, AuthError>;

/// Why a gRPC call is turned away, if it is.
fn turn_away(identity: &Identity, request: &Request<Body>) -> Result<(), Fault> {
    let path = request.uri().path();
    let foreign = FOREIGN.iter().find(|(begin, _)| path.starts_with(begin));
    let foreign = foreign.map(|(_, permission)| *permission);
    // What nobody serves is nobody's business who is not known.
    let asked = required(path).or(foreign).unwrap_or(Permission::Identified);
    let request_id = request.headers().get("x-request-id");
    let tried = Tried {
        action: path.rsplit('/').next().unwrap_or_default(),
        target: "",
        request_id: request_id.and_then(|id| id.to_str().ok()),
    };
    match asked {
        Permission::Open => Ok(()),
        permission => admit(identity, permission, tried).map(drop),
    }
}

fn said_in_grpc(fault: &Fault) -> Response {
    let response: http::Response<Body> = error::status(fault, Language::English).into_http();
    response
}

impl Stay {
    /// The answer, which ends when the credential does.
    pub(super) async fn bounds(self, answer: impl Future<Output = Response>) -> Response {
        let response = tokio::select! {
            biased;
            response = answer => response,
            () = self.ended.cancelled() => return self.refusal(),
        };
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let farewell = self.is_grpc.then(|| {
            let mut farewell = HeaderMap::new();
            let status = error::status(&AuthError::Invalid.into(), Language::English);
            // A status without a form in headers ends the stream all the same.
            let _ = status.add_header(&mut farewell);
            farewell
        });
        response.map(|body| Body::new(EndWith::at_once(body, self.ended, farewell)))
    }

    fn refusal(&self) -> Response {
        if self.is_grpc {
            return said_in_grpc(&AuthError::Invalid.into());
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge =
            HeaderValue::from_static("Bearer realm=\"longhaul\", error=\"invalid_token\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        response
    }
}
