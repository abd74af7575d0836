//! Messages as canonical protobuf JSON, and back. The descriptors do the work; nothing here knows a field.

mod strict;

use std::{io, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::{Struct, v1};

/// Up to here a double holds every whole number.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

/// Everything that is served, and what `google.protobuf.Any` may hold in an error.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(super::DESCRIPTORS)
        .expect("the descriptors were made together with the messages");
    let errors = prost_types::FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .expect("the crate of the error details ships their descriptors");
    // Its file of google.rpc.Status is left out: ours has the same message under the usual path.
    let details = errors.file.into_iter().filter(|file| {
        file.message_type
            .iter()
            .any(|message| message.name() == "ErrorInfo")
    });
    pool.add_file_descriptor_protos(details)
        .expect("the error details depend on well-known types alone");
    pool
});

/// A message that goes in or out as JSON.
pub trait ApiMessage: Message + Default {
    /// Its name among the descriptors.
    const NAME: &'static str;
}

macro_rules! api_messages {
    ($($message:ident),+ $(,)?) => {
        $(impl ApiMessage for v1::$message {
            const NAME: &'static str = concat!("longhaul.v1.", stringify!($message));
        })+

        #[cfg(test)]
        const NAMES: &[&str] = &[$(v1::$message::NAME),+];
    };
}

api_messages!(
    AcquireRequest,
    AcquireResponse,
    AuditRecord,
    CancelRequest,
    CancelResponse,
    CreateKeyResponse,
    CreateTenantResponse,
    DeleteRequest,
    DeleteResponse,
    ExplainRequest,
    ExplainResponse,
    GetCallerResponse,
    GetCountsRequest,
    GetCountsResponse,
    GetRequest,
    GetResponse,
    GetServerInfoRequest,
    GetServerInfoResponse,
    Job,
    JobEvent,
    JobSpec,
    Key,
    ListAuditResponse,
    ListEventsRequest,
    ListEventsResponse,
    ListKeysResponse,
    ListRequest,
    ListResponse,
    ListTenantsResponse,
    PauseDriverRequest,
    PauseDriverResponse,
    ReportRequest,
    ReportResponse,
    ResumeDriverRequest,
    ResumeDriverResponse,
    RetryRequest,
    RetryResponse,
    RevokeKeyResponse,
    RotateDataKeysResponse,
    SubmitBatchRequest,
    SubmitBatchResponse,
    SubmitRequest,
    SubmitResponse,
    Tenant,
    UpdateTenantResponse,
    WaitRequest,
    WaitResponse,
    WatchAuditResponse,
    WatchJobRequest,
    WatchJobResponse,
    WatchJobsRequest,
    WatchJobsResponse,
);

/// Why JSON is not the message that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", path.as_ref().map_or_else(String::new, |path| format!("{path}: ")))]
pub struct InvalidJson {
    /// The field that is wrong, if the mistake has one.
    pub path: Option<String>,
    /// What is wrong with it, and where in the text.
    pub message: String,
}

impl InvalidJson {
    fn new(error: impl std::fmt::Display) -> Self {
        Self {
            path: None,
            message: error.to_string(),
        }
    }
}

/// A message on one line.
///
/// # Errors
/// It holds what JSON can not: a time beyond the calendar, or details of an unknown type.
pub fn compact<M: ApiMessage>(message: &M) -> Result<String, InvalidJson> {
    written(&dynamic(message)?, CompactFormatter)
}

/// A message over several lines, its fields in the order in which they are declared.
///
/// # Errors
/// As [`compact`].
pub fn pretty<M: ApiMessage>(message: &M) -> Result<String, InvalidJson> {
    written(&dynamic(message)?, PrettyFormatter::new())
}

/// An object that a client or a worker made, over several lines.
///
/// # Errors
/// The bytes are not an object.
pub fn pretty_object(object: &Struct) -> Result<String, InvalidJson> {
    let value = object.to_json().map_err(InvalidJson::new)?;
    written(&value, PrettyFormatter::new())
}

/// Messages as lines of JSON, one each.
///
/// # Errors
/// As [`compact`].
pub fn lines<M: ApiMessage>(messages: &[M]) -> Result<Vec<String>, InvalidJson> {
    messages.iter().map(compact).collect()
}

/// A message as one that is known by its descriptor.
///
/// # Errors
/// Never, for a message of this build.
pub fn dynamic<M: ApiMessage>(message: &M) -> Result<DynamicMessage, InvalidJson> {
    DynamicMessage::decode(descriptor::<M>(), message.encode_to_vec().as_slice())
        .map_err(InvalidJson::new)
}

