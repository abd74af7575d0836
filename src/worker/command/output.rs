//! What a command says on its standard streams, and what is made of it.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    task::unconstrained,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    document,
    lines::{Line, LineSplitter, MAX_LINE_BYTES},
    tail::Tail,
};
use crate::{
    proto::{Struct, v1::Progress},
    worker::TaskContext,
};

/// How long to read on after the command's end, in case something that left its process group keeps the stream open.
const AFTERWORD: Duration = Duration::from_secs(1);
/// Bytes that a pipe holds, which is all that a command that has ended can have left to be read.
const PIPE_BYTES: usize = 64 * 1024;

/// Members of the objects that are for us.
const REPORTS: [&str; 4] = ["progress", "warning", "result", "status_detail"];
/// How many lines that only look like a report are warned of: a program whose own output looks so shall not drown its task in warnings.
const MAX_DOUBTS: usize = 3;
/// Bytes of such a line that the warning repeats.
const MAX_DOUBT_BYTES: usize = 200;

/// What a command said on its standard output.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The last result; the bytes of its line if that was too long to be read.
    pub(super) result: Option<Result<Struct, usize>>,
    /// The last lines that are for people.
    pub(super) last_lines: Tail,
}

/// What one line of standard output means.
#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    Progress(Progress),
    Warning(String),
    Result(Struct),
    StatusDetail(String),
    /// A line for people.
    Text(String),
    /// A line for people that was meant for us, by the look of it.
    Doubtful(String),
}

/// Whether a line that was cut began as a result does: what it was can not be read any more, but that it was one must not be lost.
fn begins_a_result(cut: &str) -> bool {
    first_value(cut, "result").is_some_and(|value| value.starts_with('{'))
}

/// What follows the name of an object's first member, if it is this one.
fn first_value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.trim_start().strip_prefix('{')?.trim_start();
    let rest = rest.strip_prefix('"')?.strip_prefix(name)?;
    let rest = rest.strip_prefix('"')?.trim_start().strip_prefix(':')?;
    Some(rest.trim_start())
}

/// Whether a line that is no report was meant as one: all its members are ours, or it is no JSON and begins with one of ours.
/// Objects with members of others are other programs' lines.
fn looks_like_a_report(line: &str) -> bool {
    match serde_json::from_str::<serde_json::Map<String, Value>>(line) {
        Ok(object) => {
            !object.is_empty() && object.keys().all(|name| REPORTS.contains(&name.as_str()))
        }
        Err(_) => REPORTS.iter().any(|name| first_value(line, name).is_some()),
    }
}

fn doubt(line: &str) -> String {
    let line = line.trim();
    let shown = &line[..line.floor_char_boundary(MAX_DOUBT_BYTES)];
    let more = if shown.len() < line.len() { "…" } else { "" };
    format!("a line on stdout looks like a report but is none: {shown}{more}")
}

impl Meaning {
    /// An object with one member that we know, of the right form, is for us; everything else is for people.
    fn of(line: String) -> Self {
        match Self::of_object(&line) {
            Some(meaning) => meaning,
            None if looks_like_a_report(&line) => Self::Doubtful(line),
            None => Self::Text(line),
        }
    }

    fn of_object(line: &str) -> Option<Self> {
        if !line.trim_start().starts_with('{') {
            return None;
        }
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).ok()?;
        let mut members = object.into_iter();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            return None;
        };
        match (name.as_str(), value) {
            ("progress", value) => document::progress(&value).map(Self::Progress),
            ("warning", Value::String(message)) => Some(Self::Warning(message)),
            ("result", value @ Value::Object(_)) => {
                Struct::from_json(&value).ok().map(Self::Result)
            }
            ("status_detail", Value::String(line)) => Some(Self::StatusDetail(line)),
            _ => None,
        }
    }
}

/// Reads standard output to its end and reports what it says.
pub(super) async fn follow(
    stream: impl AsyncRead + Unpin,
    task: &TaskContext,
    exited: &CancellationToken,
) -> Said {
    let mut said = Said::default();
    let mut lines = Lines::new(stream, exited);
    let mut doubts = 0;
    while let Some(lines) = lines.next().await {
        let mut changed = false;
        for Line { text, dropped } in lines {
            if dropped > 0 && begins_a_result(&text) {
                said.result = Some(Err(MAX_LINE_BYTES.saturating_add(dropped)));
                continue;
            }
            if dropped > 0 {
                task.warning(format!(
                    "a line of output was longer than {MAX_LINE_BYTES} bytes; its end is lost"
                ))
                .await;
            }
            match Meaning::of(text) {
                Meaning::Progress(progress) => task.progress(progress),
                Meaning::Warning(message) => task.warning(message).await,
                Meaning::Result(result) => said.result = Some(Ok(result)),
                Meaning::StatusDetail(line) => {
                    said.last_lines.clear();
                    said.last_lines.push(line);
                    changed = true;
                }
                Meaning::Text(line) => {
                    said.last_lines.push(line);
                    changed = true;
                }
                Meaning::Doubtful(line) => {
                    // A line that was cut has its warning.
                    if doubts < MAX_DOUBTS && dropped == 0 {
                        doubts += 1;
                        task.warning(doubt(&line)).await;
                    }
                    said.last_lines.push(line);
                    changed = true;
                }
            }
        }
        if changed {
            task.status_detail(said.last_lines.to_string());
        }
    }
    said
}

