//! A connection with TLS, once the handshake is over.
//!
//! What is written is made into records that are full, and leaves when there are several of them or somebody flushes: a
//! record and a call of the system each have a price of their own, and HTTP/2 writes a few bytes before every frame.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::server::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::HTTP_2;
use crate::wire::Wire;

/// The most that a record holds (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// How much is encrypted before it has to leave: little enough to stay in a core's own cache.
const QUEUE: usize = 4 * RECORD;
/// How many slices are looked at in one write, beside what is left of the one before.
const SLICES: usize = 3;

/// A connection over which bytes go encrypted.
pub(crate) struct Secure<W> {
    wire: W,
    session: ServerConnection,
    /// Too little for a record.
    tail: Vec<u8>,
    /// How much has been encrypted and has not left as a whole.
    queued: usize,
    has_said_goodbye: bool,
}

impl<W: AsyncRead + AsyncWrite + Unpin> Secure<W> {
    pub(crate) fn new(wire: W, mut session: ServerConnection) -> Self {
        // There is one here.
        session.set_buffer_limit(None);
        Self {
            wire,
            session,
            tail: Vec::new(),
            queued: 0,
            has_said_goodbye: false,
        }
    }

    /// Whether the client and we have agreed to speak HTTP/2.
    pub(crate) fn speaks_http_2(&self) -> bool {
        self.session.alpn_protocol() == Some(HTTP_2)
    }

    /// Takes bytes to be written, and encrypts what fills records.
    fn take(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        // One record more than there should be, so that the end of a large answer does not leave alone.
        let mut room = QUEUE + RECORD - self.tail.len();
        let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
        let mut taken = 0;
        let given = data.iter().filter(|slice| !slice.is_empty());
        for (slot, slice) in slices.iter_mut().zip(given) {
            *slot = &slice[..slice.len().min(room)];
            room -= slot.len();
            taken += slot.len();
        }
        let over = (self.tail.len() + taken) % RECORD;
        let whole = self.tail.len() + taken - over;
        if whole == 0 {
            for slice in slices {
                self.tail.extend_from_slice(slice);
            }
            return Ok(taken);
        }
        // What was left of before is less than a record, so all of it goes.
        let mut left = whole - self.tail.len();
        let mut records = [IoSlice::new(&[]); SLICES + 1];
        records[0] = IoSlice::new(&self.tail);
        let mut rest = slices;
        for (record, rest) in records[1..].iter_mut().zip(&mut rest) {
            let (now, later) = rest.split_at(rest.len().min(left));
            left -= now.len();
            (*record, *rest) = (IoSlice::new(now), later);
        }
        let written = self.session.writer().write_vectored(&records)?;
        if written != whole {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.tail.clear();
        for slice in rest {
            self.tail.extend_from_slice(slice);
        }
        self.queued += whole;
        Ok(taken)
    }

    /// Writes all that is encrypted.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut out = Now {
                wire: &mut self.wire,
                cx,
            };
            match self.session.write_tls(&mut out) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.queued = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes all that has been taken.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.queued >= QUEUE {
            // More may come to the tail while this leaves.
            ready!(self.poll_drain(cx))?;
        }
        if !self.tail.is_empty() {
            self.session.writer().write_all(&self.tail)?;
            self.queued += self.tail.len();
            // A connection at rest holds no memory for what it may write.
            self.tail = Vec::new();
        }
        self.poll_drain(cx)
    }
}

impl<W: Wire> Wire for Secure<W> {
    const TAKES_WINDOWS: bool = false;

    fn hold_little(&mut self) {
        self.wire.hold_little();
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secure<W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.session.reader().read(out.initialize_unfilled()) {
                Ok(count) => {
                    out.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let mut wire = Now {
                wire: &mut this.wire,
                cx,
            };
            match this.session.read_tls(&mut wire) {
                // What the session makes of the end it says at the next look.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let processed = this.session.process_new_packets();
            if this.session.wants_write() {
                // An alert, or a new key. Who writes next goes on with it, and meets whatever stands in its way.
                let _ = this.poll_drain(cx);
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secure<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.queued >= QUEUE {
            ready!(this.poll_drain(cx))?;
        }
        Poll::Ready(this.take(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        if !this.has_said_goodbye {
            // Without it a client could not tell the end from a cut (RFC 8446, 6.1).
            this.session.send_close_notify();
            this.has_said_goodbye = true;
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

impl<W: std::fmt::Debug> std::fmt::Debug for Secure<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Secure");
        shown.field("wire", &self.wire).finish_non_exhaustive()
    }
}

/// What a wire takes or gives now, for a session that knows of no waiting.
struct Now<'a, 'b, W> {
    wire: &'a mut W,
    cx: &'a mut Context<'b>,
}

impl<W: AsyncRead + Unpin> io::Read for Now<'_, '_, W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut out = ReadBuf::new(out);
        match Pin::new(&mut *self.wire).poll_read(self.cx, &mut out) {
            Poll::Ready(read) => read.map(|()| out.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<W: AsyncWrite + Unpin> io::Write for Now<'_, '_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.wire).poll_write(self.cx, data))
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.wire).poll_write_vectored(self.cx, data))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut *self.wire).poll_flush(self.cx))
    }
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
