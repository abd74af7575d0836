//! The HTTP forms of the methods, read from the contract's descriptors, and how a request is bound to a message.

use http::Method;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MethodDescriptor, Value,
};
use serde_json::{Map, Value as Json};

use crate::{
    api::Fault,
    domain::{
        submission::Violation,
        wording::{Sentence, sentence},
    },
    proto::json::{self, InvalidJson, POOL},
};

/// Where the HTTP form of a method stands.
const HTTP: &str = "google.api.http";
/// The field that an idempotency key is for.
const REQUEST_ID: &str = "request_id";

/// What of a request's message is in the body.
pub(super) enum BodyRule {
    None,
    /// All that the path does not hold.
    All,
    /// One field.
    Field(FieldDescriptor),
}

/// One HTTP form of a method.
pub(super) struct Route {
    pub(super) http_method: Method,
    /// With `{field}` for what is bound to the message.
    pub(super) path: String,
    pub(super) method: MethodDescriptor,
    pub(super) body: BodyRule,
    /// The field of the answer that is the body; all of it if there is none.
    pub(super) answer: Option<FieldDescriptor>,
    /// Whether it is the first form of its method.
    pub(super) is_first: bool,
}

/// All HTTP forms of all methods, in the order of the contract.
pub(super) fn routes() -> Vec<Route> {
    let Some(http) = POOL.get_extension_by_name(HTTP) else {
        return Vec::new();
    };
    let methods = POOL
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .flat_map(|method| of_method(&method, &http))
        .collect()
}

fn of_method(method: &MethodDescriptor, http: &ExtensionDescriptor) -> Vec<Route> {
    let options = method.options();
    if !options.has_extension(http) {
        return Vec::new();
    }
    let rule = options.get_extension(http);
    let Some(rule) = rule.as_message() else {
        return Vec::new();
    };
    let more = rule.get_field_by_name("additional_bindings");
    let more = more.as_deref().and_then(Value::as_list).unwrap_or_default();
    let rules = std::iter::once(rule).chain(more.iter().filter_map(Value::as_message));
    let mut routes: Vec<Route> = rules.filter_map(|rule| of_rule(method, rule)).collect();
    if let Some(first) = routes.first_mut() {
        first.is_first = true;
    }
    routes
}

