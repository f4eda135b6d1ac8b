//! The options of a socket that hold its sender back, and what the kernel knows of the line.
//!
//! `SO_RCVBUF` alone can only be made smaller: a connection's window stays clamped to what its buffer was
//! when the kernel last looked, until `TCP_WINDOW_CLAMP` says otherwise.

use std::io;
use tokio::net::TcpStream;

use super::window::{INITIAL, RoundTrip};

/// What a connection begins with. A socket that cannot be bounded is used as it is.
pub(crate) fn begin(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    if cfg!(target_os = "linux") {
        let _ = admit(socket, INITIAL);
    }
}

/// Lets the peer send `bytes` ahead of the reader.
#[cfg(target_os = "linux")]
pub(crate) fn admit(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    let options = socket2::SockRef::from(socket);
    options.set_recv_buffer_size(bytes)?;
    // The kernel doubles the figure for its own needs, up to twice what the system allows anybody to set.
    // Where that is too little, it goes on by its own measurements, which may go further.
    if options.recv_buffer_size()? < 2 * bytes {
        set(socket, uapi::c::SOL_SOCKET, SO_BUF_LOCK, 0)?;
    }
    let clamp = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(
        socket,
        uapi::c::IPPROTO_TCP,
        uapi::c::TCP_WINDOW_CLAMP,
        clamp,
    )
}

/// asm-generic/socket.h; whether a size that was set is kept. An architecture that numbers it otherwise
/// refuses it, and keeps the size.
#[cfg(target_os = "linux")]
const SO_BUF_LOCK: i32 = 72;

/// Leaves the window to the kernel.
#[cfg(not(target_os = "linux"))]
pub(crate) fn admit(_socket: &TcpStream, _bytes: usize) -> io::Result<()> {
    Ok(())
}

/// Has nobody woken for fewer bytes than this, but where the window is full or the peer has ended.
#[cfg(target_os = "linux")]
pub(crate) fn wake_at(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(socket, uapi::c::SOL_SOCKET, uapi::c::SO_RCVLOWAT, bytes)
}

/// Each packet wakes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn wake_at(_socket: &TcpStream, _bytes: usize) -> io::Result<()> {
    Ok(())
}

/// How long a byte takes there and back: the shortest time that an acknowledgement took, and what it takes
/// at present until bytes answer an acknowledgement. Smoothed times of our own requests would count an
/// origin's delayed acknowledgements.
#[cfg(target_os = "linux")]
pub(crate) fn round_trip(socket: &TcpStream) -> Option<RoundTrip> {
    use std::os::fd::AsRawFd as _;
    use std::time::Duration;

    // struct tcp_info of linux/tcp.h, whose fields keep their places: tcpi_rcv_rtt, tcpi_min_rtt, in µs.
    const RCV_RTT: usize = 92;
    const MIN_RTT: usize = 148;
    let mut info = [0; MIN_RTT + 4];
    let fd = socket.as_raw_fd();
    uapi::getsockopt(fd, uapi::c::IPPROTO_TCP, uapi::c::TCP_INFO, &mut info[..]).ok()?;
    let field = |at: usize| {
        let bytes = info.get(at..at + 4)?.try_into().ok()?;
        Some(Duration::from_micros(u32::from_ne_bytes(bytes).into()))
    };
    Some(RoundTrip {
        shortest: field(MIN_RTT)?,
        present: field(RCV_RTT)?,
    })
}

/// Not known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn round_trip(_socket: &TcpStream) -> Option<RoundTrip> {
    None
}

#[cfg(target_os = "linux")]
fn set(socket: &TcpStream, level: i32, option: i32, value: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    uapi::setsockopt(socket.as_raw_fd(), level, option, &value).map_err(io::Error::from)
}
