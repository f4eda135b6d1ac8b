//! The queue of explicit requests, as ranges of bytes rather than chunks.
//!
//! # Order
//!
//! Every queued byte has a level and an *arrival*: the push that put it at that level. Bytes leave in the
//! order (level, arrival, offset). A byte is queued once. Pushing it again at its own or a lower level
//! changes nothing, its place included; at a higher level it is promoted and arrives there anew, behind
//! what that level already holds. Cancelling or satisfying some bytes never moves the others.
//!
//! # Representation
//!
//! Disjoint intervals per key, found by a search, and per level a list of them in the order above. An interval that
//! continues the *last* interval of its level is appended to it: nothing lies between the two in that order, so
//! the order of bytes stays the same, and a file asked for chunk by chunk, in order, is one interval. Each
//! operation costs O((1 + t) log n) for n intervals of which it touches t.

mod order;

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use crate::{ByteRange, Priority};
use order::{Order, Slot};

/// The explicit requests that nothing has served yet, over any number of entries.
///
/// ```
/// use chunk_core::{ByteRange, DemandQueue, Priority};
///
/// let mut queue = DemandQueue::new();
/// queue.push("film", ByteRange::new(0, 100).unwrap(), Priority::Low);
/// queue.push("film", ByteRange::new(40, 60).unwrap(), Priority::Critical);
///
/// // The promoted bytes go first; those around them keep their level and their place.
/// let order: Vec<_> = queue.iter().map(|demand| demand.range).collect();
/// assert_eq!(format!("{order:?}"), "[40..60, 0..40, 60..100]");
/// ```
#[derive(Clone, Debug)]
pub struct DemandQueue<K> {
    /// (key, start) → the interval. Disjoint within a key.
    intervals: BTreeMap<(K, u64), Slot>,
    order: Order<K>,
    next_sequence: u64,
    /// Wider than an offset: two keys alone may hold more than 2⁶⁴ bytes.
    bytes: u128,
}

/// Adjacent bytes of one key that are queued at one level and go one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Demand<K> {
    /// Whose bytes.
    pub key: K,
    /// Which bytes.
    pub range: ByteRange,
    /// Their level.
    pub priority: Priority,
    /// The number of the push that queued the first of them at this level. Smaller arrived earlier.
    pub sequence: u64,
}

/// What a push changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// Bytes that were not queued before.
    pub added: u64,
    /// Bytes that were queued at a lower level before.
    pub promoted: u64,
}

impl Pushed {
    /// Whether the push changed nothing, because all of it was queued at its level or above.
    #[must_use]
    pub const fn is_duplicate(self) -> bool {
        self.added == 0 && self.promoted == 0
    }
}

