//! Paths that name fields of a payload: names with dots between them, `*` for any, a number for an element of a list by its position.

use std::str::Chars;

use super::super::structure::MAX_LEVELS;

/// Bytes of the longest path.
pub const MAX_PATH_BYTES: usize = 1_024;

/// A path that names fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<Step>);

/// Which fields of an object, or elements of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All of them.
    Any,
    /// The one of this name; in a list the one with this position.
    Name(String),
}

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It is empty, or has nothing between two dots.
    EmptyName,
    /// It has more than [`MAX_PATH_BYTES`], or more names than a payload has levels.
    TooLong,
    /// It has a bracket.
    Bracket,
    /// It has a star beside other characters.
    Star,
    /// It has a backslash in front of what needs none.
    Backslash,
}

impl FieldPath {
    /// Reads a path.
    ///
    /// # Errors
    /// It is not well-formed.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        if text.len() > MAX_PATH_BYTES {
            return Err(BadPath::TooLong);
        }
        let mut steps = Vec::new();
        let mut rest = text.chars();
        loop {
            let (step, is_last) = step(&mut rest)?;
            if steps.len() == MAX_LEVELS {
                return Err(BadPath::TooLong);
            }
            steps.push(step);
            if is_last {
                return Ok(Self(steps));
            }
        }
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// Reads up to the next dot, and whether there was none.
fn step(rest: &mut Chars<'_>) -> Result<(Step, bool), BadPath> {
    let mut name = String::new();
    let mut stars = 0;
    let is_last = loop {
        match rest.next() {
            None => break true,
            Some('.') => break false,
            Some('*') => stars += 1,
            Some('[' | ']') => return Err(BadPath::Bracket),
            Some('\\') => match rest.next() {
                Some(escaped @ ('.' | '*' | '[' | ']' | '\\')) => name.push(escaped),
                Some(_) | None => return Err(BadPath::Backslash),
            },
            Some(other) => name.push(other),
        }
    };
    match (stars, name.is_empty()) {
        (0, false) => Ok((Step::Name(name), is_last)),
        (0, true) => Err(BadPath::EmptyName),
        (1, true) => Ok((Step::Any, is_last)),
        _ => Err(BadPath::Star),
    }
}

impl Step {
    pub(super) fn names(&self, key: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => name == key,
        }
    }

    pub(super) fn is_position(&self, position: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => name.parse() == Ok(position),
        }
    }
}
