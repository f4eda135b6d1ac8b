//! Giving a reader of unknown rate the chance to show that it plays.
//!
//! Shared evenly, a line that is a little faster than a film never lets its player pause, and who never pauses
//! cannot be told from a copy. So where an even share would starve a common film, one of those who take what they get
//! has the line for a while; if it pauses, its rate is known from then on.
//!
//! Who comes goes first, since it has no picture yet, but for one that has come more than half the way: to interrupt it
//! costs it more than it costs the other to wait for the rest. A trial that showed nothing is remembered, since
//! whoever seeks again and again would otherwise always be the last one that came; whoever was there before has its
//! own all the same.

use alloc::vec::Vec;
use core::time::Duration;

use super::need::Rank;
use super::reader::Reader;
use super::run::Phase;
use super::wants::Want;
use super::{OriginId, ReaderId, Scheduler};
use crate::{BLOCK_SIZE, ConsumptionRate, Tick};

/// A reader that may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) reader: ReaderId,
    /// Since when it reads on without a seek.
    since: Tick,
    /// The bytes that came for it since then.
    taken: u64,
    /// It has had its trial.
    is_tried: bool,
}

/// Somebody for whom others rest.
#[derive(Clone, Copy, Debug)]
struct Trial {
    of: (Tick, ReaderId),
    /// How many bytes had come since its reader sought when it began. It may have run dry meanwhile, and has all of its
    /// buffer to fill.
    from: u64,
    /// How many more it lasts: the most that was thought of, for what comes at a moment is less now and then.
    length: u64,
    /// When its reader last wanted more than there was for it.
    eager_at: Tick,
}

impl Trial {
    /// Who has paused once may well be a player, and has half as long again to show it: a line that is hardly faster
    /// than its film lets it pause rarely.
    const fn end(&self, has_paused: bool) -> u64 {
        let more = if has_paused { self.length / 2 } else { 0 };
        self.from.saturating_add(self.length).saturating_add(more)
    }
}

impl Candidate {
    const fn key(&self) -> (Tick, ReaderId) {
        (self.since, self.reader)
    }

    /// Whether it has come more than half the way.
    const fn is_advanced(&self, length: u64) -> bool {
        self.taken >= length / 2 && self.taken < length
    }
}

/// The trials on one line.
#[derive(Debug)]
pub(super) struct Trials {
    /// Whether an even share would starve a common film.
    is_contested: bool,
    current: Option<Trial>,
    /// The last one that showed nothing.
    failed: Option<(Tick, ReaderId)>,
    /// No trial before then, but for those who were there before.
    not_before: Tick,
    /// How long the next trial that shows nothing is remembered.
    memory: Duration,
}

impl Trials {
    const MEMORY: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(320);

    pub(super) const fn new() -> Self {
        Self {
            is_contested: false,
            current: None,
            failed: None,
            not_before: Tick::ZERO,
            memory: Self::MEMORY,
        }
    }

    /// Ends a trial whose viewer has paused in it: that showed nothing, and others are not to wait for its rest. It has
    /// another one when it reads on.
    fn end_paused(&mut self, is_eager: impl FnOnce(ReaderId) -> bool, now: Tick) {
        if let Some(trial) = &mut self.current {
            if is_eager(trial.of.1) {
                trial.eager_at = now;
            } else if now.since(trial.eager_at) > ConsumptionRate::LONGEST_PAUSE {
                self.current = None;
            }
        }
    }

    const fn passed(&mut self) {
        self.current = None;
        self.memory = Self::MEMORY;
    }

    fn failed(&mut self, now: Tick) {
        self.failed = self.current.take().map(|trial| trial.of);
        self.not_before = now + self.memory;
        self.memory = (self.memory * 2).min(Self::LONGEST);
    }

    fn begin(&mut self, candidate: &Candidate, length: u64, now: Tick) {
        let of = candidate.key();
        let was_there_before = self.failed.is_some_and(|failed| of < failed);
        if now >= self.not_before || was_there_before {
            self.current = Some(Trial {
                of,
                from: candidate.taken,
                length,
                eager_at: now,
            });
        }
    }
}

impl Reader {
    /// What it is in a trial with `ahead` bytes ready before it, where nobody knows its rate.
    pub(super) const fn candidate(&self, reader: ReaderId, ahead: u64) -> Candidate {
        Candidate {
            reader,
            since: self.sought_at,
            taken: self.since_seek.saturating_add(ahead),
            is_tried: self.is_tried,
        }
    }
}

