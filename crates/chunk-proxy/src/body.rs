//! The body of an answer: bytes as the socket takes them, nothing held beyond one piece.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chunk_core::ByteRange;
use chunk_manager::{Piece, ReadError};
use chunk_ports::{BodyStream, FetchError};
use http_body::{Frame, SizeHint};

use crate::flush::Flushed;
use crate::multipart::Multipart;
use crate::observe::Meter;
use crate::source::{Parts, Pieces};

/// The most bytes handed to the socket at once.
const PIECE: usize = 256 * 1024;
/// The same for one of many answers on a connection, each of which holds two pieces.
const PIECE_OF_MANY: usize = 64 * 1024;
/// The same where they do not pass through memory.
const WINDOW: usize = 2 * 1024 * 1024;

/// A body for the HTTP server to pull from. Dropping it lets go of whatever it was reading.
pub(crate) struct Body {
    segments: VecDeque<Segment>,
    parts: Option<Box<dyn Parts>>,
    /// Bytes still to come, where known.
    left: Option<u64>,
    meter: Meter,
    flushed: Option<Arc<Flushed>>,
    /// The longest piece that passes through memory.
    most: usize,
    /// A failure that waits for what came before it to be written.
    failing: Option<BodyError>,
}

/// How bytes reach the socket.
#[derive(Clone, Copy)]
enum Way {
    /// Through this process's memory.
    Memory,
    /// Or past it.
    Socket,
}

enum Segment {
    Text(Bytes),
    /// The bytes, and how many of them; `None` for as many as there are.
    Pieces(Box<dyn Pieces>, Option<u64>),
    /// A range to be read with `Body::parts` when its turn comes.
    Range(ByteRange),
    Forwarded(BodyStream),
}

