//! Giving the slots to the most urgent wants.
//!
//! Every step ranks all wants and walks them from the top until the slots are full. Each want names the run
//! that serves it, one in flight or one to start. Runs that nothing near the top wants are held, where a
//! reader will come to need them, or ended. Within a rank a run in flight keeps its slot, so that two
//! equally urgent readers do not take it from each other at every byte.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::need::{Need, Rank, Urgency};
use super::run::{Phase, Run};
use super::{Action, RunId, Scheduler, SourceId, Start};
use crate::{BLOCK_SIZE, ByteRange, Tick};

/// Something that wants bytes.
#[derive(Clone, Copy, Debug)]
struct Want {
    source: SourceId,
    need: Need,
}

/// The run that serves a want.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// One that is there.
    Existing(RunId),
    /// One to start, in place of the rest of another where the byte wanted lies far in front of its head.
    New {
        instead_of: Option<RunId>,
        start: Start,
        end: u64,
    },
    /// None now: the source waits before its next try, or is being probed by another want's run.
    Wait,
}

/// A new run that has been given a slot.
#[derive(Clone, Copy, Debug)]
struct Planned {
    want: Want,
    instead_of: Option<RunId>,
    start: Start,
    end: u64,
}

impl Scheduler {
    /// Makes the runs in flight those that serve the most urgent wants.
    pub(super) fn plan(&mut self) {
        let mut chosen: BTreeMap<RunId, (Urgency, u64)> = BTreeMap::new();
        let mut planned: Vec<Planned> = Vec::new();
        let mut is_critical = false;
        for want in self.wants() {
            let urgency = want.need.urgency;
            is_critical |= urgency.rank == Rank::Critical;
            if urgency.rank >= Rank::Medium && (is_critical || self.now < self.quiet_until) {
                // Background work leaves the line to what is critical.
                break;
            }
            match self.server_of(&want, &planned) {
                Server::Existing(run) => {
                    let is_new = !chosen.contains_key(&run);
                    if is_new && chosen.len() + planned.len() >= self.config.max_runs {
                        continue;
                    }
                    let until = want.need.until;
                    let is_shared_pace = self.paces_readers_together(want.source);
                    chosen
                        .entry(run)
                        .and_modify(|slot| {
                            slot.1 = if is_shared_pace {
                                slot.1.min(until)
                            } else {
                                slot.1.max(until)
                            };
                        })
                        .or_insert((urgency, until));
                }
                Server::New {
                    instead_of,
                    start,
                    end,
                } => {
                    if chosen.len() + planned.len() < self.config.max_runs {
                        planned.push(Planned {
                            want,
                            instead_of,
                            start,
                            end,
                        });
                    }
                }
                Server::Wait => {}
            }
            if chosen.len() + planned.len() >= self.config.max_runs && urgency.rank > Rank::High {
                break;
            }
        }
        if is_critical {
            self.quiet_until = self.now + Self::QUIET;
        }
        let is_contended = chosen.len() + planned.len() >= self.config.max_runs;
        self.settle(&chosen, is_contended);
        self.start(planned);
    }

    /// All wants, most urgent first, those that a run in flight serves first within their rank.
    fn wants(&self) -> Vec<Want> {
        let mut wants: Vec<(Urgency, bool, Want)> = Vec::new();
        let mut add = |want: Want, this: &Self| {
            let is_running = this
                .run_near(want.source, want.need.at)
                .is_some_and(|run| run.takes_slot());
            wants.push((want.need.urgency, !is_running, want));
        };
        for (_, reader) in &self.needs {
            if let Some(reader) = self.readers.get(reader)
                && let Some(need) = reader.need
            {
                add(
                    Want {
                        source: reader.source,
                        need,
                    },
                    self,
                );
            }
        }
        // More demands than slots cannot all be served; only those whose source can be asked count.
        let mut startable = 0;
        for demand in self.queue.iter() {
            if startable > self.config.max_runs {
                break;
            }
            if let Some(want) =
                self.explicit_want(demand.key, demand.range, Urgency::explicit(demand.priority))
            {
                add(want, self);
                startable += 1;
            }
        }
        if startable == 0 && self.needs.is_empty() {
            for demand in self.backfill.iter().take(self.config.max_runs) {
                if let Some(want) = self.explicit_want(demand.key, demand.range, Urgency::TIDY) {
                    add(want, self);
                }
            }
        }
        // Deadlines decide among critical wants; below, a run in flight stays.
        wants.sort_by_key(|(urgency, is_idle, _)| {
            (
                urgency.rank,
                urgency.rank > Rank::Critical && *is_idle,
                urgency.deadline,
            )
        });
        wants.into_iter().map(|(_, _, want)| want).collect()
    }

