//! Finds what answers a request, and puts what went wrong into the words of the dialect that was spoken.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts};
use matchit::Router;

use super::{
    aiqum::{Aiqum, Face},
    answer::{self, Response},
    body,
    call::{self, Call, unescaped},
    deploy::Deploy,
    dialect::{Dialect, Endpoint, Handler, Shared},
    health,
    hosts::Hosts,
    native::Native,
    nse::Nse,
    openapi::Document,
    pages::Pages,
    polls::Polls,
    query::{Query, not_text},
    reference,
    routes::{self, PathFault, Routes, RoutesError},
    submit,
};
use crate::{
    api::{Api, Caller, Fault, Reason},
    domain::{
        access::Permission,
        wording::{Sentence, sentence},
    },
    locale::Language,
};

/// Conditions that a request which changes something can not make (RFC 9110, 13.1): whoever makes one must not believe that it held.
const CONDITIONS: [(HeaderName, &str); 2] = [
    (header::IF_MATCH, "If-Match"),
    (header::IF_NONE_MATCH, "If-None-Match"),
];

/// What a caller without a credential is asked for. The first one makes a browser ask its user: the key is the password.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Basic realm=\"longhaul\", charset=\"UTF-8\""),
    HeaderValue::from_static("Bearer realm=\"longhaul\""),
];

/// The methods of a path.
struct Resource {
    dialect: usize,
    path: String,
    methods: Vec<(Method, Permission, Handler)>,
}

/// The REST front end; cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    shared: Shared,
    /// The native one first: it speaks where no other does. Of forms that fit a path alike, the last one speaks.
    dialects: Vec<Box<dyn Dialect>>,
    resources: Vec<Resource>,
    /// To the index of a resource.
    paths: Router<usize>,
    routes: Arc<Routes>,
    hosts: Hosts,
}

/// What the operator sets.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// By which names the server may be called.
    pub hosts: Hosts,
}

/// Why the gateway can not serve.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Two parts of it want the same path; a fault of this build.
    #[error("the path {path} can not be served: {reason}")]
    Clash {
        /// The path.
        path: String,
        /// Why not.
        reason: matchit::InsertError,
    },
    /// A route has a path of ours.
    #[error(transparent)]
    Routes(#[from] RoutesError),
}

impl Gateway {
    /// On the API.
    ///
    /// # Errors
    /// Two endpoints clash, or a route with one.
    pub fn new(api: Api, settings: GatewaySettings, routes: Routes) -> Result<Self, GatewayError> {
        let mut inner = Inner {
            shared: Shared {
                api,
                polls: Polls,
                pages: Pages::new(),
            },
            dialects: dialects(),
            resources: Vec::new(),
            paths: Router::new(),
            routes: Arc::new(routes),
            hosts: settings.hosts,
        };
        for dialect in 0..inner.dialects.len() {
            for endpoint in inner.dialects[dialect].endpoints() {
                inner.add(dialect, endpoint)?;
            }
        }
        let routes = Arc::clone(&inner.routes);
        let reference = reference::endpoints(move || describe(&routes));
        for endpoint in health::endpoints().into_iter().chain(reference) {
            inner.add(0, endpoint)?;
        }
        // A path of ours is ours for every method: the others are answered with 405, and no route would ever be asked.
        let ours = inner.resources.iter();
        let ours = ours.map(|resource| ("*", resource.path.as_str()));
        inner.routes.check_against(&ours.collect::<Vec<_>>())?;
        Ok(Self(Arc::new(inner)))
    }

