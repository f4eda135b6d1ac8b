//! The history of a byte: who asked for it, what was done about it, when it came, where it is now.
//!
//! The manager remembers a bounded number of facts, one per run, wait, commit or removal and never one per piece
//! that arrives. What is older than the oldest of them has expired, and a [`Timeline`] says so.

mod account;
mod delay;
mod explain;
mod ring;
mod text;

use std::sync::Arc;
use std::time::Duration;

use chunk_core::{ByteRange, CacheKey, Priority};

pub(crate) use account::{RunAccount, Step};
pub use delay::Delay;
pub(crate) use explain::InFlight;
pub(crate) use ring::{Ring, Span, reason};

/// What is known of the delivery of one byte; prints as one line a moment and two that sum up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeline {
    /// Of which file.
    pub key: Arc<CacheKey>,
    /// Which byte.
    pub offset: u64,
    /// What concerned it, oldest first: the runs that were to bring it, the waits for it or for a byte of the same
    /// 64 KiB block, its recording, its removal.
    pub moments: Vec<Moment>,
    /// Where it is now.
    pub place: Whereabouts,
    /// What keeps it, where somebody wants it and it is not on its way.
    pub why: Option<Arc<Delay>>,
    /// Whether facts have been forgotten, and how the byte was asked for is not among those that are left.
    pub expired: bool,
    /// The oldest fact about any byte that is remembered is of this time since the manager's start.
    pub remembered_from: Duration,
    /// When the question was answered, since the manager's start.
    pub asked_at: Duration,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// When, since the manager's start.
    pub at: Duration,
    /// The same in seconds since 1970, by the wall clock of the moment of asking.
    pub at_unix: i64,
    /// What.
    pub what: Happening,
}

/// Why a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A reader stands before these bytes or will come to them.
    Reader {
        /// Its number.
        reader: u64,
        /// Where it stood.
        position: u64,
    },
    /// An explicit request or background fill.
    Request,
}

/// What a run is besides others of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The one that brings what is wanted first.
    Main,
    /// One that brings what that one would come to later, over a connection of its own.
    Stripe,
    /// One that asks anew for what is late. The first of the two to bring a byte goes on.
    Hedge {
        /// From which run.
        late: u64,
    },
}

