//! The job that a request makes.

use longhaul::locale::Language;
use serde_json::{Value, json};

use super::rig::{
    Folder, load, only, request, route_with, summary, task_with, through_the_api, value,
    whole_numbers,
};

#[test]
fn every_field_arrives_in_canonical_json() {
    let text = r#"
[[route]]
dialect = "native"
match = "PUT /things/{id}"
action = "{{ body.verb }}"
object = { type = "thing", id = "{{ path.id }}", name = "{{ body.name }}" }
summary = "{{ body.verb }} {{ body.name }}!"
labels = { zone = "{{ query.zone }}", tenant = "{{ caller.tenant }}" }
priority = -5
creator = "{{ caller.name }}"
failure_policy = "continue"

[[route.task]]
name = "first"
action = "prepare"
driver = "maker-{{ query.zone }}"
object = { type = "part" }
resource_type = "thing"
max_attempts = 4
retry_policy = { initial_backoff = "500ms", max_backoff = "1h30m", multiplier = 1.5, jitter = 0 }
timeouts = { schedule_to_start = "1d", start_to_close = "10s", schedule_to_close = "2d", heartbeat = "1s" }

[route.task.request_payload]
text = "{{ body.name }}"
mixed = "size {{ body.size }}, {{ body.on }}"
number = "{{ body.size }}"
flag = "{{ body.on }}"
list = "{{ body.parts }}"
object = "{{ body.deep }}"
nothing = "{{ body.nothing }}"
when = 2026-01-02T03:04:05Z
fixed = [1, 2.5, true, "x", { y = "{{ body.parts[1] }}" }]

[[route.task]]
driver = "maker"
depends_on = ["first"]
request_payload = "{{ body.deep }}"
"#;
    let body = json!({
        "verb": "create", "name": "Zoë", "size": 12, "on": true, "parts": ["a", 2.5], "deep": {"er": [null]}, "nothing": null
    });
    let job = only(&load(text)).render(&request(body)).unwrap();
    assert_eq!(
        job,
        json!({
            "action": "create",
            "object": {"type": "thing", "id": "7", "name": "Zoë"},
            "summary": "create Zoë!",
            "labels": {"zone": "b", "tenant": "acme"},
            "priority": -5,
            "creator": "jane",
            "failurePolicy": "FAILURE_POLICY_CONTINUE",
            "tasks": [{
                "name": "first",
                "action": "prepare",
                "driver": "maker-b",
                "object": {"type": "part"},
                "resourceType": "thing",
                "maxAttempts": 4,
                "retryPolicy": {"initialBackoff": "0.500s", "maxBackoff": "5400s", "multiplier": 1.5, "jitter": 0.0},
                "timeouts": {"scheduleToStart": "86400s", "startToClose": "10s", "scheduleToClose": "172800s", "heartbeat": "1s"},
                "requestPayload": {
                    "text": "Zoë",
                    "mixed": "size 12, true",
                    "number": 12,
                    "flag": true,
                    "list": ["a", 2.5],
                    "object": {"er": [null]},
                    "nothing": null,
                    "when": "2026-01-02T03:04:05Z",
                    "fixed": [1, 2.5, true, "x", {"y": 2.5}]
                }
            }, {
                "driver": "maker",
                "dependsOn": ["first"],
                "requestPayload": {"er": [null]}
            }]
        })
    );
    assert_eq!(through_the_api(&job), whole_numbers(job));
}

