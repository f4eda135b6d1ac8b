//! Telling players from copies: who came last gets the line, until a pause shows what it is.
//!
//! Two readers of unknown rate that share a line just faster than a film starve each other, and neither ever
//! shows the pause that would prove it a player. Alone on the line, a player fills its own buffer and
//! pauses, and from then on its deadlines count.

use core::time::Duration;

use super::need::Rank;
use super::wants::Want;
use super::{Scheduler, SourceId};
use crate::Tick;

impl Scheduler {
    /// How long a reader that has just come is on trial: a player with a buffer of two seconds on a line 1.3
    /// times as fast as its film pauses after four.
    const TRIAL: Duration = Duration::from_secs(8);

    /// How long a reader lets a newer one go first without a byte.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// The reader that came last of those nobody can tell from a copy yet, for as long as it is on trial. One that
    /// rests for a player does not count: nobody must wait for who waits.
    pub(super) fn newest_on_trial(
        &self,
        wants: &[Want],
        resting: Option<Rank>,
    ) -> Option<(SourceId, Tick)> {
        wants
            .iter()
            .filter(|want| !self.is_blocked(want.source))
            .filter(|want| resting.is_none_or(|first| want.need.urgency.rank < first))
            .filter_map(|want| Some((want.source, want.need.trial?.since)))
            .filter(|&(_, since)| self.now.since(since) < Self::TRIAL)
            .max_by_key(|&(_, since)| since)
    }

    /// Until when a reader of unknown rate lets a newer one of another file go first, if it does: once it has
    /// started, and not for so long that it may be a player running dry.
    pub(super) fn gives_way(
        &self,
        want: &Want,
        (source, newest): (SourceId, Tick),
    ) -> Option<Tick> {
        let trial = want.need.trial?;
        if want.source == source || !trial.has_started || trial.since >= newest {
            return None;
        }
        let until = trial
            .waiting_since
            .map_or(newest + Self::TRIAL, |since| since + Self::PATIENCE);
        (until > self.now).then_some(until)
    }
}
