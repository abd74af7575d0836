//! Bytes into lines of bounded length. No IO.

/// Bytes of the longest line that is kept whole: as much as the largest result.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Gathers bytes until a line is complete.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    partial: Vec<u8>,
    /// Bytes of the line that are not kept.
    dropped: usize,
}

/// A line without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its text, cut at [`MAX_LINE_BYTES`]; bytes that are not UTF-8 are replaced.
    pub(super) text: String,
    /// Bytes behind the cut, which are lost.
    pub(super) dropped: usize,
}

impl LineSplitter {
    /// The lines that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = MAX_LINE_BYTES - self.partial.len();
            let kept = piece.len().min(room);
            self.partial.extend_from_slice(&piece[..kept]);
            self.dropped = self.dropped.saturating_add(piece.len() - kept);
            if pieces.peek().is_some() {
                lines.push(self.take());
            }
        }
        lines
    }

    /// The last line, if it lacks its end.
    pub(super) fn finish(&mut self) -> Option<Line> {
        (!self.partial.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Line {
        let bytes = std::mem::take(&mut self.partial);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        Line {
            text: String::from_utf8_lossy(bytes).into_owned(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<Line> {
        let mut splitter = LineSplitter::default();
        let mut lines: Vec<Line> = chunks
            .iter()
            .flat_map(|chunk| splitter.push(chunk))
            .collect();
        lines.extend(splitter.finish());
        lines
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[a-c\n]{0,40}", cut in 0_usize..40) {
            let cut = cut.min(text.len());
            let (head, tail) = text.as_bytes().split_at(cut);
            let texts: Vec<String> = split(&[head, tail]).into_iter().map(|line| line.text).collect();
            let expected: Vec<&str> = text.lines().collect();
            prop_assert_eq!(texts, expected);
        }
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES + 10];
        bytes.extend_from_slice(b"\nshort\r\n");
        let (head, tail) = bytes.split_at(MAX_LINE_BYTES + 3);
        let lines = split(&[head, tail]);
        let first = (lines[0].text.len(), lines[0].dropped);
        assert_eq!(first, (MAX_LINE_BYTES, 10));
        assert_eq!(
            lines[1],
            Line {
                text: "short".to_owned(),
                dropped: 0
            }
        );
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn bad_utf8_is_replaced() {
        assert_eq!(split(&[b"a\xffb\n"])[0].text, "a\u{fffd}b");
    }
}