fn of_rule(method: &MethodDescriptor, rule: &DynamicMessage) -> Option<Route> {
    let text = |name: &str| {
        let value = rule.get_field_by_name(name)?;
        let text = value.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let forms = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let mut forms = forms.into_iter();
    let (http_method, path) = forms.find_map(|(name, m)| Some((m, text(name)?)))?;
    let (request, answer) = (method.input(), method.output());
    Some(Route {
        http_method,
        path,
        method: method.clone(),
        body: match text("body").as_deref() {
            None => BodyRule::None,
            Some("*") => BodyRule::All,
            Some(field) => BodyRule::Field(request.get_field_by_name(field)?),
        },
        answer: text("response_body").and_then(|field| answer.get_field_by_name(&field)),
        is_first: false,
    })
}

impl Route {
    /// The path of its method in gRPC.
    pub(super) fn rpc_path(&self) -> String {
        let service = self.method.parent_service();
        format!("/{}/{}", service.full_name(), self.method.name())
    }

    /// Whether both are the same method on the same path.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.http_method == other.http_method && self.path == other.path
    }

    /// The names in the gaps of the path.
    pub(super) fn gaps(&self) -> impl Iterator<Item = &str> {
        let parts = self.path.split('{').skip(1);
        parts.filter_map(|part| part.split('}').next())
    }

    /// The fields that are query parameters.
    pub(super) fn parameters(&self) -> Vec<FieldDescriptor> {
        let gaps: Vec<&str> = self.gaps().collect();
        let fields = self.method.input().fields().collect::<Vec<_>>().into_iter();
        let in_path = |field: &FieldDescriptor| gaps.contains(&field.name());
        match &self.body {
            BodyRule::All => Vec::new(),
            BodyRule::None => fields.filter(|field| !in_path(field)).collect(),
            BodyRule::Field(body) => {
                let body = body.number();
                let fields = fields.filter(|field| !in_path(field));
                fields.filter(|field| field.number() != body).collect()
            }
        }
    }

    /// Whether a key makes it safe to repeat a request.
    pub(super) fn is_repeatable(&self) -> bool {
        self.method.input().get_field_by_name(REQUEST_ID).is_some()
    }

    /// The encoded message of a request. Everything that is wrong is told at once. The key is the request's id, wherever else that may stand.
    pub(super) fn bind(
        &self,
        gaps: &[(String, String)],
        parameters: Vec<(String, String)>,
        body: &[u8],
        key: Option<String>,
    ) -> Result<Vec<u8>, Fault> {
        let mut violations = Vec::new();
        let mut encoded = Vec::with_capacity(body.len() + 64);
        let in_body = self.bind_body(body, &mut encoded, &mut violations);
        let known = self.parameters();
        let mut fields = Map::new();
        for (name, value) in parameters {
            let field = known
                .iter()
                .find(|f| f.name() == name || f.json_name() == name);
            let description = match field {
                None => Some(no_parameter(&known)),
                Some(field) => set(&mut fields, field, value),
            };
            violations.extend(description.map(|d| Violation::new(&name, d)));
        }
        if let Some(key) = key {
            let in_query = fields.get(REQUEST_ID).and_then(Json::as_str);
            let named = in_query.map(str::to_owned).or(in_body);
            match named.is_some_and(|named| named != key) {
                true => violations.push(Violation::new(REQUEST_ID, other_key())),
                false => {
                    fields.insert(REQUEST_ID.to_owned(), Json::String(key));
                }
            }
        }
        for (name, value) in gaps {
            fields.insert(name.clone(), Json::String(value.clone()));
        }
        // A mistake in one parameter does not hide those in others.
        let fields = fields.into_iter();
        for field in fields.map(|(name, value)| Map::from_iter([(name, value)])) {
            match json::from_value(self.method.input(), Json::Object(field)) {
                Ok(message) => encoded.extend(message.encode_to_vec()),
                Err(error) => violations.push(violation(error, "query", "")),
            }
        }
        match violations.is_empty() {
            true => Ok(encoded),
            false => Err(Fault::invalid(violations)),
        }
    }

    /// Answers with the request's id, if the body has it.
    fn bind_body(
        &self,
        body: &[u8],
        encoded: &mut Vec<u8>,
        violations: &mut Vec<Violation>,
    ) -> Option<String> {
        match &self.body {
            BodyRule::None => {}
            BodyRule::All if body.is_empty() => {}
            BodyRule::All => match json::read(self.method.input(), body) {
                Ok(message) => {
                    encoded.extend(message.encode_to_vec());
                    let id = message.get_field_by_name(REQUEST_ID);
                    let id = id.and_then(|id| id.as_str().map(str::to_owned));
                    return id.filter(|id| !id.is_empty());
                }
                Err(error) => violations.push(violation(error, "body", "")),
            },
            BodyRule::Field(field) => {
                let Kind::Message(kind) = field.kind() else {
                    return None;
                };
                match json::read(kind, body) {
                    Ok(message) => {
                        let mut whole = DynamicMessage::new(self.method.input());
                        whole.set_field(field, Value::Message(message));
                        encoded.extend(whole.encode_to_vec());
                    }
                    Err(error) => violations.push(violation(error, field.name(), field.name())),
                }
            }
        }
        None
    }
}

fn other_key() -> Sentence {
    Sentence::plain(
        "other-key",
        "is another one than the Idempotency-Key; send one of them, or both alike",
    )
}

/// The field of this name, and where the mistake is in it.
fn violation(error: InvalidJson, whole: &str, prefix: &str) -> Violation {
    let InvalidJson { path, message } = error;
    let field = match (path, prefix) {
        (None, _) => whole.to_owned(),
        (Some(path), "") => path,
        (Some(path), prefix) => format!("{prefix}.{path}"),
    };
    Violation::new(field, Sentence::foreign(message))
}

/// Adds a parameter to those of the request, in the form that JSON has for its field.
fn set(fields: &mut Map<String, Json>, field: &FieldDescriptor, value: String) -> Option<Sentence> {
    let value = match field.kind() {
        Kind::Bool => match value.as_str() {
            "true" | "" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => return Some(Sentence::plain("true-or-false", "must be true or false")),
        },
        _ => Json::String(value),
    };
    let name = field.name().to_owned();
    if field.is_list() {
        match fields
            .entry(name)
            .or_insert_with(|| Json::Array(Vec::new()))
        {
            Json::Array(values) => values.push(value),
            _ => return Some(Sentence::plain("given-twice", "is given twice")),
        }
    } else if fields.insert(name, value).is_some() {
        return Some(Sentence::plain("given-twice", "is given twice"));
    }
    None
}

fn no_parameter(known: &[FieldDescriptor]) -> Sentence {
    let names: Vec<&str> = known.iter().map(|field| field.json_name()).collect();
    match names.is_empty() {
        true => Sentence::plain("no-parameters", "there are no parameters here"),
        false => sentence!(
            "parameters-are",
            "there is no such parameter here; there are {names}",
            names = names.join(", ")
        ),
    }
}

