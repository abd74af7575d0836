//! Somebody who was found out to hold a credential.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicI64, Ordering},
};

use tokio_util::sync::CancellationToken;

use super::{ANONYMOUS, AuthError, LEEWAY, jwt::Told, key::SentKey};
use crate::{
    domain::{
        Tenant, Timestamp,
        access::{Principal, Roles},
        reach::Reach,
        registry::{DEFAULT_TENANT, KeyEntry, Proof},
    },
    quota::{Allowance, Allowances},
};

/// See the module.
#[derive(Debug)]
pub struct Holder {
    /// Who.
    pub principal: Arc<Principal>,
    /// Whose tasks it may work on.
    pub reach: Arc<Reach>,
    /// How much its tenant may use.
    pub allowance: Arc<Allowance>,
    pub(super) credential: Credential,
    /// Cancelled when the credential is no longer good.
    pub(super) ended: CancellationToken,
    /// When it was last used, and up to when that was noted: microseconds since 1970.
    pub(super) used: AtomicI64,
    pub(super) noted: AtomicI64,
}

/// What shows who it is.
#[derive(Debug)]
pub(super) enum Credential {
    /// Nothing; nobody asks.
    None,
    /// An API key, or a name in a certificate.
    Key(KeyEntry),
    /// A token of an issuer.
    Token {
        /// Names the token without showing it.
        id: Arc<str>,
        /// When it ends.
        end: Timestamp,
        /// The name of the key that it was signed with.
        key: Option<String>,
    },
}

/// Whoever calls without a credential where nothing is asked for.
pub fn nobody() -> Arc<Holder> {
    static NOBODY: LazyLock<Arc<Holder>> = LazyLock::new(|| Arc::new(Holder::nobody()));
    Arc::clone(&NOBODY)
}

impl Holder {
    /// Whoever calls where nobody has to say who it is: one tenant's, and the operator's.
    pub fn everybody(allowances: &Allowances) -> Self {
        let principal = Principal {
            name: ANONYMOUS.into(),
            tenant: Tenant::new(DEFAULT_TENANT),
            roles: Roles::all(),
            drivers: None,
            everywhere: true,
        };
        Self::new(principal, Credential::None, allowances)
    }

    fn nobody() -> Self {
        let principal = Principal {
            name: "nobody".into(),
            tenant: Tenant::new(""),
            roles: Roles::default(),
            drivers: Some([].into()),
            everywhere: false,
        };
        Self::new(principal, Credential::None, &Allowances::default())
    }

    pub(super) fn of_key(entry: KeyEntry, allowances: &Allowances) -> Self {
        let principal = Principal {
            name: format!("key:{}", entry.id).into(),
            tenant: entry.tenant.clone(),
            roles: entry.roles,
            drivers: entry.drivers.clone(),
            everywhere: entry.everywhere,
        };
        Self::new(principal, Credential::Key(entry), allowances)
    }

    pub(super) fn of_token(id: Arc<str>, told: Told, allowances: &Allowances) -> Self {
        let Told {
            principal,
            end,
            key,
        } = told;
        Self::new(principal, Credential::Token { id, end, key }, allowances)
    }

    fn new(principal: Principal, credential: Credential, allowances: &Allowances) -> Self {
        Self {
            allowance: allowances.of(&principal.tenant),
            reach: Arc::new(principal.work()),
            principal: principal.into(),
            credential,
            ended: CancellationToken::new(),
            used: AtomicI64::default(),
            noted: AtomicI64::default(),
        }
    }

    /// What tells that the credential is no longer good; `None` if it always is.
    pub fn end(&self) -> Option<&CancellationToken> {
        match self.credential {
            Credential::None => None,
            Credential::Key(_) | Credential::Token { .. } => Some(&self.ended),
        }
    }

    /// By what it is remembered.
    pub(super) fn id(&self) -> Option<&Arc<str>> {
        match &self.credential {
            Credential::None => None,
            Credential::Key(entry) => Some(&entry.id),
            Credential::Token { id, .. } => Some(id),
        }
    }

    /// When it last called.
    pub(super) fn last_use(&self) -> Timestamp {
        Timestamp::from_micros(self.used.load(Ordering::Relaxed))
    }

    /// Whether it was used since that was noted, and can be.
    pub(super) fn is_unnoted(&self) -> bool {
        let is_kept = matches!(self.credential, Credential::Key(_));
        is_kept && self.used.load(Ordering::Relaxed) > self.noted.load(Ordering::Relaxed)
    }

    /// Whether the credential is good, and was sent by its holder.
    pub(super) fn admit(
        self: Arc<Self>,
        sent: Option<&SentKey<'_>>,
        now: Timestamp,
    ) -> Result<Arc<Self>, AuthError> {
        let has_expired = match (&self.credential, sent) {
            (Credential::None, _) => return Ok(self),
            (Credential::Token { end, .. }, None) => *end <= now.before(LEEWAY),
            (Credential::Token { .. }, Some(_)) => return Err(AuthError::Invalid),
            (Credential::Key(entry), sent) => {
                let is_proven = match (&entry.proof, sent) {
                    (Proof::Secret(digest), Some(sent)) => sent.fits(digest),
                    (Proof::Certificate(_), None) => true,
                    (Proof::Secret(_), None) | (Proof::Certificate(_), Some(_)) => false,
                };
                if !is_proven || entry.revoke_time.is_some() {
                    return Err(AuthError::Invalid);
                }
                entry.has_expired(now)
            }
        };
        if has_expired {
            return Err(AuthError::Expired);
        }
        if self.ended.is_cancelled() {
            return Err(AuthError::Invalid);
        }
        self.used.store(now.as_micros(), Ordering::Relaxed);
        Ok(self)
    }
}
