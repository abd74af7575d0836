//! Route files in a folder of their own, and requests for them.

use std::{collections::BTreeMap, fs, path::Path};

use longhaul::{
    proto::DESCRIPTORS,
    rest::routes::{Caller, Route, RouteInput, Routes, RoutesError},
};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A route that is right, without the end of its table.
pub const ROUTE: &str = r#"
[[route]]
dialect = "nse"
match = "POST /v2.1/things/{id}"
action = "create"
"#;
/// A task that is right.
pub const TASK: &str = r#"
[[route.task]]
driver = "maker"
"#;

/// A folder with files.
pub struct Folder(TempDir);

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn load(&self) -> Result<Routes, RoutesError> {
        Routes::load(self.path())
    }

    /// The mistakes as they are told, with names of files relative to the folder.
    pub fn mistakes(&self) -> Vec<String> {
        let Err(error) = self.load() else {
            panic!("no mistake was found")
        };
        let folder = format!("{}/", self.path().display());
        let told = error.to_string().replace(&folder, "");
        told.lines().map(str::to_owned).collect()
    }
}

/// One file that loads.
pub fn load(text: &str) -> Routes {
    Folder::new(&[("routes.toml", text)])
        .load()
        .unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

/// The mistakes of one file.
pub fn mistakes(text: &str) -> Vec<String> {
    Folder::new(&[("routes.toml", text)]).mistakes()
}

/// The right route with one more line, and a right task after it.
pub fn route_with(line: &str) -> String {
    format!("{ROUTE}{line}\n{TASK}")
}

/// A right route whose task has one more line.
pub fn task_with(line: &str) -> String {
    format!("{ROUTE}{TASK}{line}\n")
}

/// A request from a caller who is known.
pub fn request(body: Value) -> RouteInput {
    RouteInput {
        body,
        path: BTreeMap::from([("id".to_owned(), "7".to_owned())]),
        query: BTreeMap::from([("zone".to_owned(), "b".to_owned())]),
        caller: Caller {
            tenant: "acme".to_owned(),
            name: "jane".to_owned(),
        },
    }
}

/// What a text of the only route becomes.
pub fn summary(template: &str, body: Value) -> Result<String, String> {
    let routes = load(&route_with(&format!("summary = '''{template}'''")));
    match only(&routes).render(&request(body)) {
        Ok(job) => Ok(job["summary"].as_str().unwrap().to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// What a value of a payload becomes.
pub fn value(template: &str, body: Value) -> Result<Value, String> {
    let routes = load(&task_with(&format!(
        "request_payload = {{ x = '''{template}''' }}"
    )));
    match only(&routes).render(&request(body)) {
        Ok(job) => Ok(job["tasks"][0]["requestPayload"]["x"].clone()),
        Err(fault) => Err(fault.to_string()),
    }
}

pub fn only(routes: &Routes) -> &Route {
    assert_eq!(routes.len(), 1);
    routes.iter().next().unwrap()
}

/// The job as the API reads it and says it again: every field is known, and canonical.
pub fn through_the_api(job: &Value) -> Value {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let spec = pool.get_message_by_name("longhaul.v1.JobSpec").unwrap();
    let message = DynamicMessage::deserialize(spec, job).expect("a JobSpec");
    let again = serde_json::to_value(&message).unwrap();
    whole_numbers(again)
}

/// Payload numbers are doubles, so a whole one may be printed with `.0`.
pub fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 9e15 => json!(whole as i64),
            _ => Value::Number(number),
        },
        Value::Array(list) => list.into_iter().map(whole_numbers).collect(),
        Value::Object(map) => {
            let fields = map.into_iter().map(|(k, v)| (k, whole_numbers(v)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}
