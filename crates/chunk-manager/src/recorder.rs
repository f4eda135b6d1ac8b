//! Making received bytes survive a restart: flush, then one commit for everything that is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_core::scheduler::{Input, SourceId};
use chunk_core::{ByteRange, EntryId};
use chunk_ports::{ByteStoreError, CacheEvent, SegmentKey, StoreWrite};
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::counters::add;
use crate::inner::Inner;
use crate::integrity::BlockDigest;
use crate::live::{Generation, Live};
use crate::segment::Place;

/// How many segments are flushed at once.
const FLUSHES: usize = 8;
/// How long to wait after a commit failed.
const RETRY: Duration = Duration::from_secs(1);

/// What the index is to be told next.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    marks: Mutex<Marks>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    lives: BTreeMap<SourceId, Arc<Live>>,
    /// Entries whose rows in the durable queue have changed.
    jobs: BTreeSet<EntryId>,
}

impl Dirty {
    pub(crate) fn mark(&self, live: &Arc<Live>) {
        self.lock().lives.insert(live.source, Arc::clone(live));
        self.changed.notify_one();
    }

    pub(crate) fn mark_jobs(&self, entry: EntryId) {
        self.lock().jobs.insert(entry);
        self.changed.notify_one();
    }

    /// Takes out what is to be told of one entry, because it is going away.
    pub(crate) fn forget(&self, live: &Live) {
        let mut marks = self.lock();
        marks.lives.remove(&live.source);
        marks.jobs.remove(&live.entry);
    }

