//! What was taken out of a payload, in the shape of the payload: so it is never larger than that, however deep the secrets are.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{Value, value::Kind};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::super::structure::InvalidStruct;

/// What is secret of a payload. Wiped from memory when it is dropped; says nothing of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken(Vec<(String, Part)>);

/// What is secret of a value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    /// All of it, as an encoded `google.protobuf.Value`.
    Whole(Wiped),
    /// Some of the fields of an object.
    Fields(Vec<(String, Part)>),
    /// Some of the elements of a list, by position.
    Items(Vec<(u32, Part)>),
}

/// Bytes that are wiped when they are dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taken(…)")
    }
}

impl Part {
    pub(super) fn whole(value: &Value) -> Self {
        Self::Whole(Wiped(value.encode_to_vec()))
    }
}

impl Taken {
    pub(super) fn new(parts: Vec<(String, Part)>) -> Self {
        Self(parts)
    }

    /// In a form to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("texts, numbers and lists of them can be packed")
    }

    /// From that form.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidStruct> {
        postcard::from_bytes(bytes).map_err(|_| not_of_this())
    }

    /// Calls `each` with every text that is a value in it.
    pub fn texts(&self, mut each: impl FnMut(&str)) {
        for (_, part) in &self.0 {
            part.texts(&mut each);
        }
    }

    pub(super) fn put_back(
        &self,
        fields: &mut BTreeMap<String, Value>,
    ) -> Result<(), InvalidStruct> {
        put_back_fields(&self.0, fields)
    }
}

fn put_back_fields(
    parts: &[(String, Part)],
    fields: &mut BTreeMap<String, Value>,
) -> Result<(), InvalidStruct> {
    for (key, part) in parts {
        part.put_back(fields.get_mut(key).ok_or_else(not_of_this)?)?;
    }
    Ok(())
}

impl Part {
    fn put_back(&self, value: &mut Value) -> Result<(), InvalidStruct> {
        match (self, &mut value.kind) {
            (Self::Whole(whole), _) => {
                *value = Value::decode(whole.0.as_slice()).map_err(|_| not_of_this())?;
                Ok(())
            }
            (Self::Fields(parts), Some(Kind::StructValue(inner))) => {
                put_back_fields(parts, &mut inner.fields)
            }
            (Self::Items(parts), Some(Kind::ListValue(list))) => {
                for (position, part) in parts {
                    let position = usize::try_from(*position).map_err(|_| not_of_this())?;
                    let item = list.values.get_mut(position);
                    part.put_back(item.ok_or_else(not_of_this)?)?;
                }
                Ok(())
            }
            (Self::Fields(_) | Self::Items(_), _) => Err(not_of_this()),
        }
    }

    fn texts(&self, each: &mut impl FnMut(&str)) {
        match self {
            // What was put in was a value.
            Self::Whole(whole) => {
                if let Ok(value) = Value::decode(whole.0.as_slice()) {
                    texts_of(&value, each);
                }
            }
            Self::Fields(parts) => parts.iter().for_each(|(_, part)| part.texts(each)),
            Self::Items(parts) => parts.iter().for_each(|(_, part)| part.texts(each)),
        }
    }
}

fn texts_of(value: &Value, each: &mut impl FnMut(&str)) {
    match &value.kind {
        Some(Kind::StringValue(text)) => each(text),
        Some(Kind::StructValue(inner)) => {
            inner
                .fields
                .values()
                .for_each(|value| texts_of(value, each));
        }
        Some(Kind::ListValue(list)) => {
            list.values.iter().for_each(|value| texts_of(value, each));
        }
        Some(Kind::NullValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_)) | None => {}
    }
}

fn not_of_this() -> InvalidStruct {
    InvalidStruct::new("its secrets are those of another payload")
}
