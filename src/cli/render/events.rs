//! The history of a job, and why it is where it is.

use longhaul::proto::v1::{ExplainResponse, Explanation, JobEvent};

use crate::cli::{
    text::{FAINT, HINT, STRONG, event_type, job_state, one_line, paint},
    time,
};

/// Characters of the longest name of an event.
const TYPE_CHARS: usize = 19;
/// Characters of the longest name of a job's state.
const STATE_CHARS: usize = 10;

/// One change. Lines rather than a table, because a history is read as it arrives.
pub fn line(event: &JobEvent) -> String {
    let at = time::instant(event.time.as_ref()).map_or_else(String::new, time::to_the_millisecond);
    let mut about = one_line(&event.task_name).into_owned();
    if event.attempt > 0 {
        about.push_str(&paint(FAINT, format_args!(" #{}", event.attempt)));
    }
    let said = [about, one_line(&event.detail).into_owned()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ");
    let (state, style) = job_state(event.state());
    let kind = event_type(event.r#type());
    let revision = event.revision;
    if said.is_empty() {
        return format!(
            "{revision:>6}  {at}  {kind:<TYPE_CHARS$}  {}",
            paint(style, state)
        );
    }
    let state = paint(style, format_args!("{state:<STATE_CHARS$}"));
    format!("{revision:>6}  {at}  {kind:<TYPE_CHARS$}  {state}  {said}")
}

/// Why a job is where it is, task by task, with what to do about it.
pub fn explanation(answer: &ExplainResponse) -> Vec<String> {
    let mut lines = vec![paint(STRONG, one_line(&answer.summary))];
    for Explanation {
        reason,
        task_name,
        message,
        hint,
        until_time,
    } in &answer.explanations
    {
        let whose = if task_name.is_empty() {
            String::new()
        } else {
            format!("{}: ", one_line(task_name))
        };
        let until = time::instant(until_time.as_ref()).map_or_else(String::new, |until| {
            format!(", until {}", time::to_the_second(until))
        });
        lines.push(format!(
            "  {whose}{}{until} {}",
            one_line(message),
            paint(FAINT, format_args!("({})", one_line(reason)))
        ));
        if !hint.is_empty() {
            lines.push(format!("    {} {}", paint(HINT, "hint:"), one_line(hint)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use longhaul::proto::v1::{job, job_event::Type};

    use super::*;
    use crate::cli::render::plain;

    #[test]
    fn an_event_is_a_line() {
        let mut event = JobEvent {
            revision: 7,
            time: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 5_000_000,
            }),
            task_name: "copy".into(),
            attempt: 2,
            detail: "no space".into(),
            ..Default::default()
        };
        event.set_type(Type::TaskBackingOff);
        event.set_state(job::State::Running);
        assert_eq!(
            plain(vec![line(&event)]),
            [
                "     7  1970-01-01T00:00:01.005Z  TASK_BACKING_OFF     RUNNING     copy #2  no space"
            ]
        );
    }

    #[test]
    fn every_name_fits_its_column() {
        for kind in (0..).map_while(|number| Type::try_from(number).ok()) {
            assert!(event_type(kind).len() <= TYPE_CHARS, "{kind:?}");
        }
        for state in (0..).map_while(|number| job::State::try_from(number).ok()) {
            assert!(job_state(state).0.len() <= STATE_CHARS.max("UNSPECIFIED".len()));
        }
    }

    #[test]
    fn an_explanation_says_what_to_do() {
        let answer = ExplainResponse {
            summary: "waits for a worker".into(),
            explanations: vec![Explanation {
                reason: "NO_WORKER".into(),
                task_name: "copy".into(),
                message: "no worker of driver copier is connected".into(),
                hint: "longhaul work --driver copier -- COMMAND".into(),
                until_time: None,
            }],
        };
        assert_eq!(
            plain(explanation(&answer)),
            [
                "waits for a worker",
                "  copy: no worker of driver copier is connected (NO_WORKER)",
                "    hint: longhaul work --driver copier -- COMMAND",
            ]
        );
    }
}
