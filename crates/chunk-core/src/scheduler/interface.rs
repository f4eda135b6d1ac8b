//! What goes into the scheduler and what comes out.

use core::fmt;
use core::time::Duration;

use crate::{ByteRange, ChunkSize, Priority, RangeSet, ReadAheadPolicy, RetryPolicy};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The id with this number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
number!(
    /// One representation of an entry, for as long as the caller keeps it open. Chosen by the caller.
    SourceId
);
number!(
    /// A server that representations come from. Chosen by the caller.
    OriginId
);
number!(
    /// A live reader. Chosen by the caller, never used twice.
    ReaderId
);
number!(
    /// One origin request. Chosen by the scheduler, never used twice.
    RunId
);

/// What may be set; everything has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How many runs may be in flight at once, at least 1.
    pub max_runs: usize,
    /// How many connections there may be to one origin, held ones included, whatever files they bring. Stripes are
    /// only added while it has fewer.
    pub max_connections: usize,
    /// The chunk size, for read-ahead in chunks while a rate is unknown.
    pub chunk_size: ChunkSize,
    /// How much to have ready in front of a reader.
    pub read_ahead: ReadAheadPolicy,
    /// When a failed fetch is tried again.
    pub retry: RetryPolicy,
    /// A byte this near in front of a run's head is waited for rather than asked for anew.
    pub skip: u64,
    /// After opening or a seek, this many bytes are critical as a whole, unless a rate says what two
    /// seconds of media are.
    pub startup: u64,
    /// How long a held run keeps its connection.
    pub hold_limit: Duration,
    /// Bytes have to arrive evenly for twice as long before another connection is tried, and again before
    /// the trial is judged.
    pub steady: Duration,
    /// One in so many requests may be a hedge; none where it is 0.
    pub hedged: u32,
    /// The most bytes a second to fetch in the background, which is what explicit requests of medium and low
    /// priority want; any number where `None`.
    pub background_rate: Option<u64>,
    /// Whether each byte costs: nothing is fetched in the background, and readers have little ready.
    pub is_metered: bool,
}

impl Default for Config {
    /// Four runs; 16 connections to an origin; 256 KiB to wait out, which is 21 ms at 100 Mbit/s and less than
    /// a round trip to most origins; 1 MiB of start-up, a second at 8 Mbit/s; connections held for 20 s,
    /// well below the minute after which servers close them; twice 60 ms of even arrival, several of the
    /// bursts in which a kernel hands bytes over; one hedge in twenty
    /// requests.
    fn default() -> Self {
        Self {
            max_runs: 4,
            max_connections: 16,
            chunk_size: ChunkSize::DEFAULT,
            read_ahead: ReadAheadPolicy::DEFAULT,
            retry: RetryPolicy::DEFAULT,
            skip: 256 * 1024,
            startup: 1024 * 1024,
            hold_limit: Duration::from_secs(20),
            steady: Duration::from_millis(60),
            hedged: 20,
            background_rate: None,
            is_metered: false,
        }
    }
}

impl Config {
    /// The same with another number of runs; 0 counts as 1.
    #[must_use]
    pub const fn with_max_runs(mut self, runs: usize) -> Self {
        self.max_runs = if runs == 0 { 1 } else { runs };
        self
    }

    /// The same with another number of connections to an origin; 0 counts as 1.
    #[must_use]
    pub const fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// The same with another rate of background work; no limit where `None`.
    #[must_use]
    pub const fn with_background_rate(mut self, rate: Option<u64>) -> Self {
        self.background_rate = rate;
        self
    }

    /// The same on a line where each byte costs, or not.
    #[must_use]
    pub const fn with_metered(mut self, is_metered: bool) -> Self {
        self.is_metered = is_metered;
        self
    }

    /// The same with another chunk size.
    #[must_use]
    pub const fn with_chunk_size(mut self, chunk_size: ChunkSize) -> Self {
        self.chunk_size = chunk_size;
        self
    }

    /// The same with another read-ahead.
    #[must_use]
    pub const fn with_read_ahead(mut self, read_ahead: ReadAheadPolicy) -> Self {
        self.read_ahead = read_ahead;
        self
    }

    /// The same with another retry policy.
    #[must_use]
    pub const fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }
}

