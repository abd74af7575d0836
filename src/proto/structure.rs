//! A `google.protobuf.Struct` that stays encoded.
//!
//! Payloads pass through the server untouched, so taking them apart into maps and putting them together again would be work for nothing. Equality is
//! that of the bytes; [`Struct::canonical`] gives equal objects equal bytes.

use std::fmt::Display;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint, skip_field},
};
use prost_reflect::{DynamicMessage, MessageDescriptor};

/// How deep objects and lists may be in one another. Decoders of protobuf give up at 100 messages; an object takes three of them.
pub const MAX_LEVELS: usize = 30;

/// A JSON object as an encoded `google.protobuf.Struct`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Struct(Bytes);

/// Why bytes or JSON are not a `google.protobuf.Struct`.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON object as google.protobuf.Struct holds it: {0}")]
pub struct InvalidStruct(String);

impl InvalidStruct {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Payloads and results are nobody's business in logs and panics.
impl std::fmt::Debug for Struct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Struct({} bytes)", self.0.len())
    }
}

impl Struct {
    /// The field number of `fields`, the only one.
    const FIELDS: u32 = 1;

    /// Wraps bytes that are known to be an encoded `Struct`.
    pub fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded message.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// Whether the object has no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the bytes and puts the fields in order, so that equal objects have equal bytes whichever client encoded them.
    ///
    /// # Errors
    /// The bytes are not a `Struct`: bad UTF-8, truncated, nested deeper than [`MAX_LEVELS`], or with a number that JSON has no form for.
    pub fn canonical(&self) -> Result<Self, InvalidStruct> {
        let decoded = prost_types::Struct::decode(self.0.clone()).map_err(undecodable)?;
        for value in decoded.fields.values() {
            check_value(value, 1)?;
        }
        Ok(Self(decoded.encode_to_vec().into()))
    }

    /// From a JSON object.
    ///
    /// # Errors
    /// The value is not an object.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, InvalidStruct> {
        let message =
            DynamicMessage::deserialize(Self::descriptor(), value).map_err(undecodable)?;
        Ok(Self(message.encode_to_vec().into()))
    }

    /// As a JSON object.
    ///
    /// # Errors
    /// The bytes are not a `Struct`.
    pub fn to_json(&self) -> Result<serde_json::Value, InvalidStruct> {
        let message = DynamicMessage::decode(Self::descriptor(), self.0.clone())
            .map_err(|error| InvalidStruct(error.to_string()))?;
        serde_json::to_value(message).map_err(|error| InvalidStruct(error.to_string()))
    }

    fn descriptor() -> MessageDescriptor {
        prost_reflect::DescriptorPool::global()
            .get_message_by_name("google.protobuf.Struct")
            .expect("the global pool holds the well-known types")
    }
}

pub(super) fn too_deep() -> InvalidStruct {
    InvalidStruct(format!("it is nested deeper than {MAX_LEVELS} levels"))
}

/// The decoder gives up somewhat below [`MAX_LEVELS`], and then names each level.
pub(super) fn undecodable(error: impl Display) -> InvalidStruct {
    let text = error.to_string();
    match text.contains("recursion limit") {
        true => too_deep(),
        false => InvalidStruct(text),
    }
}

/// Refuses values that have no JSON form, none at all, NaN and the infinities, and what is nested too deep.
pub(super) fn check_value(value: &prost_types::Value, level: usize) -> Result<(), InvalidStruct> {
    use prost_types::value::Kind;
    let check = |inner| check_value(inner, level + 1);
    match &value.kind {
        None => Err(InvalidStruct("a value without a kind".into())),
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            Err(InvalidStruct(format!("{number} is not a JSON number")))
        }
        Some(Kind::StructValue(_) | Kind::ListValue(_)) if level >= MAX_LEVELS => Err(too_deep()),
        Some(Kind::StructValue(inner)) => inner.fields.values().try_for_each(check),
        Some(Kind::ListValue(list)) => list.values.iter().try_for_each(check),
        Some(
            Kind::NullValue(_) | Kind::NumberValue(_) | Kind::StringValue(_) | Kind::BoolValue(_),
        ) => Ok(()),
    }
}

impl Message for Struct {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != Self::FIELDS || wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, tag, buf, ctx);
        }
        let length = usize::try_from(decode_varint(buf)?)
            .ok()
            .filter(|length| *length <= buf.remaining())
            .ok_or_else(truncated)?;
        let mut joined = BytesMut::with_capacity(self.0.len() + length + 8);
        joined.put_slice(&self.0);
        encode_key(tag, wire_type, &mut joined);
        encode_varint(length as u64, &mut joined);
        joined.put(buf.take(length));
        self.0 = joined.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// `prost` has no public constructor for its errors, so its own decoder is made to meet the same one.
fn truncated() -> DecodeError {
    prost_types::Struct::decode(&b"\x0a\x7f"[..]).expect_err("a length beyond the end is refused")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many objects in one another.
    fn nested(levels: usize) -> Struct {
        let object = (1..levels).fold(prost_types::Struct::default(), |inner, _| {
            let kind = Some(prost_types::value::Kind::StructValue(inner));
            let value = prost_types::Value { kind };
            let fields = [("in".to_owned(), value)].into();
            prost_types::Struct { fields }
        });
        Struct::from_encoded(object.encode_to_vec().into())
    }

    #[test]
    fn what_is_nested_too_deep_is_called_so() {
        assert!(nested(MAX_LEVELS).canonical().is_ok());
        for levels in [MAX_LEVELS + 1, 40, 60] {
            let error = nested(levels).canonical().unwrap_err().to_string();
            assert!(
                error.ends_with("it is nested deeper than 30 levels"),
                "{levels}: {error}"
            );
        }
    }
}
