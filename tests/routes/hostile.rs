//! Templates and bodies that mean harm: they are refused, soon and within bounds. No test looks at a clock: what could run for long would
//! never end here, or need more memory than there is.

use longhaul::rest::routes::Routes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::rig::{Folder, load, mistakes, only, request, route_with, summary, task_with, value};

fn refused(template: &str) -> String {
    let told = mistakes(&route_with(&format!("summary = '''{template}'''")));
    assert_eq!(told.len(), 1, "{template}: {told:#?}");
    told.into_iter().next().unwrap()
}

#[test]
fn nothing_but_the_request_and_the_caller_can_be_reached() {
    for template in [
        "{{ self }}",
        "{{ self.x }}",
        "{{ super() }}",
        "{{ loop }}",
        "{{ config }}",
        "{{ env }}",
        "{{ debug() }}",
        "{{ range(1000000000) }}",
        "{{ namespace() }}",
        "{{ dict(a=1) }}",
        "{{ include('x') }}",
        "{{ lipsum(5) }}",
        "{{ cycler('a') }}",
        "{{ joiner() }}",
        "{{ body.name.upper() }}",
        "{{ body.items() }}",
        "{{ body['items']() }}",
        "{{ 'x'.join(body.list) }}",
        "{{ (body.name)() }}",
        "{{ body.in(1) }}",
        "{{ body.name | attr('__class__') }}",
        "{{ body.name | map('upper') }}",
        "{{ body.name | tojson }}",
        "{{ body.name | safe }}",
        "{{ body.name | pprint }}",
        "{{ body is callable }}",
        "{% include '/etc/passwd' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% set x = 1 %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{% for i in body.list recursive %}{{ loop(i) }}{% endfor %}",
        "{% for i in range(1000000000) %}x{% endfor %}",
    ] {
        refused(template);
    }
    // Attributes are fields of the body and nothing else.
    for template in [
        "{{ body.__class__ }}",
        "{{ body.name.__class__ }}",
        "{{ body.items }}",
        "{{ body.name.length }}",
    ] {
        let fault = summary(template, json!({"name": "x"})).unwrap_err();
        assert!(fault.contains("does not have"), "{template}: {fault}");
    }
}

#[test]
fn nothing_multiplies_what_was_sent() {
    for template in [
        "{{ 'x' * 100000000 }}",
        "{{ body.name * body.n }}",
        "{{ [1] * 100000000 }}",
        "{{ 10 ** 100 }}",
        "{{ body.list | join(*body.list) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ body.name | replace('', body.name) }}",
        "{{ body.name | center(1000000000) }}",
        "{{ body.name | indent(1000000000) }}",
        "{{ body.name | batch(1) }}",
    ] {
        refused(template);
    }
    // A star within a text is a star.
    assert_eq!(summary("{{ '*' }}", json!({})).unwrap(), "*");
    // 100,000 separators of 100,000 bytes would be ten gigabytes.
    let body = json!({"list": vec![0; 40_000], "by": "x".repeat(100_000)});
    let fault = summary("{{ body.list | join(body.by) }}", body).unwrap_err();
    assert!(
        fault.contains("the joined text is longer than 1048576 bytes"),
        "{fault}"
    );
}