/// Any value on one line, whole numbers without a fraction.
///
/// # Errors
/// As [`compact`].
pub fn line(value: &impl Serialize) -> Result<String, InvalidJson> {
    written(value, CompactFormatter)
}

fn written(value: &impl Serialize, formatter: impl Formatter) -> Result<String, InvalidJson> {
    let mut text = Vec::with_capacity(1024);
    let mut writer = Serializer::with_formatter(&mut text, WholeNumbers(formatter));
    value.serialize(&mut writer).map_err(InvalidJson::new)?;
    String::from_utf8(text).map_err(InvalidJson::new)
}

/// Writes 3 rather than 3.0. All numbers of a `google.protobuf.Struct` are doubles, and people put in 3.
struct WholeNumbers<F>(F);

macro_rules! as_before {
    ($($method:ident($($argument:ident: $kind:ty)?)),+ $(,)?) => {$(
        fn $method<W: ?Sized + io::Write>(&mut self, writer: &mut W $(, $argument: $kind)?) -> io::Result<()> {
            self.0.$method(writer $(, $argument)?)
        }
    )+};
}

impl<F: Formatter> Formatter for WholeNumbers<F> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() <= MAX_EXACT_INTEGER as f64 {
            self.0.write_i64(writer, value as i64)
        } else {
            self.0.write_f64(writer, value)
        }
    }

    as_before!(
        begin_array(),
        end_array(),
        begin_array_value(first: bool),
        end_array_value(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        end_object_key(),
        begin_object_value(),
        end_object_value(),
    );
}

/// A value from JSON in which no key of an object stands twice.
///
/// # Errors
/// The text is no such JSON.
pub fn value(text: &[u8]) -> Result<serde_json::Value, InvalidJson> {
    strict::check(text).map_err(InvalidJson::new)?;
    serde_json::from_slice(text).map_err(InvalidJson::new)
}

/// A message from JSON; field names in camelCase or snake_case, unknown and repeated ones refused. The error names the place.
///
/// # Errors
/// The text is not JSON, or not of this message.
pub fn to_message<M: ApiMessage>(text: &str) -> Result<M, InvalidJson> {
    of_text(text.as_bytes())
}

/// As [`to_message`], from bytes.
///
/// # Errors
/// As there.
pub fn of_text<M: ApiMessage>(text: &[u8]) -> Result<M, InvalidJson> {
    let message = read(descriptor::<M>(), text)?;
    M::decode(message.encode_to_vec().as_slice()).map_err(InvalidJson::new)
}

/// As [`to_message`], from JSON that was read already.
///
/// # Errors
/// As there.
pub fn of_value<M: ApiMessage>(value: serde_json::Value) -> Result<M, InvalidJson> {
    let message = from_value(descriptor::<M>(), value)?;
    M::decode(message.encode_to_vec().as_slice()).map_err(InvalidJson::new)
}

/// As [`to_message`], for a message that is known by its descriptor.
///
/// # Errors
/// As there.
pub fn read(descriptor: MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, InvalidJson> {
    strict::check(text).map_err(InvalidJson::new)?;
    from(descriptor, &mut serde_json::Deserializer::from_slice(text))
}

/// As [`read`], from JSON that was read already.
///
/// # Errors
/// As there.
pub fn from_value(
    descriptor: MessageDescriptor,
    value: serde_json::Value,
) -> Result<DynamicMessage, InvalidJson> {
    from(descriptor, value)
}

fn from<'de, D>(descriptor: MessageDescriptor, json: D) -> Result<DynamicMessage, InvalidJson>
where
    D: serde::Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(json, &mut track);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor, tracked, &options).map_err(|error| {
        let path = track.path().to_string();
        InvalidJson {
            message: without_value(error.to_string()),
            path: (path != ".").then_some(path),
        }
    })
}

/// The message without the value of a wrong type that it quotes: that may be a secret, and whoever has sent it has it.
fn without_value(message: String) -> String {
    let quoted = ["invalid type: ", "invalid value: "]
        .into_iter()
        .find_map(|opening| {
            let from = message.find(opening)? + opening.len();
            let to = message.rfind(", expected ")?;
            // Of its kind, and in quotation marks: `string "…"`, ``integer `…` ``.
            let quoted = message.get(from..to)?;
            let at = quoted
                .find([' ', '"', '`'])
                .filter(|_| quoted.ends_with(['"', '`']))?;
            let kind = quoted[..at].trim_end();
            Some(format!("{}{kind}{}", &message[..from], &message[to..]))
        });
    quoted.unwrap_or(message)
}

