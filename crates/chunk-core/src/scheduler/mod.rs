//! The scheduler: which bytes to fetch next.
//!
//! A state machine without I/O. [`Scheduler::handle`] takes facts, [`Scheduler::poll_action`] yields
//! imperatives until there are none, [`Scheduler::poll_timeout`] says when to call
//! [`Scheduler::handle`] with [`Input::TimedOut`] at the latest. All containers are ordered, so that equal
//! inputs give equal actions.
//!
//! The words: a *source* is one representation of an entry; a *reader* has a position and wants a window
//! of bytes after it; a *run* is one origin request, from the exact byte needed to the next byte that is
//! already there. A run reads up to its *allowance*; where that is its head, the run is *held*: its
//! connection stays open, unread, and it takes no slot.
//!
//! At each step the scheduler ranks what is wanted, gives the slots to the runs that serve the most
//! urgent wants, and holds or ends the others. A slot is not all that counts, since runs share a line: who has
//! enough for now rests while others have not. What the scheduler promises:
//!
//! - no byte is asked for by two runs at once, and none that is present (an origin without ranges excepted,
//!   which can only be asked for everything; *hedges*, which ask anew for what is late, within a budget; and
//!   runs that follow each other where bytes cannot be kept, each of which reads what is in no other's ring);
//! - runs in flight never exceed the limit, those being aborted included; besides them there may be *stripes*,
//!   which bring pieces that such a run would come to later, up to the limit of connections;
//! - a more urgent want takes the slot of a less urgent one at once;
//! - every explicitly requested byte ends exactly once, as served, failed or cancelled;
//! - as long as inputs come, the queue drains.
//!
//! ```
//! use chunk_core::scheduler::{Action, Config, Hints, Input, OriginId, ReaderId, Scheduler, SourceId, Start};
//! use chunk_core::{RangeSet, Tick};
//!
//! let mut scheduler = Scheduler::new(Config::default());
//! let source = SourceId::new(1);
//! scheduler.handle(
//!     Tick::ZERO,
//!     Input::SourceOpened {
//!         source,
//!         origin: OriginId::new(1),
//!         total_len: Some(50 << 20),
//!         accepts_ranges: true,
//!         present: RangeSet::new(),
//!     },
//! );
//! scheduler.handle(
//!     Tick::ZERO,
//!     Input::ReaderOpened {
//!         reader: ReaderId::new(1),
//!         source,
//!         start: Start::At(12_345),
//!         end: None,
//!         hints: Hints::default(),
//!     },
//! );
//! // Fetching starts at the very byte the reader stands at.
//! let Some(Action::Fetch { start, .. }) = scheduler.poll_action() else { panic!() };
//! assert_eq!(start, Start::At(12_345));
//! ```

mod background;
mod halt;
mod hedge;
mod interface;
mod line;
mod need;
mod parallel;
mod plan;
mod reader;
mod rest;
mod rings;
mod run;
mod settle;
mod source;
mod stripes;
mod trial;
mod wants;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::{ByteRange, DemandQueue, Priority, RangeSet, Tick};

use background::Background;
pub use halt::{Claim, Halt, PutBack, Rival};
use hedge::Hedging;
pub use interface::{
    Action, Config, Failure, Hints, Input, Level, OriginId, Outcome, ReaderId, Role, RunId,
    SourceId, Start,
};
use line::Lines;
use need::Urgency;
use reader::Reader;
use rest::Junction;
use run::{Phase, Run};
use source::Source;

/// Decides which bytes to fetch next. See the [module's documentation](self).
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    now: Tick,
    sources: BTreeMap<SourceId, Source>,
    readers: BTreeMap<ReaderId, Reader>,
    runs: BTreeMap<RunId, Run>,
    /// Readers with a missing byte in their window, most urgent first.
    needs: BTreeSet<(Urgency, ReaderId)>,
    /// The sources that wait for an instant: before their next try, or for a reader to come back.
    expectant: BTreeSet<SourceId>,
    /// Explicit requests.
    queue: DemandQueue<SourceId>,
    /// Heads of blocks that a run began in the middle of: fetched when nothing else is wanted, so that the
    /// blocks can be recorded.
    backfill: DemandQueue<SourceId>,
    lines: Lines,
    junction: Junction,
    /// Background work rests until then, because something critical was wanted a moment ago.
    quiet_until: Tick,
    /// When a player that rests is to be looked at again.
    rests_until: Tick,
    /// What the last plan served by nothing.
    put_back: Vec<PutBack>,
    hedging: Hedging,
    background: Background,
    next_run: u64,
    actions: VecDeque<Action>,
    /// Whether facts have come in since the last plan.
    is_stale: bool,
}

