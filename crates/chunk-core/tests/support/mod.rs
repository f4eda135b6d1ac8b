//! A naive driver: it carries out the scheduler's actions as a real one would, in no time and under the
//! test's control, and checks at every step what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chunk_core::scheduler::{
    Action, Config, Failure, Input, Outcome, ReaderId, RunId, Scheduler, SourceId, Start,
};
use chunk_core::{ByteRange, Priority, RangeSet, Tick};

/// What the origin knows of a file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub len: u64,
    pub is_length_told: bool,
    pub has_ranges: bool,
}

/// One request, as the driver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub source: SourceId,
    pub asked: Start,
    pub start: u64,
    pub head: u64,
    pub end: u64,
    pub until: u64,
    pub level: Priority,
    pub is_answered: bool,
    pub is_aborted: bool,
}

/// What the driver knows of a source that is open.
#[derive(Debug)]
pub struct Open {
    pub file: File,
    pub present: RangeSet,
    /// Explicitly requested bytes that have not ended.
    pub outstanding: RangeSet,
    pub critical: RangeSet,
    /// Whether a run failed and none was started since.
    pub is_troubled: bool,
    pub knows_length: bool,
}

#[derive(Debug)]
pub struct World {
    pub scheduler: Scheduler,
    pub config: Config,
    pub now: Tick,
    pub files: BTreeMap<SourceId, Open>,
    pub requests: BTreeMap<RunId, Request>,
    /// Reader → its source, where it stands, and where it stops.
    pub readers: BTreeMap<ReaderId, (SourceId, Start, Option<u64>)>,
    /// Readers that were told to wait in vain and have not asked again.
    pub disappointed: BTreeSet<ReaderId>,
    pub log: Vec<Action>,
    /// The actions since the last input.
    pub last: Vec<Action>,
    pub fetches: usize,
    pub bytes_received: u64,
    pub most_in_flight: usize,
}

pub fn source(number: u64) -> SourceId {
    SourceId::new(number)
}

pub fn reader(number: u64) -> ReaderId {
    ReaderId::new(number)
}

pub fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

impl Request {
    /// Whether it occupies a slot: it reads, is about to, or has yet to confirm its end.
    pub fn is_in_flight(&self) -> bool {
        self.is_aborted || self.until > self.head || self.head >= self.end
    }

    pub fn claims(&self) -> Option<ByteRange> {
        let end = if self.is_aborted {
            self.end.min(self.until)
        } else {
            self.end
        };
        ByteRange::try_new(self.head, end)
    }
}

