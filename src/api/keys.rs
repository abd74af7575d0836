//! Credentials: API keys and names in certificates, and who calls with them.

use std::sync::Arc;

use super::{
    Api, Caller, Fault,
    fields::{Fields, Place, driver_name, entries},
    render,
};
use crate::{
    auth::{NewKey, PREFIX, certificate_id},
    domain::{
        Tenant, Timestamp,
        access::{Permission, Principal, Role, Roles},
        command::Refusal,
        limits::{MAX_DRIVERS, MAX_NAME_BYTES},
        registry::{Administration, DEFAULT_TENANT, Entry, KeyEntry, Proof, Record, RecordKind},
        submission::{check_line, is_driver},
        wording::{Sentence, sentence},
    },
    proto::v1,
    store::RecordQuery,
};

/// Bytes of an id; names in certificates are the longest.
const MAX_ID_BYTES: usize = 512;

impl Api {
    /// `GetCaller`.
    pub(crate) async fn get_caller(
        &self,
        caller: &Caller,
        _request: v1::GetCallerRequest,
    ) -> Result<v1::GetCallerResponse, Fault> {
        let Principal {
            name,
            tenant,
            roles,
            drivers,
            everywhere,
        } = caller.holder.principal.as_ref();
        Ok(v1::GetCallerResponse {
            name: name.to_string(),
            tenant: tenant.to_string(),
            roles: shown_roles(*roles),
            drivers: shown_drivers(drivers.as_deref()),
            all_tenants: *everywhere,
        })
    }

    /// `CreateKey`.
    pub(crate) async fn create_key(
        &self,
        caller: &Caller,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse, Fault> {
        let now = self.engine.now();
        let mut key = read(caller, request, now)?;
        let target = match &key.proof {
            Proof::Certificate(_) => &key.id,
            Proof::Secret(_) => &key.tenant.0,
        };
        may_give(&caller.holder.principal, &key)
            .map_err(|fault| self.denied(caller, "CreateKey", target, fault))?;
        let mut secret = String::new();
        if let Proof::Secret(digest) = &mut key.proof {
            let new = NewKey::make()?;
            *digest = new.digest;
            key.id = new.id.into();
            secret = new.text;
        }
        let act = Administration::CreateKey(key.into());
        let key = self.administer(caller, act).await?;
        Ok(v1::CreateKeyResponse {
            key: key.and_then(shown),
            secret,
        })
    }

    /// `ListKeys`.
    pub(crate) async fn list_keys(
        &self,
        caller: &Caller,
        request: v1::ListKeysRequest,
    ) -> Result<v1::ListKeysResponse, Fault> {
        let v1::ListKeysRequest {
            tenant,
            page_size,
            page_token,
        } = request;
        let mut fields = Fields::default();
        let tenant = fields.reached(&tenant, caller.holder.principal.reach(Role::Admin))?;
        fields.check()?;
        let place = Place {
            engine: &self.engine,
            purpose: b"keys",
            tenant: tenant.as_ref(),
        };
        let (limit, after) = place.read(page_size, &page_token)?;
        let query = RecordQuery {
            kind: RecordKind::Key,
            tenant: tenant.clone(),
            after,
            limit: limit + 1,
        };
        let mut records = self.engine.records(query).await?;
        let next_page_token = place.next(&mut records, limit, |record| record.key().id.to_string());
        Ok(v1::ListKeysResponse {
            keys: records.into_iter().filter_map(shown).collect(),
            next_page_token,
        })
    }

    /// `RevokeKey`.
    pub(crate) async fn revoke_key(
        &self,
        caller: &Caller,
        request: v1::RevokeKeyRequest,
    ) -> Result<v1::RevokeKeyResponse, Fault> {
        let id = request.key_id;
        // A whole key is none either: its secret would stand in the audit log.
        let is_key = id.starts_with(PREFIX);
        if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) || is_key {
            let description = Sentence::plain(
                "a-key-id",
                "must be the id of a key, which stands between lh_ and the next _",
            );
            return Err(Fault::bad_field("key_id", description));
        }
        let act = Administration::RevokeKey {
            id: id.as_str().into(),
            within: caller.holder.principal.reach(Role::Admin),
        };
        let key = self.administer(caller, act).await?;
        self.authenticator.look_again(&id).await;
        Ok(v1::RevokeKeyResponse {
            key: key.and_then(shown),
        })
    }

