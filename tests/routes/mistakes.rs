//! What is wrong with a route file is told when it is loaded: all of it, each with its line and what to do.

use std::fmt::Write as _;

use super::rig::{Folder, ROUTE, TASK, load, mistakes, route_with, task_with};

/// The only mistake of a file, without the file's name.
fn mistake(text: &str) -> String {
    let told = mistakes(text);
    assert_eq!(told.len(), 1, "{told:#?}");
    let told = told[0].strip_prefix("routes.toml, ").expect("a line");
    told.to_owned()
}

#[test]
fn a_right_file_has_none() {
    load(&route_with(""));
    load("");
}

#[test]
fn fields_are_known_and_of_their_types() {
    for (line, told) in [
        (
            "sumary = \"x\"",
            "line 6: there is no field `sumary` in a route; there is dialect, match,",
        ),
        ("action = \"again\"", "line 6: "),
        (
            "object = { kind = \"x\" }",
            "line 6: there is no field `kind` in an object; there is type, id, name",
        ),
        ("object = \"x\"", "line 6: `object` must be a table"),
        (
            "summary = 7",
            "line 6: `summary` must be a text in quotes, not integer",
        ),
        ("labels = { a = 1 }", "line 6: the label `a` must be a text"),
        (
            "labels = { \"A b\" = \"1\" }",
            "line 6: `labels[\"A b\"]` a key is 1 to 63 characters",
        ),
        (
            "priority = \"high\"",
            "line 6: `priority` must be a whole number",
        ),
        (
            "priority = 99999999999",
            "line 6: `priority` must be a whole number that is not out of range",
        ),
        (
            "priority = 1001",
            "line 6: `priority` must be from -1000 to 1000",
        ),
        (
            "failure_policy = \"stop\"",
            "line 6: there is no failure policy `stop`; there is fail_fast and continue",
        ),
        (
            "summary = \"a\\u0007\"",
            "line 6: `summary` has the control character",
        ),
    ] {
        let found = mistake(&route_with(line));
        assert!(found.starts_with(told), "{line}: {found}");
    }
    for (line, told) in [
        (
            "drivers = 1",
            "line 9: there is no field `drivers` in a task; there is name, action, driver,",
        ),
        (
            "depends_on = \"a\"",
            "line 9: `depends_on` must be a list of texts",
        ),
        (
            "depends_on = [\"a\"]",
            "line 9: `task[0].depends_on[0]` no task of this job is named \"a\"",
        ),
        (
            "name = \"{{ body.name }}\"",
            "line 9: `name` is the same for every request",
        ),
        (
            "max_attempts = -1",
            "line 9: `max_attempts` must be a whole number",
        ),
        (
            "max_attempts = 101",
            "line 9: `task[0].max_attempts` must be at most 100",
        ),
        (
            "timeouts = { start_to_close = \"soon\" }",
            "line 9: `start_to_close`: 'soon' is not a duration; write it like 500ms",
        ),
        (
            "timeouts = { start_to_close = 30 }",
            "line 9: `start_to_close` must be a text in quotes",
        ),
        (
            "timeouts = { heartbeat = \"10ms\" }",
            "line 9: `task[0].timeouts.heartbeat` must be from 1000 ms",
        ),
        (
            "timeouts = { total = \"1s\" }",
            "line 9: there is no field `total` in timeouts",
        ),
        (
            "retry_policy = { multiplier = 11 }",
            "line 9: `task[0].retry_policy.multiplier` must be from 1 to 10",
        ),
        (
            "retry_policy = { jitter = nan }",
            "line 9: `jitter` must be a number",
        ),
        (
            "request_payload = \"text\"",
            "line 9: `request_payload` must be a table",
        ),
        (
            "request_payload = [1]",
            "line 9: `request_payload` must be a table",
        ),
        (
            "request_payload = { x = inf }",
            "line 9: JSON has neither inf nor nan",
        ),
        (
            "request_payload = { x = 9007199254740993 }",
            "line 9: the number is a whole number beyond 2^53",
        ),
    ] {
        let found = mistake(&task_with(line));
        assert!(found.starts_with(told), "{line}: {found}");
    }
}

#[test]
fn what_must_be_there_is_missed() {
    let told = mistakes("[[route]]\n\n[[route.task]]\n");
    assert_eq!(told.len(), 4, "{told:#?}");
    for (told, expected) in told.iter().zip([
        "line 1: `dialect` is missing in a route",
        "line 1: `match` is missing in a route",
        "line 1: `action` is missing in a route",
        "line 3: `task[0].driver` must be 1 to 128 characters",
    ]) {
        assert!(told.contains(expected), "{told}");
    }
    assert!(mistake(ROUTE).starts_with("line 2: `task` has 0; from 1 to 1000 are needed"));
    assert!(
        mistake("[route]\n")
            .starts_with("line 1: `route` must be tables under headings [[…route]]")
    );
    assert!(
        mistake("[[routes]]\n")
            .starts_with("line 1: there is no field `routes` in a route file; there is route")
    );
}

