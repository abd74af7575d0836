//! An OpenAPI document as its readers take it: what it refers to, and what it says of an answer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::web::Reply;

pub struct Document(pub Value);

impl Document {
    /// The methods of each path.
    pub fn methods(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (method, path, _) in self.operations() {
            let of_path = methods.entry(path.clone()).or_default();
            of_path.insert(method.to_ascii_uppercase());
        }
        methods
    }

    /// Each method, its path, and what is said of it.
    pub fn operations(&self) -> impl Iterator<Item = (&String, &String, &Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method, path, operation))
        })
    }

    /// What is wrong with the document itself.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut ids = BTreeSet::new();
        let tags = self.0["tags"].as_array().unwrap().iter();
        let tags: BTreeSet<&str> = tags.filter_map(|tag| tag["name"].as_str()).collect();
        for (method, path, operation) in self.operations() {
            let mut fault = |what: String| faults.push(format!("{method} {path}: {what}"));
            let id = operation["operationId"].as_str().unwrap_or_default();
            if id.is_empty() || !ids.insert(id) {
                fault(format!(
                    "operationId {id:?} is none, or not the first of its name"
                ));
            }
            if operation["summary"].as_str().is_none_or(str::is_empty) {
                fault("no summary".to_owned());
            }
            if operation["tags"].as_array().is_none_or(|of| {
                of.is_empty() || of.iter().any(|tag| !tags.contains(tag.as_str().unwrap()))
            }) {
                fault("not a tag, or none".to_owned());
            }
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let parameters: Vec<&Map<String, Value>> =
                parameters.filter_map(Value::as_object).collect();
            let names: BTreeSet<(&str, &str)> = parameters
                .iter()
                .map(|p| (p["in"].as_str().unwrap(), p["name"].as_str().unwrap()))
                .collect();
            if names.len() != parameters.len() {
                fault("a parameter stands twice".to_owned());
            }
            let gaps = path
                .split('{')
                .skip(1)
                .filter_map(|part| part.split('}').next());
            let gaps: BTreeSet<&str> = gaps.collect();
            let of_path = parameters
                .iter()
                .filter(|p| p["in"] == "path" && p["required"] == true);
            let of_path: BTreeSet<&str> = of_path.filter_map(|p| p["name"].as_str()).collect();
            if gaps != of_path {
                fault(format!("its path has {gaps:?}, its parameters {of_path:?}"));
            }
            for media in medias(operation) {
                if let Some(example) = media.get("example") {
                    for wrong in self.mismatches(&media["schema"], example) {
                        fault(format!("its example: {wrong}"));
                    }
                }
            }
            let answers = operation["responses"].as_object().unwrap();
            if answers.is_empty()
                || answers
                    .values()
                    .any(|answer| !answer["description"].is_string())
            {
                fault("an answer without a description, or none".to_owned());
            }
        }
        for (name, schema) in self.0["components"]["schemas"].as_object().unwrap() {
            if !jsonschema::draft202012::meta::is_valid(schema) {
                faults.push(format!("{name} is no schema"));
            }
        }
        self.follow(&self.0, &mut faults);
        faults
    }

    /// Looks whether everything that is referred to is there.
    fn follow(&self, value: &Value, faults: &mut Vec<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.follow(value, faults)),
            Value::Object(fields) => {
                if let Some(Value::String(place)) = fields.get("$ref") {
                    let within = place.strip_prefix('#');
                    if within.and_then(|pointer| self.0.pointer(pointer)).is_none() {
                        faults.push(format!("{place} is not there"));
                    }
                }
                fields.values().for_each(|value| self.follow(value, faults));
            }
            _ => {}
        }
    }

    /// How a value is not what a schema of the document says.
    pub fn mismatches(&self, schema: &Value, value: &Value) -> Vec<String> {
        let schema = json!({"allOf": [schema], "components": self.0["components"]});
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .build(&schema);
        match validator {
            Ok(validator) => validator
                .iter_errors(value)
                .map(|error| format!("{error} at {}", error.instance_path()))
                .collect(),
            Err(error) => vec![format!("no schema: {error}")],
        }
    }

    /// How an answer to a method on a path is not what is said of it.
    pub fn wrong(&self, method: &str, path: &str, reply: &Reply) -> Vec<String> {
        let answers = &self.0["paths"][path][method]["responses"];
        let status = reply.status.as_u16().to_string();
        let class = format!("{}XX", &status[..1]);
        let Some(answer) = answers.get(&status).or(answers.get(&class)) else {
            return vec![format!("nothing is said of {status}")];
        };
        let mut wrong = Vec::new();
        for (name, header) in answer["headers"].as_object().into_iter().flatten() {
            if header["required"] == true && !reply.headers.contains_key(name) {
                wrong.push(format!("{name} is missing"));
            }
        }
        match (answer.get("content"), reply.text.as_str()) {
            (None, "") => {}
            (None, _) => wrong.push("a body".to_owned()),
            (Some(content), _) => match content.get(reply.header("content-type")) {
                Some(media) => wrong.extend(self.mismatches(&media["schema"], &reply.json())),
                None => wrong.push("another type of content".to_owned()),
            },
        }
        wrong
    }
}

fn medias(operation: &Value) -> impl Iterator<Item = &Value> {
    let answers = operation["responses"].as_object().into_iter().flatten();
    let bodies = answers
        .map(|(_, answer)| answer)
        .chain(operation.get("requestBody"));
    let contents = bodies.filter_map(|body| body["content"].as_object());
    contents.flat_map(|content| content.values())
}
