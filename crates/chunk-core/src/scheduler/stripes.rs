//! Connections besides the one that a want's slot is for.
//!
//! A *stripe* is a run that brings a later piece of what some want with a slot will come to. It takes no slot,
//! because it is part of that slot's work, and ends with it; the cap on connections covers it. Once the want
//! comes to its first byte it takes over the slot. There are two reasons for one: several connections together
//! bring more than one does ([`Parallel`](super::parallel::Parallel)), and a run that is about to end is
//! followed by the next without a round trip between them.
//!
//! Pieces are handed out in order, so that the one to be read next is always in flight, and are as long as
//! what one connection brings in a third of a second: long against a round trip, and short enough that nobody
//! waits for a far piece.

use alloc::vec::Vec;
use core::time::Duration;

use super::need::Rank;
use super::plan::{Slot, SlotRun};
use super::run::{Phase, Run};
use super::source::Source;
use super::{Action, Halt, OriginId, RunId, Scheduler, SourceId, Start};
use crate::block::block_end;
use crate::estimate::bytes_in;
use crate::{BLOCK_SIZE, ByteRange};

/// A want that has a slot, as far as its stripes are concerned.
#[derive(Clone, Copy, Debug)]
struct Lead {
    run: RunId,
    source: SourceId,
    /// How many connections it may be read over.
    share: usize,
    /// Bytes a second of one connection.
    rate: u64,
    until: u64,
}

impl Scheduler {
    /// What the timers of a path vary by: a run's last bytes are asked for this much earlier.
    const MARGIN: Duration = Duration::from_millis(5);
    /// So little time is not worth a request.
    const INSTANT: Duration = Duration::from_millis(20);
    /// How many claims and islands to pass on the way to the next piece.
    const STEPS: usize = 64;

    /// Gives the wants that have slots as many connections as help them.
    pub(super) fn widen(&mut self, slots: &[Slot]) {
        let origins: Vec<OriginId> = self.lines.iter().map(|(origin, _)| origin).collect();
        for origin in origins {
            let of_line = |slot: &&Slot| self.origin_of(slot.source) == Some(origin);
            let slots: Vec<Slot> = slots.iter().filter(of_line).copied().collect();
            self.widen_line(origin, &slots);
        }
    }

    /// The same on one line, whose slots these are.
    fn widen_line(&mut self, origin: OriginId, slots: &[Slot]) {
        let leads: Vec<(RunId, &Slot)> = slots
            .iter()
            .filter_map(|slot| match slot.run {
                SlotRun::Existing(run) => Some((run, slot)),
                SlotRun::New(_) => None,
            })
            .filter(|(run, _)| {
                self.runs
                    .get(run)
                    .is_some_and(|run| run.takes_slot() && run.phase == Phase::Open)
            })
            .collect();
        let alone = match leads.as_slice() {
            [(_, slot)] if slots.len() == 1 => Some(slot.source),
            _ => None,
        };
        // Between two runs of one want there may be nothing in flight for an instant.
        if (slots.len() != 1 || alone.is_some())
            && let Some(line) = self.lines.get_mut(origin)
        {
            line.measure_only(alone);
        }
        let since = leads.iter().map(|(_, slot)| slot.since).max();
        if let (Some(since), Some(line)) = (since, self.lines.get_mut(origin)) {
            line.parallel.turned(since);
        }
        // One that is about to begin takes its part of the line as well.
        let count = slots.len().max(1);
        for (run, slot) in leads {
            let Some(mut lead) = self.lead(run, slot) else {
                continue;
            };
            if count == 1 {
                self.judge(&lead, slot);
            }
            let level = self
                .lines
                .get(origin)
                .map_or(1, |line| line.parallel.level());
            lead.share = self.share_of(&lead, slot, level / count);
            lead.until = self.reach_of(&lead, slot);
            let reach = lead.until.saturating_sub(slot.at);
            if let Some(source) = self.sources.get_mut(&lead.source) {
                source.stripes_reach = reach;
            }
            self.steer(&lead, slot);
        }
    }

