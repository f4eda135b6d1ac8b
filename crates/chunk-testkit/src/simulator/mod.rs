//! Hours of playback in seconds: the scheduler between simulated viewers and a simulated link.
//!
//! Nothing here reads a clock or rolls dice of its own: time jumps from one event to the next, all sums are
//! integers, and what is random comes from a seed. Equal seeds give equal traces, which
//! [`Report::trace`] shows.
//!
//! The link is a fluid: connections that read share its rate evenly, and so does one that is not read until its window
//! is full. That leaves out slow start and losses; what it keeps is what scheduling is about, namely that bytes for one
//! are no bytes for another.
//!
//! ```
//! use chunk_core::scheduler::Config;
//! use chunk_testkit::simulator::{Link, Player, Simulation};
//! use std::time::Duration;
//!
//! // A film of 8 Mbit/s over a line of 12 Mbit/s, 50 ms away.
//! let link = Link::new(Duration::from_millis(50), 1_500_000);
//! let mut simulation = Simulation::new(Config::default(), link, 1);
//! simulation.add_player(1 << 30, Player::new(1_000_000));
//! let report = simulation.run(Duration::from_secs(60));
//! assert_eq!(report.stalls, 0);
//! ```

mod link;
pub mod optimum;
mod random;
mod viewer;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write};
use std::time::Duration;

use chunk_core::scheduler::{
    Action, Config, Hints, Input, OriginId, ReaderId, Scheduler, SourceId, Start,
};
use chunk_core::{ByteRange, Priority, RangeSet, Tick};

use link::Line;
pub use link::Link;
use random::Random;
pub use viewer::Player;
use viewer::{Pace, Viewer};

/// The scheduler, the link and the viewers.
#[derive(Debug)]
pub struct Simulation {
    scheduler: Scheduler,
    line: Line,
    now: Tick,
    lengths: BTreeMap<SourceId, u64>,
    viewers: BTreeMap<ReaderId, Viewer>,
    random: Random,
    inputs: VecDeque<Input>,
    report: Report,
    trace: Trace,
    /// What viewers have read, and of which file.
    read: BTreeMap<SourceId, RangeSet>,
    /// What was fetched for nobody in particular.
    precached: BTreeSet<SourceId>,
}

/// What a simulation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How often a player ran dry, start-up and seeks not counted.
    pub stalls: u64,
    /// For how long in all.
    pub stalled: Duration,
    /// How often a player started or sought.
    pub starts: u64,
    /// How long the slowest of them took from the seek to the picture.
    pub slowest_start: Duration,
    /// How long they took in all.
    pub starting: Duration,
    /// How long players played in all.
    pub played: Duration,
    /// Bytes that left the origin, those on the wire of an aborted request included.
    pub origin_bytes: u64,
    /// Bytes that left the origin, and no viewer read nor anybody asked for in advance.
    pub wasted: u64,
    /// Bytes that copies read.
    pub copied: u64,
    /// Bytes that arrived of files asked for in advance.
    pub precached: u64,
    /// Requests to the origin.
    pub requests: u64,
    /// Orders of the scheduler.
    pub actions: u64,
    /// Facts told to the scheduler.
    pub facts: u64,
    /// A hash of every order and its time: equal for equal seeds.
    pub trace: u64,
}

