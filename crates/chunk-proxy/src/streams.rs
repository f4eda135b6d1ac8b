//! HTTP/2 (RFC 9113): many requests at once on one connection, each answered as it would be alone.
//!
//! A body is asked for its next piece when nothing of the last one waits to be sent any more: what a client does not take
//! is not read, and what breaks off ends with a reset behind everything that came before. The server library for HTTP/1.1
//! has its own layer over the same protocol library, which reads one piece further and drops what waits when it resets.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection as Spoken, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use tokio::task::JoinSet;

use crate::answer::{Answerer, Connection};
use crate::body::{Body, BodyError};
use crate::framing::MAX_HEAD;
use crate::gathered::Gathered;
use crate::heads::Date;
use crate::patience::{Closing, Patience};
use crate::seats::Seat;
use crate::wire::Wire;

/// How many requests of one client are answered at once: far more than a player has, and few enough that what they may
/// hold in memory is little. RFC 9113, 6.5.2, recommends no fewer than 100 where requests are many and small.
const MOST_STREAMS: u32 = 32;
/// How many streams a client may begin and take back before they are looked at. Whoever does nothing else is cut off.
const MOST_TAKEN_BACK: usize = 32;
/// How many streams that were reset are remembered, so that what is still on its way to them is no fault.
const REMEMBERED: usize = 32;
/// With any more the library would take a second piece while it has one.
const ONE_PIECE: usize = 1;
/// How long a client with nothing under way may take to agree to the end of the connection: less than who waits for its
/// place does.
const MOMENT: Duration = Duration::from_millis(250);

/// A connection on which the client has said that it speaks HTTP/2.
pub(crate) struct Streams<W> {
    spoken: Spoken<Gathered<W>, Bytes>,
    wire: Gathered<W>,
}

impl<W: Wire + Send + 'static> Streams<W> {
    /// Waits for the client's first words.
    pub(crate) async fn begin(mut wire: W) -> io::Result<Self> {
        wire.hold_little();
        let wire = Gathered::new(wire);
        let mut beginning = h2::server::Builder::new()
            .max_concurrent_streams(MOST_STREAMS)
            .max_pending_accept_reset_streams(MOST_TAKEN_BACK)
            .max_concurrent_reset_streams(REMEMBERED)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buffer_size(ONE_PIECE)
            .handshake(wire.clone());
        let spoken = poll_fn(|cx| {
            if let Poll::Ready(spoken) = Pin::new(&mut beginning).poll(cx) {
                return Poll::Ready(spoken.map_err(io::Error::other));
            }
            // Our own first words do not wait for the client's.
            match wire.poll_out(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            }
        });
        let spoken = spoken.await?;
        Ok(Self { spoken, wire })
    }

    /// Answers until the client leaves, asks for nothing for too long, or `closing` is ready; then what is under way is
    /// the last.
    pub(crate) async fn serve(
        self,
        answerer: &Arc<Answerer>,
        connection: &Arc<Connection>,
        seat: &Seat,
        closing: &mut Closing<impl Future<Output = ()>>,
    ) {
        let Self { mut spoken, wire } = self;
        // Whoever drops this connection drops whatever its streams are waiting for.
        let mut answers = JoinSet::new();
        let mut idle = Patience::new(answerer.config.header_timeout);
        let mut is_ending = false;
        let mut is_idle = true;
        // An answer is over when its last piece is on its way, which is later than when it was given to be sent.
        let unsent = Arc::new(());
        idle.begin();
        seat.rest();
        let ended = poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(_)) = answers.poll_join_next(cx) {}
                match spoken.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        if std::mem::take(&mut is_idle) {
                            seat.work();
                        }
                        let (answerer, connection) = (Arc::clone(answerer), Arc::clone(connection));
                        let unsent = Arc::clone(&unsent);
                        let answer = async move {
                            // What a stream came to is its client's to know.
                            let _ = answer(&answerer, &connection, request, respond, unsent).await;
                        };
                        answers.spawn(answer);
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(io::Error::other(error)));
                    }
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
                // There is nothing more to say for now.
                let is_out = wire.poll_out(cx)?.is_ready();
                // Pieces are let go of by the library, which does nothing but in this task.
                let is_over = is_out && answers.is_empty() && Arc::strong_count(&unsent) == 1;
                if is_over && !std::mem::replace(&mut is_idle, is_over) {
                    seat.rest();
                    idle.begin();
                }
                if is_ending {
                    return match is_idle {
                        true => idle.poll_over(cx).map(Ok),
                        false => Poll::Pending,
                    };
                }
                let has_rested = is_idle && idle.poll_over(cx).is_ready();
                if !has_rested
                    && closing.poll_over(cx).is_pending()
                    && seat.poll_wanted(cx).is_pending()
                {
                    return Poll::Pending;
                }
                is_ending = true;
                idle = Patience::new(MOMENT);
                idle.begin();
                spoken.graceful_shutdown();
            }
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Answers one request. An error says that the client does not want the answer any more.
async fn answer(
    answerer: &Answerer,
    connection: &Connection,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    unsent: Arc<()>,
) -> Result<(), h2::Error> {
    let is_head = request.method() == Method::HEAD;
    let mut answering = Box::pin(answerer.answer(request.map(Asked), connection));
    let response = poll_fn(|cx| {
        // Nothing is begun for who has taken it back already.
        if let Poll::Ready(reset) = respond.poll_reset(cx) {
            return Poll::Ready(gone(reset));
        }
        answering.as_mut().poll(cx).map(Ok)
    })
    .await?;
    // What it takes is given back before the bytes are sent, which takes longest.
    drop(answering);
    let (mut parts, body) = response.into_parts();
    // RFC 9113, 8.2.2: the fields of a connection mean nothing here.
    parts.headers.remove(CONNECTION);
    let has_body = !is_head
        && parts.status != StatusCode::NO_CONTENT
        && parts.status != StatusCode::NOT_MODIFIED;
    if has_body && let Some(len) = body.len() {
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| len.into());
    }
    if let Ok(date) = HeaderValue::from_bytes(Date::default().now()) {
        parts.headers.entry(DATE).or_insert(date);
    }
    let is_all = body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(parts, ()), is_all)?;
    if is_all {
        return Ok(());
    }
    let body = body.among_many();
    Sending {
        stream,
        body,
        unsent,
    }
    .all()
    .await
}

