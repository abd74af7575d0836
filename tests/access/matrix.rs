//! Every method, with every credential: what is allowed by the contract is done, and nothing else.

use std::collections::BTreeSet;

use longhaul::proto::v1::{
    GetServerInfoRequest, GetServerInfoResponse, ListKeysRequest, ListKeysResponse, ListRequest,
    ListResponse, ListTenantsRequest, ListTenantsResponse,
};
use tonic::Code;

use crate::{
    cast::{Cast, Credential, OTHER, Who},
    contract::{Asks, Method, methods},
    requests::{Foreign, good, grpc, refused_parts},
    served::{On, Served, on_each_store, reason},
    wire::{Answer, Ask, Wire},
};

/// What has to become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// Nobody is known to ask, for this reason.
    Unknown(&'static str),
    /// Who asks may not.
    Denied,
    /// There is no such thing, for who asks.
    Missing(Foreign),
}

/// What has to become of a request for a thing of the tenant.
pub fn fate(asks: Asks, foreign: Option<Foreign>, who: &Who) -> Fate {
    let of_another = |reaches: bool| match foreign {
        Some(foreign) if !reaches => Fate::Missing(foreign),
        Some(_) | None => Fate::Done,
    };
    match (asks, who) {
        (Asks::Nothing, _) => Fate::Done,
        (_, Who::Nobody(reason)) => Fate::Unknown(reason),
        (asks, Who::Own(role)) => match asks.is_given_by(*role) {
            true => Fate::Done,
            false => Fate::Denied,
        },
        (Asks::Operator, Who::Wide(longhaul::proto::v1::Role::Admin)) => Fate::Done,
        (asks, Who::Wide(role)) => match asks.is_given_by(*role) {
            true => of_another(asks.is_wide()),
            false => Fate::Denied,
        },
        (Asks::Operator, Who::Other) => Fate::Denied,
        (_, Who::Other) => of_another(false),
        (asks, Who::Operator) => of_another(asks.is_wide()),
    }
}

/// What became of a gRPC call.
fn found(method: &Method, answer: &Answer) -> Result<(), String> {
    let told = |code: Code, reason: &str| format!("{code:?} {reason}");
    match answer.grpc() {
        Err(status) => Err(told(status.code(), &reason(&status))),
        Ok(()) => match answer.messages().first() {
            Some(message) => match refused_parts(method, message).first() {
                Some(reason) => Err(told(Code::Ok, reason)),
                None => Ok(()),
            },
            None => Ok(()),
        },
    }
}

fn expected(fate: Fate) -> Result<(), String> {
    match fate {
        Fate::Done => Ok(()),
        Fate::Unknown(reason) => Err(format!("{:?} {reason}", Code::Unauthenticated)),
        Fate::Denied => Err(format!("{:?} ROLE_REQUIRED", Code::PermissionDenied)),
        Fate::Missing(Foreign::Lease) => Err(format!("{:?} LEASE_LOST", Code::Ok)),
        Fate::Missing(foreign) => Err(format!("{:?} {}", Code::NotFound, foreign.reason())),
    }
}

/// All that stands: jobs with their revisions, tenants, keys, paused drivers.
pub async fn world(cast: &Cast) -> Vec<String> {
    let served = &cast.served;
    let mut world = Vec::new();
    if served.first_key.is_empty() {
        // Nobody is kept from changing anything.
        return world;
    }
    for key in [&cast.owner, &cast.other, &served.first_key] {
        let request = ListRequest {
            page_size: 1_000,
            ..ListRequest::default()
        };
        let jobs: ListResponse = served.call(key, "JobService/List", &request).await.unwrap();
        let jobs = jobs.jobs.into_iter();
        world.extend(jobs.map(|job| format!("{} {} {}", job.tenant, job.id, job.revision)));
    }
    let request = ListTenantsRequest {
        page_size: 1_000,
        ..ListTenantsRequest::default()
    };
    let path = "AdminService/ListTenants";
    let tenants: ListTenantsResponse = served
        .call(&served.first_key, path, &request)
        .await
        .unwrap();
    world.extend(tenants.tenants.iter().map(|tenant| format!("{tenant:?}")));
    let request = ListKeysRequest {
        page_size: 1_000,
        ..ListKeysRequest::default()
    };
    let path = "AdminService/ListKeys";
    let keys: ListKeysResponse = served
        .call(&served.first_key, path, &request)
        .await
        .unwrap();
    world.extend(keys.keys.into_iter().map(|mut key| {
        key.last_used_time = None;
        format!("{key:?}")
    }));
    let path = "AdminService/GetServerInfo";
    let info: GetServerInfoResponse = served
        .call(&served.first_key, path, &GetServerInfoRequest {})
        .await
        .unwrap();
    world.extend(
        info.paused_drivers
            .iter()
            .map(|paused| format!("{paused:?}")),
    );
    world
}

