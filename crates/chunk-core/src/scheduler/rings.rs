//! Readers of what cannot be kept.
//!
//! What arrives is forgotten soon, so that a reader who comes later finds nothing. Each reader has a *ring*: the
//! bytes around it, that its run has brought and that it has read or is about to read. Rings that touch are one:
//! whoever is close behind another reads what that one's run brings, and they need one run together. Whoever is
//! further behind has a run that follows the other at a distance, for as long as it takes: it does not end where
//! the other ring begins now, since that will be elsewhere by then, but where it really meets one.

use alloc::vec::Vec;

use super::plan::{Slot, starts_in};
use super::run::Run;
use super::source::Source;
use super::wants::Want;
use super::{RunId, Scheduler, SourceId, Start};
use crate::ByteRange;

impl Source {
    /// The largest window of a reader, where bytes are forgotten that can be asked for again: each reader has a
    /// ring of them around it, and those that touch are one.
    pub(super) fn ring_window(&self) -> Option<u64> {
        self.window_cap.filter(|_| self.accepts_ranges)
    }

    /// Up to where what is there now will be there when a reader at `position` comes to it.
    pub(super) fn stays_until(&self, position: u64) -> u64 {
        self.ring_window()
            .map_or(u64::MAX, |window| position.saturating_add(window))
    }
}

impl Run {
    /// What tells runs apart that claim the byte at `offset`: those of readers that follow each other at a distance
    /// claim all that lies before them, and the nearest brings it.
    pub(super) fn distance_to(&self, offset: u64, source: &Source) -> u64 {
        match source.ring_window() {
            Some(_) => offset.saturating_sub(self.head),
            None => 0,
        }
    }
}

impl Scheduler {
    /// Whether what is at `offset` belongs to the ring of a reader that will be elsewhere when this want's run
    /// comes there. A run that ended there would be one of many, each as long as that reader is ahead.
    pub(super) fn is_passing(&self, want: &Want, source: &Source, offset: u64) -> bool {
        let Some(window) = source.ring_window() else {
            return false;
        };
        let readers = source.readers.iter().filter_map(|id| self.readers.get(id));
        offset > want.need.stays_until
            && readers
                .filter_map(|reader| reader.position)
                .filter(|&position| position > want.at())
                .any(|position| offset.abs_diff(position) <= 2 * window)
    }

    /// Where the ring begins that lies before a want: what is there need not come again, and what another run is
    /// about to bring comes from that one.
    pub(super) fn next_ring(&self, want: &Want, slots: &[Slot]) -> u64 {
        let Start::At(at) = want.need.at else {
            return u64::MAX;
        };
        let Some(source) = self.sources.get(&want.source) else {
            return u64::MAX;
        };
        if source.ring_window().is_none() {
            return u64::MAX;
        }
        let there = ByteRange::try_new(at, u64::MAX)
            .and_then(|rest| source.present.overlapping(rest).next())
            .map_or(u64::MAX, |range| range.start());
        let heads = self.runs_of(source).map(|(_, run)| run.head);
        heads
            .chain(starts_in(slots, want.source))
            .filter(|&head| head > at)
            .fold(there, u64::min)
    }

    /// Bytes are kept again: runs that follow each other end where the next one stands, or where bytes are there.
    pub(super) fn part_runs(&mut self, id: SourceId) {
        let Some(source) = self
            .sources
            .get(&id)
            .filter(|source| !source.is_read_by_one())
        else {
            return;
        };
        let end_of = |run: &Run| {
            let heads = self.runs_of(source).map(|(_, other)| other.head);
            let next = heads
                .filter(|&head| head > run.head)
                .fold(run.end, u64::min);
            let rest = ByteRange::try_new(run.head, next)?;
            source
                .present
                .overlapping(rest)
                .next()
                .map(|range| range.start())
                .or(Some(next))
        };
        let ends: Vec<(RunId, u64)> = self
            .runs_of(source)
            .filter(|(_, run)| run.suffix.is_none())
            .filter_map(|(id, run)| Some((id, end_of(run)?)))
            .collect();
        for (run, end) in ends {
            self.shorten(run, end);
        }
    }

    /// Whether a run has come to bytes that another one has brought.
    pub(super) fn has_met_a_ring(&self, run: &Run) -> bool {
        run.is_answered
            && self.sources.get(&run.source).is_some_and(|source| {
                source.ring_window().is_some() && source.present.contains(run.head)
            })
    }
}
