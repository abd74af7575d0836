//! Who calls: finds the holder of what a request brings, an API key, an issuer's token, or the certificate of its connection, and ends what was begun with a credential that is no
//! longer good.
//!
//! A credential that was seen is remembered, and read again every [`REFRESH`], whoever uses it: so a call costs a digest and no wait, and whoever is revoked on one
//! node is so on every node within seconds. What lasts is told by [`Holder::end`].

mod denials;
mod holder;
mod issuer;
mod jwt;
mod key;
mod peer;
mod presented;
mod roll;

use std::{sync::Arc, time::Duration};

pub use denials::Denials;
pub use holder::{Holder, nobody};
pub use issuer::{KeySource, KeysError};
pub use jwt::{JwtSettings, SignedWith};
pub use key::{NewKey, PREFIX};
pub use peer::Peer;
pub use presented::Presented;
pub use roll::{Authenticator, Keeper, certificate_id};

use crate::{domain::registry::Quotas, quota::Exceeded};

/// How far the clocks of those who make tokens may differ from ours.
const LEEWAY: Duration = Duration::from_secs(30);

/// How often credentials that are in use are read again.
pub const REFRESH: Duration = Duration::from_secs(2);

/// The name of those who call where nobody has to say who they are.
pub const ANONYMOUS: &str = "anonymous";

/// Why nobody is known to call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no credential.
    #[error("a credential is required")]
    Required,
    /// It is none by its form.
    #[error("this is not a credential: a key begins with {PREFIX} and was copied as a whole")]
    Malformed,
    /// Nobody holds it. Whether it ever was good is not said.
    #[error("this credential is not good, or no longer")]
    Invalid,
    /// It was good once.
    #[error("this credential has expired")]
    Expired,
    /// It can not be found out now.
    #[error("the credential could not be looked up: {0}")]
    Unavailable(String),
    /// The system has none.
    #[error("the system gave no random bytes")]
    NoRandomness,
}

/// What the operator sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// Whether every call needs a credential.
    pub is_required: bool,
    /// Whose tokens are credentials, if anybody's are.
    pub tokens: Option<(JwtSettings, KeySource)>,
    /// How much a tenant may use that has no quotas of its own.
    pub quotas: Quotas,
}

/// Who sent a request, and from where; goes along with it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who, if anybody is known to.
    pub holder: Result<Arc<Holder>, AuthError>,
    /// Whether the connection is one of the tenant's, or why not.
    pub is_connected: Result<(), Exceeded>,
    /// Who is at the other end of the connection.
    pub peer: Option<Arc<Peer>>,
    /// Where it is told that somebody tried what they may not do.
    pub denials: Denials,
}
