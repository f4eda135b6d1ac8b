//! A naive driver: it carries out the scheduler's actions as a real one would, in no time and under the
//! test's control, and checks at every step what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chunk_core::scheduler::{
    Action, Config, Hints, Input, OriginId, Outcome, ReaderId, Role, RunId, Scheduler, SourceId,
    Start,
};
use chunk_core::{ByteRange, Priority, RangeSet, Tick};

/// What the origin knows of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub(crate) len: u64,
    pub(crate) is_length_told: bool,
    pub(crate) has_ranges: bool,
}

/// One request, as the driver sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) source: SourceId,
    pub(crate) file_len: u64,
    pub(crate) asked: Start,
    pub(crate) start: u64,
    pub(crate) head: u64,
    pub(crate) end: u64,
    pub(crate) until: u64,
    pub(crate) asked_at: Tick,
    pub(crate) is_answered: bool,
    pub(crate) is_aborted: bool,
    /// The run whose bytes it asks for anew.
    pub(crate) hedges: Option<RunId>,
    /// Whether its connection is open and unread; stays set when it is aborted.
    pub(crate) is_held: bool,
}

/// What the driver knows of a source that is open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) file: File,
    pub(crate) present: RangeSet,
    /// Explicitly requested bytes that have not ended.
    pub(crate) outstanding: RangeSet,
    pub(crate) critical: RangeSet,
    /// Whether a run failed and none was started since.
    pub(crate) is_troubled: bool,
    pub(crate) knows_length: bool,
    /// Whether what comes is forgotten soon.
    pub(crate) is_capped: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pub(crate) config: Config,
    /// How many origins there are, which the numbers of files are dealt out to.
    pub(crate) origins: u64,
    pub(crate) now: Tick,
    pub(crate) files: BTreeMap<SourceId, Open>,
    pub(crate) requests: BTreeMap<RunId, Request>,
    /// Reader → its source, where it stands, and where it stops.
    pub(crate) readers: BTreeMap<ReaderId, (SourceId, Start, Option<u64>)>,
    /// Readers that were told to wait in vain and have not asked again.
    pub(crate) disappointed: BTreeSet<ReaderId>,
    pub(crate) log: Vec<Action>,
    /// The actions since the last input.
    pub(crate) last: Vec<Action>,
    pub(crate) fetches: usize,
    /// How many of them were stripes.
    pub(crate) stripes: usize,
    pub(crate) hedges: usize,
    pub(crate) bytes_received: u64,
    pub(crate) most_in_flight: usize,
}

pub(crate) fn source(number: u64) -> SourceId {
    SourceId::new(number)
}

pub(crate) fn reader(number: u64) -> ReaderId {
    ReaderId::new(number)
}

pub(crate) fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

impl Request {
    /// Whether it occupies a slot: it reads, is about to, or has yet to confirm its end.
    pub(crate) fn is_in_flight(&self) -> bool {
        !self.is_held
    }

    /// Whether bytes may come, or an answer.
    pub(crate) fn may_read(&self) -> bool {
        !self.is_aborted && self.head < self.until.min(self.end)
    }

