//! Making received bytes survive a restart: flush, then one commit for everything that is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_core::scheduler::SourceId;
use chunk_core::{ByteRange, CacheKey, EntryId, RangeSet};
use chunk_ports::{CacheEvent, ChunkStoreError, SegmentKey, StoreWrite};
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::counters::add;
use crate::inner::Inner;
use crate::integrity::BlockDigest;
use crate::live::{Generation, Live};
use crate::mending::abandon_segment;
use crate::segment::Place;
use crate::timeline::Happening;

/// How many segments are flushed at once.
const FLUSHES: usize = 8;
/// How long to wait after a commit failed.
const RETRY: Duration = Duration::from_secs(1);

/// How often an order is given to an index that is unavailable.
const ATTEMPTS: usize = 3;

/// What the index is to be told next.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    marks: Mutex<Marks>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    lives: BTreeMap<SourceId, Arc<Live>>,
    /// Those whose rows are being written now.
    busy: Vec<Arc<Live>>,
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

    /// Whether rows of an earlier session of `key` are still to be written.
    pub(crate) fn concerns(&self, key: &CacheKey) -> bool {
        let marks = self.lock();
        marks
            .lives
            .values()
            .chain(&marks.busy)
            .any(|live| *live.key == *key && !live.lock().is_given_up())
    }

    /// Those of which something is still to be recorded, or is being recorded.
    pub(crate) fn lives(&self) -> Vec<Arc<Live>> {
        let marks = self.lock();
        marks.lives.values().chain(&marks.busy).cloned().collect()
    }

    /// Ends the recorder's wait, so that it sees that it is to end.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    fn take(&self) -> Marks {
        let mut marks = self.lock();
        let taken = std::mem::take(&mut *marks);
        marks.busy = taken.lives.values().cloned().collect();
        taken
    }

    fn done(&self) {
        self.lock().busy.clear();
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

impl Ready {
    /// Whether the segment has been evicted, or given up, since it was collected.
    fn is_former(&self) -> bool {
        let state = self.live.lock();
        let now = state.segments.get(&self.place.segment);
        now.is_none_or(|now| now.epoch != self.epoch)
    }
}

/// Writes that stand or fall together where the index does not take all: those of one representation.
#[derive(Default)]
struct Group {
    live: Option<Arc<Live>>,
    segments: Vec<Ready>,
    /// Whether the index learns with them how long the file is.
    sets_length: bool,
    /// The bytes that these writes record.
    done: RangeSet,
    /// Entries whose rows in the durable queue are among the writes.
    jobs: BTreeSet<EntryId>,
    writes: Vec<StoreWrite>,
}

impl Group {
    fn is_of(&self, entry: EntryId) -> bool {
        self.live.as_ref().is_some_and(|live| live.entry == entry)
    }

    fn add_rows(&mut self) {
        if let Some(live) = &self.live
            && live.lock().is_given_up()
        {
            // It was removed while its bytes were made durable.
            self.writes.clear();
            self.segments.clear();
        }
        for segment in &mut self.segments {
            let Some(write) = row(segment) else { continue };
            self.writes.push(write);
            let place = segment.place;
            self.done.extend(
                segment
                    .blocks
                    .iter()
                    .filter_map(|&block| place.block(block)),
            );
        }
    }
}

impl Inner {
    /// Records in groups for as long as the manager lives.
    pub(crate) async fn keep_recording(self: Arc<Self>) {
        loop {
            self.dirty.changed.notified().await;
            if self.is_closed.load(Ordering::Acquire) {
                // Whoever closed records what is left.
                return;
            }
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
        let _turn = self.recording.lock().await;
        let marks = self.dirty.take();
        let mut groups = Vec::new();
        for live in marks.lives.values() {
            groups.push(self.collect(live).await);
        }
        let mut segments: Vec<&mut Ready> = groups
            .iter_mut()
            .flat_map(|group| &mut group.segments)
            .collect();
        for some in segments.chunks_mut(FLUSHES) {
            join_all(some.iter_mut().map(|segment| self.flush(segment))).await;
        }
        let _alone = self.rows.lock().await;
        let mut entries = marks.jobs;
        for group in &mut groups {
            group.segments.retain(|segment| segment.is_good);
            group.add_rows();
            if let Some(live) = &group.live {
                // What was asked for to the end, wherever that is, ends there.
                let total_len = live.lock().total_len();
                if self.jobs().settle(live.entry, &RangeSet::new(), total_len) {
                    entries.insert(live.entry);
                }
            }
            if !group.done.is_empty()
                && let Some(live) = &group.live
                && self.jobs().has(live.entry)
            {
                entries.insert(live.entry);
            }
        }
        for entry in entries {
            // An entry that the index never heard of has no rows, and none that is gone.
            if Self::is_volatile(entry) || self.keys.of(entry).is_none() {
                continue;
            }
            // With the bytes that it waited for, so that a job ends in the transaction that records them.
            let with_bytes = groups.iter().position(|group| group.is_of(entry));
            let at = with_bytes.unwrap_or_else(|| {
                groups.push(Group::default());
                groups.len() - 1
            });
            let Some(group) = groups.get_mut(at) else {
                continue;
            };
            group.jobs.insert(entry);
            let jobs = self.jobs().rows_without(entry, &group.done);
            group.writes.push(StoreWrite::ReplaceJobs { entry, jobs });
        }
        groups.retain(|group| !group.writes.is_empty());
        let is_taken = self.commit(groups).await;
        self.dirty.done();
        is_taken
    }

    /// Commits all groups in one transaction, if the index takes them.
    async fn commit(self: &Arc<Self>, groups: Vec<Group>) -> bool {
        if groups.is_empty() {
            return true;
        }
        let all = groups.iter().flat_map(|group| group.writes.iter().cloned());
        let error = match self.store.commit(all.collect()).await {
            Ok(()) => {
                add(&self.counters.commits, 1);
                for group in groups {
                    self.committed(group);
                }
                return true;
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "the index did not take a commit; it is tried again");
        self.counters.store_failing.store(true, Ordering::Relaxed);
        let is_about_the_rows = matches!(
            error,
            ChunkStoreError::Missing { .. } | ChunkStoreError::Refused { .. }
        );
        if !is_about_the_rows {
            for group in &groups {
                self.mark_again(group);
            }
            return error.is_retryable();
        }
        // One row that the index will never take must not keep all others from it.
        for mut group in groups {
            match self.store.commit(std::mem::take(&mut group.writes)).await {
                Ok(()) => {
                    add(&self.counters.commits, 1);
                    self.committed(group);
                }
                Err(ChunkStoreError::Missing { .. } | ChunkStoreError::Refused { .. }) => {
                    if let Some(live) = &group.live {
                        tracing::warn!(key = %live.key, "the index does not know the file any more; nothing more of it is recorded");
                        live.lock().is_removed = true;
                        for &entry in &group.jobs {
                            self.dirty.mark_jobs(entry);
                        }
                    }
                }
                Err(_) => self.mark_again(&group),
            }
        }
        true
    }

    /// Commits what somebody waits for. Where the outcome is unknown it is repeated a few times: every
    /// write is idempotent, and half an order is worse than a late one.
    pub(crate) async fn commit_now(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        for _ in 1..ATTEMPTS {
            match self.store.commit(writes.clone()).await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the index did not take a commit; it is tried again");
                }
                outcome => return outcome,
            }
            self.clock.sleep_until(self.clock.now() + RETRY / 10).await;
        }
        self.store.commit(writes).await
    }

    fn mark_again(&self, group: &Group) {
        if let Some(live) = &group.live {
            // The row may be in the index or not, so it is written anew whatever becomes of its blocks.
            for segment in &group.segments {
                live.shrink(segment.place.segment, Vec::new());
            }
            self.dirty.mark(live);
        }
        for &entry in &group.jobs {
            self.dirty.mark_jobs(entry);
        }
    }

    fn committed(self: &Arc<Self>, group: Group) {
        if let Some(live) = &group.live {
            // What was forgotten during the commit is not stored any more, and still a job.
            let done: Vec<ByteRange> = {
                let mut state = live.lock();
                if group.sets_length {
                    state.is_length_new = false;
                }
                let kept = |range| state.stored.overlapping(range).collect::<Vec<_>>();
                group.done.iter().flat_map(kept).collect()
            };
            for &range in &done {
                self.jobs().serve(live.entry, range);
            }
            if done.iter().map(|range| range.len()).sum::<u64>() < group.done.len() {
                self.dirty.mark_jobs(live.entry);
            }
            if !done.is_empty() && !self.jobs().has(live.entry) {
                self.space.change();
            }
            let mut former = Vec::new();
            for segment in &group.segments {
                former.extend(settle(segment));
            }
            self.remove_former(live, former);
            self.note_recorded(live, &done);
        }
    }

    /// Removes bytes of epochs that no row names any more. What stays after an error goes with its
    /// generation.
    fn remove_former(self: &Arc<Self>, live: &Arc<Live>, keys: Vec<SegmentKey>) {
        if !keys.is_empty() {
            let (inner, live) = (Arc::clone(self), Arc::clone(live));
            tokio::spawn(async move {
                // A write that began before the epoch did ends first, or it would bring the file back.
                let _still = live.writing.write().await;
                match inner.bytes.remove(keys.clone()).await {
                    Ok(()) => {
                        inner.space.removed(live.entry, &keys);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "bytes that are not trusted could not be removed");
                    }
                }
            });
        }
    }

    /// What of one representation is ready to be recorded.
    async fn collect(self: &Arc<Self>, live: &Arc<Live>) -> Group {
        let mut group = Group {
            live: Some(Arc::clone(live)),
            ..Group::default()
        };
        let generation = match *live.generation.borrow() {
            Generation::Indexed(id) => id,
            Generation::Pending | Generation::Unindexed => return group,
        };
        // An older row must not replace those of the session that has followed.
        if self
            .live_now(&live.key)
            .is_some_and(|now| !Arc::ptr_eq(&now, live))
        {
            return group;
        }
        let mut unloaded = Vec::new();
        {
            let mut state = live.lock();
            // Of what the origin has replaced, nothing is recorded any more: its rows and bytes may be going.
            if state.is_given_up() {
                return group;
            }
            if let Some(total_len) = state.total_len().filter(|_| state.is_length_new) {
                group.sets_length = true;
                group.writes.push(StoreWrite::SetLength {
                    generation,
                    total_len,
                });
            }
            let touched = std::mem::take(&mut state.touched);
            if !touched.is_empty() {
                group.writes.push(StoreWrite::Touch {
                    entry: live.entry,
                    generation,
                    segments: touched.into_keys().collect(),
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
        let Some(meta) = &state.meta else {
            return group;
        };
        for (&number, segment) in &state.segments {
            if segment.is_dirty() && !segment.is_unloaded {
                group.segments.push(Ready {
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
        drop(state);
        group
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
            segment.is_good = false;
            if segment.is_former() {
                return;
            }
            tracing::warn!(key = %segment.live.key, %error, "bytes could not be made durable");
            self.counters.store_failing.store(true, Ordering::Relaxed);
            // Whatever the error: what a failed flush left undone, no later one of the same file makes good.
            abandon_segment(self, &segment.live, segment.place.segment);
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
                let now = self.clock.now();
                let what = Happening::Recorded { range };
                self.timeline.note(now, &live.key, range, what);
                let kept: Vec<ByteRange> = state.stored.overlapping(range).collect();
                state.recorded.extend(kept);
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
fn row(segment: &mut Ready) -> Option<StoreWrite> {
    let mut state = segment.live.lock();
    let accessed_unix = state.accessed_unix;
    let found = state.segments.get_mut(&segment.place.segment)?;
    if found.epoch != segment.epoch {
        segment.blocks.clear();
        return None;
    }
    // From here on a block that is forgotten makes another row.
    found.is_shrunk = false;
    segment
        .blocks
        .retain(|block| found.pending.contains(block) && found.checksums.contains_key(block));
    Some(
        match found.row(segment.place, &segment.blocks, accessed_unix) {
            Some(record) => StoreWrite::RecordSegment(record),
            None => StoreWrite::RemoveSegments {
                generation: segment.place.generation,
                segments: vec![segment.place.segment],
            },
        },
    )
}

/// The index has the segment's row now; returns what bytes no row names any more.
fn settle(segment: &Ready) -> Vec<SegmentKey> {
    let mut state = segment.live.lock();
    let Some(found) = state.segments.get_mut(&segment.place.segment) else {
        return Vec::new();
    };
    if found.epoch != segment.epoch {
        return Vec::new();
    }
    for &block in &segment.blocks {
        // A block that was forgotten meanwhile is no longer pending; it must leave the row again.
        match usize::try_from(block) {
            Ok(index) if found.pending.remove(&block) => found.blocks.insert(index),
            _ => found.is_shrunk = true,
        }
    }
    let former = std::mem::take(&mut found.former);
    drop(state);
    let (generation, number) = (segment.place.generation, segment.place.segment);
    former
        .into_iter()
        .map(|epoch| SegmentKey {
            generation,
            segment: number,
            epoch,
        })
        .collect()
}
