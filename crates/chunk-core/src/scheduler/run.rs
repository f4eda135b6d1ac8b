//! One origin request, and what the driver reports of it.

use core::time::Duration;

use super::need::Urgency;
use super::{Action, Failure, Halt, Outcome, Role, RunId, Scheduler, SourceId, Start};
use crate::{ByteRange, RateEstimator, Tick};

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
    /// Why it is held, being ended, or has become shorter.
    pub(super) halt: Option<Halt>,
    pub(super) is_answered: bool,
    /// Whether it brings a later piece of what another run's slot is for.
    pub(super) is_stripe: bool,
    /// The run it competes with, until it takes over a slot.
    pub(super) hedges: Option<RunId>,
    /// Whether what it is to bring next was asked for anew.
    pub(super) is_hedged: bool,
    asked_at: Tick,
    /// Since when it could have brought its next byte.
    pub(super) expects_since: Tick,
    /// How fast it brings bytes while nobody holds it back.
    pub(super) rate: RateEstimator,
    /// How many bytes before an unknown end it asks for: it claims everything until that end is known.
    pub(super) suffix: Option<u64>,
}

impl Run {
    /// How long the past of its rate counts: connections come and go.
    const MEMORY: Duration = Duration::from_secs(1);

    /// A run that is asked for at `now`, and may read nothing yet.
    pub(super) fn new(
        source: SourceId,
        start: Start,
        end: u64,
        urgency: Urgency,
        now: Tick,
    ) -> Self {
        let (head, suffix) = match start {
            Start::At(at) => (at, None),
            Start::FromEnd(len) => (0, Some(len)),
        };
        Self {
            source,
            start: head,
            head,
            end,
            until: head,
            urgency,
            phase: Phase::Open,
            held_since: None,
            halt: None,
            is_answered: false,
            is_stripe: false,
            hedges: None,
            is_hedged: false,
            asked_at: now,
            expects_since: now,
            rate: RateEstimator::new(Self::MEMORY),
            suffix,
        }
    }

    /// How long ago it was asked for.
    pub(super) fn waited(&self, now: Tick) -> Duration {
        now.since(self.asked_at)
    }

    /// Whether it counts towards the limit.
    pub(super) const fn takes_slot(&self) -> bool {
        self.held_since.is_none() && !self.is_stripe && self.hedges.is_none()
    }

    const fn role(&self) -> Role {
        match self.hedges {
            Some(run) => Role::Hedge(run),
            None if self.is_stripe => Role::Stripe,
            None => Role::Main,
        }
    }

    /// Whether its connection is read, or will be.
    pub(super) const fn takes_connection(&self) -> bool {
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

impl Scheduler {
    /// Orders a run that may read up to `until`.
    pub(super) fn launch(&mut self, mut run: Run, start: Start, until: u64) {
        let id = RunId::new(self.next_run);
        self.next_run += 1;
        run.until = until.min(run.end).max(run.head);
        if let Some(source) = self.sources.get_mut(&run.source) {
            source.runs.insert(id);
        }
        self.actions.push_back(Action::Fetch {
            run: id,
            source: run.source,
            start,
            end: (run.end != u64::MAX).then_some(run.end),
            until: run.until,
            level: run.urgency.level(),
            role: run.role(),
        });
        self.hedging.asked(run.role());
        self.runs.insert(id, run);
    }

    pub(super) fn answer(
        &mut self,
        id: RunId,
        start: u64,
        end: Option<u64>,
        total_len: Option<u64>,
        accepts_ranges: bool,
    ) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        let source_id = run.source;
        // A suffix ends where the file does.
        let total_len = total_len.or(end.filter(|_| accepts_ranges && run.suffix.is_some()));
        run.head = start;
        run.start = start;
        let known = self
            .sources
            .get(&source_id)
            .and_then(|found| found.total_len);
        run.end = match (end, accepts_ranges) {
            (Some(end), true) => run.end.min(end),
            (end, _) => end.or(total_len).or(known).unwrap_or(u64::MAX),
        };
        let took = run.waited(self.now);
        run.expects_since = self.now;
        run.is_answered = true;
        run.suffix = None;
        run.rate.start(self.now);
        if let Some(line) = self.line_of_mut(source_id) {
            line.round_trip.record(took);
        }
        if let Some(source) = self.sources.get_mut(&source_id) {
            source.accepts_ranges = accepts_ranges;
            source.is_located = true;
        }
        if let Some(total_len) = total_len {
            self.learn_length(source_id, total_len);
        }
        self.refresh_source(source_id);
    }

    pub(super) fn progress(&mut self, id: RunId, bytes: u64) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        let from = run.head;
        run.head = run.head.saturating_add(bytes);
        run.expects_since = self.now;
        run.rate.record(self.now, bytes);
        let rank = run.urgency.rank;
        let (source_id, arrived) = (run.source, ByteRange::try_new(from, run.head));
        // The number of a source that was closed may stand for another one by now.
        let is_of_source = self
            .sources
            .get(&source_id)
            .is_some_and(|source| source.runs.contains(&id));
        if let Some(arrived) = arrived.filter(|_| is_of_source) {
            if let Some(line) = self.line_of_mut(source_id) {
                line.parallel.arrived(bytes);
            }
            if let Some(origin) = self.origin_of(source_id) {
                self.charge(origin, rank, bytes);
            }
            self.receive(source_id, arrived);
        }
        if bytes > 0 {
            self.decide(id);
        }
    }

