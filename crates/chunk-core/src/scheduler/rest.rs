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
use super::{Claim, OriginId, Rival, Scheduler};
use crate::Tick;

/// For whom others rest.
#[derive(Debug, Default)]
pub(super) struct Resting {
    lines: BTreeMap<OriginId, OnLine>,
    /// For somebody on whatever line.
    anywhere: OnLine,
    /// A player on one line calls for what others carry, until then at most.
    called: Option<(Tick, Rival)>,
}

/// What there is on one line: of each kind the most urgent.
#[derive(Clone, Copy, Debug, Default)]
struct OnLine {
    /// Something critical can be served.
    critical: Option<Rival>,
    /// Something critical can be served whose reader has next to nothing.
    empty: Option<Rival>,
    /// Somebody nobody knows the rate of can be.
    unproven: Option<Rival>,
    /// A player has too little ready.
    short: Option<Rival>,
    /// A player runs dry, and not because it has just begun.
    dry: Option<Rival>,
    copy: Option<Rival>,
    /// A reader of unknown rate is to show whether it plays.
    tried: Option<Rival>,
}

impl OnLine {
    /// For which reader that is to show whether it plays, if not for its own, a want rests.
    fn tried_beside(&self, want: &Want) -> Option<Rival> {
        self.tried.filter(|tried| tried.reader != want.reader)
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

    /// Until when at most the copies of other lines are to rest, and for whom.
    fn look(&mut self, now: Tick, lines: &BTreeMap<OriginId, OnLine>) -> Option<(Tick, Rival)> {
        let dry = lines.values().find_map(|on| on.dry);
        let is_shared = lines.iter().any(|(origin, on)| {
            on.dry.is_some()
                && lines
                    .iter()
                    .any(|(other, on)| other != origin && on.copy.is_some())
        });
        let short = lines.values().find_map(|on| on.short);
        if short.is_none() {
            self.called_at = None;
        }
        if is_shared && now >= self.apart_until {
            self.called_at.get_or_insert(now);
        }
        let at = self.called_at?;
        if dry.is_some() && at + Self::PATIENCE <= now {
            self.called_at = None;
            self.apart_until = now + Self::MEMORY;
            return None;
        }
        // Once it has a little, the rest goes on until it has enough.
        let until = match dry {
            Some(_) => at + Self::PATIENCE,
            None => Tick::NEVER,
        };
        Some((until, dry.or(short)?))
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
            let note = |first: &mut Option<Rival>, is_so: bool| {
                if is_so {
                    first.get_or_insert_with(|| want.rival());
                }
            };
            let is_critical = urgency.rank == Rank::Critical;
            note(&mut on.critical, is_critical);
            note(
                &mut on.empty,
                is_critical && urgency.deadline < self.now + Self::EMPTY,
            );
            note(&mut on.unproven, urgency.rank == Rank::Unproven);
            note(&mut on.copy, urgency.rank == Rank::Bulk);
            if want.need.rate.is_some() {
                let is_resting = self.lines.get(origin).is_some_and(|line| line.is_resting);
                let enough = Self::COMFORT * if is_resting { 2 } else { 1 };
                note(&mut on.short, urgency.deadline < self.now + enough);
                let is_settled = want.need.since + Self::SETTLED <= self.now;
                note(&mut on.dry, is_critical && is_settled);
            }
        }
        for (origin, candidate) in self.try_out(wants) {
            let mut wants = wants.iter();
            resting.lines.entry(origin).or_default().tried = wants
                .find(|want| want.reader == Some(candidate))
                .map(|want| Rival {
                    claim: Claim::Trial,
                    ..want.rival()
                });
        }
        for (origin, line) in self.lines.iter_mut() {
            let on = resting.lines.entry(origin).or_default();
            on.short = on.critical.or(on.short);
            line.is_resting = on.short.is_some();
            let all = &mut resting.anywhere;
            all.short = all.short.or(on.short);
            all.unproven = all.unproven.or(on.unproven);
        }
        resting.called = self.junction.look(self.now, &resting.lines);
        resting
    }

    /// Until when at most a want rests, if it does, and for what.
    pub(super) fn rests_until(&self, want: &Want, resting: &Resting) -> Option<(Tick, Rival)> {
        let urgency = want.need.urgency;
        let origin = self.origin_of(want.source)?;
        let on = resting.lines.get(&origin).copied().unwrap_or_default();
        let all = resting.anywhere;
        // Without a rate it is an explicit request, which claims its slot.
        let is_player = want.need.rate.is_some();
        let deadline = urgency.deadline;
        let rests = |rival: Option<Rival>, until: Tick| rival.map(|rival| (until, rival));
        let (until, rival) = match urgency.rank {
            Rank::Critical if is_player => rests(on.empty, deadline - Self::EMPTY),
            Rank::High if is_player => rests(on.critical, deadline - Self::NEAR)
                .or_else(|| rests(on.unproven, deadline - Self::COMFORT)),
            // Who waits for long gets a turn, lest its client give up. Short turns would take from a trial what it is
            // to show.
            Rank::Unproven => rests(on.critical, deadline).or_else(|| {
                let long = deadline + (Self::TURN - Self::SHORT_TURN);
                rests(on.tried_beside(want), long)
            }),
            Rank::Bulk => rests(on.short.or(on.unproven), deadline).or_else(|| {
                let (until, rival) = resting.called?;
                Some((deadline.min(until), rival))
            }),
            // The lines of two origins may meet in the house.
            Rank::Yielding => rests(all.short.or(all.unproven).or(on.copy), deadline),
            // Nobody waits for these, and the lines of two origins may meet in the house.
            Rank::Medium | Rank::Low | Rank::Tidy => rests(all.short.or(all.unproven), Tick::NEVER),
            Rank::Critical | Rank::High => None,
        }?;
        (until > self.now).then_some((until, rival))
    }

    /// When it is the turn of one that rests; never for who takes none.
    pub(super) const fn turn_of(urgency: Urgency) -> Tick {
        match urgency.rank {
            Rank::Unproven | Rank::Bulk | Rank::Yielding => urgency.deadline,
            _ => Tick::NEVER,
        }
    }

    /// Whether it is the turn of one that rests.
    pub(super) fn is_overdue(&self, urgency: Urgency) -> bool {
        Self::turn_of(urgency) <= self.now
    }
}
