//! Giving the slots to the most urgent wants.
//!
//! Every step ranks all wants and walks them from the top until the slots are full. Each want names the run
//! that serves it, one in flight or one to start. Runs that nothing near the top wants are held, where a
//! reader will come to need them, or ended. Within a rank a run in flight keeps its slot, so that two
//! equally urgent readers do not take it from each other at every byte.

use alloc::vec::Vec;

use super::need::{Rank, Urgency};
use super::run::{Phase, Run};
use super::source::Source;
use super::wants::Want;
use super::{Action, Halt, OriginId, Rival, RunId, Scheduler, SourceId, Start};
use crate::block::block_end;
use crate::{ByteRange, Tick};

/// The run that serves a want.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// One that is there.
    Existing(RunId),
    /// One to start.
    New(Planned),
    /// None before the runs planned so far have started: one of them is in the way.
    PutOff,
    /// None now: the source waits before its next try, or a run has yet to end.
    Wait,
}

/// A run to start, in place of the rest of another where the byte wanted lies far in front of its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    instead_of: Option<RunId>,
    start: Start,
    end: u64,
}

/// A slot given to a want.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) source: SourceId,
    /// Of the most urgent want that it serves.
    pub(super) urgency: Urgency,
    /// The first missing byte of these wants.
    pub(super) at: u64,
    pub(super) until: u64,
    /// Where they end, where they do.
    pub(super) end: Option<u64>,
    /// How far several connections may read together.
    pub(super) wide_until: u64,
    /// How far anything may read.
    pub(super) bound: u64,
    /// What the most urgent one consumes, where known.
    pub(super) rate: Option<u64>,
    /// Since when its reader reads on without a seek.
    pub(super) since: Tick,
    /// What it is to those that have to wait for it.
    pub(super) rival: Rival,
    pub(super) run: SlotRun,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SlotRun {
    Existing(RunId),
    New(Planned),
}

impl Scheduler {
    /// Makes the runs in flight those that serve the most urgent wants.
    pub(super) fn plan(&mut self) {
        self.fill_background();
        // A run that one want starts may have to be cut for the next one, once it is there.
        let mut slots = Vec::new();
        for _ in 0..self.max_runs() {
            let is_put_off;
            (slots, is_put_off) = self.plan_round();
            if !is_put_off {
                break;
            }
        }
        self.widen(&slots);
        self.hedge(&slots);
    }

