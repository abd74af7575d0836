//! Tokens that are good, and every way in which they are not.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const SOON: i64 = 1_800_000_060;

fn settings() -> JwtSettings {
    JwtSettings {
        issuer: "https://issuer.example".into(),
        audience: "longhaul".into(),
        algorithms: vec![SignedWith(Algorithm::EdDSA), SignedWith(Algorithm::ES256)],
        tenant_claim: "tenant".into(),
        roles_claim: "roles".into(),
        required_claims: vec!["email".into()],
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": ["other", "longhaul"], "sub": "ada", "exp": SOON,
        "tenant": "a", "roles": "submit longhaul:read nonsense", "email": "ada@example.org",
    })
}

struct Signer {
    pair: KeyPair,
    name: &'static str,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self { pair, name }
    }

    fn keys(&self) -> JwkSet {
        let x = URL_SAFE_NO_PAD.encode(self.pair.der_bytes());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.name, "alg": "EdDSA"});
        serde_json::from_value(json!({"keys": [key]})).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(Some(self.name), claims)
    }

    fn sign_as(&self, name: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = name.map(str::to_owned);
        let key = EncodingKey::from_ed_der(&self.pair.serialize_der());
        encode(&header, claims, &key).unwrap()
    }
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn a_good_token_says_who_calls_and_what_they_may() {
    let signer = Signer::new("one");
    let told = verify(&signer.sign(&claims()), &signer.keys(), &settings(), NOW).unwrap();
    let principal = told.principal;
    assert_eq!((&*principal.name, &*principal.tenant.0), ("jwt:ada", "a"));
    let roles: Vec<Role> = principal.roles.iter().collect();
    assert_eq!(roles, [Role::Submit, Role::Read]);
    assert!(!principal.everywhere && principal.drivers.is_none());
    assert_eq!(told.end, Timestamp::from_micros(SOON * 1_000_000));
    assert_eq!(told.key.as_deref(), Some("one"));
    let mut more = with("roles", json!(["work"]));
    more["drivers"] = json!(["d"]);
    more["all_tenants"] = json!(true);
    let told = verify(&signer.sign(&more), &signer.keys(), &settings(), NOW).unwrap();
    assert!(told.principal.everywhere);
    assert_eq!(told.principal.drivers, Some(["d".into()].into()));
    // What is not true is not taken for it.
    let told = with("all_tenants", json!("true"));
    let told = verify(&signer.sign(&told), &signer.keys(), &settings(), NOW).unwrap();
    assert!(!told.principal.everywhere);
}

#[test]
fn a_token_that_is_not_for_us_or_not_whole_is_not_good() {
    let signer = Signer::new("one");
    for claims in [
        with("iss", json!("https://other.example")),
        with("aud", json!("other")),
        with("tenant", json!("")),
        with("tenant", json!("A b")),
        with("tenant", json!(7)),
        with("sub", json!(7)),
        with("exp", json!("soon")),
        with("nbf", json!(SOON)),
        with("nbf", json!("soon")),
        without("iss"),
        without("aud"),
        without("sub"),
        without("exp"),
        without("tenant"),
        without("email"),
    ] {
        let token = signer.sign(&claims);
        let told = verify(&token, &signer.keys(), &settings(), NOW);
        assert_eq!(told.map(drop), Err(AuthError::Invalid), "{claims}");
    }
    // A clock may be a little behind.
    let almost = signer.sign(&with("nbf", json!(SOON - 31)));
    assert!(verify(&almost, &signer.keys(), &settings(), NOW).is_ok());
}

#[test]
fn a_token_ends() {
    let signer = Signer::new("one");
    for (end, is_good) in [
        (1_800_000_000 - 29, true),
        (1_800_000_000 - 30, false),
        (1, false),
    ] {
        let token = signer.sign(&with("exp", json!(end)));
        let told = verify(&token, &signer.keys(), &settings(), NOW).map(drop);
        let expected = if is_good {
            Ok(())
        } else {
            Err(AuthError::Expired)
        };
        assert_eq!(told, expected, "{end}");
    }
}

#[test]
fn what_others_signed_is_not_good() {
    let (signer, other) = (Signer::new("one"), Signer::new("two"));
    let mut both = signer.keys();
    both.keys.extend(other.keys().keys);
    let refused = |token: &str, keys: &JwkSet| {
        let told = verify(token, keys, &settings(), NOW).map(drop);
        assert!(told.is_err(), "{token}");
    };
    refused(&other.sign(&claims()), &signer.keys());
    refused(&other.sign_as(Some("one"), &claims()), &signer.keys());
    refused(&other.sign_as(None, &claims()), &signer.keys());
    // Without a name it could be any of several.
    refused(&signer.sign_as(None, &claims()), &both);
    let only = signer.sign_as(None, &claims());
    assert!(verify(&only, &signer.keys(), &settings(), NOW).is_ok());
    assert!(verify(&signer.sign(&claims()), &both, &settings(), NOW).is_ok());
    let mut cut = signer.sign(&claims());
    cut.truncate(cut.rfind('.').unwrap() + 1);
    refused(&cut, &signer.keys());
}

#[test]
fn no_algorithm_but_those_that_are_allowed_is_believed() {
    let signer = Signer::new("one");
    let keys = signer.keys();
    let public = signer.pair.der_bytes().to_vec();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("one".into());
    // The public key as if it were a secret, which is the oldest trick.
    let forged = encode(&header, &claims(), &EncodingKey::from_secret(&public)).unwrap();
    let told = verify(&forged, &keys, &settings(), NOW).map(drop);
    assert_eq!(told, Err(AuthError::Invalid));
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE"] {
        let head = json!({"alg": alg, "typ": "JWT", "kid": "one"});
        let unsigned = format!("{}.{}.", text(&head), text(&claims()));
        assert!(verify(&unsigned, &keys, &settings(), NOW).is_err(), "{alg}");
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("one".into());
    let other_kind = encode(&header, &claims(), &key).unwrap();
    assert!(verify(&other_kind, &keys, &settings(), NOW).is_err());
    let only_es = JwtSettings {
        algorithms: vec![SignedWith(Algorithm::ES256)],
        ..settings()
    };
    assert!(verify(&signer.sign(&claims()), &keys, &only_es, NOW).is_err());
    for name in ["HS256", "HS512", "none", ""] {
        assert!(name.parse::<SignedWith>().is_err(), "{name}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let signer = Signer::new("one");
    for text in ["", ".", "..", "a.b.c", "lh_x", "ü.ü.ü"] {
        let told = verify(text, &signer.keys(), &settings(), NOW).map(drop);
        assert_eq!(told, Err(AuthError::Malformed), "{text}");
    }
}
