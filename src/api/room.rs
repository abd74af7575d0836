//! How much fits one answer.

use prost::{Message, encoding::encoded_len_varint};

/// Bytes of the jobs or events of one message, unless one alone is larger: clients take messages of 4 MiB by default, and cursors and tokens come on top.
pub(super) const MAX_ANSWER_BYTES: usize = 3_500 * 1024;

/// The room that is left in a message.
pub(super) struct Room {
    taken: usize,
}

impl Room {
    /// Of a message with nothing in it yet.
    pub(super) fn new() -> Self {
        Self { taken: 0 }
    }

    /// Takes the room of one more part, if there is enough; the first part always fits.
    pub(super) fn takes(&mut self, part: &impl Message) -> bool {
        let content = part.encoded_len();
        // Lists of parts have field numbers that fit one byte.
        let bytes = 1 + encoded_len_varint(content as u64) + content;
        let fits = self.taken == 0 || self.taken + bytes <= MAX_ANSWER_BYTES;
        if fits {
            self.taken += bytes;
        }
        fits
    }
}
