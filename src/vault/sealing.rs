//! The secrets of a task in sealed form: a byte for the form, the number of the data key, and what that sealed, which opens for this task only.

use aws_lc_rs::aead::AES_256_GCM_SIV;
use bytes::Bytes;
use zeroize::Zeroizing;

use super::keyring::{Keyring, open_behind, seal as seal_behind};
use crate::domain::{JobKey, Timestamp, secrecy::Hidden};

/// The form of what is sealed, its first byte. Whoever changes it goes on reading the forms before.
const FORM: u8 = 1;
/// Bytes of the form and the number of the key.
const HEAD_BYTES: usize = 5;

pub(super) fn seal(
    ring: &Keyring,
    job: &JobKey,
    ordinal: u32,
    hidden: &Hidden,
    now: Timestamp,
) -> Option<Bytes> {
    let (id, key) = ring.current(now)?;
    let text = Zeroizing::new(
        postcard::to_stdvec(hidden).expect("texts, bytes and maps of them can be packed"),
    );
    seal_behind(key, &head(id), &purpose(job, ordinal), &text)
}

pub(super) fn open(ring: &Keyring, job: &JobKey, ordinal: u32, sealed: &[u8]) -> Option<Hidden> {
    let (head, rest) = sealed.split_first_chunk::<HEAD_BYTES>()?;
    let (form, id) = head.split_first_chunk::<1>()?;
    if *form != [FORM] || rest.len() < AES_256_GCM_SIV.tag_len() {
        return None;
    }
    let id = u32::from_be_bytes(id.try_into().ok()?);
    let purpose = purpose(job, ordinal);
    let text = ring
        .of(id)
        .find_map(|key| open_behind(key, head, rest, &purpose))?;
    postcard::from_bytes(&text).ok()
}

fn head(id: u32) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [FORM, a, b, c, d]
}

/// What the seal is for. Ids and positions have one length each, so the tenant behind them is not mistaken for them.
fn purpose(job: &JobKey, ordinal: u32) -> Vec<u8> {
    [
        b"secrets of a task ".as_slice(),
        job.job.0.as_bytes(),
        &ordinal.to_be_bytes(),
        job.tenant.0.as_bytes(),
    ]
    .concat()
}
