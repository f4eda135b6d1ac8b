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

use crate::failure::{Side, within_body};

type Wire = Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>;

/// The bytes off the wire: never more than promised, an error where they are fewer, and a limit to how
/// long nothing may come.
pub(crate) struct CheckedBody {
    /// `None` once the body is over. Dropping it closes the connection unless all of it was read.
    wire: Option<Wire>,
    /// How many bytes are still to come, where known.
    remaining: Option<u64>,
    progress: Progress,
    side: Side,
    /// One of the origin's connections, given back when the body is over.
    permit: Option<OwnedSemaphorePermit>,
}

impl CheckedBody {
    /// The body of `answer`, of which `promised` bytes are wanted.
    pub(crate) fn stream(
        answer: reqwest::Response,
        promised: Option<u64>,
        progress_timeout: Duration,
        side: Side,
        permit: OwnedSemaphorePermit,
    ) -> BodyStream {
        // A day is as good as for ever, and no clock overflows by it.
        let progress_timeout = progress_timeout.min(Duration::from_secs(24 * 3600));
        Box::pin(Self {
            wire: Some(Box::pin(answer.bytes_stream())),
            remaining: promised,
            progress: Progress {
                timeout: progress_timeout,
                sleep: Box::pin(tokio::time::sleep(progress_timeout)),
                armed: false,
            },
            side,
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
        this.progress.armed = false;
        match item {
            Some(Ok(mut bytes)) => {
                if let Some(remaining) = &mut this.remaining {
                    let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX);
                    bytes.truncate(wanted);
                    *remaining -= bytes.len() as u64;
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => {
                this.finish();
                Poll::Ready(Some(Err(within_body(error, this.side))))
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

/// A timeout that runs only while somebody waits.
struct Progress {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

impl Progress {
    /// Ready once the wait has lasted for the timeout.
    fn poll_exhausted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        // A caller that comes back long after the timer rang was not waiting all that time; it begins anew.
        // One that waits is woken by the timer itself, far sooner than this.
        let absent = now > self.sleep.deadline() + self.timeout / 2;
        if !self.armed || absent {
            self.sleep.as_mut().reset(now + self.timeout);
            self.armed = true;
        }
        self.sleep.as_mut().poll(cx)
    }
}
