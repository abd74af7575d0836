//! Whether the server lives, and whether it takes work, for probes that speak plain HTTP. The words are those of gRPC's health protocol.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    answer::{self, Response},
    dialect::Endpoint,
    openapi::{self, Answer, Operation},
};
use crate::domain::access::Permission;

/// The endpoints.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let live = Endpoint::new(Method::GET, Permission::Open, "/livez", |_, _| async {
        // Whoever can answer is alive.
        Ok(said("SERVING", StatusCode::OK))
    });
    let ready = Endpoint::new(
        Method::GET,
        Permission::Open,
        "/readyz",
        |shared, _| async move {
            Ok(match shared.api.engine().is_draining() {
                false => said("SERVING", StatusCode::OK),
                true => said("NOT_SERVING", StatusCode::SERVICE_UNAVAILABLE),
            })
        },
    );
    vec![
        live.described(|| operation("Live", "Says that the server lives.", &["200"])),
        ready.described(|| {
            let description =
                "Says whether the server takes work; it does not while it shuts down.";
            operation("Ready", description, &["200", "503"])
        }),
    ]
}

fn said(status: &str, code: StatusCode) -> Response {
    let response = answer::json(code, json!({"status": status}).to_string());
    answer::with(response, header::CACHE_CONTROL, "no-store")
}

fn operation(id: &str, description: &'static str, statuses: &[&'static str]) -> Operation {
    let answers = statuses.iter();
    let answers = answers.map(|status| Answer::new(status, description).json(schema(), None));
    Operation {
        id: id.to_owned(),
        tag: openapi::SERVER,
        description: description.to_owned(),
        parameters: Vec::new(),
        body: None,
        answers: answers.collect(),
    }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": ["SERVING", "NOT_SERVING"]}},
    })
}
