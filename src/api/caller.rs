//! Who is calling.

use std::sync::Arc;

use http::Extensions;
use uuid::Uuid;

use super::Fault;
use crate::{
    auth::{ANONYMOUS, AuthError, Holder, Identity, Peer, nobody},
    domain::{
        Tenant,
        access::{Actor, Permission, Principal},
        limits::MAX_TRACEPARENT_BYTES,
    },
    locale::Language,
};

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions of the trace context may only add to that.
const LEAST_TRACEPARENT_BYTES: usize = 55;
/// Bytes of the name that a caller may give its call.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// For whom a method is carried out.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who it is, what it may do, and how much its tenant may use.
    pub(crate) holder: Arc<Holder>,
    /// The tenant that the call acts for.
    pub(crate) tenant: Tenant,
    /// Who is at the other end of the connection.
    pub(crate) peer: Option<Arc<Peer>>,
    /// What the caller calls the call; empty if it does not.
    request_id: String,
    /// The call's W3C trace context, which workers get with the lease; empty if there is none.
    pub(crate) traceparent: String,
    /// What the reader of messages reads.
    pub(crate) language: Language,
}

impl Caller {
    /// Whoever was found out to send a request, if it may do what this takes. `text` finds a header. The log is told of those who may not: what they tried, and
    /// on what.
    pub(crate) fn admitted<'a>(
        extensions: &Extensions,
        text: impl Fn(&'static str) -> Option<&'a str>,
        permission: Permission,
        (action, target): (&str, &str),
    ) -> Result<Self, Fault> {
        let identity = extensions.get::<Identity>();
        let holder = match permission {
            Permission::Open => nobody(),
            _ => {
                let identity = identity.ok_or(AuthError::Required)?;
                let tried = Tried {
                    action,
                    target,
                    request_id: text("x-request-id"),
                };
                Arc::clone(admit(identity, permission, tried)?)
            }
        };
        Ok(Self {
            tenant: holder.principal.tenant.clone(),
            holder,
            peer: identity.and_then(|identity| identity.peer.clone()),
            request_id: request_id(text("x-request-id")),
            traceparent: traceparent(text("traceparent")),
            language: Language::accepted(text("accept-language")),
        })
    }

    /// Anybody, for tests that have no request.
    #[cfg(test)]
    pub(crate) fn anybody() -> Self {
        Self::holding(Holder::everybody(&crate::quota::Allowances::default()))
    }

    /// Somebody, for tests that have no request.
    #[cfg(test)]
    pub(crate) fn holding(holder: Holder) -> Self {
        Self {
            tenant: holder.principal.tenant.clone(),
            holder: holder.into(),
            peer: None,
            request_id: String::new(),
            traceparent: String::new(),
            language: Language::English,
        }
    }

    /// Whether it has shown who it is.
    pub(crate) fn is_known(&self) -> bool {
        *self.holder.principal.name != *ANONYMOUS
    }

    /// Whether it may take tasks of these drivers.
    pub(crate) fn may_serve(&self, drivers: &[String]) -> Result<(), Fault> {
        let not_given = drivers.iter().find(|d| !self.holder.reach.serves(d));
        match not_given {
            None => Ok(()),
            Some(driver) => Err(Fault::driver_not_given(&self.holder.principal, driver)),
        }
    }

    /// What the audit log says of it.
    pub(crate) fn actor(&self) -> Actor {
        actor(
            &self.holder.principal,
            self.peer.as_deref(),
            &self.request_id,
        )
    }
}

/// What somebody would like to do, for the log if they may not.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tried<'a> {
    pub(crate) action: &'a str,
    pub(crate) target: &'a str,
    /// What the caller calls its call.
    pub(crate) request_id: Option<&'a str>,
}

/// Whoever sent a request, if it may do what this takes.
pub(crate) fn admit<'a>(
    identity: &'a Identity,
    permission: Permission,
    tried: Tried<'_>,
) -> Result<&'a Arc<Holder>, Fault> {
    let holder = identity.holder.as_ref();
    let holder = holder.map_err(|error| Fault::from(error.clone()))?;
    identity.is_connected?;
    let principal = &holder.principal;
    if principal.may(permission) {
        return Ok(holder);
    }
    let request_id = request_id(tried.request_id);
    let actor = actor(principal, identity.peer.as_deref(), &request_id);
    identity.denials.note(actor, tried.action, tried.target);
    Err(Fault::role_required(principal, permission))
}

fn actor(principal: &Principal, peer: Option<&Peer>, request_id: &str) -> Actor {
    Actor {
        name: Arc::clone(&principal.name),
        tenant: principal.tenant.clone(),
        address: peer.map_or_else(String::new, |peer| peer.address.ip().to_string()),
        request_id: match request_id {
            "" => Uuid::now_v7().to_string(),
            named => named.to_owned(),
        },
    }
}

/// What a caller calls its call, if that is fit to be shown.
fn request_id(value: Option<&str>) -> String {
    let fit = value.filter(|value| value.len() <= MAX_REQUEST_ID_BYTES);
    let fit = fit.filter(|value| value.bytes().all(|byte| byte.is_ascii_graphic()));
    fit.unwrap_or_default().to_owned()
}

/// A trace context as a call brings it. One that can not be right is ignored, as its standard asks: no job fails for it.
fn traceparent(value: Option<&str>) -> String {
    value
        .filter(|value| (LEAST_TRACEPARENT_BYTES..=MAX_TRACEPARENT_BYTES).contains(&value.len()))
        .filter(|value| !value.chars().any(char::is_control))
        .unwrap_or_default()
        .to_owned()
}