/// Reads a stream to its end and keeps its last lines.
pub(super) async fn last_lines(stream: impl AsyncRead + Unpin, exited: &CancellationToken) -> Tail {
    let mut tail = Tail::default();
    let mut lines = Lines::new(stream, exited);
    while let Some(lines) = lines.next().await {
        for line in lines {
            tail.push(line.text);
        }
    }
    tail
}

/// The lines of a stream, to its end, or to some time after the command's.
struct Lines<'a, R> {
    stream: BufReader<R>,
    splitter: LineSplitter,
    /// Made once: what something else writes after the command's end must not put it off.
    too_late: BoxFuture<'a, ()>,
    /// Once it is too late: bytes that the command itself may have left behind.
    left: Option<usize>,
}

impl<'a, R: AsyncRead + Unpin> Lines<'a, R> {
    fn new(stream: R, exited: &'a CancellationToken) -> Self {
        let too_late = async {
            exited.cancelled().await;
            sleep(AFTERWORD).await;
        };
        Self {
            stream: BufReader::new(stream),
            splitter: LineSplitter::default(),
            too_late: Box::pin(too_late),
            left: None,
        }
    }

    /// The next ones, as many as come at once.
    async fn next(&mut self) -> Option<Vec<Line>> {
        if self.left.is_none() {
            // What can not be read has ended.
            tokio::select! {
                biased;
                () = &mut self.too_late => self.left = Some(PIPE_BYTES),
                _ = self.stream.fill_buf() => {}
            }
        }
        if let Some(1..) = self.left {
            // Only what is there already.
            let _ = unconstrained(self.stream.fill_buf()).now_or_never();
        }
        let read = match self.left {
            Some(0) => 0,
            Some(_) | None => self.stream.buffer().len(),
        };
        self.left = self.left.map(|left| left.saturating_sub(read));
        if read == 0 {
            return self.splitter.finish().map(|line| vec![line]);
        }
        let lines = self.splitter.push(self.stream.buffer());
        self.stream.consume(read);
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_for_us_are_objects_with_one_known_member() {
        let object = |value| Struct::from_json(&value).expect("an object");
        assert_eq!(
            Meaning::of(r#"{"progress":{"done":3,"total":9}}"#.to_owned()),
            Meaning::Progress(Progress {
                done: 3,
                total: 9,
                ..Default::default()
            })
        );
        assert_eq!(
            Meaning::of(r#"  {"warning":"low"} "#.to_owned()),
            Meaning::Warning("low".to_owned())
        );
        assert_eq!(
            Meaning::of(r#"{"result":{"id":7}}"#.to_owned()),
            Meaning::Result(object(json!({"id": 7})))
        );
        assert_eq!(
            Meaning::of(r#"{"result":{}}"#.to_owned()),
            Meaning::Result(object(json!({})))
        );
        assert_eq!(
            Meaning::of(r#"{"status_detail":"copying"}"#.to_owned()),
            Meaning::StatusDetail("copying".to_owned())
        );
    }

    #[test]
    fn everything_else_is_for_people() {
        for line in [
            "",
            "hello",
            "{",
            "{}",
            "[1]",
            "3",
            r#"{"other":{"done":1}}"#,
            r#"{"level":"info","result":"of another program"}"#,
            r#"{"results":3}"#,
            r#"a line with {"result":3}"#,
        ] {
            assert_eq!(Meaning::of(line.to_owned()), Meaning::Text(line.to_owned()));
        }
    }

    #[test]
    fn what_was_meant_for_us_is_told_from_what_was_not() {
        for line in [
            r#"{"progress":3}"#,
            r#"{"progress":{"done":-3}}"#,
            r#"{"warning":3}"#,
            r#"{"result":[1]}"#,
            r#"{"result":null}"#,
            r#"{"progress":{"done":1},"warning":"two members"}"#,
            r#"{"result":{"id":7}} trailing"#,
            r#" { "result" : {id: 7}}"#,
        ] {
            assert_eq!(
                Meaning::of(line.to_owned()),
                Meaning::Doubtful(line.to_owned())
            );
        }
    }

    #[test]
    fn a_doubtful_line_is_repeated_in_part() {
        let long = format!(r#"{{"result":"{}"}}"#, "ä".repeat(500));
        let said = doubt(&long);
        assert!(said.len() < 300 && said.ends_with("ä…"), "{said}");
        assert!(doubt(r#"{"result":5}"#).ends_with(r#": {"result":5}"#));
    }

    #[test]
    fn a_result_is_known_by_its_beginning() {
        for cut in [r#"{"result":{"a"#, r#" { "result" : {"#] {
            assert!(begins_a_result(cut), "{cut}");
        }
        for cut in [
            "",
            "{",
            r#"{"result""#,
            r#"{"results":{"#,
            r#"{"warning":"#,
            r#"{"result":"text"#,
            r#"{"result":3"#,
            "xxx",
        ] {
            assert!(!begins_a_result(cut), "{cut}");
        }
    }
}