    /// Answers a request.
    pub fn answer(self, request: Request<Body>) -> BoxFuture<'static, Response> {
        match *request.method() {
            // The protocol does not see to it: over HTTP/2 the body would go out, and a stream would never end.
            Method::HEAD => self.whole(request).map(answer::head).boxed(),
            _ => self.whole(request),
        }
    }

    /// The answer to a request, with its body. What has to be found out first is found out at once: a request that waits is no larger than what it waits for.
    fn whole(self, request: Request<Body>) -> BoxFuture<'static, Response> {
        let inner = self.0;
        let (head, mut body) = request.into_parts();
        let (language, version) = (call::language(&head.headers), head.version);
        let Some(resource) = inner.resource(head.uri.path()) else {
            let answer = async move {
                let response = inner.routed(head, &mut body, language).await;
                body::drain(version, &mut body).await;
                response
            };
            return answer.boxed();
        };
        let at = inner.resources[resource].dialect;
        let begun = inner.begin(resource, &head);
        let (caller, handler, gaps, query) = match begun {
            Ok(begun) => begun,
            Err(answer) if body.is_end_stream() => return answer,
            Err(answer) => {
                let answer = async move {
                    body::drain(version, &mut body).await;
                    answer.await
                };
                return answer.boxed();
            }
        };
        let shared = inner.shared.clone();
        if matches!(head.method, Method::GET | Method::HEAD) {
            let call = Call::new(head, Bytes::new(), gaps, query, caller);
            let answer = handler(shared, call);
            let answer = async move { finish(&*inner.dialects[at], answer.await, language) };
            if body.is_end_stream() {
                return answer.boxed();
            }
            let drained = async move { body::drain(version, &mut body).await };
            return drained.then(|()| answer).boxed();
        }
        let answer = async move {
            let answer = async {
                let text = body::read(&head.headers, &mut body).await;
                body::drain(version, &mut body).await;
                let call = Call::new(head, text?, gaps, query, caller);
                handler(shared, call).await
            };
            finish(&*inner.dialects[at], answer.await, language)
        };
        answer.boxed()
    }
}

/// An answer that is there, or comes.
type Answer = BoxFuture<'static, Response>;
/// Who asks, what carries a request out, what stands in the gaps of its path, and its parameters.
type Begun = (Caller, Handler, Vec<(String, String)>, Query);

/// All of them, in each of their forms.
fn dialects() -> Vec<Box<dyn Dialect>> {
    vec![
        Box::new(Native::new()),
        Box::new(Aiqum(Face::WireV2)),
        Box::new(Aiqum(Face::Wire)),
        Box::new(Aiqum(Face::Documented)),
        Box::new(Deploy),
        Box::new(Nse),
    ]
}

/// The dialect of a route, in the form that fits the path best.
fn speaker<'a>(
    dialects: &'a [Box<dyn Dialect>],
    dialect: routes::Dialect,
    path: &str,
) -> &'a dyn Dialect {
    let forms = dialects.iter().filter(|d| d.name() == dialect.name());
    let best = forms.max_by_key(|form| form.prefixes().iter().map(|p| alike(p, path)).max());
    best.map_or(&*dialects[0], |best| &**best)
}

/// The OpenAPI document: what each endpoint and each route says of itself.
fn describe(routes: &Routes) -> Bytes {
    let dialects = dialects();
    let mut document = Document::default();
    for dialect in &dialects {
        document.add_schemas(dialect.schemas());
    }
    let endpoints = dialects.iter().flat_map(|dialect| dialect.endpoints());
    for endpoint in endpoints.chain(health::endpoints()) {
        if let Some(operation) = &endpoint.operation {
            document.add(&endpoint.method, &endpoint.path, &operation());
        }
    }
    for route in routes.iter() {
        document.add_route(route, speaker(&dialects, route.dialect(), route.pattern()));
    }
    document.finish()
}

impl Inner {
    fn add(&mut self, dialect: usize, endpoint: Endpoint) -> Result<(), GatewayError> {
        let Endpoint {
            method,
            permission,
            path,
            handler,
            operation: _,
        } = endpoint;
        let same = self.resources.iter_mut().find(|r| r.path == path);
        if let Some(resource) = same {
            resource.methods.push((method, permission, handler));
            return Ok(());
        }
        let inserted = self.paths.insert(path.as_str(), self.resources.len());
        if let Err(reason) = inserted {
            return Err(GatewayError::Clash { path, reason });
        }
        self.resources.push(Resource {
            dialect,
            path,
            methods: vec![(method, permission, handler)],
        });
        Ok(())
    }