#[test]
fn one_expression_keeps_its_type_and_a_mixed_text_is_text() {
    for (given, kept, text) in [
        (json!(7), json!(7), "7"),
        (json!(-1.5), json!(-1.5), "-1.5"),
        (json!(true), json!(true), "true"),
        (json!("7"), json!("7"), "7"),
        (json!(""), json!(""), ""),
        (
            json!("<a href=\"x\">&'"),
            json!("<a href=\"x\">&'"),
            "<a href=\"x\">&'",
        ),
        (json!("{{ body }}"), json!("{{ body }}"), "{{ body }}"),
        (json!("{% x %}"), json!("{% x %}"), "{% x %}"),
    ] {
        let body = json!({"x": given});
        assert_eq!(value("{{ body.x }}", body.clone()).unwrap(), kept);
        assert_eq!(value("{{body.x}}", body.clone()).unwrap(), kept);
        assert_eq!(
            value(" {{ body.x }}", body.clone()).unwrap(),
            json!(format!(" {text}"))
        );
        assert_eq!(
            value("{{ body.x }}{{ body.x }}", body.clone()).unwrap(),
            json!(format!("{text}{text}"))
        );
        assert_eq!(summary("{{ body.x }}", body).unwrap(), text);
    }
    let body = json!({"list": [1], "map": {"a": 1}, "null": null});
    for (name, told) in [
        ("list", "is a list"),
        ("map", "is an object"),
        ("null", "is null"),
    ] {
        assert!(value(&format!("{{{{ body.{name} }}}}"), body.clone()).is_ok());
        let fault = summary(&format!("{{{{ body.{name} }}}}"), body.clone()).unwrap_err();
        assert!(
            fault.starts_with("summary: ") && fault.contains(told),
            "{fault}"
        );
    }
}

#[test]
fn braces_and_quotes_end_where_they_should() {
    assert_eq!(
        value("{{ {'a': {'b': body.x}} }}", json!({"x": 1})).unwrap(),
        json!({"a": {"b": 1}})
    );
    assert_eq!(summary("{{ '}}' }}", json!({})).unwrap(), "}}");
    assert_eq!(summary(r#"{{ "\"}}" }}"#, json!({})).unwrap(), "\"}}");
    assert_eq!(
        summary("{{ '{{' }} { } }} {", json!({})).unwrap(),
        "{{ { } }} {"
    );
    assert_eq!(summary("", json!({})).unwrap(), "");
    assert_eq!(
        summary("{{ body['a b'] }}", json!({"a b": "é"})).unwrap(),
        "é"
    );
}

#[test]
fn expressions_calculate() {
    let body =
        json!({"n": 6, "f": 1.5, "s": " Ab ", "list": ["x", "y", 3], "null": null, "digits": "42"});
    for (expression, expected) in [
        ("body.n + 1", json!(7)),
        ("body.n | times(7)", json!(42)),
        ("body.f | times(2)", json!(3.0)),
        ("body.n / 4", json!(1.5)),
        ("body.n > 5 and body.f < 2", json!(true)),
        ("'big' if body.n > 5 else 'small'", json!("big")),
        ("body.none | default('d')", json!("d")),
        ("body.null | default('d')", json!("d")),
        ("body.n | default('d')", json!(6)),
        ("body.none is defined", json!(false)),
        ("body.none is undefined", json!(true)),
        ("body.n is not undefined", json!(true)),
        ("body.null is none", json!(true)),
        ("body.s | trim | lower", json!("ab")),
        ("body.s | upper", json!(" AB ")),
        ("body.list | length", json!(3)),
        ("body.s | length", json!(4)),
        ("body.list | first", json!("x")),
        ("body.list | last", json!(3)),
        ("body.list | join(', ')", json!("x, y, 3")),
        ("body.list | join", json!("xy3")),
        ("body.digits | int", json!(42)),
        ("body.f | int", json!(1)),
        ("body.digits | float", json!(42.0)),
        ("'x' in body.list", json!(true)),
        ("body.list[1:]", json!(["y", 3])),
        ("[body.n, path.id]", json!([6, "7"])),
        ("not body.n", json!(false)),
    ] {
        let found = value(&format!("{{{{ {expression} }}}}"), body.clone());
        assert_eq!(found, Ok(expected), "{expression}");
    }
    for (expression, told) in [
        ("body.s | times(2)", "only numbers are multiplied"),
        ("body.list | times(2)", "only numbers are multiplied"),
        ("9223372036854775807 | times(2)", "the product is too large"),
        ("1e308 | times(10.0)", "the product is too large"),
        ("body.n / 0", "`body.n / 0`"),
        ("body.s | int", "a number is needed"),
        ("body.n | trim", "a text is needed"),
        ("body.n | length", "has no length"),
        ("body.list | first | times(1)", "only numbers"),
        ("[] | first", "does not have"),
    ] {
        let fault = value(&format!("{{{{ {expression} }}}}"), body.clone()).unwrap_err();
        assert!(fault.contains(told), "{expression}: {fault}");
    }
}

#[test]
fn what_is_missing_is_named_with_the_field_that_needs_it() {
    let text = route_with(
        "summary = \"{{ body.name }} in {{ query.where }}\"\nobject = { type = \"t\", name = \"{{ body.svm.key }}\" }",
    );
    let routes = load(&format!(
        "{text}request_payload = {{ a = [{{ b = \"{{{{ body.size + body.more }}}}\" }}], c = \"{{{{ body[query.zone] }}}}\" }}"
    ));
    let fault = only(&routes)
        .render(&request(json!({"size": 1})))
        .unwrap_err();
    let told: Vec<_> = fault
        .violations
        .iter()
        .map(|v| (v.field.as_str(), v.description.english()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "summary",
                "needs `body.name`, which the request does not have"
            ),
            (
                "object.name",
                "needs `body.svm`, which the request does not have"
            ),
            (
                "tasks[0].request_payload.a[0].b",
                "needs `body.more`, which the request does not have"
            ),
            (
                "tasks[0].request_payload.c",
                "`body[query.zone]` refers to a field that the request does not have"
            ),
        ]
    );
}

#[test]
fn a_body_is_held_to_the_schema_first() {
    let text = route_with("schema = \"s.json\"\nsummary = \"{{ body.name }}\"");
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "format": "ipv4"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a b": {"maximum": 5}}}},
            "any": {"anyOf": [{"type": "integer"}, {"pattern": "^[0-9]+$"}]},
            "one": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "required": ["name", "size"],
        "additionalProperties": false
    });
    let folder = Folder::new(&[("a.toml", &text), ("s.json", &schema.to_string())]);
    let routes = folder.load().unwrap();
    let faults = |body: Value| {
        let fault = only(&routes).render(&request(body)).unwrap_err();
        let mut told: Vec<String> = fault
            .violations
            .iter()
            .map(|v| format!("{}: {}", v.field, v.description))
            .collect();
        told.sort();
        told
    };
    assert_eq!(
        faults(json!({"name": "10.0.0", "list": [{}, {"a b": 6}], "x y": 1, "z": 1})),
        [
            "body.list[1][\"a b\"]: must be at most 5",
            "body.name: must have the format ipv4",
            "body.size: is required",
            "body.z: is not a field of this request",
            "body[\"x y\"]: is not a field of this request",
        ]
    );
    assert_eq!(faults(Value::Null), ["body: must be of type object"]);
    let whole =
        |any: Value, one: Value| json!({"name": "10.0.0.1", "size": 1, "any": any, "one": one});
    assert_eq!(
        faults(whole(json!("-1"), json!([]))),
        [
            "body.any: has none of the forms that are allowed",
            "body.one: has none of the forms that are allowed",
            "body.size: is not a field of this request",
        ]
    );
}

