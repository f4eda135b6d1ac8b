//! Which bytes can be read: changed under the state's lock, looked at by many at once.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use chunk_core::{ByteRange, RangeSet};

use super::whole::WholeBlocks;

/// Everything that can be read, as the state has it. Each change goes to [`Glance`] as well.
#[derive(Debug)]
pub(crate) struct Readable {
    set: RangeSet,
    shared: Arc<Shared>,
}

/// The same for those who only ask whether bytes are there: they do not wait for each other, nor for whoever
/// holds the state's lock.
#[derive(Debug)]
pub(crate) struct Glance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What answers most that are told yes, without a lock: all of it is in `set` as well.
    whole: WholeBlocks,
    set: RwLock<RangeSet>,
}

impl Readable {
    /// Nothing, and the way to look at it.
    pub(crate) fn new() -> (Self, Glance) {
        let shared = Arc::new(Shared {
            whole: WholeBlocks::new(),
            set: RwLock::new(RangeSet::new()),
        });
        let glance = Glance(Arc::clone(&shared));
        let set = RangeSet::new();
        (Self { set, shared }, glance)
    }

    /// All of it, as it is now.
    pub(crate) fn to_set(&self) -> RangeSet {
        self.set.clone()
    }

    /// As [`RangeSet::insert`].
    pub(crate) fn insert(&mut self, range: ByteRange) -> u64 {
        let added = self.set.insert(range);
        if added > 0 {
            self.share(|shared| shared.insert(range));
            self.shared.whole.note(range, &self.set);
        }
        added
    }

    /// As [`RangeSet::remove`].
    pub(crate) fn remove(&mut self, range: ByteRange) -> u64 {
        let removed = self.set.remove(range);
        if removed > 0 {
            self.shared.whole.forget(range);
            self.share(|shared| shared.remove(range));
        }
        removed
    }

    fn share(&self, change: impl FnOnce(&mut RangeSet) -> u64) {
        let set = self.shared.set.write();
        change(&mut set.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Deref for Readable {
    type Target = RangeSet;

    fn deref(&self) -> &RangeSet {
        &self.set
    }
}

impl Glance {
    /// Whether every byte of `range` can be read now.
    pub(crate) fn contains_range(&self, range: ByteRange) -> bool {
        self.0.whole.hold(range)
            || self
                .0
                .set
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains_range(range)
    }
}

#[cfg(test)]
mod tests {
    use chunk_core::BLOCK_SIZE;
    use proptest::prelude::*;

    use super::*;

    /// Four to a block.
    const UNIT: u64 = BLOCK_SIZE / 4;

    proptest! {
        /// Whatever is added and taken away, both know of the same bytes, and whole blocks are looked up without a lock.
        #[test]
        fn a_glance_sees_what_the_state_has(
            changes in prop::collection::vec((any::<bool>(), 0_u64..64, 1_u64..24), 0..48),
            // Around the end of the first words and of the first level.
            base in prop::sample::select(vec![0, 60 * BLOCK_SIZE, 1016 * BLOCK_SIZE]),
        ) {
            let (mut readable, glance) = Readable::new();
            for (is_added, start, len) in changes {
                let range = ByteRange::with_len(base + start * UNIT, len * UNIT).expect("bytes");
                if is_added {
                    readable.insert(range);
                } else {
                    readable.remove(range);
                }
                prop_assert_eq!(&*readable, &*glance.0.set.read().expect("nobody panics"));
                for at in 0..88 {
                    for units in [1, 4, 9] {
                        let some = ByteRange::with_len(base + at * UNIT, units * UNIT);
                        let some = some.expect("bytes");
                        let is_there = readable.contains_range(some);
                        prop_assert_eq!(glance.contains_range(some), is_there);
                        if units == 4 && at % 4 == 0 {
                            prop_assert_eq!(glance.0.whole.hold(some), is_there);
                        }
                    }
                }
            }
        }
    }
}
