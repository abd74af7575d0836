//! API keys as their holders carry them: `lh_`, the key's id, `_`, the secret, and a checksum, so that a mistyped one is found out without a look, and one that
//! was published by mistake can be searched for.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

use super::AuthError;

/// How every key begins.
pub const PREFIX: &str = "lh_";
/// Bytes of an id, which only has to be unique.
const ID_BYTES: usize = 8;
/// Bytes of a secret, which nobody finds by trying.
const SECRET_BYTES: usize = 20;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 4;
/// Characters of a key; each byte is two.
const LENGTH: usize = PREFIX.len() + 2 * (ID_BYTES + SECRET_BYTES + CHECKSUM_BYTES) + 1;

/// A key that was just made.
pub struct NewKey {
    /// Its id.
    pub id: String,
    /// All of it; for its holder alone.
    pub text: String,
    /// What is kept of it.
    pub digest: [u8; 32],
}

/// A key as a caller sent it, its form checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentKey<'a> {
    /// Its id.
    pub(super) id: &'a str,
    digest: [u8; 32],
}

impl NewKey {
    /// Makes one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn make() -> Result<Self, AuthError> {
        let mut random = [0; ID_BYTES + SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| AuthError::NoRandomness)?;
        let (id, secret) = random.split_at(ID_BYTES);
        let id = hex(id);
        let bare = format!("{PREFIX}{id}_{}", hex(secret));
        let text = format!("{bare}{}", checksum(&bare));
        let digest = sha256(text.as_bytes());
        Ok(Self { id, text, digest })
    }
}

impl<'a> SentKey<'a> {
    /// Reads a key.
    pub(super) fn parse(text: &'a str) -> Result<Self, AuthError> {
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let read = || {
            let rest = text.strip_prefix(PREFIX).filter(|_| text.len() == LENGTH)?;
            let (id, secret) = rest.split_once('_')?;
            let is_whole = id.len() == 2 * ID_BYTES && is_hex(id) && is_hex(secret);
            let (bare, sum) = text.split_at_checked(LENGTH - 2 * CHECKSUM_BYTES)?;
            (is_whole && checksum(bare) == sum).then_some(id)
        };
        let id = read().ok_or(AuthError::Malformed)?;
        let digest = sha256(text.as_bytes());
        Ok(Self { id, digest })
    }

    /// Whether it is the one of which this is kept.
    pub(super) fn fits(&self, kept: &[u8; 32]) -> bool {
        verify_slices_are_equal(&self.digest, kept).is_ok()
    }
}

/// The first bytes of a digest: no protection, but nothing that one could confuse with another.
fn checksum(bare: &str) -> String {
    hex(&sha256(bare.as_bytes())[..CHECKSUM_BYTES])
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fits_what_is_kept_of_it_and_no_other() {
        let (one, other) = (NewKey::make().unwrap(), NewKey::make().unwrap());
        let sent = SentKey::parse(&one.text).unwrap();
        assert_eq!(sent.id, one.id);
        assert!(sent.fits(&one.digest) && !sent.fits(&other.digest));
        assert!(!one.text.contains(&hex(&one.digest)));
    }

    #[test]
    fn what_is_no_key_is_found_out_by_its_form() {
        let key = NewKey::make().unwrap().text;
        for at in 0..key.len() {
            let mut mistyped = key.clone().into_bytes();
            mistyped[at] = if mistyped[at] == b'0' { b'1' } else { b'0' };
            let mistyped = String::from_utf8(mistyped).unwrap();
            assert_eq!(SentKey::parse(&mistyped), Err(AuthError::Malformed), "{at}");
        }
        for text in [
            "",
            "lh_",
            &key[1..],
            &key[..key.len() - 1],
            "lh_ü_ü",
            &format!("{key}0"),
        ] {
            assert_eq!(SentKey::parse(text), Err(AuthError::Malformed), "{text}");
        }
    }
}
