//! What was begun with a credential ends with it: streams, long polls and waits of every kind, on the node where it was ended and on another one.

use std::time::{Duration, Instant};

use longhaul::proto::v1::{
    GetCallerRequest, GetCallerResponse, Role, TaskReport, Warning, WorkRequest,
    task_report::Report,
};
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    cast::{
        OWN, acquire, caller, get, in_seconds, key, make_key, make_key_until, make_tenant, revoke,
        set_disabled, submit,
    },
    contract::ROLES,
    requests::base64,
    served::{On, Served, call, on_each_store, reason},
    wire::{Answer, Ask, Lasting, PATIENCE, Wire},
};

/// How soon it is promised to end; a slow machine may take longer, and the tests say how long it took.
const PROMISED: Duration = Duration::from_secs(5);

/// How something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A gRPC call, whose first message is there before it ends if it streams.
    Grpc { streams: bool },
    /// Server-sent events.
    Events,
    /// An answer in plain HTTP that is yet to come.
    Poll,
}

/// Something that lasts.
struct Open {
    name: String,
    kind: Kind,
    lasting: Lasting,
}

/// Everything that may last, as it is asked for.
async fn kinds(served: &Served, key: &str) -> Vec<(String, Kind, Ask)> {
    let job = submit(served, key, "nobody", "").await.id;
    submit(served, key, "held", "").await;
    let lease = acquire(served, key, "held").await;
    let token = base64(&lease.lease_token);
    let grpc = |name: &str, streams, message: serde_json::Value| {
        let methods = crate::contract::methods();
        let method = methods.iter().find(|method| method.path().ends_with(name));
        let mut ask = crate::requests::grpc(method.unwrap(), &message);
        ask.stays_open |= name.ends_with("ReflectionInfo");
        (name.to_owned(), Kind::Grpc { streams }, ask)
    };
    let report = json!([{"lease_token": token, "heartbeat": {}}]);
    let hello = json!({"name": "worker-1", "drivers": ["idle"], "slots": 1});
    let list = json!({"list_services": ""});
    let mut kinds = vec![
        grpc("JobService/WatchJob", true, json!({"job_id": job})),
        grpc("JobService/WatchJobs", true, json!({})),
        grpc(
            "JobService/Wait",
            false,
            json!({"job_id": job, "timeout": "600s"}),
        ),
        grpc("WorkerService/Work", true, json!({"hello": hello})),
        grpc(
            "WorkerService/Acquire",
            false,
            json!({"worker": "w", "drivers": ["idle"], "wait": "60s"}),
        ),
        grpc(
            "WorkerService/Report",
            false,
            json!({"reports": report, "wait": "60s"}),
        ),
        grpc("AdminService/WatchAudit", true, json!({})),
        grpc(
            "v1.ServerReflection/ServerReflectionInfo",
            true,
            list.clone(),
        ),
        grpc("v1alpha.ServerReflection/ServerReflectionInfo", true, list),
    ];
    let get = |path: String| Ask::http("GET", &path);
    for path in [
        format!("/v1/jobs/{job}:watch"),
        format!("/v1/jobs/{job}"),
        "/v1/jobs:watch".to_owned(),
        "/v1/jobs".to_owned(),
        "/v1/audit:watch".to_owned(),
    ] {
        let ask = get(path.clone()).with("accept", "text/event-stream");
        kinds.push((format!("events of {path}"), Kind::Events, ask));
    }
    for path in [
        format!("/v1/jobs/{job}"),
        format!("/v2.1/jobs/{job}"),
        format!("/api/management-server/jobs/{job}?wait=120"),
        format!("/api/jobs/{job}?poll_timeout=120&last_modified=%3E%3D2999-01-01T00%3A00%3A00Z"),
        format!("/v1/jobs/{job}:wait?timeout=600s"),
    ] {
        let ask = get(path.clone()).with("prefer", "wait=120");
        kinds.push((path, Kind::Poll, ask));
    }
    let acquire = json!({"worker": "w", "drivers": ["idle"], "wait": "60s"});
    let ask = Ask::http("POST", "/v1/workers:acquire").json(&acquire);
    kinds.push(("/v1/workers:acquire".to_owned(), Kind::Poll, ask));
    let spec = json!({"tasks": [{"driver": "nobody"}]});
    for path in ["/v1/jobs", "/v2.1/jobs", "/routed/7"] {
        let ask = Ask::http("POST", path)
            .json(&spec)
            .with("prefer", "wait=120");
        kinds.push((format!("POST {path}"), Kind::Poll, ask));
    }
    kinds
}

