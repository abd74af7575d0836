//! Ways around the doors: other spellings of paths, other types of content, and the forms that a credential may have.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use longhaul::proto::v1::{JobSpec, Role, SubmitBatchRequest, SubmitBatchResponse, SubmitRequest};
use prost::Message as _;
use tonic::Code;
use uuid::Uuid;

use crate::{
    cast::{Cast, OWN, key, spec, submit},
    matrix::world,
    requests::good,
    served::{On, on_each_store},
    wire::Ask,
};

/// However a path is spelt, who may not submit does not.
#[tokio::test]
async fn no_spelling_of_a_path_leads_past_the_gate() {
    let cast = Cast::on(On::Memory).await;
    let served = &cast.served;
    let reader = key(served, OWN, &[Role::Read], false).await;
    let request = SubmitRequest {
        job: Some(spec("nobody")),
        ..SubmitRequest::default()
    };
    let encoded = request.encode_to_vec();
    let before = world(&cast).await;
    for path in [
        "/longhaul.v1.JobService/Submit",
        "/longhaul.v1.JobService/Submit/",
        "/longhaul.v1.JobService//Submit",
        "//longhaul.v1.JobService/Submit",
        "/longhaul.v1.JobService/%53ubmit",
        "/longhaul%2Ev1.JobService/Submit",
        "/longhaul.v1.JobService/./Submit",
        "/longhaul.v1.JobService/x/../Submit",
        "/longhaul.v1.JobService/submit",
        "/LONGHAUL.V1.JOBSERVICE/SUBMIT",
        "/longhaul.v1.JobService/Submit?x=/longhaul.v1.JobService/Get",
        "/longhaul.v1.JobService/Submit;x",
        "/grpc.health.v1.Health/../longhaul.v1.JobService/Submit",
        "/grpc.health.v1.Health/Submit",
    ] {
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web",
        ] {
            for credential in [None, Some(&reader)] {
                let mut ask = Ask::grpc(path, &encoded);
                ask.headers.insert("content-type", kind.parse().unwrap());
                if let Some(key) = credential {
                    ask = ask.key(key);
                }
                let answer = served.wire().ask(&ask, false).await;
                let refused = answer.grpc().expect_err(path);
                let codes = match credential {
                    None => [Code::Unauthenticated, Code::Unimplemented],
                    Some(_) => [Code::PermissionDenied, Code::Unimplemented],
                };
                assert!(codes.contains(&refused.code()), "{path}: {refused:?}");
                // What is open is told to nobody what there is besides.
                let is_open = path.starts_with("/grpc.health.v1.Health/");
                if credential.is_none() && !is_open {
                    assert_eq!(refused.code(), Code::Unauthenticated, "{path}");
                }
            }
        }
    }
    let job = good(&cast, "JobService.Submit").await.message["job"].clone();
    for path in [
        "/v1/jobs",
        "/v1/jobs/",
        "/v1//jobs",
        "//v1/jobs",
        "/v1/%6Aobs",
        "/v1/./jobs",
        "/livez/../v1/jobs",
        "/v1/jobs?method=GET",
        "/v1/jobs#x",
        "/api/v3/jobs/",
        "/routed/7/",
        "/routed/%37",
    ] {
        for (header, value) in [
            ("x-http-method-override", "GET"),
            ("x-original-url", "/livez"),
            ("x-forwarded-user", "admin"),
        ] {
            let ask = Ask::http("POST", path).json(&job).with(header, value);
            let nobody = served.wire().ask(&ask, false).await;
            assert_eq!(nobody.status, 401, "{path}: {nobody:?}");
            let known = served.wire().ask(&ask.key(&reader), false).await;
            assert!([400, 403, 404].contains(&known.status), "{path}: {known:?}");
        }
    }
    assert_eq!(world(&cast).await, before);
    cast.served.stop().await;
}

/// In each form that clients have, over both protocols.
#[tokio::test]
async fn a_key_is_taken_in_each_of_its_forms() {
    let cast = Cast::on(On::Memory).await;
    let key = cast.owner.as_str();
    let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
    for value in [
        format!("Bearer {key}"),
        format!("bearer {key}"),
        format!("BEARER   {key}"),
        basic(format!("anybody:{key}")),
        basic(format!("{key}:")),
        basic(format!(":{key}")),
    ] {
        let ask = Ask::http("GET", "/v1/caller").with("authorization", &value);
        let answer = cast.served.wire().ask(&ask, false).await;
        assert_eq!(answer.status, 200, "{value}");
        assert_eq!(answer.json()["tenant"], OWN);
        let ask = Ask::grpc("/longhaul.v1.AdminService/GetCaller", b"");
        let ask = ask.with("authorization", &value);
        let answer = cast.served.wire().ask(&ask, false).await;
        answer.grpc().unwrap();
    }
    // What stands elsewhere is none.
    for ask in [
        Ask::http("GET", &format!("/v1/caller?access_token={key}")),
        Ask::http("GET", "/v1/caller").with("x-api-key", key),
        Ask::http("GET", "/v1/caller").with("cookie", &format!("authorization=Bearer {key}")),
        Ask::http("GET", "/v1/caller").with("proxy-authorization", &format!("Bearer {key}")),
    ] {
        let answer = cast.served.wire().ask(&ask, false).await;
        assert_eq!(answer.status, 401, "{ask:?}");
    }
    cast.served.stop().await;
}

/// One bad parent does not keep the others of its batch from being stored, and nothing is hung onto another tenant's job.
async fn a_batch_is_stored_as_far_as_it_is_ones_own(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let anothers = cast.job().await;
    let own = submit(served, &cast.other, "nobody", "").await;
    let with_parent = |parent: &str| SubmitRequest {
        job: Some(JobSpec {
            parent_job_id: parent.to_owned(),
            ..spec("nobody")
        }),
        request_id: Uuid::now_v7().to_string(),
    };
    let requests = vec![
        with_parent(&own.id),
        with_parent(&anothers.id),
        with_parent(""),
    ];
    let request = SubmitBatchRequest { requests };
    let answer = served.call(&cast.other, "JobService/SubmitBatch", &request);
    let answer: SubmitBatchResponse = answer.await.unwrap();
    let stored: Vec<_> = answer.results.iter().map(|r| r.error.is_none()).collect();
    assert_eq!(stored, [true, false, true]);
    let after = crate::cast::get(served, &cast.owner, &anothers.id)
        .await
        .unwrap();
    assert_eq!(after, anothers);
    cast.served.stop().await;
}

on_each_store!(a_batch_is_stored_as_far_as_it_is_ones_own);
