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

/// A connection of whatever kind, of which nothing is known but that bytes go in and out.
#[derive(Debug)]
pub(crate) struct Foreign<Io>(pub(crate) Io);

/// A TCP connection that ends with a reset where a plain end would pass for the end of the file.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) must_reset: Arc<AtomicBool>,
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
