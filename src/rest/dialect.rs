//! What a dialect is: its paths, and its words for what every dialect has to say. It has no logic of its own.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use serde_json::{Map, Value};

use super::{
    answer::Response,
    call::Call,
    openapi::{Operation, Submission},
    pages::Pages,
    polls::Polls,
    query::Query,
};
use crate::{
    api::{Api, Fault},
    domain::{Job, access::Permission},
    locale::Language,
};

/// What handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) api: Api,
    pub(super) polls: Polls,
    pub(super) pages: Pages,
}

/// Answers a request; a fault is put into the words of the endpoint's dialect.
pub(super) type Handler = Arc<
    dyn Fn(Shared, Call) -> BoxFuture<'static, Result<Response, Fault>> + Send + Sync + 'static,
>;

/// A method on a path.
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// What it asks of its caller.
    pub(super) permission: Permission,
    /// With `{name}` for what a caller puts in.
    pub(super) path: String,
    pub(super) handler: Handler,
    /// What the OpenAPI document says of it, which few ask for.
    pub(super) operation: Option<Box<dyn Fn() -> Operation + Send + Sync>>,
}

impl Endpoint {
    /// Binds a function.
    pub(super) fn new<F, A>(
        method: Method,
        permission: Permission,
        path: impl Into<String>,
        handler: F,
    ) -> Self
    where
        F: Fn(Shared, Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        Self {
            method,
            permission,
            path: path.into(),
            handler: Arc::new(move |shared, call| Box::pin(handler(shared, call))),
            operation: None,
        }
    }

    /// Says what it does.
    pub(super) fn described(
        self,
        operation: impl Fn() -> Operation + Send + Sync + 'static,
    ) -> Self {
        Self {
            operation: Some(Box::new(operation)),
            ..self
        }
    }
}

/// An error body.
pub(super) struct ErrorBody {
    pub(super) kind: HeaderValue,
    pub(super) text: String,
}

/// See the module.
pub(super) trait Dialect: Send + Sync + 'static {
    /// As routes name it.
    fn name(&self) -> &'static str;

    /// Unknown paths that begin so are answered in this dialect's words; the longest prefix wins.
    fn prefixes(&self) -> &'static [&'static str];

    /// Its paths.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// The schemas that its operations refer to, by name.
    fn schemas(&self) -> Map<String, Value>;

    /// A fault in its words; the HTTP status is `fault.reason.http()`.
    fn error(&self, fault: &Fault, language: Language) -> ErrorBody;

    /// The last touch to each of its answers, errors included: headers that they all have.
    fn sign(&self, response: Response) -> Response {
        response
    }

    /// What the OpenAPI document says of requests that become jobs: how they are answered by the three below.
    fn submission(&self) -> Submission;

    /// The 202 of a request on `path` that became this job.
    fn accepted(&self, call: &Call, job: &Job) -> Response;

    /// The 200 of such a request whose job has ended: while its caller waited, or before if it is a repeated one.
    fn completed(&self, call: &Call, job: &Job) -> Response;

    /// The dialect's own way to ask for that: takes the parameter, and says how long to wait; zero is not at all.
    fn patience(&self, query: &mut Query) -> Option<Duration>;
}