#[test]
fn an_expression_has_few_tokens_and_little_depth() {
    let deep = format!("{{{{ {}body.n{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(refused(&deep).contains("at most 100 are allowed"));
    let nested = format!("{{{{ {}body.n{} }}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(refused(&nested).contains("at most 100 are allowed"));
    let chain = format!("{{{{ body.n{} }}}}", " | default(1)".repeat(5_000));
    assert!(refused(&chain).contains("at most 100 are allowed"));
    let nots = format!("{{{{ {}body.n }}}}", "not ".repeat(5_000));
    assert!(refused(&nots).contains("at most 100 are allowed"));
    // What is allowed does not overflow either.
    let allowed = format!("{{{{ {}body.n{} }}}}", "(".repeat(48), ")".repeat(48));
    assert_eq!(summary(&allowed, json!({"n": 1})).unwrap(), "1");
    let braces = format!("{{{{ {}", "{".repeat(100_000));
    assert!(refused(&braces).contains("has no end"));
    let texts = "{{ 'a' }}".repeat(10_000);
    assert_eq!(summary(&texts, json!({})).unwrap(), "a".repeat(10_000));
}

#[test]
fn a_rendered_job_is_bounded() {
    let long = json!({"text": "x".repeat(600_000)});
    let terms = vec!["body.text"; 24].join(" + ");
    let fault = value(&format!("{{{{ {terms} }}}}"), long.clone()).unwrap_err();
    assert!(
        fault.contains("the job gets larger than 2097152 bytes"),
        "{fault}"
    );
    let fault = summary(&"{{ body.text }}".repeat(4), long.clone()).unwrap_err();
    assert!(fault.contains("the job gets larger"), "{fault}");
    // The bound is one for the whole job, however many fields share it.
    let tasks =
        "\n[[route.task]]\ndriver = \"d\"\nrequest_payload = { all = \"{{ body }}\" }".repeat(900);
    let routes = load(&format!("{}{tasks}", route_with("")));
    let fault = only(&routes).render(&request(long)).unwrap_err();
    assert_eq!(fault.violations.len(), 100);
    assert_eq!(fault.violations[0].field, "tasks[4].request_payload.all");
    let small = only(&routes).render(&request(json!({"a": 1}))).unwrap();
    assert_eq!(small["tasks"].as_array().unwrap().len(), 901);
}

#[test]
fn deep_bodies_are_refused() {
    let nest = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert!(value("{{ body }}", nest(128)).is_ok());
    for levels in [129, 1_000] {
        let fault = value("{{ body }}", nest(levels)).unwrap_err();
        assert!(
            fault.contains("body: nests deeper than 128 levels"),
            "{fault}"
        );
    }
    // A schema that refers to itself follows the body, and no further.
    let text = route_with("schema = \"s.json\"");
    let schema = r##"{"type": ["array", "integer"], "items": {"$ref": "#"}}"##;
    let folder = Folder::new(&[("a.toml", &text), ("s.json", schema)]);
    let routes = folder.load().unwrap();
    only(&routes).render(&request(nest(120))).unwrap();
    let endless = Folder::new(&[("a.toml", &text), ("s.json", r##"{"$ref": "#"}"##)]);
    if let Ok(routes) = endless.load() {
        let _ = only(&routes).render(&request(json!(1)));
    }
}

#[test]
fn wide_bodies_are_refused_before_their_errors_are_counted() {
    let text = route_with("schema = \"s.json\"");
    let schema =
        r#"{"items": {"type": "string"}, "properties": {"a": {}}, "additionalProperties": false}"#;
    let folder = Folder::new(&[("a.toml", &text), ("s.json", schema)]);
    let routes = folder.load().unwrap();
    let faults = |body: Value| only(&routes).render(&request(body)).unwrap_err().violations;
    let told = faults(json!(vec![1; 50_000]));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].description.english(), "has more than 50000 values");
    assert_eq!(faults(json!(vec![1; 49_000])).len(), 100);
    let wide: serde_json::Map<_, _> = (0..40_000).map(|i| (format!("k{i}"), json!(1))).collect();
    let told = faults(Value::Object(wide));
    assert_eq!(told.len(), 100, "{:?}", told[0]);
    let closed = r#"{"properties": {"z": {}}, "additionalProperties": false}"#;
    let schema = format!(r#"{{"properties": {{"a": {closed}, "b": {closed}}}}}"#);
    let two = Folder::new(&[("a.toml", &text), ("s.json", &schema)]);
    let sixty: serde_json::Map<_, _> = (0..60).map(|i| (format!("k{i}"), json!(1))).collect();
    let body = json!({"a": sixty, "b": sixty});
    let fault = only(&two.load().unwrap()).render(&request(body));
    assert_eq!(fault.unwrap_err().violations.len(), 100);
    let name = "n".repeat(500_000);
    let told = faults(json!({name: 1}));
    assert!(told[0].field.len() < 1_000, "{}", told[0].field.len());
}

#[test]
fn a_pattern_takes_time_in_proportion_to_the_text() {
    let text = route_with("schema = \"s.json\"");
    let schema = r#"{"properties": {"x": {"pattern": "^(a+)+$"}}}"#;
    let folder = Folder::new(&[("a.toml", &text), ("s.json", schema)]);
    let routes = folder.load().unwrap();
    let body = json!({"x": format!("{}!", "a".repeat(200_000))});
    let fault = only(&routes).render(&request(body)).unwrap_err();
    assert_eq!(fault.violations[0].field, "body.x");
    assert!(fault.to_string().len() < 1_000, "{fault}");
    // And one that would take much memory is refused.
    let huge = Folder::new(&[
        ("a.toml", &text),
        ("s.json", r#"{"pattern": "((a{1000}){1000}){1000}"}"#),
    ]);
    assert!(huge.mistakes()[0].contains("is not a JSON Schema"));
}

#[test]
fn numbers_are_kept_exactly_or_refused() {
    for exact in [
        "9007199254740992",
        "-9007199254740992",
        "0.1",
        "1e308",
        "-0.0",
        "5e-324",
    ] {
        let number: Value = serde_json::from_str(exact).unwrap();
        assert_eq!(
            value("{{ body.n }}", json!({"n": number})).unwrap(),
            number,
            "{exact}"
        );
    }
    for huge in [
        "9007199254740993",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        let number: Value = serde_json::from_str(huge).unwrap();
        let fault = value("{{ body.n }}", json!({"n": number})).unwrap_err();
        assert!(fault.contains("send it as text"), "{huge}: {fault}");
        assert_eq!(summary("{{ body.n }}", json!({"n": number})).unwrap(), huge);
    }
    assert!(
        value("{{ body.n + 1e308 + 1e308 }}", json!({"n": 1e308}))
            .unwrap_err()
            .contains("finite")
    );
    assert!(
        value("{{ body.n | int }}", json!({"n": 1e300}))
            .unwrap_err()
            .contains("too large")
    );
    assert!(
        value("{{ body.n | int }}", json!({"n": "nan"}))
            .unwrap_err()
            .contains("a number is needed")
    );
}

#[test]
fn missing_fields_never_become_text() {
    for body in [
        Value::Null,
        json!([]),
        json!("x"),
        json!({}),
        json!({"a": null}),
    ] {
        for template in [
            "{{ body.a.b }}",
            "x{{ body.b }}",
            "{{ body.b | upper }}",
            "{{ body.b ~ 'x' }}",
            "{{ [body.b] | join }}",
        ] {
            assert!(
                summary(template, body.clone()).is_err(),
                "{template} with {body}"
            );
        }
        assert!(value("{{ [body.b] }}", body.clone()).is_err());
        assert!(value("{{ {'a': body.b} }}", body).is_err());
    }
}

#[test]
fn a_file_that_nests_deeply_is_refused() {
    let deep = format!(
        "request_payload = {{ x = {}1{} }}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    assert!(!mistakes(&task_with(&deep)).is_empty());
}

proptest! {
    /// Whatever stands in a file, loading it ends with routes or with mistakes.
    #[test]
    fn any_template_loads_or_is_refused(
        template in r#"([a-z ]|\{\{|\}\}|\{|\}|%|body\.|path|\||default|is|not|\(|\)|\[|\]|"|'|\\|é|~|\+|-|[0-9]|\.|,|:){0,30}"#,
    ) {
        let quoted = toml::Value::String(template).to_string();
        let text = task_with(&format!("request_payload = {{ x = {quoted} }}"));
        let folder = Folder::new(&[("a.toml", &text)]);
        if let Ok(routes) = folder.load() {
            let _ = only(&routes).render(&request(json!({"a": [1], "b": "x"})));
        }
    }

    #[test]
    fn any_path_leads_somewhere_or_nowhere(path in "[/a%2F0\\.é\u{0}]{0,40}") {
        let routes = load(&route_with(""));
        let _ = routes.find("POST", &path);
        let _ = routes.methods(&path);
        let _ = Routes::default().find("POST", &path);
    }

    /// What a client escapes arrives as it was.
    #[test]
    fn any_escaped_value_arrives(value in "\\PC{1,80}") {
        prop_assume!(value != "." && value != "..");
        let escaped: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
        let routes = load(&route_with(""));
        let found = routes.find("POST", &format!("/v2.1/things/{escaped}")).unwrap().unwrap();
        prop_assert_eq!(&found.path["id"], &value);
    }
}
