//! What changes of an open representation.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chunk_core::scheduler::ReaderId;
use chunk_core::{BLOCK_SIZE, ByteRange, GenerationId, RangeSet, RateEstimator, Tick};
use chunk_ports::{Resource, SegmentKey};

use super::readable::Readable;
use super::{Caching, Meta};
use crate::asking::Question;
use crate::error::{OpenError, ReadError};
use crate::integrity::block_range;
use crate::memory::MemoryBudget;
use crate::pages::Page;
use crate::segment::Segment;
use crate::tail::{RING, Tail};
use crate::waiters::Waiters;
use crate::waiting::Awaited;

/// What changes of an open representation, under its lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) resource: Resource,
    /// Shared with those who have noted what it says: a change of it makes another one.
    pub(crate) meta: Option<Arc<Meta>>,
    /// Everything that can be read: the tail and what is stored.
    pub(crate) readable: Readable,
    /// What the byte store holds.
    pub(crate) stored: RangeSet,
    /// What survives a restart.
    pub(crate) recorded: RangeSet,
    /// What this process wrote, or has checked.
    pub(crate) trusted: RangeSet,
    pub(crate) tail: Tail,
    pub(crate) waiters: Waiters,
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// Where the index of the film lies, as far as its header has been read.
    pub(crate) hot: Vec<ByteRange>,
    pub(crate) positions: BTreeMap<ReaderId, u64>,
    /// Segments read since the index was last told, and in which second last.
    pub(crate) touched: BTreeMap<u32, i64>,
    pub(crate) caching: Caching,
    /// How many bytes to keep around each reader while they cannot be stored.
    pub(super) ring: u64,
    /// Whether somebody is about to try again what could not be stored.
    pub(crate) is_mending: bool,
    /// Raised with each failure, so that a waiter can tell one that happened while it waited.
    pub(super) failures: u64,
    pub(super) failure: Option<Failure>,
    /// Whether no byte has come and nobody has asked again since that failure.
    pub(super) is_failing: bool,
    /// The origin's refusal to confirm what is cached.
    pub(super) refusal: Option<Failure>,
    /// From when on the origin may be asked again whether it still has this, where it did not tell.
    pub(crate) ask_again_at: Option<Tick>,
    /// The last question whether the origin still has this.
    pub(crate) question: Option<Question>,
    /// What came in place of this.
    pub(crate) page: Option<Page>,
    pub(super) arrival: RateEstimator,
    pub(super) arrived_at: Tick,
    /// The whole came once where a part was asked for, and no part since.
    pub(crate) are_ranges_doubted: bool,
    /// The origin has another representation: what is missing here will stay missing.
    pub(crate) is_superseded: bool,
    pub(crate) is_closed: bool,
    /// The length has come with the end of the body, and the index does not know it yet.
    pub(crate) is_length_new: bool,
    /// The index does not have the representation any more.
    pub(crate) is_removed: bool,
    pub(crate) accessed_unix: i64,
    pub(crate) pinned: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: OpenError,
    pub(super) at: Tick,
}

/// What a look at one byte found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here are bytes.
    Bytes(Bytes),
    /// In the byte store, and known good.
    Stored {
        key: SegmentKey,
        offset: u64,
        len: usize,
    },
    /// In the byte store, and not checked yet by this process.
    Unchecked,
    /// Not there.
    Missing,
}

/// Without its payload.
impl State {
    /// Whether the bytes of the representation are going, or gone: what is written now would stay for ever.
    pub(crate) const fn is_given_up(&self) -> bool {
        self.is_removed || self.is_superseded
    }

    pub(super) fn new(
        resource: Resource,
        readable: Readable,
        pinned: bool,
        accessed_unix: i64,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        Self {
            resource,
            meta: None,
            readable,
            stored: RangeSet::new(),
            recorded: RangeSet::new(),
            trusted: RangeSet::new(),
            tail: Tail::new(memory),
            waiters: Waiters::default(),
            segments: BTreeMap::new(),
            hot: Vec::new(),
            positions: BTreeMap::new(),
            touched: BTreeMap::new(),
            caching: Caching::On,
            ring: RING,
            is_mending: false,
            failures: 0,
            failure: None,
            is_failing: false,
            are_ranges_doubted: false,
            refusal: None,
            ask_again_at: None,
            question: None,
            page: None,
            arrival: RateEstimator::new(RateEstimator::WINDOW),
            arrived_at: Tick::ZERO,
            is_superseded: false,
            is_closed: false,
            is_length_new: false,
            is_removed: false,
            accessed_unix,
            pinned,
        }
    }

    /// Bytes a second that came when any came last.
    pub(crate) fn arrival_rate(&self) -> Option<u64> {
        self.arrival.rate()
    }

    /// Whether what has come of a file whose length nobody told is all of it, where its origin says now that it is
    /// `total_len` bytes long.
    pub(crate) fn ends_at(&self, total_len: u64) -> bool {
        let last = self.readable.iter().last();
        self.meta.is_some()
            && self.total_len().is_none()
            && last.is_none_or(|last| last.end() <= total_len)
    }

