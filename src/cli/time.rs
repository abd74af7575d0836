//! Time as people write and read it: `25s`, `1h 30m`, `7d`; instants in UTC.
//!
//! Must not read the clock except in [`now`].

use std::{fmt, str::FromStr, time::Duration};

use jiff::{
    SignedDuration, Span, SpanRelativeTo, SpanRound, Timestamp, Unit,
    fmt::friendly::{Designator, SpanPrinter},
};
use serde::{Deserialize, Serialize};

const PRINTER: SpanPrinter = SpanPrinter::new().designator(Designator::Compact);

/// A duration in a flag, a variable or a file. A day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<Span>()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| {
                format!("'{text}' is not a duration; write it like 500ms, 25s, 1h30m or 7d")
            })
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let balanced = SignedDuration::try_from(self.0)
            .and_then(Span::try_from)
            .and_then(|span| {
                span.round(
                    SpanRound::new()
                        .largest(Unit::Day)
                        .relative(SpanRelativeTo::days_are_24_hours()),
                )
            });
        match balanced {
            Ok(span) => f.write_str(&PRINTER.span_to_string(&span)),
            Err(_) => f.write_str(&PRINTER.unsigned_duration_to_string(&self.0)),
        }
    }
}

/// The time of day here, for ages and for delays; the server never relies on it.
#[expect(
    clippy::disallowed_methods,
    reason = "ages and delays are of this machine; tests pass instants"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// An instant of a message; `None` if it is absent or beyond the calendar.
pub fn instant(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// An instant for a message.
pub fn to_message(time: Timestamp) -> prost_types::Timestamp {
    // Times before 1970 count their nanoseconds backwards here, but forwards in a message.
    let nanos = time.as_nanosecond().rem_euclid(1_000_000_000);
    prost_types::Timestamp {
        seconds: time.as_nanosecond().div_euclid(1_000_000_000) as i64,
        nanos: nanos as i32,
    }
}

/// An instant to the second, in UTC.
pub fn to_the_second(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// An instant to the millisecond, in UTC.
pub fn to_the_millisecond(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// A duration of a message; `None` if it is absent or negative.
pub fn duration(duration: Option<&prost_types::Duration>) -> Option<HumanDuration> {
    Duration::try_from(*duration?).ok().map(HumanDuration)
}

/// How long it is from one instant to another, coarse enough to read at a glance: `0.4s`, `12s`, `3m 20s`, `5d 2h`. Nothing is shorter than 0.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs_f64().max(0.0);
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_and_prints(text: &str, seconds: f64, printed: &str) {
        let duration: HumanDuration = text.parse().expect("a duration");
        assert_eq!(duration.0, Duration::from_secs_f64(seconds), "{text}");
        assert_eq!(duration.to_string(), printed, "{text}");
        assert_eq!(printed.parse(), Ok(duration), "{text}");
    }

    #[test]
    fn durations_are_read_and_printed() {
        reads_and_prints("25s", 25.0, "25s");
        reads_and_prints("1h30m", 5_400.0, "1h 30m");
        reads_and_prints("7d", 604_800.0, "7d");
        reads_and_prints("168h", 604_800.0, "7d");
        reads_and_prints("1500ms", 1.5, "1s 500ms");
        reads_and_prints("0s", 0.0, "0s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "-5s", "soon", "1month"] {
            let error = text.parse::<HumanDuration>().expect_err(text);
            assert!(error.contains("not a duration"), "{error}");
        }
    }

    #[test]
    fn instants_survive_a_message() {
        for text in ["2026-11-21T01:02:03.5Z", "1969-12-31T23:59:59.25Z"] {
            let time: Timestamp = text.parse().expect("an instant");
            assert_eq!(instant(Some(&to_message(time))), Some(time));
        }
        assert_eq!(instant(None), None);
    }

    #[test]
    fn instants_and_spans_read_well() {
        let start: Timestamp = "2026-11-21T01:02:03.456789Z".parse().expect("an instant");
        assert_eq!(to_the_second(start), "2026-11-21T01:02:03Z");
        assert_eq!(to_the_millisecond(start), "2026-11-21T01:02:03.456Z");
        let after = |seconds| between(start, start + Duration::from_secs_f64(seconds));
        assert_eq!(after(0.44), "0.4s");
        assert_eq!(after(59.9), "59s");
        assert_eq!(after(200.0), "3m 20s");
        assert_eq!(after(7_200.0), "2h 0m");
        assert_eq!(after(442_800.0), "5d 3h");
        assert_eq!(between(start + Duration::from_secs(1), start), "0.0s");
    }
}