impl World {
    pub fn new(config: Config) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            config,
            now: Tick::ZERO,
            files: BTreeMap::new(),
            requests: BTreeMap::new(),
            readers: BTreeMap::new(),
            disappointed: BTreeSet::new(),
            log: Vec::new(),
            last: Vec::new(),
            fetches: 0,
            bytes_received: 0,
            most_in_flight: 0,
        }
    }

    /// Opens a file of known length on an origin with ranges.
    pub fn open(&mut self, id: u64, len: u64) {
        let file = File {
            len,
            is_length_told: true,
            has_ranges: true,
        };
        self.open_file(source(id), file, true, RangeSet::new());
    }

    pub fn open_file(&mut self, id: SourceId, file: File, is_known: bool, present: RangeSet) {
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
            },
        );
        self.input(Input::SourceOpened {
            source: id,
            total_len: is_known.then_some(file.len),
            accepts_ranges: file.has_ranges || !is_known,
            present,
        });
    }

    pub fn request(&mut self, id: u64, range: ByteRange, priority: Priority) {
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

    pub fn cancel(&mut self, id: u64, range: ByteRange) {
        self.input(Input::Cancelled {
            source: source(id),
            range,
        });
    }

    pub fn read(&mut self, id: u64, of: u64, start: Start, end: Option<u64>) {
        if self.files.contains_key(&source(of)) && !self.readers.contains_key(&reader(id)) {
            self.readers.insert(reader(id), (source(of), start, end));
            self.input(Input::ReaderOpened {
                reader: reader(id),
                source: source(of),
                start,
                end,
            });
        }
    }

    pub fn seek(&mut self, id: u64, position: u64) {
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
    pub fn take(&mut self, id: u64, most: u64, idle: Duration) -> u64 {
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

    pub fn leave(&mut self, id: u64) {
        if self.readers.remove(&reader(id)).is_some() {
            self.disappointed.remove(&reader(id));
            self.input(Input::ReaderGone { reader: reader(id) });
        }
    }

    pub fn close(&mut self, id: u64, input: Input) {
        let id = source(id);
        if self.files.contains_key(&id) {
            self.readers.retain(|_, (of, ..)| *of != id);
            self.input(input);
            let closed = self.files.remove(&id).unwrap();
            assert!(closed.outstanding.is_empty(), "lost {closed:?}");
        }
    }

    /// The origin answers a run.
    pub fn answer(&mut self, run: RunId) {
        let Some(request) = self.requests.get_mut(&run) else {
            return;
        };
        if request.is_answered || request.is_aborted {
            return;
        }
        request.is_answered = true;
        let Some(open) = self.files.get_mut(&request.source) else {
            return;
        };
        let file = open.file;
        let total_len = file.is_length_told.then_some(file.len);
        if !file.has_ranges {
            request.start = 0;
            request.head = 0;
            request.end = file.len;
            open.knows_length |= file.is_length_told;
            self.input(Input::Answered {
                run,
                start: 0,
                end: total_len,
                total_len,
                accepts_ranges: false,
            });
            return;
        }
        let start = match request.asked {
            Start::At(at) => at,
            Start::FromEnd(len) => file.len.saturating_sub(len),
        };
        if start >= file.len {
            // 416: the answer tells the length.
            let id = request.source;
            open.knows_length = true;
            request.end = file.len;
            self.input(Input::LengthLearned {
                source: id,
                total_len: file.len,
            });
            self.requests.remove(&run);
            self.input(Input::Finished { run });
            return;
        }
        open.knows_length |= file.is_length_told || matches!(request.asked, Start::FromEnd(_));
        request.start = start;
        request.head = start;
        request.end = request.end.min(file.len);
        let end = Some(request.end);
        self.input(Input::Answered {
            run,
            start,
            end,
            total_len,
            accepts_ranges: true,
        });
    }

    /// Up to `most` bytes of a run arrive; returns how many did.
    pub fn progress(&mut self, run: RunId, most: u64) -> u64 {
        let Some(request) = self.requests.get_mut(&run) else {
            return 0;
        };
        if !request.is_answered {
            return 0;
        }
        let bytes = request
            .until
            .min(request.end)
            .saturating_sub(request.head)
            .min(most);
        if bytes == 0 {
            return 0;
        }
        let arrived = range(request.head, request.head + bytes);
        request.head += bytes;
        self.bytes_received += bytes;
        if let Some(open) = self.files.get_mut(&request.source) {
            open.present.insert(arrived);
        }
        self.input(Input::Progressed { run, bytes });
        bytes
    }

    /// A run that is complete or was told to stop ends.
    pub fn finish(&mut self, run: RunId) -> bool {
        let Some(request) = self.requests.get(&run) else {
            return false;
        };
        let is_complete = request.is_answered && request.head >= request.end;
        if !is_complete && !request.is_aborted {
            return false;
        }
        let request = self.requests.remove(&run).unwrap();
        if is_complete
            && !request.is_aborted
            && let Some(open) = self.files.get_mut(&request.source)
            && !open.file.has_ranges
        {
            open.knows_length = true;
        }
        self.input(Input::Finished { run });
        true
    }

    pub fn fail(&mut self, run: RunId, failure: Failure) {
        if let Some(request) = self.requests.remove(&run) {
            if let Some(open) = self.files.get_mut(&request.source) {
                open.is_troubled = true;
            }
            self.input(Input::Failed { run, failure });
        }
    }

    /// Time passes, timers included.
    pub fn pass(&mut self, time: Duration) {
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
    pub fn settle(&mut self) -> usize {
        let mut steps = 0;
        loop {
            let mut has_moved = false;
            let runs: Vec<RunId> = self.requests.keys().copied().collect();
            for run in runs {
                let before = self.log.len();
                let was_answered = self.requests.get(&run).is_none_or(|run| run.is_answered);
                self.answer(run);
                has_moved |= !was_answered || self.log.len() != before;
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

    /// The runs of a file that are open.
    pub fn runs_of(&self, id: u64) -> Vec<(RunId, Request)> {
        self.requests
            .iter()
            .filter(|(_, run)| run.source == source(id) && !run.is_aborted)
            .map(|(&id, &run)| (id, run))
            .collect()
    }

    pub fn input(&mut self, input: Input) {
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
            let in_flight = self.in_flight();
            self.most_in_flight = self.most_in_flight.max(in_flight);
            assert!(
                in_flight <= self.config.max_runs,
                "{in_flight} in flight after {action:?}"
            );
        }
        let most = 4 * (before + self.config.max_runs) + 2;
        assert!(orders <= most, "{orders} orders for one fact");
        assert!(self.last.len() <= most + demands + 1, "{:?}", self.last);
        self.check();
    }

    pub fn in_flight(&self) -> usize {
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
                level,
            } => {
                self.fetches += 1;
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
                    let asked = range(at, end);
                    assert!(
                        !open.present.intersects(asked),
                        "{action:?} asks for present bytes"
                    );
                }
                self.requests.insert(
                    run,
                    Request {
                        source,
                        asked: start,
                        start: at,
                        head: at,
                        end,
                        until,
                        level,
                        is_answered: false,
                        is_aborted: false,
                    },
                );
            }
            Action::Allow { run, until } => {
                let request = self.requests.get_mut(&run).unwrap();
                assert!(!request.is_aborted, "{action:?} of an aborted run");
                request.until = until;
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

    /// What must hold between any two inputs.
    fn check(&self) {
        assert_eq!(self.scheduler.active_runs(), self.in_flight(), "{self:#?}");
        for (id, open) in &self.files {
            let queued: RangeSet = self
                .scheduler
                .queue()
                .demands(*id)
                .map(|demand| demand.range)
                .collect();
            assert_eq!(queued, open.outstanding, "the ledger of {id}");
            if open.file.has_ranges {
                let mut claimed = RangeSet::new();
                for run in self.requests.values().filter(|run| run.source == *id) {
                    if let Some(claims) = run.claims()
                        && matches!(run.asked, Start::At(_)) | run.is_answered
                    {
                        assert!(
                            !claimed.intersects(claims),
                            "two runs at one byte: {self:#?}"
                        );
                        claimed.insert(claims);
                    }
                }
            }
            self.check_critical(*id, open);
        }
    }

    /// What is critical has a run, or every slot serves something critical.
    fn check_critical(&self, id: SourceId, open: &Open) {
        let is_located = open.knows_length && open.file.has_ranges;
        if open.is_troubled || !is_located {
            return;
        }
        for wanted in open.critical.iter() {
            let at = wanted.start();
            let of_file = self.requests.values().filter(|run| run.source == id);
            let is_served = of_file.clone().any(|run| {
                run.is_aborted && run.claims().is_some_and(|claims| claims.contains(at))
                    || run.is_in_flight()
                        && run.head <= at
                        && at < run.until.min(run.end)
                        && at - run.head <= self.config.skip
            });
            let is_every_slot_critical = self.in_flight() == self.config.max_runs
                && self
                    .requests
                    .values()
                    .filter(|run| run.is_in_flight())
                    .all(|run| {
                        run.is_aborted
                            || run.head >= run.end
                            || self.readers.values().any(|(of, ..)| *of == run.source)
                            || self.files.get(&run.source).is_none_or(|open| {
                                !open.file.has_ranges
                                    || !open.knows_length
                                    || run
                                        .claims()
                                        .is_some_and(|claims| open.critical.intersects(claims))
                            })
                    });
            assert!(
                is_served || is_every_slot_critical,
                "critical byte {at} of {id} waits behind lower work: {self:#?}"
            );
        }
    }
}