/// What may happen in the life of a byte. Runs and readers are told by number; a number is never used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// A reader found the byte at `offset` missing and waits.
    Awaited {
        /// Which reader.
        reader: u64,
        /// Where it stands.
        offset: u64,
    },
    /// Nothing was done for the reader that waits, for that reason.
    PutBack {
        /// Which reader.
        reader: u64,
        /// Where it stands.
        offset: u64,
        /// Why.
        why: Arc<Delay>,
    },
    /// The reader's byte came.
    Served {
        /// Which reader.
        reader: u64,
        /// Where it stands.
        offset: u64,
        /// How long it waited.
        waited: Duration,
    },
    /// The reader went, sought elsewhere, or was told of a failure before its byte came.
    Unserved {
        /// Which reader.
        reader: u64,
        /// Where it stood.
        offset: u64,
        /// How long it had waited.
        waited: Duration,
    },
    /// Bytes were explicitly requested.
    Requested {
        /// Which.
        range: ByteRange,
        /// How urgently.
        level: Priority,
    },
    /// A run asked the origin for bytes.
    Started {
        /// Which run.
        run: u64,
        /// Its first byte; `None` where it is counted from an end that is not known yet.
        start: Option<u64>,
        /// Exclusive; `None` where it goes on to the file's end.
        end: Option<u64>,
        /// How urgently.
        level: Priority,
        /// Why.
        cause: Cause,
        /// What it is besides others.
        part: Part,
    },
    /// The head of the run's answer came.
    Answered {
        /// Which run.
        run: u64,
        /// How long after it asked.
        after: Duration,
    },
    /// The run's first byte came.
    FirstByte {
        /// Which run.
        run: u64,
        /// How long after it asked.
        after: Duration,
    },
    /// The run left its connection unread.
    Held {
        /// Which run.
        run: u64,
        /// How far it had come.
        head: u64,
        /// Why; `None` where its reader had enough and nobody asked.
        why: Option<Arc<Delay>>,
    },
    /// The run read on.
    Resumed {
        /// Which run.
        run: u64,
        /// How far it had come.
        head: u64,
    },
    /// The run was to end earlier, because another brings what follows or nobody wants it.
    Shortened {
        /// Which run.
        run: u64,
        /// Its new end, exclusive.
        end: u64,
        /// Why, where it is not because another brings what follows.
        why: Option<Arc<Delay>>,
    },
    /// The run was stopped.
    Stopped {
        /// Which run.
        run: u64,
        /// How far it had come.
        head: u64,
        /// The run that was started in the same step, and its level.
        by: Option<(u64, Priority)>,
        /// Why; `None` where the file was closed.
        why: Option<Arc<Delay>>,
    },
    /// The slot of the stopped run went to another.
    MadeRoom {
        /// Which run.
        run: u64,
        /// For which.
        by: u64,
        /// How urgent that one is.
        level: Priority,
    },
    /// The run failed.
    Failed {
        /// Which run.
        run: u64,
        /// How far it had come.
        head: u64,
        /// Why, without secrets.
        reason: Arc<str>,
        /// How long until it is tried again, where that is known.
        retry_in: Option<Duration>,
    },
    /// The run came to its end.
    Finished {
        /// Which run.
        run: u64,
        /// How far it came.
        head: u64,
    },
    /// Every retry failed: those who waited for missing bytes were told.
    GaveUp {
        /// Why, without secrets.
        reason: Arc<str>,
    },
    /// The caller brought the bytes itself.
    Supplied,
    /// The bytes were recorded, so that they survive a restart.
    Recorded {
        /// Which.
        range: ByteRange,
    },
    /// The bytes could not be trusted or kept, and count as missing.
    Forgotten,
    /// The bytes were removed, to make room or by order.
    Evicted,
    /// The origin had another version of the file: what came before is of the former one.
    Replaced,
}

/// Where a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whereabouts {
    /// Nothing is known of the file.
    Unknown,
    /// The file ends before it.
    PastEnd {
        /// The file's length in bytes.
        total_len: u64,
    },
    /// Not here.
    Missing,
    /// Not here, and requested: so many ranges are in the queue before it.
    Queued {
        /// How urgently.
        level: Priority,
        /// How many ranges go first.
        behind: u64,
    },
    /// Not here, and on its way.
    Coming {
        /// By which run.
        run: u64,
        /// How far that one has come.
        head: u64,
        /// Whether it is held.
        held: bool,
    },
    /// In memory only.
    InMemory,
    /// In the byte store, not recorded yet.
    Stored,
    /// Recorded: it survives a restart.
    Recorded,
    /// Recorded, and written or checked since the manager started.
    Verified,
}

impl Happening {
    /// The run it is about.
    #[must_use]
    pub const fn run(&self) -> Option<u64> {
        match self {
            Self::Started { run, .. }
            | Self::Answered { run, .. }
            | Self::FirstByte { run, .. }
            | Self::Held { run, .. }
            | Self::Resumed { run, .. }
            | Self::Shortened { run, .. }
            | Self::Stopped { run, .. }
            | Self::MadeRoom { run, .. }
            | Self::Failed { run, .. }
            | Self::Finished { run, .. } => Some(*run),
            _ => None,
        }
    }

    /// The reader it is about; not the one a run was started for.
    #[must_use]
    pub const fn reader(&self) -> Option<u64> {
        match self {
            Self::Awaited { reader, .. }
            | Self::PutBack { reader, .. }
            | Self::Served { reader, .. }
            | Self::Unserved { reader, .. } => Some(*reader),
            _ => None,
        }
    }
}
