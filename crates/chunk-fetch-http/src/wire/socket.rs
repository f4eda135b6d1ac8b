//! A socket that admits no more than its reader can use.

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::gather::{Gather, TOO_LONG};
use super::options;
use super::window::ReceiveWindow;

/// The bytes of a connection, plain or out of TLS.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// A connection's socket, as whoever reads it and whoever knows its answers share it.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: TcpStream,
    to_come: AtomicU64,
}

impl Peer {
    pub(crate) const fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            to_come: AtomicU64::new(0),
        }
    }

    /// So many bytes of the answer are still to come at least, but for what the layers between have read already.
    pub(crate) fn expects(&self, bytes: u64) {
        self.to_come.store(bytes, Ordering::Relaxed);
    }

    /// Whether nothing came, neither bytes nor its end: an idle connection that can be used.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        // The kernel is asked, not the event loop, which may not have heard yet.
        let peeked = socket2::SockRef::from(&self.socket).peek(&mut byte);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A socket whose receive window follows what is read from it.
pub(crate) struct BoundedSocket {
    peer: Arc<Peer>,
    window: ReceiveWindow,
    gather: Gather,
    /// Rings where what is being gathered takes too long. None until anything is.
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether it was set for the present wait.
    is_waiting: bool,
}

impl BoundedSocket {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        options::begin(&peer.socket);
        Self {
            peer,
            window: ReceiveWindow::new(),
            gather: Gather::new(),
            patience: None,
            is_waiting: false,
        }
    }

    fn came(&mut self, bytes: usize) {
        self.is_waiting = false;
        let socket = &self.peer.socket;
        let round_trip = || options::round_trip(socket).unwrap_or_default();
        let now = Instant::now();
        if let Some(size) = self.window.read(bytes, now, round_trip) {
            // Refused, the window stays as it is.
            let _ = options::admit(socket, size);
        }
        let to_come = self.peer.to_come.load(Ordering::Relaxed);
        let mark = self.gather.read(bytes, now, self.window.size(), to_come);
        self.wake_at(mark);
    }

    /// Nothing is here that is to be told of. Where that takes too long, whatever is here is.
    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.gather.is_on() {
            return;
        }
        let enough = Instant::now() + TOO_LONG;
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep_until(enough)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            patience.as_mut().reset(enough);
        }
        if patience.as_mut().poll(cx).is_ready() {
            let mark = self.gather.waited();
            // By this the kernel tells of what there is.
            self.wake_at(mark);
        }
    }

    fn wake_at(&self, mark: Option<usize>) {
        if let Some(bytes) = mark {
            // Refused, each packet wakes.
            let _ = options::wake_at(&self.peer.socket, bytes);
        }
    }
}

impl AsyncRead for BoundedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Poll::Ready(readable) = self.peer.socket.poll_read_ready(cx) else {
                self.wait(cx);
                return Poll::Pending;
            };
            readable?;
            match self.peer.socket.try_read_buf(buffer) {
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
            ready!(self.peer.socket.poll_write_ready(cx))?;
            match self.peer.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = socket2::SockRef::from(&self.peer.socket);
        Poll::Ready(socket.shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_too_few_to_wake_for_are_read_after_a_moment() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ours = TcpStream::connect(address).await.unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let mut socket = BoundedSocket::new(Arc::new(Peer::new(ours)));
        let start = Instant::now();
        for n in 0..20 {
            let now = start + Duration::from_millis(n);
            let mark = socket.gather.read(125_000, now, 1 << 20, 1 << 30);
            socket.wake_at(mark);
        }
        assert!(socket.gather.is_on());
        theirs.write_all(&[7; 100]).unwrap();
        let mut bytes = [0; 200];
        assert_eq!(socket.read(&mut bytes).await.unwrap(), 100);
        if cfg!(target_os = "linux") {
            assert!(!socket.gather.is_on(), "nobody was woken before");
        }
    }
}
