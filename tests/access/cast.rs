//! Who there is: two tenants with keys for every purpose, one that is disabled, an operator, and those whose credentials are not good.

use longhaul::{
    auth::NewKey,
    domain::Timestamp,
    engine::{Clock as _, SteadyClock},
    proto::v1::{
        AcquireRequest, AcquireResponse, CancelRequest, CancelResponse, CreateKeyRequest,
        CreateKeyResponse, CreateTenantRequest, CreateTenantResponse, GetCallerRequest,
        GetCallerResponse, GetRequest, GetResponse, Job, JobSpec, JobTaskSpec, Key, Lease,
        RevokeKeyRequest, RevokeKeyResponse, Role, SubmitRequest, SubmitResponse, Tenant,
        UpdateTenantRequest, UpdateTenantResponse,
    },
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    contract::ROLES,
    served::{On, Served, reason},
    wire::Ask,
};

/// The tenant whose things are tried to be reached.
pub const OWN: &str = "acme";
/// The one that tries.
pub const OTHER: &str = "umbrella";
/// In each of the owner's jobs; nobody else reads it.
pub const CANARY: &str = "the canary of acme";

/// What somebody sends to say who they are, and how that goes.
#[derive(Clone, Debug)]
pub struct Credential {
    pub name: String,
    pub headers: Vec<Vec<u8>>,
    pub who: Who,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody, for this reason.
    Nobody(&'static str),
    /// Somebody of the tenant whose things are asked for, with one role.
    Own(Role),
    /// Whoever works, administers and audits for all tenants, with one role.
    Wide(Role),
    /// Somebody of another tenant, with all roles.
    Other,
    /// The operator, whose tenant is another one.
    Operator,
}

pub struct Cast {
    pub served: Served,
    /// All roles in the tenant.
    pub owner: String,
    pub other: String,
    /// Whether that is of the owner's tenant, which a control asks for.
    pub other_is_own: bool,
    pub credentials: Vec<Credential>,
}

impl Cast {
    pub async fn on(on: On) -> Self {
        let served = Served::on(on).await;
        Self::of(served, OTHER).await
    }

    /// With "the others" in this tenant.
    pub async fn of(served: Served, other_tenant: &str) -> Self {
        for tenant in [OWN, OTHER, "gone"] {
            make_tenant(&served, tenant).await;
        }
        let owner = key(&served, OWN, &ROLES, false).await;
        let other = key(&served, other_tenant, &ROLES, false).await;
        let mut credentials = nobodies(&served).await;
        for role in ROLES {
            let own = key(&served, OWN, &[role], false).await;
            let name = format!("{} of the tenant", role.as_str_name());
            credentials.push(Credential::key(&name, &own, Who::Own(role)));
            if matches!(role, Role::Work | Role::Admin | Role::Audit) {
                let wide = key(&served, "default", &[role], true).await;
                let name = format!("{} of all tenants", role.as_str_name());
                credentials.push(Credential::key(&name, &wide, Who::Wide(role)));
            }
        }
        credentials.push(Credential::key("another tenant", &other, Who::Other));
        let first_key = served.first_key.clone();
        credentials.push(Credential::key("the operator", &first_key, Who::Operator));
        Self {
            served,
            owner,
            other,
            other_is_own: other_tenant == OWN,
            credentials,
        }
    }

    /// A job of the owner that nobody works on.
    pub async fn job(&self) -> Job {
        submit(&self.served, &self.owner, "nobody", "").await
    }

    /// A job of the owner that has ended.
    pub async fn ended(&self) -> Job {
        let job = self.job().await;
        cancel(&self.served, &self.owner, &job.id).await.unwrap()
    }

    /// A lease of one of the owner's tasks.
    pub async fn lease(&self) -> Lease {
        let driver = Uuid::now_v7().to_string();
        submit(&self.served, &self.owner, &driver, "").await;
        acquire(&self.served, &self.owner, &driver).await
    }

    /// A key of the owner's tenant that nobody uses.
    pub async fn spare_key(&self) -> Key {
        make_key(&self.served, OWN, &[Role::Read], false)
            .await
            .key
            .unwrap()
    }
}

impl Credential {
    pub fn key(name: &str, key: &str, who: Who) -> Self {
        let header = format!("Bearer {key}");
        Self::new(name, &[header.as_bytes()], who)
    }

