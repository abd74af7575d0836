//! Which route a request is for.

use longhaul::rest::routes::{Dialect, Method, Routes};

use super::rig::{TASK, load, mistakes};

fn route(dialect: &str, matched: &str, action: &str) -> String {
    format!(
        "[[route]]\ndialect = \"{dialect}\"\nmatch = \"{matched}\"\naction = \"{action}\"\n{TASK}"
    )
}

fn routes(list: &[&str]) -> Routes {
    let text: Vec<_> = list.iter().map(|m| route("native", m, "go")).collect();
    load(&text.join("\n"))
}

/// The pattern that a request leads to, and the values of its parameters.
fn found(routes: &Routes, method: &str, path: &str) -> Option<(String, Vec<String>)> {
    let found = routes
        .find(method, path)
        .unwrap_or_else(|fault| panic!("{path}: {fault}"))?;
    let pattern = found.route.pattern().to_owned();
    Some((pattern, found.path.into_values().collect()))
}

#[test]
fn a_path_is_split_before_it_is_decoded() {
    let routes = routes(&["DELETE /buckets/{id}"]);
    let id = |path: &str| found(&routes, "DELETE", path).map(|(_, mut values)| values.remove(0));
    assert_eq!(id("/buckets/a").as_deref(), Some("a"));
    assert_eq!(id("/buckets/a%2Fb%2f").as_deref(), Some("a/b/"));
    assert_eq!(id("/buckets/caf%C3%A9%20x+y").as_deref(), Some("café x+y"));
    assert_eq!(id("/%62uckets/a").as_deref(), Some("a"), "literals too");
    assert_eq!(id("/buckets/a/b"), None);
    assert_eq!(id("/buckets/"), None, "a parameter is never empty");
    assert_eq!(id("/buckets"), None);
    assert_eq!(id("/Buckets/a"), None);
    assert_eq!(id("/buckets%2Fa"), None);
    assert_eq!(id("buckets/a"), None);
    assert_eq!(id(""), None);
    assert_eq!(
        id("/buckets/%257Bid%257D").as_deref(),
        Some("%7Bid%7D"),
        "once"
    );
}

#[test]
fn values_that_no_parameter_may_have_are_the_clients_fault() {
    let routes = load(&route("deploy", "DELETE /buckets/{id}", "delete"));
    let long = "x".repeat(1_025);
    for (value, told) in [
        ("%FF", "is not UTF-8"),
        ("%ED%A0%80", "is not UTF-8"),
        ("a%00", "control character"),
        ("a%0D%0Ab", "control character"),
        ("%C2%85", "control character"),
        (".", "must not be"),
        ("%2E%2e", "must not be"),
        ("%2", "hexadecimal"),
        ("%zz", "hexadecimal"),
        ("%+1", "hexadecimal"),
        (long.as_str(), "at most 1024 bytes"),
    ] {
        let fault = routes
            .find("DELETE", &format!("/buckets/{value}"))
            .unwrap_err();
        assert_eq!(fault.dialect, Dialect::Deploy);
        assert_eq!(fault.violation.field, "path.id", "{value}");
        assert!(
            fault.violation.description.english().contains(told),
            "{value}: {fault}"
        );
    }
    let longest = format!("/buckets/{}", &long[1..]);
    assert!(routes.find("DELETE", &longest).unwrap().is_some());
    // Where no parameter stands, such a path is merely unknown.
    assert!(routes.find("DELETE", "/%FF/a").unwrap().is_none());
}

#[test]
fn the_more_particular_route_wins_whatever_the_order() {
    let mut list = ["POST /a/{x}/c", "POST /a/b/{y}", "POST /{x}/b/c"];
    for _ in 0..list.len() {
        list.rotate_left(1);
        let routes = routes(&list);
        let pattern = |path: &str| found(&routes, "POST", path).map(|(pattern, _)| pattern);
        assert_eq!(pattern("/a/b/c").as_deref(), Some("/a/b/{y}"));
        assert_eq!(pattern("/a/z/c").as_deref(), Some("/a/{x}/c"));
        assert_eq!(pattern("/z/b/c").as_deref(), Some("/{x}/b/c"));
        assert_eq!(pattern("/z/z/c"), None);
    }
}

