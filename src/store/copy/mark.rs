//! What a destination says of itself until it is a copy: that it is not one yet, and of what.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::store::{Note, Store, StoreError};

/// The form of the note, its first byte.
const FORM: u8 = 1;

/// What stores are called, for people and for the command line. Without a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The source.
    pub from: String,
    /// The destination.
    pub to: String,
}

/// A copy that was begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfCopied {
    /// The feed of the source, which no other store has.
    pub(super) feed_id: [u8; 16],
    /// As they were called when it began.
    pub(super) names: Names,
}

/// Whether the store is a copy that was not finished.
///
/// # Errors
/// The store can not be read.
pub async fn half_copied(store: &dyn Store) -> Result<Option<HalfCopied>, StoreError> {
    let note = store.note(Note::HalfCopied).await?;
    note.map(|note| HalfCopied::decode(&note)).transpose()
}

impl HalfCopied {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORM]).expect("texts and bytes can be packed")
    }

    fn decode(note: &[u8]) -> Result<Self, StoreError> {
        let read = match note.split_first() {
            Some((&FORM, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        };
        read.ok_or_else(|| StoreError::Corrupt("what it says of its copying".into()))
    }
}

/// The command that copies, or goes on with it.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "longhaul store copy --from '{from}' --to '{to}'")
    }
}

impl fmt::Display for HalfCopied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = &self.names;
        write!(
            f,
            "a copy of {} that was not finished: finish it ({names}), or remove it and start over",
            names.from
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_nothing_else_is_one() {
        let mark = HalfCopied {
            feed_id: [7; 16],
            names: Names {
                from: "sqlite:/a".into(),
                to: "postgres://user@host/database".into(),
            },
        };
        assert_eq!(HalfCopied::decode(&mark.encode()).ok(), Some(mark.clone()));
        let cut = &mark.encode()[..20];
        for other in [&[][..], &[2, 7], cut] {
            assert!(HalfCopied::decode(other).is_err(), "{other:?}");
        }
    }
}
