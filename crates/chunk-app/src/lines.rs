//! A response body of one JSON object per line, as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use crate::wire::FetchEvent;

/// Ends when the channel does. Dropping it closes the channel.
#[derive(Debug)]
pub(crate) struct LineBody(mpsc::Receiver<FetchEvent>);

impl LineBody {
    pub(crate) const fn new(events: mpsc::Receiver<FetchEvent>) -> Self {
        Self(events)
    }
}

impl Body for LineBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let event = ready!(self.0.poll_recv(cx));
        // An event is strings and numbers, which always have a JSON form.
        let line = event.and_then(|event| serde_json::to_vec(&event).ok());
        Poll::Ready(line.map(|mut line| {
            line.push(b'\n');
            Ok(Frame::data(line.into()))
        }))
    }
}