    /// A key for whoever set the server up, if it has none at all; answers with all of it.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn first_key(&self) -> Result<Option<String>, Fault> {
        let query = RecordQuery {
            kind: RecordKind::Key,
            tenant: None,
            after: None,
            limit: 1,
        };
        if !self.engine.records(query).await?.is_empty() {
            return Ok(None);
        }
        let tenant = Tenant::new(DEFAULT_TENANT);
        let new = NewKey::make()?;
        let key = KeyEntry {
            id: new.id.into(),
            tenant: tenant.clone(),
            name: "first key".to_owned(),
            proof: Proof::Secret(new.digest),
            roles: Roles::all(),
            drivers: None,
            everywhere: true,
            creator: "server".to_owned(),
            create_time: self.engine.now(),
            expire_time: None,
            revoke_time: None,
            last_used_time: None,
        };
        let actor = crate::domain::access::Actor {
            name: "server".into(),
            tenant,
            address: String::new(),
            request_id: String::new(),
        };
        let act = Administration::CreateKey(key.into());
        self.engine.administer(act, Some(actor)).await?;
        Ok(Some(new.text))
    }
}

/// Reads what a credential is to be; its secret is yet to be made.
fn read(caller: &Caller, request: v1::CreateKeyRequest, now: Timestamp) -> Result<KeyEntry, Fault> {
    let v1::CreateKeyRequest {
        tenant,
        name,
        roles,
        drivers,
        all_tenants,
        expire_time,
        certificate,
    } = request;
    let mut fields = Fields::default();
    let tenant = match tenant.as_str() {
        "" => caller.tenant.clone(),
        tenant => {
            fields.tenant("tenant", tenant);
            Tenant::new(tenant)
        }
    };
    check_line(&name, "name", MAX_NAME_BYTES, &mut fields.violations);
    let roles = read_roles(&mut fields, &roles);
    if all_tenants && !roles.iter().any(Role::may_reach_all) {
        let description = Sentence::plain(
            "reaches-nothing",
            "is for the roles work, admin and audit, of which there is none",
        );
        fields.bad("all_tenants", description);
    }
    if drivers.len() > MAX_DRIVERS {
        fields.bad("drivers", entries(MAX_DRIVERS));
    }
    for (i, driver) in drivers.iter().enumerate().take(MAX_DRIVERS) {
        if !is_driver(driver) {
            fields.bad(&format!("drivers[{i}]"), driver_name());
        }
    }
    let expire_time = expire_time.and_then(|time| fields.time("expire_time", time));
    if expire_time.is_some_and(|end| end <= now) {
        let description = Sentence::plain("in-the-future", "must be in the future");
        fields.bad("expire_time", description);
    }
    let is_name = certificate.starts_with("dns:") || certificate.contains("://");
    let is_fit = is_name && certificate.bytes().all(|byte| byte.is_ascii_graphic());
    if !certificate.is_empty() && (!is_fit || certificate.len() > MAX_NAME_BYTES) {
        let description = sentence!(
            "certificate-name",
            "must be a URI such as {example}, or dns:NAME, of at most {most} bytes",
            example = "spiffe://example.org/worker",
            most = MAX_NAME_BYTES
        );
        fields.bad("certificate", description);
    }
    fields.check()?;
    let drivers: Arc<[Arc<str>]> = drivers.into_iter().map(Arc::from).collect();
    Ok(KeyEntry {
        id: match certificate.as_str() {
            "" => "".into(),
            name => certificate_id(name).into(),
        },
        tenant,
        name,
        proof: match certificate.as_str() {
            "" => Proof::Secret([0; 32]),
            _ => Proof::Certificate(certificate),
        },
        roles,
        drivers: Some(drivers).filter(|drivers| !drivers.is_empty()),
        everywhere: all_tenants,
        creator: caller.holder.principal.name.to_string(),
        create_time: now,
        expire_time,
        revoke_time: None,
        last_used_time: None,
    })
}

