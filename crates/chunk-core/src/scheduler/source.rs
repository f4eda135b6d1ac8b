//! What the scheduler knows of one representation.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{OriginId, ReaderId, RunId, SourceId};
use crate::{ByteRange, Priority, RangeSet, RetryState, Tick};

#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: OriginId,
    pub(super) total_len: Option<u64>,
    pub(super) accepts_ranges: bool,
    /// Whether an answer, or the index, has told what the source is. Until then one run probes it.
    pub(super) is_located: bool,
    pub(super) present: RangeSet,
    pub(super) runs: BTreeSet<RunId>,
    pub(super) readers: BTreeSet<ReaderId>,
    /// The first missing byte of each reader that lacks one, where that is known.
    pub(super) lacks: BTreeSet<(u64, ReaderId)>,
    /// Where readers stood that have gone a moment ago, the last one last.
    pub(super) gone: Vec<Gone>,
    /// The reader that came last, and when.
    newest: Option<(Tick, ReaderId)>,
    pub(super) retry: RetryState,
    /// No run may start before this instant.
    pub(super) blocked_until: Option<Tick>,
    /// The largest window of a reader, where bytes cannot be kept.
    pub(super) window_cap: Option<u64>,
    /// Requests that may wait do, because nothing that they bring could be kept.
    pub(super) are_orders_suspended: bool,
    /// How far in front of a want its stripes may be.
    pub(super) stripes_reach: u64,
}

/// A reader that has gone and may come back: players close a connection and open another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    pub(super) position: u64,
    /// Nothing is kept for it from then on.
    pub(super) until: Tick,
    /// The rate at which it was known to play. For anybody else a connection that is read is not kept: what its buffers
    /// take up meanwhile would be in vain.
    pub(super) rate: Option<u64>,
}

impl Source {
    pub(super) const fn new(
        id: SourceId,
        origin: OriginId,
        total_len: Option<u64>,
        accepts_ranges: bool,
        present: RangeSet,
    ) -> Self {
        Self {
            origin,
            total_len,
            accepts_ranges,
            is_located: total_len.is_some(),
            present,
            runs: BTreeSet::new(),
            readers: BTreeSet::new(),
            lacks: BTreeSet::new(),
            gone: Vec::new(),
            newest: None,
            retry: RetryState::new(id.get()),
            blocked_until: None,
            window_cap: None,
            are_orders_suspended: false,
            stripes_reach: 0,
        }
    }

    /// Whether one run at a time reads it: nobody knows yet what it is, or its origin serves no ranges.
    pub(super) const fn is_read_by_one(&self) -> bool {
        !self.is_located || !self.accepts_ranges
    }

    /// What time has brought by `now`; returns whether there is more to wait for.
    pub(super) fn expects_at(&mut self, now: Tick) -> bool {
        if self.blocked_until.is_some_and(|until| until <= now) {
            self.blocked_until = None;
        }
        self.gone.retain(|gone| gone.until > now);
        self.blocked_until.is_some() || !self.gone.is_empty()
    }

    /// The readers whose first missing byte is in `range`.
    pub(super) fn lacking(&self, range: ByteRange) -> impl Iterator<Item = ReaderId> + '_ {
        let first = |at| (at, ReaderId::new(0));
        self.lacks
            .range(first(range.start())..first(range.end()))
            .map(|&(_, reader)| reader)
    }

    /// A reader has come: whoever has just gone is here again, at the same place or after a seek.
    pub(super) fn came(&mut self, id: ReaderId, now: Tick) -> Option<Gone> {
        self.readers.insert(id);
        self.newest = Some((now, id));
        self.gone.pop()
    }

    /// Who came after `since`, and after another one had read for the last time: its successor, if that one leaves.
    pub(super) fn successor_of(&self, last_read: Tick, since: Tick) -> Option<ReaderId> {
        self.newest
            .filter(|&(came, id)| came > last_read.max(since) && self.readers.contains(&id))
            .map(|(_, id)| id)
    }

    /// A reader has gone.
    pub(super) fn remember(&mut self, gone: Gone) {
        /// More do not come back at once.
        const MOST: usize = 8;
        if self.gone.len() >= MOST {
            self.gone.remove(0);
        }
        self.gone.push(gone);
    }

    /// Whether explicit requests of this level are fetched now.
    pub(super) const fn fetches(&self, level: Priority) -> bool {
        !(self.are_orders_suspended && level.is_durable())
    }

    /// `range` up to the file's end, where that is known.
    pub(super) fn clip(&self, range: ByteRange) -> Option<ByteRange> {
        range.before(self.total_len.unwrap_or(u64::MAX))
    }
}
