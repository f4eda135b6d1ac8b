//! A client that keeps its connection, and one that leaves what it asked for unread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::bench::cold::check;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// No head here is longer.
const LONGEST_HEAD: usize = 4 << 10;

/// A connection that is used for one request after the other.
pub(super) struct Client {
    stream: TcpStream,
    server: SocketAddr,
    bytes: Vec<u8>,
}

impl Client {
    pub(super) fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            server,
            bytes: Vec::new(),
        })
    }

    /// Reads a range and compares all of it; says how long that took.
    pub(super) fn read(&mut self, path: &str, start: u64, length: u64) -> Result<Duration> {
        let end = start + length - 1;
        let began = Instant::now();
        ask(
            &mut self.stream,
            self.server,
            path,
            &format!("bytes={start}-{end}"),
        )?;
        let length = usize::try_from(length)?;
        self.bytes.resize(LONGEST_HEAD + length, 0);
        let mut filled = 0;
        let body = loop {
            let count = self.stream.read(&mut self.bytes[filled..])?;
            if count == 0 {
                bail!("the connection ends");
            }
            filled += count;
            if let Some(end) = end_of_head(&self.bytes[..filled]) {
                break end;
            }
        };
        if !self.bytes.starts_with(b"HTTP/1.1 206 ") {
            bail!("no 206 for {path}");
        }
        while filled < body + length {
            let count = self.stream.read(&mut self.bytes[filled..body + length])?;
            if count == 0 {
                bail!("the body ends early");
            }
            filled += count;
        }
        let took = began.elapsed();
        check(&self.bytes[body..body + length], start)?;
        Ok(took)
    }
}

/// Asks for the rest of a file from `start` on, reads the head of the answer, and leaves the rest where it is.
pub(super) fn park(server: SocketAddr, path: &str, start: u64) -> Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // What a client does not read waits in the system's buffers, and those of so many are not to fill its memory.
    sockopt::set_socket_recv_buffer_size(&socket, 4 << 10)?;
    rustix::net::connect(&socket, &server).context("cannot connect")?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream, server, path, &format!("bytes={start}-"))?;
    let mut head = [0; 512];
    let count = stream.read(&mut head)?;
    if !head[..count].starts_with(b"HTTP/1.1 206 ") {
        bail!("no 206 for {path}");
    }
    Ok(stream)
}

fn ask(stream: &mut TcpStream, server: SocketAddr, path: &str, range: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nRange: {range}\r\n\r\n");
    Ok(stream.write_all(request.as_bytes())?)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

/// The time that so many of a thousand are within.
pub(super) fn quantile(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}