/// Opens all of them on a node: what streams has begun, the others are on their way.
async fn open_all(wire: &Wire, key: &str, kinds: &[(String, Kind, Ask)]) -> Vec<Open> {
    let mut all = Vec::new();
    for (name, kind, ask) in kinds {
        let ask = ask.clone().key(key);
        let mut lasting = match kind {
            Kind::Grpc { streams: true } | Kind::Events => wire.open(&ask).await,
            Kind::Grpc { streams: false } | Kind::Poll => wire.begin(&ask).await,
        };
        if matches!(kind, Kind::Grpc { streams: true } | Kind::Events) {
            let first = timeout(PATIENCE, lasting.first()).await.expect(name);
            assert!(!first.body.is_empty(), "{name}: {first:?}");
        }
        let name = name.clone();
        let kind = *kind;
        all.push(Open {
            name,
            kind,
            lasting,
        });
    }
    all
}

#[expect(
    clippy::disallowed_methods,
    reason = "a figure for whoever reads the output: it decides nothing"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads the output")]
fn report(line: &str) {
    eprintln!("{line}");
}

impl Open {
    /// The end of it, which is for want of a good credential.
    async fn end(mut self, since: Instant) {
        let end = timeout(PATIENCE, self.lasting.rest()).await;
        let end: Answer = end.unwrap_or_else(|_| panic!("{} does not end", self.name));
        let took = now().saturating_duration_since(since);
        match self.kind {
            Kind::Grpc { .. } => {
                let status = end.grpc().expect_err(&self.name);
                assert_eq!(
                    status.code(),
                    Code::Unauthenticated,
                    "{}: {status:?}",
                    self.name
                );
                assert_eq!(reason(&status), "CREDENTIAL_INVALID", "{}", self.name);
            }
            // There is nothing more to be said there.
            Kind::Events => assert_eq!(end.status, 200, "{}", self.name),
            Kind::Poll => {
                assert_eq!(end.status, 401, "{}: {end:?}", self.name);
                assert_ne!(end.header("www-authenticate"), "", "{}", self.name);
            }
        }
        let late = if took > PROMISED {
            ", later than promised"
        } else {
            ""
        };
        report(&format!("{} ended after {took:.1?}{late}", self.name));
    }
}

/// Opens everything on each node with a key that is about to end, and with another one; ends the key. The other one's goes on.
async fn all_end(served: &Served, ending: &str, staying: &str, end: impl AsyncFnOnce()) {
    let kinds = kinds(served, staying).await;
    let mut doomed = Vec::new();
    let mut kept = Vec::new();
    for wire in &served.wires {
        doomed.extend(open_all(wire, ending, &kinds).await);
        kept.extend(open_all(wire, staying, &kinds).await);
    }
    for open in &mut doomed {
        assert!(!open.lasting.has_ended(), "{} ends by itself", open.name);
    }
    let since = now();
    end().await;
    for open in doomed {
        open.end(since).await;
    }
    for open in &mut kept {
        assert!(!open.lasting.has_ended(), "{} ended for nothing", open.name);
    }
    // And nothing can be begun.
    for wire in &served.wires {
        let begun =
            call::<GetCallerResponse>(wire, ending, "AdminService/GetCaller", &GetCallerRequest {});
        assert_eq!(begun.await.unwrap_err().code(), Code::Unauthenticated);
    }
}

async fn a_revoked_key_ends_what_was_begun_with_it(on: On) {
    let served = Served::on(on).await;
    make_tenant(&served, OWN).await;
    let made = make_key(&served, OWN, &ROLES, false).await;
    let staying = key(&served, OWN, &ROLES, false).await;
    let id = made.key.unwrap().key_id;
    all_end(&served, &made.secret, &staying, async || {
        revoke(&served, &id).await;
    })
    .await;
    served.stop().await;
}

