//! The description of everything that the gateway serves, as OpenAPI 3.1: put together once, from what each endpoint and each route says of itself.

mod inlined;
mod routed;
mod shapes;

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

pub(super) use self::shapes::{shape, shapes, words};
use super::{dialect::Dialect, routes::Route};

/// Where the document is.
pub(super) const DOCUMENT: &str = "/openapi.json";
const JSON: &str = "application/json";

/// A part of the API, to which operations belong.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub(super) name: &'static str,
    description: &'static str,
}

/// All of them, in the order in which they are shown.
const TAGS: [Tag; 7] = [JOBS, WORKERS, SERVER, AIQUM, DEPLOY, NSE, ROUTES];
pub(super) const JOBS: Tag = Tag {
    name: "Jobs",
    description: "The native API: submit jobs, read them, follow them, change them.",
};
pub(super) const WORKERS: Tag = Tag {
    name: "Workers",
    description: "The native API for those who carry jobs out.",
};
pub(super) const SERVER: Tag = Tag {
    name: "Server",
    description: "The native API for operators.",
};
pub(super) const AIQUM: Tag = Tag {
    name: "Active IQ Unified Manager",
    description: "The same jobs for clients of Active IQ Unified Manager, current and 9.8.",
};
pub(super) const DEPLOY: Tag = Tag {
    name: "ONTAP Select Deploy",
    description: "The same jobs for clients of ONTAP Select Deploy.",
};
pub(super) const NSE: Tag = Tag {
    name: "NetApp Service Engine",
    description: "The same jobs for clients of NetApp Service Engine v2.1.",
};
const ROUTES: Tag = Tag {
    name: "Routes",
    description: "Requests that the operator has this server turn into jobs.",
};

/// One answer of an operation.
#[derive(Clone)]
pub(super) struct Answer {
    status: &'static str,
    description: &'static str,
    headers: Map<String, Value>,
    /// By type of content; none for an empty body.
    content: Map<String, Value>,
}

impl Answer {
    /// An answer without a body.
    pub(super) fn new(status: &'static str, description: &'static str) -> Self {
        Self {
            status,
            description,
            headers: Map::new(),
            content: Map::new(),
        }
    }

    /// The caller has the job as it is.
    pub(super) fn unchanged() -> Self {
        Self::new("304", "The job has the revision of If-None-Match.").etag()
    }

    /// Its body may be JSON.
    pub(super) fn json(self, schema: Value, example: Option<Value>) -> Self {
        self.body(JSON, schema, example)
    }

    /// Its body may be of this type.
    pub(super) fn body(mut self, kind: &str, schema: Value, example: Option<Value>) -> Self {
        self.content.insert(kind.to_owned(), media(schema, example));
        self
    }

    /// It always has this header.
    pub(super) fn header(self, name: &str, description: &str) -> Self {
        self.with_header(name, description, true)
    }

    /// It has this header at times.
    pub(super) fn maybe_header(self, name: &str, description: &str) -> Self {
        self.with_header(name, description, false)
    }

    /// It always has the revision of the job that it is about.
    pub(super) fn etag(self) -> Self {
        self.header("ETag", "The revision of the job.")
    }

    /// It tells who wanted to wait that this was heeded.
    pub(super) fn maybe_waited(self) -> Self {
        self.maybe_header("Preference-Applied", "That `Prefer: wait` was heeded.")
    }

    fn with_header(mut self, name: &str, description: &str, required: bool) -> Self {
        let schema = json!({"type": "string"});
        self.headers.insert(
            name.to_owned(),
            json!({"description": description, "required": required, "schema": schema}),
        );
        self
    }

    fn to_json(&self) -> Value {
        let mut answer = json!({"description": self.description});
        if !self.headers.is_empty() {
            answer["headers"] = self.headers.clone().into();
        }
        if !self.content.is_empty() {
            answer["content"] = self.content.clone().into();
        }
        answer
    }
}

/// The answers to a request that can not be carried out, which have bodies of one type.
pub(super) fn faults(kind: &str, schema: &Value, example: Option<Value>) -> [Answer; 2] {
    let pause = "Seconds after which to ask again.";
    let refused = Answer::new(
        "4XX",
        "What is wrong with the request, and what to do about it.",
    )
    .body(kind, schema.clone(), example)
    .maybe_header("Allow", "With 405: the methods that are possible.");
    let failed = Answer::new("5XX", "Why the server can not do it, or not now.");
    let failed = failed.body(kind, schema.clone(), None);
    [refused, failed].map(|answer| answer.maybe_header("Retry-After", pause))
}

/// What a request may or must have as its body.
pub(super) struct RequestBody {
    pub(super) schema: Value,
    pub(super) required: bool,
    pub(super) example: Option<Value>,
}

