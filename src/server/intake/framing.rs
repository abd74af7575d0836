//! Where messages end in a gRPC stream: what is complete has been taken, and is not held any more.

/// Bytes before each message: a flag, and its length.
const HEAD_BYTES: usize = 5;

/// The place in a stream.
#[derive(Debug, Default)]
pub(super) struct Framing {
    head: [u8; HEAD_BYTES],
    /// Bytes that are there of the head.
    headed: usize,
    /// Bytes that are missing of a message whose head is complete.
    missing: usize,
    /// Bytes of the message that is not complete.
    held: usize,
}

impl Framing {
    /// Takes what comes next; answers how many bytes are held of a message that is not complete.
    pub(super) fn push(&mut self, mut data: &[u8]) -> usize {
        while !data.is_empty() {
            let wanted = if self.headed < HEAD_BYTES {
                HEAD_BYTES - self.headed
            } else {
                self.missing
            };
            let (taken, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            self.held += taken.len();
            if self.headed < HEAD_BYTES {
                self.head[self.headed..][..taken.len()].copy_from_slice(taken);
                self.headed += taken.len();
                if self.headed == HEAD_BYTES {
                    let [_, length @ ..] = self.head;
                    self.missing = u32::from_be_bytes(length) as usize;
                }
            } else {
                self.missing -= taken.len();
            }
            if self.headed == HEAD_BYTES && self.missing == 0 {
                *self = Self::default();
            }
        }
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_that_is_not_complete_is_held() {
        let empty = [0, 0, 0, 0, 0];
        let three = [0, 0, 0, 0, 3, 7, 7, 7];
        let long = [0, 0, 1, 0, 0, 9];
        let stream = [&empty[..], &three, &empty, &three, &long].concat();
        for piece in 1..=stream.len() {
            let mut framing = Framing::default();
            let held: Vec<usize> = stream.chunks(piece).map(|c| framing.push(c)).collect();
            assert_eq!(held.last(), Some(&long.len()), "in pieces of {piece}");
            assert!(held.iter().all(|held| *held <= 7), "{held:?}");
        }
        let mut framing = Framing::default();
        framing.push(&long);
        assert_eq!(framing.push(&[0; 65_534]), 65_540);
        assert_eq!(framing.push(&[0]), 0);
    }
}
