//! How a command ends: its exit code, and what it says when it could not do its work.
//!
//! The one place that turns errors into sentences and exit codes. Must not print: the caller shows a [`Failure`] once.

use std::{error::Error, fmt, io, process::ExitCode};

use longhaul::{
    client::ClientError,
    proto::{json::InvalidJson, v1::job},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::text::{self, ERROR, HINT};

/// What a shell sees of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; for a watch: the job succeeded.
    Success = 0,
    /// The server refused, something failed here, or the watched job failed.
    Failed = 1,
    /// The input can not be accepted, here or by the server.
    Usage = 2,
    /// The watched job was cancelled.
    Cancelled = 3,
    /// There is no way to the server.
    CannotConnect = 4,
}

impl Exit {
    /// The exit of a command that followed a job to this state.
    pub fn of(state: job::State) -> Self {
        match state {
            job::State::Succeeded => Self::Success,
            job::State::Cancelled => Self::Cancelled,
            job::State::Failed
            | job::State::Unspecified
            | job::State::Queued
            | job::State::Running
            | job::State::Cancelling => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The reader of stdout has gone, as in `| head`: nothing is left to do, and nothing is wrong.
    PipeClosed,
    /// Something to tell a person.
    Told {
        /// What the shell sees.
        exit: Exit,
        /// One sentence.
        message: String,
        /// More lines, such as the fields that are wrong.
        details: Vec<String>,
        /// What to do next.
        hint: Option<String>,
    },
}

impl Failure {
    /// A failure with a sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told {
            exit,
            message: message.into(),
            details: Vec::new(),
            hint: None,
        }
    }

    /// Input that can not be accepted.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that failed on this side: what was tried, and why it did not work.
    pub fn local(tried: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::new(Exit::Failed, format!("{tried}: {}", chain(error)))
    }

    /// There is no way to the server.
    pub fn cannot_connect(endpoint: &str, why: impl fmt::Display) -> Self {
        Self::new(
            Exit::CannotConnect,
            format!("can't connect to {endpoint}: {why}"),
        )
        .hint("is the server running? start one: longhaul serve")
    }

    /// The same failure with something to do next.
    #[must_use]
    pub fn hint(mut self, next: impl Into<String>) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            *hint = Some(next.into());
        }
        self
    }

    /// The same failure with more lines.
    #[must_use]
    pub fn details(mut self, lines: Vec<String>) -> Self {
        if let Self::Told { details, .. } = &mut self {
            *details = lines;
        }
        self
    }

    /// What the shell sees.
    pub fn exit(&self) -> Exit {
        match self {
            Self::PipeClosed => Exit::Success,
            Self::Told { exit, .. } => *exit,
        }
    }

    /// What became of a call to the server at `endpoint`.
    pub fn from_client(error: &ClientError, endpoint: &str) -> Self {
        match error {
            ClientError::InvalidEndpoint { .. }
            | ClientError::Tls(_)
            | ClientError::InvalidApiKey
            | ClientError::Exposed { .. } => Self::usage(error.to_string()),
            // What to do is in the cause.
            error if error.is_distrust() => Self::new(
                Exit::CannotConnect,
                format!("can't connect to {endpoint}: {}", innermost(error)),
            ),
            error if error.is_unreachable() => Self::cannot_connect(endpoint, innermost(error)),
            ClientError::Status(status) => Self::refused(status),
            error => Self::new(Exit::Failed, text::one_line(&error.to_string())),
        }
    }

    /// An answer of the server that is not the one hoped for, with its reason, its bad fields, and what to do.
    fn refused(status: &Status) -> Self {
        let refusal = status.get_error_details();
        let reason = refusal.error_info().map(|info| info.reason.as_str());
        let exit = match status.code() {
            Code::InvalidArgument => Exit::Usage,
            _ => Exit::Failed,
        };
        let mut message = text::one_line(status.message()).into_owned();
        if message.is_empty() {
            message = format!("the server answered {:?}", status.code());
        }
        if let Some(reason) = reason {
            message.push_str(&format!(" ({})", text::one_line(reason)));
        }
        let details = refusal
            .bad_request()
            .into_iter()
            .flat_map(|bad| &bad.field_violations)
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .map(|violation| text::one_line(&violation).into_owned())
            // Where only one field is wrong, the message is about it already.
            .filter(|violation| !message.contains(violation))
            .collect();
        let hint = next_step(reason, status.code()).map(str::to_owned);
        Self::Told {
            exit,
            message,
            details,
            hint,
        }
    }
}

impl From<InvalidJson> for Failure {
    /// From printing: the message came from the server.
    fn from(error: InvalidJson) -> Self {
        Self::local(
            "the server's answer has no JSON form; try --output text",
            &error,
        )
    }
}

