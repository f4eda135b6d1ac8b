//! Asking anew for what is late.
//!
//! An answer that does not come, or a body that stands still, holds up whoever waits for its next byte. Where
//! that is critical, or nobody knows whether it is and somebody has waited for a second, the same bytes are asked
//! for over another connection, once: the first of the two to bring a byte goes on, the other is ended. This is the
//! one case in which a byte is asked for twice at a time, so it has a budget.
//!
//! ```text
//! late     no answer for  estimate + 4 · deviation + 100 ms   (RFC 6298, with a clock of 100 ms)
//!          no byte for    the same, at least 500 ms
//! budget   a hedge costs as much as 20 requests bring; what 3 cost is saved at most
//! ```

use alloc::vec::Vec;
use core::time::Duration;

use super::need::Rank;
use super::plan::Slot;
use super::run::{Phase, Run};
use super::{Halt, Role, RunId, Scheduler, Start};
use crate::{ByteRange, Tick};

/// What may be spent on hedges, and when to look again.
#[derive(Debug)]
pub(super) struct Hedging {
    /// One request brings one, a hedge costs as many as `price`.
    saved: u32,
    price: u32,
    due: Tick,
}

impl Hedging {
    /// How many hedges may come in a row.
    const MOST: u32 = 3;

    /// There is enough for one.
    pub(super) const fn new(price: u32) -> Self {
        Self {
            saved: price,
            price,
            due: Tick::NEVER,
        }
    }

    pub(super) const fn due(&self) -> Tick {
        self.due
    }

    pub(super) fn set_price(&mut self, price: u32) {
        self.price = price;
        self.saved = self.saved.min(price.saturating_mul(Self::MOST));
    }

    pub(super) fn asked(&mut self, role: Role) {
        self.saved = match role {
            Role::Hedge(_) => self.saved.saturating_sub(self.price),
            Role::Main | Role::Stripe => self
                .saved
                .saturating_add(1)
                .min(self.price.saturating_mul(Self::MOST)),
        };
    }

    const fn is_affordable(&self) -> bool {
        self.price > 0 && self.saved >= self.price
    }
}

impl Slot {
    /// When what it brings is urgent, if nothing comes until then. A player that has enough for now comes to its end; of
    /// a reader whose rate nobody knows that may be true as well, once it waits.
    fn urgent_at(&self) -> Option<Tick> {
        match self.urgency.rank {
            Rank::Critical => Some(Tick::ZERO),
            Rank::High if self.rate.is_some() => Some(self.urgency.deadline - Scheduler::NEAR),
            Rank::Unproven => Some(self.urgency.deadline),
            _ => None,
        }
    }
}

impl Scheduler {
    /// What an answer may be late by chance: timers and queues of both ends.
    const CHANCE: Duration = Duration::from_millis(100);
    /// A body that stands still for less may be one of a line that hands out its rate in bursts.
    const STANDSTILL: Duration = Duration::from_millis(500);

    /// Asks anew for what is urgent and late.
    pub(super) fn hedge(&mut self, slots: &[Slot]) {
        self.hedging.due = Tick::NEVER;
        if !self.hedging.is_affordable() {
            // Each request that is launched brings a little, and plans anew.
            return;
        }
        for slot in slots {
            let Some((id, late_at)) = self.late_at(slot) else {
                continue;
            };
            if late_at > self.now {
                self.hedging.due = self.hedging.due.min(late_at);
            } else if self.hedging.is_affordable() {
                self.compete_with(id);
            }
        }
    }

    /// The run that brings a slot's next byte, and when that byte is both urgent and late.
    fn late_at(&self, slot: &Slot) -> Option<(RunId, Tick)> {
        let source = self.sources.get(&slot.source)?;
        let is_divisible = !source.is_read_by_one()
            && source.window_cap.is_none()
            && source.blocked_until.is_none();
        let urgent_at = slot.urgent_at()?;
        if !is_divisible
            || self.connections_to(source.origin).count() >= self.config.max_connections
        {
            return None;
        }
        let (id, run) = self.run_near(slot.source, Start::At(slot.at))?;
        let is_next = run.head == slot.at && run.until > run.head && run.takes_slot();
        if !is_next || run.is_hedged || run.suffix.is_some() {
            return None;
        }
        let patience = self.lines.of(source)?.round_trip.upper_bound()? + Self::CHANCE;
        let patience = if run.is_answered {
            patience.max(Self::STANDSTILL)
        } else {
            patience
        };
        Some((id, urgent_at.max(run.expects_since + patience)))
    }

    fn compete_with(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.is_hedged = true;
        let start = Start::At(run.head);
        // What it was asked for may have come by other means since, further on.
        let missing = self.sources.get(&run.source).and_then(|source| {
            let rest = ByteRange::try_new(run.head, run.end)?;
            source.present.first_gap(rest)
        });
        let end = missing.map_or(run.end, |missing| missing.end());
        let mut hedge = Run::new(run.source, start, end, run.urgency, self.now);
        hedge.hedges = Some(id);
        hedge.is_hedged = true;
        let until = run.until;
        self.launch(hedge, start, until);
    }

    /// The hedges that compete with a run.
    pub(super) fn rivals_of(&self, id: RunId) -> impl Iterator<Item = RunId> + '_ {
        self.runs
            .iter()
            .filter(move |(_, run)| run.hedges == Some(id) && run.phase == Phase::Open)
            .map(|(&rival, _)| rival)
    }

    /// Whether another run is on its way to the same bytes as this one, which has just ended.
    pub(super) fn has_rival(&self, id: RunId, run: &Run) -> bool {
        let other = run.hedges.and_then(|other| self.runs.get(&other));
        other.is_some_and(|other| other.phase == Phase::Open) || self.rivals_of(id).next().is_some()
    }

    /// Whether it competes with a run that has a slot.
    pub(super) fn is_hedge_of_any(&self, run: &Run, slots: &[Slot]) -> bool {
        run.hedges.is_some_and(|other| {
            self.runs
                .get(&other)
                .is_some_and(|other| other.phase == Phase::Open)
                && slots.iter().any(|slot| slot.is_of(other))
        })
    }

    /// A run has brought something: it goes on, and those that compete with it end.
    pub(super) fn decide(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        if run.phase != Phase::Open || !run.is_hedged {
            return;
        }
        run.is_hedged = false;
        let late = run.hedges;
        let losers: Vec<RunId> = late.into_iter().chain(self.rivals_of(id)).collect();
        // An answer that never came would otherwise not count, and the next one as late would be hedged too.
        if let Some(late) = late.and_then(|late| self.runs.get(&late))
            && late.phase == Phase::Open
            && !late.is_answered
        {
            let (source, waited) = (late.source, late.waited(self.now));
            if let Some(line) = self.line_of_mut(source) {
                line.round_trip.record(waited);
            }
        }
        for loser in losers {
            self.abort(loser, Halt::Overtaken(id));
        }
    }
}
