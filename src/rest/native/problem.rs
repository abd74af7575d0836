//! Faults as problem details (RFC 9457).

use serde::Serialize;

use crate::{api::Fault, locale::Language};

/// Members beyond the standard's are as in gRPC's details.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: String,
    reason: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<BadField<'a>>,
}

#[derive(Serialize)]
struct BadField<'a> {
    field: &'a str,
    description: String,
}

/// A fault as JSON.
pub(super) fn text(fault: &Fault, language: Language) -> String {
    let reason = fault.reason.name();
    let status = fault.reason.http();
    let title = http::StatusCode::from_u16(status).ok();
    let problem = Problem {
        kind: format!("urn:longhaul:reason:{reason}"),
        title: title.and_then(|s| s.canonical_reason()).unwrap_or("Error"),
        status,
        detail: fault.text(language),
        reason,
        violations: fault
            .violations
            .iter()
            .map(|violation| BadField {
                field: &violation.field,
                description: language.say(&violation.description).into_owned(),
            })
            .collect(),
    };
    // Texts and numbers alone: there is nothing that JSON has no form for.
    serde_json::to_string(&problem).unwrap_or_default()
}