    /// The first byte of an explicit demand that is not there and not the tail of a run that comes to it.
    fn explicit_want(&self, id: SourceId, range: ByteRange, urgency: Urgency) -> Option<Want> {
        let source = self.sources.get(&id)?;
        if source.blocked_until.is_some() {
            return None;
        }
        let at = source.present.first_gap(range)?.start();
        Some(Want {
            source: id,
            need: Need {
                urgency,
                at: Start::At(at),
                until: self.demanded_end(id, at, range.end()),
                end: Some(self.demanded_end(id, at, range.end())),
            },
        })
    }

    /// Where a row of adjacent explicit demands ends: they are one run.
    fn demanded_end(&self, id: SourceId, from: u64, end: u64) -> u64 {
        /// The longest run made of explicit demands, which bounds the walk over them.
        const LONGEST: u64 = 1 << 30;
        let mut end = end;
        if let Some(rest) = ByteRange::try_new(end, from.saturating_add(LONGEST)) {
            for demand in self.queue.overlapping(id, rest) {
                if demand.range.start() > end {
                    break;
                }
                end = end.max(demand.range.end());
            }
        }
        end
    }

    /// The open run that will bring the byte at `at`.
    fn run_near(&self, id: SourceId, at: Start) -> Option<&Run> {
        let source = self.sources.get(&id)?;
        source
            .runs
            .iter()
            .filter_map(|run| self.runs.get(run))
            .find(|run| {
                run.phase == Phase::Open
                    && match at {
                        Start::At(at) => run.claims(at),
                        Start::FromEnd(_) => true,
                    }
            })
    }

    fn server_of(&self, want: &Want, planned: &[Planned]) -> Server {
        let Some(source) = self.sources.get(&want.source) else {
            return Server::Wait;
        };
        let runs = || {
            source
                .runs
                .iter()
                .filter_map(|id| self.runs.get(id).map(|run| (*id, run)))
        };
        let is_planned = planned.iter().any(|plan| plan.want.source == want.source);
        // A source of unknown shape is probed by one run; one without ranges is read by one.
        if !source.is_located || !source.accepts_ranges {
            return match runs().next() {
                Some((id, run)) if run.phase == Phase::Open && run.comes_to(want.need.at) => {
                    Server::Existing(id)
                }
                Some(_) => Server::Wait,
                None if is_planned || source.blocked_until.is_some() => Server::Wait,
                None if source.is_located => Server::New {
                    instead_of: None,
                    start: Start::At(0),
                    end: u64::MAX,
                },
                None => Server::New {
                    instead_of: None,
                    start: want.need.at,
                    end: want.need.end.map_or(u64::MAX, |end| match want.need.at {
                        Start::At(at) => block_end(end.max(at.saturating_add(1))),
                        Start::FromEnd(_) => u64::MAX,
                    }),
                },
            };
        }
        let Start::At(at) = want.need.at else {
            return Server::Wait;
        };
        let claimed = runs().find(|(_, run)| run.claims(at));
        if let Some((id, run)) = claimed {
            if run.phase == Phase::Aborting {
                return Server::Wait;
            }
            let is_near = at - run.head <= self.config.skip;
            let is_ahead_of = want.need.urgency.rank <= Rank::High;
            if is_near || !is_ahead_of || source.blocked_until.is_some() {
                return Server::Existing(id);
            }
            if planned.iter().any(|plan| plan.covers(want.source, at)) {
                return Server::Wait;
            }
            return Server::New {
                instead_of: Some(id),
                start: Start::At(at),
                end: run.end.min(planned_end(want, source.total_len)),
            };
        }
        if source.blocked_until.is_some() || planned.iter().any(|plan| plan.covers(want.source, at))
        {
            return Server::Wait;
        }
        // Up to the next byte that is present or coming.
        let mut end = planned_end(want, source.total_len);
        if let Some(rest) = ByteRange::try_new(at, end)
            && let Some(gap) = source.present.first_gap(rest)
        {
            end = gap.end();
        }
        for (_, run) in runs() {
            if run.head > at {
                end = end.min(run.head);
            }
        }
        for plan in planned
            .iter()
            .filter(|plan| plan.want.source == want.source)
        {
            if let Start::At(start) = plan.start
                && start > at
            {
                end = end.min(start);
            }
        }
        Server::New {
            instead_of: None,
            start: Start::At(at),
            end,
        }
    }

