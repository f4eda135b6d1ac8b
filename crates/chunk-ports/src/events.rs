//! The event ports.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_core::{ByteRange, CacheKey};

/// Something that happened to an entry. Offsets are inclusive, as in HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheEvent {
    /// Every byte of a chunk has become readable.
    #[non_exhaustive]
    ChunkCompleted {
        /// The entry.
        cache_key: Arc<CacheKey>,
        /// The chunk's first byte.
        start_byte: u64,
        /// The chunk's last byte, inclusive.
        end_byte: u64,
    },
    /// A range that was asked for will not come.
    #[non_exhaustive]
    RangeFailed {
        /// The entry.
        cache_key: Arc<CacheKey>,
        /// The first byte of what was asked for.
        start_byte: u64,
        /// The last byte of what was asked for, inclusive.
        end_byte: u64,
        /// Why, without secrets.
        reason: Arc<str>,
    },
    /// The origin has a new representation; bytes of the former one are no longer given out to new readers.
    #[non_exhaustive]
    GenerationStarted {
        /// The entry.
        cache_key: Arc<CacheKey>,
        /// The new length in bytes, where known.
        total_len: Option<u64>,
    },
    /// Every byte of an entry is recorded.
    #[non_exhaustive]
    EntryCompleted {
        /// The entry.
        cache_key: Arc<CacheKey>,
    },
    /// Bytes of an entry were removed to make room or on request.
    #[non_exhaustive]
    Evicted {
        /// The entry.
        cache_key: Arc<CacheKey>,
        /// How many recorded bytes went.
        bytes: u64,
    },
}

impl CacheEvent {
    /// A [`CacheEvent::ChunkCompleted`].
    #[must_use]
    pub const fn chunk_completed(cache_key: Arc<CacheKey>, range: ByteRange) -> Self {
        Self::ChunkCompleted {
            cache_key,
            start_byte: range.start(),
            end_byte: range.last(),
        }
    }

    /// A [`CacheEvent::RangeFailed`].
    #[must_use]
    pub const fn range_failed(
        cache_key: Arc<CacheKey>,
        range: ByteRange,
        reason: Arc<str>,
    ) -> Self {
        Self::RangeFailed {
            cache_key,
            start_byte: range.start(),
            end_byte: range.last(),
            reason,
        }
    }

    /// A [`CacheEvent::GenerationStarted`].
    #[must_use]
    pub const fn generation_started(cache_key: Arc<CacheKey>, total_len: Option<u64>) -> Self {
        Self::GenerationStarted {
            cache_key,
            total_len,
        }
    }

    /// A [`CacheEvent::EntryCompleted`].
    #[must_use]
    pub const fn entry_completed(cache_key: Arc<CacheKey>) -> Self {
        Self::EntryCompleted { cache_key }
    }

    /// A [`CacheEvent::Evicted`].
    #[must_use]
    pub const fn evicted(cache_key: Arc<CacheKey>, bytes: u64) -> Self {
        Self::Evicted { cache_key, bytes }
    }
}

/// Where events go.
///
/// # Contract
/// - `publish` returns at once, whatever the subscribers do: it neither blocks nor fails nor panics.
/// - Every subscriber sees the events published after it subscribed, in the order of publication by one
///   publisher, unless it is told that it lagged.
/// - Nothing is promised about delivery across a restart, nor to a sink without subscribers.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait EventSink: Send + Sync + Debug + 'static {
    /// Hands `event` to every present subscriber.
    fn publish(&self, event: CacheEvent);
}

/// Where events come from.
pub trait EventSource: Send + Sync + Debug + 'static {
    /// A subscription that begins now.
    fn subscribe(&self) -> Box<dyn EventSubscription>;
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// The next event.
    Event(CacheEvent),
    /// The subscriber was too slow and this many events are gone; state must be read again.
    Lagged(u64),
    /// No event will ever come again.
    Closed,
}

/// One subscriber's end.
///
/// # Contract
/// - `recv` is cancel-safe: dropping its future loses no event.
/// - After [`Received::Lagged`] delivery goes on with the oldest event still kept.
/// - After [`Received::Closed`] every further call gives `Closed`.
#[async_trait]
pub trait EventSubscription: Send + Debug {
    /// Waits for the next event.
    async fn recv(&mut self) -> Received;
}