    fn take(&self) -> Marks {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks of one segment on their way into the index.
struct Ready {
    live: Arc<Live>,
    place: Place,
    epoch: u32,
    /// Blocks that are new; the row may also have lost some.
    blocks: BTreeSet<u64>,
    is_good: bool,
}

impl Inner {
    /// Records in groups for as long as the manager lives.
    pub(crate) async fn keep_recording(self: Arc<Self>) {
        loop {
            self.dirty.changed.notified().await;
            // The group: everything that arrives within the interval shares flushes and a transaction.
            let interval = self.limits().commit_interval;
            self.clock.sleep_until(self.clock.now() + interval).await;
            if !self.record().await {
                self.clock.sleep_until(self.clock.now() + RETRY).await;
            }
        }
    }

    /// Records what is ready now; returns whether the index took it.
    pub(crate) async fn record(self: &Arc<Self>) -> bool {
        let marks = self.dirty.take();
        let mut ready = Vec::new();
        let mut writes = Vec::new();
        for live in marks.lives.values() {
            self.collect(live, &mut ready, &mut writes).await;
        }
        for group in ready.chunks_mut(FLUSHES) {
            join_all(group.iter_mut().map(|segment| self.flush(segment))).await;
        }
        let mut recorded: Vec<(Arc<Live>, Vec<ByteRange>)> = Vec::new();
        let mut jobs = marks.jobs;
        for segment in ready.iter().filter(|segment| segment.is_good) {
            let ranges: Vec<ByteRange> = segment
                .blocks
                .iter()
                .filter_map(|&block| segment.place.block(block))
                .collect();
            for &range in &ranges {
                if self.jobs().remove(segment.live.entry, range) {
                    jobs.insert(segment.live.entry);
                }
            }
            writes.extend(row(segment));
            recorded.push((Arc::clone(&segment.live), ranges));
        }
        for &entry in &jobs {
            // An entry that the index never heard of has no rows.
            if entry.get() <= i64::MAX as u64 {
                writes.push(StoreWrite::ReplaceJobs {
                    entry,
                    jobs: self.jobs().rows(entry),
                });
            }
        }
        if writes.is_empty() {
            return true;
        }
        match self.store.commit(writes).await {
            Ok(()) => {
                add(&self.counters.commits, 1);
                for segment in ready.iter().filter(|segment| segment.is_good) {
                    settle(segment);
                }
                for (live, ranges) in recorded {
                    self.note_recorded(&live, &ranges);
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the index did not take a commit; it is tried again");
                self.counters.store_failing.store(true, Ordering::Relaxed);
                for live in marks.lives.values() {
                    self.dirty.mark(live);
                }
                for entry in jobs {
                    self.dirty.mark_jobs(entry);
                }
                error.is_retryable()
            }
        }
    }

    /// What of one representation is ready to be recorded.
    async fn collect(
        self: &Arc<Self>,
        live: &Arc<Live>,
        ready: &mut Vec<Ready>,
        writes: &mut Vec<StoreWrite>,
    ) {
        let generation = match *live.generation.borrow() {
            Generation::Indexed(id) => id,
            Generation::Pending | Generation::Unindexed => return,
        };
        let mut unloaded = Vec::new();
        {
            let mut state = live.lock();
            let touched = std::mem::take(&mut state.touched);
            if !touched.is_empty() {
                writes.push(StoreWrite::Touch {
                    entry: live.entry,
                    generation,
                    segments: touched.into_iter().collect(),
                    at_unix: state.accessed_unix,
                });
            }
            for (&number, segment) in &state.segments {
                if segment.is_dirty() && segment.is_unloaded {
                    unloaded.push(number);
                }
            }
        }
        for number in unloaded {
            match self.store.segment(generation, number).await {
                Ok(row) => {
                    let mut state = live.lock();
                    if let Some(segment) = state.segments.get_mut(&number) {
                        match row {
                            Some(row) => segment.load(&row),
                            None => segment.is_unloaded = false,
                        }
                    }
                }
                Err(_) => self.dirty.mark(live),
            }
        }
        let state = live.lock();
        let Some(meta) = &state.meta else { return };
        for (&number, segment) in &state.segments {
            if segment.is_dirty() && !segment.is_unloaded {
                ready.push(Ready {
                    live: Arc::clone(live),
                    place: Place {
                        entry: live.entry,
                        generation,
                        segment: number,
                        segment_size: meta.segment_size,
                        total_len: meta.representation.total_len,
                    },
                    epoch: segment.epoch,
                    blocks: segment.pending.clone(),
                    is_good: true,
                });
            }
        }
    }

    /// Makes one segment's bytes durable and sees to it that every new block has a checksum.
    async fn flush(self: &Arc<Self>, segment: &mut Ready) {
        if segment.blocks.is_empty() {
            return;
        }
        let key = SegmentKey {
            generation: segment.place.generation,
            segment: segment.place.segment,
            epoch: segment.epoch,
        };
        if let Err(error) = self.bytes.flush(key).await {
            tracing::warn!(key = %segment.live.key, %error, "bytes could not be made durable");
            segment.is_good = false;
            self.counters.store_failing.store(true, Ordering::Relaxed);
            if let ByteStoreError::Corrupt(_) = error {
                abandon_segment(self, &segment.live, segment.place.segment);
            } else {
                self.dirty.mark(&segment.live);
            }
            return;
        }
        let unknown: Vec<u64> = {
            let state = segment.live.lock();
            let known = state.segments.get(&segment.place.segment);
            segment
                .blocks
                .iter()
                .copied()
                .filter(|block| known.is_none_or(|known| !known.checksums.contains_key(block)))
                .collect()
        };
        for block in unknown {
            let crc = self.digest_stored(segment, key, block).await;
            let mut state = segment.live.lock();
            match (crc, state.segments.get_mut(&segment.place.segment)) {
                (Some(crc), Some(found)) if found.epoch == segment.epoch => {
                    found.checksums.insert(block, crc);
                }
                _ => {
                    segment.blocks.remove(&block);
                }
            }
        }
    }

    /// The checksum of a block that came in pieces: read back, because no run saw it whole.
    async fn digest_stored(&self, segment: &Ready, key: SegmentKey, block: u64) -> Option<u32> {
        let range = segment.place.block(block)?;
        let start = segment.place.range()?.start();
        let len = usize::try_from(range.len()).ok()?;
        let bytes = self
            .bytes
            .read(key, range.start() - start, len)
            .await
            .ok()??;
        (bytes.len() == len).then(|| {
            BlockDigest::of(
                segment.place.entry,
                segment.place.generation,
                segment.place.file_block(block),
                &bytes,
            )
        })
    }

    fn note_recorded(&self, live: &Arc<Live>, ranges: &[ByteRange]) {
        let is_complete = {
            let mut state = live.lock();
            let before = state.recorded.len();
            for &range in ranges {
                if state.stored.contains_range(range) {
                    state.recorded.insert(range);
                }
            }
            state.recorded.len() > before && Some(state.recorded.len()) == state.total_len()
        };
        if is_complete {
            self.events
                .publish(CacheEvent::entry_completed(Arc::clone(&live.key)));
        }
    }
}

/// The change to a segment's row.
fn row(segment: &Ready) -> Option<StoreWrite> {
    let state = segment.live.lock();
    let found = state.segments.get(&segment.place.segment)?;
    if found.epoch != segment.epoch {
        return None;
    }
    Some(
        match found.row(segment.place, &segment.blocks, state.accessed_unix) {
            Some(record) => StoreWrite::RecordSegment(record),
            None => StoreWrite::RemoveSegments {
                generation: segment.place.generation,
                segments: vec![segment.place.segment],
            },
        },
    )
}

/// The index has the segment's row now.
fn settle(segment: &Ready) {
    let mut state = segment.live.lock();
    let Some(found) = state.segments.get_mut(&segment.place.segment) else {
        return;
    };
    if found.epoch != segment.epoch {
        return;
    }
    for &block in &segment.blocks {
        // A block that was forgotten meanwhile is no longer pending; it must leave the row again.
        if found.pending.remove(&block)
            && let Ok(index) = usize::try_from(block)
        {
            found.blocks.insert(index);
        }
    }
    let is_still_shrunk = segment
        .blocks
        .iter()
        .any(|&block| usize::try_from(block).is_ok_and(|index| !found.blocks.contains(index)));
    found.is_shrunk = is_still_shrunk;
}

/// A segment's file can no longer be trusted: everything in it is forgotten, and what is written from now on goes
/// to a new epoch.
pub(crate) fn abandon_segment(inner: &Arc<Inner>, live: &Arc<Live>, segment: u32) {
    let range = {
        let mut state = live.lock();
        let Some(meta) = &state.meta else { return };
        let place = Place {
            entry: live.entry,
            generation: live
                .generation_now()
                .unwrap_or(chunk_core::GenerationId::new(0)),
            segment,
            segment_size: meta.segment_size,
            total_len: meta.representation.total_len,
        };
        let Some(range) = place.range() else { return };
        // What is in memory stays readable: it did not come from the file.
        let in_memory: Vec<ByteRange> = state
            .tail
            .unstored()
            .filter_map(|piece| piece.intersection(range))
            .collect();
        state.stored.remove(range);
        state.recorded.remove(range);
        state.trusted.remove(range);
        state.readable.remove(range);
        state.readable.extend(in_memory);
        let found = state.segments.entry(segment).or_default();
        *found = crate::segment::Segment {
            epoch: found.epoch.saturating_add(1),
            is_shrunk: true,
            ..Default::default()
        };
        range
    };
    inner.tell(Input::Forgotten {
        source: live.source,
        range,
    });
    if let Some(generation) = live.generation_now() {
        inner.space.segment_removed(live.entry, generation, segment);
    }
    inner.dirty.mark(live);
}
