//! A socket that admits no more than its reader can use.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::options;
use super::window::ReceiveWindow;

/// The bytes of a connection, plain or out of TLS.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// A socket whose receive window follows what is read from it.
pub(crate) struct BoundedSocket {
    socket: Arc<TcpStream>,
    window: ReceiveWindow,
}

impl BoundedSocket {
    pub(crate) fn new(socket: Arc<TcpStream>) -> Self {
        options::begin(&socket);
        Self {
            socket,
            window: ReceiveWindow::new(),
        }
    }

    fn came(&mut self, bytes: usize) {
        let socket = &self.socket;
        let round_trip = || options::round_trip(socket).unwrap_or_default();
        if let Some(size) = self.window.read(bytes, Instant::now(), round_trip) {
            // Refused, the window stays as it is.
            let _ = options::admit(socket, size);
        }
    }
}

/// Whether nothing came on `socket`, neither bytes nor its end: an idle connection that can be used.
pub(crate) fn is_quiet(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    // The kernel is asked, not the event loop, which may not have heard yet.
    let peeked = socket2::SockRef::from(socket).peek(&mut byte);
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncRead for BoundedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(bytes) => {
                    self.came(bytes);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for BoundedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = socket2::SockRef::from(&*self.socket);
        Poll::Ready(socket.shutdown(std::net::Shutdown::Write))
    }
}
