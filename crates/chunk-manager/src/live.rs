//! One open representation of an entry: what is readable of it, who waits for it, where its bytes are.
//!
//! This is the shared state between readers, runs, the recorder and the driver. Everything here is
//! decided under one short lock that is never held across an await.

mod readable;
mod readers;
mod state;
mod whole;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use chunk_core::scheduler::SourceId;
use chunk_core::{
    ByteRange, CacheKey, EntryId, GenerationId, Priority, RangeSet, RateEstimator, Representation,
    Tick,
};
use chunk_ports::{Freshness, GenerationRecord, Resource, SegmentKey, SegmentSummary};
use tokio::sync::{RwLock, watch};

use crate::error::OpenError;
use crate::memory::{Memory, MemoryBudget};
use crate::segment::Segment;
use crate::tail::{KEPT, Spare};
use crate::waiters::{Token, Told};
use crate::waiting::{Look, change, poll_for};
use readable::{Glance, Readable};
use readers::Readers;
use state::Failure;
pub(crate) use state::{Found, State};

/// What is known of a representation once its origin, or the index, has told.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) representation: Representation,
    pub(crate) accepts_ranges: bool,
    pub(crate) segment_size: u64,
    pub(crate) nonce: u64,
    pub(crate) freshness: Freshness,
    pub(crate) storable: bool,
    pub(crate) reuse: Reuse,
}

/// What of a representation may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// What is here, and what is missing can be fetched.
    Continued,
    /// What is here, as long as it is all of it: it was taken up from an earlier session, and nothing would tell the
    /// bytes of a later version from its own.
    AsItIs,
}

/// Where the index stands with a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Not known yet, or on its way to the index.
    Pending,
    /// In the index.
    Indexed(GenerationId),
    /// Never in the index: not to be stored, or the index does not work.
    Unindexed,
}

/// Whether arriving bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    On,
    /// Storing failed; it is tried again from this instant on.
    Failing {
        retry_at: Tick,
    },
    /// The origin forbids it, or there is no index.
    Never,
}

