//! What a run has received, on its way to the byte store.
//!
//! What cannot be stored stays in memory as a ring, and is offered again once the store works.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::scheduler::Input;
use chunk_core::{BLOCK_SIZE, ByteRange, GenerationId};
use chunk_ports::{ByteStoreError, SegmentKey};
use tokio::runtime::Handle;

use crate::inner::Inner;
use crate::integrity::RunDigest;
use crate::live::{Caching, Generation, Live};
use crate::orders::Rest;
use crate::space::Reservation;

/// How many bytes are gathered before they are written: one system call each 256 KiB.
pub(crate) const BATCH: u64 = 256 * 1024;
/// How many bytes to gather while the index has not taken the representation.
const PATIENCE: u64 = 4 * BATCH;
/// How long to wait for the index once so many are gathered: a fast origin sends them before one flush of
/// a healthy disk is over. Readers have those bytes already, about a second of film.
pub(crate) const INDEX_WAIT: Duration = Duration::from_millis(500);
/// How long to leave a store alone after it failed.
pub(crate) const STORE_RETRY: Duration = Duration::from_secs(5);

/// Writes what a run has received, and notes checksums on the way.
pub(crate) struct Writer {
    inner: Arc<Inner>,
    live: Arc<Live>,
    reservation: Reservation,
    digest: Option<RunDigest>,
    batch: Vec<(u64, Bytes)>,
    batch_len: u64,
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>, live: Arc<Live>) -> Self {
        Self {
            reservation: Reservation::none(Arc::clone(&inner), live.entry),
            inner,
            live,
            digest: None,
            batch: Vec::new(),
            batch_len: 0,
        }
    }

    /// Sees to it that the next batch has room, on disk and in memory, before it is asked for; `expected` bytes
    /// are to come at most. Returns why the batch could not be kept, where it could not but another time might.
    pub(crate) async fn prepare(&mut self, expected: u64) -> Option<Rest> {
        let refusal = self.make_room(expected).await;
        // What cannot be dropped is being written.
        let make = || self.inner.make_memory(&self.live);
        self.inner.memory.room(make).await;
        refusal
    }

    async fn make_room(&mut self, expected: u64) -> Option<Rest> {
        if !self.is_caching() {
            return (self.live.lock().caching != Caching::Never).then_some(Rest::Store);
        }
        let has = self.reservation.bytes();
        if has >= self.batch_len + BATCH.min(expected) {
            return None;
        }
        // No more than will be needed: near the cap it is missing elsewhere.
        for wanted in [4 * BATCH, BATCH] {
            let lacking = (self.batch_len + wanted.min(expected)).saturating_sub(has);
            if self.reserve(lacking).await {
                return None;
            }
        }
        self.no_room();
        Some(Rest::Room)
    }

    /// Asks for room for so many bytes more. Where somebody plays the file, an eviction is waited for no longer than the
    /// index is: the next bytes are not asked for meanwhile.
    async fn reserve(&mut self, bytes: u64) -> bool {
        let patience = self.live.is_played().then_some(INDEX_WAIT);
        self.reservation.extend(bytes, patience).await
    }

    /// An order waits until there is room; a reader gets its bytes without their being kept.
    fn no_room(&self) {
        let is_ordered = self.inner.jobs().has(self.live.entry);
        if is_ordered {
            let changes = self.inner.space.changes_so_far();
            self.inner.jobs().refuse(self.live.entry, changes);
            self.inner.rest_order(&self.live, Rest::Room);
        }
        if !is_ordered || self.live.is_played() {
            self.pass_through("there is no room");
        }
    }

    /// How many bytes more there is room for, as far as is known at once.
    pub(crate) fn reserved(&self) -> u64 {
        if !self.is_caching() {
            return 0;
        }
        self.reservation.bytes().saturating_sub(self.batch_len)
    }

    pub(crate) fn push(&mut self, at: u64, bytes: Bytes) {
        self.batch_len += bytes.len() as u64;
        self.batch.push((at, bytes));
    }

    /// Writes the batch. What cannot be stored stays in memory only, as a ring.
    ///
    /// What there is of a block that is not whole waits for the rest of it, since more is to come: it could not be
    /// recorded before, and a page cache keeps a file in pieces as large as it was written in, if they begin where
    /// such pieces can.
    ///
    /// While the index has not answered yet, the batch grows, and then waits a moment: no reader waits long
    /// for the index.
    pub(crate) async fn write_blocks(&mut self) {
        if !self.is_caching() {
            return self.write_now().await;
        }
        if *self.live.generation.borrow() == Generation::Pending && self.batch_len < PATIENCE {
            return;
        }
        let rest = self.set_aside();
        self.write_now().await;
        for (at, bytes) in rest {
            self.push(at, bytes);
        }
    }

    /// Takes out of the batch what comes after the last end of a block.
    fn set_aside(&mut self) -> Vec<(u64, Bytes)> {
        let Some((at, last)) = self.batch.last() else {
            return Vec::new();
        };
        let end = at.saturating_add(last.len() as u64);
        let blocks_end = end - end % BLOCK_SIZE;
        let first = self
            .batch
            .partition_point(|(at, bytes)| at.saturating_add(bytes.len() as u64) <= blocks_end);
        let mut rest = self.batch.split_off(first);
        if let Some((at, bytes)) = rest.first_mut()
            && let Some(of_block) = blocks_end.checked_sub(*at).filter(|&len| len > 0)
            && let Ok(len) = usize::try_from(of_block)
        {
            self.batch.push((*at, bytes.split_to(len)));
            *at = blocks_end;
        }
        self.batch_len -= rest
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum::<u64>();
        rest
    }

    /// Writes the batch, however small it is.
    pub(crate) async fn write_now(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.is_caching() && *self.live.generation.borrow() == Generation::Pending {
            let enough = self.inner.clock.now() + INDEX_WAIT;
            tokio::select! {
                biased;
                _ = self.live.generation() => {}
                () = self.inner.clock.sleep_until(enough) => {
                    self.pass_through("the index does not answer");
                }
            }
        }
        self.write().await;
    }

    /// Writes what is left, once the index has answered.
    pub(crate) async fn finish(&mut self) {
        if !self.batch.is_empty() && self.is_caching() {
            self.live.generation().await;
        }
        self.write().await;
    }

    /// Offers to the store what it refused before.
    pub(crate) async fn offer_left(mut self, generation: GenerationId) {
        let left = self.live.lock().tail.take_left();
        if !left.is_empty() {
            self.store(generation, left).await;
        }
    }

    async fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_len = 0;
        let generation = if self.is_caching() {
            self.live.generation_now()
        } else {
            None
        };
        let Some(generation) = generation else {
            if self.is_caching() {
                self.inner.index_again(&self.live);
            }
            self.leave(&batch);
            return;
        };
        let was_failing = matches!(self.live.lock().caching, Caching::Failing { .. });
        if self.store(generation, batch).await && was_failing {
            // The store works again: what it refused is offered once more.
            let left = self.live.lock().tail.take_left();
            self.store(generation, left).await;
        }
    }

    /// Writes `batch`; returns whether all of it could be stored.
    async fn store(&mut self, generation: GenerationId, batch: Vec<(u64, Bytes)>) -> bool {
        // Pieces come in the origin's sizes, so that a batch may reach beyond what was reserved.
        let len: u64 = batch.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let lacking = len.saturating_sub(self.reservation.bytes());
        if lacking > 0 && !self.reserve(lacking).await {
            self.leave(&batch);
            self.no_room();
            return false;
        }
        let (entry, segment_size, total_len) = {
            let state = self.live.lock();
            let Some(meta) = &state.meta else {
                return false;
            };
            (
                self.live.entry,
                meta.segment_size,
                meta.representation.total_len,
            )
        };
        let digest = self
            .digest
            .get_or_insert_with(|| RunDigest::new(entry, generation));
        let mut checksums = Vec::new();
        for (at, bytes) in &batch {
            digest.update(*at, bytes, total_len, |block, crc| {
                checksums.push((block, crc));
            });
        }
        let mut failed = Vec::new();
        for part in split(batch, segment_size) {
            let mut outcome = self.write_part(generation, &part).await;
            // The file was given up under the write, and these bytes are nowhere but in memory: nobody would
            // come back for them.
            while outcome == Written::InVain {
                if !self.reserve(part.range.len()).await {
                    self.no_room();
                    break;
                }
                outcome = self.write_part(generation, &part).await;
            }
            if outcome != Written::Stored {
                failed.push(part.range);
            }
        }
        self.note_checksums(checksums, segment_size);
        self.inner.dirty.mark(&self.live);
        if failed.is_empty() {
            return true;
        }
        for range in failed {
            self.live.lock().tail.leave(range);
        }
        self.inner.trim_rings(&self.live);
        self.inner.memory.may_be_freed();
        false
    }

    /// The batch stays in memory only.
    fn leave(&self, batch: &[(u64, Bytes)]) {
        {
            let mut state = self.live.lock();
            for (at, bytes) in batch {
                if let Ok(range) = ByteRange::with_len(*at, bytes.len() as u64) {
                    state.tail.leave(range);
                }
            }
        }
        self.inner.trim_rings(&self.live);
        self.inner.memory.may_be_freed();
    }

    async fn write_part(&mut self, generation: GenerationId, part: &Part) -> Written {
        let live = Arc::clone(&self.live);
        let _writing = live.writing.read().await;
        if live.lock().is_given_up() {
            return Written::Failed;
        }
        let epoch = live.lock().epoch(part.segment);
        let key = SegmentKey {
            generation,
            segment: part.segment,
            epoch,
        };
        let pieces = part.pieces.clone();
        match self.inner.bytes.write(key, part.offset, pieces).await {
            Ok(()) => {
                // On disk, whatever becomes of the segment.
                self.reservation.spend(&self.live, key, part.range);
                self.inner
                    .counters
                    .store_failing
                    .store(false, Ordering::Relaxed);
                let was_failing = matches!(self.live.lock().caching, Caching::Failing { .. });
                let keep = !self.inner.memory.is_tight();
                let stored = self.live.stored(part.range, part.segment, epoch, keep);
                if stored == Some(true) {
                    self.inner.tell(Input::Supplied {
                        source: self.live.source,
                        range: part.range,
                    });
                }
                if stored.is_none() {
                    // Nobody will read the file that was written to; it goes with its epoch.
                    self.live.shrink(part.segment, vec![epoch]);
                    self.inner.dirty.mark(&self.live);
                }
                if was_failing {
                    self.inner.tell(Input::WindowCapped {
                        source: self.live.source,
                        bytes: None,
                    });
                }
                if stored.is_some() {
                    Written::Stored
                } else {
                    Written::InVain
                }
            }
            Err(error) => {
                if let ByteStoreError::Corrupt(_) = &error {
                    crate::mending::abandon_segment(&self.inner, &self.live, part.segment);
                }
                tracing::warn!(key = %self.live.key, %error, "bytes cannot be stored and are passed through");
                self.pass_through("the byte store failed");
                Written::Failed
            }
        }
    }

    /// Remembers checksums of blocks that passed whole.
    fn note_checksums(&self, checksums: Vec<(u64, u32)>, segment_size: u64) {
        let per_segment = segment_size / BLOCK_SIZE;
        let mut state = self.live.lock();
        for (block, crc) in checksums {
            if let Ok(segment) = u32::try_from(block / per_segment) {
                let segment = state.segments.entry(segment).or_default();
                if segment.pending.contains(&(block % per_segment)) {
                    segment.checksums.insert(block % per_segment, crc);
                }
            }
        }
    }

    fn is_caching(&self) -> bool {
        match self.live.lock().caching {
            Caching::On => true,
            Caching::Never => false,
            Caching::Failing { retry_at } => self.inner.clock.now() >= retry_at,
        }
    }

    fn pass_through(&self, reason: &str) {
        let mut state = self.live.lock();
        if state.caching != Caching::Never {
            if state.caching == Caching::On {
                tracing::warn!(key = %self.live.key, reason, "bytes are passed through without being kept");
            }
            state.caching = Caching::Failing {
                retry_at: self.inner.clock.now() + STORE_RETRY,
            };
        }
        drop(state);
        self.inner
            .counters
            .store_failing
            .store(true, Ordering::Relaxed);
        self.inner.cap_window(&self.live);
        self.inner.mend_later(&self.live);
    }
}