#[cfg(test)]
impl Route {
    /// What the body of a request is.
    pub(super) fn body_message(&self) -> prost_reflect::MessageDescriptor {
        match &self.body {
            BodyRule::Field(field) => field.kind().as_message().unwrap().clone(),
            BodyRule::None | BodyRule::All => self.method.input(),
        }
    }

    /// What the body of an answer is.
    pub(super) fn answer_message(&self) -> prost_reflect::MessageDescriptor {
        match &self.answer {
            Some(field) => field.kind().as_message().unwrap().clone(),
            None => self.method.output(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::{super::methods, *};
    use crate::proto::v1;

    fn route(method: &str) -> Route {
        let mut all = routes().into_iter();
        all.find(|route| route.method.name() == method).unwrap()
    }

    #[test]
    fn every_method_has_an_http_form_and_every_form_a_method() {
        let routes = routes();
        for method in POOL
            .services()
            .flat_map(|s| s.methods().collect::<Vec<_>>())
        {
            let both_ways = method.is_client_streaming();
            let has_form = routes.iter().any(|r| r.method == method);
            assert_eq!(has_form, !both_ways, "{}", method.full_name());
        }
        for route in routes {
            let name = route.method.full_name();
            let unary = methods::unary(name).is_some();
            assert_eq!(unary, !route.method.is_server_streaming(), "{name}");
            for gap in route.gaps() {
                assert!(
                    route.method.input().get_field_by_name(gap).is_some(),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn path_query_and_body_make_one_message() {
        let gaps = [("job_id".to_owned(), "j".to_owned())];
        let pairs = [
            ("afterRevision", "7"),
            ("timeout", "30s"),
            ("view", "VIEW_FULL"),
        ];
        let pairs = pairs.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let encoded = route("Wait").bind(&gaps, pairs.to_vec(), b"", None);
        let encoded = encoded.unwrap();
        let request = v1::WaitRequest::decode(&*encoded).unwrap();
        assert_eq!(request.job_id, "j");
        assert_eq!(request.after_revision, Some(7));
        assert_eq!(request.timeout.unwrap().seconds, 30);
        assert_eq!(request.view(), v1::View::Full);

        let body = br#"{"action": "create", "tasks": [{"driver": "d"}]}"#;
        let pairs = vec![("request_id".to_owned(), "r".to_owned())];
        let encoded = route("Submit").bind(&[], pairs, body, None).unwrap();
        let request = v1::SubmitRequest::decode(&*encoded).unwrap();
        assert_eq!(request.request_id, "r");
        assert_eq!(request.job.unwrap().tasks[0].driver, "d");
    }

    #[test]
    fn every_mistake_is_named() {
        let pairs = [
            ("pageSize", "x"),
            ("orderby", "y"),
            ("view", "z"),
            ("filter", "a"),
            ("filter", "b"),
        ];
        let pairs = pairs.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let fault = route("List").bind(&[], pairs.to_vec(), b"", None);
        let fault = fault.unwrap_err();
        let mut fields: Vec<_> = fault.violations.iter().map(|v| v.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["filter", "orderby", "page_size", "view"]);

        let body = br#"{"tasks": [{"driver": 3}]}"#;
        let fault = route("Submit").bind(&[], Vec::new(), body, None);
        assert_eq!(
            fault.unwrap_err().violations[0].field,
            "job.tasks[0].driver"
        );
    }

    #[test]
    fn a_key_is_the_id_of_the_request_wherever_that_stands() {
        let gaps = [("job_id".to_owned(), "j".to_owned())];
        let retry = |body: &[u8]| {
            let key = Some("k".to_owned());
            route("Retry").bind(&gaps, Vec::new(), body, key)
        };
        for body in [&b""[..], b"{}", br#"{"requestId": "k"}"#] {
            let request = v1::RetryRequest::decode(&*retry(body).unwrap()).unwrap();
            assert_eq!(
                (request.job_id.as_str(), request.request_id.as_str()),
                ("j", "k")
            );
        }
        let submit = |id: &str| {
            let pairs = vec![("requestId".to_owned(), id.to_owned())];
            let key = Some("k".to_owned());
            route("Submit").bind(&[], pairs, b"{}", key)
        };
        assert!(submit("k").is_ok());
        for other in [retry(br#"{"requestId": "other"}"#), submit("other")] {
            assert_eq!(other.unwrap_err().violations[0].field, "request_id");
        }
    }
}
