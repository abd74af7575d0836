//! What the native API says of itself, from the contract's descriptors and their comments.

use std::collections::BTreeSet;

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    super::openapi::{self, Answer, Operation, RequestBody, Submission, component, parameter},
    events::EVENT_STREAM,
    examples,
    route::{BodyRule, Route},
};

/// The schema of a problem.
const PROBLEM: &str = "Problem";
/// The schema of an event of a stream.
const EVENT: &str = "ServerSentEvent";
/// Messages of the contract.
const JOB: &str = "longhaul.v1.Job";
const JOB_SPEC: &str = "longhaul.v1.JobSpec";

/// What an endpoint does; `stream` is the form of the same path that streams.
pub(super) fn operation(route: &Route, stream: Option<&Route>) -> Operation {
    let method = &route.method;
    let is_get = route.http_method == http::Method::GET;
    let example = examples::answer(method.name());
    let told = |answer: Answer| match &route.answer {
        // A stream has no revision of its own.
        Some(field) if stream.is_some() => answer
            .json(schema(field), example.clone())
            .maybe_header("ETag", "The revision of the job.")
            .maybe_waited(),
        Some(field) => job_answer(answer, schema(field), example.clone()),
        None => answer.json(component(method.output().full_name()), example.clone()),
    };
    let mut done = Answer::new("200", "Done.");
    if !method.is_server_streaming() {
        done = told(done);
    }
    if method.is_server_streaming() || stream.is_some() {
        done = done.body(EVENT_STREAM, component(EVENT), None);
    }
    let mut answers = vec![done];
    if route.answer.is_some() && !is_get {
        answers.push(located(told(accepted())));
    }
    if matches!(method.name(), "Get" | "WatchJob") {
        let over = "The event stream is over; do not come back.";
        answers.push(Answer::new("204", over));
    }
    if method.name() == "Get" {
        answers.push(Answer::unchanged().maybe_waited());
    }
    answers.extend(problems());
    Operation {
        id: match route.is_first {
            true => method.name().to_owned(),
            false => format!("{}At", method.name()),
        },
        tag: match method.parent_service().name() {
            "WorkerService" => openapi::WORKERS,
            "AdminService" => openapi::SERVER,
            _ => openapi::JOBS,
        },
        description: comment(&method.parent_file(), method.path()),
        parameters: parameters(route, stream),
        body: body(route),
        answers,
    }
}

/// How the native API takes in a job that a route makes.
pub(super) fn submission() -> Submission {
    let told = |answer| job_answer(answer, component(JOB), examples::answer("Submit"));
    let ended = Answer::new(
        "200",
        "The job has ended: while the caller waited, or before, if the submission was repeated.",
    );
    let mut answers = vec![told(ended), located(told(accepted()))];
    answers.extend(problems());
    Submission {
        parameters: vec![openapi::idempotency_key(), openapi::prefer("the job's end")],
        answers,
    }
}

/// A job in the native form as a body, which other dialects take, too.
pub(in crate::rest) fn job_body() -> RequestBody {
    RequestBody {
        schema: component(JOB_SPEC),
        required: true,
        example: examples::body("Submit"),
    }
}

fn job_answer(answer: Answer, schema: Value, example: Option<Value>) -> Answer {
    answer.json(schema, example).etag().maybe_waited()
}

fn accepted() -> Answer {
    Answer::new(
        "202",
        "The job is stored and has not ended: follow it at Location.",
    )
}

fn located(answer: Answer) -> Answer {
    answer
        .header("Location", "Where the job is.")
        .header("Operation-Location", "The same.")
        .header("Retry-After", "Seconds after which to ask for it.")
}

fn problems() -> [Answer; 2] {
    openapi::faults("application/problem+json", &component(PROBLEM), None)
}

fn parameters(route: &Route, stream: Option<&Route>) -> Vec<Value> {
    let input = route.method.input();
    let gaps = route.gaps().filter_map(|gap| input.get_field_by_name(gap));
    let mut parameters: Vec<Value> = gaps
        .map(|field| parameter("path", field.name(), &about(&field), schema(&field)))
        .collect();
    let mut known = BTreeSet::new();
    let fields = route.parameters().into_iter();
    for field in fields.chain(stream.iter().flat_map(|stream| stream.parameters())) {
        if known.insert(field.json_name().to_owned()) {
            let name = field.json_name();
            parameters.push(parameter("query", name, &about(&field), schema(&field)));
        }
    }
    if input.get_field_by_name("request_id").is_some() && route.http_method != http::Method::GET {
        parameters.push(openapi::idempotency_key());
    }
    let is_read = route.method.name() == "Get";
    if route.answer.is_some() {
        parameters.push(openapi::prefer(match is_read {
            true => "the job's end, or with If-None-Match for its next change",
            false => "the job's end",
        }));
    }
    if is_read {
        parameters.push(openapi::if_none_match());
    }
    parameters
}

fn body(route: &Route) -> Option<RequestBody> {
    let (schema, required) = match &route.body {
        BodyRule::None => return None,
        BodyRule::All => (component(route.method.input().full_name()), false),
        BodyRule::Field(field) => (schema(field), true),
    };
    Some(RequestBody {
        schema,
        required,
        example: examples::body(route.method.name()),
    })
}

