//! What a loaded route says of itself, for the API's description.

use longhaul::rest::routes::{Dialect, Method, Routes};
use serde_json::json;

use super::rig::{Folder, TASK, only, route_with};

#[test]
fn a_route_says_what_it_is() {
    let text = route_with(
        "summary = \"Make {{ body.name }}\"\ndescription = \"Makes a thing.\"\nschema = \"thing.json\"",
    );
    let folder = Folder::new(&[("a.toml", &text), ("thing.json", r#"{"type": "object"}"#)]);
    let routes = folder.load().unwrap();
    let route = only(&routes);
    assert_eq!(route.dialect(), Dialect::Nse);
    assert_eq!(route.method(), Method::Post);
    assert_eq!(route.pattern(), "/v2.1/things/{id}");
    assert_eq!(route.parameters().collect::<Vec<_>>(), ["id"]);
    assert_eq!(route.summary(), Some("Make {{ body.name }}"));
    assert_eq!(route.description(), Some("Makes a thing."));
    assert_eq!(route.schema(), Some(&json!({"type": "object"})));
}

#[test]
fn a_file_and_a_folder_are_both_read() {
    let second = route_with("").replace("/things/", "/others/");
    let folder = Folder::new(&[("b.toml", &second), ("a.toml", &route_with(""))]);
    assert_eq!(folder.load().unwrap().len(), 2);
    let one = Routes::load(&folder.path().join("b.toml")).unwrap();
    assert_eq!(only(&one).pattern(), "/v2.1/others/{id}");
}

#[test]
fn routes_are_shared_by_all_connections() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&Routes::default());
}

#[test]
fn nothing_configured_is_no_route() {
    let none = Routes::default();
    assert!(none.is_empty());
    assert!(none.find("POST", "/a").unwrap().is_none());
    none.check_against(&[("*", "/{*rest}")]).unwrap();
}

#[test]
fn a_schema_is_read_once_and_never_again() {
    let text = format!(
        "{}{}",
        route_with("schema = \"s.json\""),
        format_args!(
            "\n[[route]]\ndialect = \"nse\"\nmatch = \"PUT /a\"\naction = \"a\"\nschema = \"s.json\"\n{TASK}"
        )
    );
    let folder = Folder::new(&[("a.toml", &text), ("s.json", r#"{"required": ["x"]}"#)]);
    let routes = folder.load().unwrap();
    std::fs::remove_file(folder.path().join("s.json")).unwrap();
    for route in routes.iter() {
        let fault = route.render(&super::rig::request(json!({}))).unwrap_err();
        assert_eq!(fault.violations[0].field, "body.x");
    }
}