/// A cell of the matrix that is not as it has to be.
pub struct Wrong {
    pub cell: String,
    pub told: String,
}

/// Tries every method with every credential; answers with what is wrong, and how many cells there were that had to refuse.
async fn check(cast: &Cast) -> (Vec<Wrong>, BTreeSet<String>) {
    let mut wrong = Vec::new();
    let mut closed = BTreeSet::new();
    for method in methods() {
        let asked = good(cast, &method.name()).await;
        let mut ask = grpc(&method, &asked.message);
        let (mut open, mut shut) = (Vec::new(), Vec::new());
        for credential in &cast.credentials {
            match fate(method.asks, asked.foreign, &credential.who) {
                Fate::Done => open.push(credential),
                fate => shut.push((credential, fate)),
            }
        }
        // Those who may not come first, all for the same thing: it is as it was when they have gone, and those who may find it so.
        let before = world(cast).await;
        let known = wrong.len();
        for (credential, fate) in shut {
            let cell = format!("{} with {}", method.path(), credential.name);
            closed.insert(cell.clone());
            let answer = call(cast.served.wire(), &ask, credential, &method).await;
            let told = found(&method, &answer);
            if told != expected(fate) {
                let told = format!("{told:?} instead of {fate:?}");
                wrong.push(Wrong { cell, told });
                // What should not have been done may have used the thing up.
                ask = grpc(&method, &good(cast, &method.name()).await.message);
            }
        }
        if wrong.len() == known && world(cast).await != before {
            let cell = format!("{}, denied", method.path());
            let told = "changed something".to_owned();
            wrong.push(Wrong { cell, told });
        }
        for credential in open {
            let ask = grpc(&method, &good(cast, &method.name()).await.message);
            let answer = call(cast.served.other_wire(), &ask, credential, &method).await;
            if let Err(told) = found(&method, &answer) {
                let cell = format!("{} with {}", method.path(), credential.name);
                wrong.push(Wrong { cell, told });
            }
        }
    }
    (wrong, closed)
}

async fn call(wire: &Wire, ask: &Ask, credential: &Credential, method: &Method) -> Answer {
    wire.ask(&credential.on(ask), method.may_last()).await
}

pub fn assert_right(wrong: &[Wrong]) {
    let told = wrong.iter().take(20);
    let told: Vec<_> = told
        .map(|wrong| format!("{}: {}", wrong.cell, wrong.told))
        .collect();
    assert!(
        told.is_empty(),
        "{} wrong, such as\n{}",
        wrong.len(),
        told.join("\n")
    );
}

async fn every_method_does_what_its_permission_says(on: On) {
    let cast = Cast::on(on).await;
    let (wrong, closed) = check(&cast).await;
    assert_right(&wrong);
    // Of each method all but some cells are closed.
    assert!(
        closed.len() > 15 * (methods().len() - 3),
        "{}",
        closed.len()
    );
    cast.served.stop().await;
}

on_each_store!(every_method_does_what_its_permission_says);

/// The control: a server that asks for nothing is found out in each cell that has to refuse.
#[tokio::test]
async fn a_server_that_asks_for_nothing_is_found_out() {
    let served = Served::without_auth(On::Memory).await;
    let cast = Cast::of(served, OTHER).await;
    let (wrong, closed) = check(&cast).await;
    let wrong: BTreeSet<_> = wrong.into_iter().map(|wrong| wrong.cell).collect();
    let missed: Vec<_> = closed.difference(&wrong).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    cast.served.stop().await;
}

/// What is served is what is tried: nothing is beside the descriptors.
#[tokio::test]
async fn every_service_that_is_served_is_in_the_matrix() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, ServerReflectionResponse,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let cast = Cast::on(On::Memory).await;
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let ask = Ask::grpc(path, &prost::Message::encode_to_vec(&request)).key(&cast.owner);
    let answer = cast.served.wire().ask(&ask, false).await;
    let listed: ServerReflectionResponse = answer.message().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        panic!("{listed:?}");
    };
    let listed: BTreeSet<_> = listed.service.into_iter().map(|s| s.name).collect();
    let tried = methods().into_iter();
    let tried: BTreeSet<_> = tried
        .map(|method| method.descriptor.parent_service().full_name().to_owned())
        .collect();
    let untried: Vec<_> = listed.difference(&tried).collect();
    assert!(untried.is_empty(), "{untried:?}");
    cast.served.stop().await;
}
