//! Tokens that callers carry for us: page tokens, cursors and lease tokens.
//!
//! They are sealed, so that nobody can read, change or make one, and bound to what they are good for: a page token of one tenant and filter opens for
//! no other. The same value has the same token, so that a lease can be named by its token's bytes; AES-GCM-SIV (RFC 8452) allows that without harm, as
//! plain GCM would not.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::domain::command::Fingerprint;

/// Bytes of the longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 2_048;

/// Seals and opens tokens.
pub(super) struct Sealer {
    key: LessSafeKey,
}

/// The token was not made here, for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadToken;

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM_SIV, key)
                    .expect("a key of 32 bytes is one for AES-256"),
            ),
        }
    }

    /// Seals a value for a purpose.
    pub(super) fn seal<T: Serialize>(&self, purpose: &[u8], value: &T) -> Bytes {
        let mut sealed =
            postcard::to_stdvec(value).expect("our token types have a length and no maps");
        self.key
            .seal_in_place_append_tag(nonce(), Aad::from(purpose), &mut sealed)
            .expect("sealing fails only for texts of many gigabytes");
        sealed.into()
    }

    /// Opens what was sealed for the same purpose.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        purpose: &[u8],
        token: &[u8],
    ) -> Result<T, BadToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(BadToken);
        }
        let mut sealed = token.to_vec();
        let opened = self
            .key
            .open_in_place(nonce(), Aad::from(purpose), &mut sealed)
            .map_err(|_| BadToken)?;
        postcard::from_bytes(opened).map_err(|_| BadToken)
    }

    /// As [`Self::seal`], as text for URLs and JSON.
    pub(super) fn seal_text<T: Serialize>(&self, purpose: &[u8], value: &T) -> String {
        URL_SAFE_NO_PAD.encode(self.seal(purpose, value))
    }

    /// As [`Self::open`], from text.
    pub(super) fn open_text<T: DeserializeOwned>(
        &self,
        purpose: &[u8],
        token: &str,
    ) -> Result<T, BadToken> {
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadToken)?;
        self.open(purpose, &token)
    }
}

/// Always the same: see the module.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// A digest of some parts, none of which can be mistaken for the beginning of the next.
pub fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

/// A digest of a value.
pub fn fingerprint_of(value: &impl Serialize) -> Fingerprint {
    let encoded =
        postcard::to_stdvec(value).expect("a value of ours has lengths and can be encoded");
    fingerprint(&[&encoded])
}