    fn new(name: &str, headers: &[&[u8]], who: Who) -> Self {
        Self {
            name: name.to_owned(),
            headers: headers.iter().map(|header| header.to_vec()).collect(),
            who,
        }
    }

    pub fn on(&self, ask: &Ask) -> Ask {
        let headers = self.headers.iter();
        headers.fold(ask.clone(), |ask, value| {
            ask.with_bytes("authorization", value)
        })
    }
}

/// Those who are nobody.
async fn nobodies(served: &Served) -> Vec<Credential> {
    let nobody =
        |name: &str, headers: &[&[u8]], reason| Credential::new(name, headers, Who::Nobody(reason));
    let good = served.first_key.clone();
    let unknown = NewKey::make().unwrap().text;
    let revoked = {
        let made = make_key(served, OWN, &ROLES, false).await;
        revoke(served, &made.key.unwrap().key_id).await;
        made.secret
    };
    let disabled = key(served, "gone", &ROLES, false).await;
    set_disabled(served, "gone", true).await;
    let expired = expired(served).await;
    let invalid = "CREDENTIAL_INVALID";
    let bearer = |key: &str| format!("Bearer {key}").into_bytes();
    let mistyped = {
        let last = if good.ends_with('0') { "1" } else { "0" };
        format!("{}{last}", good.get(..good.len().max(1) - 1).unwrap_or(""))
    };
    vec![
        nobody("none", &[], "CREDENTIAL_REQUIRED"),
        nobody("an empty one", &[b""], invalid),
        nobody("a word", &[b"Bearer secret"], invalid),
        nobody(
            "another scheme",
            &[format!("Digest {good}").as_bytes()],
            invalid,
        ),
        nobody("no scheme", &[good.as_bytes()], invalid),
        nobody("no text", &[b"Bearer \xff\xfe"], invalid),
        nobody("a mistyped one", &[&bearer(&mistyped)], invalid),
        nobody("a good one and none", &[&bearer(&good), b""], invalid),
        nobody("an unknown one", &[&bearer(&unknown)], invalid),
        nobody(
            "one with another secret",
            &[&bearer(&with_secret_of(&good, &unknown))],
            invalid,
        ),
        nobody("a revoked one", &[&bearer(&revoked)], invalid),
        nobody("of a disabled tenant", &[&bearer(&disabled)], invalid),
        nobody("an expired one", &[&bearer(&expired)], "CREDENTIAL_EXPIRED"),
    ]
}

/// The id of one key with the secret of another, as a key that is right by its form.
fn with_secret_of(key: &str, other: &str) -> String {
    let id = key.get(..19).unwrap_or("lh_0123456789abcdef");
    let bare = format!("{id}{}", &other[19..other.len() - 8]);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bare.as_bytes());
    let sum = sum.as_ref()[..4].iter().map(|byte| format!("{byte:02x}"));
    format!("{bare}{}", sum.collect::<String>())
}

/// A key whose time is over.
async fn expired(served: &Served) -> String {
    let made = make_key_until(served, OWN, &ROLES, in_seconds(1)).await;
    // Whatever a machine's clock does, it is over at last.
    loop {
        match caller(served, &made.secret).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) if reason(&status) == "CREDENTIAL_EXPIRED" => return made.secret,
            Err(status) => panic!("{status:?}"),
        }
        if served.first_key.is_empty() {
            // Nobody is asked for one.
            return made.secret;
        }
    }
}

pub fn in_seconds(seconds: i64) -> Option<prost_types::Timestamp> {
    let now = SteadyClock::start(Timestamp::default()).now().as_micros();
    Some(prost_types::Timestamp {
        seconds: now / 1_000_000 + seconds,
        nanos: i32::try_from(now % 1_000_000).unwrap() * 1_000,
    })
}

pub async fn caller(served: &Served, key: &str) -> Result<GetCallerResponse, Status> {
    served
        .call(key, "AdminService/GetCaller", &GetCallerRequest {})
        .await
}

