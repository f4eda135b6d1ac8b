//! A range of bytes that cannot be empty.

use core::fmt;

/// A non-empty, half-open range of byte offsets, `start..end`.
///
/// An empty or reversed range cannot be built, so no code that holds one has to ask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

/// Why two offsets are not a [`ByteRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// `end` is not after `start`.
    #[error("a byte range needs its end after its start, got {start}..{end}")]
    Empty {
        /// The first offset given.
        start: u64,
        /// The end given, exclusive.
        end: u64,
    },
    /// The end lies beyond 2⁶⁴ − 1.
    #[error("a byte range of {len} bytes at {start} ends beyond the largest offset")]
    Overflow {
        /// The first offset given.
        start: u64,
        /// The length given.
        len: u64,
    },
}

impl ByteRange {
    /// The bytes from `start` up to, not including, `end`.
    ///
    /// # Errors
    /// [`RangeError::Empty`] unless `start < end`.
    pub const fn new(start: u64, end: u64) -> Result<Self, RangeError> {
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(RangeError::Empty { start, end })
        }
    }

    /// `len` bytes from `start` on.
    ///
    /// # Errors
    /// [`RangeError::Empty`] where `len` is 0, [`RangeError::Overflow`] where the end does not fit.
    pub const fn with_len(start: u64, len: u64) -> Result<Self, RangeError> {
        match start.checked_add(len) {
            Some(end) => Self::new(start, end),
            None => Err(RangeError::Overflow { start, len }),
        }
    }

    /// The range whose last byte is `last`, as HTTP and SQL write ranges.
    ///
    /// # Errors
    /// [`RangeError::Empty`] where `last < start`, [`RangeError::Overflow`] where `last` is 2⁶⁴ − 1.
    pub const fn from_inclusive(start: u64, last: u64) -> Result<Self, RangeError> {
        match last.checked_add(1) {
            Some(end) => Self::new(start, end),
            None => Err(RangeError::Overflow {
                start,
                len: u64::MAX,
            }),
        }
    }

    /// The bytes both offsets bound, or `None` where `start >= end`.
    #[must_use]
    pub const fn try_new(start: u64, end: u64) -> Option<Self> {
        if start < end {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// The first offset.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The offset after the last one.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// The last offset, as HTTP and SQL write it.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.end - 1
    }

    /// The number of bytes, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether `offset` lies inside.
    #[must_use]
    pub const fn contains(self, offset: u64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub const fn contains_range(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two have a byte in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The bytes in common.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::try_new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The part before `offset`, if any.
    #[must_use]
    pub fn before(self, offset: u64) -> Option<Self> {
        Self::try_new(self.start, self.end.min(offset))
    }

    /// The part from `offset` on, if any.
    #[must_use]
    pub fn from(self, offset: u64) -> Option<Self> {
        Self::try_new(self.start.max(offset), self.end)
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