impl<K: Copy + Ord> DemandQueue<K> {
    /// The empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            intervals: BTreeMap::new(),
            order: Order::new(),
            next_sequence: 0,
            bytes: 0,
        }
    }

    /// Queues `range` of `key` at `priority`: new bytes are added, bytes at a lower level promoted, and
    /// bytes at this level or a higher one keep their place.
    pub fn push(&mut self, key: K, range: ByteRange, priority: Priority) -> Pushed {
        let sequence = self.next_sequence;
        let mut pushed = Pushed::default();
        let mut rest = Some(range);
        while let Some(todo) = rest {
            let Some((slot, found)) = self.first_overlap(key, todo) else {
                self.insert(key, todo, priority, sequence);
                pushed.added += todo.len();
                break;
            };
            if let Some(gap) = todo.before(found.range.start()) {
                self.insert(key, gap, priority, sequence);
                pushed.added += gap.len();
            }
            let Some(piece) = found.range.intersection(todo) else {
                break;
            };
            if priority < found.priority {
                self.promote(slot, found, piece, priority, sequence);
                pushed.promoted += piece.len();
            }
            rest = todo.from(piece.end());
        }
        if !pushed.is_duplicate() {
            self.next_sequence = sequence.saturating_add(1);
        }
        pushed
    }

    /// The bytes that go first.
    #[must_use]
    pub fn peek(&self) -> Option<Demand<K>> {
        self.iter().next()
    }

    /// Takes the bytes that go first out of the queue.
    pub fn pop(&mut self) -> Option<Demand<K>> {
        let levels = Priority::ALL.into_iter();
        let (slot, first) = levels.flat_map(|level| self.order.at(level)).next()?;
        self.cut(slot, first, first.range);
        Some(first)
    }

    /// Everything queued, in the order it goes.
    pub fn iter(&self) -> impl Iterator<Item = Demand<K>> + '_ {
        Priority::ALL.into_iter().flat_map(|level| self.at(level))
    }

    /// What is queued at one level, in the order it goes.
    pub fn at(&self, priority: Priority) -> impl Iterator<Item = Demand<K>> + '_ {
        self.order.at(priority).map(|(_, demand)| demand)
    }

    /// Takes back what is queued of `range`; returns how many bytes that was.
    pub fn cancel(&mut self, key: K, range: ByteRange) -> u64 {
        self.remove(key, range)
    }

    /// Removes what is queued of `range` because it has arrived; returns how many bytes that was.
    pub fn satisfy(&mut self, key: K, range: ByteRange) -> u64 {
        self.remove(key, range)
    }

    /// Removes everything queued for `key`; returns how many bytes that was.
    pub fn remove_key(&mut self, key: K) -> u64 {
        ByteRange::try_new(0, u64::MAX).map_or(0, |all| self.remove(key, all))
    }

    /// What is queued for `key`, by offset.
    pub fn demands(&self, key: K) -> impl Iterator<Item = Demand<K>> + '_ {
        self.intervals
            .range((key, 0)..=(key, u64::MAX))
            .filter_map(|(_, &slot)| self.order.get(slot))
    }

    /// What is queued for `key` inside `range`, clipped to it, by offset.
    pub fn overlapping(&self, key: K, range: ByteRange) -> impl Iterator<Item = Demand<K>> + '_ {
        let first = self
            .first_overlap(key, range)
            .map_or(range.end(), |(_, first)| first.range.start());
        self.intervals
            .range((key, first)..(key, range.end()))
            .filter_map(move |(_, &slot)| {
                let mut demand = self.order.get(slot)?;
                demand.range = demand.range.intersection(range)?;
                Some(demand)
            })
    }

    /// The level at which the byte at `offset` is queued, if it is.
    #[must_use]
    pub fn priority_at(&self, key: K, offset: u64) -> Option<Priority> {
        let (_, found) = self.last_up_to(key, offset)?;
        found.range.contains(offset).then_some(found.priority)
    }

    /// The number of intervals, which is what an operation's cost depends on.
    #[must_use]
    pub fn len(&self) -> usize {
        self.intervals.len()
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The number of bytes queued, at most 2⁶⁴ − 1.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX)
    }

    /// The first interval of `key` with a byte in `range`.
    fn first_overlap(&self, key: K, range: ByteRange) -> Option<(Slot, Demand<K>)> {
        // Most often there is one at most, and one search tells.
        let last = self.last_overlap(key, range)?;
        if last.1.range.start() <= range.start() {
            return Some(last);
        }
        let around = self.last_up_to(key, range.start());
        around
            .filter(|(_, found)| found.range.contains(range.start()))
            .or_else(|| {
                let mut inside = self.intervals.range((key, range.start())..);
                let (_, &slot) = inside.next()?;
                Some((slot, self.order.get(slot)?))
            })
    }

    /// The last interval of `key` with a byte in `range`.
    fn last_overlap(&self, key: K, range: ByteRange) -> Option<(Slot, Demand<K>)> {
        self.last_up_to(key, range.last())
            .filter(|(_, found)| found.range.end() > range.start())
    }

    /// The last interval of `key` that begins at `offset` or before.
    fn last_up_to(&self, key: K, offset: u64) -> Option<(Slot, Demand<K>)> {
        let (&(owner, _), &slot) = self.intervals.range(..=(key, offset)).next_back()?;
        if owner != key {
            return None;
        }
        Some((slot, self.order.get(slot)?))
    }

    fn remove(&mut self, key: K, range: ByteRange) -> u64 {
        if self.remove_whole(key, range) {
            return range.len();
        }
        let mut removed = 0;
        let mut rest = Some(range);
        // From the end, where each is found by one search.
        while let Some(todo) = rest
            && let Some((slot, found)) = self.last_overlap(key, todo)
            && let Some(piece) = found.range.intersection(todo)
        {
            self.cut(slot, found, piece);
            removed += piece.len();
            rest = todo.before(piece.start());
        }
        removed
    }

    /// Removes the interval that is exactly `range`, if there is one. What was queued as one is most often taken back as
    /// one, and a single search finds and removes it.
    fn remove_whole(&mut self, key: K, range: ByteRange) -> bool {
        let Entry::Occupied(entry) = self.intervals.entry((key, range.start())) else {
            return false;
        };
        let slot = *entry.get();
        let is_whole = self
            .order
            .get(slot)
            .is_some_and(|found| found.range == range);
        if is_whole {
            entry.remove();
            self.order.remove(slot);
            self.bytes -= u128::from(range.len());
        }
        is_whole
    }

    /// Removes `piece` from the interval around it; what is left keeps its place.
    fn cut(&mut self, slot: Slot, found: Demand<K>, piece: ByteRange) {
        let Demand { key, range, .. } = found;
        self.bytes -= u128::from(piece.len());
        match (range.before(piece.start()), range.from(piece.end())) {
            (None, None) => {
                self.intervals.remove(&(key, range.start()));
                self.order.remove(slot);
            }
            (None, Some(right)) => {
                self.intervals.remove(&(key, range.start()));
                self.intervals.insert((key, right.start()), slot);
                self.order.resize(slot, right);
            }
            (Some(left), None) => self.order.resize(slot, left),
            (Some(left), Some(right)) => {
                self.order.resize(slot, left);
                let behind = Demand {
                    range: right,
                    ..found
                };
                let behind = self.order.insert_after(slot, behind);
                self.intervals.insert((key, right.start()), behind);
            }
        }
    }

    /// Adds bytes that arrive now, appending them to the level's last interval where they continue it.
    fn insert(&mut self, key: K, range: ByteRange, priority: Priority, sequence: u64) {
        self.bytes += u128::from(range.len());
        if let Some((slot, last)) = self.order.last(priority)
            && last.is_continued_by(key, range)
            && let Some(both) = ByteRange::try_new(last.range.start(), range.end())
        {
            self.order.resize(slot, both);
        } else {
            let slot = self.order.push(Demand {
                key,
                range,
                priority,
                sequence,
            });
            self.intervals.insert((key, range.start()), slot);
        }
    }

    /// Moves `piece` from the interval around it to a higher level, where it arrives now.
    fn promote(
        &mut self,
        slot: Slot,
        found: Demand<K>,
        piece: ByteRange,
        priority: Priority,
        sequence: u64,
    ) {
        let last = self.order.last(priority);
        let continues = last.is_some_and(|(_, last)| last.is_continued_by(found.key, piece));
        if piece == found.range && !continues {
            // It stays where it is among the intervals, which saves the searches.
            self.order.promote(slot, priority, sequence);
        } else {
            self.cut(slot, found, piece);
            self.insert(found.key, piece, priority, sequence);
        }
    }
}

impl<K: Copy + Ord> Demand<K> {
    fn is_continued_by(&self, key: K, range: ByteRange) -> bool {
        self.range.end() == range.start() && self.key == key
    }
}

impl<K: Copy + Ord> Default for DemandQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}