#[test]
fn a_payload_that_is_one_expression_must_give_an_object() {
    let routes = load(&task_with("request_payload = \"{{ body }}\""));
    let render = |body: Value| {
        only(&routes)
            .render(&request(body))
            .map(|job| job["tasks"][0]["requestPayload"].clone())
    };
    assert_eq!(render(json!({"a": [1]})).unwrap(), json!({"a": [1]}));
    for body in [json!([1]), json!("x"), Value::Null] {
        let fault = render(body).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "tasks[0].request_payload: must be an object"
        );
    }
}

#[test]
fn a_fault_is_said_in_the_callers_language() {
    let text = route_with("schema = \"s.json\"\nsummary = \"{{ body.name }}\"");
    let schema = r#"{"properties": {"size": {"minimum": 1}}}"#;
    let folder = Folder::new(&[("a.toml", &text), ("s.json", schema)]);
    let routes = folder.load().unwrap();
    let french = |body: Value| {
        let fault = only(&routes).render(&request(body)).unwrap_err();
        Language::French
            .say(&fault.violations[0].description)
            .into_owned()
    };
    assert_eq!(french(json!({"size": 0})), "doit être au moins 1");
    assert_eq!(
        french(json!({})),
        "a besoin de `body.name`, que la requête n'a pas"
    );
}
