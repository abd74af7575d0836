//! Credentials: what belongs together is there together.

use longhaul::auth::{JwtSettings, KeySource, SignedWith};

use crate::cli::exit::Failure;

/// What the settings say about tokens.
#[derive(Debug)]
pub struct ChosenTokens {
    /// None if it is empty, and so the keys.
    pub issuer: String,
    pub audience: String,
    pub keys: String,
    pub algorithms: Vec<String>,
    pub tenant_claim: String,
    pub roles_claim: String,
    pub required_claims: Vec<String>,
    /// Whether anybody asks for credentials.
    pub is_required: bool,
}

/// Makes of what was chosen whose tokens are good, if anybody's are.
pub fn tokens(chosen: ChosenTokens) -> Result<Option<(JwtSettings, KeySource)>, Failure> {
    let ChosenTokens {
        issuer,
        audience,
        keys,
        algorithms,
        tenant_claim,
        roles_claim,
        required_claims,
        is_required,
    } = chosen;
    match (issuer.is_empty(), keys.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {}
        (false, true) => {
            return Err(Failure::usage(
                "jwt_issuer needs jwt_keys: a file or an https:// address with the public keys of the issuer",
            ));
        }
        (true, false) => {
            return Err(Failure::usage(
                "jwt_keys needs jwt_issuer: what stands in the iss of the tokens",
            ));
        }
    }
    if !is_required {
        return Err(Failure::usage(
            "jwt_issuer counts only where credentials are asked for: add --auth",
        ));
    }
    let algorithms = algorithms.iter().map(|name| name.parse::<SignedWith>());
    let algorithms = algorithms.collect::<Result<Vec<_>, _>>();
    let algorithms =
        algorithms.map_err(|reason| Failure::usage(format!("jwt_algorithms: {reason}")))?;
    if algorithms.is_empty() {
        return Err(Failure::usage("jwt_algorithms names none"));
    }
    let settings = JwtSettings {
        issuer,
        audience,
        algorithms,
        tenant_claim,
        roles_claim,
        required_claims,
    };
    let bad = |reason: &str| Failure::usage(format!("jwt_keys: {reason}"));
    let source = match keys.split_once("://") {
        None => KeySource::File(keys.into()),
        Some(("http" | "https", _)) => {
            let url: http::Uri = keys.parse().map_err(|_| bad("this is not an address"))?;
            let is_local = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
            if url.scheme_str() == Some("http") && !is_local {
                return Err(bad(
                    "over http:// anybody on the way could send other keys: use https://",
                ));
            }
            KeySource::Url(url)
        }
        Some(_) => return Err(bad("this is neither a file nor an https:// address")),
    };
    Ok(Some((settings, source)))
}
