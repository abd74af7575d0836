//! What of a payload is secret: told by the names of fields, and by paths that a caller names. A payload is split into what may be shown and what was taken
//! out of it, and put together again from both.
//!
//! Names: those that contain, without regard to case and with letters and digits alone, the word for one, such as `password`. In a list of names and values, the `value` beside a
//! `name` or a `key` that is such a name. Whatever stands under a secret name or path is taken as a whole.

mod names;
mod path;
mod taken;

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{Value, value::Kind};

pub use names::{MASK, is_secret_name};
pub use path::{BadPath, FieldPath, MAX_PATH_BYTES};
pub use taken::Taken;

use super::structure::{InvalidStruct, MAX_LEVELS, Struct, check_value, too_deep, undecodable};
use path::Step;
use taken::Part;

/// Shown in the place of a value.
fn mask() -> Value {
    Value {
        kind: Some(Kind::StringValue(MASK.to_owned())),
    }
}

impl Struct {
    /// The canonical form, as [`Struct::canonical`] makes it, with [`MASK`] in the place of what is secret; and that, if there is any.
    ///
    /// # Errors
    /// As [`Struct::canonical`].
    pub fn split(&self, paths: &[FieldPath]) -> Result<(Self, Option<Taken>), InvalidStruct> {
        let mut decoded =
            prost_types::Struct::decode(self.encoded().clone()).map_err(undecodable)?;
        let paths: Vec<&[Step]> = paths.iter().map(FieldPath::steps).collect();
        let taken = take_fields(&mut decoded.fields, 1, &paths)?;
        let shown = Self::from_encoded(decoded.encode_to_vec().into());
        let taken = (!taken.is_empty()).then(|| Taken::new(taken));
        Ok((shown, taken))
    }

    /// The payload of which [`Struct::split`] made these.
    ///
    /// # Errors
    /// They are not of one payload.
    pub fn join(&self, taken: &Taken) -> Result<Self, InvalidStruct> {
        let mut decoded =
            prost_types::Struct::decode(self.encoded().clone()).map_err(undecodable)?;
        taken.put_back(&mut decoded.fields)?;
        Ok(Self::from_encoded(decoded.encode_to_vec().into()))
    }
}

/// Takes what is secret out of an object's fields, and checks all of them. Paths are relative to the object, and none is empty.
fn take_fields(
    fields: &mut BTreeMap<String, Value>,
    level: usize,
    paths: &[&[Step]],
) -> Result<Vec<(String, Part)>, InvalidStruct> {
    let names_secret = fields.iter().any(|(key, value)| {
        is(key, &["name", "key"])
            && matches!(&value.kind, Some(Kind::StringValue(name)) if is_secret_name(name))
    });
    let mut taken = Vec::new();
    for (key, value) in fields {
        let by_name = is_secret_name(key) || names_secret && is(key, &["value"]);
        let part = take(value, level, by_name, paths, &|step| step.names(key))?;
        taken.extend(part.map(|part| (key.clone(), part)));
    }
    Ok(taken)
}

/// Takes a value, or what is secret in it.
fn take(
    value: &mut Value,
    level: usize,
    by_name: bool,
    paths: &[&[Step]],
    is_here: &dyn Fn(&Step) -> bool,
) -> Result<Option<Part>, InvalidStruct> {
    let mut is_secret = by_name;
    let mut within: Vec<&[Step]> = Vec::new();
    for path in paths {
        match path.split_first() {
            Some((first, [])) => is_secret |= is_here(first),
            Some((first, rest)) if is_here(first) => within.push(rest),
            Some(_) | None => {}
        }
    }
    if is_secret {
        check_value(value, level)?;
        return Ok(Some(Part::whole(&std::mem::replace(value, mask()))));
    }
    match &mut value.kind {
        Some(Kind::StructValue(_) | Kind::ListValue(_)) if level >= MAX_LEVELS => Err(too_deep()),
        Some(Kind::StructValue(inner)) => {
            let taken = take_fields(&mut inner.fields, level + 1, &within)?;
            Ok((!taken.is_empty()).then_some(Part::Fields(taken)))
        }
        Some(Kind::ListValue(list)) => {
            let mut taken = Vec::new();
            for (position, value) in (0u32..).zip(&mut list.values) {
                let is_here = |step: &Step| step.is_position(position);
                let part = take(value, level + 1, false, &within, &is_here)?;
                taken.extend(part.map(|part| (position, part)));
            }
            Ok((!taken.is_empty()).then_some(Part::Items(taken)))
        }
        None | Some(_) => check_value(value, level).map(|()| None),
    }
}

fn is(key: &str, one_of: &[&str]) -> bool {
    one_of.iter().any(|one| key.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests;
