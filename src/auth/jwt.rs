//! JSON web tokens (RFC 7519): signed by an issuer whose public keys are known, for us, and not over.

use std::{collections::HashSet, str::FromStr, sync::Arc};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use serde_json::{Map, Value};

use super::{AuthError, LEEWAY};
use crate::domain::{
    Tenant, Timestamp,
    access::{Principal, Role, Roles},
    registry::is_tenant,
};

/// Bytes of a token that is looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Characters of a subject that are shown.
const MAX_SUBJECT_CHARS: usize = 128;
/// What may stand before the name of a role, where an issuer's roles are for several services.
const ROLE_PREFIX: &str = "longhaul:";

/// Whose tokens are good, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// Who signs: the `iss` of every token.
    pub issuer: String,
    /// For whom: one of the `aud` of every token.
    pub audience: String,
    /// How it may be signed. Only with a pair of keys: a secret that both sides know makes nobody known.
    pub algorithms: Vec<SignedWith>,
    /// The claim that has the tenant.
    pub tenant_claim: String,
    /// The claim that has the roles: a list, or words in a text.
    pub roles_claim: String,
    /// Claims that every token must have, besides.
    pub required_claims: Vec<String>,
}

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedWith(Algorithm);

/// What a good token says.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) principal: Principal,
    /// When it ends.
    pub(super) end: Timestamp,
    /// With which key it was signed, if that has a name.
    pub(super) key: Option<String>,
}

impl SignedWith {
    /// The ways that are good unless the operator says otherwise.
    pub fn usual() -> [&'static str; 3] {
        ["RS256", "ES256", "EdDSA"]
    }
}

impl FromStr for SignedWith {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let algorithm = Algorithm::from_str(name).ok();
        let signs = algorithm.filter(|algorithm| {
            use Algorithm::{HS256, HS384, HS512};
            !matches!(algorithm, HS256 | HS384 | HS512)
        });
        signs.map(Self).ok_or_else(|| {
            format!("{name} is not an algorithm with a pair of keys, such as RS256, ES256 or EdDSA")
        })
    }
}

/// Reads a token; its time is looked at by our clock.
pub(super) fn verify(
    token: &str,
    keys: &JwkSet,
    settings: &JwtSettings,
    now: Timestamp,
) -> Result<Told, AuthError> {
    let header = decode_header(token).map_err(|_| AuthError::Malformed)?;
    let allowed = SignedWith(header.alg);
    if !settings.algorithms.contains(&allowed) {
        return Err(AuthError::Invalid);
    }
    let key = find(keys, header.kid.as_deref(), header.alg).ok_or(AuthError::Invalid)?;
    let decoding = DecodingKey::from_jwk(key).map_err(|_| AuthError::Invalid)?;
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.required_spec_claims =
        HashSet::from_iter(["exp", "iss", "aud", "sub"].map(str::to_owned));
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    let claims = decode::<Map<String, Value>>(token, &decoding, &validation);
    let claims = claims.map_err(|_| AuthError::Invalid)?.claims;
    let told = read(&claims, settings, now)?;
    let key = key.common.key_id.clone();
    Ok(Told { key, ..told })
}

/// The key that a token says it was signed with; where it does not say, the only one that it can be.
fn find<'a>(keys: &'a JwkSet, name: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let mut fitting = keys.keys.iter().filter(|key| {
        let is_named = name.is_none_or(|name| key.common.key_id.as_deref() == Some(name));
        let said = key.common.key_algorithm.map(|said| said.to_string());
        let is_meant = said.is_none_or(|said| said == format!("{algorithm:?}"));
        let is_secret = matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
        is_named && is_meant && !is_secret
    });
    let found = fitting.next()?;
    match (name, fitting.next()) {
        (None, Some(_)) => None,
        _ => Some(found),
    }
}

fn read(
    claims: &Map<String, Value>,
    settings: &JwtSettings,
    now: Timestamp,
) -> Result<Told, AuthError> {
    let time = |name: &str| {
        let seconds = claims.get(name)?.as_f64()?;
        let micros = seconds * 1e6;
        // A float holds every time of the next thousands of years.
        (micros.is_finite()).then(|| Timestamp::from_micros(micros as i64))
    };
    let end = time("exp").ok_or(AuthError::Invalid)?;
    if end <= now.before(LEEWAY) {
        return Err(AuthError::Expired);
    }
    let is_early =
        claims.contains_key("nbf") && time("nbf").is_none_or(|begin| begin > now.after(LEEWAY));
    let mut required = settings.required_claims.iter();
    if is_early || !required.all(|name| claims.contains_key(name)) {
        return Err(AuthError::Invalid);
    }
    let text = |name: &str| claims.get(name)?.as_str();
    let subject = text("sub").ok_or(AuthError::Invalid)?;
    let subject = subject.chars().filter(|c| !c.is_control());
    let subject: String = subject.take(MAX_SUBJECT_CHARS).collect();
    let tenant = text(&settings.tenant_claim).filter(|name| is_tenant(name));
    let tenant = tenant.ok_or(AuthError::Invalid)?;
    let drivers = claims.get("drivers").map(words);
    let drivers = drivers.map(|words| words.into_iter().map(Arc::from).collect());
    let roles = claims.get(&settings.roles_claim).map(words);
    let roles = roles.unwrap_or_default().into_iter();
    let roles =
        roles.filter_map(|word| Role::named(word.strip_prefix(ROLE_PREFIX).unwrap_or(word)));
    Ok(Told {
        principal: Principal {
            name: format!("jwt:{subject}").into(),
            tenant: Tenant::new(tenant),
            roles: roles.collect::<Roles>(),
            drivers,
            everywhere: claims.get("all_tenants") == Some(&Value::Bool(true)),
        },
        end,
        key: None,
    })
}

/// A list of texts, or the words of one text.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