impl Simulation {
    /// Nobody watches yet. `seed` decides seeks and pauses.
    #[must_use]
    pub fn new(config: Config, link: Link, seed: u64) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            line: Line::new(link),
            now: Tick::ZERO,
            lengths: BTreeMap::new(),
            viewers: BTreeMap::new(),
            random: Random::new(seed),
            inputs: VecDeque::new(),
            report: Report::default(),
            trace: Trace::new(),
            read: BTreeMap::new(),
            precached: BTreeSet::new(),
        }
    }

    /// A player starts at the beginning of a file of its own of `len` bytes.
    pub fn add_player(&mut self, len: u64, player: Player) -> ReaderId {
        let viewer = Viewer::player(player, len, self.now, &mut self.random);
        let rate = player.is_rate_told.then(|| player.rate());
        let hints = Hints::default().with_rate(rate);
        self.add(len, viewer, RangeSet::new(), hints)
    }

    /// Somebody copies a file of `len` bytes as fast as it comes.
    pub fn add_copy(&mut self, len: u64) -> ReaderId {
        self.add_copy_of_the_rest(len, RangeSet::new())
    }

    /// The same where `present` is there already.
    pub fn add_copy_of_the_rest(&mut self, len: u64, present: RangeSet) -> ReaderId {
        self.add(len, Viewer::copy(len), present, Hints::default())
    }

    /// Somebody reads `bytes` bytes from `position` on of a file of `len` bytes, leaves the rest unread, and stays.
    pub fn add_look(&mut self, len: u64, position: u64, bytes: u64) -> ReaderId {
        let look = Viewer::look(len, position, bytes);
        self.add(len, look, RangeSet::new(), Hints::default())
    }

    /// A file of `len` bytes is asked for in advance, at that level.
    pub fn add_precache(&mut self, len: u64, priority: Priority) {
        let source = self.open(len, RangeSet::new());
        self.precached.insert(source);
        if let Some(range) = ByteRange::try_new(0, len) {
            self.tell(Input::Requested {
                source,
                range,
                priority,
            });
        }
    }

    fn add(&mut self, len: u64, viewer: Viewer, present: RangeSet, hints: Hints) -> ReaderId {
        let source = self.open(len, present);
        let reader = ReaderId::new(source.get());
        let start = Start::At(viewer.position());
        self.viewers.insert(reader, viewer);
        self.tell(Input::ReaderOpened {
            reader,
            source,
            start,
            end: None,
            hints,
        });
        reader
    }

    fn open(&mut self, len: u64, present: RangeSet) -> SourceId {
        let source = SourceId::new(self.lengths.len() as u64 + 1);
        self.lengths.insert(source, len);
        self.tell(Input::SourceOpened {
            source,
            origin: OriginId::new(1),
            total_len: Some(len),
            accepts_ranges: true,
            present,
        });
        source
    }

    /// From now on the link carries `rate` bytes a second in all; 0 is a dead line.
    pub const fn set_rate(&mut self, rate: u64) {
        self.line.set_rate(rate);
    }

    /// A player seeks now.
    pub fn seek(&mut self, reader: ReaderId, position: u64) {
        if let Some(viewer) = self.viewers.get_mut(&reader) {
            viewer.jump(self.now, position);
            self.tell(Input::ReaderSought { reader, position });
        }
    }

    /// A player shows no new picture until [`Self::resume`]; it goes on filling its buffer.
    pub fn pause(&mut self, reader: ReaderId) {
        if let Some(viewer) = self.viewers.get_mut(&reader) {
            viewer.set_pace(Pace::Paused);
        }
    }

    /// A paused player plays on.
    pub fn resume(&mut self, reader: ReaderId) {
        if let Some(viewer) = self.viewers.get_mut(&reader) {
            viewer.set_pace(Pace::Playing);
        }
    }

    /// A viewer goes away; returns what [`Self::waited`] said last.
    pub fn leave(&mut self, reader: ReaderId) -> Duration {
        let waited = self.waited(reader);
        if self.viewers.remove(&reader).is_some() {
            self.tell(Input::ReaderGone { reader });
        }
        waited
    }

    /// For how long a player has had no picture until now: starts, seeks and stalls, pauses not counted.
    #[must_use]
    pub fn waited(&self, reader: ReaderId) -> Duration {
        self.viewers
            .get(&reader)
            .map_or(Duration::ZERO, Viewer::waited)
    }

    /// Lets `time` pass and reports on all of it since the start.
    pub fn run(&mut self, time: Duration) -> Report {
        /// More than ever happens at one instant: a scheduler that wants to be called again at once, for ever.
        const AT_ONCE: u32 = 100_000;
        let end = self.now + time;
        let mut at_once = 0;
        loop {
            self.look_after_viewers();
            self.settle();
            let next = [
                self.line.next_event(self.now),
                self.viewers
                    .values()
                    .filter_map(|viewer| viewer.next_event(self.now))
                    .min(),
                self.scheduler.poll_timeout(),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(end).min(end);
            let passed = next.since(self.now);
            at_once = if passed.is_zero() { at_once + 1 } else { 0 };
            assert!(at_once < AT_ONCE, "time stands still at {next:?}");
            self.now = next;
            for viewer in self.viewers.values_mut() {
                viewer.play(passed, &mut self.report);
            }
            let arrived = self.line.pass(self.now, passed, &self.lengths);
            for input in arrived {
                self.report.count(&input);
                self.tell(input);
            }
            if self
                .scheduler
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.tell(Input::TimedOut);
            }
            if self.now >= end {
                break;
            }
        }
        self.settle();
        self.report.trace = self.trace.0;
        let read: u64 = self.read.values().map(RangeSet::len).sum();
        let present = self
            .precached
            .iter()
            .filter_map(|&source| self.scheduler.present(source));
        self.report.precached = present.map(RangeSet::len).sum();
        self.report.wasted = self
            .report
            .origin_bytes
            .saturating_sub(read + self.report.precached);
        self.report
    }

    /// How many connections are being read, or are about to be.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.scheduler.active_runs() + self.scheduler.stripes_in_flight()
    }

    fn look_after_viewers(&mut self) {
        let readers: Vec<ReaderId> = self.viewers.keys().copied().collect();
        for reader in readers {
            let source = SourceId::new(reader.get());
            let Some(viewer) = self.viewers.get_mut(&reader) else {
                continue;
            };
            let sought = viewer.seek_if_due(self.now, &mut self.random);
            if let Some(position) = sought {
                self.tell(Input::ReaderSought { reader, position });
            }
            let (Some(viewer), Some(present)) = (
                self.viewers.get_mut(&reader),
                self.scheduler.present(source),
            ) else {
                continue;
            };
            let from = viewer.position();
            let there = present.contiguous_from(from);
            let Some(moved) = viewer.read(self.now, there, &mut self.report) else {
                continue;
            };
            if let Some(range) = ByteRange::try_new(from, moved.position) {
                self.read.entry(source).or_default().insert(range);
            }
            self.tell(Input::ReaderMoved {
                reader,
                position: moved.position,
                idle: moved.idle,
                waiting: moved.waiting,
            });
        }
    }

    fn tell(&mut self, input: Input) {
        self.report.facts += 1;
        self.scheduler.handle(self.now, input);
    }

    /// Carries out what follows from all that was told at this moment: a driver hands in what it has before it asks.
    fn settle(&mut self) {
        /// What follows from the facts of one moment; more is work that goes round in circles.
        const MOST: u64 = 10_000;
        let most = self.report.facts + MOST;
        loop {
            while let Some(action) = self.scheduler.poll_action() {
                self.report.actions += 1;
                self.trace.add(self.now, &action);
                self.carry_out(action);
            }
            if self.inputs.is_empty() {
                return;
            }
            while let Some(input) = self.inputs.pop_front() {
                self.tell(input);
            }
            assert!(self.report.facts < most, "in circles at {:?}", self.now);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Fetch {
                run,
                source,
                start: Start::At(start),
                end,
                until,
                ..
            } => {
                self.report.requests += 1;
                let len = self.lengths.get(&source).copied().unwrap_or(0);
                let end = end.unwrap_or(len).min(len);
                self.line.open(self.now, run, source, start, end, until);
            }
            Action::Allow { run, until } => self.line.allow(run, until),
            Action::Shorten { run, end } => self.line.shorten(run, end),
            Action::Abort { run } => {
                let (kept, in_vain) = self.line.close(run);
                self.report.origin_bytes += in_vain;
                if let Some(kept) = kept {
                    self.report.count(&kept);
                    self.inputs.push_back(kept);
                }
                self.inputs.push_back(Input::Finished { run });
            }
            // Lengths are known, and nothing fails here.
            Action::Fetch { .. } | Action::Ended { .. } | Action::GaveUp { .. } => {}
        }
    }
}

impl Report {
    /// Counts what has come.
    const fn count(&mut self, input: &Input) {
        if let Input::Progressed { bytes, .. } = input {
            self.origin_bytes += *bytes;
        }
    }
}

/// FNV-1a over the orders as text.
#[derive(Debug)]
struct Trace(u64);

impl Trace {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, now: Tick, action: &Action) {
        // Writing into a number cannot fail.
        let _ = writeln!(self, "{} {action:?}", now.as_nanos());
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
