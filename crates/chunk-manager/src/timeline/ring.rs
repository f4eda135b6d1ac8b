//! The facts that are remembered: so many and no more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_core::scheduler::{Halt, PutBack, ReaderId};
use chunk_core::{BLOCK_SIZE, ByteRange, CacheKey, Tick};

use super::{Delay, Happening};

/// How many facts are remembered: at a hundred bytes each, 400 KiB.
const CAPACITY: usize = 4096;
/// Waits and holds below this are remembered only where they are a reader's first since it was opened or
/// sought: those between two pieces of a stream would fill the ring within a minute and explain nothing.
pub(crate) const SHORTEST: Duration = Duration::from_millis(50);
/// How many reasons of one wait are remembered, the first ones.
const MOST_REASONS: usize = 4;
/// The longest reason that is kept whole.
const LONGEST_REASON: usize = 160;

/// The bytes that a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u64,
    end: u64,
}

impl Span {
    pub(crate) const ALL: Self = Self::new(0, u64::MAX);

    pub(crate) const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// The block around a byte: what is asked for one byte of it brings the others as well.
    const fn block(offset: u64) -> Self {
        let start = offset - offset % BLOCK_SIZE;
        Self::new(start, start.saturating_add(BLOCK_SIZE))
    }

    pub(super) const fn contains(self, offset: u64) -> bool {
        self.start <= offset && offset < self.end
    }
}

impl From<ByteRange> for Span {
    fn from(range: ByteRange) -> Self {
        Self::new(range.start(), range.end())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) at: Tick,
    pub(super) key: Arc<CacheKey>,
    pub(super) span: Span,
    pub(super) what: Happening,
}

/// A reader that waits now.
#[derive(Clone, Debug)]
struct Wait {
    key: Arc<CacheKey>,
    offset: u64,
    since: Tick,
    /// Whether it is remembered however short it is.
    is_first: bool,
    /// Why nothing was done for it, and since when.
    put_back: Vec<(Tick, Arc<Delay>)>,
}

#[derive(Debug)]
pub(crate) struct Ring {
    started: Tick,
    facts: Mutex<Facts>,
}

#[derive(Debug)]
struct Facts {
    capacity: usize,
    ring: VecDeque<Fact>,
    has_forgotten: bool,
    waits: HashMap<ReaderId, Wait>,
}

/// What is remembered of one file.
pub(super) struct Remembered {
    pub(super) started: Tick,
    /// The oldest that is remembered of any file.
    pub(super) oldest: Option<Tick>,
    pub(super) has_forgotten: bool,
    pub(super) facts: Vec<Fact>,
}

impl Ring {
    pub(crate) fn new(started: Tick) -> Self {
        Self::with_capacity(started, CAPACITY)
    }

    fn with_capacity(started: Tick, capacity: usize) -> Self {
        Self {
            started,
            facts: Mutex::new(Facts {
                capacity,
                ring: VecDeque::with_capacity(capacity),
                has_forgotten: false,
                waits: HashMap::new(),
            }),
        }
    }

    pub(crate) fn note(
        &self,
        at: Tick,
        key: &Arc<CacheKey>,
        span: impl Into<Span>,
        what: Happening,
    ) {
        self.lock().push(Fact {
            at,
            key: Arc::clone(key),
            span: span.into(),
            what,
        });
    }

    /// A reader waits from now on; where it did already, since then.
    pub(crate) fn begin_wait(
        &self,
        now: Tick,
        key: &Arc<CacheKey>,
        reader: ReaderId,
        offset: u64,
        is_first: bool,
    ) {
        let mut facts = self.lock();
        let wait = facts.waits.entry(reader).or_insert_with(|| Wait {
            key: Arc::clone(key),
            offset,
            since: now,
            is_first,
            put_back: Vec::new(),
        });
        // A position that was counted from the end is known by now.
        wait.offset = offset;
    }

    /// Nothing is done for these wants for now. Of readers that wait it is noted, where it is not what was noted last.
    pub(crate) fn put_back(
        &self,
        now: Tick,
        wants: &[PutBack],
        delay: impl Fn(Halt) -> Arc<Delay>,
    ) {
        let mut facts = self.lock();
        for want in wants {
            let wait = want.reader.and_then(|reader| facts.waits.get_mut(&reader));
            let Some(wait) = wait else { continue };
            let last = wait.put_back.last();
            if wait.put_back.len() < MOST_REASONS
                && last.is_none_or(|(_, last)| !last.halt.is_like(&want.halt))
            {
                wait.put_back.push((now, delay(want.halt)));
            }
        }
    }