#[test]
fn tasks_hang_together() {
    let two = |one: &str, other: &str| mistake(&format!("{ROUTE}{TASK}{one}\n{TASK}{other}\n"));
    let told = two(
        "name = \"a\"\ndepends_on = [\"b\"]",
        "name = \"b\"\ndepends_on = [\"a\"]",
    );
    assert!(
        told.starts_with("line 10: `task[0].depends_on` a cycle: a -> b -> a"),
        "{told}"
    );
    let told = two("name = \"a\"", "name = \"a\"");
    assert!(
        told.contains("`task[1].name` \"a\" is the name of tasks[0] already"),
        "{told}"
    );
    let told = two("", "driver = \"again\"");
    assert!(told.contains("duplicate key"), "{told}");
}

#[test]
fn a_request_is_described_by_a_method_and_a_path() {
    for (matched, told) in [
        ("POST", "must be a method and a path"),
        (
            "post /a",
            "method `post` can not start a job; use DELETE, PATCH, POST, PUT",
        ),
        ("GET /a", "method `GET` can not start a job"),
        ("BREW /a", "method `BREW` can not start a job"),
        ("POST a", "must begin with `/`"),
        ("POST  /a", "must begin with `/`"),
        ("POST /", "empty segment"),
        ("POST /a//b", "empty segment"),
        ("POST /a/", "empty segment"),
        ("POST /a/{Id}", "snake case"),
        ("POST /a/{}", "snake case"),
        ("POST /a/{9}", "snake case"),
        ("POST /a/{id}/{id}", "stands twice"),
        ("POST /a/x{id}", "only a part of the segment"),
        ("POST /a/{*rest}", "snake case"),
        ("POST /a/..", "may not have a segment `..`"),
        ("POST /a b", "the character ' '"),
        ("POST /a?x=1", "the character '?'"),
        ("POST /a%20b", "the character '%'"),
        ("POST /é", "the character 'é'"),
    ] {
        let text =
            format!("[[route]]\ndialect = \"nse\"\nmatch = \"{matched}\"\naction = \"a\"\n{TASK}");
        let found = mistake(&text);
        assert!(
            found.starts_with("line 3: ") && found.contains(told),
            "{matched}: {found}"
        );
    }
    let long = format!(
        "[[route]]\ndialect = \"nse\"\nmatch = \"POST {}\"\naction = \"a\"\n{TASK}",
        "/a".repeat(33)
    );
    assert!(mistake(&long).contains("33 segments; at most 32"));
    let dialect = ROUTE.replace("nse", "ontap");
    assert!(
        mistake(&format!("{dialect}{TASK}")).starts_with(
            "line 3: there is no dialect `ontap`; there is aiqum, deploy, nse, native"
        )
    );
}

#[test]
fn templates_are_checked() {
    for (template, told) in [
        ("{{ body.name", "has no end"),
        ("{{ body.name }", "has no end"),
        ("{{ body.name | }}", "the name of a filter is missing"),
        ("{{ }}", "the expression is empty"),
        ("{{ body. }}", "is no expression"),
        ("{{ body..name }}", "is no expression"),
        ("{{ 'x }}", "has no end"),
        ("{{ body.name body.id }}", "is no expression"),
        ("{% if body.name %}x{% endif %}", "there are no statements"),
        ("{# note #}", "there are no statements and no comments"),
        ("{{- body.name -}}", "control of white space"),
        (
            "{{ name }}",
            "`name` is unknown; an expression may refer to body, path, query, caller",
        ),
        ("{{ env.PATH }}", "`env` is unknown"),
        ("{{ path.name }}", "there is no `path.name`; there is id"),
        (
            "{{ caller.password }}",
            "there is no `caller.password`; there is tenant, name",
        ),
        (
            "{{ body.name | frobnicate }}",
            "there is no filter `frobnicate`; there is default,",
        ),
        (
            "{{ body.name is odd }}",
            "there is no test `is odd`; there is defined,",
        ),
        ("{{ body.name is not odd }}", "there is no test `is odd`"),
    ] {
        let found = mistake(&route_with(&format!("summary = '''{template}'''")));
        assert!(
            found.starts_with("line 6: ") && found.contains(told),
            "{template}: {found}"
        );
        let found = mistake(&task_with(&format!(
            "request_payload = {{ x = [{{ y = '''{template}''' }}] }}"
        )));
        assert!(
            found.starts_with("line 9: ") && found.contains(told),
            "{template}: {found}"
        );
    }
    // A path that can not be read is one mistake, and not one for each of its parameters as well.
    let text = route_with("summary = \"{{ path.id }}\"").replace("/v2.1", "v2.1");
    assert!(mistake(&text).contains("must begin with `/`"));
}