    /// `None` where stripes are out of the question.
    fn lead(&self, id: RunId, slot: &Slot) -> Option<Lead> {
        let source = self.sources.get(&slot.source)?;
        let run = self.runs.get(&id)?;
        // Several connections are of no use to what has to go slowly.
        let is_limited =
            slot.urgency.rank.is_background() && self.background.is_limited(source.origin);
        let is_divisible = !source.is_read_by_one()
            && !is_limited
            && source.window_cap.is_none()
            && source.blocked_until.is_none()
            && source.total_len.is_some();
        if !is_divisible || !run.is_answered || run.suffix.is_some() {
            return None;
        }
        Some(Lead {
            run: id,
            source: slot.source,
            share: 1,
            // What its line brought before says nothing of who has just begun: first the bytes that are waited for.
            rate: run.rate.rate().filter(|&rate| rate > 0)?,
            until: slot.until,
        })
    }

    fn share_of(&self, lead: &Lead, slot: &Slot, most: usize) -> usize {
        let wanted = match slot.rate {
            // A player that has enough is not helped by bytes that a seek makes useless.
            Some(rate) if slot.urgency.rank != Rank::Critical => {
                usize::try_from(rate.saturating_mul(2).div_ceil(lead.rate)).unwrap_or(most)
            }
            _ => most,
        };
        most.min(wanted).max(1)
    }

    /// How far stripes may reach. The window of a reader whose rate is unknown doubles as it reads, which is
    /// too slow for connections that double faster: it is at least what they bring in half a second, as long as
    /// that is in proportion to what has been read, and never more than its reader may have ready at all.
    fn reach_of(&self, lead: &Lead, slot: &Slot) -> u64 {
        let (Some(run), Some(source)) = (self.runs.get(&lead.run), self.sources.get(&lead.source))
        else {
            return lead.until;
        };
        if lead.share == 1 || slot.rate.is_some() {
            return lead.until;
        }
        let soon = lead.rate / 2 * u64::try_from(lead.share).unwrap_or(1);
        let end = slot
            .end
            .unwrap_or(u64::MAX)
            .min(source.total_len.unwrap_or(u64::MAX));
        let near = run.head.saturating_add(soon).min(end);
        // What is asked for now begins to come a round trip later, by when the reader has read on.
        let total = self
            .runs_of(source)
            .filter(|(_, run)| run.phase == Phase::Open && run.takes_connection())
            .filter_map(|(_, run)| run.rate.rate())
            .fold(0, u64::saturating_add);
        let meanwhile = self.on_the_way(lead.source, total);
        let wide = slot.wide_until.saturating_add(meanwhile);
        lead.until.max(near).min(wide.min(slot.bound).max(run.head))
    }

    /// How many of `most` connections to leave for the runs that follow those about to end.
    fn spare(&self, lead: &Lead, most: usize) -> usize {
        let count = u64::try_from(most).unwrap_or(u64::MAX);
        let spare = self
            .on_the_way(lead.source, lead.rate)
            .saturating_mul(count)
            .div_ceil((lead.rate / 3).max(BLOCK_SIZE));
        usize::try_from(spare).unwrap_or(most).min(most / 2)
    }

    fn judge(&mut self, lead: &Lead, slot: &Slot) {
        let (now, spell) = (self.now, self.config.steady);
        let (Some(run), Some(source)) = (self.runs.get(&lead.run), self.sources.get(&lead.source))
        else {
            return;
        };
        let origin = source.origin;
        let stripes = self.connections_to(origin).filter(|(_, run)| run.is_stripe);
        let most = 1 + self.room_for_stripes(origin) + stripes.count();
        let Some(line) = self.lines.get(origin) else {
            return;
        };
        let level = line.parallel.level();
        // Who has just begun waits for each byte in turn, and a trial may give half of the line to what comes later. It
        // has to bear that only where nobody knows yet what there is to gain.
        let is_spared = slot.urgency.rank == Rank::Critical
            && self.now < slot.since + Self::SETTLED
            && line.parallel.is_limit_known();
        let left = slot
            .end
            .unwrap_or(u64::MAX)
            .min(source.total_len.unwrap_or(u64::MAX))
            .saturating_sub(run.head);
        // What one connection brings within a second would come hardly sooner over two.
        let has_use = !is_spared
            && left > lead.rate
            && self.share_of(lead, slot, most) > level
            && lead.until.saturating_sub(run.head) > 4 * BLOCK_SIZE
            && slot.wide_until.saturating_sub(run.head)
                >= 2 * self.on_the_way(lead.source, lead.rate);
        let flowing = self
            .runs_of(source)
            .filter(|(_, run)| {
                run.phase == Phase::Open && run.takes_connection() && run.is_answered
            })
            .count();
        let spare = self.spare(lead, most);
        if let Some(line) = self.lines.get_mut(origin) {
            let most = if has_use { most - spare } else { 1 };
            line.parallel.judge(now, flowing, most, spell);
        }
    }

