//! The trace context of a submission goes to the worker, and is never a reason to refuse a job.

use longhaul::proto::v1::AcquireRequest;
use tonic::{Request, metadata::MetadataValue};

use crate::{harness::Server, jobs::submission};

#[tokio::test]
async fn a_worker_gets_the_trace_context_of_the_submission_if_it_may_be_one() {
    let server = Server::start().await;
    let client = server.client().await;
    let version_0 = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let longest = format!("cc{}-{}", &version_0[2..], "x".repeat(512 - 56));
    let too_long = format!("{longest}x");
    for (given, told) in [
        (version_0, version_0),
        (&longest, &longest),
        (&too_long, ""),
        (&version_0[1..], ""),
    ] {
        let mut request = Request::new(submission("traced"));
        let value = MetadataValue::try_from(given).unwrap();
        request.metadata_mut().insert("traceparent", value);
        client.jobs().submit(request).await.unwrap();
        let request = AcquireRequest {
            worker: "worker".into(),
            drivers: vec!["traced".into()],
            max_leases: 1,
            ..AcquireRequest::default()
        };
        let answer = client.workers().acquire(request).await.unwrap();
        assert_eq!(answer.into_inner().leases[0].traceparent, told, "{given}");
    }
    server.stop().await;
}
