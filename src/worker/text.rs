//! Texts for people, cut to what the server takes.

/// Bytes of the longest status detail, warning or error message.
pub(super) const MAX_TEXT_BYTES: usize = 4096;
/// Bytes of the longest machine-readable reason.
pub(super) const MAX_REASON_BYTES: usize = 63;

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
