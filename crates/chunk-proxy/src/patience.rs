//! How long a connection may go on without a request: until its client is too slow, or it is wished to end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The end of a server's patience with a client that is to send a head.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    ends: Instant,
    /// Armed for an end that may have moved since: setting a timer for every request would cost more than one that
    /// goes off too early now and then.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            ends: Instant::now(),
            timer: None,
        }
    }

    /// From now on, with its limit anew.
    pub(crate) fn begin(&mut self) {
        self.ends = Instant::now() + self.limit;
    }

    /// Ready once the limit has passed since the last beginning.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ends = self.ends;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(ends)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= ends {
                return Poll::Ready(());
            }
            timer.as_mut().reset(ends);
        }
    }
}

/// The wish that a connection end, which may be asked after any number of times.
#[derive(Debug)]
pub(crate) struct Closing<F> {
    wish: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Closing<F> {
    pub(crate) fn new(wish: F) -> Self {
        Self {
            wish: Some(Box::pin(wish)),
        }
    }

    /// Whether the wish has been made.
    pub(crate) async fn is_over(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_over(cx).is_ready())).await
    }

    /// Ready once the wish has been made.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wish) = &mut self.wish {
            ready!(wish.as_mut().poll(cx));
            self.wish = None;
        }
        Poll::Ready(())
    }
}
