//! Examples for the OpenAPI document. A test reads each as the message that it stands for.

use serde_json::{Value, json};

/// The body of a request.
pub(super) fn body(method: &str) -> Option<Value> {
    Some(match method {
        "Submit" => json!({
            "action": "create",
            "summary": "Create S3 bucket photos",
            "object": {"type": "sg_buckets", "name": "photos"},
            "tasks": [{
                "driver": "storagegrid_ansible",
                "resourceType": "sg_bucket",
                "requestPayload": {"s3_bucket_name": "photos"},
            }],
        }),
        "SubmitBatch" => json!({
            "requests": [
                {"requestId": "nightly-1", "job": {"action": "check", "tasks": [{"driver": "checker"}]}},
                {"requestId": "nightly-2", "job": {"action": "check", "tasks": [{"driver": "checker"}]}},
            ],
        }),
        "Cancel" => json!({"reason": "no longer needed"}),
        "Retry" => json!({"requestId": "second-try"}),
        "Acquire" => json!({
            "worker": "worker-1",
            "drivers": ["storagegrid_ansible"],
            "maxLeases": 4,
            "wait": "30s",
        }),
        "Report" => json!({
            "reports": [{
                "leaseToken": "bGVhc2U=",
                "progress": {"progress": {"done": "3", "total": "9", "unit": "files"}},
            }],
            "wait": "5s",
        }),
        "PauseDriver" => json!({"reason": "maintenance until noon"}),
        _ => return None,
    })
}

/// The body of an answer.
pub(super) fn answer(method: &str) -> Option<Value> {
    match method {
        "Submit" | "Get" => Some(job()),
        "List" => Some(json!({"jobs": [job()], "totalSize": "1"})),
        "Explain" => Some(json!({
            "summary": "QUEUED: waits for a worker",
            "explanations": [{
                "reason": "NO_WORKER",
                "taskName": "task-1",
                "message": "no worker of driver storagegrid_ansible is connected",
                "hint": "longhaul work --driver storagegrid_ansible -- COMMAND",
            }],
        })),
        _ => None,
    }
}

fn job() -> Value {
    json!({
        "id": "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f",
        "tenant": "default",
        "action": "create",
        "summary": "Create S3 bucket photos",
        "object": {"type": "sg_buckets", "name": "photos"},
        "state": "STATE_QUEUED",
        "status": "STATUS_NORMAL",
        "statusDetail": "waits for a worker",
        "revision": "1",
        "progress": {"total": "1", "unit": "tasks"},
        "taskCounts": {"total": 1, "queued": 1},
        "createTime": "2026-11-21T08:00:00.000123Z",
        "updateTime": "2026-11-21T08:00:00.000123Z",
    })
}

#[cfg(test)]
mod tests {
    use super::{super::route::routes, *};
    use crate::proto::json;

    #[test]
    fn every_example_is_what_it_stands_for() {
        let mut read = 0;
        for route in routes() {
            let name = route.method.name().to_owned();
            let mut expect = |message, example: Option<Value>| {
                if let Some(example) = example {
                    let told = json::from_value(message, example);
                    read += 1;
                    assert!(told.is_ok(), "{name}: {told:?}");
                }
            };
            expect(route.body_message(), body(&name));
            expect(route.answer_message(), answer(&name));
        }
        assert!(read > 8);
    }
}
