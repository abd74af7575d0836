//! What the server takes from a worker. A report beyond it would be refused, so nothing beyond it is sent.

use std::time::Duration;

/// Bytes of the longest status detail, warning or error message.
pub(super) const MAX_TEXT_BYTES: usize = 4096;
/// Bytes of the longest machine-readable reason.
pub(super) const MAX_REASON_BYTES: usize = 63;

/// Bytes of the longest unit of progress.
pub(super) const MAX_UNIT_BYTES: usize = 128;
/// Bytes of the longest message of progress.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024;
/// Bytes of the largest result, encoded.
pub(super) const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// The longest pause that may be asked for before the next attempt.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The text, cut at the end of a character if it is longer than `limit` bytes.
pub(super) fn truncated(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole() {
        assert_eq!(truncated("naïve".to_owned(), 3), "na");
        assert_eq!(truncated("naïve".to_owned(), 4), "naï");
        assert_eq!(truncated("naïve".to_owned(), 100), "naïve");
    }
}
