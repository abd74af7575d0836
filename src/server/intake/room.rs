//! How much of all requests that are not complete may be held at a time.
//!
//! A message is held until it is whole, and reading it opens the protocol's window for more: without this, what clients have begun and not ended would
//! be bounded for each call only.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all bodies together: sixteen of the largest at a time, and as much as the engine takes for what is complete.
const ROOM_BYTES: usize = 256 * 1024 * 1024;
/// Bytes in which room is taken: less than a frame, so that no body takes much more than it has.
const UNIT_BYTES: usize = 4 * 1024;
/// Bytes that each body may have without asking: most requests are no larger, and the call itself costs about as much.
const FREE_BYTES: usize = 4 * 1024;

/// The room that there is.
#[derive(Debug)]
pub(super) struct Room {
    free_units: AtomicUsize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            free_units: AtomicUsize::new(ROOM_BYTES / UNIT_BYTES),
        }
    }
}

/// The part of the room that one body has.
#[derive(Debug, Default)]
pub(super) struct Held {
    units: usize,
}

impl Room {
    /// Takes room for as many bytes of a body in all, or takes back what is too much; false if there is none.
    pub(super) fn hold(&self, held: &mut Held, bytes: usize) -> bool {
        let units = bytes.saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES);
        if units > held.units && !self.take(units - held.units) {
            return false;
        }
        if units < held.units {
            let fewer = held.units - units;
            self.free_units.fetch_add(fewer, Ordering::Relaxed);
        }
        held.units = units;
        true
    }

    fn take(&self, units: usize) -> bool {
        let less = |free: usize| free.checked_sub(units);
        let taken = (self.free_units).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_the_room_and_give_it_back() {
        let room = Room::default();
        let (mut large, mut small) = (Held::default(), Held::default());
        assert!(room.hold(&mut large, ROOM_BYTES + FREE_BYTES));
        assert!(room.hold(&mut small, FREE_BYTES), "small ones do not ask");
        assert!(!room.hold(&mut small, FREE_BYTES + 1));
        assert!(room.hold(&mut large, ROOM_BYTES));
        assert!(room.hold(&mut small, FREE_BYTES + 1));
        assert!(room.hold(&mut large, 0));
        assert!(room.hold(&mut small, ROOM_BYTES + FREE_BYTES));
    }

    #[test]
    fn a_body_takes_little_more_room_than_it_has_bytes() {
        let room = Room::default();
        let mut held: Vec<Held> = Vec::new();
        for _ in 0..ROOM_BYTES / (8 * FREE_BYTES) {
            held.push(Held::default());
        }
        let fit = held.iter_mut().all(|held| room.hold(held, 8 * FREE_BYTES));
        assert!(fit);
    }
}
