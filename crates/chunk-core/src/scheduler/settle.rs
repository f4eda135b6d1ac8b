//! Holding and ending the runs that have no slot.

use alloc::vec::Vec;
use core::time::Duration;

use super::need::Rank;
use super::plan::Slot;
use super::run::{Phase, Run};
use super::{Action, Halt, Rival, RunId, Scheduler};
use crate::block::block_end;
use crate::{BLOCK_SIZE, ByteRange, Tick};

impl Scheduler {
    /// Holds or ends the runs that got no slot.
    pub(super) fn settle(&mut self, slots: &[Slot], throttled: &[RunId]) {
        let is_contended = slots.len() >= self.max_runs();
        let others: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(id, run)| {
                run.phase == Phase::Open && !slots.iter().any(|slot| slot.is_of(**id))
            })
            .map(|(&id, _)| id)
            .collect();
        for id in others {
            let Some(run) = self.runs.get(&id) else {
                continue;
            };
            if self.is_stripe_of_any(run, slots) || self.is_hedge_of_any(run, slots) {
                continue;
            }
            if run.head >= run.end {
                // Complete, and its end is on the way; or past the file's end, as has just come out.
                if !run.is_answered {
                    self.abort(id, Halt::Unwanted);
                }
                continue;
            }
            let put_back = self.halt_of_want(run);
            if self.has_met_a_ring(run) {
                self.abort(id, Halt::Unwanted);
                continue;
            }
            if throttled.contains(&id) {
                self.hold(id, put_back.unwrap_or(Halt::Throttled));
                continue;
            }
            let is_needed = self.will_be_needed(id, run);
            let kept_waiting = is_needed
                .then(|| self.would_keep_waiting(run, slots))
                .flatten();
            if is_needed && kept_waiting.is_none() {
                self.hold(id, put_back.unwrap_or(Halt::Enough));
            } else if self.is_nearly_done(run) && !is_contended {
                self.shorten_to_block(id, put_back.unwrap_or(Halt::Unwanted));
            } else {
                let halt = put_back.or(kept_waiting.map(|rival| Halt::Rests {
                    rival,
                    until: Tick::NEVER,
                }));
                self.abort(id, halt.unwrap_or(Halt::Unwanted));
            }
        }
    }

    /// Whether a reader is on its way to the byte this run would bring next.
    fn will_be_needed(&self, id: RunId, run: &Run) -> bool {
        let Some(source) = self.sources.get(&run.source) else {
            return false;
        };
        if !source.accepts_ranges {
            // Ending such a run throws away its place in the file; a second one brings nothing.
            let first = self
                .runs_of(source)
                .find(|(_, run)| run.phase == Phase::Open);
            if first.is_some_and(|(first, _)| first != id) {
                return false;
            }
            let rest = ByteRange::try_new(run.head, u64::MAX);
            let is_asked_for = rest.is_some_and(|rest| {
                let mut asked = self.queue.overlapping(run.source, rest);
                asked.any(|demand| source.fetches(demand.priority))
            });
            if is_asked_for {
                return true;
            }
        } else if run.urgency.rank == Rank::Bulk && source.window_cap.is_none() {
            // A greedy reader's run is ended rather than held: a held connection still fills its buffers,
            // and a player needs the line at once. Where bytes cannot be kept, windows are so small that each
            // would be a request.
            return false;
        }
        let is_on_its_way_from = |position: u64, end: u64| {
            let reach = source
                .present
                .contiguous_from(position)
                .max(self.config.skip);
            position < end
                && run.head < end
                && position.saturating_add(reach) >= run.head
                && (run.head >= position || !source.accepts_ranges)
        };
        let may_come_back = source
            .gone
            .iter()
            .filter(|gone| gone.rate.is_some() || run.held_since.is_some())
            .any(|gone| is_on_its_way_from(gone.position, u64::MAX));
        may_come_back
            || source
                .readers
                .iter()
                .filter_map(|id| self.readers.get(id))
                .filter(|reader| !reader.has_given_up)
                .any(|reader| match reader.position {
                    Some(at) => is_on_its_way_from(at, reader.end.unwrap_or(u64::MAX)),
                    None => true,
                })
    }

    /// Whom what its connection takes from the line although nobody reads it would keep waiting who is short, and for
    /// longer than it takes to ask anew.
    fn would_keep_waiting(&self, run: &Run, slots: &[Slot]) -> Option<Rival> {
        /// What a window begins with, and half as much that its origin has written already.
        const UNREAD: u64 = 96 * 1024;
        let source = self.sources.get(&run.source)?;
        let round_trip = self.lines.of(source)?.round_trip.estimate()?;
        let rate = run.rate.rate()?;
        // Once its buffers are full it takes nothing more.
        let held = run
            .held_since
            .map_or(Duration::ZERO, |since| self.now.since(since));
        let takes = Duration::from_micros(UNREAD.saturating_mul(1_000_000) / rate.max(1));
        let is_in_time = |slot: &Slot| slot.urgency.deadline > self.now + takes;
        let is_felt = source.accepts_ranges && round_trip < takes && held < takes;
        let mut slots = slots.iter().filter(|_| is_felt);
        slots
            .find(|slot| slot.urgency.rank == Rank::Critical && !is_in_time(slot))
            .map(|slot| slot.rival)
    }

    /// Whether so little is missing to a whole block that ending the run would waste more than it saves.
    fn is_nearly_done(&self, run: &Run) -> bool {
        /// A quarter of a block: about what is in flight anyway.
        const NEARLY: u64 = BLOCK_SIZE / 4;
        let left = block_end(run.head).min(run.end).saturating_sub(run.head);
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

    fn shorten_to_block(&mut self, id: RunId, halt: Halt) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let end = block_end(run.head).min(run.end);
        self.shorten(id, end);
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.halt = Some(halt);
        if run.until < end {
            run.until = end;
            self.actions.push_back(Action::Allow {
                run: id,
                until: end,
            });
        }
    }
}
