//! Keeps secrets out of what is shown: the documents of one system print a password in a request's payload, and we do not.
//!
//! What is secret is told by the name of its key alone, wherever in the payload it stands; whatever stands under such a key is hidden as a whole.

use serde_json::Value;

/// What stands in the place of a secret.
const MASK: &str = "********";
/// What the key of a secret contains, in small letters and without `_` and `-`.
const SECRETS: [&str; 8] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "credential",
    "authorization",
];

/// The same, without its secrets. Payloads are nested thirty levels deep at the most.
pub(super) fn masked(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| {
                let value = match is_secret(&key) {
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

fn is_secret(key: &str) -> bool {
    let letters = key.chars().filter(|c| !matches!(c, '_' | '-'));
    let key: String = letters.flat_map(char::to_lowercase).collect();
    SECRETS.iter().any(|secret| key.contains(secret))
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
        ] {
            assert_eq!(masked(json!({key: "v"})), json!({key: MASK}), "{key}");
        }
        for key in ["pass", "key", "access_key_id", "author", "api", "name", ""] {
            assert_eq!(masked(json!({key: "v"})), json!({key: "v"}), "{key}");
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