impl Scheduler {
    /// On which lines others of unknown rate rest now, and for whom.
    pub(super) fn try_out(&mut self, wants: &[Want]) -> Vec<(OriginId, ReaderId)> {
        let origins: Vec<OriginId> = self.lines.iter().map(|(origin, _)| origin).collect();
        let on_trial = |origin| Some((origin, self.try_out_on(origin, wants)?));
        origins.into_iter().filter_map(on_trial).collect()
    }

    fn try_out_on(&mut self, origin: OriginId, wants: &[Want]) -> Option<ReaderId> {
        let eager: Vec<Candidate> = wants
            .iter()
            .filter(|want| want.need.urgency.rank == Rank::Unproven)
            .filter(|want| self.origin_of(want.source) == Some(origin))
            .filter(|want| !self.is_blocked(want.source))
            .filter_map(|want| want.need.candidate)
            .collect();
        let brought = self.brought_by(origin);
        let share = brought.checked_div(eager.len() as u64).unwrap_or(0);
        let trials = &mut self.lines.get_mut(origin)?.trials;
        // While nothing comes, what was found stands: that nothing does may be because of it.
        trials.is_contested = eager.len() > 1
            && match brought {
                0 => trials.is_contested,
                _ => share < Self::ASSUMED_RATE,
            };
        let is_contested = trials.is_contested;
        let length = trial_length(brought);
        let untried = || eager.iter().filter(|one| !one.is_tried);
        let best = untried()
            .filter(|one| one.is_advanced(length))
            .max_by_key(|one| one.taken)
            .or_else(|| untried().max_by_key(|one| one.key()));
        let now = self.now;
        let trials = &mut self.lines.get_mut(origin)?.trials;
        trials.end_paused(|reader| untried().any(|one| one.reader == reader), now);
        let current = trials.current.as_mut().map(|trial| {
            // Nothing that comes says nothing of how much will.
            if brought > 0 {
                trial.length = trial.length.max(length);
            }
            *trial
        });
        let reader = current.and_then(|trial| self.readers.get_mut(&trial.of.1));
        let is_known = reader
            .as_ref()
            .is_some_and(|reader| reader.rate().is_some());
        let goes_on = current.zip(reader).is_some_and(|(trial, reader)| {
            reader.is_tried = reader.since_seek >= trial.end(reader.consumption.has_paused());
            reader.sought_at == trial.of.0 && !reader.is_tried
        });
        let trials = &mut self.lines.get_mut(origin)?.trials;
        if is_known {
            trials.passed();
        } else if current.is_some() && !goes_on {
            trials.failed(now);
        }
        if !is_contested {
            return None;
        }
        let is_half_over = |trial: Trial| {
            let of = untried().find(|one| one.key() == trial.of);
            of.is_some_and(|one| one.taken.saturating_add(trial.length / 2) >= trial.end(false))
        };
        if let Some(best) = best
            && trials
                .current
                .is_none_or(|trial| trial.of < best.key() && !is_half_over(trial))
        {
            trials.begin(best, length, now);
        }
        // Who is to be tried and leaves unread what is there needs nothing now.
        let (_, current) = trials.current?.of;
        untried()
            .any(|one| one.reader == current)
            .then_some(current)
    }

    /// The bytes a second that an origin's connections bring together.
    fn brought_by(&self, origin: OriginId) -> u64 {
        self.runs
            .values()
            .filter(|run| run.phase == Phase::Open && run.takes_connection())
            .filter(|run| self.origin_of(run.source) == Some(origin))
            .filter_map(|run| run.rate.rate())
            .fold(0, u64::saturating_add)
    }
}

/// How many bytes after a seek a trial lasts on a line that brings `rate`. At 8 Mbit/s on a line 1.3 times as fast, a
/// player whose buffer holds two seconds pauses after 9 MB, and for the third time, which makes its rate known, four
/// seconds later. A player that waits meanwhile waits no longer than that.
fn trial_length(rate: u64) -> u64 {
    const TIME: u64 = 11;
    const SHORTEST: u64 = 64 * BLOCK_SIZE;
    const LONGEST: u64 = 256 * BLOCK_SIZE;
    match rate {
        0 => LONGEST,
        rate => rate.saturating_mul(TIME).clamp(SHORTEST, LONGEST),
    }
}
