//! Who rests, so that others have the line.
//!
//! A slot is not all that counts, since runs share a line. Who has enough for now lets those go first who have
//! not: a player that has two seconds, players that start or are about to run dry; one of these that has half a
//! second, those that have not even that; who may turn out to be a copy, all of these; a copy, everybody; who said so,
//! copies as well. Resting costs nothing, since the connection stays open.
//!
//! Readers rest for those of their own line. Only where a player runs dry do the copies of other origins rest as well,
//! to see whether they were in its way.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::need::{Rank, Urgency};
use super::wants::Want;
use super::{OriginId, ReaderId, Scheduler};
use crate::Tick;

/// For whom others rest.
#[derive(Debug, Default)]
pub(super) struct Resting {
    lines: BTreeMap<OriginId, OnLine>,
    /// For somebody on whatever line.
    anywhere: OnLine,
    /// A player on one line calls for what others carry, until then at most.
    called_until: Option<Tick>,
}

/// What there is on one line.
#[derive(Clone, Copy, Debug, Default)]
struct OnLine {
    /// Something critical can be served.
    for_critical: bool,
    /// Something critical can be served whose reader has next to nothing.
    for_empty: bool,
    /// Somebody nobody knows the rate of can be.
    for_unproven: bool,
    /// A player has too little ready.
    for_player: bool,
    /// A player runs dry, and not because it has just begun.
    is_dry: bool,
    is_copied: bool,
    /// A reader of unknown rate is to show whether it plays.
    for_trial: Option<ReaderId>,
}

impl OnLine {
    fn is_tried_by_another_than(&self, want: &Want) -> bool {
        let reader = want.need.candidate.map(|candidate| candidate.reader);
        self.for_trial.is_some() && self.for_trial != reader
    }
}

/// Whether the lines of different origins meet further on, as far as trying has shown.
///
/// Nobody can tell a slow origin from a line that another origin's copies fill. So these rest while a player runs dry,
/// until it has enough; where it still runs dry after a while, they had nothing to do with it.
#[derive(Debug)]
pub(super) struct Junction {
    called_at: Option<Tick>,
    apart_until: Tick,
}

impl Junction {
    /// How long a player may take to show that others were in its way.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// How long it counts that they were not: lines change.
    const MEMORY: Duration = Duration::from_secs(300);

    pub(super) const fn new() -> Self {
        Self {
            called_at: None,
            apart_until: Tick::ZERO,
        }
    }

    /// Until when at most the copies of other lines are to rest.
    fn look(&mut self, now: Tick, lines: &BTreeMap<OriginId, OnLine>) -> Option<Tick> {
        let is_dry = lines.values().any(|on| on.is_dry);
        let is_shared = lines.iter().any(|(origin, on)| {
            on.is_dry
                && lines
                    .iter()
                    .any(|(other, on)| other != origin && on.is_copied)
        });
        if !lines.values().any(|on| on.for_player) {
            self.called_at = None;
        }
        if is_shared && now >= self.apart_until {
            self.called_at.get_or_insert(now);
        }
        let at = self.called_at?;
        if is_dry && at + Self::PATIENCE <= now {
            self.called_at = None;
            self.apart_until = now + Self::MEMORY;
            return None;
        }
        // Once it has a little, the rest goes on until it has enough.
        Some(if is_dry {
            at + Self::PATIENCE
        } else {
            Tick::NEVER
        })
    }
}

impl Scheduler {
    /// Copies and background work rest while a player has less than this ready, and go on once it has twice
    /// as much. Sharing a line evenly would starve a player that needs more than half of it, and turning
    /// them off and on at one mark would cost a request each time. A player that has this much lets those go first
    /// who may be players as well.
    pub(super) const COMFORT: Duration = Duration::from_secs(5);

    /// A player that runs dry so soon after a seek does so because it has only begun.
    pub(super) const SETTLED: Duration = Self::NEAR;

