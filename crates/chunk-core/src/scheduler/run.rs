//! One origin request.

use super::need::Urgency;
use super::{SourceId, Start};
use crate::Tick;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reading, or held where `until` is the head.
    Open,
    /// Told to stop; the driver has not confirmed yet.
    Aborting,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) source: SourceId,
    pub(super) start: u64,
    /// The next byte to arrive.
    pub(super) head: u64,
    /// Where the run ends, exclusive; 2⁶⁴ − 1 while nobody knows.
    pub(super) end: u64,
    /// How far it may read.
    pub(super) until: u64,
    pub(super) urgency: Urgency,
    pub(super) phase: Phase,
    /// Since when it is held; stays set while a held run is being aborted, which takes no slot either.
    pub(super) held_since: Option<Tick>,
    pub(super) is_answered: bool,
    /// How many bytes before an unknown end it asks for: it claims everything until that end is known.
    pub(super) suffix: Option<u64>,
}

impl Run {
    /// Whether it counts towards the limit.
    pub(super) const fn takes_slot(&self) -> bool {
        self.held_since.is_none()
    }

    /// Whether the byte at `at` lies in front of the head, so that reading on will bring it.
    pub(super) const fn comes_to(&self, at: Start) -> bool {
        match at {
            Start::At(at) => !self.is_answered || self.head <= at,
            Start::FromEnd(_) => true,
        }
    }

    /// Whether the byte at `offset` is still to come from this run.
    pub(super) fn claims(&self, offset: u64) -> bool {
        self.suffix.is_some() || (self.head <= offset && offset < self.end)
    }
}