/// The schemas of all messages that are reached from the API, and of a problem.
pub(super) fn schemas(routes: &[&Route]) -> Map<String, Value> {
    let mut schemas = Map::new();
    for route in routes {
        reach(&route.method.input(), &mut schemas);
        reach(&route.method.output(), &mut schemas);
    }
    schemas.insert(PROBLEM.to_owned(), problem());
    schemas.insert(EVENT.to_owned(), event());
    schemas
}

fn reach(message: &MessageDescriptor, schemas: &mut Map<String, Value>) {
    let name = message.full_name();
    if well_known(name).is_some() || schemas.contains_key(name) {
        return;
    }
    schemas.insert(name.to_owned(), Value::Null);
    let properties = message.fields().map(|field| {
        let mut schema = schema(&field);
        schema["description"] = about(&field).into();
        (field.json_name().to_owned(), schema)
    });
    let schema = json!({
        "type": "object",
        "description": comment(&message.parent_file(), message.path()),
        "properties": properties.collect::<Map<_, _>>(),
        "additionalProperties": false,
    });
    schemas.insert(name.to_owned(), schema);
    for field in message.fields() {
        let field = match field.kind() {
            Kind::Message(entry) if field.is_map() => entry.map_entry_value_field(),
            _ => field,
        };
        match field.kind() {
            Kind::Message(inner) => reach(&inner, schemas),
            Kind::Enum(values) => {
                let name = values.full_name().to_owned();
                schemas.entry(name).or_insert_with(|| enumeration(&values));
            }
            _ => {}
        }
    }
}

/// The form of a field in canonical protobuf JSON.
fn schema(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let value = one(&entry.map_entry_value_field().kind());
            json!({"type": "object", "additionalProperties": value})
        }
        kind if field.is_list() => json!({"type": "array", "items": one(&kind)}),
        kind => one(&kind),
    }
}

fn one(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::Double | Kind::Float => json!({"type": "number"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "format": "int32"})
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
        }
        // A double does not hold all of them.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,18}$"})
        }
        Kind::Uint64 | Kind::Fixed64 => {
            json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,19}$"})
        }
        Kind::Enum(values) => component(values.full_name()),
        Kind::Message(message) => {
            well_known(message.full_name()).unwrap_or_else(|| component(message.full_name()))
        }
    }
}

fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => {
            json!({"type": "string", "pattern": "^-?[0-9]{1,12}([.][0-9]{1,9})?s$", "examples": ["30s"]})
        }
        "google.protobuf.Struct" => json!({"type": "object"}),
        "google.protobuf.Any" => {
            json!({"type": "object", "properties": {"@type": {"type": "string"}}})
        }
        _ => return None,
    })
}

fn enumeration(values: &EnumDescriptor) -> Value {
    let names: Vec<String> = values
        .values()
        .map(|value| value.name().to_owned())
        .collect();
    let file = values.parent_file();
    let meanings = values.values().map(|value| {
        let meaning = comment(&file, value.path());
        format!("- {}: {meaning}", value.name())
    });
    let meanings: Vec<String> = meanings.collect();
    let description = format!(
        "{}\n\n{}",
        comment(&file, values.path()),
        meanings.join("\n")
    );
    json!({"type": "string", "enum": names, "description": description})
}

fn event() -> Value {
    json!({
        "type": "object",
        "description": "One server-sent event.",
        "properties": {
            "id": {"type": "string", "description": "What Last-Event-ID goes on from."},
            "event": {"type": "string", "description": "What it is: snapshot, listed, changes, synced, draining, error."},
            "data": {"type": "string", "description": "The message of the gRPC stream as JSON."},
            "retry": {"type": "integer"},
        },
    })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status", "detail", "reason"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What is wrong, in the caller's language."},
            "reason": {"type": "string", "description": "Stable, for programs; as over gRPC."},
            "violations": {
                "type": "array",
                "description": "The bad fields of the request.",
                "items": {
                    "type": "object",
                    "required": ["field", "description"],
                    "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                },
            },
        },
        "example": {
            "type": "urn:longhaul:reason:INVALID_REQUEST",
            "title": "Bad Request",
            "status": 400,
            "detail": "job.tasks[0].driver: must be 1 to 128 characters of [A-Za-z0-9_.-]",
            "reason": "INVALID_REQUEST",
            "violations": [{
                "field": "job.tasks[0].driver",
                "description": "must be 1 to 128 characters of [A-Za-z0-9_.-]",
            }],
        },
    })
}

fn about(field: &FieldDescriptor) -> String {
    comment(&field.parent_file(), field.path())
}

/// What stands above something in its proto file.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let mut places = info.iter().flat_map(|info| &info.location);
    let place = places.find(|place| place.path == path);
    let comment = place.map_or("", |place| place.leading_comments());
    let lines: Vec<&str> = comment.lines().map(str::trim).collect();
    lines.join("\n").trim().to_owned()
}