impl Scheduler {
    /// A scheduler that knows of no source.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Tick::ZERO,
            sources: BTreeMap::new(),
            readers: BTreeMap::new(),
            runs: BTreeMap::new(),
            needs: BTreeSet::new(),
            expectant: BTreeSet::new(),
            queue: DemandQueue::new(),
            backfill: DemandQueue::new(),
            lines: Lines::new(),
            junction: Junction::new(),
            quiet_until: Tick::ZERO,
            rests_until: Tick::NEVER,
            put_back: Vec::new(),
            hedging: Hedging::new(config.hedged),
            background: {
                let mut background = Background::new();
                background.limit_all(config.background_rate, Tick::ZERO);
                background
            },
            next_run: 1,
            actions: VecDeque::new(),
            is_stale: false,
        }
    }

    /// Takes in a fact, at `now`; a `now` earlier than a former one counts as the former one.
    ///
    /// Facts about sources, readers and runs that are gone are ignored, because they may cross with the
    /// action that ended them.
    pub fn handle(&mut self, now: Tick, input: Input) {
        self.now = self.now.max(now);
        // A driver under load may come late with its timer.
        self.wake();
        match input {
            Input::SourceOpened {
                source,
                origin,
                total_len,
                accepts_ranges,
                present,
            } => {
                self.lines.open(origin);
                self.sources.entry(source).or_insert_with(|| {
                    Source::new(source, origin, total_len, accepts_ranges, present)
                });
            }
            Input::SourceClosed { source } => self.close_source(source, Outcome::Cancelled),
            Input::SourceFailed { source } => self.close_source(source, Outcome::Failed),
            Input::LengthLearned { source, total_len } => self.learn_length(source, total_len),
            Input::WindowCapped { source, bytes } => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.window_cap = bytes;
                }
                if bytes.is_none() {
                    self.part_runs(source);
                }
                self.refresh_source(source);
            }
            Input::ReaderOpened {
                reader,
                source,
                start,
                end,
                hints,
            } => self.open_reader(reader, source, start, end, hints),
            Input::ReaderSought { reader, position } => self.seek_reader(reader, position),
            Input::ReaderMoved {
                reader,
                position,
                idle,
                waiting,
            } => self.move_reader(reader, position, idle, waiting),
            Input::ReaderBounded { reader, end } => {
                if let Some(found) = self.readers.get_mut(&reader) {
                    found.end = end;
                }
                self.refresh_reader(reader);
            }
            Input::ReaderRate { reader, rate } => {
                if let Some(found) = self.readers.get_mut(&reader) {
                    found.told_rate = rate;
                }
                self.refresh_reader(reader);
            }
            Input::ReaderGone { reader } => self.close_reader(reader),
            Input::Requested {
                source,
                range,
                priority,
            } => self.request(source, range, priority),
            Input::Cancelled { source, range } => {
                self.end_requests(source, range, Outcome::Cancelled);
            }
            Input::OrdersSuspended { source } => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.are_orders_suspended = true;
                }
            }
            Input::OrdersResumed { source } => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.are_orders_suspended = false;
                }
            }
            Input::Supplied { source, range } => {
                self.receive(source, range);
                self.stop_runs_before(source, range);
            }
            Input::Forgotten { source, range } => {
                if let Some(found) = self.sources.get_mut(&source) {
                    found.present.remove(range);
                }
                self.refresh_source(source);
            }
            Input::Answered {
                run,
                start,
                end,
                total_len,
                accepts_ranges,
            } => self.answer(run, start, end, total_len, accepts_ranges),
            Input::Progressed { run, bytes } => self.progress(run, bytes),
            Input::Finished { run } => self.finish(run),
            Input::Failed { run, failure } => self.fail(run, failure),
            Input::OriginLimited {
                origin,
                background_rate,
            } => self
                .background
                .limit_origin(origin, background_rate, self.now),
            Input::LimitsChanged { config } => {
                self.config = config;
                self.background.limit_all(config.background_rate, self.now);
                self.hedging.set_price(config.hedged);
                let readers: Vec<ReaderId> = self.readers.keys().copied().collect();
                for reader in readers {
                    if let Some(reader) = self.readers.get_mut(&reader) {
                        reader.read_ahead.set_policy(self.config.read_ahead);
                    }
                    self.refresh_reader(reader);
                }
            }
            Input::TimedOut => {}
        }
        self.is_stale = true;
    }

    /// The next thing to do, in order; `None` until the next input. Drain it before asking for anything else.
    pub fn poll_action(&mut self) -> Option<Action> {
        // Planning waits for the driver to have handed in what it has: a burst of facts is one plan.
        if self.is_stale {
            self.is_stale = false;
            self.plan();
        }
        self.actions.pop_front()
    }

    /// When to hand in [`Input::TimedOut`] at the latest; `None` where nothing waits for time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        let expectant = || {
            self.expectant
                .iter()
                .filter_map(|source| self.sources.get(source))
        };
        let blocked = expectant().filter_map(|source| source.blocked_until);
        // Only with a connection that is kept is there something to do once a reader will not come back.
        let gone = expectant()
            .filter(|source| !source.runs.is_empty())
            .flat_map(|source| source.gone.iter().map(|gone| gone.until));
        let held = self
            .runs
            .values()
            .filter(|run| run.phase == Phase::Open)
            .filter_map(|run| run.held_since)
            .map(|since| since + self.config.hold_limit);
        let quiet =
            (self.quiet_until > self.now && self.has_background()).then_some(self.quiet_until);
        let rests = (self.rests_until != Tick::NEVER).then_some(self.rests_until);
        let background = (self.background.due() != Tick::NEVER).then_some(self.background.due());
        let hedge = (self.hedging.due() != Tick::NEVER).then_some(self.hedging.due());
        blocked
            .chain(gone)
            .chain(hedge)
            .chain(background)
            .chain(held)
            .chain(quiet)
            .chain(rests)
            .min()
            .map(|tick| tick.max(self.now))
    }

    /// The number of runs in flight, those being aborted included, held ones and stripes not.
    #[must_use]
    pub fn active_runs(&self) -> usize {
        self.runs.values().filter(|run| run.takes_slot()).count()
    }

    /// The number of connections in flight besides those of [`Self::active_runs`]: pieces that one of these
    /// would come to later, those being aborted included. They take no slot.
    #[must_use]
    pub fn stripes_in_flight(&self) -> usize {
        self.runs
            .values()
            .filter(|run| run.is_stripe && run.takes_connection())
            .count()
    }

    /// The number of connections in flight that compete with a run for what is late from it, those being aborted
    /// included. They take no slot.
    #[must_use]
    pub fn hedges_in_flight(&self) -> usize {
        self.runs
            .values()
            .filter(|run| run.hedges.is_some() && run.takes_connection())
            .count()
    }

    /// Whether a run is a hedge at present; it ceases to be one when it takes over the slot.
    #[must_use]
    pub fn is_hedge(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| run.hedges.is_some())
    }

    /// Whether a run is a stripe at present; it ceases to be one when its want comes to its first byte.
    #[must_use]
    pub fn is_stripe(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| run.is_stripe)
    }

    /// The number of runs whose connections are open and unread.
    #[must_use]
    pub fn held_runs(&self) -> usize {
        self.runs
            .values()
            .filter(|run| !run.takes_connection())
            .count()
    }

    /// The explicit requests that wait or are being fetched.
    #[must_use]
    pub const fn queue(&self) -> &DemandQueue<SourceId> {
        &self.queue
    }

    /// The bytes present of a source.
    #[must_use]
    pub fn present(&self, source: SourceId) -> Option<&RangeSet> {
        self.sources.get(&source).map(|source| &source.present)
    }

    /// Whether a source has a reader, an explicit request or a run.
    #[must_use]
    pub fn is_in_use(&self, source: SourceId) -> bool {
        self.sources
            .get(&source)
            .is_some_and(|found| !found.readers.is_empty() || !found.runs.is_empty())
            || self.queue.demands(source).next().is_some()
    }

    /// Whether a run of the source is in flight.
    #[must_use]
    pub fn is_fetching(&self, source: SourceId) -> bool {
        self.sources.get(&source).is_some_and(|found| {
            found
                .runs
                .iter()
                .filter_map(|run| self.runs.get(run))
                .any(Run::takes_slot)
        })
    }

    fn has_background(&self) -> bool {
        !self.backfill.is_empty()
            || self.needs.iter().any(|(need, _)| need.rank.is_background())
            || self.queue.at(Priority::Medium).next().is_some()
            || self.queue.at(Priority::Low).next().is_some()
    }

    fn wake(&mut self) {
        let now = self.now;
        let sources = &mut self.sources;
        self.expectant.retain(|id| {
            sources
                .get_mut(id)
                .is_some_and(|source| source.expects_at(now))
        });
        let expired: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, run)| {
                run.phase == Phase::Open
                    && run
                        .held_since
                        .is_some_and(|since| since + self.config.hold_limit <= now)
            })
            .map(|(&id, _)| id)
            .collect();
        for run in expired {
            self.abort(run, Halt::Expired);
        }
    }

    fn close_source(&mut self, id: SourceId, outcome: Outcome) {
        let Some(source) = self.sources.get(&id) else {
            return;
        };
        let runs: Vec<RunId> = source.runs.iter().copied().collect();
        let readers: Vec<ReaderId> = source.readers.iter().copied().collect();
        for run in runs {
            self.abort(run, Halt::Unwanted);
        }
        for reader in readers {
            self.close_reader(reader);
        }
        if let Some(all) = ByteRange::try_new(0, u64::MAX) {
            self.end_requests(id, all, outcome);
        }
        self.backfill.remove_key(id);
        self.sources.remove(&id);
    }

    fn request(&mut self, id: SourceId, range: ByteRange, priority: Priority) {
        let Some(source) = self.sources.get_mut(&id) else {
            self.actions.push_back(Action::Ended {
                source: id,
                range,
                outcome: Outcome::Failed,
            });
            return;
        };
        let Some(range) = source.clip(range) else {
            return;
        };
        let missing: Vec<ByteRange> = source.present.gaps(range).collect();
        for gap in missing {
            self.queue.push(id, gap, priority);
        }
    }

    /// Ends explicit requests: each byte of `range` that was queued is reported once.
    fn end_requests(&mut self, id: SourceId, range: ByteRange, outcome: Outcome) {
        let ended: Vec<ByteRange> = self
            .queue
            .overlapping(id, range)
            .map(|demand| demand.range)
            .collect();
        if ended.is_empty() {
            return;
        }
        self.queue.cancel(id, range);
        for piece in ended {
            if let Some(range) = piece.intersection(range) {
                self.actions.push_back(Action::Ended {
                    source: id,
                    range,
                    outcome,
                });
            }
        }
    }

    /// Runs on their way to bytes that came by other means end there.
    fn stop_runs_before(&mut self, id: SourceId, range: ByteRange) {
        let Some(source) = self.sources.get(&id) else {
            return;
        };
        if source.is_read_by_one() {
            return;
        }
        let reaching: Vec<RunId> = source
            .runs
            .iter()
            .filter(|run| {
                self.runs
                    .get(run)
                    .is_some_and(|run| run.head < range.start() && range.start() < run.end)
            })
            .copied()
            .collect();
        for run in reaching {
            self.shorten(run, range.start());
        }
    }

    /// Bytes have become readable.
    fn receive(&mut self, id: SourceId, range: ByteRange) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        if source.present.insert(range) > 0 {
            // Bytes that had been there before are no sign of life: an origin without ranges that always
            // breaks at one byte would be asked for ever.
            source.retry.progressed();
        }
        // Nobody lacks anything else than before but those whose first missing byte is among these.
        let reached: Vec<ReaderId> = source.lacking(range).collect();
        self.end_requests(id, range, Outcome::Served);
        self.backfill.satisfy(id, range);
        for reader in reached {
            self.refresh_reader(reader);
        }
    }

    fn learn_length(&mut self, id: SourceId, total_len: u64) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        source.total_len = Some(total_len);
        source.is_located = true;
        for run in &source.runs {
            if let Some(run) = self.runs.get_mut(run) {
                run.end = run.end.min(total_len);
                if let Some(suffix) = run.suffix.take() {
                    run.head = total_len.saturating_sub(suffix);
                    run.start = run.head;
                }
            }
        }
        for reader in &source.readers {
            if let Some(reader) = self.readers.get_mut(reader) {
                reader.resolve(total_len);
            }
        }
        // What was asked for past the end does not exist.
        if let Some(beyond) = ByteRange::try_new(total_len, u64::MAX) {
            self.end_requests(id, beyond, Outcome::Failed);
        }
        self.refresh_source(id);
    }

    /// How long background work rests after something critical was wanted: long enough to bridge the gaps
    /// between a player's requests at start-up, short against its buffer.
    const QUIET: Duration = Duration::from_millis(200);
}