    /// What arrives in a round trip at `rate` bytes a second.
    fn on_the_way(&self, id: SourceId, rate: u64) -> u64 {
        self.line_of(id)
            .and_then(|line| line.round_trip.estimate())
            .map_or(0, |time| bytes_in(rate, time))
    }

    /// How many stripes may be added: each slot keeps a connection of its own.
    fn room_for_stripes(&self, origin: OriginId) -> usize {
        let slots_left = self.max_runs().saturating_sub(self.active_runs());
        self.config
            .max_connections
            .saturating_sub(self.connections_to(origin).count())
            .saturating_sub(slots_left)
    }

    /// Whether a run brings something that a want with a slot will come to.
    pub(super) fn is_stripe_of_any(&self, run: &Run, slots: &[Slot]) -> bool {
        run.is_stripe
            && slots.iter().any(|slot| {
                let reach = self
                    .sources
                    .get(&slot.source)
                    .map_or(0, |source| source.stripes_reach);
                slot.source == run.source
                    && slot.at <= run.head
                    && run.head < slot.until.max(slot.at.saturating_add(reach))
            })
    }

    /// Holds, ends, resumes and adds stripes.
    fn steer(&mut self, lead: &Lead, slot: &Slot) {
        let Some(source) = self.sources.get(&lead.source) else {
            return;
        };
        let mut members: Vec<(u64, RunId)> = self
            .runs_of(source)
            .filter(|(id, run)| {
                *id != lead.run
                    && run.phase == Phase::Open
                    && self.is_stripe_of_any(run, core::slice::from_ref(slot))
            })
            .map(|(id, run)| (run.head, id))
            .collect();
        members.sort_unstable();
        let Some(line) = self.lines.of(source) else {
            return;
        };
        let origin = source.origin;
        // A run that shared the line with a trial, or has just begun, shows too little.
        let rate = lead.rate.max(line.parallel.known_single());
        let ahead = line
            .round_trip
            .estimate()
            .map_or(0, |time| bytes_in(rate, time + Self::MARGIN));
        let ending_within = |ahead: u64| {
            core::iter::once(lead.run)
                .chain(members.iter().map(|&(_, id)| id))
                .filter_map(|id| self.runs.get(&id))
                .filter(|run| run.is_answered && run.takes_connection())
                .filter(|run| run.end.saturating_sub(run.head) <= ahead)
                .count()
        };
        let quota = lead.share + ending_within(ahead);
        // What was asked for because a run was about to end is not given up because that one has become slower.
        let kept = lead.share + ending_within(ahead.saturating_mul(2));
        for (index, &(_, id)) in members.iter().enumerate() {
            if index + 1 < kept {
                self.let_stripe_on(id, lead.until);
            } else {
                self.stop_stripe(id, lead);
            }
        }
        let mut count = members.len() + 1;
        while count < quota && self.room_for_stripes(origin) > 0 {
            if !self.add_stripe(lead, slot) {
                break;
            }
            count += 1;
        }
        let now = self.now;
        if let Some(line) = self.lines.get_mut(origin)
            && line.measures(lead.source)
        {
            line.parallel.bounded(now, count);
        }
    }