fn descriptor<M: ApiMessage>() -> MessageDescriptor {
    POOL.get_message_by_name(M::NAME)
        .expect("every API message is among the descriptors; a test looks each one up")
}

#[cfg(test)]
mod tests {
    use prost::bytes::Bytes;
    use serde_json::json;

    use super::*;

    #[test]
    fn no_mistake_repeats_a_value() {
        let task = |task: &str| format!(r#"{{"tasks": [{{"driver": "d", {task}}}]}}"#);
        for wrong in [
            r#""secrets": "my-canary""#,
            r#""secrets": {"db": {"a": "my-canary"}}"#,
            r#""secrets": {"db": 271828182}"#,
            r#""secrets": ["my-canary, expected"]"#,
            r#""requestPayload": "my-\"canary""#,
            r#""requestPayload": 271828182.5"#,
            r#""sensitiveFields": "my-canary""#,
            r#""maxAttempts": "my-canary""#,
            r#""timeouts": {"heartbeat": "my-canary"}"#,
            r#""requestPayload": {"token": 2718281820000000001}"#,
        ] {
            let error = to_message::<v1::JobSpec>(&task(wrong)).expect_err(wrong);
            let told = format!("{error} {error:?}");
            assert!(
                !told.contains("canary") && !told.contains("271828182"),
                "{wrong}: {told}"
            );
        }
        let error =
            to_message::<v1::JobSpec>(&task(r#""secrets": "my-canary""#)).expect_err("wrong");
        assert!(
            error
                .to_string()
                .starts_with("tasks[0].secrets: invalid type: string, expected "),
            "{error}"
        );
    }

    #[test]
    fn every_message_has_its_descriptor() {
        assert!(NAMES.len() > 30);
        for name in NAMES {
            assert!(POOL.get_message_by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn both_spellings_of_a_field_are_read() {
        let spec: v1::JobSpec = to_message(
            r#"{"failure_policy": "FAILURE_POLICY_CONTINUE", "tasks": [{"driver": "d", "dependsOn": ["a"], "request_payload": {"n": 1}}]}"#,
        )
        .expect("a job");
        assert_eq!(spec.failure_policy(), v1::job::FailurePolicy::Continue);
        assert_eq!(spec.tasks[0].depends_on, ["a"]);
        let payload = spec.tasks[0].request_payload.as_ref().expect("a payload");
        assert_eq!(payload.to_json().expect("an object"), json!({"n": 1.0}));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let mistake = |text: &str| to_message::<v1::JobSpec>(text).expect_err(text).to_string();
        let unknown = mistake("{\n  \"acton\": \"create\"\n}");
        assert!(unknown.contains("acton"), "{unknown}");
        assert!(unknown.contains("line 2"), "{unknown}");
        let mistyped = mistake(r#"{"priority": "high"}"#);
        assert!(mistyped.contains("line 1"), "{mistyped}");
        assert!(mistake("{} {}").contains("trailing"));
        let twice = mistake(r#"{"action": "a", "action": "b"}"#);
        assert!(twice.contains("\"action\" stands twice"), "{twice}");
        let mistyped = mistake(r#"{"tasks": [{}, {"maxAttempts": "x"}]}"#);
        assert!(mistyped.starts_with("tasks[1].maxAttempts: "), "{mistyped}");
        assert!(mistake("").contains("EOF"));
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let text = r#"{"a":[3,0.5,-7],"b":1e300,"c":{}}"#;
        let value = serde_json::from_str(text).expect("JSON");
        let object = Struct::from_json(&value).expect("an object");
        let value = object.to_json().expect("JSON");
        assert_eq!(
            written(&value, CompactFormatter).expect("JSON"),
            text.replace("1e300", "1e+300")
        );
    }

    #[test]
    fn the_details_of_an_error_are_spelled_out() {
        let info = tonic_types::pb::ErrorInfo {
            reason: "TASK_FAILED".into(),
            domain: "longhaul".into(),
            metadata: Default::default(),
        };
        let job = v1::Job {
            error: Some(tonic_types::Status {
                code: 9,
                message: "no".into(),
                details: vec![prost_types::Any {
                    type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
                    value: info.encode_to_vec(),
                }],
            }),
            result: Some(Struct::from_encoded(Bytes::new())),
            revision: 3,
            ..Default::default()
        };
        let text = pretty(&job).expect("JSON");
        assert!(text.starts_with("{\n  \"error\": {\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["error"]["details"][0]["reason"], "TASK_FAILED");
        assert_eq!(json["revision"], "3");
        assert_eq!(json["result"], json!({}));
    }
}
