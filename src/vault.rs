//! Keeps secrets: seals what is secret about a task, opens it for its worker, and finds it in what the worker says.
//!
//! An envelope: secrets are sealed with a data key, data keys are wrapped by the master key, which comes from outside of the store and is never in it. Who has
//! the store without the master key has nothing. All sealing is AES-256-GCM-SIV (RFC 8452) with random nonces, and bound to what it is for: a tenant, a job,
//! a task of it; a data key's number. What is sealed says by which data key.
//!
//! It must not know how jobs change, nor where they are kept.

mod keyring;
mod master;
mod redaction;
mod sealing;

use aws_lc_rs::hmac;
use bytes::Bytes;

pub use keyring::{DataKey, DataKeys, Unwrappable};
pub use master::{BadMasterKey, MasterKeyFileError, MasterKeySource, MasterKeys};

use crate::domain::{
    JobKey, Timestamp,
    command::{Fingerprint, Report},
    secrecy::{Hidden, Secrecy},
};
use keyring::Keyring;
use redaction::Redaction;

/// Keeps secrets, if there is a master key.
pub struct Vault(Option<Keys>);

struct Keys {
    ring: Keyring,
    /// Never rotates: what was submitted under a request id long ago must have the same fingerprint today.
    fingerprint: hmac::Key,
}

impl Vault {
    /// With these keys.
    ///
    /// # Errors
    /// A data key was wrapped by another master key.
    pub fn new(masters: &MasterKeys, data: &DataKeys) -> Result<Self, Unwrappable> {
        Ok(Self(Some(Keys {
            ring: Keyring::new(masters, &data.keys)?,
            fingerprint: keyring::fingerprint_key(masters, data)?,
        })))
    }

    /// Without a key: it seals nothing, and opens nothing.
    pub fn without_key() -> Self {
        Self(None)
    }
}

impl Secrecy for Vault {
    fn can_seal(&self) -> bool {
        self.0.is_some()
    }

    fn seal(&self, job: &JobKey, ordinal: u32, hidden: &Hidden, now: Timestamp) -> Option<Bytes> {
        let Keys { ring, .. } = self.0.as_ref()?;
        sealing::seal(ring, job, ordinal, hidden, now)
    }

    fn open(&self, job: &JobKey, ordinal: u32, sealed: &[u8]) -> Option<Hidden> {
        let Keys { ring, .. } = self.0.as_ref()?;
        sealing::open(ring, job, ordinal, sealed)
    }

    fn redact(&self, job: &JobKey, ordinal: u32, sealed: &[u8], report: Report) -> Report {
        if !redaction::says_something(&report) {
            return report;
        }
        match self.open(job, ordinal, sealed) {
            Some(hidden) => Redaction::of(&hidden).report(report),
            None => Redaction::of_everything().report(report),
        }
    }

    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        // Without a key nothing is compared: such a submission is refused.
        let Some(Keys { fingerprint, .. }) = &self.0 else {
            return Fingerprint::default();
        };
        let mut context = hmac::Context::with_key(fingerprint);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut digest = Fingerprint::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

#[cfg(test)]
mod tests;
