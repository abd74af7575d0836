use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn structure(value: &Json) -> Struct {
    Struct::from_json(value).expect("an object")
}

fn paths(texts: &[&str]) -> Vec<FieldPath> {
    let parse = |text: &&str| FieldPath::parse(text).expect("a path");
    texts.iter().map(parse).collect()
}

/// What is shown of a payload, after it was seen that nothing is lost.
fn shown(payload: &Json, sensitive: &[&str]) -> Json {
    let whole = structure(payload);
    let (shown, taken) = whole.split(&paths(sensitive)).expect("a payload");
    let again = match &taken {
        Some(taken) => {
            let kept = Taken::from_bytes(&taken.to_bytes()).expect("what was kept");
            shown.join(&kept).expect("of one payload")
        }
        None => shown.clone(),
    };
    assert_eq!(again, whole.canonical().expect("a payload"));
    shown.to_json().expect("an object")
}

#[test]
fn a_name_is_known_however_it_is_spelled() {
    for name in [
        "password",
        "PASSWORD",
        "userPassWord",
        "pass_word",
        "pass-wd",
        "S3-Secret-Access-Key",
        "api_key",
        "ApiKey",
        "x-api-key",
        "private_key_pem",
        "Private-Key",
        "sessionToken",
        "credentials",
        "Authorization",
        "_p_a_s_s_w_d_",
        "api.key",
        "api key",
        "ssh_passphrase",
        "ldap_pwd",
        "pass:word",
        "пароль_password",
        "API\u{212a}EY",
    ] {
        assert!(is_secret_name(name), "{name}");
        let long = format!("{}{name}", "x".repeat(100));
        assert!(is_secret_name(&long), "{long}");
    }
    for name in [
        "pass",
        "key",
        "access_key_id",
        "author",
        "api",
        "name",
        "",
        "passw",
        "ssword",
    ] {
        assert!(!is_secret_name(name), "{name}");
    }
}

#[test]
fn what_a_name_says_is_secret_is_not_shown() {
    let payload = json!({
        "name": "b1",
        "password": "p",
        "grid": {"id": 7, "admin_password": 7, "deep": {"er": {"token": null, "size": 5}}},
        "accounts": [{"user": "u", "passwd": ["p"]}, [{"secret": {"a": "s"}}], "password"],
        "env": [{"name": "DB_PASSWORD", "value": "v"}, {"Key": "api.key", "Value": {"a": ["v"]}}, {"name": "size", "value": "v"}, {"name": 7, "value": "v"}],
    });
    let expected = json!({
        "name": "b1",
        "password": MASK,
        "grid": {"id": 7.0, "admin_password": MASK, "deep": {"er": {"token": MASK, "size": 5.0}}},
        "accounts": [{"user": "u", "passwd": MASK}, [{"secret": MASK}], "password"],
        "env": [{"name": "DB_PASSWORD", "value": MASK}, {"Key": "api.key", "Value": MASK}, {"name": "size", "value": "v"}, {"name": 7.0, "value": "v"}],
    });
    assert_eq!(shown(&payload, &[]), expected);
}

#[test]
fn what_a_path_names_is_not_shown() {
    let payload = json!({
        "spec": {"db": {"pin": 1234, "name": "db1"}, "a.b": {"*": "x", "[0]": "y", "\\": "z"}},
        "hosts": [{"name": "h1", "key": "k1"}, {"name": "h2", "key": "k2"}, "h3"],
        "0": "zero",
    });
    for (sensitive, pointer) in [
        ("spec.db.pin", "/spec/db/pin"),
        ("spec.*.pin", "/spec/db/pin"),
        ("spec.db", "/spec/db"),
        ("hosts", "/hosts"),
        ("hosts.2", "/hosts/2"),
        ("hosts.0.key", "/hosts/0/key"),
        ("0", "/0"),
        (r"spec.a\.b.\*", "/spec/a.b/*"),
        (r"spec.a\.b.\[0\]", "/spec/a.b/[0]"),
        (r"spec.a\.b.\\", "/spec/a.b/\\"),
    ] {
        let mut expected = structure(&payload).to_json().expect("an object");
        *expected.pointer_mut(pointer).expect(pointer) = json!(MASK);
        assert_eq!(shown(&payload, &[sensitive]), expected, "{sensitive}");
    }
    let all = shown(&payload, &["hosts.*.key", "hosts.*.name", "nothing.here"]);
    assert_eq!(all["hosts"][0], json!({"name": MASK, "key": MASK}));
    assert_eq!(all["hosts"][1], json!({"name": MASK, "key": MASK}));
    assert_eq!(all["hosts"][2], json!("h3"));
    assert_eq!(
        shown(&payload, &["hosts.3", "hosts.h3", "spec.db.pin.x", "00"])["0"],
        json!("zero")
    );
}

