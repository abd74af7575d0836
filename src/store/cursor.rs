//! How far a feed has been seen.
//!
//! Where one process writes, changes appear in the order of their positions, and one number says it all. Where several do, a change with a smaller position
//! may appear after one with a larger: it is pending, and the cursor names it. Such a cursor waits for nobody, least of all for a long transaction of
//! somebody else in the same database, and still misses nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything before a position has been seen, but for what is still pending.
///
/// Cursors that were taken one after another from one store form a chain: each includes those before it. They are ordered along it. A database that fails
/// over may have lost its last moments, and give their positions to others: then another era begins, of which former cursors know nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedCursor {
    era: u32,
    /// The first position that has not been seen, whatever is pending.
    before: u64,
    /// Positions below that have not been seen either; ascending.
    pending: Vec<u64>,
}

impl FeedCursor {
    /// All positions below `before` have been seen, but for these.
    pub fn new(before: u64, mut pending: Vec<u64>) -> Self {
        pending.retain(|position| *position < before);
        pending.sort_unstable();
        pending.dedup();
        Self {
            era: 0,
            before,
            pending,
        }
    }

    /// The same, in another era.
    #[must_use]
    pub fn in_era(self, era: u32) -> Self {
        Self { era, ..self }
    }

    /// Whether its positions mean the same as the other's.
    pub fn is_of_the_era_of(&self, other: &Self) -> bool {
        self.era == other.era
    }

    /// All positions up to this one have been seen.
    pub fn at(position: u64) -> Self {
        Self::new(position.saturating_add(1), Vec::new())
    }

    /// The first position that has not been seen, whatever is pending.
    pub fn before(&self) -> u64 {
        self.before
    }

    /// Positions below [`Self::before`] that have not been seen; ascending.
    pub fn pending(&self) -> &[u64] {
        &self.pending
    }

    /// Whether what is at this position has been seen.
    pub fn has_seen(&self, position: u64) -> bool {
        position < self.before && self.pending.binary_search(&position).is_err()
    }

    /// Whether everything that the other has seen has been seen here.
    pub fn includes(&self, other: &Self) -> bool {
        self.era == other.era
            && self.before >= other.before
            && self.pending.iter().all(|at| !other.has_seen(*at))
    }

    /// Whether more has been seen than there.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self != other && self.includes(other)
    }

    /// A stop on the way from here to a later cursor: of what is new there, all up to `last` has been seen.
    #[must_use]
    pub fn on_the_way(&self, later: &Self, last: u64) -> Self {
        let before = self.before.max(last.saturating_add(1).min(later.before));
        let unseen_here = self.pending.iter().filter(|at| **at > last);
        let unseen_there = later.pending.iter().filter(|at| **at < before);
        let pending = unseen_here.chain(unseen_there).copied().collect();
        Self::new(before, pending).in_era(self.era)
    }
}

impl PartialOrd for FeedCursor {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Along a chain: of two cursors with the same end, the one with less pending is the later.
impl Ord for FeedCursor {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let pending = |cursor: &Self| std::cmp::Reverse(cursor.pending.len());
        let rank = |cursor: &Self| (cursor.era, cursor.before, pending(cursor));
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.pending.cmp(&other.pending))
    }
}

/// As distances, which are small numbers, because callers carry cursors in tokens.
impl Serialize for FeedCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let distances = self.pending.iter().map(|at| self.before - at);
        let distances: Vec<u64> = distances.collect();
        (self.era, self.before, distances).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FeedCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (era, before, distances) = <(u32, u64, Vec<u64>)>::deserialize(deserializer)?;
        let pending = distances.into_iter().map(|by| before.saturating_sub(by));
        Ok(Self::new(before, pending.collect()).in_era(era))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What a cursor has seen, of the positions below 64.
    fn seen(cursor: &FeedCursor) -> BTreeSet<u64> {
        (0..64).filter(|at| cursor.has_seen(*at)).collect()
    }

    fn cursors() -> impl Strategy<Value = FeedCursor> {
        (0_u64..64, prop::collection::vec(0_u64..64, 0..8))
            .prop_map(|(before, pending)| FeedCursor::new(before, pending))
    }

    /// A cursor, and one that was taken later: more has begun, and some of what was pending has ended.
    fn chains() -> impl Strategy<Value = (FeedCursor, FeedCursor)> {
        (cursors(), 0_u64..64, any::<u64>()).prop_map(|(earlier, more, chosen)| {
            let before = earlier.before().max(more);
            let still = (0..before).filter(|at| !earlier.has_seen(*at) && chosen >> at & 1 == 1);
            let later = FeedCursor::new(before, still.collect());
            (earlier, later)
        })
    }

    proptest! {
        #[test]
        fn a_cursor_includes_another_exactly_if_it_has_seen_as_much(
            one in cursors(), other in cursors(),
        ) {
            // Nothing is seen beyond the end, so a cursor whose tail is all pending counts as further than it has seen.
            prop_assume!(one.before() >= other.before());
            prop_assert_eq!(one.includes(&other), seen(&one).is_superset(&seen(&other)));
        }

        #[test]
        fn a_chain_is_in_order((earlier, later) in chains()) {
            prop_assert!(later.includes(&earlier));
            prop_assert!(later >= earlier);
            prop_assert_eq!(later > earlier, later.is_ahead_of(&earlier));
        }

        #[test]
        fn a_stop_on_the_way_has_seen_what_is_new_up_to_there(
            (earlier, later) in chains(), last in 0_u64..64,
        ) {
            let stop = earlier.on_the_way(&later, last);
            let expected: BTreeSet<u64> = (0..64)
                .filter(|at| earlier.has_seen(*at) || later.has_seen(*at) && *at <= last)
                .collect();
            prop_assert_eq!(seen(&stop), expected);
            prop_assert!(stop.includes(&earlier) && later.includes(&stop));
            prop_assert!(stop >= earlier && later >= stop);
            prop_assert_eq!(earlier.on_the_way(&later, u64::MAX), later);
        }

        #[test]
        fn a_cursor_of_another_era_includes_nothing_of_this(one in cursors(), era in 1_u32..9) {
            let later = one.clone().in_era(era);
            prop_assert!(!later.includes(&one) && !one.includes(&later));
        }

        #[test]
        fn a_cursor_reads_back_as_it_was_written(cursor in cursors(), era in 0_u32..9) {
            let cursor = cursor.in_era(era);
            let written = postcard::to_stdvec(&cursor).unwrap();
            prop_assert_eq!(postcard::from_bytes::<FeedCursor>(&written).unwrap(), cursor);
        }
    }
}
