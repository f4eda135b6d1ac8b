//! The short way for plain requests: GET and HEAD over HTTP/1.1, with nothing behind the head.
//!
//! That is all that players send. They are answered here, by the same [`Answerer`] as everything else, with bytes that
//! need not pass through memory; the first request of any other kind, and whatever comes after it, is the server
//! library's. The lane is as strict as the gate in front of the library: it takes what the gate would let through, and
//! hands over what it does not understand, so that there is one place that refuses.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chunk_manager::Piece;
use chunk_ports::Put;
use http::{Request, Response};
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep};

use crate::again::{Like, Memory};
use crate::answer::{Answerer, Connection};
use crate::body::Body;
use crate::framing::{MAX_HEAD, find_end};
use crate::heads::{Date, Plain, parse, write_head};
use crate::patience::{Closing, Patience};
use crate::seats::Seat;
use crate::wire::Wire;

/// How many bytes are read from the socket at once while looking for a head.
const READ_SIZE: usize = 4 * 1024;
/// How much of the requests to come is taken in while one is answered.
const READ_AHEAD: usize = 16 * 1024;
/// How long a head waits for the first bytes of its body, to go out with them. An origin sends them a moment after its
/// own head, and when many wait for them each write less is time for the others.
const TOGETHER: Duration = Duration::from_millis(1);

/// Why the lane ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection is over.
    Over,
    /// These bytes, and what follows them, are for the library.
    Library(Vec<u8>),
}

/// A connection while it carries plain requests.
#[derive(Debug)]
pub(crate) struct Lane<'a, W> {
    wire: &'a mut W,
    answerer: &'a Answerer,
    connection: &'a Connection,
    seat: &'a Seat,
    /// Read and not answered yet.
    read: Vec<u8>,
    /// How far that has been searched for the end of a head.
    scanned: usize,
    patience: Patience,
    date: Date,
    memory: Memory,
    /// Whether the client has asked before: who asks once need not be remembered.
    has_asked: bool,
}

/// What waiting for a head comes to.
enum Waited {
    /// It ends there.
    Head(usize),
    /// It is like one before.
    Like(Like),
    Library,
    Over,
}

/// How an answer ends.
#[derive(PartialEq, Eq)]
enum Sent {
    Whole,
    /// The client has left, or the bytes could not be had.
    Cut,
}

impl<'a, W: Wire> Lane<'a, W> {
    pub(crate) fn new(
        wire: &'a mut W,
        answerer: &'a Answerer,
        connection: &'a Connection,
        seat: &'a Seat,
    ) -> Self {
        Self {
            wire,
            answerer,
            connection,
            seat,
            read: Vec::new(),
            scanned: 0,
            patience: Patience::new(answerer.config.header_timeout),
            date: Date::default(),
            memory: Memory::default(),
            has_asked: false,
        }
    }

    /// Answers plain requests until there are none; when `closing` is ready, the answer under way is the last.
    pub(crate) async fn serve(mut self, closing: &mut Closing<impl Future<Output = ()>>) -> End {
        loop {
            self.patience.begin();
            self.seat.rest();
            let waited = poll_fn(|cx| self.poll_head(cx, closing)).await;
            if !matches!(waited, Waited::Over) {
                self.seat.work();
            }
            let (end, like) = match waited {
                Waited::Head(end) => (end, None),
                Waited::Like(like) => (like.end, Some(like)),
                Waited::Library => return End::Library(self.read),
                Waited::Over => {
                    self.shut_down().await;
                    return End::Over;
                }
            };
            let again = match like {
                Some(like) => {
                    let is_last = closing.is_over().await;
                    let (memory, date) = (&mut self.memory, &mut self.date);
                    let again = self.answerer.answer_again(memory, like, is_last, date);
                    again.map(|(head, body)| (Sending::of_head(head, is_last), body))
                }
                None => None,
            };
            let (mut sending, mut body) = match again {
                Some(again) => {
                    self.take(end);
                    again
                }
                None => {
                    let Some(plain) = parse(&self.read[..end]) else {
                        return End::Library(self.read);
                    };
                    let Some((response, is_head, is_last)) = self.answer(plain, end).await else {
                        return End::Over;
                    };
                    let is_last = is_last | closing.is_over().await;
                    Sending::new(response, is_head, is_last, &mut self.date)
                }
            };
            self.has_asked = true;
            let is_last = sending.is_last;
            let sent = poll_fn(|cx| {
                let polled = sending.poll(self.wire, &mut body, cx);
                if polled.is_pending() && poll_left(self.wire, &mut self.read, cx).is_ready() {
                    return Poll::Ready(Sent::Cut);
                }
                polled
            });
            if sent.await == Sent::Cut {
                return End::Over;
            }
            drop(body);
            if is_last {
                self.shut_down().await;
                return End::Over;
            }
            if self.read.is_empty() {
                // An idle connection holds no memory for heads.
                self.read = Vec::new();
            }
        }
    }

