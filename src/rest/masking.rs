//! Keeps secrets out of what is shown of payloads that an older version stored as they were sent: those that came later have none by the time they are
//! stored.
//!
//! What is secret is told by the name of its key alone, wherever in the payload it stands; whatever stands under such a key is hidden as a whole. A list of
//! names and values has its names as text: the `value` beside a `name` or a `key` that is such a name is hidden, too.

use serde_json::Value;

use crate::proto::sensitive::{MASK, is_secret_name};

/// The same, without its secrets. Payloads are nested thirty levels deep at the most.
pub(super) fn masked(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let names = fields.iter().filter(|(key, _)| is(key, &["name", "key"]));
            let mut names = names.filter_map(|(_, name)| name.as_str());
            let names_secret = names.any(is_secret_name);
            let fields = fields.into_iter().map(|(key, value)| {
                let value = match is_secret_name(&key) || names_secret && is(&key, &["value"]) {
                    true => Value::from(MASK),
                    false => masked(value),
                };
                (key, value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(masked).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

fn is(key: &str, one_of: &[&str]) -> bool {
    one_of.iter().any(|one| key.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let payload = json!({
            "name": "b1",
            "password": "p",
            "grid": {"id": 7, "admin_password": "p", "deep": {"er": {"token": "t", "size": 5}}},
            "accounts": [{"user": "u", "passwd": "p"}, [{"secret": "s"}], "password"],
        });
        let shown = json!({
            "name": "b1",
            "password": "********",
            "grid": {"id": 7, "admin_password": "********", "deep": {"er": {"token": "********", "size": 5}}},
            "accounts": [{"user": "u", "passwd": "********"}, [{"secret": "********"}], "password"],
        });
        assert_eq!(masked(payload), shown);
    }

    #[test]
    fn a_key_is_known_however_it_is_spelled() {
        for key in [
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
        ] {
            assert_eq!(masked(json!({key: "v"})), json!({key: MASK}), "{key}");
        }
        for key in ["pass", "key", "access_key_id", "author", "api", "name", ""] {
            assert_eq!(masked(json!({key: "v"})), json!({key: "v"}), "{key}");
        }
    }

    #[test]
    fn a_value_beside_the_name_of_a_secret_is_hidden() {
        for payload in [
            json!({"name": "DB_PASSWORD", "value": "v"}),
            json!({"Key": "api.key", "Value": {"a": ["v"]}}),
        ] {
            let shown = masked(payload.clone()).to_string();
            assert!(shown.contains(MASK) && !shown.contains("\"v\""), "{shown}");
        }
        for payload in [
            json!({"name": "size", "value": "v"}),
            json!({"name": "password", "other": "v"}),
            json!({"names": "password", "value": "v"}),
            json!({"name": 7, "value": "v"}),
        ] {
            assert_eq!(masked(payload.clone()), payload);
        }
    }

    #[test]
    fn a_secret_of_any_type_is_hidden_as_a_whole() {
        for value in [
            json!("v"),
            json!(""),
            json!(17),
            json!(true),
            json!(null),
            json!(["a", "b"]),
            json!({"user": "u", "value": "v"}),
        ] {
            assert_eq!(masked(json!({"secret": value})), json!({"secret": MASK}));
        }
    }
}
