//! Our messages as JSON, for commands.

use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::proto::{
    DESCRIPTORS,
    v1::{JobTask, Progress},
};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the descriptors come from our own build")
});

/// A task with its secrets beside its own members, none of which has that name.
#[derive(Serialize)]
struct WithSecrets<'a> {
    #[serde(flatten)]
    task: &'a DynamicMessage,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secrets: &'a BTreeMap<String, String>,
}

/// The task as canonical JSON on one line: lowerCamelCase, 64-bit numbers as text, what is unset left out.
pub(super) fn of(task: &JobTask, secrets: &BTreeMap<String, String>) -> Zeroizing<Vec<u8>> {
    let mut message = DynamicMessage::new(descriptor("longhaul.v1.JobTask"));
    let json = message
        .transcode_from(task)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let task = &message;
            let document = WithSecrets { task, secrets };
            serde_json::to_vec(&document).map_err(|error| error.to_string())
        });
    let mut json = json.unwrap_or_else(|error| {
        // Only a payload that is no JSON gets here, and the server refuses those.
        tracing::error!(%error, task_id = task.id, "the task can't be written as JSON");
        b"{}".to_vec()
    });
    json.push(b'\n');
    Zeroizing::new(json)
}

/// Progress as a command writes it: numbers may be text, members that we do not know are not allowed, nor are negative numbers.
pub(super) fn progress(value: &Value) -> Option<Progress> {
    let message = DynamicMessage::deserialize(descriptor("longhaul.v1.Progress"), value).ok()?;
    let progress: Progress = message.transcode_to().ok()?;
    (progress.done >= 0 && progress.total >= 0).then_some(progress)
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name)
        .expect("a message of our own proto files")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::Struct;

    #[test]
    fn a_task_is_canonical_json() {
        let task = JobTask {
            id: "t-1".to_owned(),
            resource_type: "bucket".to_owned(),
            request_payload: Some(
                Struct::from_json(&json!({"name": "test1234", "size": 3})).expect("an object"),
            ),
            create_time: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 0,
            }),
            progress: Some(Progress {
                done: 1 << 60,
                ..Default::default()
            }),
            ..Default::default()
        };
        let written: Value = serde_json::from_slice(&of(&task, &BTreeMap::new())).expect("JSON");
        assert_eq!(
            written,
            json!({
                "id": "t-1",
                "resourceType": "bucket",
                "requestPayload": {"name": "test1234", "size": 3.0},
                "createTime": "1970-01-01T00:00:00Z",
                "progress": {"done": "1152921504606846976"},
            })
        );
        let secrets = [("db".to_owned(), "hunter2".to_owned())].into();
        let written: Value = serde_json::from_slice(&of(&task, &secrets)).expect("JSON");
        assert_eq!(
            (&written["secrets"], &written["id"]),
            (&json!({"db": "hunter2"}), &json!("t-1"))
        );
    }

    #[test]
    fn progress_is_read_strictly() {
        let read = progress(&json!({"done": 3, "total": "9", "unit": "files"})).expect("progress");
        assert_eq!((read.done, read.total, read.unit.as_str()), (3, 9, "files"));
        for bad in [
            json!({"dun": 3}),
            json!({"done": -1}),
            json!(3),
            json!("3/9"),
            json!({"done": "x"}),
            json!(null),
        ] {
            assert_eq!(progress(&bad), None, "{bad}");
        }
    }
}
