//! What the manager tells of itself.

use std::sync::Arc;

use chunk_core::{ByteRange, CacheKey, EntryId};

/// The state of an entry, derived from the index and from what is in flight; never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryState {
    /// Nothing is cached and nothing is being fetched.
    NotStarted,
    /// Being opened: the length is unknown.
    Probing,
    /// Bytes are being fetched, or will be without further requests.
    Downloading,
    /// Some bytes are there and nothing is being fetched.
    Paused,
    /// What is asked for durably has no room now. It goes on when there is some.
    WaitingForRoom,
    /// What is asked for durably cannot be fetched because its origin does not answer. It goes on when it does.
    WaitingForOrigin,
    /// Every byte is recorded.
    Complete,
    /// The last attempt to fetch failed for good.
    Failed(Arc<str>),
}

/// An entry at a glance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryStatus {
    /// Its number.
    pub id: EntryId,
    /// Its identity.
    pub key: Arc<CacheKey>,
    /// What is going on with it.
    pub state: EntryState,
    /// Its length in bytes, where known.
    pub total_len: Option<u64>,
    /// Bytes that survive a restart.
    pub recorded_bytes: u64,
    /// Bytes that can be read now. Equals `recorded_bytes` while the entry is not open.
    pub readable_bytes: u64,
    /// Bytes asked for by explicit requests and not there yet.
    pub queued_bytes: u64,
    /// Whether eviction leaves it alone.
    pub pinned: bool,
    /// How many readers it has.
    pub readers: usize,
    /// Its media type.
    pub content_type: Option<Box<str>>,
    /// When it was last read, in seconds since 1970.
    pub accessed_unix: i64,
    /// Bytes a second arriving for it now.
    pub download_rate: Option<u64>,
}

/// Counters since the manager started, and gauges of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Payload bytes given to readers.
    pub bytes_served: u64,
    /// Payload bytes given to readers that were readable before they were asked for.
    pub bytes_served_from_cache: u64,
    /// Payload bytes received from origins.
    pub bytes_from_origin: u64,
    /// Payload bytes received that were there already or were thrown away.
    pub bytes_wasted: u64,
    /// Reads that found their bytes.
    pub hits: u64,
    /// Reads that had to wait.
    pub misses: u64,
    /// Requests made to origins.
    pub origin_requests: u64,
    /// Those of them that brought a later piece over a connection of its own.
    pub stripes: u64,
    /// Those of them that asked anew for what was late.
    pub hedges: u64,
    /// Payload bytes received twice because of them.
    pub hedge_bytes_wasted: u64,
    /// Requests that failed and were made again.
    pub retries: u64,
    /// Runs in flight now.
    pub active_runs: u64,
    /// Runs now held back by their readers.
    pub held_runs: u64,
    /// Ranges now waiting in the queue of explicit requests.
    pub queued_ranges: u64,
    /// Readers now open.
    pub readers: u64,
    /// Reader waits that ended with a byte.
    pub first_byte_count: u64,
    /// The sum of those waits, in nanoseconds.
    pub first_byte_nanos: u64,
    /// Payload bytes now held in memory.
    pub memory_bytes: u64,
    /// Bytes now stored, recorded or about to be.
    pub stored_bytes: u64,
    /// Bytes removed to make room.
    pub evicted_bytes: u64,
    /// Blocks whose checksum did not match.
    pub checksum_failures: u64,
    /// Whether the last attempt to write to a store failed, so that bytes are only passed through.
    pub store_failing: bool,
    /// Commits to the index.
    pub commits: u64,
    /// Waits of more than 100 ms by readers that had been given bytes since they were opened or sought.
    pub stalls: u64,
    /// The sum of those waits, in nanoseconds.
    pub stall_nanos: u64,
    /// What is counted by level, in the order of [`Priority::ALL`](chunk_core::Priority::ALL). A run counts for the
    /// level at which it was started.
    pub levels: [LevelStatistics; 4],
}

/// Counters of one level since the manager started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelStatistics {
    /// Runs whose first byte came.
    pub first_byte_count: u64,
    /// The sum of the times from asking to that byte, in nanoseconds.
    pub first_byte_nanos: u64,
    /// Payload bytes received.
    pub bytes_from_origin: u64,
    /// Those of them that were there already or were thrown away.
    pub bytes_wasted: u64,
    /// Waits like those of [`Statistics::stalls`] that ended with a byte of such a run. A byte that came by other means
    /// counts for no level.
    pub stalls: u64,
    /// The sum of those waits, in nanoseconds.
    pub stall_nanos: u64,
}

/// What a check of every recorded block found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Entries checked.
    pub entries: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Bytes checked.
    pub bytes: u64,
    /// Blocks whose bytes are missing or do not match their checksum.
    pub bad: Vec<BadBlock>,
    /// Whether the bad ones were forgotten, to be fetched again when next wanted.
    pub repaired: bool,
}

/// A block that is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadBlock {
    /// Of which entry.
    pub key: Arc<CacheKey>,
    /// Which bytes of it.
    pub range: ByteRange,
}

impl BadBlock {
    pub(crate) const fn new(key: Arc<CacheKey>, range: ByteRange) -> Self {
        Self { key, range }
    }
}
