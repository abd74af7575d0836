//! What a job brings along for its workers alone: how it travels from a submission to the store, and from there to a lease. The domain decides when it is
//! sealed, opened and erased; by what, it does not know.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{
    JobKey, Timestamp,
    command::{Fingerprint, Report},
};

/// What is secret about a task, in plain text. Wiped from memory when it is dropped; says nothing of itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    secrets: BTreeMap<String, String>,
    fields: Vec<u8>,
}

/// The secrets of a job's tasks with their positions; of most there are none.
pub type HiddenTasks = Box<[(u32, Arc<Hidden>)]>;

/// What is secret about a task, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// There never was anything.
    #[default]
    None,
    /// For those who have the keys.
    Sealed(Bytes),
    /// There was something, until the task ended.
    Erased,
}

/// Seals and opens what is secret. What was sealed opens for the same task only.
pub trait Secrecy: Send + Sync {
    /// Whether there is a key to seal with.
    fn can_seal(&self) -> bool;
    /// Seals what is secret about a task; `None` without a key.
    fn seal(&self, job: &JobKey, ordinal: u32, hidden: &Hidden, now: Timestamp) -> Option<Bytes>;
    /// Opens it; `None` if it was sealed with a key that is not here, or for something else.
    fn open(&self, job: &JobKey, ordinal: u32, sealed: &[u8]) -> Option<Hidden>;
    /// The report without the secrets that it repeats; without any text if they can not be known.
    fn redact(&self, job: &JobKey, ordinal: u32, sealed: &[u8], report: Report) -> Report;
    /// A digest of these parts that nobody can make who has not the key: of a short secret a plain one would tell what it is to whoever tries them all.
    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint;
    /// What tokens were sealed with at a time, and its number, if it was ever changed: `None` is what the store has had from its beginning.
    fn token_key_at(&self, time: Timestamp) -> Option<(u32, [u8; 32])>;
    /// What tokens of a number were sealed with; `None` if it is not known here.
    fn token_key(&self, number: u32) -> Option<[u8; 32]>;
}

impl Hidden {
    /// Secrets by name, and fields that were taken out of the payload, in the form of whoever took them.
    pub fn new(secrets: BTreeMap<String, String>, fields: Vec<u8>) -> Self {
        Self { secrets, fields }
    }

    /// The secrets by name.
    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.secrets
    }

    /// What was taken out of the payload; empty if nothing was.
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.fields.is_empty()
    }

    /// Bytes of all of it.
    pub fn len(&self) -> usize {
        let secrets = self.secrets.iter();
        secrets
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            + self.fields.len()
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.secrets.values_mut().for_each(Zeroize::zeroize);
        self.fields.zeroize();
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl Secrets {
    /// Whether there is, or was, something.
    pub fn were_given(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Bytes of what is sealed.
    pub fn len(&self) -> usize {
        match self {
            Self::Sealed(sealed) => sealed.len(),
            Self::None | Self::Erased => 0,
        }
    }

    /// Whether nothing is sealed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing of it is needed any more.
    pub(super) fn erase(&mut self) {
        if self.were_given() {
            *self = Self::Erased;
        }
    }
}
