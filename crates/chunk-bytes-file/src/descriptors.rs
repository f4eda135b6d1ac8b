//! The open files, as many as configured.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_core::GenerationId;
use chunk_ports::SegmentKey;
use foldhash::fast::RandomState;

use crate::segment::Segment;

/// The open files of a store, least recently used first to go.
///
/// A file that is in use does not go, so that there may be more for a moment: as many as there are calls
/// under way. A file with unflushed bytes is flushed before it goes, because the kernel may forget a
/// failed write once nobody has the file open.
#[derive(Debug)]
pub(crate) struct Descriptors {
    most: NonZeroUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Looked at for every piece that is sent; nobody from outside chooses its keys.
    open: HashMap<SegmentKey, Held, RandomState>,
    /// Counts uses, as a clock for the order of use.
    uses: u64,
    /// Counts removals: a file that was opened before a removal may be the one removed.
    removals: u64,
}

#[derive(Debug)]
struct Held {
    segment: Arc<Segment>,
    used: u64,
}

/// The state of removals at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemovalMark(u64);

/// Whether a further file may be opened.
pub(crate) enum Room {
    /// There is room, or all files are in use.
    Free,
    /// This file must be flushed first, then ask again.
    AfterFlushing(Arc<Segment>),
}

impl Descriptors {
    pub(crate) fn new(most: NonZeroUsize) -> Self {
        Self {
            most,
            table: Mutex::default(),
        }
    }

    /// The open file, if it is open.
    pub(crate) fn find(&self, key: SegmentKey) -> Option<Arc<Segment>> {
        self.lock().find(key)
    }

    /// The mark to give to [`insert`](Self::insert) with a file that is opened from now on.
    pub(crate) fn mark(&self) -> RemovalMark {
        RemovalMark(self.lock().removals)
    }

    /// Keeps a file that was opened after `mark` was taken. Where another call opened the same one
    /// meanwhile, that one is given; `None` where something was removed meanwhile, so that the name must
    /// be looked up again.
    pub(crate) fn insert(&self, segment: Segment, mark: RemovalMark) -> Option<Arc<Segment>> {
        let mut table = self.lock();
        if table.removals != mark.0 {
            return None;
        }
        if let Some(other) = table.find(segment.key) {
            return Some(other);
        }
        table.uses += 1;
        let used = table.uses;
        let segment = Arc::new(segment);
        let held = Held {
            segment: Arc::clone(&segment),
            used,
        };
        table.open.insert(segment.key, held);
        Some(segment)
    }

    /// Closes files until there is room for one more.
    pub(crate) fn make_room(&self) -> Room {
        let mut closed = Vec::new();
        let room = loop {
            let mut table = self.lock();
            if table.open.len() < self.most.get() {
                break Room::Free;
            }
            // Handles to write with are made under the lock alone, so that a count of one means that nobody has one. A
            // window that comes to send just then keeps the file open until it has.
            let idle = table
                .open
                .values()
                .filter(|held| Arc::strong_count(&held.segment) == 1)
                .min_by_key(|held| (held.segment.has_unflushed(), held.used));
            match idle {
                None => break Room::Free,
                Some(held) if held.segment.has_unflushed() => {
                    break Room::AfterFlushing(Arc::clone(&held.segment));
                }
                Some(held) => {
                    let key = held.segment.key;
                    closed.extend(table.open.remove(&key));
                }
            }
        };
        // Closing an unlinked file frees its blocks, which takes a while: not under the lock.
        drop(closed);
        room
    }

    /// Lets go of segments whose files were unlinked.
    pub(crate) fn forget(&self, keys: &[SegmentKey]) {
        let gone: Vec<_> = {
            let mut table = self.lock();
            table.removals += 1;
            keys.iter()
                .filter_map(|key| table.open.remove(key))
                .collect()
        };
        drop(gone);
    }

    /// Lets go of every segment of a generation whose files were unlinked.
    pub(crate) fn forget_generation(&self, generation: GenerationId) {
        let gone: Vec<_> = {
            let mut table = self.lock();
            table.removals += 1;
            table
                .open
                .extract_if(|key, _| key.generation == generation)
                .collect()
        };
        drop(gone);
    }

    /// How many files are open.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&mut self, key: SegmentKey) -> Option<Arc<Segment>> {
        let held = self.open.get_mut(&key)?;
        self.uses += 1;
        held.used = self.uses;
        Some(Arc::clone(&held.segment))
    }
}
