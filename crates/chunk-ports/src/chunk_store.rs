//! The index port: what is cached and what is wanted.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::{BlockMap, ByteRange, CacheKey, EntryId, GenerationId, Priority, Representation};

use crate::{BackendError, Verdict};

/// The index: entries, their generations, which blocks of each are recorded, and the durable download queue.
///
/// # Contract
/// - **Atomicity.** Each method is one transaction: all of it is durable when it returns `Ok`, none of it
///   is seen after an error, except that after [`ChunkStoreError::Unavailable`] the outcome may be
///   unknown. Every write is idempotent, so repeating it is always right.
/// - **Miss and error.** What is not there is `Ok(None)` or an empty list. A write that names an entry or
///   generation that does not exist fails with [`ChunkStoreError::Missing`] and the whole batch with it,
///   except that removing what is not there is `Ok`.
/// - **Read your writes.** A method that begins after another returned sees its effect.
/// - **Ids** of entries and generations are never reused, not even after removal.
/// - **Cancellation.** A dropped future may have taken effect or not, wholly.
/// - **Concurrency.** Every method may be called at any time from any task.
///
/// Not promised: order among concurrent calls.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ChunkStore: Send + Sync + Debug + 'static {
    /// Every entry with its current generation, in order of id. Cost: O(entries), whatever their chunks.
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError>;

    /// The entry with this key.
    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError>;

    /// The entry with this key, made now if there is none. One that was made and of which nothing else was
    /// written since may be taken by a power cut, its id with it: whoever opens a file waits for this. It waits for
    /// other writes; who expects the entry to be there asks [`Self::entry`].
    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError>;

    /// Adds a generation and makes it the entry's current one. The former one is retired: it is listed
    /// by `retired_generations` until a [`StoreWrite::RemoveGeneration`].
    ///
    /// The nonce makes it idempotent: where the entry has a generation with it already, that one is made
    /// current and returned as it stands. The nonce of another entry's generation, or another segment
    /// size, is refused.
    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError>;

    /// The recorded segments of a generation, in order, without checksums.
    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError>;

    /// One segment with its checksums.
    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError>;

    /// Generations that are no longer their entry's current one, in order of id.
    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError>;

    /// The durable download queue, in order of sequence, then entry, then start.
    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError>;

    /// Applies `writes` in order, in one transaction.
    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError>;
}

/// An entry as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct EntryRecord {
    /// Its number.
    pub id: EntryId,
    /// Its identity.
    pub key: Arc<CacheKey>,
    /// Whether eviction must leave it alone.
    pub pinned: bool,
    /// When it was last read, in seconds since 1970.
    pub accessed_unix: i64,
    /// The representation new readers get.
    pub current: Option<GenerationRecord>,
}

/// One representation of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct GenerationRecord {
    /// Its number.
    pub id: GenerationId,
    /// The entry it belongs to.
    pub entry: EntryId,
    /// Length, validators and media type. A generation without a length is provisional: its bytes are
    /// not recorded until [`StoreWrite::SetLength`].
    pub representation: Representation,
    /// Whether the origin serves ranges of it.
    pub accepts_ranges: bool,
    /// Bytes per segment, a multiple of the block size; the last segment may be short.
    pub segment_size: u64,
    /// A random number that no other generation has: the base of entity tags made for clients.
    pub nonce: u64,
    /// How long it may be used without asking the origin.
    pub freshness: Freshness,
    /// The sum of `recorded_bytes` over its segments, kept by the store.
    pub recorded_bytes: u64,
}

/// What `begin_generation` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters take it apart")]
pub struct NewGeneration {
    /// Length (if known), validators and media type.
    pub representation: Representation,
    /// Whether the origin serves ranges of it.
    pub accepts_ranges: bool,
    /// Bytes per segment, a multiple of the block size.
    pub segment_size: u64,
    /// A random number that no other generation has, below 2⁶³.
    pub nonce: u64,
    /// How long it may be used without asking the origin.
    pub freshness: Freshness,
}

