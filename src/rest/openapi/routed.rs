//! The operations of configured routes: how each dialect takes jobs in and answers, with the body that the route's schema asks for.

use http::Method;
use serde_json::{Value, json};

use super::{Document, Operation, ROUTES, RequestBody, component, inlined, parameter};
use crate::rest::{
    dialect::Dialect,
    routes::{Method as RouteMethod, Route},
};

pub(super) fn add(document: &mut Document, route: &Route, dialect: &dyn Dialect) {
    let method = match route.method() {
        RouteMethod::Delete => Method::DELETE,
        RouteMethod::Patch => Method::PATCH,
        RouteMethod::Post => Method::POST,
        RouteMethod::Put => Method::PUT,
    };
    let how = dialect.submission();
    let id = unused(document, id(route));
    let body = match route.schema() {
        Some(schema) => Some(RequestBody {
            schema: body(document, &id, schema),
            required: true,
            example: None,
        }),
        None if method == Method::DELETE => None,
        None => Some(RequestBody {
            schema: json!({"description": "Whatever the route's expressions ask for."}),
            required: false,
            example: None,
        }),
    };
    let path = known(document, route.pattern());
    let names = parameters(&path).map(|name| {
        let description = "A part of the path; the route's expressions have it by this name.";
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 1024});
        parameter("path", name, description, schema)
    });
    let operation = Operation {
        id,
        tag: ROUTES,
        description: description(route),
        parameters: names.chain(how.parameters).collect(),
        body,
        answers: how.answers,
    };
    document.add(&method, &path, &operation);
}

/// The method and the path as one name.
fn id(route: &Route) -> String {
    let mut id = route.method().name().to_ascii_lowercase();
    let words = route.pattern().split(|c: char| !c.is_ascii_alphanumeric());
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}

/// Two paths may differ in nothing but what a name can not have.
fn unused(document: &Document, id: String) -> String {
    let mut unused = id.clone();
    let mut number = 1;
    while document.ids.contains(&unused) {
        number += 1;
        unused = format!("{id}{number}");
    }
    unused
}

fn description(route: &Route) -> String {
    let summary = route.summary();
    let summary = summary.map(|summary| format!("Becomes a job: `{summary}`"));
    let becomes = summary.unwrap_or_else(|| "Becomes a job.".to_owned());
    match route.description() {
        Some(description) => format!("{description}\n\n{becomes}"),
        None => becomes,
    }
}

/// The schema as a component of the document. One that can not stand there is still checked, and the document says that it is there.
fn body(document: &mut Document, id: &str, schema: &Value) -> Value {
    let name = format!("route.{id}");
    let place = component(&name);
    let pointer = place["$ref"].as_str().unwrap_or_default();
    let schema = inlined::at(pointer, schema).unwrap_or_else(|| {
        let title = schema.get("title").and_then(Value::as_str);
        json!({
            "title": title.unwrap_or(&name),
            "description": "The server checks this by a JSON Schema that has names of its own and so can not be shown within this document.",
        })
    });
    document.schemas.insert(name, schema);
    place
}

/// The path as it stands in the document already: paths that differ in the names of parameters alone are the same.
fn known(document: &Document, path: &str) -> String {
    let mut paths = document.paths.keys();
    let same = paths.find(|known| shape(known) == shape(path));
    same.cloned().unwrap_or_else(|| path.to_owned())
}

fn shape(path: &str) -> Vec<&str> {
    let segments = path.split('/');
    let shape = segments.map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    shape.collect()
}

fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
}