/// How a dialect takes jobs in and answers, on its collection of jobs and on routes.
pub(super) struct Submission {
    /// Parameter objects.
    pub(super) parameters: Vec<Value>,
    pub(super) answers: Vec<Answer>,
}

/// What an endpoint does.
pub(super) struct Operation {
    /// Unique in the document.
    pub(super) id: String,
    /// The part of the API that it belongs to.
    pub(super) tag: Tag,
    pub(super) description: String,
    /// Parameter objects.
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<RequestBody>,
    pub(super) answers: Vec<Answer>,
}

impl Operation {
    /// Submits the job that the body describes.
    pub(super) fn submission(id: String, tag: Tag, body: RequestBody, how: Submission) -> Self {
        Self {
            id,
            tag,
            description: "Submit a job.\n\nThe body is the job in the native form.".to_owned(),
            parameters: how.parameters,
            body: Some(body),
            answers: how.answers,
        }
    }

    fn to_json(&self) -> Value {
        let first_line = self.description.lines().next().unwrap_or_default();
        let summary = first_line.split(". ").next().unwrap_or_default();
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag.name],
            "summary": summary.trim_end_matches('.'),
            "description": self.description,
            "parameters": self.parameters,
        });
        if let Some(body) = &self.body {
            operation["requestBody"] = json!({
                "required": body.required,
                "content": {JSON: media(body.schema.clone(), body.example.clone())},
            });
        }
        let answers = self.answers.iter();
        let answers = answers.map(|answer| (answer.status.to_owned(), answer.to_json()));
        operation["responses"] = Value::Object(answers.collect());
        operation
    }
}

fn media(schema: Value, example: Option<Value>) -> Value {
    match example {
        Some(example) => json!({"schema": schema, "example": example}),
        None => json!({"schema": schema}),
    }
}

/// A reference to a schema among the components.
pub(super) fn component(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A parameter of the path, the query or the head.
pub(super) fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({
        "in": place,
        "name": name,
        "description": description,
        "required": place == "path",
        "schema": schema,
    })
}

/// A parameter of the query that is a whole number.
pub(super) fn whole_number(name: &str, description: &str, least: u32, most: u32) -> Value {
    let schema = json!({"type": "integer", "minimum": least, "maximum": most});
    parameter("query", name, description, schema)
}

/// A parameter of the query that is text.
pub(super) fn text(name: &str, description: &str) -> Value {
    parameter("query", name, description, json!({"type": "string"}))
}

/// A parameter of the path that is the id of a job.
pub(super) fn job_id(name: &str) -> Value {
    let schema = json!({"type": "string", "format": "uuid"});
    parameter("path", name, "The id of the job.", schema)
}

/// A parameter of the head.
pub(super) fn header(name: &str, description: &str) -> Value {
    parameter("header", name, description, json!({"type": "string"}))
}

/// Makes it safe to repeat a submission.
pub(super) fn idempotency_key() -> Value {
    header(
        "Idempotency-Key",
        "The request_id: the same key with the same body is the same job.",
    )
}

/// The standard's way to wait for a job.
pub(super) fn prefer(what_for: &str) -> Value {
    let description = format!("`wait=N` waits up to N seconds (at most 120) for {what_for}.");
    header("Prefer", &description)
}

/// The newest revision that a reader knows.
pub(super) fn if_none_match() -> Value {
    let tag = "The entity tag of the newest revision that is known.";
    header("If-None-Match", tag)
}

/// The whole document.
#[derive(Default)]
pub(super) struct Document {
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
    ids: BTreeSet<String>,
}

impl Document {
    pub(super) fn add(&mut self, method: &Method, path: &str, operation: &Operation) {
        self.ids.insert(operation.id.clone());
        let path = self.paths.entry(path).or_insert_with(|| json!({}));
        path[method.as_str().to_ascii_lowercase()] = operation.to_json();
    }

    pub(super) fn add_schemas(&mut self, schemas: Map<String, Value>) {
        self.schemas.extend(schemas);
    }

    /// A configured route, which is answered in this dialect.
    pub(super) fn add_route(&mut self, route: &Route, dialect: &dyn Dialect) {
        routed::add(self, route, dialect);
    }

    pub(super) fn finish(self) -> Bytes {
        let tags = TAGS.map(|tag| json!({"name": tag.name, "description": tag.description}));
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Longhaul",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Long-running jobs: submit, follow, carry out. The native API is under /v1; beside it are the job APIs of documented systems, and \
                    the routes that this server turns into jobs.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": tags,
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        });
        Bytes::from(document.to_string())
    }
}