pub(crate) struct Live {
    pub(crate) source: SourceId,
    pub(crate) entry: EntryId,
    pub(crate) key: Arc<CacheKey>,
    /// Whether the origin has confirmed the representation in this session, or need not be asked.
    is_validated: AtomicBool,
    pub(crate) generation: watch::Sender<Generation>,
    /// Held shared during a write, and alone while bytes are being given up.
    pub(crate) writing: RwLock<()>,
    readers: Readers,
    /// Raised with each loss of trust in stored bytes, so that who holds bytes read before can tell.
    distrusts: AtomicU64,
    /// What can be read, for those who only ask.
    glance: Glance,
    state: Mutex<State>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("source", &self.source)
            .field("entry", &self.entry)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Live {
    pub(crate) fn new(
        source: SourceId,
        entry: EntryId,
        resource: Resource,
        pinned: bool,
        accessed_unix: i64,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        let (readable, glance) = Readable::new();
        Self {
            source,
            entry,
            key: Arc::clone(&resource.key),
            is_validated: AtomicBool::new(false),
            generation: watch::Sender::new(Generation::Pending),
            writing: RwLock::new(()),
            readers: Readers::default(),
            distrusts: AtomicU64::new(0),
            glance,
            state: Mutex::new(State::new(
                resource,
                readable,
                pinned,
                accessed_unix,
                memory,
            )),
        }
    }

    /// Takes over what the index has recorded of the entry's current generation.
    pub(crate) fn adopt(
        &self,
        record: &GenerationRecord,
        reuse: Reuse,
        segments: Vec<SegmentSummary>,
    ) {
        let mut state = self.lock();
        let total_len = record.representation.total_len;
        let ranges = segments.iter().flat_map(|summary| {
            let segment_start = u64::from(summary.segment) * record.segment_size;
            let end = total_len.unwrap_or(u64::MAX);
            summary.blocks.byte_ranges(segment_start, end)
        });
        let recorded: RangeSet = ranges.collect();
        state.segments = segments
            .into_iter()
            .map(|summary| (summary.segment, Segment::recorded(summary)))
            .collect();
        for range in recorded.iter() {
            state.readable.insert(range);
            state.stored.insert(range);
            state.recorded.insert(range);
        }
        state.meta = Some(Arc::new(Meta {
            representation: record.representation.clone(),
            accepts_ranges: record.accepts_ranges,
            segment_size: record.segment_size,
            nonce: record.nonce,
            freshness: record.freshness,
            storable: true,
            reuse,
        }));
        drop(state);
        self.generation.send_replace(Generation::Indexed(record.id));
    }

    /// Takes over what an earlier session of this process left on disk without a row; returns whether there
    /// is any.
    pub(crate) fn inherit(&self, files: &[SegmentKey]) -> bool {
        let mut state = self.lock();
        let mut has_any = false;
        for key in files {
            let segment = state.segments.entry(key.segment).or_default();
            if segment.blocks.is_empty() || segment.epoch != key.epoch {
                segment.inherit(key.epoch);
                has_any = true;
            }
        }
        has_any
    }

    /// Whether every byte of `range` can be read now. Where it lies in whole blocks, the yes takes no lock; other
    /// answers take one that nobody holds for long.
    pub(crate) fn has(&self, range: ByteRange) -> bool {
        self.glance.contains_range(range)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state and, where that comes to waiting, registers in the same step.
    pub(crate) fn poll_for<R>(
        &self,
        token: &mut Option<Token>,
        waker: &Waker,
        look: impl FnOnce(&mut State, Option<Token>) -> Look<R>,
    ) -> Poll<R> {
        poll_for(&self.state, token, waker, look)
    }

    /// Whether bytes are missing that must not be fetched.
    pub(crate) fn is_cut_short(&self) -> bool {
        let state = self.lock();
        let whole = state
            .meta
            .as_ref()
            .filter(|meta| meta.reuse == Reuse::AsItIs)
            .and_then(|meta| ByteRange::try_new(0, meta.representation.total_len?));
        whole.is_some_and(|whole| !state.readable.contains_range(whole))
    }

    pub(crate) fn is_validated(&self) -> bool {
        self.is_validated.load(Ordering::Acquire)
    }

    /// From when on to ask again, where the origin was asked in this session and did not tell.
    pub(crate) fn asked_in_vain(&self) -> Option<Tick> {
        self.lock().ask_again_at
    }

    pub(crate) fn ask_again_at(&self, at: Tick) {
        self.lock().ask_again_at = Some(at);
    }

    /// What was confirmed no longer counts as that, and is asked about again from `at` on.
    pub(crate) fn doubt(&self, at: Tick) {
        self.ask_again_at(at);
        self.is_validated.store(false, Ordering::Release);
    }

    pub(crate) fn set_validated(&self, validated: bool) {
        let mut state = self.lock();
        state.ask_again_at = None;
        state.page = None;
        drop(state);
        self.is_validated.store(validated, Ordering::Release);
    }

    /// The resource has been changed: nothing holds that its origin said before, nor what it says to a question from
    /// before.
    pub(crate) fn invalidate(&self) {
        let mut state = self.lock();
        state.question = None;
        if let Some(meta) = &mut state.meta {
            let meta = Arc::make_mut(meta);
            meta.freshness = meta.freshness.invalidated();
        }
        drop(state);
        self.set_validated(false);
    }

    /// Whether it may not be stored and nobody reads it any more.
    pub(crate) fn is_spent(&self) -> bool {
        self.reader_count() == 0 && self.lock().meta.as_ref().is_some_and(|meta| !meta.storable)
    }

    /// How many readers share out what cannot be kept, `None` where it can.
    pub(crate) fn passes_to(&self) -> Option<usize> {
        let state = self.lock();
        (state.caching != Caching::On).then_some(state.positions.len())
    }

    /// How many bytes are to be kept around each reader where they cannot be stored; returns whether that is new.
    pub(crate) fn set_ring(&self, ring: u64) -> bool {
        std::mem::replace(&mut self.lock().ring, ring) != ring
    }

    pub(crate) fn ring(&self) -> u64 {
        self.lock().ring
    }

    /// The index's number for this representation, once it has one; `None` where it never will.
    pub(crate) async fn generation(&self) -> Option<GenerationId> {
        let mut changes = self.generation.subscribe();
        let now = changes
            .wait_for(|generation| *generation != Generation::Pending)
            .await
            .map_or(Generation::Unindexed, |generation| *generation);
        match now {
            Generation::Indexed(id) => Some(id),
            Generation::Pending | Generation::Unindexed => None,
        }
    }

    /// The index's number, if it has given one by now.
    pub(crate) fn generation_now(&self) -> Option<GenerationId> {
        match *self.generation.borrow() {
            Generation::Indexed(id) => Some(id),
            Generation::Pending | Generation::Unindexed => None,
        }
    }

    /// The origin has told what the representation is; those who wait for that wake up.
    pub(crate) fn locate(&self, meta: Meta) {
        change(&self.state, |state| {
            if !meta.storable {
                state.caching = Caching::Never;
            }
            state.meta = Some(Arc::new(meta));
            state.is_failing = false;
            // Not only those who wait for it: who waits for a byte past the end learns that there is none.
            ((), state.waiters.all())
        });
    }

    /// The body has ended and with it the length is known.
    pub(crate) fn learn_length(&self, total_len: u64) {
        change(&self.state, |state| {
            if let Some(meta) = &mut state.meta {
                Arc::make_mut(meta).representation.total_len = Some(total_len);
            }
            // Who waits for a byte past the end has reached the end.
            ((), state.waiters.all())
        });
    }

    /// Makes bytes readable. Returns how many of them were not readable before, and the newly readable range.
    pub(crate) fn publish(&self, offset: u64, bytes: &Bytes, level: Option<Priority>) -> u64 {
        let Some(range) = ByteRange::try_new(offset, offset.saturating_add(bytes.len() as u64))
        else {
            return 0;
        };
        change(&self.state, |state| {
            let gaps: Vec<ByteRange> = state.readable.gaps(range).collect();
            let mut fresh = 0;
            for gap in gaps {
                // Only what is missing goes in, so that pieces never overlap.
                let (Ok(from), Ok(to)) = (
                    usize::try_from(gap.start() - offset),
                    usize::try_from(gap.end() - offset),
                ) else {
                    continue;
                };
                state.tail.push(gap.start(), bytes.slice(from..to));
                fresh += gap.len();
            }
            state.readable.insert(range);
            // The failure itself stays: whoever was woken by it has yet to see it.
            state.is_failing = false;
            (fresh, state.waiters.of(range, level))
        })
    }

    /// Notes that bytes are in the byte store; drops from memory what need not stay.
    ///
    /// `None`, and nothing happens, where the segment's epoch has changed since the write began; else
    /// whether bytes became readable by it that memory had dropped meanwhile. Those who have begun to wait for these
    /// since are woken: nobody else brings them.
    pub(crate) fn stored(
        &self,
        range: ByteRange,
        segment: u32,
        epoch: u32,
        keep: bool,
    ) -> Option<bool> {
        change(&self.state, |state| {
            if state.epoch(segment) != epoch {
                return (None, Vec::new());
            }
            let is_regained = state.readable.insert(range) > 0;
            state.stored.insert(range);
            state.trusted.insert(range);
            state.tail.stored(range);
            state.tail.trim_stored(if keep { KEPT } else { 0 });
            state.caching = match state.caching {
                Caching::Never => Caching::Never,
                Caching::On | Caching::Failing { .. } => Caching::On,
            };
            state.note_pending(range);
            let woken = if is_regained {
                state.waiters.of(range, None)
            } else {
                Vec::new()
            };
            (Some(is_regained), woken)
        })
    }

    /// Drops from memory what is stored.
    pub(crate) fn trim_stored(&self) {
        self.lock().tail.trim_stored(0);
    }

    /// Forgets bytes that are only in memory and cannot be kept, beyond `allowance`: those outside of the readers'
    /// rings, and, where memory is short, what readers have behind them and then what they have before them.
    pub(crate) fn trim_ring(&self, allowance: u64, memory: Memory) -> RangeSet {
        let mut guard = self.lock();
        let state = &mut *guard;
        let spare = match state.caching {
            Caching::On => Spare::Left,
            Caching::Failing { .. } | Caching::Never => Spare::AllUnstored,
        };
        if state.tail.unstored_len() <= allowance {
            return RangeSet::new();
        }
        let rings = state.rings(state.ring / 4);
        let tail = &mut state.tail;
        let mut gone = tail.trim_ring(allowance, spare, |piece| !rings.intersects(piece));
        if memory == Memory::Short {
            let rings = state.rings(0);
            let tail = &mut state.tail;
            let behind = tail.trim_ring(allowance, spare, |piece| !rings.intersects(piece));
            gone.extend(behind.iter());
            gone.extend(tail.trim_ring(allowance, spare, |_| true).iter());
        }
        for range in gone.iter() {
            state.readable.remove(range);
        }
        gone
    }

    /// The index's row of a segment has to change, and the bytes of former epochs may go then.
    pub(crate) fn shrink(&self, segment: u32, former: Vec<u32>) {
        let mut state = self.lock();
        let found = state.segments.entry(segment).or_default();
        found.former.extend(former);
        found.is_shrunk = true;
    }

    /// The entry is being removed: nothing more is written, and nothing more is told of it to the index.
    pub(crate) async fn give_up(&self) {
        let _still = self.writing.write().await;
        let mut state = self.lock();
        state.caching = Caching::Never;
        state.is_removed = true;
    }

    /// Forgets bytes for good: they can no longer be read and are no longer recorded.
    pub(crate) fn forget(&self, range: ByteRange) {
        let mut state = self.lock();
        state.forget(range);
    }

    /// Stored bytes were found to be bad: they are checked again before they are served.
    pub(crate) fn distrust(&self, range: ByteRange) {
        let mut state = self.lock();
        state.trusted.remove(range);
        self.distrusts.fetch_add(1, Ordering::AcqRel);
    }

    /// How often that has happened: what was read from the store at another count may be bad.
    pub(crate) fn distrusts(&self) -> u64 {
        self.distrusts.load(Ordering::Acquire)
    }

    /// Stored bytes have been checked, beginning at a time when [`Self::distrusts`] was `since`. They are not
    /// trusted where a later check may have found them bad.
    pub(crate) fn trust(&self, range: ByteRange, since: u64) {
        let mut state = self.lock();
        if self.distrusts() == since {
            state.trusted.insert(range);
        }
    }

    /// Whoever waits now waits in vain.
    pub(crate) fn fail(&self, error: OpenError, now: Tick) {
        change(&self.state, |state| {
            state.failures += 1;
            state.is_failing = true;
            state.failure = Some(Failure { error, at: now });
            ((), state.waiters.all())
        });
    }

    /// The origin has another representation now.
    pub(crate) fn supersede(&self) {
        change(&self.state, |state| {
            state.is_superseded = true;
            ((), state.waiters.all())
        });
    }

    /// Nothing will come any more.
    pub(crate) fn close(&self) {
        change(&self.state, |state| {
            state.is_closed = true;
            ((), state.waiters.all())
        });
    }

    /// Tells those who wait for requested bytes what became of their request.
    pub(crate) fn tell_waits(&self, range: ByteRange, told: &Told) {
        change(&self.state, |state| {
            ((), state.waiters.tell(range, told, &state.readable))
        });
    }

    /// Somebody asks for bytes: the failure of an earlier request says nothing about this one.
    pub(crate) fn asked_again(&self) {
        self.lock().is_failing = false;
    }

    /// The number of failures that are none of the present requests': one that no request and no byte has
    /// followed is reported at once to whoever begins to wait.
    pub(crate) fn failures_before_request(&self) -> u64 {
        let state = self.lock();
        state.failures - u64::from(state.is_failing)
    }

    /// The origin refuses to confirm what is cached.
    pub(crate) fn refuse(&self, error: OpenError, now: Tick) {
        let mut state = self.lock();
        state.refusal = Some(Failure { error, at: now });
        // That was an answer.
        state.ask_again_at = None;
    }

    /// There are other credentials now.
    pub(crate) fn forget_refusal(&self) {
        self.lock().refusal = None;
    }

    /// That refusal, if it is no older than `since`.
    pub(crate) fn refusal_since(&self, since: Tick) -> Option<OpenError> {
        self.lock()
            .refusal
            .as_ref()
            .filter(|refusal| refusal.at >= since)
            .map(|refusal| refusal.error.clone())
    }

    /// The failure that was last reported, if it is no older than `since`.
    pub(crate) fn failure_since(&self, since: Tick) -> Option<OpenError> {
        self.lock()
            .failure
            .as_ref()
            .filter(|failure| failure.at >= since)
            .map(|failure| failure.error.clone())
    }

    /// Notes that bytes came from the origin.
    pub(crate) fn arrived(&self, now: Tick, bytes: u64) {
        let mut state = self.lock();
        // A gap between runs is no slowness of the link.
        if now.since(state.arrived_at) > RateEstimator::WINDOW {
            state.arrival.start(now);
        }
        state.arrived_at = now;
        state.arrival.record(now, bytes);
    }

    /// Bytes a second that are arriving, `None` where none came within the last moments.
    pub(crate) fn download_rate(&self, now: Tick) -> Option<u64> {
        let state = self.lock();
        (now.since(state.arrived_at) <= RateEstimator::WINDOW)
            .then(|| state.arrival.rate())
            .flatten()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.lock().failures
    }
}

#[cfg(test)]
#[path = "live/stored_tests.rs"]
mod stored_tests;
