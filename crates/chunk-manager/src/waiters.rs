//! Who waits for which byte.
//!
//! A waiter registers and checks under one lock, and whoever makes bytes readable changes coverage and
//! finds the waiters under that same lock, so no wake-up can fall in between. Wakers are called after the
//! lock is released.

use std::collections::BTreeMap;
use std::task::Waker;

use chunk_core::{ByteRange, Priority, RangeSet};

use crate::error::OpenError;

/// The offset under which those wait who wait for the length and not for a byte.
pub(crate) const LENGTH: u64 = u64::MAX;

/// Names one registered waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    offset: u64,
    number: u64,
}

#[derive(Debug)]
struct Waiter {
    waker: Waker,
    /// Where the range begins that was asked for, up to the byte that is waited for. What becomes of
    /// requests is told to these waiters only: a reader's wait is not a request's.
    requested_from: Option<u64>,
    told: Option<Told>,
    /// The level at which its byte was asked for, once a run has brought it.
    brought_at: Option<Priority>,
}

/// What a waiter for requested bytes may be told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Cancelled,
    Failed(OpenError),
}

/// The waiters of one source, by the byte each waits for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    next: u64,
    waiting: BTreeMap<Token, Waiter>,
}

impl Waiters {
    /// Registers a waiter for the byte at `offset`, in place of the one `token` names.
    pub(crate) fn register(
        &mut self,
        token: &mut Option<Token>,
        offset: u64,
        requested_from: Option<u64>,
        waker: &Waker,
    ) {
        self.remove(token);
        let new = Token {
            offset,
            number: self.next,
        };
        self.next += 1;
        self.waiting.insert(
            new,
            Waiter {
                waker: waker.clone(),
                requested_from,
                told: None,
                brought_at: None,
            },
        );
        *token = Some(new);
    }

    /// The last byte that a reader waits for.
    pub(crate) fn furthest_read(&self) -> Option<u64> {
        let mut waiting = self.waiting.iter().rev();
        waiting
            .find(|(token, waiter)| token.offset != LENGTH && waiter.requested_from.is_none())
            .map(|(token, _)| token.offset)
    }

    /// Forgets a waiter.
    pub(crate) fn remove(&mut self, token: &mut Option<Token>) {
        if let Some(token) = token.take() {
            self.waiting.remove(&token);
        }
    }

    /// What became of the request this waiter waits for.
    pub(crate) fn told(&self, token: Option<Token>) -> Option<Told> {
        self.waiting.get(&token?)?.told.clone()
    }

    /// The level at which what a waiter waited for was asked for; `None` where no run brought it.
    pub(crate) fn brought_at(&self, token: Option<Token>) -> Option<Priority> {
        self.waiting.get(&token?)?.brought_at
    }

    /// How to wake those who wait for a byte of `range`, which has come from a run of that level, or by other means.
    /// They stay registered until they have looked again: what they are told in between must not be lost.
    pub(crate) fn of(&mut self, range: ByteRange, level: Option<Priority>) -> Vec<Waker> {
        let at = |offset| Token { offset, number: 0 };
        self.waiting
            .range_mut(at(range.start())..at(range.end()))
            .map(|(_, waiter)| {
                waiter.brought_at = level;
                waiter.waker.clone()
            })
            .collect()
    }

    /// How to wake everybody.
    pub(crate) fn all(&self) -> Vec<Waker> {
        self.waiting
            .values()
            .map(|waiter| waiter.waker.clone())
            .collect()
    }

    /// Tells those who wait for requested bytes of `range`, which are not `readable`, what became of them.
    pub(crate) fn tell(
        &mut self,
        range: ByteRange,
        told: &Told,
        readable: &RangeSet,
    ) -> Vec<Waker> {
        let from = Token {
            offset: range.start(),
            number: 0,
        };
        self.waiting
            .range_mut(from..)
            .filter(|(token, waiter)| {
                // A waiter stands at the last byte that it lacks; it may lack others before that one.
                waiter
                    .requested_from
                    .and_then(|start| ByteRange::try_new(start, token.offset.checked_add(1)?))
                    .and_then(|wanted| wanted.intersection(range))
                    .is_some_and(|both| !readable.contains_range(both))
            })
            .map(|(_, waiter)| {
                // What was told first stands: a failure is also withdrawn from the queue.
                waiter.told.get_or_insert_with(|| told.clone());
                waiter.waker.clone()
            })
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    #[test]
    fn only_waiters_inside_the_range_are_woken() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut waiters = Waiters::default();
        let mut tokens = [None; 4];
        for (token, offset) in tokens.iter_mut().zip([9, 10, 19, 20]) {
            waiters.register(token, offset, None, &waker);
        }
        for waker in waiters.of(range(10, 20), None) {
            waker.wake();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn trap06_the_waiter_map_is_pruned() {
        let waker = Waker::noop();
        let mut waiters = Waiters::default();
        for offset in 0..1_000 {
            let mut token = None;
            waiters.register(&mut token, offset, Some(0), waker);
            waiters.register(&mut token, offset + 1, Some(0), waker);
            waiters.remove(&mut token);
            assert!(token.is_none());
        }
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn r21_a_cancel_reaches_request_waiters_only() {
        let waker = Waker::noop();
        let mut waiters = Waiters::default();
        let (mut request, mut reader) = (None, None);
        waiters.register(&mut request, 50, Some(40), waker);
        waiters.register(&mut reader, 50, None, waker);
        let readable = RangeSet::from_iter([range(40, 45)]);
        for elsewhere in [range(0, 40), range(51, 60), range(40, 45)] {
            let woken = waiters.tell(elsewhere, &Told::Cancelled, &readable);
            assert!(woken.is_empty(), "{elsewhere}");
        }
        let woken = waiters.tell(range(44, 46), &Told::Cancelled, &readable);
        assert_eq!(woken.len(), 1);
        assert!(matches!(waiters.told(request), Some(Told::Cancelled)));
        assert!(waiters.told(reader).is_none());
    }
}