fn read_roles(fields: &mut Fields, given: &[i32]) -> Roles {
    let mut roles = Vec::with_capacity(given.len().min(Role::ALL.len()));
    for (i, role) in given.iter().enumerate().take(Role::ALL.len()) {
        let at = usize::try_from(*role).ok().and_then(|n| n.checked_sub(1));
        match at.and_then(|at| Role::ALL.get(at)) {
            Some(role) => roles.push(*role),
            None => fields.bad(&format!("roles[{i}]"), super::fields::not_a("Role")),
        }
    }
    if given.is_empty() || given.len() > Role::ALL.len() {
        fields.bad("roles", entries(Role::ALL.len()));
    }
    roles.into_iter().collect()
}

/// Nobody gives what they have not.
fn may_give(giver: &Principal, key: &KeyEntry) -> Result<(), Fault> {
    if giver
        .reach(Role::Admin)
        .is_some_and(|own| own != key.tenant)
    {
        return Err(Refusal::TenantNotFound(key.tenant.clone()).into());
    }
    // A name in a certificate is nobody's until it is given to a tenant: whose, is not for one of them to say.
    let is_for_operators = key.everywhere || matches!(key.proof, Proof::Certificate(_));
    if is_for_operators && !giver.everywhere {
        return Err(Fault::role_required(giver, Permission::Operate));
    }
    // Whoever administers all tenants may let a tenant's people do whatever can be done there.
    let lacks = |role: &Role| !giver.everywhere && !giver.roles.has(*role);
    if let Some(role) = key.roles.iter().find(lacks) {
        let permission = Permission::ALL.into_iter().find(|p| p.role() == Some(role));
        let permission = permission.unwrap_or(Permission::Operate);
        return Err(Fault::role_required(giver, permission));
    }
    let is_within = match (&giver.drivers, &key.drivers) {
        _ if giver.everywhere => true,
        (None, _) => true,
        (Some(own), Some(given)) => given.iter().all(|driver| own.contains(driver)),
        (Some(_), None) => false,
    };
    match is_within || !key.roles.has(Role::Work) {
        true => Ok(()),
        false => Err(Fault::role_required(giver, Permission::Work)),
    }
}

fn shown_roles(roles: Roles) -> Vec<i32> {
    roles.iter().map(|role| role as i32 + 1).collect()
}

fn shown_drivers(drivers: Option<&[Arc<str>]>) -> Vec<String> {
    let drivers = drivers.unwrap_or_default().iter();
    drivers.map(ToString::to_string).collect()
}

fn shown(record: Record) -> Option<v1::Key> {
    let Entry::Key(KeyEntry {
        id,
        tenant,
        name,
        proof,
        roles,
        drivers,
        everywhere,
        creator,
        create_time,
        expire_time,
        revoke_time,
        last_used_time,
    }) = record.entry
    else {
        return None;
    };
    Some(v1::Key {
        key_id: id.to_string(),
        tenant: tenant.to_string(),
        name,
        roles: shown_roles(roles),
        drivers: shown_drivers(drivers.as_deref()),
        all_tenants: everywhere,
        certificate: match proof {
            Proof::Secret(_) => String::new(),
            Proof::Certificate(name) => name,
        },
        create_time: Some(render::time(create_time)),
        creator,
        expire_time: expire_time.map(render::time),
        revoke_time: revoke_time.map(render::time),
        last_used_time: last_used_time.map(render::time),
    })
}
