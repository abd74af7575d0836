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
    /// These parts, with anything between one and the next: it begins with the first, ends with the last, and has the others in this order.
    Glob(Vec<String>),
}

impl Pattern {
    /// Reads a text in which each `*` stands for anything, also for nothing.
    pub fn from_wildcard(text: &str) -> Self {
        let mut parts: Vec<&str> = text.split('*').collect();
        let last = parts.len() - 1;
        // Two stars in a row are one.
        let mut at = 0;
        parts.retain(|part| {
            at += 1;
            !part.is_empty() || at == 1 || at > last
        });
        match parts.as_slice() {
            [all] => Self::Exact((*all).to_owned()),
            [start, ""] => Self::Prefix((*start).to_owned()),
            ["", end] => Self::Suffix((*end).to_owned()),
            ["", part, ""] => Self::Contains((*part).to_owned()),
            parts => Self::Glob(parts.iter().map(|part| (*part).to_owned()).collect()),
        }
    }

    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(part) => text == part,
            Self::Prefix(part) => text.starts_with(part.as_str()),
            Self::Suffix(part) => text.ends_with(part.as_str()),
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Glob(parts) => match parts.as_slice() {
                [] => text.is_empty(),
                [all] => text == all,
                [start, middle @ .., end] => {
                    let rest = text.strip_prefix(start.as_str());
                    let rest = rest.and_then(|rest| rest.strip_suffix(end.as_str()));
                    // What is found first leaves the most for those behind it.
                    let found = middle.iter().try_fold(rest, |rest, part| {
                        let (_, behind) = rest?.split_once(part.as_str())?;
                        Some(Some(behind))
                    });
                    found.flatten().is_some()
                }
            },
        }
    }
}
