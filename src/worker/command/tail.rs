//! The last lines of an output, bounded in number and in bytes. No IO.

use std::{collections::VecDeque, fmt};

use crate::worker::limits::{MAX_TEXT_BYTES, truncated};

/// Lines that are kept: a screenful of a stack trace.
const MAX_LINES: usize = 20;
/// Bytes that are kept, line ends included: a text for people, less the room for an exit status before it.
const MAX_BYTES: usize = MAX_TEXT_BYTES - 64;

/// See the module. Displays as the lines, joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Adds a line, unless it is blank.
    pub(super) fn push(&mut self, line: String) {
        let mut line = truncated(line, MAX_BYTES - 1);
        line.truncate(line.trim_end().len());
        if line.is_empty() {
            return;
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let dropped = self.lines.pop_front();
            self.bytes -= dropped.map_or(self.bytes, |line| line.len() + 1);
        }
    }

    /// Forgets all lines.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines.iter().enumerate() {
            let before = if index == 0 { "" } else { "\n" };
            write!(f, "{before}{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_bounded_and_keeps_the_newest(lengths in prop::collection::vec(0_usize..3000, 0..60)) {
            let mut tail = Tail::default();
            for (number, length) in lengths.iter().enumerate() {
                tail.push(format!("{number}{}", "é".repeat(*length)));
                let text = tail.to_string();
                prop_assert!(text.len() <= MAX_BYTES);
                prop_assert!(text.lines().count() <= MAX_LINES);
                let last = text.lines().last().unwrap_or_default();
                prop_assert!(last.starts_with(&number.to_string()));
            }
        }
    }

    #[test]
    fn blank_lines_take_no_place() {
        let mut tail = Tail::default();
        for line in ["one  ", "", "   ", "two"] {
            tail.push(line.to_owned());
        }
        assert_eq!(tail.to_string(), "one\ntwo");
    }
}