    fn let_stripe_on(&mut self, id: RunId, until: u64) {
        let now = self.now;
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        let until = until.min(run.end).max(run.until.min(run.end));
        run.halt = None;
        if run.held_since.take().is_some() {
            run.rate.start(now);
        }
        if until > run.until {
            run.until = until;
            self.actions.push_back(Action::Allow { run: id, until });
        }
    }

    /// Beyond its share a stripe waits until those before it are through. Where one connection fills the line it is ended
    /// instead: held, it would take a window of the line, which makes that seem slower than it is, and faster when it
    /// goes on. One that has yet to be answered is left alone.
    fn stop_stripe(&mut self, id: RunId, lead: &Lead) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        if !run.is_answered || run.head >= run.end {
            if run.held_since.is_none() {
                self.let_stripe_on(id, lead.until);
            }
        } else if lead.share == 1 {
            self.abort(id, Halt::Needless);
        } else {
            self.hold(id, Halt::Needless);
        }
    }

    /// Asks for the next piece; returns whether there was one.
    fn add_stripe(&mut self, lead: &Lead, slot: &Slot) -> bool {
        let Some((piece, cut)) = self.next_piece(lead, slot) else {
            return false;
        };
        if let Some(cut) = cut {
            self.shorten(cut, piece.start());
        }
        let start = Start::At(piece.start());
        let mut run = Run::new(lead.source, start, piece.end(), slot.urgency, self.now);
        run.is_stripe = true;
        self.launch(run, start, lead.until);
        true
    }

    /// The next bytes that nobody brings, and the run whose end has to be moved for them: one that would
    /// bring them much later.
    fn next_piece(&self, lead: &Lead, slot: &Slot) -> Option<(ByteRange, Option<RunId>)> {
        let source = self.sources.get(&lead.source)?;
        let mut at = self.runs.get(&lead.run)?.head;
        let window = lead.until.checked_sub(at)?;
        let share = u64::try_from(lead.share).unwrap_or(1).max(1);
        // Half of the window is for those that follow the ones about to end.
        let piece = (lead.rate / 3).min(window / share / 2).max(BLOCK_SIZE);
        for _ in 0..Self::STEPS {
            if at >= lead.until {
                return None;
            }
            let ready = source.present.contiguous_from(at);
            if ready > 0 {
                at = at.saturating_add(ready);
                continue;
            }
            let Some((id, run)) = self.runs_of(source).find(|(_, run)| run.claims(at)) else {
                let rest = ByteRange::try_new(at, self.end_of_gap(lead, slot, source, at))?;
                let end = if lead.share > 1 {
                    rest.end().min(block_end(at.saturating_add(piece)))
                } else {
                    rest.end()
                };
                return Some((ByteRange::try_new(at, end)?, None));
            };
            let reach = run.end.min(lead.until);
            let split = block_end(run.head.saturating_add(piece));
            // Cutting off less than half a piece is not worth a request, nor what comes within an instant: it is on
            // its way already.
            let least = (piece / 2).max(bytes_in(lead.rate, Self::INSTANT));
            let is_long = reach > split && reach - split >= least;
            if lead.share > 1 && is_long && run.phase == Phase::Open && split > run.head {
                let end = run.end.min(block_end(split.saturating_add(piece)));
                let end = self.end_of_gap(lead, slot, source, split).min(end);
                return Some((ByteRange::try_new(split, end)?, Some(id)));
            }
            at = run.end;
        }
        None
    }

    /// Where the missing bytes at `at` end that neither are present nor begin another run.
    fn end_of_gap(&self, lead: &Lead, slot: &Slot, source: &Source, at: u64) -> u64 {
        let end = slot
            .end
            .map_or(u64::MAX, block_end)
            .min(source.total_len.unwrap_or(u64::MAX));
        let end = if lead.share > 1 {
            end.min(block_end(lead.until))
        } else {
            end
        };
        let gap = ByteRange::try_new(at, end).and_then(|rest| source.present.first_gap(rest));
        let end = gap.map_or(end, |gap| gap.end());
        self.runs_of(source)
            .map(|(_, run)| run.head)
            .filter(|&head| head > at)
            .fold(end, u64::min)
    }
}