    /// Returns the slots, and whether a run was started that stood in another want's way.
    fn plan_round(&mut self) -> (Vec<Slot>, bool) {
        let mut slots: Vec<Slot> = Vec::new();
        let (mut critical, mut is_put_off, mut is_over) = (None, false, false);
        self.put_back.clear();
        let wants = self.wants();
        let resting = self.resting(&wants);
        self.rests_until = Tick::NEVER;
        let mut throttled: Vec<RunId> = Vec::new();
        for mut want in wants {
            if is_over {
                self.put_back_for_slots(&want, &slots);
                continue;
            }
            let urgency = want.need.urgency;
            let is_full = slots.len() >= self.max_runs();
            let mut left = u64::MAX;
            // What cannot be served now must not keep others waiting.
            if urgency.rank == Rank::Critical && !self.is_blocked(want.source) {
                critical.get_or_insert(want.rival());
            }
            if urgency.rank.is_background() {
                // Background work leaves the line to what is critical, and begins nothing in the moments
                // after. What is under way goes on, such as the run that opened what is to be pre-cached.
                let turn = Self::turn_of(urgency);
                let is_its_turn = turn <= self.now;
                if let Some(rival) = critical.filter(|_| !is_its_turn) {
                    self.put_back_want(&want, Halt::Rests { rival, until: turn });
                    continue;
                }
                if self.config.is_metered && urgency.rank > Rank::Yielding {
                    self.put_back_want(&want, Halt::Metered);
                    continue;
                }
                let near = self.run_near(want.source, want.need.at);
                let is_under_way = near.is_some_and(|(_, run)| run.takes_slot());
                if self.now < self.quiet_until && !is_under_way && !is_its_turn {
                    self.put_back_want(&want, Halt::Quiet);
                    continue;
                }
                left = self.background_left(want.source, is_under_way);
                if left == 0 {
                    throttled.extend(near.map(|(id, _)| id));
                    self.put_back_want(&want, Halt::Throttled);
                    continue;
                }
            }
            if let Some((until, rival)) = self.rests_until(&want, &resting) {
                self.rests_until = self.rests_until.min(until);
                self.put_back_want(&want, Halt::Rests { rival, until });
                continue;
            }
            if urgency.rank > Rank::High && is_full {
                is_over = true;
                self.put_back_for_slots(&want, &slots);
                continue;
            }
            let has_room = !is_full
                && slots
                    .iter()
                    .filter(|slot| self.have_one_origin(slot.source, want.source))
                    .count()
                    < self.config.max_connections.max(1);
            let server = self.server_of(&want, &slots);
            let from = match server {
                Server::Existing(run) => self.runs.get(&run).map_or(0, |run| run.head),
                Server::New(_) | Server::PutOff | Server::Wait => want.at(),
            };
            want.need.until = want.need.until.min(from.saturating_add(left));
            want.need.until = want.need.until.min(self.next_ring(&want, &slots));
            match server {
                Server::Existing(run) => {
                    let is_shared_pace = self.paces_readers_together(want.source);
                    let until = want.need.until;
                    if let Some(slot) = slots.iter_mut().find(|slot| slot.is_of(run)) {
                        slot.until = if is_shared_pace {
                            slot.until.min(until)
                        } else {
                            slot.until.max(until)
                        };
                        slot.at = slot.at.min(want.at());
                        slot.wide_until = slot.wide_until.max(want.need.wide_until);
                        slot.bound = slot.bound.max(want.need.bound);
                        // A want without an end makes the run one.
                        slot.end = slot.end.zip(want.need.end).map(|(a, b)| a.max(b));
                    } else if has_room {
                        slots.push(Slot::new(&want, SlotRun::Existing(run)));
                    } else {
                        self.put_back_for_slots(&want, &slots);
                    }
                }
                Server::New(plan) if has_room => {
                    slots.push(Slot::new(&want, SlotRun::New(plan)));
                }
                Server::PutOff => is_put_off = true,
                Server::New(_) => self.put_back_for_slots(&want, &slots),
                Server::Wait => {
                    let source = self.sources.get(&want.source);
                    if let Some(until) = source.and_then(|source| source.blocked_until) {
                        self.put_back_want(&want, Halt::Failed(until));
                    }
                }
            }
        }
        if critical.is_some() {
            self.quiet_until = self.now + Self::QUIET;
        }
        self.settle(&slots, &throttled);
        let mut has_started = false;
        // Slots that are still being given up come back with a confirmation, which plans anew.
        for &slot in &slots {
            match slot.run {
                SlotRun::Existing(run) => self.let_on(run, slot),
                SlotRun::New(plan) if self.start(slot, plan) => has_started = true,
                SlotRun::New(_) => self.put_off(&slot),
            }
        }
        (slots, has_started && is_put_off)
    }

    pub(super) fn max_runs(&self) -> usize {
        self.config.max_runs.max(1)
    }

    pub(super) fn is_blocked(&self, id: SourceId) -> bool {
        self.sources
            .get(&id)
            .is_none_or(|source| source.blocked_until.is_some())
    }

    fn server_of(&self, want: &Want, slots: &[Slot]) -> Server {
        let Some(source) = self.sources.get(&want.source) else {
            return Server::Wait;
        };
        if source.is_read_by_one() {
            return self.only_server_of(want, source, slots);
        }
        let Start::At(at) = want.need.at else {
            return self.suffix_server_of(want, source, slots);
        };
        // Where a hedge has won, the run that it competed with may still have to confirm its end.
        let claimed = self
            .runs_of(source)
            .filter(|(_, run)| run.claims(at))
            .min_by_key(|(_, run)| (run.phase == Phase::Aborting, run.distance_to(at, source)));
        if let Some((id, run)) = claimed {
            if run.phase == Phase::Aborting || run.suffix.is_some() {
                return Server::Wait;
            }
            let is_near = at.saturating_sub(run.head) <= self.config.skip;
            if is_near || source.blocked_until.is_some() || self.comes_by_demands(want, run, at) {
                return Server::Existing(id);
            }
        } else if source.blocked_until.is_some() {
            return Server::Wait;
        }
        if planned_in(slots, want.source).any(|plan| plan.covers(at)) {
            return Server::PutOff;
        }
        Server::New(Planned {
            instead_of: claimed.map(|(id, _)| id),
            start: Start::At(at),
            end: self.free_end(want, source, at, slots),
        })
    }

