//! Who waits for which byte.
//!
//! A waiter registers and checks under one lock, and whoever makes bytes readable changes coverage and
//! takes the waiters out under that same lock, so no wake-up can fall in between. Wakers are called after the
//! lock is released.

use std::collections::BTreeMap;
use std::task::Waker;

use chunk_core::ByteRange;

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
    /// Whether cancelling a request tells this waiter. A reader's wait is not a request's.
    hears_cancel: bool,
    is_cancelled: bool,
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
        hears_cancel: bool,
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
                hears_cancel,
                is_cancelled: false,
            },
        );
        *token = Some(new);
    }

    /// Forgets a waiter.
    pub(crate) fn remove(&mut self, token: &mut Option<Token>) {
        if let Some(token) = token.take() {
            self.waiting.remove(&token);
        }
    }

    /// Whether the request this waiter waits for was cancelled.
    pub(crate) fn is_cancelled(&self, token: Option<Token>) -> bool {
        token
            .and_then(|token| self.waiting.get(&token))
            .is_some_and(|waiter| waiter.is_cancelled)
    }

    /// Takes out those who wait for a byte of `range`.
    pub(crate) fn take(&mut self, range: ByteRange) -> Vec<Waker> {
        let at = |offset| Token { offset, number: 0 };
        let mut rest = self.waiting.split_off(&at(range.start()));
        let mut after = rest.split_off(&at(range.end()));
        self.waiting.append(&mut after);
        rest.into_values().map(|waiter| waiter.waker).collect()
    }

    /// Takes out those who wait for the length.
    pub(crate) fn take_length(&mut self) -> Vec<Waker> {
        self.waiting
            .split_off(&Token {
                offset: LENGTH,
                number: 0,
            })
            .into_values()
            .map(|waiter| waiter.waker)
            .collect()
    }

    /// Takes out everybody.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|waiter| waiter.waker)
            .collect()
    }

    /// Tells those who wait for a requested byte of `range` that nobody fetches it any more.
    pub(crate) fn cancel(&mut self, range: ByteRange) -> Vec<Waker> {
        let at = |offset| Token { offset, number: 0 };
        self.waiting
            .range_mut(at(range.start())..at(range.end()))
            .filter(|(_, waiter)| waiter.hears_cancel)
            .map(|(_, waiter)| {
                waiter.is_cancelled = true;
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
    fn only_waiters_inside_the_range_are_taken() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut waiters = Waiters::default();
        let mut tokens = [None; 4];
        for (token, offset) in tokens.iter_mut().zip([9, 10, 19, 20]) {
            waiters.register(token, offset, false, &waker);
        }
        for waker in waiters.take(range(10, 20)) {
            waker.wake();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert_eq!(waiters.len(), 2);
    }

    #[test]
    fn trap06_the_waiter_map_is_pruned() {
        let waker = Waker::noop();
        let mut waiters = Waiters::default();
        for offset in 0..1_000 {
            let mut token = None;
            waiters.register(&mut token, offset, true, waker);
            waiters.register(&mut token, offset + 1, true, waker);
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
        waiters.register(&mut request, 5, true, waker);
        waiters.register(&mut reader, 5, false, waker);
        assert_eq!(waiters.cancel(range(0, 10)).len(), 1);
        assert!(waiters.is_cancelled(request));
        assert!(!waiters.is_cancelled(reader));
    }
}
