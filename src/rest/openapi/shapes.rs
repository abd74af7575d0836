//! Schemas that come from the structs that are sent, so that what is said of an answer can not drift from it. Their comments are its descriptions.

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value};

use super::component;

/// Where definitions refer to each other before they have the names that they get here.
const COMPONENTS: &str = "#/components/schemas/";

/// A reference to the schema of a struct. Names begin with the dialect's: each of them has jobs.
pub(in crate::rest) fn shape<T: JsonSchema>(dialect: &str) -> Value {
    component(&format!("{dialect}.{}", T::schema_name()))
}

/// The schemas of all structs that `roots` names, and of those within them.
pub(in crate::rest) fn shapes(
    dialect: &'static str,
    roots: fn(&mut SchemaGenerator),
) -> Map<String, Value> {
    let rename = move |schema: &mut Schema| {
        if let Some(Value::String(place)) = schema.get_mut("$ref")
            && let Some(name) = place.strip_prefix(COMPONENTS)
        {
            *place = format!("{COMPONENTS}{dialect}.{name}");
        }
    };
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
        });
    let mut generator = settings
        .with_transform(RecursiveTransform(rename))
        .into_generator();
    roots(&mut generator);
    let schemas = generator.take_definitions(true).into_iter();
    let schemas = schemas.map(|(name, schema)| (format!("{dialect}.{name}"), schema));
    schemas.collect()
}

/// Words of a table, each of them once.
pub(in crate::rest) fn words<W: PartialEq>(all: impl IntoIterator<Item = W>) -> Vec<W> {
    let mut words = Vec::new();
    for word in all {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}
