//! What is wanted, in order.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use super::need::{Need, Rank, Urgency};
use super::run::{Phase, Run};
use super::source::Source;
use super::{ReaderId, RunId, Scheduler, SourceId, Start};
use crate::{ByteRange, Priority, Tick};

/// Something that wants bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) source: SourceId,
    /// Whose it is; nobody's where it was asked for explicitly.
    pub(super) reader: Option<ReaderId>,
    pub(super) need: Need,
}

impl Want {
    /// Its first missing byte; 0 where nobody knows where that is.
    pub(super) const fn at(&self) -> u64 {
        match self.need.at {
            Start::At(at) => at,
            Start::FromEnd(_) => 0,
        }
    }
}

impl Scheduler {
    /// How much earlier a critical deadline must be to take the slot of a critical run: connections are
    /// not to change hands at every byte.
    const CLING: Duration = Duration::from_millis(200);

    /// All wants, most urgent first, those that a run in flight serves first within their rank.
    pub(super) fn wants(&self) -> Vec<Want> {
        let mut wants: Vec<Want> = Vec::new();
        for &(_, id) in &self.needs {
            if let Some(reader) = self.readers.get(&id)
                && let Some(need) = reader.need
            {
                let urgency = self.urgency_by_now(&need);
                wants.push(Want {
                    source: reader.source,
                    reader: Some(id),
                    need: Need { urgency, ..need },
                });
            }
        }
        let is_anything_asked = self.add_explicit(&mut wants);
        if !is_anything_asked && self.needs.is_empty() {
            for demand in self.backfill.iter().take(self.max_runs()) {
                let want = self.explicit_want(demand.key, demand.range, Urgency::TIDY);
                wants.extend(want);
            }
        }
        // Deadlines decide among critical wants, and who waits longest among those nobody knows the rate of;
        // elsewhere a run in flight stays.
        wants.sort_by_cached_key(|want| {
            let urgency = want.need.urgency;
            let is_running = self
                .run_near(want.source, want.need.at)
                // What is brought beside it goes on in its place, once it comes to that.
                .is_some_and(|(_, run)| run.takes_connection());
            let is_by_deadline = matches!(urgency.rank, Rank::Critical | Rank::Unproven);
            let head_start = if is_running && is_by_deadline {
                Self::CLING
            } else {
                Duration::ZERO
            };
            (
                urgency.rank,
                !is_by_deadline && !is_running && !self.is_overdue(urgency),
                urgency.deadline - head_start,
            )
        });
        wants
    }

    /// Adds explicit demands, in the order of the queue, until there are more than slots; returns whether
    /// there are any that can be served.
    fn add_explicit(&self, wants: &mut Vec<Want>) -> bool {
        // What those added so far will bring along, and the sources that one run reads alone.
        let mut brought: Vec<(SourceId, ByteRange)> = Vec::new();
        let mut probed: BTreeSet<SourceId> = BTreeSet::new();
        let mut needing_a_slot = 0;
        for demand in self.queue.iter() {
            if needing_a_slot > self.max_runs() {
                break;
            }
            let start = demand.range.start();
            if brought
                .iter()
                .any(|(id, range)| *id == demand.key && range.contains(start))
            {
                continue;
            }
            let Some(source) = self.sources.get(&demand.key) else {
                continue;
            };
            let urgency = Urgency::explicit(demand.priority);
            let Some(want) = self.explicit_want(demand.key, demand.range, urgency) else {
                continue;
            };
            let is_throttled = self.is_throttled(source.origin, urgency);
            if is_throttled && self.run_near(demand.key, want.need.at).is_none() {
                // Others of another origin may not have to wait.
                continue;
            }
            if source.is_read_by_one() {
                if !probed.insert(demand.key) {
                    continue;
                }
                needing_a_slot += 1;
            } else if !is_throttled && !self.is_being_given_up(source, want.need.at) {
                needing_a_slot += 1;
            }
            if let Start::At(at) = want.need.at {
                let range = ByteRange::try_new(at, want.need.until);
                brought.extend(range.map(|range| (demand.key, range)));
            }
            wants.push(want);
        }
        needing_a_slot > 0
    }

    /// Whether the byte at `at` belongs to a run that has yet to confirm its end.
    pub(super) fn is_being_given_up(&self, source: &Source, at: Start) -> bool {
        let Start::At(at) = at else {
            return false;
        };
        source
            .runs
            .iter()
            .filter_map(|run| self.runs.get(run))
            .any(|run| run.phase == Phase::Aborting && run.claims(at))
    }

    /// The first byte of an explicit demand that is not there, unless its source waits.
    fn explicit_want(&self, id: SourceId, range: ByteRange, urgency: Urgency) -> Option<Want> {
        let source = self.sources.get(&id)?;
        let level = urgency.level();
        if source.blocked_until.is_some() || !source.fetches(level) {
            return None;
        }
        let at = source.present.first_gap(range)?.start();
        Some(Want {
            source: id,
            reader: None,
            need: Need {
                urgency,
                at: Start::At(at),
                // Less urgent neighbours extend the request, and the allowance once their turn comes.
                until: self.demanded_end(id, at, range.end(), level),
                end: Some(self.demanded_end(id, at, range.end(), Priority::Low)),
                rate: None,
                wide_until: u64::MAX,
                bound: u64::MAX,
                since: Tick::ZERO,
                candidate: None,
                left_at: Tick::NEVER,
                stays_until: source.stays_until(at),
            },
        })
    }

    /// Where a row of adjacent explicit demands of `least` or above ends: they are one run.
    pub(super) fn demanded_end(&self, id: SourceId, from: u64, end: u64, least: Priority) -> u64 {
        /// The longest run made of explicit demands, and of how many: they bound the walk over them.
        const LONGEST: u64 = 1 << 30;
        const MOST: usize = 256;
        let mut end = end;
        let fetches = |level| {
            self.sources
                .get(&id)
                .is_none_or(|source| source.fetches(level))
        };
        if let Some(rest) = ByteRange::try_new(end, from.saturating_add(LONGEST)) {
            for demand in self.queue.overlapping(id, rest).take(MOST) {
                if demand.range.start() > end
                    || demand.priority > least
                    || !fetches(demand.priority)
                {
                    break;
                }
                end = end.max(demand.range.end());
            }
        }
        end
    }

    /// The open run that will bring the byte at `at`.
    pub(super) fn run_near(&self, id: SourceId, at: Start) -> Option<(RunId, &Run)> {
        let source = self.sources.get(&id)?;
        let mut open = self
            .runs_of(source)
            .filter(|(_, run)| run.phase == Phase::Open);
        match at {
            Start::At(at) => open
                .filter(|(_, run)| run.claims(at))
                .min_by_key(|(_, run)| run.distance_to(at, source)),
            Start::FromEnd(_) => open.next(),
        }
    }

    pub(super) fn runs_of<'a>(
        &'a self,
        source: &'a Source,
    ) -> impl Iterator<Item = (RunId, &'a Run)> + 'a {
        source
            .runs
            .iter()
            .filter_map(|id| self.runs.get(id).map(|run| (*id, run)))
    }
}