    /// A source of unknown shape is probed by one run; one without ranges is read by one.
    fn only_server_of(&self, want: &Want, source: &Source, slots: &[Slot]) -> Server {
        let open = self
            .runs_of(source)
            .find(|(_, run)| run.phase == Phase::Open);
        match open {
            Some((id, run)) if run.comes_to(want.need.at) => Server::Existing(id),
            Some(_) => Server::Wait,
            None if !source.runs.is_empty() || source.blocked_until.is_some() => Server::Wait,
            None if planned_in(slots, want.source).next().is_some() => Server::PutOff,
            None if source.is_located => Server::New(Planned {
                instead_of: None,
                start: Start::At(0),
                end: u64::MAX,
            }),
            None => Server::New(Planned {
                instead_of: None,
                start: want.need.at,
                end: match want.need.at {
                    Start::At(at) => self.free_end(want, source, at, slots),
                    Start::FromEnd(_) => u64::MAX,
                },
            }),
        }
    }

    /// The end of a file whose length its origin does not tell: asked for while nothing else is, because
    /// nobody knows which bytes it will be.
    fn suffix_server_of(&self, want: &Want, source: &Source, slots: &[Slot]) -> Server {
        match self.runs_of(source).next() {
            Some((id, run)) if run.suffix.is_some() && run.phase == Phase::Open => {
                Server::Existing(id)
            }
            None if source.blocked_until.is_none()
                && planned_in(slots, want.source).next().is_none() =>
            {
                Server::New(Planned {
                    instead_of: None,
                    start: want.need.at,
                    end: u64::MAX,
                })
            }
            _ => Server::Wait,
        }
    }

    /// Whether a run comes to `at` through nothing but explicit demands at least as urgent as this want.
    fn comes_by_demands(&self, want: &Want, run: &Run, at: u64) -> bool {
        let urgency = want.need.urgency;
        matches!(urgency.rank, Rank::Medium | Rank::Low)
            && self.demanded_end(want.source, run.head, run.head, urgency.level()) >= at
    }

    /// Where a new run at `at` has to end: before the next byte that is present or coming.
    fn free_end(&self, want: &Want, source: &Source, at: u64, slots: &[Slot]) -> u64 {
        let mut end = planned_end(want, source.total_len);
        if let Some(rest) = ByteRange::try_new(at, end) {
            let mut there = source.present.overlapping(rest);
            end = there
                .find(|range| !self.is_passing(want, source, range.start()))
                .map_or(end, |range| range.start());
        }
        let heads = self.runs_of(source).map(|(_, run)| run.head);
        heads
            .chain(starts_in(slots, want.source))
            .filter(|&next| next > at && !self.is_passing(want, source, next))
            .fold(end, u64::min)
    }

    /// Lets a run read on, as far as its slot says.
    fn let_on(&mut self, id: RunId, slot: Slot) {
        let (now, is_free) = (self.now, self.active_runs() < self.max_runs());
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.urgency = slot.urgency;
        if run.phase == Phase::Aborting || !run.takes_slot() && !is_free {
            return;
        }
        run.is_stripe = false;
        run.hedges = None;
        run.halt = None;
        if run.held_since.take().is_some() {
            run.rate.start(now);
            run.expects_since = now;
        }
        // A probe may serve bytes it was not started at; what it does not stand before is no allowance, and
        // none at all would be a hold.
        let least = if run.is_answered {
            run.head
        } else {
            run.head.saturating_add(1)
        };
        let until = slot.until.max(least).min(run.end).max(run.head);
        if run.until != until {
            run.until = until;
            self.actions.push_back(Action::Allow { run: id, until });
        }
    }

