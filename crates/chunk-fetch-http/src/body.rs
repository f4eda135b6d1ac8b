//! The body of an answer, held to its promises.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use chunk_ports::{BodyStream, FetchError};
use futures_core::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// Bytes off the wire, as a library gives them.
type Wire = Pin<Box<dyn Stream<Item = Result<Bytes, FetchError>> + Send>>;

/// The bytes off the wire: never more than promised, an error where they are fewer, and a limit to how
/// long nothing may come.
pub(crate) struct CheckedBody {
    /// `None` once the body is over. Dropping it closes the connection unless all of it was read.
    wire: Option<Wire>,
    /// How many bytes are still to come, where known.
    remaining: Option<u64>,
    progress: Progress,
    /// One of the origin's connections, given back when the body is over.
    permit: Option<OwnedSemaphorePermit>,
}

impl CheckedBody {
    /// The bytes of `wire`, of which `promised` are wanted.
    pub(crate) fn stream(
        wire: impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static,
        promised: Option<u64>,
        progress_timeout: Duration,
        permit: OwnedSemaphorePermit,
    ) -> BodyStream {
        Box::pin(Self {
            wire: Some(Box::pin(wire)),
            remaining: promised,
            progress: Progress::new(progress_timeout),
            permit: Some(permit),
        })
    }

    fn finish(&mut self) {
        self.wire = None;
        self.permit = None;
    }
}

impl Stream for CheckedBody {
    type Item = Result<Bytes, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(wire) = &mut this.wire else {
            return Poll::Ready(None);
        };
        this.progress.back();
        let polled = wire.as_mut().poll_next(cx);
        if this.remaining == Some(0) {
            // All is here. The one poll above lets the library see the end of the message and keep the
            // connection; an end that is still on its way is not worth waiting for, and more bytes than
            // promised are worth a closed connection.
            this.finish();
            return Poll::Ready(None);
        }
        let item = match polled {
            Poll::Ready(item) => item,
            Poll::Pending => {
                ready!(this.progress.poll_exhausted(cx));
                this.finish();
                return Poll::Ready(Some(Err(FetchError::Stalled)));
            }
        };
        match item {
            Some(Ok(mut bytes)) => {
                if let Some(remaining) = &mut this.remaining {
                    let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX);
                    bytes.truncate(wanted);
                    *remaining -= bytes.len() as u64;
                }
                this.progress.came(bytes.len());
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => {
                this.finish();
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish();
                let Some(missing) = this.remaining else {
                    return Poll::Ready(None);
                };
                let short = format!("the body ended {missing} bytes early");
                Poll::Ready(Some(Err(FetchError::Interrupted(short.into()))))
            }
        }
    }
}

/// Fewer bytes than this within the timeout are no progress: a byte now and then plays no film.
const MIN_PROGRESS: usize = 1024;

/// A timeout that runs only while somebody waits.
struct Progress {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    /// How many bytes came since the timer was started, while it runs.
    since_start: Option<usize>,
    /// When the caller was last given something and went away with it.
    left_at: Option<Instant>,
}

impl Progress {
    fn new(timeout: Duration) -> Self {
        // A day is as good as for ever, and no clock overflows by it.
        let timeout = timeout.min(Duration::from_secs(24 * 3600));
        Self {
            timeout,
            sleep: Box::pin(tokio::time::sleep(timeout)),
            since_start: None,
            left_at: None,
        }
    }

    /// The caller is back: the time it was away is added to the timer's.
    fn back(&mut self) {
        if let Some(left_at) = self.left_at.take() {
            let deadline = self.sleep.deadline() + left_at.elapsed();
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// The caller goes away with `bytes`.
    fn came(&mut self, bytes: usize) {
        self.since_start = self
            .since_start
            .map(|before| before + bytes)
            .filter(|bytes| *bytes < MIN_PROGRESS);
        self.left_at = self.since_start.map(|_| Instant::now());
    }

    /// Ready once the caller has waited for the timeout.
    fn poll_exhausted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        // One that waits is woken by the timer itself. One that comes back long after it rang had stopped
        // waiting; it begins anew.
        let absent = now > self.sleep.deadline() + self.timeout / 2;
        if self.since_start.is_none() || absent {
            self.sleep.as_mut().reset(now + self.timeout);
            self.since_start = Some(0);
        }
        self.sleep.as_mut().poll(cx)
    }
}
