//! Coverage: a set of bytes as disjoint, non-touching ranges.

use alloc::collections::BTreeMap;
use core::fmt;

use crate::ByteRange;

/// A set of byte offsets, kept as maximal ranges.
///
/// Ranges that touch are one range, so equal sets have equal representations. Every query is
/// O(log n) in the number of ranges, every change O(log n + ranges merged or cut).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// start → end. Disjoint, and no end equals another start.
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: BTreeMap::new(),
            len: 0,
        }
    }

    /// The number of bytes in the set.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The number of maximal ranges.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The maximal ranges, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ByteRange> + '_ {
        self.ranges
            .iter()
            .filter_map(|(&start, &end)| ByteRange::try_new(start, end))
    }

    /// Adds bytes; returns how many of them were new.
    pub fn insert(&mut self, range: ByteRange) -> u64 {
        let before = self.len;
        let (mut start, mut end) = (range.start(), range.end());
        // Every range that overlaps or touches the new one is folded into it.
        while let Some((&found_start, &found_end)) = self.ranges.range(..=end).next_back() {
            if found_end < start {
                break;
            }
            self.ranges.remove(&found_start);
            self.len -= found_end - found_start;
            start = start.min(found_start);
            end = end.max(found_end);
        }
        self.ranges.insert(start, end);
        self.len += end - start;
        self.len - before
    }

    /// Removes bytes; returns how many of them were there.
    pub fn remove(&mut self, range: ByteRange) -> u64 {
        let before = self.len;
        while let Some((&found_start, &found_end)) = self.ranges.range(..range.end()).next_back() {
            if found_end <= range.start() {
                break;
            }
            self.ranges.remove(&found_start);
            self.len -= found_end - found_start;
            for (start, end) in [
                (found_start, found_end.min(range.start())),
                (found_start.max(range.end()), found_end),
            ] {
                if start < end {
                    self.ranges.insert(start, end);
                    self.len += end - start;
                }
            }
            if found_start <= range.start() {
                break;
            }
        }
        before - self.len
    }

    /// Empties the set.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.len = 0;
    }

    /// Whether the byte at `offset` is there.
    #[must_use]
    pub fn contains(&self, offset: u64) -> bool {
        self.range_at(offset).is_some()
    }

    /// Whether every byte of `range` is there.
    #[must_use]
    pub fn contains_range(&self, range: ByteRange) -> bool {
        self.range_at(range.start())
            .is_some_and(|found| range.end() <= found.end())
    }

    /// Whether at least one byte of `range` is there.
    #[must_use]
    pub fn intersects(&self, range: ByteRange) -> bool {
        self.ranges
            .range(..range.end())
            .next_back()
            .is_some_and(|(_, &end)| end > range.start())
    }

    /// The maximal range around `offset`, if that byte is there.
    #[must_use]
    pub fn range_at(&self, offset: u64) -> Option<ByteRange> {
        let (&start, &end) = self.ranges.range(..=offset).next_back()?;
        ByteRange::try_new(start, end).filter(|range| range.contains(offset))
    }

    /// How many bytes are there from `offset` on without a hole.
    #[must_use]
    pub fn contiguous_from(&self, offset: u64) -> u64 {
        self.range_at(offset)
            .map_or(0, |range| range.end() - offset)
    }

    /// The first hole inside `within`.
    #[must_use]
    pub fn first_gap(&self, within: ByteRange) -> Option<ByteRange> {
        let start = self
            .range_at(within.start())
            .map_or(within.start(), ByteRange::end);
        let end = self
            .ranges
            .range(start..)
            .next()
            .map_or(within.end(), |(&next, _)| next.min(within.end()));
        ByteRange::try_new(start, end)
    }

    /// The last hole inside `within`.
    #[must_use]
    pub fn last_gap(&self, within: ByteRange) -> Option<ByteRange> {
        let end = self
            .range_at(within.last())
            .map_or(within.end(), ByteRange::start);
        let start = self
            .ranges
            .range(..end)
            .next_back()
            .map_or(within.start(), |(_, &previous)| {
                previous.max(within.start())
            });
        ByteRange::try_new(start, end)
    }

    /// Every hole inside `within`, in order.
    pub fn gaps(&self, within: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        let mut rest = Some(within);
        core::iter::from_fn(move || {
            let gap = self.first_gap(rest?)?;
            rest = ByteRange::try_new(gap.end(), within.end());
            Some(gap)
        })
    }

    /// The parts of the set inside `within`, in order.
    pub fn overlapping(&self, within: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        let first = self
            .range_at(within.start())
            .map_or(within.start(), ByteRange::start);
        self.ranges
            .range(first..within.end())
            .filter_map(move |(&start, &end)| {
                ByteRange::try_new(start, end).and_then(|range| range.intersection(within))
            })
    }

    /// How many bytes of `within` are there.
    #[must_use]
    pub fn covered_len(&self, within: ByteRange) -> u64 {
        self.overlapping(within).map(ByteRange::len).sum()
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Extend<ByteRange> for RangeSet {
    fn extend<I: IntoIterator<Item = ByteRange>>(&mut self, ranges: I) {
        // What comes in order is put together first: a film in a thousand pieces is one range.
        let mut together: Option<ByteRange> = None;
        for range in ranges {
            together = match together {
                None => Some(range),
                Some(before) if before.end() == range.start() => {
                    ByteRange::try_new(before.start(), range.end())
                }
                Some(before) => {
                    self.insert(before);
                    Some(range)
                }
            };
        }
        if let Some(last) = together {
            self.insert(last);
        }
    }
}

impl FromIterator<ByteRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}