    /// What is at a path. A slash at the end makes no difference: some clients always send one.
    fn resource(&self, path: &str) -> Option<usize> {
        self.paths
            .at(without_slash(path))
            .ok()
            .map(|found| *found.value)
    }

    /// What there is to know of a request before its body; or its answer, if it goes no further.
    fn begin(&self, resource: usize, head: &Parts) -> Result<Begun, Answer> {
        let resource = &self.resources[resource];
        let dialect = &*self.dialects[resource.dialect];
        let language = call::language(&head.headers);
        let method = match head.method {
            Method::HEAD => &Method::GET,
            ref method => method,
        };
        let found = resource.methods.iter().find(|(m, _, _)| m == method);
        let permission = found.map_or(Permission::Identified, |(_, permission, _)| *permission);
        let refused = |fault| future::ready(say(dialect, &fault, language)).boxed();
        let caller = caller(head, permission).map_err(refused)?;
        let Some((_, _, handler)) = found else {
            let methods = resource.methods.iter().map(|(m, _, _)| m.as_str());
            let response = other_method(dialect, &head.method, methods, language);
            return Err(future::ready(response).boxed());
        };
        let read = || {
            self.admit(head)?;
            let found = self.paths.at(without_slash(head.uri.path()));
            let gaps = found.iter().flat_map(|found| found.params.iter());
            let gaps = gaps.map(|(name, value)| {
                let value = unescaped(value).ok_or_else(|| Fault::bad_field(name, not_text()))?;
                Ok((name.to_owned(), value))
            });
            let gaps: Vec<_> = gaps.collect::<Result<_, Fault>>()?;
            let query = Query::parse(head.uri.query())?;
            Ok((caller, Arc::clone(handler), gaps, query))
        };
        read().map_err(refused)
    }

    /// Whether a request may be carried out, as far as its head tells.
    fn admit(&self, head: &Parts) -> Result<(), Fault> {
        self.hosts.admit(&head.method, &head.uri, &head.headers)?;
        if head.method.is_safe() {
            return Ok(());
        }
        let conditions = CONDITIONS.iter();
        let mut made = conditions.filter(|(condition, _)| head.headers.contains_key(condition));
        made.next().map_or(Ok(()), |(_, name)| {
            let description = Sentence::plain(
                "no-condition",
                "is for reading alone: what changes something is done whatever the entity tag is; leave it out",
            );
            Err(Fault::bad_field(name, description))
        })
    }

    /// Answers a request on a path that is not built in.
    async fn routed(&self, head: Parts, body: &mut Body, language: Language) -> Response {
        let path = head.uri.path();
        // Which paths there are is nobody's business who may not call any.
        let identified = caller(&head, Permission::Identified);
        if let Err(fault) = identified {
            return say(self.dialect_of(path), &fault, language);
        }
        let found = match self.routes.find(head.method.as_str(), path) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let Some((dialect, methods)) = self.routes.methods(path) else {
                    return say(self.dialect_of(path), &no_path(path), language);
                };
                let methods = methods.iter().map(|method| method.name());
                let dialect = speaker(&self.dialects, dialect, path);
                return other_method(dialect, &head.method, methods, language);
            }
            Err(PathFault { dialect, violation }) => {
                let fault = Fault::invalid(vec![violation]);
                return say(speaker(&self.dialects, dialect, path), &fault, language);
            }
        };
        let dialect = speaker(&self.dialects, found.route.dialect(), path);
        let answer = async {
            let caller = caller(&head, Permission::Submit)?;
            self.admit(&head)?;
            let query = Query::parse(head.uri.query())?;
            let body = body::read(&head.headers, body).await?;
            let call = Call::new(head, body, Vec::new(), query, caller);
            submit::routed(self.shared.clone(), call, dialect, found).await
        };
        finish(dialect, answer.await, language)
    }

    /// Who answers for a path that nobody serves: the dialect with the longest prefix.
    fn dialect_of(&self, path: &str) -> &dyn Dialect {
        let prefixes = self.dialects.iter().flat_map(|dialect| {
            let prefixes = dialect.prefixes().iter();
            prefixes.map(move |prefix| (prefix.len(), prefix, dialect))
        });
        let fitting = prefixes.filter(|(_, prefix, _)| path.starts_with(*prefix));
        let longest = fitting.max_by_key(|(length, _, _)| *length);
        longest.map_or(&*self.dialects[0], |(_, _, dialect)| &**dialect)
    }
}