impl Drop for Writer {
    /// What a run had gathered when it panicked is in memory, and is offered to the store from there.
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            self.leave(&self.batch);
            // It may also be dropped where the runtime has ended.
            if Handle::try_current().is_ok() {
                self.inner.mend_later(&self.live);
            }
        }
    }
}

impl Inner {
    /// Makes the index know a representation that it could not take before.
    pub(crate) fn index_again(self: &Arc<Self>, live: &Arc<Live>) {
        let Some(meta) = live.lock().meta.as_deref().cloned() else {
            return;
        };
        let is_ours = live.generation.send_if_modified(|generation| {
            let is_unindexed = *generation == Generation::Unindexed;
            if is_unindexed {
                *generation = Generation::Pending;
            }
            is_unindexed
        });
        if is_ours {
            tokio::spawn(crate::opening::index_generation(
                Arc::clone(self),
                Arc::clone(live),
                meta,
            ));
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Stored,
    /// The segment has begun a new epoch meanwhile.
    InVain,
    Failed,
}

/// Adjacent bytes of one segment.
struct Part {
    segment: u32,
    offset: u64,
    range: ByteRange,
    pieces: Vec<Bytes>,
}

/// Cuts a batch at segment boundaries and at holes.
fn split(batch: Vec<(u64, Bytes)>, segment_size: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (mut at, mut bytes) in batch {
        while !bytes.is_empty() {
            let (index, offset) = (at / segment_size, at % segment_size);
            let Ok(segment) = u32::try_from(index) else {
                break;
            };
            let len = usize::try_from(segment_size - offset)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let piece = bytes.split_to(len);
            let Some(range) = ByteRange::try_new(at, at.saturating_add(len as u64)) else {
                break;
            };
            at = range.end();
            match parts.last_mut() {
                Some(part) if part.segment == segment && part.range.end() == range.start() => {
                    part.pieces.push(piece);
                    if let Some(grown) = ByteRange::try_new(part.range.start(), range.end()) {
                        part.range = grown;
                    }
                }
                _ => parts.push(Part {
                    segment,
                    offset,
                    range,
                    pieces: vec![piece],
                }),
            }
        }
    }
    parts
}
