//! What a destination says of itself until it is a copy: that it is not one yet, and of what.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::beside;
use crate::store::{FeedCursor, Note, Store, StoreError};

/// The form of the notes, their first byte.
const FORM: u8 = 1;
/// The form of what a finished copy says of itself. Before, there was nothing beside the jobs.
const FORM_OF_FINISHED: u8 = 2;

/// What stores are called, for people and for the command line. Without a password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The source.
    pub from: String,
    /// The destination.
    pub to: String,
    /// What else the command needs: each flag, and its value if it has one.
    pub flags: Vec<(String, Option<String>)>,
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
            Some((&FORM, rest)) => postcard::from_bytes(rest).ok().or_else(|| {
                // Once there were no flags.
                let (feed_id, from, to) = postcard::from_bytes(rest).ok()?;
                let flags = Vec::new();
                let names = Names { from, to, flags };
                Some(Self { feed_id, names })
            }),
            _ => None,
        };
        read.ok_or_else(|| StoreError::Corrupt("what it says of its copying".into()))
    }
}

/// What a copy that was finished says of itself, for whoever did not hear that it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopyOf {
    /// The feed of the source.
    pub(super) feed_id: [u8; 16],
    /// Where the copy's own feed ended.
    pub(super) end: FeedCursor,
    /// What stood beside the jobs then.
    pub(super) beside: beside::Mark,
}

impl CopyOf {
    fn decode(note: &[u8]) -> Option<Self> {
        match note.split_first() {
            Some((&FORM_OF_FINISHED, rest)) => postcard::from_bytes(rest).ok(),
            Some((&FORM, rest)) => {
                let (feed_id, end) = postcard::from_bytes(rest).ok()?;
                let beside = beside::Mark::default();
                Some(Self {
                    feed_id,
                    end,
                    beside,
                })
            }
            _ => None,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORM_OF_FINISHED]).expect("bytes and numbers can be packed")
    }
}

/// What the store is a copy of, as far as this version understands.
pub(super) async fn copy_of(store: &dyn Store) -> Result<Option<CopyOf>, StoreError> {
    let note = store.note(Note::CopyOf).await?;
    Ok(note.and_then(|note| CopyOf::decode(&note)))
}

/// The command that copies, or goes on with it.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, flags } = self;
        write!(
            f,
            "longhaul store copy --from {} --to {}",
            quoted(from),
            quoted(to)
        )?;
        for (flag, value) in flags {
            write!(f, " {flag}")?;
            if let Some(value) = value {
                write!(f, " {}", quoted(value))?;
            }
        }
        Ok(())
    }
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
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
                flags: vec![("--unsafe-durability".into(), None)],
            },
        };
        assert_eq!(HalfCopied::decode(&mark.encode()).ok(), Some(mark.clone()));
        let cut = &mark.encode()[..20];
        for other in [&[][..], &[2, 7], cut] {
            assert!(HalfCopied::decode(other).is_err(), "{other:?}");
        }
        let Names { from, to, .. } = mark.names;
        let former = (mark.feed_id, &from, &to);
        let former = postcard::to_extend(&former, vec![FORM]).expect("a note");
        let flags = Vec::new();
        let read = HalfCopied::decode(&former).map(|mark| mark.names).ok();
        assert_eq!(read, Some(Names { from, to, flags }));
    }

    #[test]
    fn a_finished_copy_knows_itself_whichever_version_finished_it() {
        let now = CopyOf {
            feed_id: [7; 16],
            end: FeedCursor::at(3),
            beside: beside::Mark::default(),
        };
        let CopyOf { feed_id, end, .. } = now.clone();
        let former = postcard::to_extend(&(feed_id, end), vec![FORM]).expect("a note");
        for note in [now.encode(), former] {
            assert_eq!(CopyOf::decode(&note), Some(now.clone()));
        }
        assert_eq!(CopyOf::decode(&[9, 7]), None);
    }

    #[test]
    fn a_shell_reads_the_command_as_it_was_meant() {
        let names = Names {
            from: "sqlite:/ada's jobs".into(),
            to: "postgres://u@h/d?a=b&c=d".into(),
            flags: vec![
                ("--to-password-file".into(), Some("/x $(y)/'z".into())),
                ("--unsafe-durability".into(), None),
            ],
        };
        let print = names.to_string().replacen("longhaul", "printf '%s\\n'", 1);
        let shell = std::process::Command::new("sh")
            .args(["-c", &print])
            .output();
        let words = String::from_utf8(shell.expect("a shell").stdout).expect("texts");
        let words: Vec<&str> = words.lines().collect();
        assert_eq!(
            words,
            [
                "store",
                "copy",
                "--from",
                "sqlite:/ada's jobs",
                "--to",
                "postgres://u@h/d?a=b&c=d",
                "--to-password-file",
                "/x $(y)/'z",
                "--unsafe-durability",
            ]
        );
    }
}
