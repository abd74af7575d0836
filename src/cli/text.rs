//! Text for terminals: colours, names of states, and other people's words made harmless.
//!
//! Invariant: nothing that a server, worker or client wrote reaches a terminal with its control characters.

use std::{borrow::Cow, fmt};

use anstyle::{AnsiColor, Effects, Style};
use longhaul::proto::v1::{Progress, Role, audit_record, job, job_event, job_task};

/// Marks errors.
pub const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
/// Marks what to do next.
pub const HINT: Style = AnsiColor::Cyan.on_default().effects(Effects::BOLD);
/// Headings, and what to look at first.
pub const STRONG: Style = Style::new().effects(Effects::BOLD);
/// What only completes the picture.
pub const FAINT: Style = Style::new().effects(Effects::DIMMED);

/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
const BUSY: Style = AnsiColor::Cyan.on_default();
/// What is not as it should be.
pub const ODD: Style = AnsiColor::Yellow.on_default();
const CALM: Style = Style::new();

/// Text in a style.
pub fn paint(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A job's state as people read it, and its colour.
pub fn job_state(state: job::State) -> (&'static str, Style) {
    let style = match state {
        job::State::Succeeded => GOOD,
        job::State::Failed => BAD,
        job::State::Running => BUSY,
        job::State::Cancelling | job::State::Cancelled => ODD,
        job::State::Queued | job::State::Unspecified => CALM,
    };
    (without_prefix(state.as_str_name(), "STATE_"), style)
}

/// A job's status as people read it, and its colour.
pub fn job_status(status: job::Status) -> (&'static str, Style) {
    let style = match status {
        job::Status::Normal | job::Status::Unspecified => CALM,
        job::Status::Warning => ODD,
        job::Status::PartialFailures | job::Status::Error => BAD,
    };
    (without_prefix(status.as_str_name(), "STATUS_"), style)
}

/// A task's state as people read it, and its colour.
pub fn task_state(state: job_task::State) -> (&'static str, Style) {
    use job_task::State;
    let style = match state {
        State::Succeeded => GOOD,
        State::Failed => BAD,
        State::Running => BUSY,
        State::BackingOff | State::Cancelling | State::Cancelled => ODD,
        State::Pending | State::Queued | State::Skipped | State::Unspecified => CALM,
    };
    (without_prefix(state.as_str_name(), "STATE_"), style)
}

/// What an event is about, as people read it.
pub fn event_type(kind: job_event::Type) -> &'static str {
    without_prefix(kind.as_str_name(), "TYPE_")
}

/// A role as people write it.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unknown",
        Role::Submit => "submit",
        Role::Read => "read",
        Role::Work => "work",
        Role::Cancel => "cancel",
        Role::Admin => "admin",
        Role::Audit => "audit",
    }
}

/// What became of something in the audit log, and its colour.
pub fn outcome(outcome: audit_record::Outcome) -> (&'static str, Style) {
    use audit_record::Outcome;
    let style = match outcome {
        Outcome::Done | Outcome::Unspecified => CALM,
        Outcome::Refused => ODD,
        Outcome::Denied => BAD,
    };
    (without_prefix(outcome.as_str_name(), "OUTCOME_"), style)
}

/// Whether a credential is good.
pub fn key_state(is_revoked: bool, has_expired: bool) -> (&'static str, Style) {
    match (is_revoked, has_expired) {
        (true, _) => ("REVOKED", BAD),
        (false, true) => ("EXPIRED", ODD),
        (false, false) => ("GOOD", GOOD),
    }
}

/// Whether credentials of a tenant are good.
pub fn tenant_state(is_disabled: bool) -> (&'static str, Style) {
    match is_disabled {
        true => ("DISABLED", BAD),
        false => ("ENABLED", GOOD),
    }
}

fn without_prefix(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// Progress in figures, such as `3/9 buckets 33%`; empty if there is none.
pub fn progress(progress: Option<&Progress>) -> String {
    let Some(Progress {
        done, total, unit, ..
    }) = progress
    else {
        return String::new();
    };
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" {}", one_line(unit))
    };
    match (*done, *total) {
        (0, 0) => String::new(),
        (done, total) if total > 0 => {
            let percent = i128::from(done) * 100 / i128::from(total);
            format!("{done}/{total}{unit} {percent}%")
        }
        (done, _) => format!("{done}{unit}"),
    }
}

/// Other people's words as one harmless line: control characters become blanks.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let blanked = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>();
        Cow::Owned(blanked.trim_end().to_owned())
    } else {
        Cow::Borrowed(text)
    }
}

/// One harmless line of at most so many characters; `…` stands for what was cut off.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    let line = one_line(text);
    match line.char_indices().nth(most) {
        None => line,
        Some(_) => {
            let kept: String = line.chars().take(most.saturating_sub(1)).collect();
            Cow::Owned(format!("{}…", kept.trim_end()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(done: i64, total: i64, unit: &str) -> String {
        progress(Some(&Progress {
            done,
            total,
            unit: unit.into(),
            message: String::new(),
        }))
    }

    #[test]
    fn progress_is_figures() {
        assert_eq!(progress(None), "");
        assert_eq!(figures(0, 0, ""), "");
        assert_eq!(figures(3, 9, "buckets"), "3/9 buckets 33%");
        assert_eq!(figures(7, 0, "bytes"), "7 bytes");
        assert_eq!(
            figures(i64::MAX, i64::MAX, ""),
            "9223372036854775807/9223372036854775807 100%"
        );
    }

    #[test]
    fn words_of_others_stay_on_their_line() {
        assert_eq!(one_line("plain"), "plain");
        assert_eq!(one_line("a\r\nb\x1b[31m"), "a  b [31m");
        assert_eq!(cut("a rather long line", 9), "a rather…");
        assert_eq!(cut("é\n", 5), "é");
    }

    #[test]
    fn names_have_no_prefix() {
        assert_eq!(job_state(job::State::Queued).0, "QUEUED");
        assert_eq!(
            job_status(job::Status::PartialFailures).0,
            "PARTIAL_FAILURES"
        );
        assert_eq!(task_state(job_task::State::BackingOff).0, "BACKING_OFF");
        assert_eq!(event_type(job_event::Type::TaskLeased), "TASK_LEASED");
    }
}
