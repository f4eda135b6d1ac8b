//! Which segment to forget next.

use alloc::collections::{BTreeMap, BTreeSet};

/// Where in its file a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Place {
    /// Holds the file's first byte: every playback starts there.
    Head,
    /// Neither the first nor the last byte.
    Middle,
    /// Holds the file's last byte: many formats keep their index there.
    Tail,
}

/// A segment that may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Victim<K> {
    /// The segment.
    pub key: K,
    /// Bytes that its eviction frees.
    pub bytes: u64,
}

/// All segments in the order of their eviction: least recently used first, heads and tails later.
///
/// A segment's rank is the time of its last access, plus a credit for a head or a tail; the smallest rank
/// goes first. So a head last used at *t* is a victim only when every unpinned middle
/// was used after *t* + credit; within a file they outlive the middle, as long as an access to the middle is
/// not later than the credit after the head's, which [`Self::touch`]ing both at once makes sure of. Heads do
/// not pile up for ever: past the credit they are like any other segment.
///
/// A pinned segment is never a victim. Each operation is O(log n), [`Self::victims`] O(log n + victims).
///
/// ```
/// use chunk_core::{EvictionIndex, Place};
///
/// let mut index = EvictionIndex::new(3_600);
/// index.insert("head", 10, Place::Head, 0);
/// index.insert("playing", 10, Place::Middle, 50);
/// index.insert("old", 10, Place::Middle, 100);
/// index.pin("playing");
/// assert_eq!(index.victims(1).map(|victim| victim.key).collect::<Vec<_>>(), ["old"]);
/// ```
#[derive(Clone, Debug)]
pub struct EvictionIndex<K> {
    credit_seconds: u64,
    segments: BTreeMap<K, Segment>,
    /// (rank, key) of the segments that are not pinned.
    order: BTreeSet<(i64, K)>,
    /// Pins by segment, present or not: a reader may pin before the first byte is there.
    pins: BTreeMap<K, u32>,
    bytes: u128,
    pinned_bytes: u128,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    accessed: i64,
    bytes: u64,
    place: Place,
}

impl<K: Copy + Ord> EvictionIndex<K> {
    /// A day: a film that was started yesterday starts at once today.
    pub const DEFAULT_CREDIT_SECONDS: u64 = 24 * 60 * 60;

    /// No segment yet; heads and tails count as used `credit_seconds` later than they were.
    #[must_use]
    pub const fn new(credit_seconds: u64) -> Self {
        Self {
            credit_seconds,
            segments: BTreeMap::new(),
            order: BTreeSet::new(),
            pins: BTreeMap::new(),
            bytes: 0,
            pinned_bytes: 0,
        }
    }

    /// Adds a segment of `bytes` bytes, last used at `accessed` (seconds since 1970); replaces what was
    /// known of it but for its pins.
    pub fn insert(&mut self, key: K, bytes: u64, place: Place, accessed: i64) {
        let segment = Segment {
            accessed,
            bytes,
            place,
        };
        if let Some(former) = self.segments.insert(key, segment) {
            self.forget(key, &former);
        }
        self.bytes += u128::from(bytes);
        if self.is_pinned(key) {
            self.pinned_bytes += u128::from(bytes);
        } else {
            self.order.insert((self.rank(&segment), key));
        }
    }

    /// The segment was used at `accessed`. A time before the last known one changes nothing, so that a
    /// clock set back makes nothing old. Returns whether the segment is known.
    pub fn touch(&mut self, key: K, accessed: i64) -> bool {
        let Some(&segment) = self.segments.get(&key) else {
            return false;
        };
        if accessed > segment.accessed {
            self.insert(key, segment.bytes, segment.place, accessed);
        }
        true
    }

    /// The segment holds `bytes` bytes now. Returns whether it is known.
    pub fn resize(&mut self, key: K, bytes: u64) -> bool {
        let Some(&segment) = self.segments.get(&key) else {
            return false;
        };
        self.insert(key, bytes, segment.place, segment.accessed);
        true
    }

    /// Forgets the segment but for its pins; returns how many bytes it held.
    pub fn remove(&mut self, key: K) -> Option<u64> {
        let segment = self.segments.remove(&key)?;
        self.forget(key, &segment);
        Some(segment.bytes)
    }

    /// What was known of the segment counts no longer.
    fn forget(&mut self, key: K, segment: &Segment) {
        self.bytes -= u128::from(segment.bytes);
        if !self.order.remove(&(self.rank(segment), key)) {
            self.pinned_bytes -= u128::from(segment.bytes);
        }
    }

    /// One more holder of the segment, which need not be known yet. Each pin needs one [`Self::unpin`].
    pub fn pin(&mut self, key: K) {
        let pins = self.pins.entry(key).or_insert(0);
        *pins = pins.saturating_add(1);
        if *pins == 1
            && let Some(segment) = self.segments.get(&key)
        {
            self.pinned_bytes += u128::from(segment.bytes);
            self.order.remove(&(self.rank(segment), key));
        }
    }

    /// One holder less. Returns whether there was one.
    pub fn unpin(&mut self, key: K) -> bool {
        let Some(pins) = self.pins.get_mut(&key) else {
            return false;
        };
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&key);
            if let Some(segment) = self.segments.get(&key) {
                self.pinned_bytes -= u128::from(segment.bytes);
                self.order.insert((self.rank(segment), key));
            }
        }
        true
    }

    /// Whether anyone holds the segment.
    #[must_use]
    pub fn is_pinned(&self, key: K) -> bool {
        self.pins.contains_key(&key)
    }

    /// The segments to evict so that at least `bytes_needed` bytes go, or all that may go where that is less. Removes
    /// nothing: the caller removes each one once its row is gone.
    pub fn victims(&self, bytes_needed: u64) -> impl Iterator<Item = Victim<K>> + '_ {
        let mut missing = bytes_needed;
        self.order
            .iter()
            .filter_map(|&(_, key)| {
                let bytes = self.segments.get(&key)?.bytes;
                Some(Victim { key, bytes })
            })
            // An empty segment frees nothing, so it is no victim for the sake of bytes.
            .filter(|victim| victim.bytes > 0)
            .map_while(move |victim| {
                let wanted = missing > 0;
                missing = missing.saturating_sub(victim.bytes);
                wanted.then_some(victim)
            })
    }

    /// The unpinned segments that were last used before `time`, credit included, for a limit on age.
    pub fn older_than(&self, time: i64) -> impl Iterator<Item = Victim<K>> + '_ {
        self.order
            .iter()
            .take_while(move |&&(rank, _)| rank < time)
            .filter_map(|&(_, key)| {
                let bytes = self.segments.get(&key)?.bytes;
                Some(Victim { key, bytes })
            })
    }

    /// The number of segments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is no segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes in all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX)
    }

    /// Bytes that could be evicted now.
    #[must_use]
    pub fn evictable_bytes(&self) -> u64 {
        u64::try_from(self.bytes.saturating_sub(self.pinned_bytes)).unwrap_or(u64::MAX)
    }

    const fn rank(&self, segment: &Segment) -> i64 {
        match segment.place {
            Place::Middle => segment.accessed,
            Place::Head | Place::Tail => segment
                .accessed
                .saturating_add_unsigned(self.credit_seconds),
        }
    }
}

impl<K: Copy + Ord> Default for EvictionIndex<K> {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CREDIT_SECONDS)
    }
}
