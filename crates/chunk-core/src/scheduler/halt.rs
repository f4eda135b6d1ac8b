//! Why something does not go on, for whoever asks.
//!
//! Each plan notes what it put back and for what, and each run that is held or ended keeps the reason. Nothing here
//! decides anything.

use super::need::Rank;
use super::plan::Slot;
use super::run::Run;
use super::wants::Want;
use super::{Level, ReaderId, RunId, Scheduler, SourceId, Start};
use crate::Tick;

/// By what right something goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// A player, which has nothing of its own any more from then on.
    Player {
        /// Never, while it is paused.
        dry_at: Tick,
    },
    /// A reader that has just come or sought, of unknown rate.
    Starting,
    /// A reader of which nobody knows whether it plays.
    Unproven,
    /// The same, while others rest so that it can show that it does.
    Trial,
    /// A reader that takes whatever it gets.
    Copy,
    /// A reader that lets all others go first.
    Yielding,
    /// An explicit request.
    Request,
    /// What is fetched when nothing else is wanted.
    Tidying,
}

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rival {
    /// What it wants bytes of.
    pub source: SourceId,
    /// Whose want it is; nobody's where it is not a reader's.
    pub reader: Option<ReaderId>,
    /// Its first missing byte, where that is known.
    pub at: Option<u64>,
    /// How urgent it is.
    pub level: Level,
    /// Why.
    pub claim: Claim,
}

/// Why something does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Halt {
    /// It rests, so that another one has the line.
    Rests {
        /// Who has it.
        rival: Rival,
        /// When it goes on all the same; never where nobody waits for it.
        until: Tick,
    },
    /// All slots are taken; this is the least urgent one that has one.
    Full {
        /// How many there are.
        slots: usize,
        /// Who has the last.
        last: Rival,
    },
    /// Its origin has as many connections as it may, and this one needs one more.
    Connection(Rival),
    /// It is about to begin: what makes room for it has yet to end.
    Ending,
    /// Something critical was wanted a moment ago: nothing is begun in the background for now.
    Quiet,
    /// The rate of background work is used up for now.
    Throttled,
    /// Nothing is fetched in the background where each byte costs.
    Metered,
    /// There is no room for what it would bring.
    NoRoom,
    /// Its source has failed, and is not tried before then.
    Failed(Tick),
    /// Its reader has enough for now.
    Enough,
    /// Nobody wants its bytes, at present or any more.
    Unwanted,
    /// That run was the first to bring what both were asked for.
    Overtaken(RunId),
    /// It was held for as long as a connection is kept.
    Expired,
    /// Fewer connections bring as much.
    Needless,
}

impl Halt {
    /// What goes first, where that is the reason.
    #[must_use]
    pub const fn rival(&self) -> Option<Rival> {
        match self {
            Self::Rests { rival, .. }
            | Self::Full { last: rival, .. }
            | Self::Connection(rival) => Some(*rival),
            _ => None,
        }
    }

    /// Whether it is the same reason, however urgent that has become and however far it has come.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let who = |halt: &Self| halt.rival().map(|rival| (rival.source, rival.reader));
        core::mem::discriminant(self) == core::mem::discriminant(other) && who(self) == who(other)
    }
}

/// A want that the last plan served by nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutBack {
    /// What it wants bytes of.
    pub source: SourceId,
    /// Whose it is; nobody's where it is not a reader's.
    pub reader: Option<ReaderId>,
    /// Its first missing byte; 0 where nobody knows where that is.
    pub at: u64,
    /// How far it reaches, exclusive.
    pub until: u64,
    /// Why.
    pub halt: Halt,
}

impl Want {
    pub(super) fn rival(&self) -> Rival {
        let urgency = self.need.urgency;
        Rival {
            source: self.source,
            reader: self.reader,
            at: match self.need.at {
                Start::At(at) => Some(at),
                Start::FromEnd(_) => None,
            },
            level: urgency.level(),
            claim: match (self.reader, self.need.rate, urgency.rank) {
                (None, _, Rank::Tidy) => Claim::Tidying,
                (None, ..) => Claim::Request,
                (Some(_), Some(_), _) => Claim::Player {
                    dry_at: urgency.deadline,
                },
                (Some(_), None, Rank::Bulk) => Claim::Copy,
                (Some(_), None, Rank::Yielding) => Claim::Yielding,
                (Some(_), None, Rank::Critical) => Claim::Starting,
                (Some(_), None, _) => Claim::Unproven,
            },
        }
    }
}

impl Scheduler {
    /// What the last plan served by nothing, most urgent first.
    #[must_use]
    pub fn put_back(&self) -> &[PutBack] {
        &self.put_back
    }

    /// Why the byte at `offset` is not being fetched, where somebody wants it: what keeps the want that reaches it, and
    /// where it is an explicit request that has not even been looked at, what keeps the first in line.
    #[must_use]
    pub fn why_put_back(&self, source: SourceId, offset: u64) -> Option<PutBack> {
        let near = self.run_near(source, Start::At(offset));
        if near.is_some_and(|(_, run)| run.takes_connection()) {
            return None;
        }
        let reaches_it =
            |one: &&PutBack| one.source == source && one.at <= offset && offset < one.until;
        let nearest = self.put_back.iter().filter(reaches_it);
        if let Some(nearest) = nearest.max_by_key(|one| one.at) {
            return Some(*nearest);
        }
        let level = self.queue.priority_at(source, offset)?;
        let found = self.sources.get(&source)?;
        let own = match found.blocked_until {
            Some(until) => Some(Halt::Failed(until)),
            None => (!found.fetches(level)).then_some(Halt::NoRoom),
        };
        let first = || self.put_back.iter().find(|one| one.reader.is_none());
        Some(PutBack {
            source,
            reader: None,
            at: offset,
            until: offset.saturating_add(1),
            halt: own.or_else(|| first().map(|one| one.halt))?,
        })
    }

    /// Why a run that is held, being ended, or to end at its block is; `None` for any other.
    #[must_use]
    pub fn why_halted(&self, run: RunId) -> Option<Halt> {
        self.runs.get(&run)?.halt
    }

    pub(super) fn put_back_want(&mut self, want: &Want, halt: Halt) {
        self.put_back.push(PutBack {
            source: want.source,
            reader: want.reader,
            at: want.at(),
            until: want.need.until,
            halt,
        });
    }

    /// There is a slot, but what had it, or was to bring these bytes, has yet to end.
    pub(super) fn put_off(&mut self, slot: &Slot) {
        self.put_back.push(PutBack {
            source: slot.source,
            reader: slot.rival.reader,
            at: slot.at,
            until: slot.until,
            halt: Halt::Ending,
        });
    }

    /// There is no slot for one more.
    pub(super) fn put_back_for_slots(&mut self, want: &Want, slots: &[Slot]) {
        if let Some(slot) = slots.last() {
            let halt = Halt::Full {
                slots: slots.len(),
                last: slot.rival,
            };
            self.put_back_want(want, halt);
        }
    }

    /// Why a run has no slot: what keeps the want that it serves.
    pub(super) fn halt_of_want(&self, run: &Run) -> Option<Halt> {
        let is_only = self
            .sources
            .get(&run.source)
            .is_some_and(super::source::Source::is_read_by_one);
        self.put_back
            .iter()
            .filter(|one| one.source == run.source)
            .find(|one| is_only || run.claims(one.at))
            .map(|one| one.halt)
    }
}