    pub(crate) fn claims(&self) -> Option<ByteRange> {
        let end = if self.is_aborted {
            self.end.min(self.until)
        } else {
            self.end
        };
        ByteRange::try_new(self.head, end)
    }
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            config,
            origins: 1,
            now: Tick::ZERO,
            files: BTreeMap::new(),
            requests: BTreeMap::new(),
            readers: BTreeMap::new(),
            disappointed: BTreeSet::new(),
            log: Vec::new(),
            last: Vec::new(),
            fetches: 0,
            stripes: 0,
            hedges: 0,
            bytes_received: 0,
            most_in_flight: 0,
        }
    }

    /// Opens a file of known length on an origin with ranges.
    pub(crate) fn open(&mut self, id: u64, len: u64) {
        let file = File {
            len,
            is_length_told: true,
            has_ranges: true,
        };
        self.open_file(source(id), file, true, RangeSet::new());
    }

    pub(crate) fn open_file(
        &mut self,
        id: SourceId,
        file: File,
        is_known: bool,
        present: RangeSet,
    ) {
        if self.files.contains_key(&id) || self.requests.values().any(|run| run.source == id) {
            return;
        }
        self.files.insert(
            id,
            Open {
                file,
                present: present.clone(),
                outstanding: RangeSet::new(),
                critical: RangeSet::new(),
                is_troubled: false,
                knows_length: is_known,
                is_capped: false,
            },
        );
        self.input(Input::SourceOpened {
            source: id,
            origin: self.origin_of(id),
            total_len: is_known.then_some(file.len),
            accepts_ranges: file.has_ranges || !is_known,
            present,
        });
    }

    pub(crate) fn origin_of(&self, id: SourceId) -> OriginId {
        OriginId::new(id.get() % self.origins)
    }

    pub(crate) fn request(&mut self, id: u64, range: ByteRange, priority: Priority) {
        let source = source(id);
        if let Some(open) = self.files.get_mut(&source) {
            let known = if open.knows_length {
                open.file.len
            } else {
                u64::MAX
            };
            if let Some(clipped) = range.before(known) {
                for gap in open.present.gaps(clipped) {
                    open.outstanding.insert(gap);
                    if priority == Priority::Critical {
                        open.critical.insert(gap);
                    }
                }
            }
            self.input(Input::Requested {
                source,
                range,
                priority,
            });
        }
    }

    /// Bytes of a file cannot be kept from now on, or can again.
    pub(crate) fn cap(&mut self, id: u64, bytes: Option<u64>) {
        let source = source(id);
        if let Some(open) = self.files.get_mut(&source) {
            open.is_capped = bytes.is_some();
            self.input(Input::WindowCapped { source, bytes });
        }
    }

    pub(crate) fn cancel(&mut self, id: u64, range: ByteRange) {
        self.input(Input::Cancelled {
            source: source(id),
            range,
        });
    }

    pub(crate) fn read(&mut self, id: u64, of: u64, start: Start, end: Option<u64>) {
        self.read_as(id, of, start, end, Hints::default());
    }

    pub(crate) fn read_as(
        &mut self,
        id: u64,
        of: u64,
        start: Start,
        end: Option<u64>,
        hints: Hints,
    ) {
        if self.files.contains_key(&source(of)) && !self.readers.contains_key(&reader(id)) {
            self.readers.insert(reader(id), (source(of), start, end));
            self.input(Input::ReaderOpened {
                reader: reader(id),
                source: source(of),
                start,
                end,
                hints,
            });
        }
    }

    pub(crate) fn seek(&mut self, id: u64, position: u64) {
        if let Some(found) = self.readers.get_mut(&reader(id)) {
            found.1 = Start::At(position);
            self.disappointed.remove(&reader(id));
            self.input(Input::ReaderSought {
                reader: reader(id),
                position,
            });
        }
    }

    /// The reader takes up to `most` bytes that are there; returns how many it got.
    pub(crate) fn take(&mut self, id: u64, most: u64, idle: Duration) -> u64 {
        let Some(&(source, Start::At(position), end)) = self.readers.get(&reader(id)) else {
            return 0;
        };
        let Some(open) = self.files.get(&source) else {
            return 0;
        };
        let stop = end.unwrap_or(u64::MAX).min(open.file.len);
        let there = open.present.contiguous_from(position);
        let taken = there.min(most).min(stop.saturating_sub(position));
        let position = position + taken;
        let waiting = position < stop && !open.present.contains(position);
        if let Some(found) = self.readers.get_mut(&reader(id)) {
            found.1 = Start::At(position);
        }
        if waiting {
            self.disappointed.remove(&reader(id));
        }
        self.input(Input::ReaderMoved {
            reader: reader(id),
            position,
            idle,
            waiting,
        });
        taken
    }

    pub(crate) fn leave(&mut self, id: u64) {
        if self.readers.remove(&reader(id)).is_some() {
            self.disappointed.remove(&reader(id));
            self.input(Input::ReaderGone { reader: reader(id) });
        }
    }

    pub(crate) fn close(&mut self, id: u64, input: Input) {
        let id = source(id);
        if self.files.contains_key(&id) {
            self.readers.retain(|_, (of, ..)| *of != id);
            self.input(input);
            let closed = self.files.remove(&id).unwrap();
            assert!(closed.outstanding.is_empty(), "lost {closed:?}");
        }
    }

    /// Time passes, timers included.
    pub(crate) fn pass(&mut self, time: Duration) {
        let target = self.now + time;
        while let Some(at) = self.scheduler.poll_timeout().filter(|&at| at <= target) {
            self.now = self.now.max(at);
            self.input(Input::TimedOut);
            let next = self.scheduler.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timer that time does not satisfy"
            );
        }
        self.now = target;
    }

    /// An obedient origin serves until nothing moves; returns the number of steps.
    pub(crate) fn settle(&mut self) -> usize {
        let mut steps = 0;
        loop {
            let mut has_moved = false;
            let runs: Vec<RunId> = self.requests.keys().copied().collect();
            for run in runs {
                let before = self.log.len();
                let was_answered = self.requests.get(&run).is_none_or(|run| run.is_answered);
                self.answer(run);
                has_moved |= !was_answered || self.log.len() != before;
                has_moved |=
                    self.requests.get(&run).is_some_and(|run| run.is_aborted) && self.finish(run);
                has_moved |= self.progress(run, 100_000) > 0;
                has_moved |= self.finish(run);
            }
            if !has_moved {
                let Some(at) = self.scheduler.poll_timeout() else {
                    return steps;
                };
                self.pass(at.since(self.now));
            }
            steps += 1;
            assert!(steps < 20_000, "does not come to rest: {self:#?}");
        }
    }

    pub(crate) fn asked_at(&self, run: RunId) -> Tick {
        self.requests.get(&run).map_or(self.now, |run| run.asked_at)
    }

    /// The runs of a file that are open.
    pub(crate) fn runs_of(&self, id: u64) -> Vec<(RunId, Request)> {
        self.requests
            .iter()
            .filter(|(_, run)| run.source == source(id) && !run.is_aborted)
            .map(|(&id, &run)| (id, run))
            .collect()
    }

    pub(crate) fn input(&mut self, input: Input) {
        let before = self.requests.len();
        let demands = self.scheduler.queue().len();
        self.scheduler.handle(self.now, input);
        self.last.clear();
        let mut orders = 0;
        while let Some(action) = self.scheduler.poll_action() {
            self.log.push(action);
            self.last.push(action);
            orders += usize::from(!matches!(action, Action::Ended { .. }));
            self.carry_out(action);
            let in_flight = self.in_slots();
            self.most_in_flight = self.most_in_flight.max(in_flight);
            assert!(
                in_flight <= self.config.max_runs,
                "{in_flight} in flight after {action:?}"
            );
        }
        let most = 4 * (before + self.config.max_connections) + 2;
        assert!(orders <= most, "{orders} orders for one fact");
        assert!(self.last.len() <= most + demands + 1, "{:?}", self.last);
        self.check();
    }

    /// The requests in flight that take a slot.
    pub(crate) fn in_slots(&self) -> usize {
        self.requests
            .iter()
            .filter(|(id, run)| {
                let takes_none = self.scheduler.is_stripe(**id) || self.scheduler.is_hedge(**id);
                run.is_in_flight() && !takes_none
            })
            .count()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.requests
            .values()
            .filter(|run| run.is_in_flight())
            .count()
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Fetch {
                run,
                source,
                start,
                end,
                until,
                role,
                ..
            } => {
                self.fetches += 1;
                let hedges = match role {
                    Role::Hedge(of) => Some(of),
                    Role::Main | Role::Stripe => None,
                };
                self.stripes += usize::from(role == Role::Stripe);
                self.hedges += usize::from(hedges.is_some());
                let open = self.files.get_mut(&source).unwrap();
                open.is_troubled = false;
                let at = match start {
                    Start::At(at) => at,
                    Start::FromEnd(_) => 0,
                };
                let end = end.unwrap_or(u64::MAX);
                if open.file.has_ranges && matches!(start, Start::At(_)) {
                    assert!(
                        !open.present.contains(at),
                        "{action:?} starts at a present byte"
                    );
                    // What is there may be gone when a run comes to it.
                    let asked = range(at, if open.is_capped { until } else { end });
                    assert!(
                        !open.present.intersects(asked),
                        "{action:?} asks for present bytes"
                    );
                }
                self.requests.insert(
                    run,
                    Request {
                        source,
                        file_len: open.file.len,
                        asked: start,
                        start: at,
                        head: at,
                        end,
                        until,
                        asked_at: self.now,
                        is_answered: false,
                        is_aborted: false,
                        hedges,
                        is_held: false,
                    },
                );
            }
            Action::Allow { run, until } => {
                let request = self.requests.get_mut(&run).unwrap();
                assert!(!request.is_aborted, "{action:?} of an aborted run");
                request.until = until;
                request.is_held = until <= request.head;
            }
            Action::Shorten { run, end } => {
                let request = self.requests.get_mut(&run).unwrap();
                assert!(!request.is_aborted, "{action:?} of an aborted run");
                assert!(
                    request.head < end && end < request.end,
                    "{action:?} of {request:?}"
                );
                request.end = end;
                request.until = request.until.min(end);
            }
            Action::Abort { run } => {
                let request = self.requests.get_mut(&run).unwrap();
                assert!(!request.is_aborted, "{action:?} twice");
                request.is_aborted = true;
            }
            Action::Ended {
                source,
                range,
                outcome,
            } => {
                let open = self.files.get_mut(&source).unwrap();
                assert!(
                    open.outstanding.contains_range(range),
                    "{action:?} ends what was not asked for, or twice"
                );
                assert_eq!(
                    outcome == Outcome::Served,
                    open.present.contains_range(range),
                    "{action:?}"
                );
                open.outstanding.remove(range);
                open.critical.remove(range);
            }
            Action::GaveUp { source } => {
                let readers = self.readers.iter();
                let left = readers.filter(|(_, (of, ..))| *of == source);
                self.disappointed.extend(left.map(|(&id, _)| id));
            }
        }
    }

    /// A request that the ledger knows, without the checks after it, which take time over long queues.
    pub(crate) fn queue_request(&mut self, id: u64, range: ByteRange, priority: Priority) {
        let source = source(id);
        self.files
            .get_mut(&source)
            .unwrap()
            .outstanding
            .insert(range);
        self.scheduler.handle(
            self.now,
            Input::Requested {
                source,
                range,
                priority,
            },
        );
        while let Some(action) = self.scheduler.poll_action() {
            self.log.push(action);
            self.carry_out(action);
        }
    }

    /// Bytes come by other means.
    pub(crate) fn supply(&mut self, id: u64, range: ByteRange) {
        let source = source(id);
        if let Some(open) = self.files.get_mut(&source)
            && let Some(range) = range.before(open.file.len)
        {
            open.present.insert(range);
            self.input(Input::Supplied { source, range });
        }
    }

    pub(crate) fn learn_length(&mut self, id: u64) {
        let source = source(id);
        if let Some(open) = self.files.get_mut(&source) {
            open.knows_length = true;
            let total_len = open.file.len;
            for run in self
                .requests
                .values_mut()
                .filter(|run| run.source == source)
            {
                run.end = run.end.min(total_len);
            }
            self.input(Input::LengthLearned { source, total_len });
        }
    }

    /// How many bytes of a file are there.
    pub(crate) fn present_of(&self, id: u64) -> u64 {
        self.files
            .get(&source(id))
            .map_or(0, |open| open.present.len())
    }
}
