//! Who rests, so that others have the line.
//!
//! A slot is not all that counts, since runs share a line. Who has enough for now lets those go first who have
//! not: a player that has two seconds, players that start or are about to run dry; who may turn out to be a
//! copy, all of these; a copy, everybody. Resting costs nothing, since the connection stays open.

use core::time::Duration;

use super::Scheduler;
use super::need::{Rank, Urgency};
use super::wants::Want;
use crate::Tick;

/// For whom others rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resting {
    /// Something critical can be served.
    for_critical: bool,
    /// Somebody nobody knows the rate of can be.
    for_unproven: bool,
    /// A player has too little ready.
    for_player: bool,
}

impl Scheduler {
    /// Copies and background work rest while a player has less than this ready, and go on once it has twice
    /// as much. Sharing a line evenly would starve a player that needs more than half of it, and turning
    /// them off and on at one mark would cost a request each time. A player that has this much lets those go first
    /// who may be players as well.
    pub(super) const COMFORT: Duration = Duration::from_secs(5);

    /// For whom others are to rest now.
    pub(super) fn resting(&mut self, wants: &[Want]) -> Resting {
        let is_there = |rank| {
            wants
                .iter()
                .any(|want| want.need.urgency.rank == rank && !self.is_blocked(want.source))
        };
        let (for_critical, for_unproven) = (is_there(Rank::Critical), is_there(Rank::Unproven));
        self.is_resting = for_critical || self.is_a_player_short(wants);
        Resting {
            for_critical,
            for_unproven,
            for_player: self.is_resting,
        }
    }

    /// Until when at most a want rests, if it does.
    pub(super) fn rests_until(&self, want: &Want, resting: Resting) -> Option<Tick> {
        let urgency = want.need.urgency;
        // Without a rate it is an explicit request, which claims its slot.
        let is_player = want.need.rate.is_some();
        let until = match urgency.rank {
            Rank::High if is_player && resting.for_critical => urgency.deadline - Self::NEAR,
            Rank::High if is_player && resting.for_unproven => urgency.deadline - Self::COMFORT,
            // Who waits for long gets a turn, lest its client give up.
            Rank::Unproven if resting.for_critical => urgency.deadline,
            Rank::Bulk if resting.for_player || resting.for_unproven => urgency.deadline,
            Rank::Medium | Rank::Low | Rank::Tidy if resting.for_player || resting.for_unproven => {
                Tick::NEVER
            }
            _ => return None,
        };
        (until > self.now).then_some(until)
    }

    /// Whether a reader has so little ready that copies are to leave it the line.
    fn is_a_player_short(&self, wants: &[Want]) -> bool {
        let enough = if self.is_resting {
            2 * Self::COMFORT
        } else {
            Self::COMFORT
        };
        wants
            .iter()
            .filter(|want| !self.is_blocked(want.source))
            .filter(|want| want.need.rate.is_some())
            .map(|want| want.need.urgency)
            .any(|urgency| urgency.deadline < self.now + enough)
    }

    /// Whether it is the turn of one that rests.
    pub(super) fn is_overdue(&self, urgency: Urgency) -> bool {
        matches!(urgency.rank, Rank::Unproven | Rank::Bulk) && urgency.deadline <= self.now
    }
}