async fn a_disabled_tenant_ends_what_was_begun_for_it(on: On) {
    let served = Served::on(on).await;
    make_tenant(&served, OWN).await;
    make_tenant(&served, "gone").await;
    let ending = key(&served, "gone", &ROLES, true).await;
    // Of the operator's tenant: what both follow are jobs of their own.
    let staying = key(&served, OWN, &ROLES, false).await;
    let kinds_of_gone = kinds(&served, &ending).await;
    let mut doomed = Vec::new();
    for wire in &served.wires {
        doomed.extend(open_all(wire, &ending, &kinds_of_gone).await);
    }
    let kinds_of_own = kinds(&served, &staying).await;
    let mut kept = open_all(served.wire(), &staying, &kinds_of_own).await;
    let since = now();
    set_disabled(&served, "gone", true).await;
    for open in doomed {
        open.end(since).await;
    }
    for open in &mut kept {
        assert!(!open.lasting.has_ended(), "{} ended for nothing", open.name);
    }
    assert_eq!(
        caller(&served, &ending).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    // Its keys are good again when it is, on the other node as well.
    set_disabled(&served, "gone", false).await;
    for wire in &served.wires {
        let path = "AdminService/GetCaller";
        let known: GetCallerResponse = call(wire, &ending, path, &GetCallerRequest {})
            .await
            .unwrap();
        assert_eq!(known.tenant, "gone");
    }
    served.stop().await;
}

async fn an_expired_key_ends_what_was_begun_with_it(on: On) {
    let served = Served::on(on).await;
    make_tenant(&served, OWN).await;
    let staying = key(&served, OWN, &ROLES, false).await;
    let kinds = kinds(&served, &staying).await;
    // On a slow machine more time is needed to begin with all of it.
    for seconds in [4, 15, 50] {
        let made = make_key_until(&served, OWN, &ROLES, in_seconds(seconds)).await;
        let mut doomed = Vec::new();
        for wire in &served.wires {
            doomed.extend(open_all(wire, &made.secret, &kinds).await);
        }
        if caller(&served, &made.secret).await.is_err() {
            continue;
        }
        let since = now() + Duration::from_secs(seconds.unsigned_abs());
        for open in doomed {
            open.end(since).await;
        }
        let refused = caller(&served, &made.secret).await.unwrap_err();
        assert_eq!(reason(&refused), "CREDENTIAL_EXPIRED");
        served.stop().await;
        return;
    }
    panic!("the machine is too slow for this test");
}

/// A key is good at once, on every node, and so is its end where it was ended.
async fn a_new_key_is_good_at_once(on: On) {
    let served = Served::on(on).await;
    make_tenant(&served, OWN).await;
    let path = "AdminService/GetCaller";
    for _ in 0..5 {
        let made = make_key(&served, OWN, &[Role::Read], false).await;
        for wire in served.wires.iter().rev() {
            let known: GetCallerResponse = call(wire, &made.secret, path, &GetCallerRequest {})
                .await
                .unwrap();
            assert_eq!((known.tenant.as_str(), known.roles.len()), (OWN, 1));
        }
        let id = made.key.unwrap().key_id;
        revoke(&served, &id).await;
        let refused = caller(&served, &made.secret).await.unwrap_err();
        assert_eq!(reason(&refused), "CREDENTIAL_INVALID");
    }
    served.stop().await;
}

on_each_store!(
    a_revoked_key_ends_what_was_begun_with_it,
    a_disabled_tenant_ends_what_was_begun_for_it,
    an_expired_key_ends_what_was_begun_with_it,
    a_new_key_is_good_at_once,
);

/// A worker that never reads that its stream has ended is not heard any more either.
#[tokio::test]
async fn a_revoked_worker_that_does_not_listen_is_not_heard() {
    let served = Served::on(On::Memory).await;
    make_tenant(&served, OWN).await;
    let owner = key(&served, OWN, &ROLES, false).await;
    let made = make_key(&served, OWN, &[Role::Work], false).await;
    let job = submit(&served, &owner, "held", "").await.id;
    let lease = acquire(&served, &made.secret, "held").await;
    let hello = json!({"hello": {"name": "w", "drivers": ["idle"], "slots": 1, "held": [base64(&lease.lease_token)]}});
    let methods = crate::contract::methods();
    let work = methods
        .iter()
        .find(|method| method.name() == "WorkerService.Work");
    let ask = crate::requests::grpc(work.unwrap(), &hello).key(&made.secret);
    let deaf = served.wire().deaf().await;
    let worker = deaf.begin(&ask).await;
    let warn = async |message: &str| {
        let message = message.to_owned();
        let report = TaskReport {
            lease_token: lease.lease_token.clone(),
            report: Some(Report::Warning(Warning { message })),
        };
        let message = WorkRequest {
            reports: vec![report],
            ..WorkRequest::default()
        };
        worker.say(&message).await;
    };
    let heard = async || {
        let job = get(&served, &owner, &job).await.unwrap();
        job.tasks[0].warnings.clone()
    };
    warn("before").await;
    let is_heard = timeout(PATIENCE, async {
        while heard().await.is_empty() {
            tokio::task::yield_now().await;
        }
    });
    is_heard.await.expect("it is heard while its key is good");
    revoke(&served, &made.key.unwrap().key_id).await;
    // What it says is read within a few of these, as before; that it is not, no wait could show.
    for _ in 0..100 {
        warn("after").await;
        assert_eq!(heard().await, ["before"]);
    }
    drop((worker, deaf));
    served.stop().await;
}