#[test]
fn schemas_are_checked() {
    let told = |schema: Option<&str>| {
        let route = route_with("schema = \"s/a.json\"");
        let mut files = vec![("routes.toml", route.as_str())];
        files.extend(schema.map(|text| ("s/a.json", text)));
        let mut told = Folder::new(&files).mistakes();
        assert_eq!(told.len(), 1, "{told:#?}");
        told.remove(0)
    };
    for (schema, expected) in [
        (None, "can not be read"),
        (Some("{"), "is not JSON"),
        (Some("[1]"), "is not an object"),
        (Some(r#"{"type": "strin"}"#), "is not a JSON Schema"),
        (
            Some(r#"{"properties": {"a": {"minLength": "7"}}}"#),
            "(at /properties/a/minLength)",
        ),
        (Some(r#"{"pattern": "("}"#), "is not a JSON Schema"),
        (Some(r#"{"pattern": "(a)\\1"}"#), "is not a JSON Schema"),
        (
            Some(r##"{"$ref": "#/$defs/none"}"##),
            "is not a JSON Schema",
        ),
        (
            Some(r#"{"$ref": "http://127.0.0.1:1/a.json"}"#),
            "without fetching another",
        ),
        (
            Some(r#"{"$ref": "file:///etc/hostname"}"#),
            "without fetching another",
        ),
        (
            Some(r#"{"$ref": "other.json"}"#),
            "without fetching another",
        ),
        (
            Some(r#"{"$schema": "http://127.0.0.1:1/meta.json"}"#),
            "without fetching another",
        ),
    ] {
        let found = told(schema);
        assert!(
            found.starts_with("routes.toml, line 6: the schema ") && found.contains(expected),
            "{schema:?}: {found}"
        );
    }
    let large = format!("{{\"description\": \"{}\"}}", "x".repeat(1024 * 1024));
    assert!(told(Some(&large)).contains("is larger than 1048576 bytes"));
    // A file beside the schema is not read either.
    let route = route_with("schema = \"a.json\"");
    let files = [
        ("routes.toml", route.as_str()),
        ("a.json", r#"{"$ref": "b.json"}"#),
        ("b.json", "{}"),
    ];
    assert!(Folder::new(&files).mistakes()[0].contains("without fetching another"));
    // Anything else than a file might never end.
    let route = route_with("schema = \"/dev/zero\"");
    assert!(Folder::new(&[("routes.toml", &route)]).mistakes()[0].contains("is not a file"));
}

#[test]
fn all_mistakes_of_all_files_are_told_in_order() {
    let one = format!(
        "{}\nbad = 1\n[[nothing]]\n",
        task_with("").replace("create", "{{ nobody }}")
    );
    let files = [
        ("b.toml", one.as_str()),
        ("a.toml", "= 1\n[[route]]\nx ="),
        ("c.txt", "not read"),
    ];
    let told = Folder::new(&files).mistakes();
    let starts: Vec<_> = told
        .iter()
        .map(|told| told.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "a.toml, line 1",
            "a.toml, line 3",
            "b.toml, line 5",
            "b.toml, line 11",
            "b.toml, line 12"
        ],
        "{told:#?}"
    );
}

#[test]
fn what_can_not_be_read_is_named() {
    let nothing = Folder::new(&[]);
    assert!(nothing.mistakes()[0].contains("the folder has no route file, NAME.toml"));
    let hidden = Folder::new(&[(".a.toml", "")]);
    assert!(hidden.mistakes()[0].contains("no route file"));
    let missing = longhaul::rest::routes::Routes::load(&nothing.path().join("none.toml"));
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("none.toml: the file can not be read")
    );
    let folder = Folder::new(&[("a.toml/x", "")]);
    assert_eq!(folder.mistakes(), ["a.toml: the file is not a file"]);
    let large = Folder::new(&[("a.toml", &"#".repeat(1024 * 1024 + 1))]);
    assert_eq!(
        large.mistakes(),
        ["a.toml: the file is larger than 1048576 bytes"]
    );
}

#[test]
fn routes_and_their_tasks_are_counted() {
    let many = |count: usize| {
        let mut text = String::new();
        for i in 0..count {
            write!(text, "[[route]]\ndialect=\"nse\"\nmatch=\"POST /a/{i}\"\naction=\"a\"\n[[route.task]]\ndriver=\"d\"\n").unwrap();
        }
        text
    };
    assert_eq!(load(&many(1_000)).len(), 1_000);
    assert_eq!(
        mistakes(&many(1_001)),
        ["routes.toml: there are more than 1000 routes; leave some out"]
    );

    let tasks = |count: usize| format!("{ROUTE}{}", TASK.repeat(count));
    load(&tasks(1_000));
    assert!(mistake(&tasks(1_001)).contains("`task` has 1001; from 1 to 1000 are needed"));
    let labels: Vec<String> = (0..65).map(|i| format!("l{i} = \"x\"")).collect();
    assert!(
        mistake(&route_with(&format!(
            "labels = {{ {} }}",
            labels.join(", ")
        )))
        .contains("at most 64")
    );
}
