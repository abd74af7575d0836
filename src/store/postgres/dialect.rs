//! What PostgreSQL says in its own way of a filter.
//!
//! Its texts hold no NUL, and can not be asked for one: such a pattern matches nothing.

use crate::{
    domain::filter::Pattern,
    store::filter::{Dialect, Value, Values},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Postgres;

impl Dialect for Postgres {
    const TRUE: &'static str = "true";
    const FALSE: &'static str = "false";

    fn parameter(number: usize, value: &Value) -> String {
        // Said, because a column of another width would have the parameter be as wide.
        let type_name = match value {
            Value::Integer(_) => "bigint",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytea",
            Value::Id(_) => "uuid",
        };
        format!("${number}::{type_name}")
    }

    fn label(values: &mut Values<Self>, key: &str, pattern: Option<&Pattern>) -> String {
        if key.contains('\0') {
            return Self::FALSE.into();
        }
        let key = values.bind(Value::Text(key.to_owned()));
        let value = format!("(j.labels ->> {key})");
        match pattern {
            None => format!("({value} IS NOT NULL)"),
            Some(pattern) => {
                let matches = Self::matches(values, &value, pattern);
                format!("({value} IS NOT NULL AND {matches})")
            }
        }
    }

    /// LIKE compares bytes here: texts are in UTF-8, and no collation of theirs says that two different ones are the same.
    fn matches(values: &mut Values<Self>, text: &str, pattern: &Pattern) -> String {
        let parts: Vec<&str> = match pattern {
            Pattern::Exact(all) => vec![all],
            Pattern::Prefix(part) => vec![part, ""],
            Pattern::Suffix(part) => vec!["", part],
            Pattern::Contains(part) => vec!["", part, ""],
            Pattern::Glob(parts) if parts.is_empty() => vec![""],
            Pattern::Glob(parts) => parts.iter().map(String::as_str).collect(),
        };
        if parts.iter().any(|part| part.contains('\0')) {
            return Self::FALSE.into();
        }
        if let [all] = parts.as_slice() {
            return format!("({text} = {})", values.bind(Value::Text((*all).to_owned())));
        }
        if parts.iter().all(|part| part.is_empty()) {
            return Self::TRUE.into();
        }
        let parts: Vec<String> = parts.into_iter().map(escaped).collect();
        let like = values.bind(Value::Text(parts.join("%")));
        format!("({text} LIKE {like} ESCAPE '\\')")
    }
}

/// As LIKE takes it for itself.
fn escaped(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
