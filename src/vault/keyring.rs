//! Data keys: what secrets are sealed with. They are wrapped by the master key, so that a change of that touches no secret.
//!
//! Number 0 is derived from the master key by HKDF: it is there on every node that has the same master key, before anybody has made another, and what it
//! sealed stays readable as long as that master key is among the current and former ones.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac, rand,
};
use bytes::Bytes;
use zeroize::{Zeroize, Zeroizing};

use super::master::{KEY_BYTES, Key, MasterKeys, derived};
use crate::domain::Timestamp;

/// The number of the data key that is derived.
pub(super) const DERIVED: u32 = 0;
/// The form of a wrapped key, its first byte.
const WRAPPED: u8 = 1;
/// What a master key is used for.
const TO_WRAP: &[u8] = b"wrap data keys";
const TO_SEAL: &[u8] = b"data key 0";
const TO_FINGERPRINT: &[u8] = b"fingerprints of requests";

/// A data key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Its number, from 1.
    pub id: u32,
    /// From when on it seals: all nodes have heard of it by then.
    pub active_from: Timestamp,
    /// The key, sealed by a master key.
    pub wrapped: Bytes,
}

/// The data keys that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataKeys {
    /// Those that seal, or sealed.
    pub keys: Vec<DataKey>,
    /// The one for fingerprints, which never changes; derived from the oldest master key if `None`.
    pub fingerprint: Option<DataKey>,
}

/// A data key that no master key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "data key {0} was wrapped by a master key that is not here; give that key as well, on a line of its own behind the current one"
)]
pub struct Unwrappable(pub u32);

impl DataKey {
    /// Makes a key; `None` if the system gives no random bytes.
    pub fn make(id: u32, active_from: Timestamp, masters: &MasterKeys) -> Option<Self> {
        let mut key = Key::default();
        rand::fill(key.as_mut_slice()).ok()?;
        Some(Self {
            id,
            active_from,
            wrapped: wrap(id, &key, masters)?,
        })
    }

    /// The same key, wrapped by the current master key.
    ///
    /// # Errors
    /// No master key opens it, or the system gives no random bytes.
    pub fn rewrapped(&self, masters: &MasterKeys) -> Result<Self, Unwrappable> {
        let key = self.unwrap(masters)?;
        let wrapped = wrap(self.id, &key, masters).ok_or(Unwrappable(self.id))?;
        Ok(Self {
            wrapped,
            ..self.clone()
        })
    }

    fn unwrap(&self, masters: &MasterKeys) -> Result<Key, Unwrappable> {
        let opened = masters.all().iter().find_map(|master| {
            let by = sealing_key(&derived(master, TO_WRAP));
            open(&by, &self.wrapped, WRAPPED, &purpose(self.id))
        });
        let opened = opened.ok_or(Unwrappable(self.id))?;
        let mut key = Key::default();
        if opened.len() != KEY_BYTES {
            return Err(Unwrappable(self.id));
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }
}

fn wrap(id: u32, key: &Key, masters: &MasterKeys) -> Option<Bytes> {
    let by = sealing_key(&derived(masters.all().first()?, TO_WRAP));
    seal(&by, &[WRAPPED], &purpose(id), key.as_slice())
}

fn purpose(id: u32) -> Vec<u8> {
    [b"data key ".as_slice(), &id.to_be_bytes()].concat()
}

/// Data keys that are open.
pub(super) struct Keyring {
    /// By the time from which they seal.
    keys: Vec<(u32, Timestamp, LessSafeKey)>,
    /// Number 0 by each master key, the current one first.
    derived: Vec<LessSafeKey>,
}

impl Keyring {
    pub(super) fn new(masters: &MasterKeys, keys: &[DataKey]) -> Result<Self, Unwrappable> {
        let open = |key: &DataKey| {
            let opened = sealing_key(&key.unwrap(masters)?);
            Ok((key.id, key.active_from, opened))
        };
        let mut keys = keys.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by_key(|(id, active_from, _)| (*active_from, *id));
        let derived = masters.all().iter();
        let derived = derived.map(|master| sealing_key(&derived_key(master)));
        Ok(Self {
            keys,
            derived: derived.collect(),
        })
    }

    /// The newest key that seals by now.
    pub(super) fn current(&self, now: Timestamp) -> Option<(u32, &LessSafeKey)> {
        let active = self.keys.iter().rev().find(|(_, from, _)| *from <= now);
        match active {
            Some((id, _, key)) => Some((*id, key)),
            None => self.derived.first().map(|key| (DERIVED, key)),
        }
    }

    /// The keys of this number.
    pub(super) fn of(&self, id: u32) -> impl Iterator<Item = &LessSafeKey> {
        let own = self.keys.iter().filter(move |(known, ..)| *known == id);
        let derived = self.derived.iter().filter(move |_| id == DERIVED);
        own.map(|(_, _, key)| key).chain(derived)
    }
}

fn derived_key(master: &Key) -> Key {
    derived(master, TO_SEAL)
}

/// What fingerprints of requests are made with.
pub(super) fn fingerprint_key(
    masters: &MasterKeys,
    data: &DataKeys,
) -> Result<hmac::Key, Unwrappable> {
    let key = match (&data.fingerprint, masters.all().last()) {
        (Some(key), _) => key.unwrap(masters)?,
        (None, Some(oldest)) => derived(oldest, TO_FINGERPRINT),
        (None, None) => return Err(Unwrappable(DERIVED)),
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
}

fn sealing_key(key: &Key) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM_SIV, key.as_slice())
            .expect("a key of 32 bytes is one for AES-256"),
    )
}

/// A head, a random nonce, and the sealed text behind them; the head is part of what the seal is for.
pub(super) fn seal(key: &LessSafeKey, head: &[u8], purpose: &[u8], text: &[u8]) -> Option<Bytes> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).ok()?;
    let overhead = head.len() + NONCE_LEN + AES_256_GCM_SIV.tag_len();
    let mut sealed = Vec::with_capacity(overhead + text.len());
    sealed.extend_from_slice(text);
    let bound = [head, purpose].concat();
    let done = key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(bound),
        &mut sealed,
    );
    if done.is_err() {
        sealed.zeroize();
        return None;
    }
    Some([head, &nonce, &sealed].concat().into())
}

/// The text of what was sealed with a head of one byte.
fn open(key: &LessSafeKey, sealed: &[u8], head: u8, purpose: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (first, rest) = sealed.split_first()?;
    match *first == head {
        true => open_behind(key, &[head], rest, purpose),
        false => None,
    }
}

/// The text of what is sealed behind a head.
pub(super) fn open_behind(
    key: &LessSafeKey,
    head: &[u8],
    rest: &[u8],
    purpose: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let bound = [head, purpose].concat();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = key
        .open_in_place(nonce, Aad::from(bound), &mut text)
        .ok()?
        .len();
    text.truncate(opened);
    Some(text)
}
