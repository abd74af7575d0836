//! A good request for each method, about things that are there and belong to one tenant. What a method needs is all that is written down by hand.

use longhaul::proto::json::POOL;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cast::{CANARY, Cast, make_tenant},
    contract::{Form, Method},
    wire::{Answer, Ask},
};

/// A request, and whose it is.
pub struct Asked {
    pub message: Value,
    /// What others are told if it is about something that is there for its tenant alone: the code, and the reason.
    pub foreign: Option<Foreign>,
}

/// How it is said that there is no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    Job,
    Key,
    /// In the answer to the one report.
    Lease,
}

impl Foreign {
    pub fn reason(self) -> &'static str {
        match self {
            Self::Job => "JOB_NOT_FOUND",
            Self::Key => "KEY_NOT_FOUND",
            Self::Lease => "LEASE_LOST",
        }
    }
}

fn about(foreign: Foreign, message: Value) -> Asked {
    Asked {
        message,
        foreign: Some(foreign),
    }
}

fn plain(message: Value) -> Asked {
    Asked {
        message,
        foreign: None,
    }
}

/// A request that the right caller may make once, of things that were made for it.
pub async fn good(cast: &Cast, method: &str) -> Asked {
    let fresh = || Uuid::now_v7().to_string();
    let spec = json!({"summary": CANARY, "tasks": [{"driver": "nobody"}]});
    let about_job = |id: String| about(Foreign::Job, json!({"job_id": id}));
    match method {
        "JobService.Submit" => plain(json!({"job": spec})),
        "JobService.SubmitBatch" => plain(json!({"requests": [{"job": spec}]})),
        "JobService.Get"
        | "JobService.WatchJob"
        | "JobService.Cancel"
        | "JobService.ListEvents"
        | "JobService.Explain" => about_job(cast.job().await.id),
        "JobService.Wait" => {
            let id = cast.job().await.id;
            about(Foreign::Job, json!({"job_id": id, "after_revision": "0"}))
        }
        "JobService.Retry" | "JobService.Delete" => about_job(cast.ended().await.id),
        "JobService.List" | "JobService.WatchJobs" | "JobService.GetCounts" => plain(json!({})),
        "WorkerService.Work" => {
            plain(json!({"hello": {"name": "worker-1", "drivers": ["idle"], "slots": 1}}))
        }
        "WorkerService.Acquire" => plain(json!({"worker": "worker-1", "drivers": ["idle"]})),
        "WorkerService.Report" => {
            let token = base64(&cast.lease().await.lease_token);
            let report = json!({"lease_token": token, "heartbeat": {}});
            about(Foreign::Lease, json!({"reports": [report]}))
        }
        "AdminService.GetServerInfo"
        | "AdminService.GetCaller"
        | "AdminService.RotateDataKeys"
        | "AdminService.ListTenants"
        | "AdminService.ListKeys"
        | "AdminService.ListAudit"
        | "AdminService.WatchAudit" => plain(json!({})),
        "AdminService.PauseDriver" | "AdminService.ResumeDriver" => {
            plain(json!({"driver": fresh()}))
        }
        "AdminService.CreateTenant" => plain(json!({"tenant": {"name": fresh()}})),
        "AdminService.UpdateTenant" => {
            let name = fresh();
            make_tenant(&cast.served, &name).await;
            plain(json!({"name": name, "quotas": {"watches": 7}}))
        }
        "AdminService.CreateKey" => plain(json!({"roles": ["ROLE_ADMIN"]})),
        "AdminService.RevokeKey" => about(
            Foreign::Key,
            json!({"key_id": cast.spare_key().await.key_id}),
        ),
        "Health.Check" | "Health.Watch" | "Health.List" => plain(json!({})),
        "ServerReflection.ServerReflectionInfo" => plain(json!({"list_services": ""})),
        other => panic!("what does {other} need?"),
    }
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

pub fn encode(descriptor: MessageDescriptor, message: &Value) -> Vec<u8> {
    let read = DynamicMessage::deserialize(descriptor, message);
    let read = read.unwrap_or_else(|error| panic!("{error}: {message}"));
    read.encode_to_vec()
}

/// A gRPC call of the method.
pub fn grpc(method: &Method, message: &Value) -> Ask {
    let mut ask = Ask::grpc(&method.path(), &encode(method.descriptor.input(), message));
    // A worker goes on to speak, or it is taken for gone; of reflection each question has its answer.
    ask.stays_open = method.name() == "WorkerService.Work";
    ask
}

/// The same in plain HTTP.
pub fn http(form: &Form, message: &Value) -> Ask {
    let Value::Object(mut fields) = message.clone() else {
        panic!("{message} is no message");
    };
    let mut path = String::new();
    let mut rest = form.path.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap();
        let value = fields.remove(name);
        let value = value.unwrap_or_else(|| panic!("{} needs {name}", form.path));
        path = format!("{path}{before}{}", value.as_str().unwrap());
        rest = after;
    }
    path.push_str(rest);
    let body = match form.body.as_str() {
        "" => None,
        "*" => Some(Value::Object(std::mem::take(&mut fields))),
        field => Some(fields.remove(field).unwrap_or(json!({}))),
    };
    let query = fields.iter().map(|(name, value)| {
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        format!("{name}={}", escaped(&value))
    });
    let query: Vec<_> = query.collect();
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let mut ask = Ask::http(&form.verb, &path);
    if let Some(body) = body {
        ask = ask.json(&body);
    }
    if form.method.may_last() {
        ask = ask.with("accept", "text/event-stream");
    }
    ask
}

pub fn escaped(value: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

/// What went wrong inside of an answer that went well as a whole: of each part that was refused the reason, and its message.
pub fn refused_parts(method: &Method, encoded: &[u8]) -> Vec<String> {
    let message = json_of(method, encoded);
    let results = message["results"].as_array().cloned().unwrap_or_default();
    let refused = results.iter().filter(|result| !result["error"].is_null());
    let reasons = refused.map(|result| {
        let details = result["error"]["details"].as_array().unwrap();
        let mut reasons = details
            .iter()
            .filter_map(|detail| detail["reason"].as_str());
        reasons.next().unwrap().to_owned()
    });
    reasons.collect()
}

/// What a gRPC call has answered, as text.
pub fn shown(method: &Method, answer: &Answer) -> String {
    let messages = answer.messages().into_iter();
    let messages = messages.map(|message| json_of(method, message).to_string());
    messages.collect::<Vec<_>>().join("\n")
}

/// An answer of the method; nothing of one that is not of the contract.
fn json_of(method: &Method, encoded: &[u8]) -> Value {
    let name = method.descriptor.output().full_name().to_owned();
    let Some(descriptor) = POOL.get_message_by_name(&name) else {
        return Value::Null;
    };
    let message = DynamicMessage::decode(descriptor, encoded).unwrap();
    serde_json::to_value(&message).unwrap()
}
