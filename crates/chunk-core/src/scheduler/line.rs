//! What all files of one origin have in common.
//!
//! They come over one path from one server: what was found out with one of them holds for the next one as well, and
//! a byte for one is no byte for another. Two origins are two lines, as far as anybody knows.

use alloc::collections::BTreeMap;

use super::parallel::Parallel;
use super::source::Source;
use super::trial::Trials;
use super::{OriginId, Scheduler, SourceId};
use crate::RoundTrip;

/// The way to one origin.
#[derive(Debug)]
pub(super) struct Line {
    /// How long the origin takes to answer.
    pub(super) round_trip: RoundTrip,
    /// Over how many connections it is read.
    pub(super) parallel: Parallel,
    /// The source that has the line to itself, whose total rate is being measured.
    measured: Option<SourceId>,
    /// Copies rest, because a player has too little ready.
    pub(super) is_resting: bool,
    pub(super) trials: Trials,
}

impl Line {
    const fn new() -> Self {
        Self {
            round_trip: RoundTrip::new(),
            parallel: Parallel::new(),
            measured: None,
            is_resting: false,
            trials: Trials::new(),
        }
    }

    /// The source whose total is being measured has changed, or there is none.
    pub(super) fn measure_only(&mut self, id: Option<SourceId>) {
        if self.measured != id {
            if self.measured.is_some() {
                self.parallel.disturbed();
            }
            self.measured = id;
        }
    }

    pub(super) fn measures(&self, id: SourceId) -> bool {
        self.measured == Some(id)
    }
}

/// All lines that there have been: as many as the operator has named origins.
#[derive(Debug)]
pub(super) struct Lines(BTreeMap<OriginId, Line>);

impl Lines {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// A file of that origin is open.
    pub(super) fn open(&mut self, origin: OriginId) {
        self.0.entry(origin).or_insert_with(Line::new);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (OriginId, &Line)> {
        self.0.iter().map(|(&origin, line)| (origin, line))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (OriginId, &mut Line)> {
        self.0.iter_mut().map(|(&origin, line)| (origin, line))
    }

    pub(super) fn get(&self, origin: OriginId) -> Option<&Line> {
        self.0.get(&origin)
    }

    pub(super) fn get_mut(&mut self, origin: OriginId) -> Option<&mut Line> {
        self.0.get_mut(&origin)
    }

    pub(super) fn of(&self, source: &Source) -> Option<&Line> {
        self.0.get(&source.origin)
    }
}

impl Scheduler {
    pub(super) fn origin_of(&self, id: SourceId) -> Option<OriginId> {
        self.sources.get(&id).map(|source| source.origin)
    }

    pub(super) fn line_of(&self, id: SourceId) -> Option<&Line> {
        self.lines.get(self.origin_of(id)?)
    }

    pub(super) fn line_of_mut(&mut self, id: SourceId) -> Option<&mut Line> {
        let origin = self.origin_of(id)?;
        self.lines.get_mut(origin)
    }
}
