//! Asynchronous routes: configuration that turns an HTTP request on any path into a job.
//!
//! This is the part without sockets. [`Routes::load`] reads the files and finds every mistake in them; [`Routes::find`] says which route a
//! request is for; [`Route::render`] makes the job of it, as JSON that is submitted like any other. Answers are the dialects' affair.
//! `docs/routes.md` says how a file is written.
//!
//! Invariants: after loading, nothing is read from disk or network; what a request can cost is bounded, whatever it holds; and no text of a
//! request becomes a template.

mod definition;
mod expression;
mod fault;
mod file;
mod filters;
mod job;
mod pattern;
mod payload;
mod schema;
mod section;
mod template;
mod value;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

pub use fault::{Mistake, PathFault, RouteFault, RoutesError};

use fault::Mistakes;
use job::JobTemplate;
use pattern::{Decoded, Pattern, split};
use schema::Schema;

/// Whose answers and errors a route gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Active IQ Unified Manager.
    Aiqum,
    /// ONTAP Select Deploy.
    Deploy,
    /// NetApp Service Engine.
    Nse,
    /// Longhaul's own.
    Native,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aiqum, Self::Deploy, Self::Nse, Self::Native];

    /// As in a route file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aiqum => "aiqum",
            Self::Deploy => "deploy",
            Self::Nse => "nse",
            Self::Native => "native",
        }
    }

    /// Whether a slash may stand at the end of a path.
    const fn takes_trailing_slash(self) -> bool {
        matches!(self, Self::Nse)
    }
}

/// The methods of routes: GET, HEAD and OPTIONS are safe by definition, so they never start a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// DELETE.
    Delete,
    /// PATCH.
    Patch,
    /// POST.
    Post,
    /// PUT.
    Put,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Delete, Self::Patch, Self::Post, Self::Put];

    /// As in a request line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// What an expression can reach: the request and the caller.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteInput {
    /// The JSON body; null if there is none.
    pub body: serde_json::Value,
    /// The parameters of the path, as [`Match::path`] has them.
    pub path: BTreeMap<String, String>,
    /// The parameters of the query, decoded.
    pub query: BTreeMap<String, String>,
    /// Who sent the request.
    pub caller: Caller,
}

/// Who sent a request, by their credential.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Caller {
    /// The tenant.
    pub tenant: String,
    /// The principal's name.
    pub name: String,
}

/// One configured route.
#[derive(Debug)]
pub struct Route {
    dialect: Dialect,
    method: Method,
    pattern: Pattern,
    description: Option<String>,
    schema: Option<Arc<Schema>>,
    job: JobTemplate,
    file: PathBuf,
    line: usize,
}

impl Route {
    /// Whose answers and errors it gives.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Its method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Its path, with parameters as `{name}`.
    pub fn pattern(&self) -> &str {
        self.pattern.text()
    }

    /// Names of the path's parameters, from left to right.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.pattern.parameters()
    }

    /// The summary as it was written, with its expressions.
    pub fn summary(&self) -> Option<&str> {
        self.job.summary.as_ref().map(template::Template::source)
    }

    /// What the route is for, in the author's words.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The JSON Schema of the body.
    pub fn schema(&self) -> Option<&serde_json::Value> {
        self.schema.as_ref().map(|schema| schema.document())
    }

    /// The job for a request: a `JobSpec` in canonical protobuf JSON.
    ///
    /// # Errors
    /// The body does not match the schema, or a template can not be filled in.
    pub fn render(&self, input: &RouteInput) -> Result<serde_json::Value, RouteFault> {
        schema::check_form(&input.body).map_err(|violation| RouteFault {
            violations: vec![violation],
        })?;
        let mut violations = Vec::new();
        if let Some(schema) = &self.schema {
            schema.check(&input.body, &mut violations);
        }
        if !violations.is_empty() {
            return Err(RouteFault { violations });
        }
        self.job
            .render(&minijinja::Value::from(minijinja::value::Serde(input)))
            .map_err(|violations| RouteFault { violations })
    }
}

