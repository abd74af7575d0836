//! The filters and tests of expressions: few, pure, and none whose result can be much larger than what it was given.

use minijinja::{Environment, Error, ErrorKind, Value, value::ValueKind};

use super::value::{MAX_EXACT, scalar};

/// The names of the filters.
pub(super) const FILTERS: [&str; 11] = [
    "default", "first", "float", "int", "join", "last", "length", "lower", "times", "trim", "upper",
];
/// Those that need an argument, such as `default('x')`.
pub(super) const WITH_ARGUMENT: [&str; 2] = ["default", "times"];
/// The one that may have an argument; the others have none.
pub(super) const WITH_OPTION: &str = "join";
/// The names of the tests: `x is defined`.
pub(super) const TESTS: [&str; 3] = ["defined", "undefined", "none"];
/// Bytes of a joined text: as large as a whole job.
const MAX_JOINED_BYTES: usize = crate::domain::limits::MAX_JOB_BYTES;

pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("default", default);
    environment.add_filter("first", |list: Value| {
        Ok::<_, Error>(list.try_iter()?.next().unwrap_or_default())
    });
    environment.add_filter("last", |list: Value| {
        Ok::<_, Error>(list.try_iter()?.last().unwrap_or_default())
    });
    environment.add_filter("float", float);
    environment.add_filter("int", int);
    environment.add_filter("join", join);
    environment.add_filter("length", length);
    environment.add_filter("lower", |text: Value| {
        Ok::<_, Error>(self::text(&text)?.to_lowercase())
    });
    environment.add_filter("upper", |text: Value| {
        Ok::<_, Error>(self::text(&text)?.to_uppercase())
    });
    environment.add_filter("trim", |text: Value| {
        Ok::<_, Error>(self::text(&text)?.trim().to_owned())
    });
    environment.add_filter("times", times);
    environment.add_test("defined", |value: Value| !value.is_undefined());
    environment.add_test("undefined", |value: Value| value.is_undefined());
    environment.add_test("none", |value: Value| value.is_none());
}

fn bad(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

fn text(value: &Value) -> Result<&str, Error> {
    value
        .as_str()
        .ok_or_else(|| bad(format!("a text is needed, not a {}", value.kind())))
}

/// Null counts as absent: clients send both for "not set".
fn default(value: Value, other: Value) -> Value {
    match value.is_undefined() || value.is_none() {
        true => other,
        false => value,
    }
}

fn length(value: Value) -> Result<usize, Error> {
    match value.as_str() {
        Some(text) => Ok(text.chars().count()),
        None => value
            .len()
            .ok_or_else(|| bad(format!("a {} has no length", value.kind()))),
    }
}

fn join(list: Value, separator: Option<String>) -> Result<String, Error> {
    let separator = separator.unwrap_or_default();
    let mut joined = String::new();
    for (i, item) in list.try_iter()?.enumerate() {
        if i > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&scalar(&item).map_err(|what| bad(what.english()))?);
        if joined.len() > MAX_JOINED_BYTES {
            return Err(bad(format!(
                "the joined text is longer than {MAX_JOINED_BYTES} bytes"
            )));
        }
    }
    Ok(joined)
}

fn number(value: &Value) -> Result<f64, Error> {
    let number = match (value.kind(), value.as_str()) {
        (ValueKind::Number, _) => f64::try_from(value.clone()).ok(),
        (_, Some(text)) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| bad(format!("a number is needed, not this {}", value.kind())))
}

fn float(value: Value) -> Result<f64, Error> {
    number(&value)
}

fn int(value: Value) -> Result<i64, Error> {
    let exact = match (value.is_integer(), value.as_str()) {
        (true, _) => value.as_i64(),
        (_, Some(text)) => text.trim().parse().ok(),
        _ => None,
    };
    if let Some(exact) = exact {
        return Ok(exact);
    }
    let whole = number(&value)?.trunc();
    match whole.abs() <= MAX_EXACT as f64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and its size is checked"
        )]
        true => Ok(whole as i64),
        false => Err(bad("the number is too large for a whole one")),
    }
}

/// The product of two numbers: `*` would repeat texts and lists as well.
fn times(a: Value, b: Value) -> Result<Value, Error> {
    if !a.is_number() || !b.is_number() {
        return Err(bad(format!(
            "only numbers are multiplied, not a {} and a {}",
            a.kind(),
            b.kind()
        )));
    }
    let exact = match a.is_integer() && b.is_integer() {
        true => a.as_i64().zip(b.as_i64()).map(|(a, b)| a.checked_mul(b)),
        false => None,
    };
    match exact {
        Some(Some(product)) => Ok(Value::from(product)),
        Some(None) => Err(bad("the product is too large")),
        None => {
            let product = number(&a)? * number(&b)?;
            match product.is_finite() {
                true => Ok(Value::from(product)),
                false => Err(bad("the product is too large")),
            }
        }
    }
}