#[test]
fn a_path_that_is_not_well_formed_says_what_is_wrong() {
    let long = "a".repeat(MAX_PATH_BYTES + 1);
    let deep = vec!["a"; MAX_LEVELS + 1].join(".");
    for (text, expected) in [
        ("", BadPath::EmptyName),
        (".", BadPath::EmptyName),
        ("a..b", BadPath::EmptyName),
        ("a.", BadPath::EmptyName),
        (".a", BadPath::EmptyName),
        ("hosts[*].key", BadPath::Bracket),
        ("a]", BadPath::Bracket),
        ("a*", BadPath::Star),
        ("**", BadPath::Star),
        (r"a\b", BadPath::Backslash),
        (r"a\", BadPath::Backslash),
        (long.as_str(), BadPath::TooLong),
        (deep.as_str(), BadPath::TooLong),
    ] {
        assert_eq!(FieldPath::parse(text), Err(expected), "{text}");
    }
}

#[test]
fn what_is_no_payload_is_none_when_it_is_secret_either() {
    let value = |kind| Value { kind };
    for (key, bad) in [
        ("password", value(None)),
        ("password", value(Some(Kind::NumberValue(f64::NAN)))),
        ("open", value(None)),
        ("open", value(Some(Kind::NumberValue(f64::INFINITY)))),
    ] {
        let object = prost_types::Struct {
            fields: [(key.to_owned(), bad)].into(),
        };
        let object = Struct::from_encoded(object.encode_to_vec().into());
        assert!(
            object.split(&[]).is_err() && object.canonical().is_err(),
            "{key}"
        );
    }
    for key in ["password", "in"] {
        let nested = |levels: usize| {
            let inner = (1..levels).fold(json!({}), |inner, _| json!({"in": inner}));
            structure(&json!({key: inner}))
        };
        assert!(nested(MAX_LEVELS - 1).split(&[]).is_ok());
        let error = nested(MAX_LEVELS).split(&[]).expect_err("too deep");
        assert!(
            error.to_string().ends_with("deeper than 30 levels"),
            "{error}"
        );
    }
}

#[test]
fn the_secrets_of_another_payload_are_not_put_in() {
    let of = |payload: &Json| structure(payload).split(&[]).expect("a payload");
    let (_, taken) = of(&json!({"a": [{"token": "t"}]}));
    for other in [
        json!({}),
        json!({"a": "b"}),
        json!({"a": []}),
        json!({"a": {"token": "t"}}),
    ] {
        let (other, _) = of(&other);
        assert!(other.join(taken.as_ref().expect("a secret")).is_err());
    }
    assert_eq!(format!("{:?}", taken.expect("a secret")), "Taken(…)");
}

/// Objects whose names and values are of a few, so that names, paths and values meet.
fn any_json() -> impl Strategy<Value = Json> {
    let text = prop_oneof![Just("password"), Just("name"), Just("x"), Just("SECRET-7f")];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-1e6..1e6).prop_map(|number: f64| json!(number)),
        text.prop_map(Json::from),
    ];
    let key = prop_oneof![
        Just("a"),
        Just("b"),
        Just("name"),
        Just("value"),
        Just("my_token"),
        Just("c.d"),
        Just("0"),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let object = prop::collection::btree_map(key.clone(), inner.clone(), 0..5);
        let object = object.prop_map(|fields| json!(fields));
        prop_oneof![
            object,
            prop::collection::vec(inner, 0..4).prop_map(Json::from)
        ]
    })
}

fn any_paths() -> impl Strategy<Value = Vec<FieldPath>> {
    let step = prop_oneof![
        Just("a"),
        Just("b"),
        Just("*"),
        Just("0"),
        Just("1"),
        Just(r"c\.d"),
        Just("value")
    ];
    let path = prop::collection::vec(step, 1..4)
        .prop_map(|steps| FieldPath::parse(&steps.join(".")).expect("a path"));
    prop::collection::vec(path, 0..4)
}

/// What stands under secret names and paths, by a look at each place on its own.
fn secrets<'a>(value: &'a Json, place: &[String], paths: &[FieldPath], found: &mut Vec<&'a Json>) {
    let is_named = paths.iter().any(|path| {
        let steps = path.steps();
        steps.len() == place.len() && steps.iter().zip(place).all(|(step, name)| step.names(name))
    });
    if is_named {
        found.push(value);
        return;
    }
    let behind = |name: String| place.iter().cloned().chain([name]).collect::<Vec<_>>();
    match value {
        Json::Object(fields) => {
            let beside = fields
                .get("name")
                .and_then(Json::as_str)
                .is_some_and(is_secret_name);
            for (key, value) in fields {
                if is_secret_name(key) || beside && key == "value" {
                    found.push(value);
                } else {
                    secrets(value, &behind(key.clone()), paths, found);
                }
            }
        }
        Json::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                secrets(value, &behind(at.to_string()), paths, found);
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn both_parts_make_the_whole_and_nothing_secret_is_shown(
        fields in prop::collection::btree_map("[ab]|my_token|name|value", any_json(), 0..4),
        sensitive in any_paths(),
    ) {
        let payload = json!(fields);
        let whole = structure(&payload);
        let (shown, taken) = whole.split(&sensitive).expect("a payload");
        let again = taken.as_ref().map_or(Ok(shown.clone()), |taken| shown.join(taken));
        prop_assert_eq!(again.expect("of one payload"), whole.canonical().expect("a payload"));

        let mut secret = Vec::new();
        secrets(&payload, &[], &sensitive, &mut secret);
        prop_assert_eq!(taken.is_some(), !secret.is_empty());
        let shown = shown.to_json().expect("an object");
        let masks = shown.to_string().matches(MASK).count();
        prop_assert_eq!(masks, secret.len());
        // What is shown is the payload with each of these places masked, and nothing of what stood there.
        let mut left = Vec::new();
        secrets(&shown, &[], &sensitive, &mut left);
        prop_assert!(left.iter().all(|value| **value == json!(MASK)), "{}", shown);
        if let Some(taken) = taken {
            let bytes = taken.to_bytes();
            prop_assert!(bytes.len() <= whole.encoded().len() + 8 * secret.len() + 64);
        }
    }
}
