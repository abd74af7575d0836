//! What can be wrong: with route files, found at start; with a path or a request, found when it comes.

use std::{fmt, path::PathBuf};

use crate::domain::submission::Violation;

/// Mistakes that are told at once: more than one reads in a sitting.
const MAX_MISTAKES: usize = 100;
/// Violations that an answer lists.
pub(super) const MAX_VIOLATIONS: usize = 100;

/// A mistake in a route file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; `None` if the mistake is about the whole file.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Routes that can not be served, with every mistake that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RoutesError {
    mistakes: Vec<Mistake>,
}

impl RoutesError {
    /// The mistakes in order of file and line; there is at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for RoutesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().take(MAX_MISTAKES).enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{mistake}")?;
        }
        match self.mistakes.len().saturating_sub(MAX_MISTAKES) {
            0 => Ok(()),
            more => write!(f, "\n{more} more"),
        }
    }
}

/// Gathers the mistakes of one reading.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn add(&mut self, file: &std::path::Path, line: Option<usize>, what: String) {
        self.list.push(Mistake {
            file: file.to_owned(),
            line,
            what,
        });
    }

    pub(super) fn none_or<T>(mut self, found: T) -> Result<T, RoutesError> {
        if self.list.is_empty() {
            return Ok(found);
        }
        self.list
            .sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(RoutesError {
            mistakes: self.list,
        })
    }
}

/// A path that leads to a route but holds a value that no parameter may have: a client error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", violation.field, violation.description)]
pub struct PathFault {
    /// The dialect of the route that the path leads to, in which the answer is due.
    pub dialect: super::Dialect,
    /// The parameter, as `path.NAME`, and what is wrong with it.
    pub violation: Violation,
}

/// A request that a route can not turn into a job: a client error. At least one violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFault {
    /// The fields at fault: of the request, such as `body.nodes[2].name`, where it does not match the schema; of the job, such as
    /// `tasks[0].request_payload.size`, where its template can not be filled in. At most 100.
    pub violations: Vec<Violation>,
}

impl fmt::Display for RouteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Violation { field, description }) in self.violations.iter().enumerate() {
            let end = if i == 0 { "" } else { "; " };
            write!(f, "{end}{field}: {description}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RouteFault {}
