//! Word from the socket back to the body.
//!
//! The HTTP server drops what it still holds when a body fails, even the head of the answer. What came
//! before the failure is good, and a player can use it and ask for the rest; so a failing body waits until
//! everything it handed over has been written, and fails then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Whether somebody waits for the connection's next flush.
#[derive(Debug, Default)]
pub(crate) struct Flushed(Mutex<Waiting>);

#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nobody,
    For(Waker),
    Over,
}

impl Flushed {
    /// Ready once the connection has been flushed after the first call.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if matches!(*waiting, Waiting::Over) {
            *waiting = Waiting::Nobody;
            return Poll::Ready(());
        }
        *waiting = Waiting::For(cx.waker().clone());
        Poll::Pending
    }

    /// Everything handed to the connection has been written.
    pub(crate) fn note(&self) {
        let mut waiting = self.lock();
        if let Waiting::For(waker) = &*waiting {
            waker.wake_by_ref();
            *waiting = Waiting::Over;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