/// Why a body ends before its end. The connection is cut, so that no client takes a part for the whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("reading failed: {0}")]
    Read(#[from] ReadError),
    #[error("the origin's answer broke off: {0}")]
    Forward(#[from] FetchError),
    #[error("the file ended before the length that was promised")]
    Short,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::new(VecDeque::new(), Some(0))
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let len = text.len() as u64;
        if text.is_empty() {
            return Self::empty();
        }
        Self::new([Segment::Text(text)].into(), Some(len))
    }

    pub(crate) fn pieces(pieces: Box<dyn Pieces>, len: Option<u64>) -> Self {
        Self::new([Segment::Pieces(pieces, len)].into(), len)
    }

    pub(crate) fn multipart(plan: &Multipart, parts: Box<dyn Parts>) -> Self {
        let mut segments = VecDeque::with_capacity(plan.parts().len() * 2 + 1);
        for part in plan.parts() {
            segments.push_back(Segment::Text(part.head.clone()));
            segments.push_back(Segment::Range(part.range));
        }
        segments.push_back(Segment::Text(plan.closing()));
        let mut body = Self::new(segments, Some(plan.len()));
        body.parts = Some(parts);
        body
    }

    pub(crate) fn forwarded(body: BodyStream, len: Option<u64>) -> Self {
        Self::new([Segment::Forwarded(body)].into(), len)
    }

    fn new(segments: VecDeque<Segment>, left: Option<u64>) -> Self {
        Self {
            segments,
            parts: None,
            left,
            meter: Meter::default(),
            flushed: None,
            most: PIECE,
            failing: None,
        }
    }

    /// The exact length, where known.
    pub(crate) const fn len(&self) -> Option<u64> {
        self.left
    }

    /// The same body, measured, on a connection that tells when it is flushed.
    pub(crate) fn on_connection(mut self, meter: Meter, flushed: Option<Arc<Flushed>>) -> Self {
        self.meter = meter;
        self.flushed = flushed;
        self
    }

    /// The same body, one of many on a connection.
    pub(crate) const fn among_many(mut self) -> Self {
        self.most = PIECE_OF_MANY;
        self
    }

    /// Fails once all that came before is written.
    fn poll_fail(&mut self, cx: &Context<'_>, error: BodyError) -> Poll<BodyError> {
        if let Some(flushed) = &self.flushed
            && flushed.poll_next(cx).is_pending()
        {
            self.failing = Some(error);
            return Poll::Pending;
        }
        self.meter.broken();
        tracing::debug!(%error, "answer cut short");
        Poll::Ready(error)
    }

    /// The next bytes for a socket that puts windows where they belong; `None` at the end. After an error, which
    /// comes when what was before it is written, nothing more does.
    pub(crate) fn poll_for_socket(
        &mut self,
        cx: &mut Context<'_>,
        takes_windows: bool,
    ) -> Poll<Option<Result<Piece, BodyError>>> {
        let way = if takes_windows {
            Way::Socket
        } else {
            Way::Memory
        };
        let polled = ready!(self.poll_next(cx, way));
        match &polled {
            Some(Ok(piece)) => {
                let len = match piece {
                    Piece::Bytes(bytes) => bytes.len(),
                    Piece::Window(window) => window.len(),
                };
                self.note_given(len as u64);
            }
            Some(Err(error)) => {
                self.let_go();
                self.meter.broken();
                tracing::debug!(%error, "answer cut short");
            }
            None => self.meter.finished(),
        }
        Poll::Ready(polled)
    }

    /// The last `count` bytes of the last window could not be put into the socket; they come again.
    pub(crate) fn unread(&mut self, count: usize) {
        let bytes = count as u64;
        if let Some(left) = &mut self.left {
            *left += bytes;
        }
        if let Some(Segment::Pieces(pieces, left)) = self.segments.front_mut() {
            if let Some(left) = left {
                *left += bytes;
            }
            pieces.unread(count);
        }
        self.meter.unsent(bytes);
    }

    fn note_given(&mut self, len: u64) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(len);
        }
        self.meter.sent(len);
    }

    /// Nothing more will be read, whenever the client takes what there is.
    fn let_go(&mut self) {
        self.segments.clear();
        self.parts = None;
    }

    /// The next bytes; `None` at the end.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        way: Way,
    ) -> Poll<Option<Result<Piece, BodyError>>> {
        loop {
            let Some(segment) = self.segments.front_mut() else {
                return Poll::Ready(match self.left {
                    Some(left) if left > 0 => Some(Err(BodyError::Short)),
                    _ => None,
                });
            };
            match segment {
                Segment::Text(text) => {
                    let text = std::mem::take(text);
                    self.segments.pop_front();
                    return Poll::Ready(Some(Ok(Piece::Bytes(text))));
                }
                Segment::Range(range) => {
                    let range = *range;
                    match self.parts.as_mut() {
                        Some(parts) => {
                            *segment = Segment::Pieces(parts.part(range), Some(range.len()));
                        }
                        None => return Poll::Ready(Some(Err(BodyError::Short))),
                    }
                }
                Segment::Pieces(pieces, left) => {
                    let most = match way {
                        Way::Memory => self.most,
                        Way::Socket => WINDOW,
                    };
                    let max = left.map_or(most, |left| {
                        usize::try_from(left).map_or(most, |left| left.min(most))
                    });
                    let piece = if max == 0 {
                        None
                    } else {
                        match way {
                            Way::Memory => ready!(pieces.poll_piece(cx, max))
                                .transpose()?
                                .map(Piece::Bytes),
                            Way::Socket => ready!(pieces.poll_for_socket(cx, max)).transpose()?,
                        }
                    };
                    let Some(piece) = piece else {
                        if left.is_some_and(|left| left > 0) {
                            return Poll::Ready(Some(Err(BodyError::Short)));
                        }
                        self.segments.pop_front();
                        continue;
                    };
                    if let Some(left) = left {
                        *left = left.saturating_sub(match &piece {
                            Piece::Bytes(bytes) => bytes.len() as u64,
                            Piece::Window(window) => window.len() as u64,
                        });
                        // Let go of the reader with its last byte, not when the client has taken it. What is
                        // left of a window may be read again.
                        if *left == 0 && matches!(piece, Piece::Bytes(_)) {
                            self.segments.pop_front();
                        }
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Segment::Forwarded(body) => {
                    match ready!(body.as_mut().poll_next(cx)).transpose()? {
                        Some(piece) => return Poll::Ready(Some(Ok(Piece::Bytes(piece)))),
                        None => {
                            self.segments.pop_front();
                        }
                    }
                }
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.failing.take() {
            let error = ready!(this.poll_fail(cx, error));
            return Poll::Ready(Some(Err(error)));
        }
        let polled = ready!(this.poll_next(cx, Way::Memory));
        Poll::Ready(match polled {
            // Nobody gets a window who has not asked for one.
            Some(Ok(Piece::Window(_))) => Some(Err(BodyError::Short)),
            Some(Ok(Piece::Bytes(piece))) => {
                this.note_given(piece.len() as u64);
                if this.left == Some(0) {
                    this.meter.finished();
                }
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => {
                this.let_go();
                Some(Err(ready!(this.poll_fail(cx, error))))
            }
            None => {
                this.meter.finished();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.failing.is_none() && self.segments.is_empty() && self.left.is_none_or(|left| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
