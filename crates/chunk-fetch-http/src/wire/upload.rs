//! What goes up with a request.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use chunk_ports::{BodyStream, FetchError};
use http_body::{Body, Frame, SizeHint};

/// A request's body, or that it has none.
pub(crate) struct Upload(Option<BodyStream>);

impl Upload {
    pub(crate) const fn new(body: Option<BodyStream>) -> Self {
        Self(body)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = body.as_mut().poll_next(cx);
        polled.map(|item| item.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0 {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
