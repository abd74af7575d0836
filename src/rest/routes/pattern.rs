//! Which paths a route serves: `/v2.1/objectstorage/buckets/{id}`. Must not know what a route does.
//!
//! A path is split first and decoded after that, so that an escaped slash stays within its parameter. Literal segments come before parameters,
//! from left to right, so that which route serves a path never depends on the order of the files.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::domain::{
    submission::Violation,
    wording::{Sentence, sentence},
};

/// Segments of a path: enough for every documented API, and few enough to compare with each route.
pub(super) const MAX_SEGMENTS: usize = 32;
/// Bytes of a path parameter once it is decoded: names and ids have at most 256.
const MAX_PARAMETER_BYTES: usize = 1_024;

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("the path `{text}` must begin with `/`"));
        };
        let segments: Vec<Segment> = rest.split('/').map(segment).collect::<Result<_, _>>()?;
        if segments.len() > MAX_SEGMENTS {
            return Err(format!(
                "the path has {} segments; at most {MAX_SEGMENTS} are allowed",
                segments.len()
            ));
        }
        let pattern = Self {
            text: text.to_owned(),
            segments,
        };
        let mut names: Vec<&str> = pattern.parameters().collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!(
                "the parameter `{{{}}}` stands twice in `{text}`; give each a name of its own",
                pair[0]
            )),
            None => Ok(pattern),
        }
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Names of the parameters, from left to right.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// The pattern without the names of its parameters: two routes of one shape serve the same paths.
    pub(super) fn shape(&self) -> String {
        let shapes = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Parameter(_) => "/{}".to_owned(),
        });
        shapes.collect()
    }

    /// Whether the more particular of two patterns comes first.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        let key = |pattern: &Self| -> Vec<bool> {
            let parameters = pattern.segments.iter();
            parameters
                .map(|s| matches!(s, Segment::Parameter(_)))
                .collect()
        };
        key(self)
            .cmp(&key(other))
            .then_with(|| self.text.cmp(&other.text))
    }

    /// Whether there is a path that both this and a pattern of the server match. The latter may end in a catch-all, `{*rest}`, and have
    /// segments that are parameters in part, `{id}:cancel`; these are taken to match anything.
    pub(super) fn overlaps(&self, builtin: &str) -> bool {
        let mut theirs = builtin.strip_prefix('/').unwrap_or(builtin).split('/');
        for ours in &self.segments {
            match theirs.next() {
                None => return false,
                Some(catch_all) if catch_all.starts_with("{*") => return true,
                Some(parameter) if parameter.contains('{') => {}
                Some(literal) => match ours {
                    Segment::Literal(text) if text != literal => return false,
                    Segment::Literal(_) | Segment::Parameter(_) => {}
                },
            }
        }
        theirs.next().is_none()
    }

    /// Whether a path is served: its literals are there, and no parameter is empty.
    pub(super) fn matches(&self, path: &[Decoded]) -> bool {
        self.segments.len() == path.len()
            && self
                .segments
                .iter()
                .zip(path)
                .all(|(segment, given)| match segment {
                    Segment::Literal(text) => given.as_ref() == Ok(text),
                    Segment::Parameter(_) => given.as_ref() != Ok(&String::new()),
                })
    }

    /// The parameters of a path that matches.
    ///
    /// # Errors
    /// The first that no parameter may be.
    pub(super) fn read(&self, path: &[Decoded]) -> Result<BTreeMap<String, String>, Violation> {
        let mut parameters = BTreeMap::new();
        for (segment, given) in self.segments.iter().zip(path) {
            let Segment::Parameter(name) = segment else {
                continue;
            };
            let value =
                parameter(given).map_err(|what| Violation::new(format!("path.{name}"), what))?;
            parameters.insert(name.clone(), value.to_owned());
        }
        Ok(parameters)
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    if text.is_empty() {
        return Err(
            "the path has an empty segment; write it without `//` and without `/` at its end"
                .to_owned(),
        );
    }
    if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        return match first && rest {
            true => Ok(Segment::Parameter(name.to_owned())),
            false => Err(format!(
                "the parameter `{text}` must be in snake case, like `{{bucket_id}}`"
            )),
        };
    }
    if text == "." || text == ".." {
        return Err(format!("the path may not have a segment `{text}`"));
    }
    // What RFC 3986 allows in a segment, decoded.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    match text.chars().find(|c| !u8::try_from(*c).is_ok_and(allowed)) {
        None => Ok(Segment::Literal(text.to_owned())),
        Some('{' | '}') => Err(format!(
            "in `{text}` a parameter is only a part of the segment; a parameter takes the whole of it, like `{{id}}`"
        )),
        Some(bad) => Err(format!(
            "the segment `{text}` has the character {bad:?}; letters, digits and -._~!$&'()*+,;=:@ are allowed, and nothing is escaped"
        )),
    }
}

/// A segment of a request's path.
pub(super) type Decoded = Result<String, Undecodable>;

/// Why a segment can not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// A `%` without two hexadecimal digits.
    Escape,
    /// The bytes are not UTF-8.
    Utf8,
}

/// Splits a raw path and decodes its segments; `None` if no pattern can match it.
pub(super) fn split(path: &str) -> Option<Vec<Decoded>> {
    let rest = path.strip_prefix('/')?;
    let segments: Vec<Decoded> = rest.split('/').take(MAX_SEGMENTS + 2).map(decode).collect();
    // One more, for a slash at the end.
    (segments.len() <= MAX_SEGMENTS + 1).then_some(segments)
}

fn decode(segment: &str) -> Decoded {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || {
                    let digit = rest.next().and_then(|b| char::from(b).to_digit(16));
                    digit
                        .and_then(|d| u8::try_from(d).ok())
                        .ok_or(Undecodable::Escape)
                };
                digit()? * 16 + digit()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Undecodable::Utf8)
}

fn parameter(given: &Decoded) -> Result<&str, Sentence> {
    let value = match given {
        Ok(value) => value,
        Err(Undecodable::Escape) => {
            return Err(sentence!(
                "bad-escape",
                "has a `%` that two hexadecimal digits do not follow"
            ));
        }
        Err(Undecodable::Utf8) => {
            return Err(sentence!("not-utf", "is not UTF-8 once it is decoded"));
        }
    };
    if value.len() > MAX_PARAMETER_BYTES {
        let most = MAX_PARAMETER_BYTES;
        return Err(sentence!(
            "at-most-bytes",
            "must be at most {most} bytes",
            most
        ));
    }
    if let Some((at, control)) = value.char_indices().find(|(_, c)| c.is_control()) {
        return Err(sentence!(
            "control-character",
            "has the control character {control} at byte {at}; none is allowed",
            control = format!("{control:?}"),
            at,
        ));
    }
    if value == "." || value == ".." {
        return Err(sentence!("dots", "must not be `.` or `..`"));
    }
    Ok(value)
}
