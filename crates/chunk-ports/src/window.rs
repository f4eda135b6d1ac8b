//! Stored bytes on the short way to a socket.

use std::fmt::Debug;
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;

/// Bytes that their store can put into a socket by itself; see [`ByteStore::window`](crate::ByteStore::window).
///
/// # Contract
/// - Where bytes are put into the socket, they are those that a read would have given. What is removed
///   meanwhile is [`Put::Absent`] from then on, at the latest when what had begun has ended.
/// - Nothing waits for a disk, as far as the store can tell: what would is [`Put::Absent`].
pub trait Window: Send + Sync + Debug + 'static {
    /// How many bytes there are, at most; there may be fewer, and then the end is [`Put::Absent`].
    fn len(&self) -> usize;

    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts bytes from `from` on into a socket that does not block; as many as it takes at the moment.
    ///
    /// # Errors
    /// What the socket says. A socket that takes nothing now is [`io::ErrorKind::WouldBlock`].
    #[cfg(unix)]
    fn put(&self, socket: BorrowedFd<'_>, from: usize) -> io::Result<Put>;
}

/// What [`Window::put`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a caller has to do something about each"
)]
pub enum Put {
    /// So many bytes were taken, at least one.
    Some(usize),
    /// The next byte cannot be had this way now: it is to be read.
    Absent,
}