/// Where something starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "offsets count from one end or the other"
)]
pub enum Start {
    /// At this offset.
    At(u64),
    /// This many bytes before the end, wherever that is.
    FromEnd(u64),
}

/// What a reader says of itself before its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hints {
    /// The bytes a second that its media plays at; measured where `None`.
    pub rate: Option<u64>,
    /// Whether all other readers go first. Then it is no player, whatever its rate.
    pub yields: bool,
}

impl Hints {
    /// The same with another rate.
    #[must_use]
    pub const fn with_rate(mut self, rate: Option<u64>) -> Self {
        self.rate = rate;
        self
    }

    /// The same, yielding to all others or not.
    #[must_use]
    pub const fn with_yielding(mut self, yields: bool) -> Self {
        self.yields = yields;
        self
    }
}

/// A fact for the scheduler.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the driver builds every kind, and a new fact must be handled everywhere"
)]
pub enum Input {
    /// A representation is open from now on. Its length may not be known yet.
    SourceOpened {
        /// Which.
        source: SourceId,
        /// Where it comes from.
        origin: OriginId,
        /// Its length in bytes, where known.
        total_len: Option<u64>,
        /// Whether its origin serves ranges; assumed until the first answer.
        accepts_ranges: bool,
        /// The bytes that are readable already.
        present: RangeSet,
    },
    /// A representation is given up: its readers and requests end as cancelled, its runs are aborted.
    SourceClosed {
        /// Which.
        source: SourceId,
    },
    /// A representation no longer exists at its origin: its requests end as failed.
    SourceFailed {
        /// Which.
        source: SourceId,
    },
    /// The length has become known.
    LengthLearned {
        /// Of which source.
        source: SourceId,
        /// In bytes.
        total_len: u64,
    },
    /// Bytes of this source cannot be kept, so readers get no more than this far ahead; `None` lifts it.
    ///
    /// What is there within that window of a reader stays until the reader comes to it. What is there beyond may be
    /// on its way to being forgotten.
    WindowCapped {
        /// Which source.
        source: SourceId,
        /// The largest window in bytes.
        bytes: Option<u64>,
    },
    /// A reader has come.
    ReaderOpened {
        /// Which.
        reader: ReaderId,
        /// What it reads.
        source: SourceId,
        /// Where it stands.
        start: Start,
        /// Where it will stop, exclusive; the file's end where `None`.
        end: Option<u64>,
        /// What it says of itself.
        hints: Hints,
    },
    /// A reader has jumped. What lay ahead of its former position is no longer wanted.
    ReaderSought {
        /// Which.
        reader: ReaderId,
        /// Where it stands now.
        position: u64,
    },
    /// A reader has read on without a jump, or found its next byte missing.
    ReaderMoved {
        /// Which.
        reader: ReaderId,
        /// Where it stands now.
        position: u64,
        /// How long it left bytes unread that were there, since the last such input.
        idle: Duration,
        /// Whether it stands before a missing byte and waits.
        waiting: bool,
    },
    /// A reader will stop elsewhere.
    ReaderBounded {
        /// Which.
        reader: ReaderId,
        /// Where, exclusive; the file's end where `None`.
        end: Option<u64>,
    },
    /// A reader's rate is known from elsewhere.
    ReaderRate {
        /// Which.
        reader: ReaderId,
        /// Bytes a second; `None` goes back to measuring.
        rate: Option<u64>,
    },
    /// A reader has gone.
    ReaderGone {
        /// Which.
        reader: ReaderId,
    },
    /// Somebody asks for bytes. Bytes that are present, asked for at this level or above, or past a known
    /// end, change nothing.
    Requested {
        /// Of which source.
        source: SourceId,
        /// Which bytes.
        range: ByteRange,
        /// How urgently.
        priority: Priority,
    },
    /// Explicit requests for bytes are withdrawn. Readers' needs are not affected.
    Cancelled {
        /// Of which source.
        source: SourceId,
        /// Which bytes.
        range: ByteRange,
    },
    /// There is no room for what Medium and Low requests of this source would bring: they stay, and nothing is
    /// fetched for them until [`Self::OrdersResumed`].
    OrdersSuspended {
        /// Of which source.
        source: SourceId,
    },
    /// There is room again.
    OrdersResumed {
        /// Of which source.
        source: SourceId,
    },
    /// Bytes have become readable by other means than a run.
    Supplied {
        /// Of which source.
        source: SourceId,
        /// Which bytes.
        range: ByteRange,
    },
    /// Bytes can no longer be read.
    Forgotten {
        /// Of which source.
        source: SourceId,
        /// Which bytes.
        range: ByteRange,
    },
    /// The head of a run's answer has come.
    Answered {
        /// Which run.
        run: RunId,
        /// Its first byte; 0 where the origin ignored the range.
        start: u64,
        /// Its end, exclusive, where known.
        end: Option<u64>,
        /// The file's length, where known.
        total_len: Option<u64>,
        /// Whether the origin serves ranges.
        accepts_ranges: bool,
    },
    /// The next bytes of a run have become readable.
    Progressed {
        /// Which run.
        run: RunId,
        /// How many bytes.
        bytes: u64,
    },
    /// A run has ended and its connection is closed or free: it reached its end, or it was aborted. Where the
    /// length was unknown and the answer told no end, the file ends here. An end without a byte counts as a
    /// transient failure.
    Finished {
        /// Which run.
        run: RunId,
    },
    /// A run has ended before its end.
    Failed {
        /// Which run.
        run: RunId,
        /// Whether it is worth trying again.
        failure: Failure,
    },
    /// An origin's own limit has changed.
    OriginLimited {
        /// Which origin's.
        origin: OriginId,
        /// The most bytes a second to fetch from it in the background; any number where `None`.
        background_rate: Option<u64>,
    },
    /// Limits have changed.
    LimitsChanged {
        /// What holds from now on.
        config: Config,
    },
    /// The time that [`Scheduler::poll_timeout`](super::Scheduler::poll_timeout) gave has come.
    TimedOut,
}

