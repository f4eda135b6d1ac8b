//! Which bytes can be read: changed under the state's lock, looked at by many at once.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use chunk_core::{ByteRange, RangeSet};

/// Everything that can be read, as the state has it. Each change goes to [`Glance`] as well.
#[derive(Debug)]
pub(crate) struct Readable {
    set: RangeSet,
    shared: Arc<RwLock<RangeSet>>,
}

/// The same for those who only ask whether bytes are there: they do not wait for each other, nor for whoever
/// holds the state's lock.
#[derive(Debug)]
pub(crate) struct Glance(Arc<RwLock<RangeSet>>);

impl Readable {
    /// Nothing, and the way to look at it.
    pub(crate) fn new() -> (Self, Glance) {
        let shared = Arc::new(RwLock::new(RangeSet::new()));
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
        }
        added
    }

    /// As [`RangeSet::remove`].
    pub(crate) fn remove(&mut self, range: ByteRange) -> u64 {
        let removed = self.set.remove(range);
        if removed > 0 {
            self.share(|shared| shared.remove(range));
        }
        removed
    }

    fn share(&self, change: impl FnOnce(&mut RangeSet) -> u64) {
        change(&mut self.shared.write().unwrap_or_else(PoisonError::into_inner));
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
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_range(range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is added and taken away, both know of the same bytes.
        #[test]
        fn a_glance_sees_what_the_state_has(
            changes in prop::collection::vec((any::<bool>(), 0_u64..64, 1_u64..16), 0..64)
        ) {
            let (mut readable, glance) = Readable::new();
            for (is_added, start, len) in changes {
                let range = ByteRange::with_len(start, len).expect("it has bytes");
                if is_added {
                    readable.insert(range);
                } else {
                    readable.remove(range);
                }
                prop_assert_eq!(&*readable, &*glance.0.read().expect("nobody panics"));
                for at in 0..80 {
                    let byte = ByteRange::with_len(at, 1).expect("a byte");
                    prop_assert_eq!(glance.contains_range(byte), readable.contains(at));
                }
            }
        }
    }
}