    /// A player that has less than this has next to nothing: what players start with. Whoever has more goes on when it has
    /// come down to this. Half and twice as much make a difference of 2 %.
    const EMPTY: Duration = Duration::from_millis(500);

    /// For whom others are to rest now.
    pub(super) fn resting(&mut self, wants: &[Want]) -> Resting {
        let mut resting = Resting::default();
        for want in wants.iter().filter(|want| !self.is_blocked(want.source)) {
            let Some(origin) = self.origin_of(want.source) else {
                continue;
            };
            let urgency = want.need.urgency;
            let on = resting.lines.entry(origin).or_default();
            on.for_critical |= urgency.rank == Rank::Critical;
            on.for_empty |=
                urgency.rank == Rank::Critical && urgency.deadline < self.now + Self::EMPTY;
            on.for_unproven |= urgency.rank == Rank::Unproven;
            on.is_copied |= urgency.rank == Rank::Bulk;
            if want.need.rate.is_some() {
                let is_resting = self.lines.get(origin).is_some_and(|line| line.is_resting);
                let enough = Self::COMFORT * if is_resting { 2 } else { 1 };
                on.for_player |= urgency.deadline < self.now + enough;
                let is_settled = want.need.since + Self::SETTLED <= self.now;
                on.is_dry |= urgency.rank == Rank::Critical && is_settled;
            }
        }
        for (origin, candidate) in self.try_out(wants) {
            resting.lines.entry(origin).or_default().for_trial = Some(candidate);
        }
        for (origin, line) in self.lines.iter_mut() {
            let on = resting.lines.entry(origin).or_default();
            on.for_player |= on.for_critical;
            line.is_resting = on.for_player;
            let all = &mut resting.anywhere;
            all.for_player |= on.for_player;
            all.for_unproven |= on.for_unproven;
        }
        resting.called_until = self.junction.look(self.now, &resting.lines);
        resting
    }

    /// Until when at most a want rests, if it does.
    pub(super) fn rests_until(&self, want: &Want, resting: &Resting) -> Option<Tick> {
        let urgency = want.need.urgency;
        let origin = self.origin_of(want.source)?;
        let on = resting.lines.get(&origin).copied().unwrap_or_default();
        let all = resting.anywhere;
        // Without a rate it is an explicit request, which claims its slot.
        let is_player = want.need.rate.is_some();
        let until = match urgency.rank {
            Rank::Critical if is_player && on.for_empty => urgency.deadline - Self::EMPTY,
            Rank::High if is_player && on.for_critical => urgency.deadline - Self::NEAR,
            Rank::High if is_player && on.for_unproven => urgency.deadline - Self::COMFORT,
            // Who waits for long gets a turn, lest its client give up.
            Rank::Unproven if on.for_critical => urgency.deadline,
            // Short turns would take from a trial what it is to show.
            Rank::Unproven if on.is_tried_by_another_than(want) => {
                urgency.deadline + (Self::TURN - Self::SHORT_TURN)
            }
            Rank::Bulk if on.for_player || on.for_unproven => urgency.deadline,
            Rank::Bulk => urgency.deadline.min(resting.called_until?),
            // The lines of two origins may meet in the house.
            Rank::Yielding if all.for_player || all.for_unproven || on.is_copied => {
                urgency.deadline
            }
            // Nobody waits for these, and the lines of two origins may meet in the house.
            Rank::Medium | Rank::Low | Rank::Tidy if all.for_player || all.for_unproven => {
                Tick::NEVER
            }
            _ => return None,
        };
        (until > self.now).then_some(until)
    }

    /// Whether it is the turn of one that rests.
    pub(super) fn is_overdue(&self, urgency: Urgency) -> bool {
        let takes_turns = matches!(urgency.rank, Rank::Unproven | Rank::Bulk | Rank::Yielding);
        takes_turns && urgency.deadline <= self.now
    }
}