/// Whether a failed run is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the question has two answers")]
pub enum Failure {
    /// The same request may succeed later.
    Transient {
        /// The origin wants to be left alone for so long.
        retry_after: Option<Duration>,
    },
    /// It will not.
    Permanent,
}

/// How urgent a run is, for the record.
pub type Level = Priority;

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a driver that tells them apart must tell all of them apart"
)]
pub enum Role {
    /// A want has a slot for it.
    Main,
    /// It brings a piece that such a run would come to later.
    Stripe,
    /// It asks anew for what is late from that run. The first one to bring a byte goes on; the other is aborted.
    Hedge(RunId),
}

/// An order from the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the driver must carry out every kind, and a new one must be handled everywhere"
)]
pub enum Action {
    /// Ask the origin for bytes and report on them under `run`.
    Fetch {
        /// The run's number.
        run: RunId,
        /// Of which source.
        source: SourceId,
        /// From where.
        start: Start,
        /// To where, exclusive; to the file's end where `None`.
        end: Option<u64>,
        /// Read up to this offset, then leave the connection unread until allowed further.
        until: u64,
        /// How urgently.
        level: Level,
        /// What it is besides the run that a want has a slot for.
        role: Role,
    },
    /// Read up to this offset from now on, be it further or less far than before.
    Allow {
        /// Which run.
        run: RunId,
        /// The offset, exclusive.
        until: u64,
    },
    /// End the run at this offset: another run fetches what comes after.
    Shorten {
        /// Which run.
        run: RunId,
        /// The offset, exclusive.
        end: u64,
    },
    /// Stop the run now, then report [`Input::Finished`]. Held runs are aborted too; they take no slot.
    Abort {
        /// Which run.
        run: RunId,
    },
    /// Explicitly requested bytes have come to an end. Each requested byte does once.
    Ended {
        /// Of which source.
        source: SourceId,
        /// Which bytes.
        range: ByteRange,
        /// How.
        outcome: Outcome,
    },
    /// Every retry has failed, or the failure was permanent: whoever waits for missing bytes of this
    /// source waits in vain. A reader that seeks, or says that it waits, starts over.
    GaveUp {
        /// Which source.
        source: SourceId,
    },
}

/// How a request came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "every request ends in one of three ways"
)]
pub enum Outcome {
    /// The bytes are readable.
    Served,
    /// The bytes will not come.
    Failed,
    /// Nobody wants them any more.
    Cancelled,
}