/// Who asks, if it may.
fn caller(head: &Parts, permission: Permission) -> Result<Caller, Fault> {
    let text = |name: &str| head.headers.get(name)?.to_str().ok();
    let tried = (head.method.as_str(), head.uri.path());
    Caller::admitted(&head.extensions, text, permission, tried)
}

/// A method that the path does not have.
fn other_method<'a>(
    dialect: &dyn Dialect,
    method: &Method,
    allowed: impl Iterator<Item = &'a str>,
    language: Language,
) -> Response {
    let mut allowed: Vec<&str> = allowed.collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    allowed.push("OPTIONS");
    let allowed = allowed.join(", ");
    let response = if method == Method::OPTIONS {
        dialect.sign(answer::empty(StatusCode::NO_CONTENT))
    } else {
        let method = method.as_str().chars().take(32).collect::<String>();
        let message = sentence!(
            "method-not-allowed",
            "{method} is not possible here; possible are {allowed}",
            method,
            allowed
        );
        let fault = Fault::new(Reason::MethodNotAllowed, message);
        say(dialect, &fault, language)
    };
    answer::with(response, header::ALLOW, &allowed)
}

fn without_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(path) => path,
    }
}

/// How many segments two paths have in common at their beginnings.
fn alike(a: &str, b: &str) -> usize {
    let pairs = a.split('/').zip(b.split('/'));
    pairs.take_while(|(a, b)| a == b).count()
}

/// What became of a request, as the dialect has it.
fn finish(dialect: &dyn Dialect, answer: Result<Response, Fault>, language: Language) -> Response {
    match answer {
        Ok(response) => dialect.sign(response),
        Err(fault) => say(dialect, &fault, language),
    }
}

/// A fault in the words of a dialect.
fn say(dialect: &dyn Dialect, fault: &Fault, language: Language) -> Response {
    let body = dialect.error(fault, language);
    let status = StatusCode::from_u16(fault.reason.http());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer::typed(status, body.kind, body.text);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_LANGUAGE,
        HeaderValue::from_static(language.tag()),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        for scheme in CHALLENGES {
            headers.append(header::WWW_AUTHENTICATE, scheme);
        }
    }
    if let Some(pause) = fault.retry_after {
        let seconds = pause.as_secs_f64().ceil() as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    dialect.sign(answer::vary(response, header::ACCEPT_LANGUAGE))
}

fn no_path(path: &str) -> Fault {
    let path: String = path.chars().take(200).collect();
    let is_grpc = path.starts_with("/longhaul.v1.") || path.starts_with("/grpc.");
    let message = match is_grpc {
        true => sentence!(
            "grpc-path",
            "{path} is a gRPC method: call it with a gRPC client, such as grpcurl, or see /openapi.json for the REST API",
            path
        ),
        false => sentence!(
            "no-path",
            "there is nothing at {path}; /openapi.json tells what there is",
            path
        ),
    };
    Fault::new(Reason::PathNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described() {
        for dialect in dialects() {
            for endpoint in dialect.endpoints() {
                let (method, path) = (endpoint.method, endpoint.path);
                assert!(endpoint.operation.is_some(), "{method} {path}");
            }
        }
    }
}
