//! Waiting for a range of bytes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chunk_core::ByteRange;

use crate::error::{ReadError, WaitError};
use crate::inner::Inner;
use crate::live::Live;
use crate::waiters::{Token, Told};
use crate::waiting::Look;

/// A subscription to a range of bytes of one entry.
#[derive(Debug)]
pub struct ChunkSubscription {
    inner: Arc<Inner>,
    live: Arc<Live>,
    range: ByteRange,
    seen_failures: u64,
}

impl ChunkSubscription {
    pub(crate) fn new(inner: Arc<Inner>, live: Arc<Live>, range: ByteRange) -> Self {
        let seen_failures = live.failures_before_request();
        Self {
            inner,
            live,
            range,
            seen_failures,
        }
    }

    /// The bytes subscribed to.
    #[must_use]
    pub const fn range(&self) -> ByteRange {
        self.range
    }

    /// Waits until every byte can be read: at once where that is so already. Woken by events, never by
    /// polling.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] after `timeout`. What fails for good, or is cancelled, is reported at once.
    pub async fn wait_for_completion(&mut self, timeout: Duration) -> Result<(), WaitError> {
        let clock = Arc::clone(&self.inner.clock);
        let deadline = clock.now() + timeout;
        let mut wait = Wait {
            live: &self.live,
            token: None,
        };
        let (range, seen) = (self.range, self.seen_failures);
        let result = tokio::select! {
            biased;
            result = poll_fn(|cx| wait.poll(cx, range, seen)) => result,
            () = clock.sleep_until(deadline) => Err(WaitError::Timeout),
        };
        drop(wait);
        self.seen_failures = self.live.failures();
        result
    }
}

/// Unregisters the waiter however the wait ends.
struct Wait<'a> {
    live: &'a Live,
    token: Option<Token>,
}

impl Wait<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        range: ByteRange,
        seen_failures: u64,
    ) -> Poll<Result<(), WaitError>> {
        self.live
            .poll_for(&mut self.token, cx.waker(), |state, token| {
                // The last missing byte is likely to be the last to come: one wake-up for the whole range.
                let clipped = range.before(state.total_len().unwrap_or(u64::MAX));
                let Some(gap) = clipped.and_then(|range| state.readable.last_gap(range)) else {
                    return Look::Done(Ok(()));
                };
                let told = match state.waiters.told(token) {
                    Some(Told::Cancelled) => Some(WaitError::Cancelled),
                    Some(Told::Failed(error)) => Some(WaitError::Failed(error)),
                    None => None,
                };
                let hopeless = || {
                    Some(match state.hopeless(seen_failures)? {
                        ReadError::Failed(error) => WaitError::Failed(error),
                        ReadError::Changed => WaitError::Changed,
                        ReadError::Closed => WaitError::Manager(crate::ManagerError::Closed),
                    })
                };
                match told.or_else(hopeless) {
                    Some(error) => Look::Done(Err(error)),
                    None => Look::Await {
                        offset: gap.last(),
                        requested_from: Some(range.start()),
                    },
                }
            })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.live.lock().waiters.remove(&mut self.token);
    }
}