impl From<io::Error> for Failure {
    /// From writing to stdout.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::PipeClosed
        } else {
            Self::local("can't write to stdout", &error)
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Told {
            message,
            details,
            hint,
            ..
        } = self
        else {
            return Ok(());
        };
        write!(f, "{ERROR}error:{ERROR:#} {message}")?;
        for detail in details {
            write!(f, "\n  {detail}")?;
        }
        if let Some(hint) = hint {
            write!(f, "\n{HINT}hint:{HINT:#} {hint}")?;
        }
        Ok(())
    }
}

/// What a person can do about a refusal, where that is more than its message says.
fn next_step(reason: Option<&str>, code: Code) -> Option<&'static str> {
    Some(match (reason, code) {
        (Some("JOB_NOT_FOUND"), _) => {
            "finished jobs are removed after the retention time; see what there is: longhaul list"
        }
        (Some("PARENT_NOT_FOUND" | "PARENT_ENDED"), _) => {
            "a child job needs a parent that is still open: longhaul get PARENT"
        }
        (Some("REQUEST_ID_REUSED"), _) => "use a new --request-id for a new job",
        (Some("STORE_UNAVAILABLE"), _) => {
            "the server can not use its database just now, and its log says why; try again, or another server"
        }
        (Some("CREDENTIAL_REQUIRED"), _) => {
            "set LONGHAUL_API_KEY or --api-key-file; an administrator makes keys: longhaul key create"
        }
        (Some("CREDENTIAL_INVALID"), _) => {
            "was it copied as a whole, revoked, or its tenant disabled? an administrator can tell: longhaul key list"
        }
        (Some("CREDENTIAL_EXPIRED"), _) => {
            "have a new one made: longhaul key create --expires TIME"
        }
        (Some("ROLE_REQUIRED"), _) => {
            "what this key may do: longhaul whoami; use another one, or have one made: longhaul key create --role ROLE"
        }
        (Some("QUOTA_EXCEEDED"), _) => {
            "an operator can change how much a tenant may use: longhaul tenant set NAME"
        }
        (Some("TENANT_EXISTS"), _) => "change it: longhaul tenant set NAME",
        (Some("TENANT_NOT_FOUND"), _) => {
            "see what there is: longhaul tenant list; make it: longhaul tenant create NAME"
        }
        (Some("KEY_EXISTS"), _) => {
            "to give that name to somebody else, take it back: longhaul key revoke ID"
        }
        (Some("KEY_NOT_FOUND"), _) => "see what there is: longhaul key list",
        (_, Code::Unavailable) => "the server is busy or about to go; try again",
        (_, Code::Unimplemented) => {
            "is this a Longhaul server, and of this version? longhaul info says"
        }
        _ => return None,
    })
}

/// The last error of a chain, which names the cause.
fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// All errors of a chain, outermost first, without repeating what one already says of the next.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn told(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn a_bad_request_lists_its_fields() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("INVALID_JOB", "longhaul", HashMap::new())
            .add_bad_request_violation("job.tasks[0].driver", "required")
            .add_bad_request_violation("job.priority", "from -1000 to 1000");
        let status = Status::with_error_details(
            Code::InvalidArgument,
            "the job can not be accepted",
            details,
        );
        let failure = Failure::refused(&status);
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(
            told(&failure),
            "error: the job can not be accepted (INVALID_JOB)\n  job.tasks[0].driver: required\n  job.priority: from -1000 to 1000"
        );
    }

    #[test]
    fn a_field_is_not_told_of_twice() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("filter", "unknown field");
        let status =
            Status::with_error_details(Code::InvalidArgument, "filter: unknown field", details);
        assert_eq!(
            told(&Failure::refused(&status)),
            "error: filter: unknown field"
        );
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let mut details = ErrorDetails::new();
        details.set_error_info("REQUEST_ID_REUSED", "longhaul", HashMap::new());
        let status =
            Status::with_error_details(Code::AlreadyExists, "request_id \"a\" was used", details);
        let failure = Failure::refused(&status);
        assert_eq!(failure.exit(), Exit::Failed);
        assert_eq!(
            told(&failure),
            "error: request_id \"a\" was used (REQUEST_ID_REUSED)\nhint: use a new --request-id for a new job"
        );
    }

    #[test]
    fn what_a_server_says_can_not_steer_the_terminal() {
        let status = Status::internal("a\x1b[2Jb\nc");
        let failure = Failure::refused(&status);
        assert!(!told(&failure).contains(['\x1b', '\n']));
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Success);
        assert_eq!(told(&failure), "");
    }
}
