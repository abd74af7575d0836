//! Tokens that callers carry for us: page tokens, cursors and lease tokens.
//!
//! They are sealed, so that nobody can read, change or make one, and bound to what they are good for: a page token of one tenant and filter opens for
//! no other. The same value has the same token, so that a lease can be named by its token's bytes; AES-GCM-SIV (RFC 8452) allows that without harm, as
//! plain GCM would not. Keys rotate with those that secrets are sealed with: which one counts goes by a time, that of the lease or the present, and every node
//! knows a key before its time comes.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use dashmap::DashMap;
use serde::{Serialize, de::DeserializeOwned};

use super::Shared;
use crate::domain::{Timestamp, command::Fingerprint, secrecy::Secrecy};

/// Bytes of the longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 2_048;

/// The form of a token that says by which key it was sealed, its first byte. Those of the store's own key say nothing: all nodes know it.
const NUMBERED: u8 = 1;
/// Bytes of the form and the number.
const HEAD_BYTES: usize = 5;

/// Seals and opens tokens.
pub(super) struct Sealer {
    /// The store's own, until another one is made.
    own: LessSafeKey,
    secrecy: Arc<dyn Secrecy>,
    /// By number, as they were asked for.
    others: DashMap<u32, Arc<LessSafeKey>>,
}

/// The token was not made here, for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadToken;

impl Sealer {
    pub(super) fn new(own: &[u8; 32], secrecy: Arc<dyn Secrecy>) -> Self {
        Self {
            own: sealing_key(own),
            secrecy,
            others: DashMap::new(),
        }
    }

    /// Seals a value for a purpose, with the key of a time.
    pub(super) fn seal<T: Serialize>(&self, purpose: &[u8], value: &T, time: Timestamp) -> Bytes {
        let mut sealed =
            postcard::to_stdvec(value).expect("our token types have a length and no maps");
        let numbered = self.secrecy.token_key_at(time);
        let key = numbered.map(|(number, key)| (number, self.other(number, &key)));
        let by = key.as_ref().map_or(&self.own, |(_, key)| key);
        by.seal_in_place_append_tag(nonce(), Aad::from(purpose), &mut sealed)
            .expect("sealing fails only for texts of many gigabytes");
        match key {
            None => sealed.into(),
            Some((number, _)) => {
                let head = number.to_be_bytes();
                [&[NUMBERED], head.as_slice(), &sealed].concat().into()
            }
        }
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
        let numbered = token.split_first_chunk::<HEAD_BYTES>();
        let opened = numbered.and_then(|([form, number @ ..], sealed)| {
            let number = u32::from_be_bytes(*number);
            let key = (*form == NUMBERED).then(|| self.secrecy.token_key(number));
            open(&self.other(number, &key??), purpose, sealed)
        });
        // One of the store's own key may begin as one that says a number.
        let opened = opened.or_else(|| open(&self.own, purpose, token));
        postcard::from_bytes(&opened.ok_or(BadToken)?).map_err(|_| BadToken)
    }

    fn other(&self, number: u32, key: &[u8; 32]) -> Arc<LessSafeKey> {
        let known = self.others.entry(number);
        Arc::clone(&known.or_insert_with(|| Arc::new(sealing_key(key))))
    }

    /// As [`Self::seal`], as text for URLs and JSON.
    pub(super) fn seal_text<T: Serialize>(
        &self,
        purpose: &[u8],
        value: &T,
        time: Timestamp,
    ) -> String {
        URL_SAFE_NO_PAD.encode(self.seal(purpose, value, time))
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

fn sealing_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM_SIV, key).expect("a key of 32 bytes is one for AES-256"),
    )
}

fn open(key: &LessSafeKey, purpose: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut text = sealed.to_vec();
    let opened = key.open_in_place(nonce(), Aad::from(purpose), &mut text);
    let length = opened.ok()?.len();
    text.truncate(length);
    Some(text)
}

impl Shared {
    /// Seals a token of the present.
    pub(super) fn seal_text<T: Serialize>(&self, purpose: &[u8], value: &T) -> String {
        self.sealer.seal_text(purpose, value, self.clock.now())
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
