//! Why the body of a request was not read to its end.

use std::{error::Error, fmt, time::Duration};

use super::{Fault, Reason};
use crate::domain::wording::Sentence;

/// When to send it again.
const RETRY: Duration = Duration::from_secs(1);

/// What a request's body fails with if it was given up here. REST finds it among the sources of its error; gRPC is given a status in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It did not come in time.
    TooSlow,
    /// It is large, and the server holds too much of others that are not complete.
    NoRoom,
    /// The server goes, and does not wait for the rest.
    Draining,
}

impl BodyError {
    /// The one that an error comes from, if it does.
    pub(crate) fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let known = error.downcast_ref().copied();
        known.or_else(|| Self::behind(error.source()?))
    }

    fn sentence(self) -> Sentence {
        match self {
            Self::TooSlow => Sentence::plain("body-too-slow", "the body did not come in time"),
            Self::NoRoom => Sentence::plain(
                "no-room",
                "too many large requests are under way; send it again in a moment",
            ),
            Self::Draining => Sentence::plain(
                "body-not-waited-for",
                "the server is shutting down and the request was not complete; send it again",
            ),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence().english())
    }
}

impl Error for BodyError {}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        let reason = match error {
            BodyError::TooSlow => Reason::BodyTooSlow,
            BodyError::NoRoom => Reason::NoRoom,
            BodyError::Draining => Reason::Draining,
        };
        Self::new(reason, error.sentence()).retry(RETRY)
    }
}
