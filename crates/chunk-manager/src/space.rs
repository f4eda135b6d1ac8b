//! Room for bytes: reserved before they are fetched, made by evicting what was used least recently.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_core::scheduler::Input;
use chunk_core::{
    ByteRange, EntryId, EvictionIndex, GenerationId, Place as FilePlace, RangeSet, SpaceLedger,
    Tick,
};
use chunk_ports::{
    CacheEvent, EntryRecord, GenerationRecord, SegmentKey, SegmentSummary, StoreWrite,
};
use tokio::sync::Semaphore;

use crate::counters::add;
use crate::error::ManagerError;
use crate::inner::Inner;
use crate::live::Live;
use crate::options::Limits;

/// Something that can be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
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
    const fn entry(self) -> EntryId {
        match self {
            Self::Entry { entry, .. } | Self::Segment { entry, .. } => entry,
        }
    }

    const fn generation(self) -> GenerationId {
        match self {
            Self::Entry { generation, .. } | Self::Segment { generation, .. } => generation,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Space {
    state: Mutex<State>,
    /// One eviction at a time: two would both free what one is short of.
    evicting: Semaphore,
}

#[derive(Debug)]
struct State {
    ledger: SpaceLedger,
    index: EvictionIndex<Item>,
    sizes: BTreeMap<Item, u64>,
    /// Which bytes of a segment are on disk, recorded or not: what is written again is not counted again.
    held: BTreeMap<Item, RangeSet>,
    pinned: BTreeSet<EntryId>,
    free_seen: Option<Tick>,
}

/// Reserved room; what is not used is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Reservation {
    pub(crate) const fn none(inner: Arc<Inner>) -> Self {
        Self { inner, bytes: 0 }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Asks for `bytes` more, evicting where there is no room; `false` where none can be made.
    pub(crate) async fn extend(&mut self, bytes: u64) -> bool {
        let inner = Arc::clone(&self.inner);
        inner.observe_free_space().await;
        for _ in 0..4 {
            let reserved = inner.space.lock().ledger.reserve(bytes);
            match reserved {
                Ok(()) => {
                    self.bytes += bytes;
                    return true;
                }
                Err(shortfall) if shortfall.is_hopeless => return false,
                Err(shortfall) => match inner.make_room(shortfall.missing).await {
                    Ok(freed) if freed > 0 => {}
                    Ok(_) | Err(_) => return false,
                },
            }
        }
        false
    }

    /// The bytes of `range` have been written to a segment.
    pub(crate) fn spend(
        &mut self,
        live: &Live,
        generation: GenerationId,
        segment: u32,
        range: ByteRange,
    ) {
        let now = self.inner.clock.unix_seconds();
        let (place, pinned) = {
            let state = live.lock();
            (
                place_of(
                    segment,
                    state.meta.as_ref().map_or(1, |meta| meta.segment_size),
                    state.total_len(),
                ),
                state.pinned,
            )
        };
        let mut state = self.inner.space.lock();
        let item = Item::Segment {
            entry: live.entry,
            generation,
            segment,
        };
        let held = state.held.entry(item).or_default();
        let bytes = held.insert(range);
        let size = state.sizes.get(&item).copied().unwrap_or(0) + bytes;
        let spent = bytes.min(self.bytes);
        self.bytes -= spent;
        state.ledger.commit(spent);
        state.ledger.adopt(bytes - spent);
        state.insert(item, size, place, now);
        if pinned {
            state.pinned.insert(live.entry);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.inner.space.lock().ledger.release(self.bytes);
        }
    }
}

impl State {
    fn insert(&mut self, item: Item, bytes: u64, place: FilePlace, accessed: i64) {
        self.sizes.insert(item, bytes);
        self.index.insert(item, bytes, place, accessed);
    }

    fn remove(&mut self, item: Item) -> u64 {
        self.index.remove(item);
        self.held.remove(&item);
        self.sizes.remove(&item).unwrap_or(0)
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
            evicting: Semaphore::new(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_limits(&self, limits: &Limits) {
        let mut state = self.lock();
        state.ledger.set_cap(limits.max_size.unwrap_or(u64::MAX));
        state.ledger.set_floor(limits.min_free);
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
            state.insert(
                item,
                current.recorded_bytes,
                FilePlace::Middle,
                record.accessed_unix,
            );
        }
        if record.pinned {
            state.pinned.insert(record.id);
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
        let mut counted = state.remove(Item::Entry {
            entry,
            generation: generation.id,
        });
        let mut present = 0;
        for summary in segments {
            let item = Item::Segment {
                entry,
                generation: generation.id,
                segment: summary.segment,
            };
            let place = place_of(
                summary.segment,
                generation.segment_size,
                generation.representation.total_len,
            );
            counted += state.sizes.get(&item).copied().unwrap_or(0);
            let start = u64::from(summary.segment) * generation.segment_size;
            let end = generation.representation.total_len.unwrap_or(u64::MAX);
            let held = state.held.entry(item).or_default();
            held.extend(summary.blocks.byte_ranges(start, end));
            let size = held.len();
            present += size;
            state.insert(item, size, place, summary.accessed_unix);
        }
        state.ledger.freed(counted.saturating_sub(present));
        state.ledger.adopt(present.saturating_sub(counted));
        if pinned {
            state.pinned.insert(entry);
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

    pub(crate) fn pin(&self, entry: EntryId, pinned: bool) {
        let mut state = self.lock();
        if pinned {
            state.pinned.insert(entry);
        } else {
            state.pinned.remove(&entry);
        }
    }

    /// Bytes of a segment are gone from the byte store.
    pub(crate) fn segment_removed(&self, entry: EntryId, generation: GenerationId, segment: u32) {
        let mut state = self.lock();
        let bytes = state.remove(Item::Segment {
            entry,
            generation,
            segment,
        });
        state.ledger.freed(bytes);
    }

    /// Bytes that were to be removed are still there: they may be evicted another time.
    fn put_back(&self, item: Item, bytes: u64) {
        let mut state = self.lock();
        let size = state.sizes.get(&item).copied().unwrap_or(0) + bytes;
        state.insert(item, size, FilePlace::Middle, 0);
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
        state.ledger.freed(bytes);
        bytes
    }

    pub(crate) fn used(&self) -> u64 {
        self.lock().ledger.used()
    }

    /// How much is to be freed so that cap and floor hold again.
    pub(crate) fn excess(&self) -> u64 {
        self.lock().ledger.excess()
    }
}

impl Inner {
    /// Looks at the free space at most once a second: that is often enough against a link, and cheap.
    pub(crate) async fn observe_free_space(&self) {
        const EVERY: Duration = Duration::from_secs(1);
        let now = self.clock.now();
        {
            let mut state = self.space.lock();
            if state.free_seen.is_some_and(|seen| now.since(seen) < EVERY) {
                return;
            }
            state.free_seen = Some(now);
        }
        if let Ok(Some(free)) = self.bytes.free_space().await {
            self.space.lock().ledger.observe_free(free);
        }
    }

    /// Evicts what is above cap or floor, as far as it may go.
    pub(crate) async fn evict_excess(self: &Arc<Self>) {
        self.observe_free_space().await;
        let excess = self.space.excess();
        if excess > 0
            && let Err(error) = self.make_room(excess).await
        {
            tracing::warn!(%error, "nothing could be evicted");
        }
    }

    /// Evicts until at least `missing` bytes are free or nothing is left to evict; returns how many went.
    pub(crate) async fn make_room(self: &Arc<Self>, missing: u64) -> Result<u64, ManagerError> {
        let Ok(_permit) = self.space.evicting.acquire().await else {
            return Ok(0);
        };
        let mut freed = 0;
        while freed < missing {
            let Some(item) = self.next_victim() else {
                break;
            };
            match item {
                Item::Entry { entry, .. } => self.take_apart(item, entry).await?,
                Item::Segment {
                    entry,
                    generation,
                    segment,
                } => freed += self.evict_segment(entry, generation, segment).await?,
            }
        }
        if freed > 0 {
            add(&self.counters.evicted_bytes, freed);
        }
        Ok(freed)
    }

    /// The segment used least recently that is neither pinned nor being read.
    fn next_victim(&self) -> Option<Item> {
        let window = self.limits().initial_buffer;
        let lives = self.lives();
        let state = self.space.lock();
        state
            .index
            .older_than(i64::MAX)
            .map(|victim| victim.key)
            .filter(|item| !state.pinned.contains(&item.entry()))
            .find(|item| match item {
                Item::Entry { .. } => true,
                Item::Segment { entry, segment, .. } => !lives
                    .iter()
                    .any(|live| live.entry == *entry && is_being_read(live, *segment, window)),
            })
    }

    /// Learns an entry's segments, so that some of them can go and others stay.
    async fn take_apart(&self, item: Item, entry: EntryId) -> Result<(), ManagerError> {
        let record = match self.key_of(entry) {
            Some(key) => self.store.entry(&key).await?,
            None => None,
        };
        let current =
            record.and_then(|record| record.current.map(|current| (current, record.pinned)));
        if let Some((current, pinned)) = current
            && current.id == item.generation()
        {
            let segments = self.store.segments(current.id).await?;
            self.space.opened(entry, &current, &segments, pinned);
        } else {
            let mut state = self.space.lock();
            let bytes = state.remove(item);
            state.ledger.freed(bytes);
        }
        Ok(())
    }

    /// Row first, then bytes: a crash in between leaves an orphan, never a row without bytes.
    async fn evict_segment(
        &self,
        entry: EntryId,
        generation: GenerationId,
        segment: u32,
    ) -> Result<u64, ManagerError> {
        let live = self
            .lives()
            .into_iter()
            .find(|live| live.entry == entry && live.generation_now() == Some(generation));
        let item = Item::Segment {
            entry,
            generation,
            segment,
        };
        // Taken out with the bytes, before a write to the next epoch can be counted, and freed when they
        // are gone from the disk.
        let mut taken_out = None;
        let mut epochs = vec![0];
        if let Some(live) = &live {
            // A write that is under way ends first, or its bytes would stay when the others go.
            let _still = live.writing.write().await;
            let mut forgotten = None;
            {
                let mut state = live.lock();
                let size = state.meta.as_ref().map_or(0, |meta| meta.segment_size);
                let total = state.total_len().unwrap_or(u64::MAX);
                let start = u64::from(segment).saturating_mul(size);
                if let Some(range) =
                    ByteRange::try_new(start, start.saturating_add(size).min(total))
                {
                    state.forget(range);
                    forgotten = Some(range);
                }
                epochs = state.segments.entry(segment).or_default().begin_epoch();
            }
            taken_out = Some(self.space.lock().remove(item));
            if let Some(range) = forgotten {
                self.tell(Input::Forgotten {
                    source: live.source,
                    range,
                });
            }
        } else if let Some(row) = self.store.segment(generation, segment).await? {
            epochs = vec![row.epoch];
        }
        {
            let _alone = self.recording.lock().await;
            let remove = StoreWrite::RemoveSegments {
                generation,
                segments: vec![segment],
            };
            if let Err(error) = self.commit_now(vec![remove]).await {
                // The row must still go; its bytes stay until then.
                if let Some(live) = &live {
                    live.shrink(segment, epochs);
                    self.dirty.mark(live);
                }
                if let Some(bytes) = taken_out {
                    self.space.put_back(item, bytes);
                }
                return Err(error.into());
            }
        }
        let keys = epochs
            .into_iter()
            .map(|epoch| SegmentKey {
                generation,
                segment,
                epoch,
            })
            .collect();
        self.bytes.remove(keys).await?;
        let bytes = {
            let mut state = self.space.lock();
            let bytes = taken_out.unwrap_or_else(|| state.remove(item));
            state.ledger.freed(bytes);
            bytes
        };
        if let Some(key) = self.key_of(entry) {
            self.events.publish(CacheEvent::evicted(key, bytes));
        }
        Ok(bytes)
    }
}

/// Whether a reader stands in the segment or will come to it within its window.
fn is_being_read(live: &Live, segment: u32, window: u64) -> bool {
    let state = live.lock();
    let size = state.meta.as_ref().map_or(1, |meta| meta.segment_size);
    let start = u64::from(segment).saturating_mul(size);
    let Some(range) = ByteRange::try_new(start, start.saturating_add(size)) else {
        return false;
    };
    state.positions.values().any(|&position| {
        ByteRange::with_len(position, window.max(1)).is_ok_and(|needed| needed.overlaps(range))
    })
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