/// The route that a request is for.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    /// The route.
    pub route: &'a Route,
    /// The parameters of the path, decoded.
    pub path: BTreeMap<String, String>,
}

/// All configured routes. The default is none.
#[derive(Debug, Default)]
pub struct Routes {
    /// The more particular before the more general.
    routes: Vec<Route>,
}

impl Routes {
    /// Reads a TOML file, or the `*.toml` files of a folder in order of their names.
    ///
    /// # Errors
    /// Every mistake of the files.
    pub fn load(path: &Path) -> Result<Self, RoutesError> {
        let mut mistakes = Mistakes::default();
        let mut routes = file::read(path, &mut mistakes);
        let mut served = HashMap::new();
        for route in &routes {
            let first = *served
                .entry((route.method, route.pattern.shape()))
                .or_insert(route);
            if !std::ptr::eq(first, route) {
                let what = format!(
                    "{} {} is served already by the route in {}, line {}; leave one out",
                    route.method.name(),
                    route.pattern(),
                    first.file.display(),
                    first.line
                );
                mistakes.add(&route.file, Some(route.line), what);
            }
        }
        routes.sort_by(|a, b| a.pattern.precedence(&b.pattern));
        mistakes.none_or(Self { routes })
    }

    /// Checks that no route takes a request from the server's own paths, such as `("GET", "/v1/jobs/{id}")`. There, `*` stands for any method,
    /// and a pattern may end in `{*rest}`.
    ///
    /// # Errors
    /// Every route that does.
    pub fn check_against(&self, builtin: &[(&str, &str)]) -> Result<(), RoutesError> {
        let mut mistakes = Mistakes::default();
        for route in &self.routes {
            let clash = builtin.iter().find(|(method, pattern)| {
                (*method == "*" || *method == route.method.name())
                    && route.pattern.overlaps(pattern)
            });
            if let Some((_, pattern)) = clash {
                let what = format!(
                    "{} {} takes requests from {pattern}, which the server serves itself; choose another path",
                    route.method.name(),
                    route.pattern()
                );
                mistakes.add(&route.file, Some(route.line), what);
            }
        }
        mistakes.none_or(())
    }

    /// The route for a request, by its method and its raw path without the query. `None` if there is none, which is 404, or 405 if
    /// [`methods`](Self::methods) has any.
    ///
    /// # Errors
    /// The path leads to a route but holds a value that no parameter may have.
    pub fn find(&self, method: &str, path: &str) -> Result<Option<Match<'_>>, PathFault> {
        let Some(segments) = split(path) else {
            return Ok(None);
        };
        for route in &self.routes {
            if route.method.name() != method {
                continue;
            }
            let Some(segments) = served(route, &segments) else {
                continue;
            };
            return match route.pattern.read(segments) {
                Ok(path) => Ok(Some(Match { route, path })),
                Err(violation) => Err(PathFault {
                    dialect: route.dialect,
                    violation,
                }),
            };
        }
        Ok(None)
    }

    /// The methods that routes serve on a raw path, each once, and the dialect of the first of these routes; `None` if there is no such route.
    pub fn methods(&self, path: &str) -> Option<(Dialect, Vec<Method>)> {
        let segments = split(path)?;
        let mut serving = self
            .routes
            .iter()
            .filter(|route| served(route, &segments).is_some())
            .peekable();
        let dialect = serving.peek()?.dialect;
        let mut methods: Vec<Method> = serving.map(|route| route.method).collect();
        methods.sort_unstable();
        methods.dedup();
        Some((dialect, methods))
    }

    /// All routes, the more particular before the more general.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// The segments that a route sees of a path, if it serves it.
fn served<'a>(route: &Route, path: &'a [Decoded]) -> Option<&'a [Decoded]> {
    let path = match path {
        [path @ .., Ok(last)] if last.is_empty() && route.dialect.takes_trailing_slash() => path,
        path => path,
    };
    route.pattern.matches(path).then_some(path)
}
