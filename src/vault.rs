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

use arc_swap::ArcSwapOption;
use aws_lc_rs::hmac;
use bytes::Bytes;

pub use keyring::{DataKeys, Unwrappable};
pub use master::{BadMasterKey, MasterKeyFileError, MasterKeySource, MasterKeys};

use crate::domain::{
    JobKey, Timestamp,
    command::{Fingerprint, Report},
    registry::DataKeyEntry,
    secrecy::{Hidden, Secrecy},
};
use keyring::Keyring;
use redaction::Redaction;

/// Keeps secrets, if there is a master key.
pub struct Vault {
    masters: Option<MasterKeys>,
    keys: ArcSwapOption<Keys>,
}

struct Keys {
    ring: Keyring,
    /// Never rotates: what was submitted under a request id long ago must have the same fingerprint today.
    fingerprint: hmac::Key,
}

/// Why there is no new data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// There is no master key to wrap it with.
    #[error("there is no master key: start the server with --master-key-file")]
    NoMasterKey,
    /// One of those that there are can not be opened.
    #[error(transparent)]
    Unwrappable(#[from] Unwrappable),
    /// The system has none.
    #[error("the system gave no random bytes")]
    NoRandomness,
}

impl Vault {
    /// With these keys.
    ///
    /// # Errors
    /// A data key was wrapped by another master key.
    pub fn new(masters: &MasterKeys, data: &DataKeys) -> Result<Self, Unwrappable> {
        let vault = Self {
            masters: Some(masters.clone()),
            keys: ArcSwapOption::empty(),
        };
        vault.renew(data)?;
        Ok(vault)
    }

    /// Without a key: it seals nothing, and opens nothing.
    pub fn without_key() -> Self {
        Self {
            masters: None,
            keys: ArcSwapOption::empty(),
        }
    }

    /// These are the data keys from now on; without a master key nothing comes of it.
    ///
    /// # Errors
    /// One was wrapped by another master key. Those that were known stay.
    pub fn renew(&self, data: &DataKeys) -> Result<(), Unwrappable> {
        if let Some(masters) = &self.masters {
            let keys = Keys {
                ring: Keyring::new(masters, &data.keys)?,
                fingerprint: keyring::fingerprint_key(masters, data)?,
            };
            self.keys.store(Some(keys.into()));
        }
        Ok(())
    }

    /// What is to be kept so that another data key seals from `active_from` on, and all are wrapped by the current master key.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub fn rotated(
        &self,
        data: &DataKeys,
        active_from: Timestamp,
    ) -> Result<Vec<DataKeyEntry>, RotateError> {
        let masters = self.masters.as_ref().ok_or(RotateError::NoMasterKey)?;
        let rotated = data.rotated(masters, active_from)?;
        rotated.ok_or(RotateError::NoRandomness)
    }
}

impl Secrecy for Vault {
    fn can_seal(&self) -> bool {
        self.keys.load().is_some()
    }

    fn seal(&self, job: &JobKey, ordinal: u32, hidden: &Hidden, now: Timestamp) -> Option<Bytes> {
        let keys = self.keys.load();
        sealing::seal(&keys.as_ref()?.ring, job, ordinal, hidden, now)
    }

    fn open(&self, job: &JobKey, ordinal: u32, sealed: &[u8]) -> Option<Hidden> {
        let keys = self.keys.load();
        sealing::open(&keys.as_ref()?.ring, job, ordinal, sealed)
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
        let Some(keys) = &*self.keys.load() else {
            return Fingerprint::default();
        };
        let mut context = hmac::Context::with_key(&keys.fingerprint);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut digest = Fingerprint::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn token_key_at(&self, time: Timestamp) -> Option<(u32, [u8; 32])> {
        let keys = self.keys.load();
        let (number, key) = keys.as_ref()?.ring.token_key_at(time)?;
        Some((number, *key))
    }

    fn token_key(&self, number: u32) -> Option<[u8; 32]> {
        let keys = self.keys.load();
        keys.as_ref()?.ring.token_key(number).copied()
    }
}

#[cfg(test)]
mod tests;
