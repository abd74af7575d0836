//! The tree of a task's payload: constants and templates.

use minijinja::Value;
use serde_json::{Map, Number, Value as Json};
use toml::{Spanned, de::DeValue};

use super::{
    section::Source,
    template::Template,
    value::{Budget, MAX_EXACT, too_large},
};
use crate::domain::wording::Sentence;

/// A value of the tree.
#[derive(Debug)]
pub(super) enum Payload {
    /// The same for every request.
    Constant(Json),
    /// Filled in for each request.
    Template(Template),
    /// A list.
    List(Vec<Payload>),
    /// An object.
    Object(Vec<(String, Payload)>),
}

impl Payload {
    /// Reads a value; mistakes are reported and read as null.
    pub(super) fn read(
        value: &Spanned<DeValue<'_>>,
        parameters: &[&str],
        source: &mut Source<'_>,
    ) -> Self {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(text) => match Template::parse(text, parameters) {
                Ok(template) => match template.literal() {
                    Some(literal) => Self::Constant(Json::from(literal)),
                    None => Self::Template(template),
                },
                Err(what) => {
                    source.bad(at, what);
                    Self::Constant(Json::Null)
                }
            },
            DeValue::Boolean(value) => Self::Constant(Json::Bool(*value)),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                let number = number.ok().filter(|n| n.unsigned_abs() <= MAX_EXACT);
                if number.is_none() {
                    source.bad(at, format!("the number {}", too_large()));
                }
                Self::Constant(number.map_or(Json::Null, Json::from))
            }
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().and_then(Number::from_f64);
                if number.is_none() {
                    source.bad(at, "JSON has neither inf nor nan; write a finite number");
                }
                Self::Constant(number.map_or(Json::Null, Json::Number))
            }
            DeValue::Datetime(time) => Self::Constant(Json::String(time.to_string())),
            DeValue::Array(list) => {
                let items = list.iter();
                Self::List(items.map(|v| Self::read(v, parameters, source)).collect())
            }
            DeValue::Table(table) => {
                let fields = table.iter().map(|(key, value)| {
                    let value = Self::read(value, parameters, source);
                    (key.get_ref().to_string(), value)
                });
                Self::Object(fields.collect())
            }
        }
    }

    /// Whether it may be an object, which a payload as a whole is.
    pub(super) fn may_be_object(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::Template(template) => template.is_expression(),
            Self::Constant(_) | Self::List(_) => false,
        }
    }

    /// The value for a request; `fault` is told of each field that can not be filled in, which is null then.
    pub(super) fn render(
        &self,
        field: &str,
        input: &Value,
        budget: &mut Budget,
        fault: &mut impl FnMut(&str, Sentence),
    ) -> Json {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Template(template) => template.value(input, budget).unwrap_or_else(|what| {
                fault(field, what);
                Json::Null
            }),
            Self::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| item.render(&format!("{field}[{i}]"), input, budget, fault))
                .collect(),
            Self::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| {
                    let value = value.render(&format!("{field}.{name}"), input, budget, fault);
                    (name.clone(), value)
                });
                Json::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}