/// How long a stored response may be used without asking the origin (RFC 9111, 4.2), in wall-clock seconds, and whether
/// it may be used for longer where the origin does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct Freshness {
    /// When the origin last confirmed the representation; 0 where nothing holds that it said before.
    pub validated_unix: i64,
    /// Until when it needs no confirmation.
    pub fresh_until_unix: i64,
    /// Whether the origin forbids giving it out unconfirmed after that ([`Verdict::must_revalidate`]).
    pub must_revalidate: bool,
}

impl Freshness {
    /// Whether it needs no confirmation at `now_unix`. A clock that was set back makes nothing fresh that was
    /// confirmed in its future.
    #[must_use]
    pub const fn is_fresh(&self, now_unix: i64) -> bool {
        self.validated_unix <= now_unix && now_unix < self.fresh_until_unix
    }

    /// Whether it may be given out although it is no longer fresh, where the origin does not answer (RFC 9111, 4.2.4).
    #[must_use]
    pub const fn may_be_stale(&self) -> bool {
        !self.must_revalidate && self.validated_unix != 0
    }

    /// The same after the resource was changed: whatever was known of it, it has to be confirmed before it is given
    /// out (RFC 9111, 4.4).
    #[must_use]
    pub const fn invalidated(self) -> Self {
        Self {
            validated_unix: 0,
            fresh_until_unix: 0,
            ..self
        }
    }

    /// What it is from an answer at `now_unix` on that was the first.
    #[must_use]
    pub fn of(verdict: &Verdict, now_unix: i64) -> Self {
        let lifetime = verdict.fresh_for.map_or(0, seconds);
        Self {
            validated_unix: now_unix,
            fresh_until_unix: now_unix.saturating_add(lifetime),
            must_revalidate: verdict.must_revalidate.unwrap_or(false),
        }
    }

    /// What it is after a further answer at `now_unix`. What that says nothing of is as it was (RFC 9111, 3.2), and an
    /// answer that says nothing of caching itself gives no more time than there was.
    #[must_use]
    pub fn told(self, verdict: &Verdict, now_unix: i64) -> Self {
        let before = self.fresh_until_unix.saturating_sub(self.validated_unix);
        let lifetime = match (verdict.fresh_for, verdict.must_revalidate) {
            (None, _) => before,
            (Some(told), None) => seconds(told).min(before),
            (Some(told), Some(_)) => seconds(told),
        };
        Self {
            validated_unix: now_unix,
            fresh_until_unix: now_unix.saturating_add(lifetime),
            must_revalidate: verdict.must_revalidate.unwrap_or(self.must_revalidate),
        }
    }
}

fn seconds(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)
}

/// One segment's row: what is recorded of it, with a checksum for every recorded block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct SegmentRecord {
    /// Which generation.
    pub generation: GenerationId,
    /// Which segment of it, counted from 0.
    pub segment: u32,
    /// Under which epoch its bytes are stored.
    pub epoch: u32,
    /// The file offsets from the first recorded block's first byte to the last one's end.
    pub extent: ByteRange,
    /// The recorded blocks, counted from the segment's first.
    pub blocks: BlockMap,
    /// CRC32C of each recorded block, in the order of `blocks`.
    pub checksums: Vec<u32>,
    /// The number of bytes in the recorded blocks.
    pub recorded_bytes: u64,
    /// When it was last read, in seconds since 1970.
    pub accessed_unix: i64,
}

/// A [`SegmentRecord`] without its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct SegmentSummary {
    /// Which segment, counted from 0.
    pub segment: u32,
    /// Under which epoch its bytes are stored.
    pub epoch: u32,
    /// The recorded blocks, counted from the segment's first.
    pub blocks: BlockMap,
    /// The number of bytes in the recorded blocks.
    pub recorded_bytes: u64,
    /// When it was last read, in seconds since 1970.
    pub accessed_unix: i64,
}

/// A range that was asked for durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct JobRange {
    /// The bytes wanted. A job for a whole file of unknown length ends at [`JobRange::TO_THE_END`].
    pub range: ByteRange,
    /// MEDIUM or LOW.
    pub priority: Priority,
    /// The order of arrival; smaller came first.
    pub sequence: u64,
}

