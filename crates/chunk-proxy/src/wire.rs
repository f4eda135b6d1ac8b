//! A connection, with the ways past memory that it may have.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use chunk_ports::{Put, Window};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection to a player.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Whether windows can be put into it.
    const TAKES_WINDOWS: bool;

    /// Writes bytes that others follow at once, so that they need not leave alone.
    fn poll_write_more(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, data)
    }

    /// From now on the system holds little that the client does not take, so that its pauses are seen. What is on its way
    /// does not count: a long line stays full.
    fn hold_little(&mut self) {}

    /// Lets a byte store put bytes of a window into it, from `from` on.
    fn poll_put(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _window: &dyn Window,
        _from: usize,
    ) -> Poll<io::Result<Put>> {
        Poll::Ready(Ok(Put::Absent))
    }
}

/// How much of an answer the system may hold for a client that does not take it: enough for a thread that comes late, little
/// against what a player holds. What a client has not asked its system for is neither read nor played, and a player
/// whose pauses the system hides for four megabytes cannot be told from a copy.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// A connection of whatever kind, of which nothing is known but that bytes go in and out.
#[derive(Debug)]
pub(crate) struct Foreign<Io>(pub(crate) Io);

/// A TCP connection that ends with a reset where a plain end would pass for the end of the file.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    must_reset: Arc<AtomicBool>,
    holds_little: bool,
}

impl Socket {
    pub(crate) const fn new(stream: TcpStream, must_reset: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            must_reset,
            holds_little: false,
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Wire for Foreign<Io> {
    const TAKES_WINDOWS: bool = false;
}

#[cfg(target_os = "linux")]
impl Wire for Socket {
    const TAKES_WINDOWS: bool = true;

    fn poll_write_more(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        use rustix::net::SendFlags;

        // For this call alone: a standing cork would hold back the end of every answer.
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.poll_when_writable(cx, |stream| Ok(rustix::net::send(stream, data, flags)?))
    }

    fn hold_little(&mut self) {
        if std::mem::replace(&mut self.holds_little, true) {
            return;
        }
        // Where the system knows nothing of it, it holds what it likes.
        if let Err(error) = socket2::SockRef::from(&self.stream).set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(%error, "the system may hold more than a client takes");
        }
    }

    fn poll_put(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        window: &dyn Window,
        from: usize,
    ) -> Poll<io::Result<Put>> {
        use std::os::fd::AsFd as _;

        self.poll_when_writable(cx, |stream| window.put(stream.as_fd(), from))
    }
}

#[cfg(not(target_os = "linux"))]
impl Wire for Socket {
    const TAKES_WINDOWS: bool = false;
}

#[cfg(target_os = "linux")]
impl Socket {
    /// Does `work` where the socket takes bytes; where it says that it does not, waits until it does.
    fn poll_when_writable<T>(
        &self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            let done = self
                .stream
                .try_io(tokio::io::Interest::WRITABLE, || work(&self.stream));
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.must_reset.load(Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Foreign<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Foreign<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// What the two ends' systems take for a client that never reads.
    async fn taken_unread(holds_little: bool) -> io::Result<usize> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpSocket::new_v4()?;
        client.set_recv_buffer_size(16 * 1024)?;
        let (client, accepted) =
            tokio::join!(client.connect(listener.local_addr()?), listener.accept());
        let _client = client?;
        let mut socket = Socket::new(accepted?.0, Arc::default());
        if holds_little {
            socket.hold_little();
        }
        let (piece, mut taken) = (vec![0; 64 * 1024], 0);
        socket.stream.writable().await?;
        loop {
            match socket.stream.try_write(&piece) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
    }

    #[tokio::test]
    async fn little_is_held_for_who_does_not_read() -> io::Result<()> {
        let little = taken_unread(true).await?;
        assert!((1..=384 * 1024).contains(&little), "{little} bytes");
        let much = taken_unread(false).await?;
        assert!(much > 2 * little, "{much} bytes against {little}");
        Ok(())
    }
}