pub async fn make_tenant(served: &Served, name: &str) -> Tenant {
    let request = CreateTenantRequest {
        tenant: Some(Tenant {
            name: name.to_owned(),
            ..Tenant::default()
        }),
    };
    let made = served.call::<CreateTenantResponse>(
        &served.first_key,
        "AdminService/CreateTenant",
        &request,
    );
    made.await.unwrap().tenant.unwrap()
}

pub async fn set_disabled(served: &Served, name: &str, disabled: bool) {
    let request = UpdateTenantRequest {
        name: name.to_owned(),
        disabled: Some(disabled),
        ..UpdateTenantRequest::default()
    };
    let path = "AdminService/UpdateTenant";
    let changed = served.call::<UpdateTenantResponse>(&served.first_key, path, &request);
    assert_eq!(changed.await.unwrap().tenant.unwrap().disabled, disabled);
}

pub async fn make_key(
    served: &Served,
    tenant: &str,
    roles: &[Role],
    all_tenants: bool,
) -> CreateKeyResponse {
    let request = CreateKeyRequest {
        all_tenants,
        ..wanted(tenant, roles)
    };
    created(served, &request).await
}

pub async fn make_key_until(
    served: &Served,
    tenant: &str,
    roles: &[Role],
    expire_time: Option<prost_types::Timestamp>,
) -> CreateKeyResponse {
    let request = CreateKeyRequest {
        expire_time,
        ..wanted(tenant, roles)
    };
    created(served, &request).await
}

pub fn wanted(tenant: &str, roles: &[Role]) -> CreateKeyRequest {
    CreateKeyRequest {
        tenant: tenant.to_owned(),
        roles: roles.iter().map(|role| *role as i32).collect(),
        ..CreateKeyRequest::default()
    }
}

async fn created(served: &Served, request: &CreateKeyRequest) -> CreateKeyResponse {
    let made = served.call(&served.first_key, "AdminService/CreateKey", request);
    made.await.unwrap()
}

pub async fn key(served: &Served, tenant: &str, roles: &[Role], all_tenants: bool) -> String {
    make_key(served, tenant, roles, all_tenants).await.secret
}

pub async fn revoke(served: &Served, id: &str) -> Key {
    let request = RevokeKeyRequest {
        key_id: id.to_owned(),
    };
    let path = "AdminService/RevokeKey";
    let revoked = served.call::<RevokeKeyResponse>(&served.first_key, path, &request);
    revoked.await.unwrap().key.unwrap()
}

pub fn spec(driver: &str) -> JobSpec {
    JobSpec {
        summary: CANARY.to_owned(),
        tasks: vec![JobTaskSpec {
            driver: driver.to_owned(),
            ..JobTaskSpec::default()
        }],
        ..JobSpec::default()
    }
}

pub async fn submit(served: &Served, key: &str, driver: &str, parent: &str) -> Job {
    let mut job = spec(driver);
    parent.clone_into(&mut job.parent_job_id);
    let request = SubmitRequest {
        job: Some(job),
        ..SubmitRequest::default()
    };
    let stored = served.call::<SubmitResponse>(key, "JobService/Submit", &request);
    stored.await.unwrap().job.unwrap()
}

pub async fn cancel(served: &Served, key: &str, id: &str) -> Result<Job, Status> {
    let request = CancelRequest {
        job_id: id.to_owned(),
        ..CancelRequest::default()
    };
    let cancelled = served.call::<CancelResponse>(key, "JobService/Cancel", &request);
    Ok(cancelled.await?.job.unwrap())
}

/// The task of this driver, which is there.
pub async fn acquire(served: &Served, key: &str, driver: &str) -> Lease {
    let request = AcquireRequest {
        worker: "worker-1".to_owned(),
        drivers: vec![driver.to_owned()],
        wait: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..AcquireRequest::default()
    };
    let leased = served.call::<AcquireResponse>(key, "WorkerService/Acquire", &request);
    leased.await.unwrap().leases.remove(0)
}

pub async fn get(served: &Served, key: &str, id: &str) -> Result<Job, Status> {
    let request = GetRequest {
        job_id: id.to_owned(),
        ..GetRequest::default()
    };
    let found = served.call::<GetResponse>(key, "JobService/Get", &request);
    Ok(found.await?.job.unwrap())
}