impl JobRange {
    /// The end of a range that goes to the file's end, wherever that is: 2⁶³ − 1, the largest number a
    /// database keeps.
    pub const TO_THE_END: u64 = i64::MAX as u64;
}

/// One row of the durable download queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct JobRecord {
    /// Which entry.
    pub entry: EntryId,
    /// The entry's identity.
    pub key: Arc<CacheKey>,
    /// What is wanted of it.
    pub job: JobRange,
}

/// One change to the index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreWrite {
    /// Makes this the row of its (generation, segment), whatever was there. See [`SegmentRecord::check`].
    RecordSegment(SegmentRecord),
    /// Removes rows of segments.
    RemoveSegments {
        /// Of which generation.
        generation: GenerationId,
        /// Which ones.
        segments: Vec<u32>,
    },
    /// Removes a generation and its segments' rows; an entry whose current one it was has none then.
    RemoveGeneration(GenerationId),
    /// Removes an entry with everything that belongs to it.
    RemoveEntry(EntryId),
    /// A generation of unknown length has ended well: it is no longer provisional. Another length than
    /// one already known is refused.
    SetLength {
        /// Which generation.
        generation: GenerationId,
        /// Its length in bytes.
        total_len: u64,
    },
    /// The origin confirmed a generation.
    Refresh {
        /// Which generation.
        generation: GenerationId,
        /// What it said.
        freshness: Freshness,
    },
    /// Notes a reading of segments, and of their entry; the last one noted stands, even where the clock
    /// went back. A generation of another entry is refused.
    Touch {
        /// Which entry.
        entry: EntryId,
        /// Which generation.
        generation: GenerationId,
        /// Which segments; those without a row are left out.
        segments: Vec<u32>,
        /// When, in seconds since 1970.
        at_unix: i64,
    },
    /// Pins or unpins an entry.
    Pin {
        /// Which entry.
        entry: EntryId,
        /// Whether eviction must leave it alone.
        pinned: bool,
    },
    /// Makes these the entry's rows in the durable queue, in place of all it had. They do not overlap;
    /// an adapter refuses ones that do with [`ChunkStoreError::Refused`]. None for an entry that does
    /// not exist is a removal, hence `Ok`.
    ReplaceJobs {
        /// Which entry.
        entry: EntryId,
        /// Its jobs, sorted by start.
        jobs: Vec<JobRange>,
    },
}

/// Why the index could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkStoreError {
    /// There is no room.
    #[error("the index is full")]
    Full(#[source] BackendError),
    /// The index is damaged and cannot be used.
    #[error("the index is damaged")]
    Corrupt(#[source] BackendError),
    /// The backend cannot do it now; later it may. The outcome may be unknown.
    #[error("the index is unavailable")]
    Unavailable(#[source] BackendError),
    /// A write named an entry or generation that does not exist.
    #[error("the index has no such {what}")]
    Missing {
        /// What was named: `entry` or `generation`.
        what: &'static str,
    },
    /// A write broke a rule of the index; nothing of its batch took effect.
    #[error("the index refuses the write: {rule}")]
    Refused {
        /// Which rule.
        rule: String,
    },
}

impl ChunkStoreError {
    /// Whether the same call may succeed later without anything else being done.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_does_not_say_of_freshness_is_as_it_was() {
        let told = |before: Freshness, seconds: Option<u64>| {
            let verdict = Verdict {
                storable: true,
                fresh_for: seconds.map(Duration::from_secs),
                must_revalidate: None,
            };
            before.told(&verdict, 1_000)
        };
        let before = Freshness {
            validated_unix: 100,
            fresh_until_unix: 160,
            must_revalidate: true,
        };
        for (seconds, until) in [
            (None, 1_060),
            (Some(5), 1_005),
            (Some(0), 1_000),
            (Some(90), 1_060),
        ] {
            let expected = Freshness {
                validated_unix: 1_000,
                fresh_until_unix: until,
                must_revalidate: true,
            };
            assert_eq!(told(before, seconds), expected);
        }
        // What was changed is asked about each time until something is said of it.
        for seconds in [None, Some(3_600)] {
            assert_eq!(told(before.invalidated(), seconds).fresh_until_unix, 1_000);
        }
    }
}
