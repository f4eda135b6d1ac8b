//! An open entry.

use std::sync::Arc;
use std::time::Duration;

use chunk_core::scheduler::{Hints, Start};
use chunk_core::{ByteRange, CacheKey, EntryId, LastModified, Representation};

use crate::inner::Inner;
use crate::live::{Live, Meta};
use crate::options::Purpose;
use crate::reader::ChunkReader;

/// An open entry with a reader at the first byte that was wanted.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers take it apart")]
pub struct Opened {
    /// The entry.
    pub entry: Entry,
    /// A reader at the first byte wanted.
    pub reader: ChunkReader,
}

/// What most answers need to know of an entry, at one moment.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers take it apart")]
pub struct Glance {
    /// Equal to that of another glance where nothing has been learned of the representation in between.
    pub revision: Revision,
    /// As [`Entry::total_len`].
    pub total_len: Option<u64>,
    /// As [`Entry::age`].
    pub age: Duration,
    /// Whether any range can be had: the origin serves ranges, or every byte is here.
    pub has_ranges: bool,
}

/// What is known of a representation, to be compared with what is known of it later, or of another one.
#[derive(Clone)]
pub struct Revision(Arc<Meta>);

impl PartialEq for Revision {
    /// Whoever holds one keeps it from being changed in place, so that the place tells.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Revision {}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revision").finish_non_exhaustive()
    }
}

/// A handle on one representation of an entry. Cheap to clone; keeps nothing from being evicted, readers do.
#[derive(Clone, Debug)]
pub struct Entry {
    inner: Arc<Inner>,
    live: Arc<Live>,
}

impl Entry {
    pub(crate) const fn new(inner: Arc<Inner>, live: Arc<Live>) -> Self {
        Self { inner, live }
    }

    /// The entry's number in the index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.live.entry
    }

    /// The entry's identity.
    #[must_use]
    pub fn key(&self) -> &Arc<CacheKey> {
        &self.live.key
    }

    /// What most answers need, in one look; `None` while nothing is known of the representation.
    #[must_use]
    pub fn glance(&self) -> Option<Glance> {
        let now = self.inner.clock.unix_seconds();
        let state = self.live.lock();
        let meta = state.meta.as_ref()?;
        let total_len = meta.representation.total_len;
        let all = total_len.and_then(|total_len| ByteRange::try_new(0, total_len));
        let age = age(meta.freshness.validated_unix, now);
        Some(Glance {
            revision: Revision(Arc::clone(meta)),
            total_len,
            age: Duration::from_secs(u64::try_from(age).unwrap_or(0)),
            has_ranges: meta.accepts_ranges
                || all.is_some_and(|all| state.readable.contains_range(all)),
        })
    }

    /// The length in bytes; `None` while the origin has not said and the body has not ended.
    #[must_use]
    pub fn total_len(&self) -> Option<u64> {
        self.live.lock().total_len()
    }

    /// What the origin said of the representation.
    #[must_use]
    pub fn representation(&self) -> Representation {
        self.live
            .lock()
            .meta
            .as_ref()
            .map_or_else(Representation::default, |meta| meta.representation.clone())
    }

    /// A strong entity tag with its quotes: the origin's own, or where it has none, one made from the
    /// generation's random number.
    #[must_use]
    pub fn etag(&self) -> String {
        let state = self.live.lock();
        let Some(meta) = &state.meta else {
            return "\"\"".to_owned();
        };
        match meta.representation.strong_etag() {
            Some(tag) => tag.as_str().to_owned(),
            None => format!("\"chunkd-{:016x}\"", meta.nonce),
        }
    }

    /// Whether [`Self::etag`] is not the origin's.
    #[must_use]
    pub fn etag_is_made(&self) -> bool {
        self.live
            .lock()
            .meta
            .as_ref()
            .is_none_or(|meta| meta.representation.strong_etag().is_none())
    }

    /// The time of the last change, where the origin told.
    #[must_use]
    pub fn last_modified(&self) -> Option<LastModified> {
        self.live
            .lock()
            .meta
            .as_ref()
            .and_then(|meta| meta.representation.last_modified)
    }

    /// The time since the origin last confirmed the representation.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.seconds(|validated, _, now| age(validated, now))
    }

    /// How long from its last confirmation the representation may be used without another.
    #[must_use]
    pub fn fresh_for(&self) -> Duration {
        self.seconds(|validated, fresh_until, _| fresh_until.saturating_sub(validated))
    }

    /// Whether that time is over.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.age() >= self.fresh_for()
    }

    /// Whether the origin lets the representation be kept.
    #[must_use]
    pub fn storable(&self) -> bool {
        self.live
            .lock()
            .meta
            .as_ref()
            .is_some_and(|meta| meta.storable)
    }

    /// Whether the origin serves ranges.
    #[must_use]
    pub fn accepts_ranges(&self) -> bool {
        self.live
            .lock()
            .meta
            .as_ref()
            .is_some_and(|meta| meta.accepts_ranges)
    }

    /// Whether every byte of `range` can be read now.
    #[must_use]
    pub fn has_byte_range(&self, range: ByteRange) -> bool {
        self.live.has(range)
    }

    /// The bytes that can be read now, in order.
    #[must_use]
    pub fn readable(&self) -> Vec<ByteRange> {
        self.live.lock().readable.iter().collect()
    }

    /// The bytes that survive a restart, in order.
    #[must_use]
    pub fn recorded(&self) -> Vec<ByteRange> {
        self.live.lock().recorded.iter().collect()
    }

    /// A reader of the bytes from `start` up to, not including, `end` (the file's end where `None`).
    #[must_use]
    pub fn reader(&self, start: u64, end: Option<u64>) -> ChunkReader {
        self.reader_as(start, end, Hints::default())
    }

    /// The same for somebody who says that of themselves.
    #[must_use]
    pub fn reader_as(&self, start: u64, end: Option<u64>, hints: Hints) -> ChunkReader {
        ChunkReader::open(
            Arc::clone(&self.inner),
            Arc::clone(&self.live),
            Start::At(start),
            end,
            Purpose::Play(hints),
        )
    }

    fn seconds(&self, of: impl FnOnce(i64, i64, i64) -> i64) -> Duration {
        let now = self.inner.clock.unix_seconds();
        let state = self.live.lock();
        let freshness = state
            .meta
            .as_ref()
            .map(|meta| meta.freshness)
            .unwrap_or_default();
        let seconds = of(freshness.validated_unix, freshness.fresh_until_unix, now);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

/// In seconds; none since a time that has been called off.
const fn age(validated_unix: i64, now_unix: i64) -> i64 {
    if validated_unix == 0 {
        0
    } else {
        now_unix.saturating_sub(validated_unix)
    }
}