    /// A reader waits no longer, because it has its byte or in vain.
    pub(crate) fn end_wait(&self, now: Tick, reader: ReaderId, is_served: bool) {
        let mut facts = self.lock();
        let Some(wait) = facts.waits.remove(&reader) else {
            return;
        };
        let waited = now.since(wait.since);
        if !wait.is_first && waited < SHORTEST {
            return;
        }
        let (reader, offset) = (reader.get(), wait.offset);
        let history: Vec<Fact> = wait.history(reader).collect();
        let what = if is_served {
            Happening::Served {
                reader,
                offset,
                waited,
            }
        } else {
            Happening::Unserved {
                reader,
                offset,
                waited,
            }
        };
        for fact in history {
            facts.push(fact);
        }
        facts.push(Fact {
            at: now,
            key: wait.key,
            span: Span::block(offset),
            what,
        });
    }

    /// What concerns one file, the waits of the moment included.
    pub(super) fn recall(&self, key: &CacheKey) -> Remembered {
        let facts = self.lock();
        let of_key = facts.ring.iter().filter(|fact| *fact.key == *key);
        let waiting = facts
            .waits
            .iter()
            .filter(|(_, wait)| *wait.key == *key)
            .flat_map(|(reader, wait)| wait.history(reader.get()));
        Remembered {
            started: self.started,
            oldest: facts.ring.iter().map(|fact| fact.at).min(),
            has_forgotten: facts.has_forgotten,
            facts: of_key.cloned().chain(waiting).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn push(&mut self, fact: Fact) {
        if self.ring.len() >= self.capacity {
            self.ring.pop_front();
            self.has_forgotten = true;
        }
        self.ring.push_back(fact);
    }
}

impl Wait {
    /// That it began, and why it went on.
    fn history(&self, reader: u64) -> impl Iterator<Item = Fact> + '_ {
        let offset = self.offset;
        let fact = move |at, what| Fact {
            at,
            key: Arc::clone(&self.key),
            span: Span::block(offset),
            what,
        };
        let begun = fact(self.since, Happening::Awaited { reader, offset });
        let put_back = self.put_back.iter().map(move |(at, why)| {
            let why = Arc::clone(why);
            let what = Happening::PutBack {
                reader,
                offset,
                why,
            };
            fact(*at, what)
        });
        std::iter::once(begun).chain(put_back)
    }
}

/// A reason as it is remembered: short, whatever an origin or an adapter had to say.
pub(crate) fn reason(error: &impl std::fmt::Display) -> Arc<str> {
    let mut text = error.to_string();
    if text.len() > LONGEST_REASON {
        let end = (0..=LONGEST_REASON)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Arc<CacheKey> {
        Arc::new(CacheKey::new("", path, &[""; 0]).unwrap())
    }

    #[test]
    fn a_full_ring_forgets_the_oldest_and_says_so() {
        let ring = Ring::with_capacity(Tick::ZERO, 2);
        let film = key("/film");
        for at in 1..=2 {
            ring.note(Tick::from_millis(at), &film, Span::ALL, Happening::Supplied);
        }
        assert!(!ring.recall(&film).has_forgotten);
        ring.note(
            Tick::from_millis(3),
            &key("/other"),
            Span::ALL,
            Happening::Evicted,
        );
        let remembered = ring.recall(&film);
        assert!(remembered.has_forgotten);
        assert_eq!(remembered.oldest, Some(Tick::from_millis(2)));
        assert_eq!(remembered.facts.len(), 1);
    }

    #[test]
    fn short_waits_between_pieces_take_no_room_and_first_ones_do() {
        let ring = Ring::with_capacity(Tick::ZERO, 8);
        let film = key("/film");
        let reader = ReaderId::new(1);
        let wait = |from: u64, to: u64, is_first| {
            ring.begin_wait(Tick::from_millis(from), &film, reader, 7, is_first);
            assert_eq!(
                ring.recall(&film).facts.last().unwrap().what.name(),
                "awaited"
            );
            ring.end_wait(Tick::from_millis(to), reader, true);
            ring.recall(&film).facts.len()
        };
        assert_eq!(wait(0, 49, false), 0);
        assert_eq!(wait(100, 101, true), 2);
        assert_eq!(wait(200, 250, false), 4);
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let text = reason(&"ä".repeat(LONGEST_REASON));
        assert_eq!(text.chars().count(), LONGEST_REASON / 2 + 1);
        assert!(text.ends_with('…'));
        assert_eq!(&*reason(&"short"), "short");
    }
}