#[test]
fn a_path_knows_its_methods() {
    let routes = routes(&["POST /a", "PUT /a/{id}", "DELETE /a/{id}", "PATCH /a/b"]);
    assert_eq!(
        routes.methods("/a/b"),
        Some((
            Dialect::Native,
            vec![Method::Delete, Method::Patch, Method::Put]
        ))
    );
    assert_eq!(
        routes.methods("/a"),
        Some((Dialect::Native, vec![Method::Post]))
    );
    assert_eq!(routes.methods("/b"), None);
    // A particular route of another method does not hide the general one.
    let (pattern, _) = found(&routes, "DELETE", "/a/b").unwrap();
    assert_eq!(pattern, "/a/{id}");
    assert!(routes.find("GET", "/a").unwrap().is_none());
    assert!(routes.find("post", "/a").unwrap().is_none());
}

#[test]
fn only_the_service_engine_takes_a_slash_at_the_end() {
    for (dialect, taken) in [
        ("nse", true),
        ("aiqum", false),
        ("deploy", false),
        ("native", false),
    ] {
        let routes = load(&route(dialect, "POST /a/{id}", "go"));
        assert_eq!(
            routes.find("POST", "/a/b/").unwrap().is_some(),
            taken,
            "{dialect}"
        );
        assert!(
            routes.find("POST", "/a/b//").unwrap().is_none(),
            "{dialect}"
        );
        assert!(routes.find("POST", "/a//").unwrap().is_none(), "{dialect}");
    }
}

#[test]
fn a_very_long_path_is_no_route() {
    let routes = routes(&["POST /a/{id}"]);
    let path = "/a".repeat(100_000);
    assert!(routes.find("POST", &path).unwrap().is_none());
    assert!(routes.methods(&path).is_none());
}

#[test]
fn routes_that_take_each_others_requests_clash() {
    let clash = |one: &str, other: &str| {
        let text = format!("{}\n{}", route("nse", one, "a"), route("nse", other, "b"));
        mistakes(&text)
    };
    let told = clash("POST /a/{x}/c", "POST /a/{y}/c");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("routes.toml, line 9: POST /a/{y}/c is served already by the route in")
            && told[0].ends_with("line 1; leave one out"),
        "{told:?}"
    );
    // Another method, or another shape, is another route.
    routes(&["POST /a/{x}", "PUT /a/{x}", "POST /a/b", "POST /a/{x}/c"]);
}

#[test]
fn the_servers_own_paths_can_not_be_taken() {
    let taken = |ours: &str, builtin: (&str, &str)| {
        let routes = load(&route("native", ours, "go"));
        match routes.check_against(&[("GET", "/nothing"), builtin]) {
            Ok(()) => false,
            Err(error) => {
                assert!(
                    error.to_string().contains(", line 1: ")
                        && error.to_string().contains("choose another path"),
                    "{error}"
                );
                true
            }
        }
    };
    assert!(taken("POST /v1/jobs", ("POST", "/v1/jobs")));
    assert!(taken("POST /v1/{what}", ("POST", "/v1/jobs")));
    assert!(taken(
        "POST /v1/jobs/{id}",
        ("POST", "/v1/jobs/{id}:cancel")
    ));
    assert!(taken("DELETE /v1/jobs/7", ("DELETE", "/v1/jobs/{id}")));
    assert!(taken("PUT /ui/a/b", ("*", "/ui/{*rest}")));
    assert!(!taken("POST /v1/jobs", ("GET", "/v1/jobs")));
    assert!(!taken("POST /v1/jobs/{id}", ("POST", "/v1/jobs")));
    assert!(!taken("POST /v1/things", ("POST", "/v1/jobs")));
    assert!(!taken("PUT /uix/a", ("*", "/ui/{*rest}")));
}
