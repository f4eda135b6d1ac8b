//! What can be set, and how bytes are asked for.

use std::time::Duration;

use chunk_core::scheduler::Hints;

/// Limits that may change while the manager runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many runs may be in flight at once. A run held back by its reader does not count.
    pub max_downloads: usize,
    /// How many connections there may be to one origin, held ones and those that share a run's work included.
    pub max_connections: usize,
    /// How far ahead of a reader to fetch, in playing time.
    pub read_ahead: Duration,
    /// How many bytes ahead while a reader's rate is unknown.
    pub initial_buffer: u64,
    /// The most bytes the cache may hold; no cap where `None`.
    pub max_size: Option<u64>,
    /// The least free space to leave, in bytes.
    pub min_free: u64,
    /// The most payload bytes held in memory at once.
    pub memory: u64,
    /// How long opening an entry may take before it fails with a timeout.
    pub open_timeout: Duration,
    /// The longest a received byte stays unrecorded while the stores work.
    pub commit_interval: Duration,
    /// The most bytes a second to fetch in the background, which is what requests of medium and low priority ask
    /// for; no limit where `None`. An origin may have a lower one of its own.
    pub background_rate: Option<u64>,
    /// Whether each byte costs: nothing is fetched in the background, and readers have 10 s of playing time ready,
    /// or 1 MiB.
    pub metered: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_downloads: 4,
            max_connections: 16,
            read_ahead: Duration::from_secs(30),
            initial_buffer: 20 * 1024 * 1024,
            max_size: None,
            min_free: 0,
            memory: 64 * 1024 * 1024,
            open_timeout: Duration::from_secs(60),
            commit_interval: Duration::from_millis(500),
            background_rate: None,
            metered: false,
        }
    }
}

impl Limits {
    /// The same limits with another number of runs in flight; at least 1.
    #[must_use]
    pub const fn with_max_downloads(mut self, runs: usize) -> Self {
        self.max_downloads = if runs == 0 { 1 } else { runs };
        self
    }

    /// The same limits with another number of connections to an origin; at least 1.
    #[must_use]
    pub const fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// The same limits with another read-ahead.
    #[must_use]
    pub const fn with_read_ahead(mut self, read_ahead: Duration) -> Self {
        self.read_ahead = read_ahead;
        self
    }

    /// The same limits with another initial buffer, in bytes.
    #[must_use]
    pub const fn with_initial_buffer(mut self, bytes: u64) -> Self {
        self.initial_buffer = bytes;
        self
    }

    /// The same limits with another cap on the cache's size, in bytes.
    #[must_use]
    pub const fn with_max_size(mut self, bytes: Option<u64>) -> Self {
        self.max_size = bytes;
        self
    }

    /// The same limits with another floor of free space, in bytes.
    #[must_use]
    pub const fn with_min_free(mut self, bytes: u64) -> Self {
        self.min_free = bytes;
        self
    }

    /// The same limits with another memory budget, in bytes.
    #[must_use]
    pub const fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// The same limits with another rate of background work, in bytes a second.
    #[must_use]
    pub const fn with_background_rate(mut self, rate: Option<u64>) -> Self {
        self.background_rate = rate;
        self
    }

    /// The same limits on a line where each byte costs, or not.
    #[must_use]
    pub const fn with_metered(mut self, metered: bool) -> Self {
        self.metered = metered;
        self
    }

    /// The same limits with another time to open an entry in.
    #[must_use]
    pub const fn with_open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }
}

/// Which bytes the opener will read first; decides what the first origin request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "HTTP knows no further kinds")]
pub enum First {
    /// From `start` up to, not including, `end`; to the end of the file where that is `None`.
    Span {
        /// The first byte.
        start: u64,
        /// The end, exclusive.
        end: Option<u64>,
    },
    /// The last `len` bytes.
    Suffix {
        /// How many.
        len: u64,
    },
    /// No bytes: only what is known of the file.
    Nothing,
}

/// What an entry is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To read it, by somebody who says that of themselves.
    Play(Hints),
    /// To order it: what others have stays, as long as nobody plays it.
    Order,
}
