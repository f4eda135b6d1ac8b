//! The bytes that have just arrived, in memory.
//!
//! Every byte passes through here on its way to the byte store, so that it can be read before it is
//! written. Once stored, a small part is kept for readers close behind the head. Where storing fails,
//! this is all there is: a ring that forgets its oldest bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chunk_core::{ByteRange, RangeSet};

use crate::memory::MemoryBudget;

/// How many stored bytes stay in memory for readers close behind.
pub(crate) const KEPT: u64 = 1024 * 1024;
/// How many bytes are kept around each reader where they cannot be stored. Rings that touch are one, so that this is
/// how far apart readers may be who share what comes.
pub(crate) const RING: u64 = 4 * 1024 * 1024;

/// What it holds counts against the budget from [`Self::push`] until it is dropped, whoever drops it.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    budget: Arc<MemoryBudget>,
    /// Offset → bytes; they do not overlap.
    pieces: BTreeMap<u64, Piece>,
    /// Offsets in order of arrival.
    order: VecDeque<u64>,
    stored_len: u64,
    unstored_len: u64,
}

/// Which bytes may be dropped that are nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spare {
    /// Those that somebody tried to store in vain; the others are about to be stored.
    Left,
    /// All of them, because nothing is stored now.
    AllUnstored,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    is_stored: bool,
    /// Whether storing it failed and nobody is at it any more.
    is_left: bool,
}

