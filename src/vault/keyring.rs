//! Data keys: what secrets are sealed with. They are wrapped by the master key, so that a change of that touches no secret.
//!
//! Number 0 is derived from the master key by HKDF: it is there on every node that has the same master key, before anybody has made another, and what it
//! sealed stays readable as long as that master key is among the current and former ones.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::fill,
};
use bytes::Bytes;
use zeroize::{Zeroize, Zeroizing};

use super::master::{KEY_BYTES, Key, MasterKeys, derived};
use crate::domain::{Timestamp, registry::DataKeyEntry};

/// The number of the data key that is derived.
pub(super) const DERIVED: u32 = 0;
/// The form of a wrapped key, its first byte.
const WRAPPED: u8 = 1;
/// What a master key is used for.
const TO_WRAP: &[u8] = b"wrap data keys";
const TO_SEAL: &[u8] = b"data key 0";
const TO_SEAL_TOKENS: &[u8] = b"tokens";
const TO_FINGERPRINT: &[u8] = b"fingerprints of requests";

/// The data keys that there are, as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataKeys {
    /// Those that seal, or sealed.
    pub keys: Vec<DataKeyEntry>,
    /// The one for fingerprints, which never changes; derived from the oldest master key if `None`. It bears number 0, which no other that is kept does.
    pub fingerprint: Option<DataKeyEntry>,
}

/// A data key that no master key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "data key {0} was wrapped by a master key that is not here; give that key as well, on a line of its own behind the current one"
)]
pub struct Unwrappable(pub u32);

impl DataKeys {
    /// What a store has kept.
    pub fn of(kept: impl IntoIterator<Item = DataKeyEntry>) -> Self {
        let (fingerprint, keys): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|key| key.number == DERIVED);
        Self {
            keys,
            fingerprint: fingerprint.into_iter().next(),
        }
    }

    /// All of them wrapped by the current master key, and a new one behind them, which seals from `active_from` on; `None` if the system gives no random bytes.
    ///
    /// # Errors
    /// No master key opens one of them.
    pub fn rotated(
        &self,
        masters: &MasterKeys,
        active_from: Timestamp,
    ) -> Result<Option<Vec<DataKeyEntry>>, Unwrappable> {
        let newest = self.keys.iter().map(|key| key.number).max();
        let number = newest.unwrap_or(DERIVED).saturating_add(1);
        let fingerprint = match &self.fingerprint {
            Some(key) => Some(rewrapped(key, masters)?),
            None => derived_fingerprint(masters).and_then(|key| {
                Some(DataKeyEntry {
                    number: DERIVED,
                    active_from,
                    wrapped: wrap(DERIVED, &key, masters)?,
                })
            }),
        };
        let keys = self.keys.iter().map(|key| rewrapped(key, masters));
        let mut all = keys.collect::<Result<Vec<_>, _>>()?;
        let (Some(fingerprint), Some(new)) = (fingerprint, make(number, active_from, masters))
        else {
            return Ok(None);
        };
        all.extend([fingerprint, new]);
        Ok(Some(all))
    }
}

/// Makes a key; `None` if the system gives no random bytes.
pub(super) fn make(
    number: u32,
    active_from: Timestamp,
    masters: &MasterKeys,
) -> Option<DataKeyEntry> {
    let mut key = Key::default();
    fill(key.as_mut_slice()).ok()?;
    Some(DataKeyEntry {
        number,
        active_from,
        wrapped: wrap(number, &key, masters)?,
    })
}

/// The same key, wrapped by the current master key.
pub(super) fn rewrapped(
    key: &DataKeyEntry,
    masters: &MasterKeys,
) -> Result<DataKeyEntry, Unwrappable> {
    let opened = unwrap(key, masters)?;
    let wrapped = wrap(key.number, &opened, masters).ok_or(Unwrappable(key.number))?;
    Ok(DataKeyEntry {
        wrapped,
        ..key.clone()
    })
}

fn unwrap(kept: &DataKeyEntry, masters: &MasterKeys) -> Result<Key, Unwrappable> {
    let opened = masters.all().iter().find_map(|master| {
        let by = sealing_key(&derived(master, TO_WRAP));
        open(&by, &kept.wrapped, WRAPPED, &purpose(kept.number))
    });
    let opened = opened.ok_or(Unwrappable(kept.number))?;
    let mut key = Key::default();
    if opened.len() != KEY_BYTES {
        return Err(Unwrappable(kept.number));
    }
    key.copy_from_slice(&opened);
    Ok(key)
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
    keys: Vec<DataKey>,
    /// Number 0 by each master key, the current one first.
    derived: Vec<LessSafeKey>,
}

/// A data key that is open.
struct DataKey {
    number: u32,
    active_from: Timestamp,
    sealing: LessSafeKey,
    /// Derived from it: what tokens are sealed with.
    tokens: Key,
}

impl Keyring {
    pub(super) fn new(masters: &MasterKeys, kept: &[DataKeyEntry]) -> Result<Self, Unwrappable> {
        let open = |kept: &DataKeyEntry| {
            let key = unwrap(kept, masters)?;
            Ok(DataKey {
                number: kept.number,
                active_from: kept.active_from,
                sealing: sealing_key(&key),
                tokens: derived(&key, TO_SEAL_TOKENS),
            })
        };
        let mut keys = kept.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by_key(|key| (key.active_from, key.number));
        let derived = masters.all().iter();
        let derived = derived.map(|master| sealing_key(&derived_key(master)));
        Ok(Self {
            keys,
            derived: derived.collect(),
        })
    }

    /// The newest key that seals by now; `None` before any was made.
    fn newest(&self, now: Timestamp) -> Option<&DataKey> {
        let mut active = self.keys.iter().rev();
        active.find(|key| key.active_from <= now)
    }

    /// What seals by now, with its number.
    pub(super) fn current(&self, now: Timestamp) -> Option<(u32, &LessSafeKey)> {
        match self.newest(now) {
            Some(key) => Some((key.number, &key.sealing)),
            None => self.derived.first().map(|key| (DERIVED, key)),
        }
    }

    /// The keys of this number.
    pub(super) fn of(&self, number: u32) -> impl Iterator<Item = &LessSafeKey> {
        let own = self.keys.iter().filter(move |key| key.number == number);
        let derived = self.derived.iter().filter(move |_| number == DERIVED);
        own.map(|key| &key.sealing).chain(derived)
    }

    /// What tokens were sealed with at a time, with its number; `None` before any data key was made.
    pub(super) fn token_key_at(&self, time: Timestamp) -> Option<(u32, &[u8; KEY_BYTES])> {
        self.newest(time).map(|key| (key.number, &*key.tokens))
    }

    /// What tokens of this number were sealed with.
    pub(super) fn token_key(&self, number: u32) -> Option<&[u8; KEY_BYTES]> {
        let mut keys = self.keys.iter();
        keys.find(|key| key.number == number)
            .map(|key| &*key.tokens)
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
    let key = match &data.fingerprint {
        Some(kept) => unwrap(kept, masters)?,
        None => derived_fingerprint(masters).ok_or(Unwrappable(DERIVED))?,
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
}

fn derived_fingerprint(masters: &MasterKeys) -> Option<Key> {
    let oldest = masters.all().last()?;
    Some(derived(oldest, TO_FINGERPRINT))
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
    fill(&mut nonce).ok()?;
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