    /// The head up to `end` is being answered.
    fn take(&mut self, end: usize) {
        self.read.drain(..end);
        self.scanned = 0;
    }

    /// Answers the request whose head ends at `end`; tells whether it was a HEAD, and whether the client wants it to
    /// be the last. `None` where the client leaves before the answer begins: then nobody wants it any more.
    async fn answer(&mut self, plain: Plain, end: usize) -> Option<(Response<Body>, bool, bool)> {
        let Plain {
            mut request,
            is_head,
            is_last,
        } = plain;
        if self.has_asked && !is_last {
            let (parts, body) = request.into_parts();
            let (answerer, local) = (self.answerer, self.connection.local);
            let standing = || answerer.standing(&parts, local);
            self.memory.learn(&self.read[..end], standing);
            request = Request::from_parts(parts, body);
        }
        self.take(end);
        let response = self.response(request).await?;
        Some((response, is_head, is_last))
    }

    async fn response(&mut self, request: Request<Body>) -> Option<Response<Body>> {
        // What it takes is given back before the bytes are sent, which takes longest.
        let mut answering = Box::pin(self.answerer.answer(request, self.connection));
        poll_fn(|cx| {
            if let Poll::Ready(response) = answering.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            poll_left(self.wire, &mut self.read, cx).map(|()| None)
        })
        .await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        closing: &mut Closing<impl Future<Output = ()>>,
    ) -> Poll<Waited> {
        loop {
            if self.scanned < self.read.len() {
                if self.scanned == 0
                    && let Some(like) = self.memory.find(&self.read)
                {
                    return Poll::Ready(Waited::Like(like));
                }
                match find_end(&self.read, self.scanned) {
                    Ok(Some(end)) => return Poll::Ready(Waited::Head(end)),
                    Ok(None) if self.read.len() <= MAX_HEAD => self.scanned = self.read.len(),
                    Ok(None) | Err(_) => return Poll::Ready(Waited::Library),
                }
            }
            let is_first = self.read.is_empty();
            match poll_read(self.wire, &mut self.read, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Waited::Over),
                // Whoever has begun to ask gets a moment for the rest.
                Poll::Ready(Ok(_)) if is_first => {
                    self.seat.work();
                    self.seat.rest();
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if closing.poll_over(cx).is_ready()
                        || self.patience.poll_over(cx).is_ready()
                        || self.seat.poll_wanted(cx).is_ready()
                    {
                        return Poll::Ready(Waited::Over);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Says that nothing more will be said; a client that is gone does not care, and one that takes nothing is not
    /// waited for: with TLS, saying so takes room on the way to it.
    async fn shut_down(&mut self) {
        self.patience.begin();
        poll_fn(|cx| {
            if Pin::new(&mut *self.wire).poll_shutdown(cx).is_ready() {
                return Poll::Ready(());
            }
            self.patience.poll_over(cx)
        })
        .await;
    }
}

/// An answer on its way.
struct Sending {
    /// What is to be written before the piece: the head, or the frame of a chunk.
    head: Vec<u8>,
    head_at: usize,
    piece: Option<Piece>,
    piece_at: usize,
    chunks: Chunks,
    stage: Stage,
    is_last: bool,
    /// Until when the head waits for the body, once it does.
    together: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Body,
    /// All of the body has been taken.
    Ended,
    /// It broke off: what came before is written, and nothing after.
    Broken,
}

/// How a body is framed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chunks {
    /// By its length, which the head tells.
    Unneeded,
    /// RFC 9112, 7.1, before the first chunk.
    First,
    Further,
}

impl Sending {
    fn new(
        response: Response<Body>,
        is_head: bool,
        is_last: bool,
        date: &mut Date,
    ) -> (Self, Body) {
        let (parts, body) = response.into_parts();
        let written = write_head(&parts, &body, is_head, is_last, date);
        let sending = Self {
            head: written.head,
            head_at: 0,
            piece: None,
            piece_at: 0,
            chunks: if written.is_chunked {
                Chunks::First
            } else {
                Chunks::Unneeded
            },
            stage: if is_head { Stage::Ended } else { Stage::Body },
            is_last: written.is_last,
            together: None,
        };
        (sending, body)
    }

    /// The answer to a GET of bytes whose length its head tells.
    const fn of_head(head: Vec<u8>, is_last: bool) -> Self {
        Self {
            head,
            head_at: 0,
            piece: None,
            piece_at: 0,
            chunks: Chunks::Unneeded,
            stage: Stage::Body,
            is_last,
            together: None,
        }
    }

    /// Whether the head has yet to go out, with or without the first bytes of the body.
    fn poll_head_alone(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.head_at == self.head.len() {
            return Poll::Ready(false);
        }
        if self.head_at == 0 {
            let together = self
                .together
                .get_or_insert_with(|| Box::pin(sleep(TOGETHER)));
            ready!(together.as_mut().poll(cx));
        }
        Poll::Ready(true)
    }

    fn poll<W: Wire>(&mut self, wire: &mut W, body: &mut Body, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            if self.piece.is_none() && self.stage == Stage::Body {
                // A chunk tells its length first, and a window may turn out shorter.
                let takes_windows = W::TAKES_WINDOWS && self.chunks == Chunks::Unneeded;
                match body.poll_for_socket(cx, takes_windows) {
                    Poll::Ready(Some(Ok(piece))) => {
                        if matches!(piece, Piece::Bytes(_)) {
                            // They may be fresh from the origin, which goes on at the pace at which they are read.
                            wire.hold_little();
                        }
                        self.begin(piece);
                    }
                    Poll::Ready(Some(Err(_))) => self.stage = Stage::Broken,
                    Poll::Ready(None) => self.end(),
                    // The head waits for the body no longer.
                    Poll::Pending if ready!(self.poll_head_alone(cx)) => {}
                    Poll::Pending => {
                        let flushed = Pin::new(&mut *wire).poll_flush(cx);
                        return match flushed {
                            Poll::Ready(Err(_)) => Poll::Ready(Sent::Cut),
                            _ => Poll::Pending,
                        };
                    }
                }
            }
            match ready!(self.poll_write(wire, body, cx)) {
                Ok(true) => {}
                Ok(false) => {
                    let flushed = ready!(Pin::new(&mut *wire).poll_flush(cx));
                    return Poll::Ready(match (flushed, self.stage) {
                        (Ok(()), Stage::Ended) => Sent::Whole,
                        _ => Sent::Cut,
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "connection ended early");
                    return Poll::Ready(Sent::Cut);
                }
            }
        }
    }

    fn begin(&mut self, piece: Piece) {
        let len = match &piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Window(window) => window.len(),
        };
        self.piece_at = 0;
        self.piece = Some(piece);
        let before = match self.chunks {
            Chunks::Unneeded => return,
            Chunks::First => "",
            Chunks::Further => "\r\n",
        };
        self.chunks = Chunks::Further;
        self.frame(&format!("{before}{len:x}\r\n"));
    }

    fn end(&mut self) {
        self.stage = Stage::Ended;
        match self.chunks {
            Chunks::Unneeded => {}
            Chunks::First => self.frame("0\r\n\r\n"),
            Chunks::Further => self.frame("\r\n0\r\n\r\n"),
        }
    }

    fn frame(&mut self, text: &str) {
        if self.head_at == self.head.len() {
            self.head.clear();
            self.head_at = 0;
        }
        self.head.extend_from_slice(text.as_bytes());
    }

    /// Writes once; `false` where there is nothing left to write.
    fn poll_write<W: Wire>(
        &mut self,
        wire: &mut W,
        body: &mut Body,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let head = &self.head[self.head_at..];
        let mut wire = Pin::new(wire);
        let written = match &self.piece {
            None if head.is_empty() => return Poll::Ready(Ok(false)),
            None => ready!(wire.poll_write(cx, head))?,
            Some(Piece::Bytes(bytes)) => {
                let rest = &bytes[self.piece_at..];
                let both = [IoSlice::new(head), IoSlice::new(rest)];
                let both = if head.is_empty() {
                    &both[1..]
                } else {
                    &both[..]
                };
                ready!(wire.as_mut().poll_write_vectored(cx, both))?
            }
            Some(Piece::Window(_)) if !head.is_empty() => ready!(wire.poll_write_more(cx, head))?,
            Some(Piece::Window(window)) => {
                match ready!(wire.poll_put(cx, window.as_ref(), self.piece_at))? {
                    Put::Some(count) => count,
                    Put::Absent => {
                        body.unread(window.len() - self.piece_at);
                        self.piece = None;
                        return Poll::Ready(Ok(true));
                    }
                }
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = written.min(head.len());
        self.head_at += of_head;
        self.piece_at += written - of_head;
        let len = match &self.piece {
            None => 0,
            Some(Piece::Bytes(bytes)) => bytes.len(),
            Some(Piece::Window(window)) => window.len(),
        };
        if self.piece_at >= len && self.head_at == self.head.len() {
            self.piece = None;
        }
        Poll::Ready(Ok(true))
    }
}

/// Reads on while something else is waited for; ready when the client has left.
fn poll_left<W: Wire>(wire: &mut W, read: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<()> {
    while read.len() < READ_AHEAD {
        if let Ok(1..) = ready!(poll_read(wire, read, cx)) {
            continue;
        }
        return Poll::Ready(());
    }
    Poll::Pending
}

fn poll_read<W: Wire>(
    wire: &mut W,
    read: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut piece = [MaybeUninit::uninit(); READ_SIZE];
    let mut piece = ReadBuf::uninit(&mut piece);
    ready!(Pin::new(wire).poll_read(cx, &mut piece))?;
    read.extend_from_slice(piece.filled());
    Poll::Ready(Ok(piece.filled().len()))
}