    /// Holds, ends or lets on the runs there are.
    fn settle(&mut self, chosen: &BTreeMap<RunId, (Urgency, u64)>, is_contended: bool) {
        let all: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, run)| run.phase == Phase::Open)
            .map(|(&id, _)| id)
            .collect();
        for id in all {
            if chosen.contains_key(&id) {
                continue;
            }
            let Some(run) = self.runs.get(&id) else {
                continue;
            };
            if run.head >= run.end && run.is_answered {
                // Complete: its end is on the way.
                continue;
            }
            if self.will_be_needed(run) {
                self.hold(id);
            } else if self.is_nearly_done(run) && !is_contended {
                self.shorten_to_block(id);
            } else {
                self.abort(id);
            }
        }
        // Slots of held runs are taken again only once those above have been given up.
        for (&id, &(urgency, until)) in chosen {
            let free = self.config.max_runs.saturating_sub(self.active_runs());
            let Some(run) = self.runs.get_mut(&id) else {
                continue;
            };
            run.urgency = urgency;
            if run.held_since.is_some() {
                if free == 0 {
                    continue;
                }
                run.held_since = None;
            }
            let until = until.min(run.end).max(run.head);
            if run.until != until {
                run.until = until;
                self.actions.push_back(Action::Allow { run: id, until });
            }
        }
    }

    fn start(&mut self, planned: Vec<Planned>) {
        for plan in planned {
            if self.active_runs() >= self.config.max_runs {
                // The slot is still being given up; the confirmation brings us back here.
                continue;
            }
            let source_id = plan.want.source;
            if !self.make_room_for_connection(source_id) {
                continue;
            }
            if let Some(other) = plan.instead_of
                && let Start::At(at) = plan.start
            {
                self.shorten(other, at);
            }
            let id = RunId::new(self.next_run);
            self.next_run += 1;
            let head = match plan.start {
                Start::At(at) => at,
                Start::FromEnd(_) => 0,
            };
            let until = plan.want.need.until.min(plan.end).max(head);
            self.runs.insert(
                id,
                Run {
                    source: source_id,
                    start: head,
                    head,
                    end: plan.end,
                    until,
                    urgency: plan.want.need.urgency,
                    phase: Phase::Open,
                    held_since: None,
                    is_answered: false,
                    is_suffix: matches!(plan.start, Start::FromEnd(_)),
                },
            );
            if let Some(source) = self.sources.get_mut(&source_id) {
                source.runs.insert(id);
            }
            self.actions.push_back(Action::Fetch {
                run: id,
                source: source_id,
                start: plan.start,
                end: (plan.end != u64::MAX).then_some(plan.end),
                until,
                level: plan.want.need.urgency.level(),
            });
        }
    }

    /// Ends the connection held longest where a source has as many as it may.
    fn make_room_for_connection(&mut self, id: SourceId) -> bool {
        let Some(source) = self.sources.get(&id) else {
            return false;
        };
        if source.runs.len() < self.config.max_connections {
            return true;
        }
        let oldest = source
            .runs
            .iter()
            .filter_map(|id| Some((self.runs.get(id)?.held_since?, *id)))
            .min();
        if let Some((_, run)) = oldest {
            self.abort(run);
        }
        false
    }

    /// Where bytes can neither be kept nor asked for again, all readers go at the pace of the slowest.
    fn paces_readers_together(&self, id: SourceId) -> bool {
        self.sources
            .get(&id)
            .is_some_and(|source| !source.accepts_ranges && source.window_cap.is_some())
    }

    /// Whether a reader is on its way to the byte this run would bring next.
    fn will_be_needed(&self, run: &Run) -> bool {
        let Some(source) = self.sources.get(&run.source) else {
            return false;
        };
        // A greedy reader's run is ended rather than held: it takes the line from a player at once.
        if run.urgency.rank > Rank::High && !source.readers.is_empty() && source.accepts_ranges {
            return false;
        }
        source
            .readers
            .iter()
            .filter_map(|id| self.readers.get(id))
            .filter(|reader| !reader.has_given_up)
            .any(|reader| {
                let Some(position) = reader.position else {
                    return true;
                };
                let end = reader.end.unwrap_or(u64::MAX);
                let reach = source
                    .present
                    .contiguous_from(position)
                    .max(self.config.skip);
                position < end
                    && run.head < end
                    && position.saturating_add(reach) >= run.head
                    && (run.head >= position || !source.accepts_ranges)
            })
    }

    /// Whether so little is missing to a whole block that ending the run would waste more than it saves.
    fn is_nearly_done(&self, run: &Run) -> bool {
        /// A quarter of a block: about what is in flight anyway.
        const NEARLY: u64 = BLOCK_SIZE / 4;
        let left = block_end(run.head).min(run.end) - run.head;
        run.is_answered
            && run.held_since.is_none()
            && left > 0
            && left <= NEARLY
            && self
                .sources
                .get(&run.source)
                .is_some_and(|source| source.accepts_ranges)
            && run.end > run.head
    }

    fn shorten_to_block(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let end = block_end(run.head).min(run.end);
        self.shorten(id, end);
        if let Some(run) = self.runs.get_mut(&id)
            && run.until < end
        {
            run.until = end;
            self.actions.push_back(Action::Allow {
                run: id,
                until: end,
            });
        }
    }

    fn shorten(&mut self, id: RunId, end: u64) {
        if let Some(run) = self.runs.get_mut(&id)
            && end < run.end
        {
            run.end = end;
            run.until = run.until.min(end);
            self.actions.push_back(Action::Shorten { run: id, end });
        }
    }

    fn hold(&mut self, id: RunId) {
        let now: Tick = self.now;
        if let Some(run) = self.runs.get_mut(&id)
            && run.held_since.is_none()
        {
            run.held_since = Some(now);
            run.until = run.head;
            self.actions.push_back(Action::Allow {
                run: id,
                until: run.head,
            });
        }
    }
}

impl Planned {
    fn covers(&self, source: SourceId, at: u64) -> bool {
        self.want.source == source
            && match self.start {
                Start::At(start) => start <= at && at < self.end,
                Start::FromEnd(_) => true,
            }
    }
}

/// Where a new run for `want` may end at most: a block's end, because only whole blocks are recorded.
fn planned_end(want: &Want, total_len: Option<u64>) -> u64 {
    want.need
        .end
        .map_or(u64::MAX, block_end)
        .min(total_len.unwrap_or(u64::MAX))
}

/// The end of the block that ends at or after `offset`.
fn block_end(offset: u64) -> u64 {
    offset
        .checked_next_multiple_of(BLOCK_SIZE)
        .unwrap_or(u64::MAX)
}