    pub(crate) fn total_len(&self) -> Option<u64> {
        self.meta.as_ref()?.representation.total_len
    }

    pub(crate) fn epoch(&self, segment: u32) -> u32 {
        self.segments
            .get(&segment)
            .map_or(0, |segment| segment.epoch)
    }

    /// What readers are near: three quarters of a ring before each of them, as far as it reaches without a hole, and
    /// `behind` them so much.
    ///
    /// Rings that touch are one, and what has become one stays one until its readers are half a ring further apart:
    /// sockets take a mebibyte or two at a time. With a sharp edge, what lies between would be there at one
    /// moment and not at the next; islands would be left of it, and each would end a request.
    pub(super) fn rings(&self, behind: u64) -> RangeSet {
        let mut positions: Vec<u64> = self.positions.values().copied().collect();
        positions.sort_unstable();
        let most = self.ring - self.ring / 4;
        let around = |&at: &u64| {
            let before = self.readable.contiguous_from(at).min(most);
            ByteRange::try_new(at.saturating_sub(behind), at.saturating_add(before))
        };
        let mut rings: RangeSet = positions.iter().filter_map(around).collect();
        for (&last, &next) in positions.iter().zip(positions.iter().skip(1)) {
            let Some(between) = ByteRange::try_new(last, next) else {
                continue;
            };
            let is_one = between.len() <= self.ring
                || between.len() <= self.ring + self.ring / 2
                    && self.readable.contains_range(between);
            if is_one {
                rings.insert(between);
            }
        }
        rings
    }

    /// How many failures there were.
    pub(crate) const fn failures(&self) -> u64 {
        self.failures
    }

    /// Why waiting makes no sense, if it does not: something failed since the count was `seen`.
    pub(crate) fn hopeless(&self, seen: u64) -> Option<ReadError> {
        if self.is_superseded {
            return Some(ReadError::Changed);
        }
        if self.is_closed {
            return Some(ReadError::Closed);
        }
        let failure = self.failure.as_ref().filter(|_| self.failures != seen)?;
        Some(ReadError::Failed(failure.error.clone()))
    }

    /// The last failure, until bytes come again.
    pub(crate) fn last_failure(&self) -> Option<OpenError> {
        self.failure
            .as_ref()
            .filter(|_| self.is_failing)
            .map(|failure| failure.error.clone())
    }

    /// Where the byte at `offset` is.
    pub(crate) fn find(&self, offset: u64, max: usize, generation: Option<GenerationId>) -> Found {
        if let Some(bytes) = self.tail.get(offset, max) {
            return Found::Bytes(bytes);
        }
        let (Some(meta), Some(generation)) = (&self.meta, generation) else {
            return Found::Missing;
        };
        let Some(stored) = self.stored.range_at(offset) else {
            return Found::Missing;
        };
        let Some(trusted) = self.trusted.range_at(offset) else {
            return Found::Unchecked;
        };
        let segment = offset / meta.segment_size;
        let segment_start = segment * meta.segment_size;
        let end = trusted
            .end()
            .min(stored.end())
            .min(segment_start.saturating_add(meta.segment_size))
            .min(offset.saturating_add(max as u64));
        let Ok(segment) = u32::try_from(segment) else {
            return Found::Missing;
        };
        Found::Stored {
            key: SegmentKey {
                generation,
                segment,
                epoch: self.epoch(segment),
            },
            offset: offset - segment_start,
            len: usize::try_from(end - offset).unwrap_or(max),
        }
    }

    /// Notes whole stored blocks that are not recorded yet.
    pub(crate) fn note_pending(&mut self, range: ByteRange) {
        let Some(meta) = &self.meta else { return };
        // While the length is unknown nothing is recorded: the last block cannot be told.
        let Some(total_len) = meta.representation.total_len else {
            return;
        };
        let per_segment = meta.segment_size / BLOCK_SIZE;
        for block in range.start() / BLOCK_SIZE..=range.last() / BLOCK_SIZE {
            let Some(bytes) = block_range(block, Some(total_len)) else {
                continue;
            };
            if self.stored.contains_range(bytes)
                && !self.recorded.contains_range(bytes)
                && let Ok(segment) = u32::try_from(block / per_segment)
            {
                self.segments
                    .entry(segment)
                    .or_default()
                    .pending
                    .insert(block % per_segment);
            }
        }
    }

    pub(crate) fn forget(&mut self, range: ByteRange) {
        self.tail.forget(range);
        self.readable.remove(range);
        for set in [&mut self.stored, &mut self.recorded, &mut self.trusted] {
            set.remove(range);
        }
        let Some(meta) = &self.meta else { return };
        let per_segment = meta.segment_size / BLOCK_SIZE;
        for block in range.start() / BLOCK_SIZE..=range.last() / BLOCK_SIZE {
            if let Ok(number) = u32::try_from(block / per_segment)
                && let Some(segment) = self.segments.get_mut(&number)
            {
                segment.forget(block % per_segment);
            }
        }
    }
}

impl Awaited for State {
    fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }
}
