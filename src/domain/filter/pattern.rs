//! How a text has to match.

/// How a text has to match; case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All of it.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Any part of it.
    Contains(String),
}

impl Pattern {
    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(part) => text == part,
            Self::Prefix(part) => text.starts_with(part.as_str()),
            Self::Suffix(part) => text.ends_with(part.as_str()),
            Self::Contains(part) => text.contains(part.as_str()),
        }
    }
}