impl Tail {
    /// No bytes yet; those that come count against `budget`.
    pub(crate) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self {
            budget,
            pieces: BTreeMap::new(),
            order: VecDeque::new(),
            stored_len: 0,
            unstored_len: 0,
        }
    }

    /// Adds bytes that are not there yet.
    pub(crate) fn push(&mut self, offset: u64, bytes: Bytes) {
        self.budget.taken(bytes.len() as u64);
        self.unstored_len += bytes.len() as u64;
        self.order.push_back(offset);
        self.pieces.insert(
            offset,
            Piece {
                bytes,
                is_stored: false,
                is_left: false,
            },
        );
    }

    /// Notes that storing the pieces inside `range` failed.
    pub(crate) fn leave(&mut self, range: ByteRange) {
        self.split(range);
        for (_, piece) in self.pieces.range_mut(range.start()..range.end()) {
            piece.is_left = !piece.is_stored;
        }
    }

    /// The pieces whose storing failed, for another try.
    pub(crate) fn take_left(&mut self) -> Vec<(u64, Bytes)> {
        self.pieces
            .iter_mut()
            .filter_map(|(&offset, piece)| {
                std::mem::take(&mut piece.is_left).then(|| (offset, piece.bytes.clone()))
            })
            .collect()
    }

    /// Whether storing any piece failed.
    pub(crate) fn has_left(&self) -> bool {
        self.pieces.values().any(|piece| piece.is_left)
    }

    /// The bytes at `offset`, at most `max`, if they are here.
    pub(crate) fn get(&self, offset: u64, max: usize) -> Option<Bytes> {
        let (&start, piece) = self.pieces.range(..=offset).next_back()?;
        let skip = usize::try_from(offset - start).ok()?;
        (skip < piece.bytes.len()).then(|| {
            let end = piece.bytes.len().min(skip.saturating_add(max));
            piece.bytes.slice(skip..end)
        })
    }

    /// Notes that pieces inside `range` are in the byte store now.
    pub(crate) fn stored(&mut self, range: ByteRange) {
        self.split(range);
        for (_, piece) in self.pieces.range_mut(range.start()..range.end()) {
            if !piece.is_stored {
                piece.is_stored = true;
                piece.is_left = false;
                let len = piece.bytes.len() as u64;
                self.unstored_len -= len;
                self.stored_len += len;
            }
        }
    }

    /// Drops the oldest stored pieces until at most `allowance` bytes of them are left.
    pub(crate) fn trim_stored(&mut self, allowance: u64) -> u64 {
        let before = self.stored_len;
        let mut kept = VecDeque::new();
        while self.stored_len > allowance {
            let Some(offset) = self.order.pop_front() else {
                break;
            };
            match self.pieces.get(&offset) {
                Some(piece) if piece.is_stored => self.remove(offset),
                Some(_) => kept.push_back(offset),
                None => {}
            }
        }
        while let Some(offset) = kept.pop_back() {
            self.order.push_front(offset);
        }
        before - self.stored_len
    }

    /// Drops unstored pieces that may go until at most `allowance` bytes of unstored ones are left, the oldest
    /// first; returns which bytes are gone for good.
    pub(crate) fn trim_ring(
        &mut self,
        allowance: u64,
        spare: Spare,
        may_go: impl Fn(ByteRange) -> bool,
    ) -> RangeSet {
        let mut gone = RangeSet::new();
        let mut kept = VecDeque::new();
        while self.unstored_len > allowance {
            let Some(offset) = self.order.pop_front() else {
                break;
            };
            match self.pieces.get(&offset) {
                Some(piece) if !piece.is_stored => {
                    let end = offset.saturating_add(piece.bytes.len() as u64);
                    let range = ByteRange::try_new(offset, end);
                    let is_spare = piece.is_left || spare == Spare::AllUnstored;
                    if is_spare && range.is_none_or(&may_go) {
                        gone.extend(range);
                        self.remove(offset);
                    } else {
                        kept.push_back(offset);
                    }
                }
                Some(_) => kept.push_back(offset),
                None => {}
            }
        }
        while let Some(offset) = kept.pop_back() {
            self.order.push_front(offset);
        }
        gone
    }

    /// Drops the copies of what is stored that touch `range`.
    pub(crate) fn drop_stored(&mut self, range: ByteRange) {
        let stored: Vec<u64> = self
            .pieces
            .iter()
            .filter(|&(&offset, piece)| {
                piece.is_stored
                    && offset < range.end()
                    && offset.saturating_add(piece.bytes.len() as u64) > range.start()
            })
            .map(|(&offset, _)| offset)
            .collect();
        for offset in stored {
            self.remove(offset);
        }
    }

    /// Drops the bytes of `range`.
    pub(crate) fn forget(&mut self, range: ByteRange) {
        self.split(range);
        let inside: Vec<u64> = self
            .pieces
            .range(range.start()..range.end())
            .map(|(&offset, _)| offset)
            .collect();
        for offset in inside {
            self.remove(offset);
        }
    }

    /// Sees to it that every piece lies wholly inside or outside of `range`.
    fn split(&mut self, range: ByteRange) {
        for at in [range.start(), range.end()] {
            let Some((&offset, piece)) = self.pieces.range_mut(..at).next_back() else {
                continue;
            };
            let before = usize::try_from(at - offset).unwrap_or(usize::MAX);
            if before < piece.bytes.len() {
                let rest = Piece {
                    bytes: piece.bytes.split_off(before),
                    ..*piece
                };
                self.pieces.insert(at, rest);
                self.order.push_back(at);
            }
        }
    }

    /// The bytes that are only here.
    pub(crate) fn unstored(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.pieces
            .iter()
            .filter(|(_, piece)| !piece.is_stored)
            .filter_map(|(&offset, piece)| {
                ByteRange::try_new(offset, offset.saturating_add(piece.bytes.len() as u64))
            })
    }

    /// How many bytes are only here.
    pub(crate) const fn unstored_len(&self) -> u64 {
        self.unstored_len
    }

    fn remove(&mut self, offset: u64) {
        if let Some(piece) = self.pieces.remove(&offset) {
            let len = piece.bytes.len() as u64;
            self.budget.freed(len);
            if piece.is_stored {
                self.stored_len -= len;
            } else {
                self.unstored_len -= len;
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.freed(self.stored_len + self.unstored_len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn bytes_are_found_until_they_are_trimmed() {
        let budget = Arc::new(MemoryBudget::default());
        let mut tail = Tail::new(Arc::clone(&budget));
        tail.push(100, piece(10));
        tail.push(110, piece(10));
        assert_eq!(tail.get(115, 100).map(|bytes| bytes.len()), Some(5));
        assert_eq!(tail.get(105, 3).map(|bytes| bytes.len()), Some(3));
        assert!(tail.get(99, 1).is_none() && tail.get(120, 1).is_none());

        tail.stored(ByteRange::new(100, 110).unwrap());
        assert_eq!(tail.trim_stored(0), 10);
        assert!(tail.get(105, 1).is_none());
        assert_eq!(budget.used(), 10);
        drop(tail);
        assert_eq!(
            budget.used(),
            0,
            "what is dropped with an entry counts no more"
        );
    }

    #[test]
    fn a_full_ring_forgets_its_oldest_unstored_bytes() {
        let mut tail = Tail::default();
        for offset in 0..4 {
            tail.push(offset * 10, piece(10));
        }
        tail.stored(ByteRange::new(10, 20).unwrap());
        let gone = tail.trim_ring(10, Spare::AllUnstored, |_| true);
        assert_eq!(format!("{gone:?}"), "{0..10, 20..30}");
        assert_eq!(tail.unstored_len(), 10);
        assert!(tail.get(15, 1).is_some(), "stored bytes are not the ring's");
    }

    #[test]
    fn a_full_ring_forgets_nothing_that_may_not_go() {
        let mut tail = Tail::default();
        for offset in 0..4 {
            tail.push(offset * 10, piece(10));
        }
        let gone = tail.trim_ring(20, Spare::AllUnstored, |range| range.start() >= 10);
        assert_eq!(format!("{gone:?}"), "{10..30}");
        let gone = tail.trim_ring(0, Spare::AllUnstored, |range| range.start() >= 10);
        assert_eq!(format!("{gone:?}"), "{30..40}");
    }

    #[test]
    fn what_could_not_be_stored_is_offered_once_more() {
        let mut tail = Tail::default();
        tail.push(0, piece(10));
        tail.push(10, piece(10));
        tail.leave(ByteRange::new(0, 10).unwrap());
        assert_eq!(tail.take_left().len(), 1);
        assert!(tail.take_left().is_empty(), "somebody is at it");
    }

    #[test]
    fn of_a_piece_that_is_stored_in_part_the_other_part_stays() {
        let mut tail = Tail::default();
        tail.push(0, piece(30));
        tail.stored(ByteRange::new(0, 10).unwrap());
        tail.trim_stored(0);
        assert!(tail.get(9, 1).is_none());
        assert_eq!(tail.get(10, 100).map(|bytes| bytes.len()), Some(20));
        tail.forget(ByteRange::new(15, 20).unwrap());
        assert_eq!(tail.unstored_len(), 15);
        assert!(tail.get(14, 1).is_some() && tail.get(20, 1).is_some());
    }
}