/// A body on its way.
struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    /// Held by each piece until it is on its way.
    unsent: Arc<()>,
}

/// A piece that is to be sent.
struct Unsent {
    piece: Bytes,
    _is_unsent: Arc<()>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Sending {
    async fn all(mut self) -> Result<(), h2::Error> {
        loop {
            let Some(piece) = poll_fn(|cx| self.poll_piece(cx)).await? else {
                return self.stream.send_data(Bytes::new(), true);
            };
            // The length of the next piece is known before there is room for it: room that is asked for any earlier
            // would be kept from others while this one waits for its origin.
            self.stream.reserve_capacity(1);
            poll_fn(|cx| self.poll_room(cx)).await?;
            match piece {
                Ok(piece) => {
                    let is_last = self.body.is_end_stream();
                    let piece = Bytes::from_owner(Unsent {
                        piece,
                        _is_unsent: Arc::clone(&self.unsent),
                    });
                    self.stream.send_data(piece, is_last)?;
                    if is_last {
                        return Ok(());
                    }
                }
                Err(_) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Ok(());
                }
            }
        }
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Result<Bytes, BodyError>>, h2::Error>> {
        if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
            return Poll::Ready(gone(reset));
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Ok(Some(Err(error)))),
                None => return Poll::Ready(Ok(None)),
            };
            if let Ok(piece) = frame.into_data()
                && !piece.is_empty()
            {
                return Poll::Ready(Ok(Some(Ok(piece))));
            }
        }
    }

    /// Ready when all that was given to be sent before is on its way, and the client takes more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
            return Poll::Ready(gone(reset));
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What it means that the client has reset a stream.
fn gone<T>(reset: Result<Reason, h2::Error>) -> Result<T, h2::Error> {
    Err(reset.map_or_else(|error| error, Into::into))
}

/// The body of a request.
struct Asked(RecvStream);

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        // Trailers are dropped.
        let Some(data) = ready!(self.0.poll_data(cx)) else {
            return Poll::Ready(None);
        };
        let data = data.and_then(|data| {
            // Whoever reads it asks for more when it has been passed on.
            self.0.flow_control().release_capacity(data.len())?;
            Ok(Frame::data(data))
        });
        Poll::Ready(Some(data))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
