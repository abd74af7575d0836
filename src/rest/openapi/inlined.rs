//! A JSON Schema that stood in a file of its own, as a part of the document: what it refers to in itself has another place there.

use serde_json::{Map, Value};

/// The dialect of all schemas of an OpenAPI 3.1 document that do not say otherwise.
const DEFAULT_DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Names that schemas give themselves, or look up by name: they say where something is in a way that does not outlive a move.
const IDENTITIES: [&str; 7] = [
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
];
/// Maps from names to schemas.
const MAPS: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];
/// Values that are no schemas.
const VALUES: [&str; 5] = ["const", "enum", "default", "examples", "example"];

/// The schema as it may stand at `place`, a JSON pointer with `#` in front. `None` if it can not be moved.
pub(super) fn at(place: &str, schema: &Value) -> Option<Value> {
    let mut moved = schema.clone();
    if let Value::Object(fields) = &mut moved
        && fields
            .get("$schema")
            .is_some_and(|dialect| dialect == DEFAULT_DIALECT)
    {
        fields.remove("$schema");
    }
    move_schema(place, &mut moved)?;
    Some(moved)
}

fn move_schema(place: &str, schema: &mut Value) -> Option<()> {
    match schema {
        Value::Object(fields) => move_fields(place, fields),
        Value::Array(schemas) => schemas.iter_mut().try_for_each(|s| move_schema(place, s)),
        _ => Some(()),
    }
}

fn move_fields(place: &str, fields: &mut Map<String, Value>) -> Option<()> {
    if IDENTITIES
        .iter()
        .any(|name| fields.get(*name).is_some_and(|v| !v.is_object()))
    {
        return None;
    }
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("$ref", Value::String(target)) => {
                let within = target.strip_prefix('#')?;
                if !within.is_empty() && !within.starts_with('/') {
                    return None;
                }
                *target = format!("{place}{within}");
            }
            (name, _) if VALUES.contains(&name) => {}
            (name, Value::Object(schemas)) if MAPS.contains(&name) => {
                schemas
                    .values_mut()
                    .try_for_each(|schema| move_schema(place, schema))?;
            }
            (_, schema) => move_schema(place, schema)?,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_schema_refers_to_moves_with_it() {
        let schema = json!({
            "$schema": DEFAULT_DIALECT,
            "properties": {
                "a": {"$ref": "#/$defs/a"},
                "$ref": {"type": "string", "default": {"$ref": "#/no"}},
                "all": {"anyOf": [{"$ref": "#"}, {"items": {"$ref": "#/$defs/a"}}]},
            },
            "$defs": {"a": {"const": {"$ref": "#/as it is"}}},
        });
        let expected = json!({
            "properties": {
                "a": {"$ref": "#/x/y/$defs/a"},
                "$ref": {"type": "string", "default": {"$ref": "#/no"}},
                "all": {"anyOf": [{"$ref": "#/x/y"}, {"items": {"$ref": "#/x/y/$defs/a"}}]},
            },
            "$defs": {"a": {"const": {"$ref": "#/as it is"}}},
        });
        assert_eq!(at("#/x/y", &schema), Some(expected));
    }

    #[test]
    fn an_older_dialect_is_said() {
        let schema =
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"});
        assert_eq!(at("#/x", &schema), Some(schema));
    }

    #[test]
    fn what_goes_by_name_stays_where_it_is() {
        for schema in [
            json!({"$id": "https://schemas.example/a"}),
            json!({"items": {"$anchor": "here"}}),
            json!({"$dynamicRef": "#node"}),
            json!({"$ref": "#here"}),
            json!({"anyOf": [{"$ref": "https://json-schema.org/draft/2020-12/schema"}]}),
        ] {
            assert_eq!(at("#/x", &schema), None, "{schema}");
        }
        // A property may have any name.
        let schema = json!({"properties": {"$id": {"type": "string"}, "id": {"type": "string"}}});
        assert_eq!(at("#/x", &schema), Some(schema));
    }
}
