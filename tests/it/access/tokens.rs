//! Tokens of an issuer as credentials.

use std::{
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::Full;
use hyper::{Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{assert_refused, by};
use crate::harness::Server;

const ISSUER: &str = "https://issuer.example";
/// In the year 2100.
const LATER: i64 = 4_102_444_800;
/// In the year 2001.
const LONG_AGO: i64 = 1_000_000_000;
/// How long new keys may take to be heard of: they are asked for every ten seconds at the most.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Who signs tokens.
struct Signer {
    pair: KeyPair,
    name: &'static str,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self { pair, name }
    }

    /// What others may know of it.
    fn public(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.der_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.name, "alg": "EdDSA"})
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.name.to_owned());
        let key = EncodingKey::from_ed_der(&self.pair.serialize_der());
        encode(&header, claims, &key).unwrap()
    }
}

fn keys(signers: &[&Signer]) -> Value {
    let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    json!({ "keys": keys })
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "longhaul", "sub": "ada", "exp": LATER, "tenant": "acme", "roles": ["submit", "read"]})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_token_is_a_credential() {
    let signer = Signer::new("one");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keys.json");
    fs::write(&file, keys(&[&signer]).to_string()).unwrap();
    let file = file.display().to_string();
    let flags = [
        "--jwt-issuer",
        ISSUER,
        "--jwt-audience",
        "jobs",
        "--jwt-keys",
        &file,
    ];
    let (server, first) = Server::start_guarded(&flags).await;
    let good = |name, value| {
        let mut claims = with(name, value);
        claims["aud"] = json!(["others", "jobs"]);
        signer.sign(&claims)
    };
    let ada = good("sub", json!("ada"));
    // The issuer does not say which tenants there are.
    assert_refused(
        &by(&ada, &server, &["whoami"]).await,
        1,
        &["CREDENTIAL_INVALID"],
    );
    by(&first, &server, &["tenant", "create", "acme"])
        .await
        .ok();
    let me = by(&ada, &server, &["whoami"]).await.ok();
    for words in ["jwt:ada", "acme", "submit,read"] {
        assert!(me.contains(words), "{me}");
    }
    let job = by(&ada, &server, &["submit", "--driver", "d"]).await.ok();
    by(&ada, &server, &["get", job.trim()]).await.ok();
    let cancel = by(&ada, &server, &["cancel", job.trim()]).await;
    assert_refused(&cancel, 1, &["ROLE_REQUIRED", "cancel, which jwt:ada"]);

    let stranger = Signer::new("one");
    for (token, words) in [
        (good("exp", json!(LONG_AGO)), &["CREDENTIAL_EXPIRED"][..]),
        (good("nbf", json!(LATER)), &["CREDENTIAL_INVALID"]),
        (
            good("iss", json!("https://other.example")),
            &["CREDENTIAL_INVALID"],
        ),
        (good("tenant", json!("nobody")), &["CREDENTIAL_INVALID"]),
        (good("roles", json!([])), &["ROLE_REQUIRED"]),
        (signer.sign(&claims()), &["CREDENTIAL_INVALID"]),
        (
            stranger.sign(&with("aud", json!("jobs"))),
            &["CREDENTIAL_INVALID"],
        ),
        ("no-token".to_owned(), &["CREDENTIAL_INVALID"]),
    ] {
        let list = by(&token, &server, &["list"]).await;
        assert_refused(&list, 1, words);
        assert!(!list.stderr.contains(&token), "{list:#?}");
    }
    let audit = by(&first, &server, &["audit", "list", "--all"]).await.ok();
    assert!(audit.contains("jwt:ada"), "{audit}");
    assert!(!audit.contains(&ada) && !server.log().contains(&ada));
    server.stop().await;
}

/// Publishes keys, as issuers do.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Value>>,
    serving: AbortHandle,
}

impl Issuer {
    async fn open(keys: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(keys));
        let published = Arc::clone(&keys);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let published = Arc::clone(&published);
                let service = service_fn(move |_| {
                    let text = published.lock().unwrap().to_string();
                    async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text))) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            url,
            keys,
            serving: serving.abort_handle(),
        }
    }

    fn publish(&self, keys: Value) {
        *self.keys.lock().unwrap() = keys;
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Until a token is good, or no longer.
async fn until_good(server: &Server, token: &str, is_good: bool) {
    let seen = async {
        while (by(token, server, &["whoami"]).await.code == Some(0)) != is_good {
            sleep(PAUSE).await;
        }
    };
    let seen = timeout(PATIENCE, seen).await;
    seen.unwrap_or_else(|_| panic!("good: {is_good}, was expected\n{}", server.log()));
}

#[tokio::test]
async fn an_issuer_may_change_its_keys() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let issuer = Issuer::open(keys(&[&old])).await;
    let flags = ["--jwt-issuer", ISSUER, "--jwt-keys", &issuer.url];
    let (server, first) = Server::start_guarded(&flags).await;
    by(&first, &server, &["tenant", "create", "acme"])
        .await
        .ok();
    let (ada, bob) = (old.sign(&claims()), new.sign(&with("sub", json!("bob"))));
    until_good(&server, &ada, true).await;
    let refused = by(&bob, &server, &["whoami"]).await;
    assert_refused(&refused, 1, &["CREDENTIAL_INVALID"]);

    // A key that is not known yet is looked for.
    issuer.publish(keys(&[&old, &new]));
    until_good(&server, &bob, true).await;
    by(&ada, &server, &["whoami"]).await.ok();

    // What was signed with a key ends with it, and what was begun so.
    let job = by(&ada, &server, &["submit", "--driver", "nobody"]).await;
    let job = job.ok().trim().to_owned();
    let watched = async {
        let watched = timeout(PATIENCE, by(&ada, &server, &["watch", &job])).await;
        watched.expect("it ends with its key")
    };
    let taken_back = async {
        issuer.publish(keys(&[&new]));
        // Keys are read again every five minutes, and when a token names one that is not there.
        let unknown = Signer::new("unknown").sign(&claims());
        let looks = async {
            while by(&ada, &server, &["whoami"]).await.code == Some(0) {
                by(&unknown, &server, &["whoami"]).await;
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, looks).await.expect("it is forgotten");
    };
    let (watched, ()) = tokio::join!(watched, taken_back);
    assert_eq!(watched.code, Some(1), "{watched:#?}");
    assert!(
        watched.stderr.contains("CREDENTIAL_INVALID"),
        "{watched:#?}"
    );
    by(&bob, &server, &["whoami"]).await.ok();
    server.stop().await;
}
