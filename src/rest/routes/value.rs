//! What expressions give, as JSON and as text, within a budget.

use minijinja::{Value, value::ValueKind};
use serde_json::{Map, Number, Value as Json};

use crate::domain::wording::{Sentence, sentence};

/// The largest whole number whose neighbours a payload can still tell apart: JSON numbers of a payload are doubles.
pub(super) const MAX_EXACT: u64 = 1 << 53;
/// Objects and lists in each other: as many as a JSON parser lets in.
const MAX_DEPTH: usize = 128;
/// What a value takes in JSON besides its text, at least.
const VALUE_BYTES: usize = 2;

/// What a rendered job may still take.
#[derive(Debug)]
pub(super) struct Budget {
    whole: usize,
    left: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            whole: bytes,
            left: bytes,
        }
    }

    /// Takes the room of a text.
    ///
    /// # Errors
    /// There is not as much left.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Sentence> {
        match self.left.checked_sub(bytes.saturating_add(VALUE_BYTES)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(sentence!(
                    "rendered-too-large",
                    "the job gets larger than {most} bytes",
                    most = self.whole
                ))
            }
        }
    }
}

/// A value as JSON.
///
/// # Errors
/// It is no JSON value, or too large.
pub(super) fn json(value: &Value, budget: &mut Budget) -> Result<Json, Sentence> {
    nested(value, budget, 0)
}

fn nested(value: &Value, budget: &mut Budget, depth: usize) -> Result<Json, Sentence> {
    if depth > MAX_DEPTH {
        return Err(sentence!(
            "nests-deeper",
            "nests deeper than {most} levels",
            most = MAX_DEPTH
        ));
    }
    budget.take(0)?;
    match value.kind() {
        ValueKind::None => Ok(Json::Null),
        ValueKind::Bool => Ok(Json::Bool(value.is_true())),
        ValueKind::Number => number(value).map(Json::Number),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            budget.take(text.len())?;
            Ok(Json::String(text.to_owned()))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut list = Vec::new();
            for item in value
                .try_iter()
                .map_err(|error| Sentence::foreign(error.to_string()))?
            {
                list.push(nested(&item, budget, depth + 1)?);
            }
            Ok(Json::Array(list))
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value
                .try_iter()
                .map_err(|error| Sentence::foreign(error.to_string()))?
            {
                let item = value
                    .get_item(&key)
                    .map_err(|error| Sentence::foreign(error.to_string()))?;
                let Some(name) = key.as_str() else {
                    return Err(sentence!("key-not-text", "has a key that is not a text"));
                };
                budget.take(name.len())?;
                map.insert(name.to_owned(), nested(&item, budget, depth + 1)?);
            }
            Ok(Json::Object(map))
        }
        ValueKind::Undefined => Err(sentence!(
            "holds-missing",
            "holds a field that the request does not have"
        )),
        _ => Err(sentence!("no-json", "is nothing that JSON has a form for")),
    }
}

fn number(value: &Value) -> Result<Number, Sentence> {
    if value.is_integer() {
        let exact = i64::try_from(value.clone()).ok();
        return exact
            .filter(|exact| exact.unsigned_abs() <= MAX_EXACT)
            .map(Number::from)
            .ok_or_else(too_large);
    }
    f64::try_from(value.clone())
        .ok()
        .and_then(Number::from_f64)
        .ok_or_else(|| sentence!("not-finite", "is not a finite number"))
}

/// What to say of a whole number that a payload would round.
pub(super) fn too_large() -> Sentence {
    sentence!(
        "not-exact",
        "is a whole number beyond 2^53, which a payload can not hold exactly; send it as text"
    )
}

/// A value within a text.
///
/// # Errors
/// It has no obvious form as text.
pub(super) fn scalar(value: &Value) -> Result<String, Sentence> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(value.to_string()),
        // As JSON writes it; the library writes it as Python does.
        ValueKind::Bool => Ok(value.is_true().to_string()),
        ValueKind::None => Err(sentence!(
            "null-not-text",
            "is null, where a text is needed"
        )),
        ValueKind::Seq | ValueKind::Iterable => Err(sentence!(
            "list-not-text",
            "is a list, where a text is needed"
        )),
        ValueKind::Map => Err(sentence!(
            "object-not-text",
            "is an object, where a text is needed"
        )),
        _ => Err(sentence!("no-json", "is nothing that JSON has a form for")),
    }
}