    pub(super) fn finish(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let is_open = run.phase == Phase::Open;
        let is_open_ended = is_open && run.is_answered && run.end == u64::MAX;
        if is_open && !is_open_ended && run.head == run.start && run.head < run.end {
            // An end without a byte, of a run that nobody stopped: asking again at once would be a loop.
            self.fail(id, Failure::Transient { retry_after: None });
            return;
        }
        let (source, head) = (run.source, run.head);
        self.remove_run(id);
        // A body of unknown length that ends well ends with its file.
        if is_open_ended
            && self
                .sources
                .get(&source)
                .is_some_and(|source| source.total_len.is_none())
        {
            self.learn_length(source, head);
        }
        self.refresh_source(source);
    }

    pub(super) fn fail(&mut self, id: RunId, failure: Failure) {
        let Some(run) = self.remove_run(id) else {
            return;
        };
        // An aborted run may report its end as a failure; it is not one of the origin's.
        if run.phase == Phase::Aborting {
            self.refresh_source(run.source);
            return;
        }
        if self.has_rival(id, &run) {
            // The other one goes on, and whether it fails is what counts.
            self.refresh_source(run.source);
            return;
        }
        let (policy, now) = (self.config.retry, self.now);
        let Some(source) = self.sources.get_mut(&run.source) else {
            return;
        };
        if run.is_stripe {
            // Its want has another run: one connection fewer, and no more trials for long.
            let asked = match failure {
                Failure::Transient { retry_after } => retry_after,
                Failure::Permanent => None,
            };
            let origin = source.origin;
            let left = self
                .connections_to(origin)
                .filter(|(_, run)| run.takes_connection());
            let left = left.count();
            if let Some(line) = self.lines.get_mut(origin) {
                line.parallel.refused(now, left, asked);
            }
            self.refresh_source(run.source);
            return;
        }
        let again = match failure {
            // A held connection that the origin closed is no sign of trouble.
            Failure::Transient { .. } if run.held_since.is_some() => Some(now),
            // Several runs break when an origin goes away; that is one failure.
            Failure::Transient { retry_after } if source.blocked_until.is_some() => {
                let asked = retry_after.map(|after| after.min(policy.retry_after_cap));
                asked.map(|after| now + after).max(source.blocked_until)
            }
            Failure::Transient { retry_after } => source.retry.failed(&policy, now, retry_after),
            Failure::Permanent => None,
        };
        match again {
            Some(at) if at > now => {
                source.blocked_until = Some(at);
                self.expectant.insert(run.source);
            }
            Some(_) => {}
            None => self.give_up(run.source),
        }
        self.refresh_source(run.source);
    }

    /// Nothing more comes from this source until somebody asks again.
    fn give_up(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        source.retry.progressed();
        source.blocked_until = None;
        for reader in &source.readers {
            if let Some(reader) = self.readers.get_mut(reader) {
                reader.has_given_up = true;
            }
        }
        self.actions.push_back(Action::GaveUp { source: id });
        if let Some(all) = ByteRange::try_new(0, u64::MAX) {
            self.end_requests(id, all, Outcome::Failed);
        }
        self.backfill.remove_key(id);
    }

    fn remove_run(&mut self, id: RunId) -> Option<Run> {
        let run = self.runs.remove(&id)?;
        if let Some(source) = self.sources.get_mut(&run.source) {
            source.runs.remove(&id);
        }
        Some(run)
    }

    /// Tells the driver to end a run. It keeps its claim, and its slot where it has one, until the driver
    /// says it has ended.
    pub(super) fn abort(&mut self, id: RunId, halt: Halt) {
        if let Some(run) = self.runs.get_mut(&id)
            && run.phase != Phase::Aborting
        {
            run.phase = Phase::Aborting;
            run.halt = Some(halt);
            // Nothing is asked for what lies behind what it was allowed; a window's worth of that may come all the same.
            if run.suffix.is_none() {
                run.end = run.end.min(run.until.max(run.head));
            }
            self.actions.push_back(Action::Abort { run: id });
        }
    }

    pub(super) fn shorten(&mut self, id: RunId, end: u64) {
        let rivals: alloc::vec::Vec<RunId> = self.rivals_of(id).collect();
        for id in core::iter::once(id).chain(rivals) {
            if let Some(run) = self.runs.get_mut(&id)
                && end < run.end
            {
                run.end = end;
                run.until = run.until.min(end);
                if run.phase == Phase::Open {
                    self.actions.push_back(Action::Shorten { run: id, end });
                }
            }
        }
    }

    pub(super) fn hold(&mut self, id: RunId, halt: Halt) {
        let now: Tick = self.now;
        if let Some(run) = self.runs.get_mut(&id)
            && run.held_since.is_none()
        {
            run.held_since = Some(now);
            run.halt = Some(halt);
            run.until = run.head;
            run.rate.stop(now);
            self.actions.push_back(Action::Allow {
                run: id,
                until: run.head,
            });
        }
    }
}
