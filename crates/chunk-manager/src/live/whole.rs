//! Which blocks can be read as a whole: noted by one, looked at by any number at once.
//!
//! Whoever takes a lock to read, writes to the lock, and 64 readers of one film would pass its cache line around. So the
//! blocks are bits that are only loaded, until one of them changes. They say yes where all of a range lies in whole
//! blocks, and nothing otherwise.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use chunk_core::{BLOCK_SIZE, ByteRange, RangeSet};

/// The blocks of the first level, 64 MiB. Each further one has twice as many, so that a file costs a bit for each of
/// its blocks, and what is noted never moves.
const FIRST: u64 = 1024;

/// As many levels make a tebibyte. Nothing is noted of what lies behind.
const LEVELS: usize = 14;

/// The blocks of a word.
const WORD: u64 = 64;

/// More blocks are not looked at one by one: 64 MiB.
const MOST: u64 = 1024;

#[derive(Debug)]
pub(super) struct WholeBlocks {
    levels: [OnceLock<Box<[AtomicU64]>>; LEVELS],
    /// Raised before and after blocks are taken away, so that it is odd meanwhile: who has seen blocks one after the
    /// other can tell whether they were ever there together.
    losses: AtomicU64,
}

/// Blocks of one level, counted from its beginning.
struct Span {
    level: usize,
    first: u64,
    end: u64,
}

impl WholeBlocks {
    pub(super) fn new() -> Self {
        Self {
            levels: array::from_fn(|_| OnceLock::new()),
            losses: AtomicU64::new(0),
        }
    }

    /// Whether all of `range` is known to have been there at one moment of this call.
    pub(super) fn hold(&self, range: ByteRange) -> bool {
        let (first, end) = blocks_around(range);
        if end - first > MOST || end > start_of(LEVELS) {
            return false;
        }
        let losses = self.losses.load(Ordering::SeqCst);
        let are_there = losses.is_multiple_of(2)
            && spans(first, end).all(|span| {
                let level = self.levels.get(span.level).and_then(OnceLock::get);
                level.is_some_and(|words| {
                    span.words().all(|(index, mask)| {
                        let word = words.get(index);
                        word.is_some_and(|word| word.load(Ordering::SeqCst) & mask == mask)
                    })
                })
            });
        are_there && self.losses.load(Ordering::SeqCst) == losses
    }

    /// Notes which blocks `range` has made whole, once it is part of what is `readable`.
    ///
    /// One thread at a time may change what is noted.
    pub(super) fn note(&self, range: ByteRange, readable: &RangeSet) {
        let Some(around) = readable.range_at(range.start()) else {
            return;
        };
        let (first, end) = blocks_around(range);
        let first = first.max(around.start().div_ceil(BLOCK_SIZE));
        let end = end.min(around.end() / BLOCK_SIZE);
        for span in spans(first, end) {
            let Some(level) = self.levels.get(span.level) else {
                return;
            };
            let words = level.get_or_init(|| level_of(span.level));
            for (index, mask) in span.words() {
                if let Some(word) = words.get(index) {
                    word.fetch_or(mask, Ordering::SeqCst);
                }
            }
        }
    }

    /// Forgets the blocks of which `range` takes something away, before it does.
    ///
    /// One thread at a time may change what is noted.
    pub(super) fn forget(&self, range: ByteRange) {
        let (first, end) = blocks_around(range);
        self.losses.fetch_add(1, Ordering::SeqCst);
        for span in spans(first, end) {
            // What was never noted need not be looked through, and a range may reach to the last offset.
            let words = self.levels.get(span.level).and_then(OnceLock::get);
            for (word, mask) in words.into_iter().flat_map(|words| {
                let masks = span.words();
                masks.filter_map(|(index, mask)| Some((words.get(index)?, mask)))
            }) {
                word.fetch_and(!mask, Ordering::SeqCst);
            }
        }
        self.losses.fetch_add(1, Ordering::SeqCst);
    }
}

impl Span {
    /// The words that these blocks are in, each with their bits.
    fn words(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (first, end) = (self.first, self.end);
        (first / WORD..end.div_ceil(WORD)).map(move |index| {
            let start = index * WORD;
            let below = first.saturating_sub(start);
            let above = (start + WORD).saturating_sub(end);
            let mask = (u64::MAX << below) & (u64::MAX >> above);
            (usize::try_from(index).unwrap_or(usize::MAX), mask)
        })
    }
}

/// The blocks with a byte in `range`, the end exclusive.
const fn blocks_around(range: ByteRange) -> (u64, u64) {
    (range.start() / BLOCK_SIZE, range.last() / BLOCK_SIZE + 1)
}

/// The first block of a level.
const fn start_of(level: usize) -> u64 {
    FIRST * ((1 << level) - 1)
}

fn level_of(level: usize) -> Box<[AtomicU64]> {
    let words = (start_of(level + 1) - start_of(level)) / WORD;
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// The parts of `first..end` by level.
fn spans(first: u64, end: u64) -> impl Iterator<Item = Span> {
    let lowest = (first / FIRST + 1).ilog2() as usize;
    (lowest..LEVELS)
        .map(move |level| {
            let start = start_of(level);
            Span {
                level,
                first: first.max(start) - start,
                end: end.min(start_of(level + 1)).saturating_sub(start),
            }
        })
        .take_while(|span| span.first < span.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(first: u64, end: u64) -> ByteRange {
        ByteRange::new(first * BLOCK_SIZE, end * BLOCK_SIZE).expect("blocks")
    }

    #[test]
    fn levels_follow_each_other_without_a_gap() {
        let (whole, mut there) = (WholeBlocks::new(), RangeSet::new());
        for edge in [0, FIRST, 3 * FIRST, 7 * FIRST, start_of(LEVELS) - 3] {
            let range = blocks(edge.saturating_sub(2), edge + 3);
            there.insert(range);
            whole.note(range, &there);
            assert!(whole.hold(range), "{edge}");
            assert!(!whole.hold(blocks(edge, edge + 4)), "{edge}");
            whole.forget(blocks(edge, edge + 1));
            assert!(!whole.hold(range), "{edge}");
            assert!(whole.hold(blocks(edge + 1, edge + 3)), "{edge}");
        }
    }

    #[test]
    fn nothing_is_noted_behind_the_last_level() {
        let (whole, mut there) = (WholeBlocks::new(), RangeSet::new());
        let range = blocks(start_of(LEVELS) - 1, start_of(LEVELS) + 1);
        there.insert(range);
        whole.note(range, &there);
        assert!(whole.hold(blocks(start_of(LEVELS) - 1, start_of(LEVELS))));
        assert!(!whole.hold(range));
        whole.forget(ByteRange::new(0, u64::MAX).expect("all"));
        assert!(!whole.hold(blocks(start_of(LEVELS) - 1, start_of(LEVELS))));
    }

    #[test]
    fn while_blocks_are_taken_away_nothing_is_promised() {
        let (whole, mut there) = (WholeBlocks::new(), RangeSet::new());
        there.insert(blocks(0, 2));
        whole.note(blocks(0, 2), &there);
        whole.losses.fetch_add(1, Ordering::SeqCst);
        assert!(!whole.hold(blocks(0, 1)));
        whole.losses.fetch_add(1, Ordering::SeqCst);
        assert!(whole.hold(blocks(0, 1)));
    }
}
