//! Giving a reader of unknown rate the chance to show that it plays.
//!
//! Shared evenly, a line that is a little faster than a film never lets its player pause, and who never pauses
//! cannot be told from a copy. So where an even share would starve a common film, the reader that came last has the
//! line for a while; if it pauses, its rate is known from then on. A trial that showed nothing is remembered, since
//! whoever seeks again and again would otherwise always be the last one that came.

use alloc::vec::Vec;
use core::time::Duration;

use super::need::Rank;
use super::reader::Reader;
use super::run::Phase;
use super::wants::Want;
use super::{OriginId, ReaderId, Scheduler};
use crate::Tick;

/// A reader, and since when it reads on without a seek.
pub(super) type Candidate = (Tick, ReaderId);

/// The trials on one line.
#[derive(Debug)]
pub(super) struct Trials {
    /// For whom others rest.
    current: Option<Candidate>,
    /// No trial before then.
    not_before: Tick,
    /// How long the next trial that shows nothing is remembered.
    memory: Duration,
}

impl Trials {
    const MEMORY: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(320);

    pub(super) const fn new() -> Self {
        Self {
            current: None,
            not_before: Tick::ZERO,
            memory: Self::MEMORY,
        }
    }

    const fn passed(&mut self) {
        self.current = None;
        self.memory = Self::MEMORY;
    }

    fn failed(&mut self, now: Tick) {
        self.current = None;
        self.not_before = now + self.memory;
        self.memory = (self.memory * 2).min(Self::LONGEST);
    }
}

impl Reader {
    /// How many bytes after a seek a trial lasts. At 8 Mbit/s on a line 1.3 times as fast, a player whose buffer
    /// holds two seconds pauses after 5 MB, and for the second time, which makes its rate known, little later.
    const TRIAL: u64 = 16 * 1024 * 1024;

    /// What it is in a trial with `ahead` bytes ready before it, where nobody knows its rate.
    pub(super) fn candidate(&self, id: ReaderId, ahead: u64) -> Option<Candidate> {
        let taken = self.since_seek.saturating_add(ahead);
        (taken < Self::TRIAL).then_some((self.sought_at, id))
    }
}

impl Scheduler {
    /// On which lines others of unknown rate rest now, and for whom.
    pub(super) fn try_out(&mut self, wants: &[Want]) -> Vec<(OriginId, Candidate)> {
        let origins: Vec<OriginId> = self.lines.iter().map(|(origin, _)| origin).collect();
        let on_trial = |origin| Some((origin, self.try_out_on(origin, wants)?));
        origins.into_iter().filter_map(on_trial).collect()
    }

    fn try_out_on(&mut self, origin: OriginId, wants: &[Want]) -> Option<Candidate> {
        let unproven = wants.iter().filter(|want| {
            want.need.urgency.rank == Rank::Unproven
                && self.origin_of(want.source) == Some(origin)
                && !self.is_blocked(want.source)
        });
        let (count, newest) = unproven.fold((0, None), |(count, newest), want| {
            (count + 1, want.need.candidate.max(newest))
        });
        let is_contested = count > 1 && self.is_too_little(origin, count);
        let now = self.now;
        let current = self.lines.get(origin)?.trials.current;
        let reader = current.and_then(|(_, id)| self.readers.get(&id));
        let is_known = reader.is_some_and(|reader| reader.rate().is_some());
        let goes_on = current
            .is_some_and(|(_, id)| reader.is_some_and(|reader| reader.candidate(id, 0) == current));
        let trials = &mut self.lines.get_mut(origin)?.trials;
        if is_known {
            trials.passed();
        } else if current.is_some() && !goes_on {
            trials.failed(now);
        }
        if is_contested && newest > trials.current && now >= trials.not_before {
            trials.current = newest;
        }
        trials
            .current
            .filter(|_| is_contested && newest == trials.current)
    }

    /// Whether an even share of what comes would starve a common film.
    fn is_too_little(&self, origin: OriginId, readers: u64) -> bool {
        let total = self
            .runs
            .values()
            .filter(|run| run.phase == Phase::Open && run.takes_connection())
            .filter(|run| self.origin_of(run.source) == Some(origin))
            .filter_map(|run| run.rate.rate())
            .fold(0, u64::saturating_add);
        total > 0 && total / readers.max(1) < Self::ASSUMED_RATE
    }
}
