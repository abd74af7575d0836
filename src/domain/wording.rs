//! Sentences for people: English, with what a translation needs.

use std::{
    borrow::Cow,
    fmt::{self, Display},
};

/// A sentence in English, and what it is made of, so that a front end can say it in another language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    id: &'static str,
    english: Cow<'static, str>,
    arguments: Box<[(&'static str, Argument)]>,
}

/// What stands in a gap of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A number, by which a noun may be singular or plural.
    Number(i64),
    /// Anything else, as it is written.
    Text(String),
}

/// A [`Sentence`]: its name among the translations, its English form as for `format!`, and its gaps by name.
///
/// ```ignore
/// sentence!("too-long", "has {bytes} bytes; at most {most} are allowed", bytes, most = MAX_LINE_BYTES)
/// ```
macro_rules! sentence {
    ($id:literal, $english:literal $(,)?) => {
        $crate::domain::wording::Sentence::plain($id, $english)
    };
    ($id:literal, $english:literal, $($gap:ident $(= $value:expr)?),+ $(,)?) => {{
        $($(let $gap = &$value;)?)+
        let english = format!($english);
        let arguments = vec![$((stringify!($gap), $crate::domain::wording::Argument::from(&$gap))),+];
        $crate::domain::wording::Sentence::made($id, english, arguments)
    }};
}
pub(crate) use sentence;

impl Sentence {
    /// One without gaps.
    pub fn plain(id: &'static str, english: &'static str) -> Self {
        Self {
            id,
            english: Cow::Borrowed(english),
            arguments: Box::default(),
        }
    }

    /// One whose gaps are filled in already.
    pub fn made(
        id: &'static str,
        english: String,
        arguments: Vec<(&'static str, Argument)>,
    ) -> Self {
        Self {
            id,
            english: Cow::Owned(english),
            arguments: arguments.into(),
        }
    }

    /// What somebody else said: a client, a worker, a library. It is passed on as it is.
    pub fn foreign(text: impl Into<String>) -> Self {
        Self::made("", text.into(), Vec::new())
    }

    /// Its name among the translations; empty if it is not ours.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// In English.
    pub fn english(&self) -> &str {
        &self.english
    }

    /// What stands in its gaps.
    pub fn arguments(&self) -> &[(&'static str, Argument)] {
        &self.arguments
    }

    /// Bytes of the English text.
    pub fn len(&self) -> usize {
        self.english.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.english.is_empty()
    }
}

impl Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.english)
    }
}

macro_rules! numbers {
    ($($kind:ty),+) => {$(
        impl From<&$kind> for Argument {
            fn from(number: &$kind) -> Self {
                i64::try_from(*number).map_or_else(|_| Self::Text(number.to_string()), Self::Number)
            }
        }

        impl From<&&$kind> for Argument {
            fn from(number: &&$kind) -> Self {
                Self::from(*number)
            }
        }
    )+};
}

numbers!(usize, u64, u32, i32, i64, u128);

macro_rules! texts {
    ($($kind:ty),+) => {$(
        impl From<&$kind> for Argument {
            fn from(text: &$kind) -> Self {
                Self::Text(text.to_string())
            }
        }

        impl From<&&$kind> for Argument {
            fn from(text: &&$kind) -> Self {
                Self::Text(text.to_string())
            }
        }
    )+};
}

texts!(str, String, std::sync::Arc<str>, super::JobId);

impl From<&&&str> for Argument {
    fn from(text: &&&str) -> Self {
        Self::Text((**text).to_string())
    }
}

impl From<String> for Sentence {
    fn from(text: String) -> Self {
        Self::foreign(text)
    }
}

impl From<&str> for Sentence {
    fn from(text: &str) -> Self {
        Self::foreign(text)
    }
}

/// A number and its noun: `1 job`, `2 jobs`. For nouns of which more than one end in s.
pub fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_is_singular() {
        assert_eq!(count(0_u64, "job"), "0 jobs");
        assert_eq!(count(1_usize, "job"), "1 job");
        assert_eq!(count(2_i64, "child job"), "2 child jobs");
    }

    #[test]
    fn a_sentence_keeps_what_it_is_made_of() {
        let driver = "ansible";
        let said = sentence!("x", "{number} of {driver:?}", number = 3_usize, driver);
        assert_eq!(said.english(), "3 of \"ansible\"");
        let expected = [
            ("number", Argument::Number(3)),
            ("driver", Argument::Text("ansible".into())),
        ];
        assert_eq!(said.arguments(), expected);
    }
}
