//! The books of what is on disk: every byte written counts from its write until its file is removed.
//!
//! Room is reserved before bytes are fetched; `evicting` makes it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_core::{
    ByteRange, EntryId, EvictionIndex, GenerationId, Place as FilePlace, RangeSet, SpaceLedger,
    Tick,
};
use chunk_ports::{EntryRecord, GenerationRecord, SegmentKey, SegmentSummary};
use tokio::sync::{Notify, Semaphore};

use crate::inner::Inner;
use crate::live::Live;
use crate::options::Limits;

/// Something that can be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    /// An entry of which only the sum is known: it is taken apart when its turn comes.
    Entry {
        entry: EntryId,
        generation: GenerationId,
    },
    Segment {
        entry: EntryId,
        generation: GenerationId,
        segment: u32,
    },
}

impl Item {
    const fn of(entry: EntryId, key: SegmentKey) -> Self {
        Self::Segment {
            entry,
            generation: key.generation,
            segment: key.segment,
        }
    }

    pub(crate) const fn entry(self) -> EntryId {
        match self {
            Self::Entry { entry, .. } | Self::Segment { entry, .. } => entry,
        }
    }

    pub(crate) const fn generation(self) -> GenerationId {
        match self {
            Self::Entry { generation, .. } | Self::Segment { generation, .. } => generation,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Space {
    state: Mutex<State>,
    /// One eviction at a time: two would both free what one is short of.
    pub(crate) evicting: Arc<Semaphore>,
    /// Whether somebody has waited for the present one as long as they could.
    pub(crate) is_late: AtomicBool,
    /// Whether room may have come or gone since orders were last weighed.
    has_changed: AtomicBool,
    changed: Notify,
    /// How often it has, what was only reserved and given back apart.
    changes_so_far: AtomicU64,
    weighing: Mutex<()>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ledger: SpaceLedger,
    pub(crate) index: EvictionIndex<Item>,
    /// How many bytes are counted for what can be evicted: of a segment, the sum over its epochs.
    pub(crate) sizes: BTreeMap<Item, u64>,
    /// Which bytes of each file are on disk, recorded or not: what is written again is not counted again, and
    /// what a former epoch holds is counted until its file is gone.
    held: BTreeMap<SegmentKey, RangeSet>,
    pub(crate) pinned: BTreeSet<EntryId>,
    pub(crate) free_seen: Option<Tick>,
}

/// Reserved room; what is not used is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    inner: Arc<Inner>,
    entry: EntryId,
    bytes: u64,
}

impl Reservation {
    /// Of nothing yet, for bytes of `entry`.
    pub(crate) const fn none(inner: Arc<Inner>, entry: EntryId) -> Self {
        Self {
            inner,
            entry,
            bytes: 0,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Asks for `bytes` more, evicting where there is no room; `false` where none can be made, or not with `patience`.
    pub(crate) async fn extend(&mut self, bytes: u64, patience: Option<Duration>) -> bool {
        let inner = Arc::clone(&self.inner);
        inner.observe_free_space().await;
        let begun = inner.clock.now();
        for _ in 0..4 {
            let reserved = inner.space.lock().ledger.reserve(bytes);
            match reserved {
                Ok(()) => {
                    self.bytes += bytes;
                    return true;
                }
                Err(shortfall) if shortfall.is_hopeless => return false,
                Err(_) => {
                    let made = inner.make_room(bytes, Some(self.entry));
                    let made = match patience {
                        None => made.await,
                        Some(patience) => inner.unless_late(begun + patience, made).await,
                    };
                    if !matches!(made, Ok(true)) {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// The bytes of `range` have been written to the file of `key`.
    pub(crate) fn spend(&mut self, live: &Live, key: SegmentKey, range: ByteRange) {
        let now = self.inner.clock.unix_seconds();
        let (place, pinned) = {
            let state = live.lock();
            let size = state.meta.as_ref().map_or(1, |meta| meta.segment_size);
            let place = if is_hot(&state.hot, key.segment, size) {
                FilePlace::Head
            } else {
                place_of(key.segment, size, state.total_len())
            };
            (place, state.pinned)
        };
        let mut state = self.inner.space.lock();
        let bytes = state.held.entry(key).or_default().insert(range);
        let item = Item::of(live.entry, key);
        let spent = bytes.min(self.bytes);
        self.bytes -= spent;
        state.ledger.commit(spent);
        state.ledger.adopt(bytes - spent);
        state.add(item, bytes, place, now);
        if pinned {
            state.pin(live.entry);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.inner.space.lock().ledger.release(self.bytes);
            self.inner.space.look_again();
        }
    }
}

impl State {
    /// So many bytes more are counted for `item`, which may be new.
    fn add(&mut self, item: Item, bytes: u64, place: FilePlace, accessed: i64) {
        let size = match self.sizes.entry(item) {
            Entry::Occupied(known) => {
                let size = known.into_mut();
                *size += bytes;
                *size
            }
            Entry::Vacant(new) => {
                if self.pinned.contains(&item.entry()) {
                    self.index.pin(item);
                }
                *new.insert(bytes)
            }
        };
        self.index.insert(item, size, place, accessed);
    }

    fn remove(&mut self, item: Item) -> u64 {
        self.index.remove(item);
        let Some(bytes) = self.sizes.remove(&item) else {
            return 0;
        };
        if self.pinned.contains(&item.entry()) {
            self.index.unpin(item);
        }
        bytes
    }

    /// What is counted for an entry.
    pub(crate) fn items_of(&self, entry: EntryId) -> impl Iterator<Item = (Item, u64)> + '_ {
        let (first, last) = (GenerationId::new(0), GenerationId::new(u64::MAX));
        let whole = |generation| Item::Entry { entry, generation };
        let part = |generation, segment| Item::Segment {
            entry,
            generation,
            segment,
        };
        self.sizes
            .range(whole(first)..=whole(last))
            .chain(self.sizes.range(part(first, 0)..=part(last, u32::MAX)))
            .map(|(&item, &bytes)| (item, bytes))
    }

    /// Nothing of the entry is evicted from now on: its items are in nobody's way who looks for a victim.
    fn pin(&mut self, entry: EntryId) {
        if self.pinned.insert(entry) {
            let items: Vec<Item> = self.items_of(entry).map(|(item, _)| item).collect();
            for item in items {
                self.index.pin(item);
            }
        }
    }

    fn unpin(&mut self, entry: EntryId) {
        if self.pinned.remove(&entry) {
            let items: Vec<Item> = self.items_of(entry).map(|(item, _)| item).collect();
            for item in items {
                self.index.unpin(item);
            }
        }
    }

    /// The file of `key` is gone; returns how many bytes were counted for it.
    fn remove_file(&mut self, entry: EntryId, key: SegmentKey) -> u64 {
        let bytes = self.held.remove(&key).map_or(0, |held| held.len());
        let item = Item::of(entry, key);
        let left = self
            .sizes
            .get(&item)
            .map_or(0, |size| size.saturating_sub(bytes));
        if left == 0 {
            self.remove(item);
        } else {
            self.sizes.insert(item, left);
            self.index.resize(item, left);
        }
        bytes
    }
}

impl Inner {
    /// A reader has gone from where it stood, which may be evicted now. There may be many thousands of them a second,
    /// and rarely an order that waits for room.
    pub(crate) fn make_way(&self) {
        // Whoever comes with an order after this look weighs it themselves, and the reader has gone before.
        if self.jobs().has_any() {
            self.space.change();
        } else {
            self.space.change_unheard();
        }
    }
}

impl Space {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mut ledger = SpaceLedger::new(limits.max_size.unwrap_or(u64::MAX));
        ledger.set_floor(limits.min_free);
        Self {
            state: Mutex::new(State {
                ledger,
                index: EvictionIndex::new(EvictionIndex::<Item>::DEFAULT_CREDIT_SECONDS),
                sizes: BTreeMap::new(),
                held: BTreeMap::new(),
                pinned: BTreeSet::new(),
                free_seen: None,
            }),
            evicting: Arc::new(Semaphore::new(1)),
            is_late: AtomicBool::new(false),
            has_changed: AtomicBool::new(false),
            changed: Notify::new(),
            changes_so_far: AtomicU64::new(0),
            weighing: Mutex::new(()),
        }
    }

    /// Room may have come or gone, or somebody wants other room than before.
    pub(crate) fn change(&self) {
        self.changes_so_far.fetch_add(1, Ordering::AcqRel);
        self.look_again();
    }

    /// The same where nobody waits for room.
    fn change_unheard(&self) {
        self.changes_so_far.fetch_add(1, Ordering::AcqRel);
        self.has_changed.store(true, Ordering::Release);
    }

    /// Reserved room was given back. An order's own runs do so as well, and then nothing is different.
    fn look_again(&self) {
        self.has_changed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// A number that is another one after each [`Self::change`].
    pub(crate) fn changes_so_far(&self) -> u64 {
        self.changes_so_far.load(Ordering::Acquire)
    }

    /// Waits until it is time to look again.
    pub(crate) async fn changes(&self) {
        self.changed.notified().await;
    }

    /// Whether anything has happened since this was last asked.
    pub(crate) fn take_change(&self) -> bool {
        self.has_changed.swap(false, Ordering::AcqRel)
    }

    /// Held while orders are weighed: an older verdict must not replace a newer one.
    pub(crate) fn weighing(&self) -> MutexGuard<'_, ()> {
        self.weighing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_limits(&self, limits: &Limits) {
        let mut state = self.lock();
        state.ledger.set_cap(limits.max_size.unwrap_or(u64::MAX));
        state.ledger.set_floor(limits.min_free);
        drop(state);
        self.change();
    }

    /// An entry that the index had at the start.
    pub(crate) fn found(&self, record: &EntryRecord) {
        let mut state = self.lock();
        if let Some(current) = &record.current
            && current.recorded_bytes > 0
        {
            let item = Item::Entry {
                entry: record.id,
                generation: current.id,
            };
            state.ledger.adopt(current.recorded_bytes);
            state.add(
                item,
                current.recorded_bytes,
                FilePlace::Middle,
                record.accessed_unix,
            );
        }
        if record.pinned {
            state.pin(record.id);
        }
    }

    /// An entry's segments have become known: they take the place of the entry as a whole.
    pub(crate) fn opened(
        &self,
        entry: EntryId,
        generation: &GenerationRecord,
        segments: &[SegmentSummary],
        pinned: bool,
    ) {
        let mut state = self.lock();
        // Bytes that this process wrote stay counted, also those of blocks that came in part only.
        let counted = state.remove(Item::Entry {
            entry,
            generation: generation.id,
        });
        let mut present = 0;
        for summary in segments {
            let key = SegmentKey {
                generation: generation.id,
                segment: summary.segment,
                epoch: summary.epoch,
            };
            let place = place_of(
                summary.segment,
                generation.segment_size,
                generation.representation.total_len,
            );
            let start = u64::from(summary.segment) * generation.segment_size;
            let end = generation.representation.total_len.unwrap_or(u64::MAX);
            let held = state.held.entry(key).or_default();
            let before = held.len();
            held.extend(summary.blocks.byte_ranges(start, end));
            let grown = held.len() - before;
            present += grown;
            let item = Item::of(entry, key);
            state.add(item, grown, place, summary.accessed_unix);
        }
        state.ledger.freed(counted.saturating_sub(present));
        state.ledger.adopt(present.saturating_sub(counted));
        if pinned {
            state.pin(entry);
        }
    }

    pub(crate) fn touch(&self, entry: EntryId, generation: GenerationId, segment: u32, now: i64) {
        self.lock().index.touch(
            Item::Segment {
                entry,
                generation,
                segment,
            },
            now,
        );
    }

    /// The film's index has been found: what is there of it is kept like a head. Somebody has just opened it.
    pub(crate) fn mark_hot(&self, live: &Live, now: i64) {
        let Some(generation) = live.generation_now() else {
            return;
        };
        let (hot, size) = {
            let found = live.lock();
            let size = found.meta.as_ref().map_or(1, |meta| meta.segment_size);
            (found.hot.clone(), size)
        };
        let mut state = self.lock();
        let items: Vec<(Item, u64)> = state
            .items_of(live.entry)
            .filter(|(item, _)| match *item {
                Item::Segment {
                    generation: of,
                    segment,
                    ..
                } => of == generation && is_hot(&hot, segment, size),
                Item::Entry { .. } => false,
            })
            .collect();
        for (item, bytes) in items {
            state.index.insert(item, bytes, FilePlace::Head, now);
        }
    }

    pub(crate) fn pin(&self, entry: EntryId, pinned: bool) {
        let mut state = self.lock();
        if pinned {
            state.pin(entry);
        } else {
            state.unpin(entry);
        }
        drop(state);
        self.change();
    }

    /// How many bytes are counted for pinned entries other than `entry`.
    pub(crate) fn pinned_besides(&self, entry: EntryId) -> u64 {
        let state = self.lock();
        let others = state.pinned.iter().filter(|pinned| **pinned != entry);
        others
            .flat_map(|&pinned| state.items_of(pinned))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// Files are gone from the byte store; returns how many bytes were counted for them.
    pub(crate) fn removed(&self, entry: EntryId, keys: &[SegmentKey]) -> u64 {
        let mut state = self.lock();
        let bytes = keys.iter().map(|&key| state.remove_file(entry, key)).sum();
        state.ledger.freed(bytes);
        drop(state);
        self.change();
        bytes
    }

    /// The files that hold bytes of a generation.
    pub(crate) fn files(&self, generation: GenerationId) -> Vec<SegmentKey> {
        files_in(&self.lock().held, generation)
    }

    /// The files that hold bytes of one segment, one for each epoch.
    pub(crate) fn files_of(&self, generation: GenerationId, segment: u32) -> Vec<SegmentKey> {
        let of_epoch = |epoch| SegmentKey {
            generation,
            segment,
            epoch,
        };
        self.lock()
            .held
            .range(of_epoch(0)..=of_epoch(u32::MAX))
            .map(|(&key, _)| key)
            .collect()
    }

    /// The generations of an entry of which anything is on disk.
    pub(crate) fn generations(&self, entry: EntryId) -> BTreeSet<GenerationId> {
        self.lock()
            .items_of(entry)
            .map(|(item, _)| item.generation())
            .collect()
    }

    /// Every byte of a generation is gone; returns how many were counted.
    pub(crate) fn generation_removed(&self, generation: GenerationId) -> u64 {
        let mut state = self.lock();
        let items: Vec<Item> = state
            .sizes
            .keys()
            .filter(|item| item.generation() == generation)
            .copied()
            .collect();
        let bytes = items.into_iter().map(|item| state.remove(item)).sum();
        for key in files_in(&state.held, generation) {
            state.held.remove(&key);
        }
        state.ledger.freed(bytes);
        drop(state);
        self.change();
        bytes
    }

    /// The file system's free space has been looked at.
    pub(crate) fn observe_free(&self, free: u64) {
        let mut state = self.lock();
        let before = state.ledger.most();
        state.ledger.observe_free(free);
        let has_grown = state.ledger.most() > before;
        drop(state);
        if has_grown {
            self.change();
        }
    }

    /// How many bytes could be added without evicting any.
    pub(crate) fn unused(&self) -> u64 {
        self.lock().ledger.room()
    }

    /// Whether the disk leaves less than the cap would.
    pub(crate) fn is_bound_by_disk(&self) -> bool {
        let state = self.lock();
        state.ledger.most() < state.ledger.cap()
    }

    pub(crate) fn used(&self) -> u64 {
        self.lock().ledger.used()
    }

    /// How many bytes to evict before there is room for `bytes` more.
    pub(crate) fn missing_for(&self, bytes: u64) -> u64 {
        self.lock().ledger.missing_for(bytes)
    }
}

/// The files of a generation.
fn files_in(held: &BTreeMap<SegmentKey, RangeSet>, generation: GenerationId) -> Vec<SegmentKey> {
    let at = |segment, epoch| SegmentKey {
        generation,
        segment,
        epoch,
    };
    held.range(at(0, 0)..=at(u32::MAX, u32::MAX))
        .map(|(&key, _)| key)
        .collect()
}

/// Whether a segment holds a part of the film's index.
fn is_hot(hot: &[ByteRange], segment: u32, size: u64) -> bool {
    let start = u64::from(segment).saturating_mul(size);
    ByteRange::with_len(start, size).is_ok_and(|range| hot.iter().any(|hot| hot.overlaps(range)))
}

/// Head and tail of a file hold its index and outlive its middle.
fn place_of(segment: u32, segment_size: u64, total_len: Option<u64>) -> FilePlace {
    let last = total_len.map(|len| len.saturating_sub(1) / segment_size.max(1));
    if segment == 0 {
        FilePlace::Head
    } else if last == Some(u64::from(segment)) {
        FilePlace::Tail
    } else {
        FilePlace::Middle
    }
}
