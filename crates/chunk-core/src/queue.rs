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
//! Disjoint intervals per key, each with its level and the number of its push, and per level an ordered
//! set over (number, key, start). An interval that continues the *last* interval of its level is appended to it: nothing
//! lies between the two in the order above, so the order of bytes stays the same, and a file asked for
//! chunk by chunk, in order, is one interval. Each operation costs O((1 + t) log n) for n intervals of
//! which it touches t.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{ByteRange, Priority};

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
    /// (key, start) → the rest of the interval. Disjoint within a key.
    intervals: BTreeMap<(K, u64), Interval>,
    /// The same intervals as (sequence, key, start), one set per level, most urgent first.
    levels: [BTreeSet<(u64, K, u64)>; 4],
    next_sequence: u64,
    /// Wider than an offset: two keys alone may hold more than 2⁶⁴ bytes.
    bytes: u128,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    end: u64,
    priority: Priority,
    sequence: u64,
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
            levels: [const { BTreeSet::new() }; 4],
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
            let Some((start, found)) = self.first_overlap(key, todo) else {
                self.insert(key, todo, priority, sequence);
                pushed.added += todo.len();
                break;
            };
            if let Some(gap) = todo.before(start) {
                self.insert(key, gap, priority, sequence);
                pushed.added += gap.len();
            }
            let Some(piece) =
                ByteRange::try_new(start.max(todo.start()), found.end.min(todo.end()))
            else {
                break;
            };
            if priority < found.priority {
                self.promote(key, start, found, piece, priority, sequence);
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
        let first = self.peek()?;
        self.remove(first.key, first.range);
        Some(first)
    }

    /// Everything queued, in the order it goes.
    pub fn iter(&self) -> impl Iterator<Item = Demand<K>> + '_ {
        Priority::ALL.into_iter().flat_map(|level| self.at(level))
    }

    /// What is queued at one level, in the order it goes.
    pub fn at(&self, priority: Priority) -> impl Iterator<Item = Demand<K>> + '_ {
        self.level(priority)
            .iter()
            .filter_map(|&(_, key, start)| self.intervals.get(&(key, start))?.demand(key, start))
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
        let mut removed = 0;
        while let Some((&(_, start), &found)) =
            self.intervals.range((key, 0)..=(key, u64::MAX)).next()
        {
            self.take(key, start, found);
            removed += found.end - start;
        }
        removed
    }

    /// What is queued for `key`, by offset.
    pub fn demands(&self, key: K) -> impl Iterator<Item = Demand<K>> + '_ {
        self.intervals
            .range((key, 0)..=(key, u64::MAX))
            .filter_map(|(&(key, start), interval)| interval.demand(key, start))
    }

    /// What is queued for `key` inside `range`, clipped to it, by offset.
    pub fn overlapping(&self, key: K, range: ByteRange) -> impl Iterator<Item = Demand<K>> + '_ {
        let first = self
            .first_overlap(key, range)
            .map_or(range.end(), |(start, _)| start);
        self.intervals
            .range((key, first)..(key, range.end().max(first)))
            .filter_map(move |(&(key, start), interval)| {
                let mut demand = interval.demand(key, start)?;
                demand.range = demand.range.intersection(range)?;
                Some(demand)
            })
    }

    /// The level at which the byte at `offset` is queued, if it is.
    #[must_use]
    pub fn priority_at(&self, key: K, offset: u64) -> Option<Priority> {
        let (_, found) = self
            .intervals
            .range(..=(key, offset))
            .next_back()
            .filter(|&(&(owner, _), interval)| owner == key && offset < interval.end)?;
        Some(found.priority)
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
    fn first_overlap(&self, key: K, range: ByteRange) -> Option<(u64, Interval)> {
        let around = self
            .intervals
            .range((key, 0)..=(key, range.start()))
            .next_back()
            .filter(|(_, interval)| interval.end > range.start());
        let (&(_, start), &interval) = around.or_else(|| {
            self.intervals
                .range((key, range.start())..(key, range.end()))
                .next()
        })?;
        Some((start, interval))
    }

    fn remove(&mut self, key: K, range: ByteRange) -> u64 {
        let mut removed = 0;
        let mut rest = Some(range);
        while let Some(todo) = rest {
            let Some((start, found)) = self.first_overlap(key, todo) else {
                break;
            };
            let Some(piece) =
                ByteRange::try_new(start.max(todo.start()), found.end.min(todo.end()))
            else {
                break;
            };
            self.cut(key, start, found, piece);
            removed += piece.len();
            rest = todo.from(piece.end());
        }
        removed
    }

    /// Removes `piece` from the interval around it; what is left keeps its place.
    fn cut(&mut self, key: K, start: u64, found: Interval, piece: ByteRange) {
        self.take(key, start, found);
        for (start, end) in [(start, piece.start()), (piece.end(), found.end)] {
            if let Some(left) = ByteRange::try_new(start, end) {
                self.place(key, left, found.priority, found.sequence);
            }
        }
    }

    /// Adds bytes that arrive now, appending them to the level's last interval where they continue it.
    fn insert(&mut self, key: K, range: ByteRange, priority: Priority, sequence: u64) {
        if let Some((start, last)) = self.last_of(priority, key)
            && last.end == range.start()
        {
            if let Some(interval) = self.intervals.get_mut(&(key, start)) {
                interval.end = range.end();
                self.bytes += u128::from(range.len());
            }
        } else {
            self.place(key, range, priority, sequence);
        }
    }

    /// Moves `piece` from the interval around it to a higher level, where it arrives now.
    fn promote(
        &mut self,
        key: K,
        start: u64,
        found: Interval,
        piece: ByteRange,
        priority: Priority,
        sequence: u64,
    ) {
        let is_whole = start == piece.start() && found.end == piece.end();
        let continues = self
            .last_of(priority, key)
            .is_some_and(|(_, last)| last.end == start);
        if is_whole && !continues {
            // It stays where it is among the intervals, which saves half of the searches.
            self.level_mut(found.priority)
                .remove(&(found.sequence, key, start));
            self.level_mut(priority).insert((sequence, key, start));
            if let Some(interval) = self.intervals.get_mut(&(key, start)) {
                interval.priority = priority;
                interval.sequence = sequence;
            }
        } else {
            self.cut(key, start, found, piece);
            self.insert(key, piece, priority, sequence);
        }
    }

    /// The interval that goes last at `priority`, if it belongs to `key`.
    fn last_of(&self, priority: Priority, key: K) -> Option<(u64, Interval)> {
        let &(_, owner, start) = self.level(priority).last()?;
        let interval = self.intervals.get(&(owner, start))?;
        (owner == key).then_some((start, *interval))
    }

    fn place(&mut self, key: K, range: ByteRange, priority: Priority, sequence: u64) {
        self.bytes += u128::from(range.len());
        self.level_mut(priority)
            .insert((sequence, key, range.start()));
        self.intervals.insert(
            (key, range.start()),
            Interval {
                end: range.end(),
                priority,
                sequence,
            },
        );
    }

    fn take(&mut self, key: K, start: u64, found: Interval) {
        self.bytes -= u128::from(found.end - start);
        self.level_mut(found.priority)
            .remove(&(found.sequence, key, start));
        self.intervals.remove(&(key, start));
    }

    const fn level(&self, priority: Priority) -> &BTreeSet<(u64, K, u64)> {
        let [critical, high, medium, low] = &self.levels;
        match priority {
            Priority::Critical => critical,
            Priority::High => high,
            Priority::Medium => medium,
            Priority::Low => low,
        }
    }

    const fn level_mut(&mut self, priority: Priority) -> &mut BTreeSet<(u64, K, u64)> {
        let [critical, high, medium, low] = &mut self.levels;
        match priority {
            Priority::Critical => critical,
            Priority::High => high,
            Priority::Medium => medium,
            Priority::Low => low,
        }
    }
}

impl<K: Copy + Ord> Default for DemandQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Interval {
    fn demand<K>(self, key: K, start: u64) -> Option<Demand<K>> {
        Some(Demand {
            key,
            range: ByteRange::try_new(start, self.end)?,
            priority: self.priority,
            sequence: self.sequence,
        })
    }
}