    fn start(&mut self, slot: Slot, plan: Planned) -> bool {
        // An aborted run may bring some of the bytes it was allowed; its end brings us back here.
        let is_in_the_way = self
            .sources
            .get(&slot.source)
            .is_none_or(|source| self.is_being_given_up(source, plan.start));
        if is_in_the_way
            || self.active_runs() >= self.max_runs()
            || !self.make_room_for_connection(&slot)
        {
            return false;
        }
        if let Some(other) = plan.instead_of
            && let Start::At(at) = plan.start
        {
            self.shorten(other, at);
        }
        let run = Run::new(slot.source, plan.start, plan.end, slot.urgency, self.now);
        self.launch(run, plan.start, slot.until);
        true
    }

    /// Ends the connection held longest where an origin has as many as it may, or a stripe where none is held.
    fn make_room_for_connection(&mut self, slot: &Slot) -> bool {
        let Some(source) = self.sources.get(&slot.source) else {
            return false;
        };
        let origin = source.origin;
        if self.connections_to(origin).count() < self.config.max_connections.max(1) {
            return true;
        }
        let is_one_ending = self
            .connections_to(origin)
            .any(|(_, run)| run.phase == Phase::Aborting);
        let oldest = self
            .connections_to(origin)
            .filter_map(|(id, run)| Some((run.held_since?, id)))
            .min();
        let last_stripe = self
            .connections_to(origin)
            .filter(|(_, run)| run.is_stripe)
            .max_by_key(|(_, run)| run.head);
        let oldest = oldest.or(last_stripe.map(|(id, _)| (self.now, id)));
        if let Some((_, run)) = oldest
            && !is_one_ending
        {
            self.abort(run, Halt::Connection(slot.rival));
        }
        false
    }

    fn have_one_origin(&self, one: SourceId, other: SourceId) -> bool {
        let origin_of = |id| self.sources.get(&id).map(|source| source.origin);
        origin_of(one) == origin_of(other)
    }

    /// The runs that have a connection to `origin`, whatever they bring.
    pub(super) fn connections_to(&self, origin: OriginId) -> impl Iterator<Item = (RunId, &Run)> {
        self.runs.iter().filter_map(move |(&id, run)| {
            let source = self.sources.get(&run.source)?;
            (source.origin == origin).then_some((id, run))
        })
    }

    /// Where bytes can neither be kept nor asked for again, all readers go at the pace of the slowest.
    fn paces_readers_together(&self, id: SourceId) -> bool {
        self.sources
            .get(&id)
            .is_some_and(|source| !source.accepts_ranges && source.window_cap.is_some())
    }
}

impl Planned {
    fn covers(&self, at: u64) -> bool {
        match self.start {
            Start::At(start) => start <= at && at < self.end,
            Start::FromEnd(_) => true,
        }
    }
}

impl Slot {
    fn new(want: &Want, run: SlotRun) -> Self {
        Self {
            source: want.source,
            urgency: want.need.urgency,
            at: want.at(),
            until: want.need.until,
            end: want.need.end,
            wide_until: want.need.wide_until,
            bound: want.need.bound,
            rate: want.need.rate,
            since: want.need.since,
            rival: want.rival(),
            run,
        }
    }

    pub(super) fn is_of(&self, run: RunId) -> bool {
        matches!(self.run, SlotRun::Existing(found) if found == run)
    }
}

/// Where the runs to start of one source begin.
pub(super) fn starts_in(slots: &[Slot], source: SourceId) -> impl Iterator<Item = u64> + '_ {
    planned_in(slots, source).filter_map(|plan| match plan.start {
        Start::At(start) => Some(start),
        Start::FromEnd(_) => None,
    })
}

/// The runs to start of one source.
fn planned_in(slots: &[Slot], source: SourceId) -> impl Iterator<Item = Planned> + '_ {
    slots.iter().filter_map(move |slot| match slot.run {
        SlotRun::New(plan) if slot.source == source => Some(plan),
        _ => None,
    })
}

/// Where a new run for `want` may end at most: a block's end, because only whole blocks are recorded.
fn planned_end(want: &Want, total_len: Option<u64>) -> u64 {
    want.need
        .end
        .map_or(u64::MAX, block_end)
        .min(total_len.unwrap_or(u64::MAX))
}
