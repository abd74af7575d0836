//! The description of everything that the gateway serves, as OpenAPI 3.1: put together from what each endpoint says of itself.

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

/// Where the document is.
pub(super) const DOCUMENT: &str = "/openapi.json";

/// One answer of an operation.
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) description: String,
    /// By type of content; none for an empty body.
    pub(super) content: Vec<(&'static str, Value, Option<Value>)>,
}

/// What an endpoint does.
pub(super) struct Operation {
    /// Unique in the document.
    pub(super) id: String,
    /// The part of the API that it belongs to.
    pub(super) tag: &'static str,
    pub(super) description: String,
    /// Parameter objects.
    pub(super) parameters: Vec<Value>,
    /// The schema of the body, whether there has to be one, and an example.
    pub(super) body: Option<(Value, bool, Option<Value>)>,
    pub(super) answers: Vec<Answer>,
}

impl Operation {
    fn to_json(&self) -> Value {
        let summary = self
            .description
            .split(['\n', '.'])
            .next()
            .unwrap_or_default();
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": summary,
            "description": self.description,
            "parameters": self.parameters,
        });
        if let Some((schema, required, example)) = &self.body {
            operation["requestBody"] = json!({
                "required": required,
                "content": {"application/json": media(schema, example.as_ref())},
            });
        }
        let answers = self.answers.iter().map(|answer| {
            let mut json = json!({"description": answer.description});
            if !answer.content.is_empty() {
                let content = answer.content.iter();
                let content = content.map(|(kind, schema, example)| {
                    ((*kind).to_owned(), media(schema, example.as_ref()))
                });
                json["content"] = Value::Object(content.collect());
            }
            (answer.status.to_owned(), json)
        });
        operation["responses"] = Value::Object(answers.collect());
        operation
    }
}

fn media(schema: &Value, example: Option<&Value>) -> Value {
    match example {
        Some(example) => json!({"schema": schema, "example": example}),
        None => json!({"schema": schema}),
    }
}

/// A reference to a schema among the components.
pub(super) fn component(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A parameter of the path or the query.
pub(super) fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({
        "in": place,
        "name": name,
        "description": description,
        "required": place == "path",
        "schema": schema,
    })
}

/// The whole document.
#[derive(Default)]
pub(super) struct Document {
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Document {
    pub(super) fn add(&mut self, method: &Method, path: &str, operation: &Operation) {
        let path = self.paths.entry(path).or_insert_with(|| json!({}));
        path[method.as_str().to_ascii_lowercase()] = operation.to_json();
    }

    pub(super) fn add_schemas(&mut self, schemas: Map<String, Value>) {
        self.schemas.extend(schemas);
    }

    pub(super) fn finish(self) -> Bytes {
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Longhaul",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Long-running jobs: submit, follow, carry out. The native API is under /v1; beside it are the job APIs of four documented systems, and \
                    the routes that this server turns into jobs.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        });
        Bytes::from(document.to_string())
    }
}
