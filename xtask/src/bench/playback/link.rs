//! An origin at the far end of a line whose delay, capacity and traffic are known exactly.
//!
//! In user space and on the loopback, so that it needs no privileges. Connections are kept alive; there is no slow
//! start; send buffers are small, so that what counts as sent is nearly what the other side has received.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::net::{RecvFlags, recv, sockopt};

use super::bucket::{Before, Bucket, Capacity};
use super::content::Content;
use super::request::{Request, Wanted};

/// What the system may hold back per connection. Linux doubles it, and two pieces have to fit.
const SEND_BUFFER: usize = 32 << 10;

/// The first piece of an answer: about one packet, because a network would not hold the first byte back longer.
const FIRST_PIECE: usize = 1 << 10;

/// A write that takes longer than this found a client that did not read.
const BLOCKED: Duration = Duration::from_millis(5);

/// How a line behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// From a request to the first byte of its answer.
    pub(super) delay: Duration,
    /// From a connection to the moment when its first request is read.
    pub(super) connecting: Duration,
    /// Of all connections together.
    pub(super) capacity: Capacity,
    /// Bytes per second of each connection, where that is limited as well.
    pub(super) each: Option<u64>,
}

/// The origin. Its threads end with the process.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shape: Shape,
    length: u64,
    /// The listing of the folder, which some servers want to read before they serve anything from it.
    listing: String,
    bucket: Bucket,
    requests: AtomicU64,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

/// What the origin has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

impl Link {
    /// Serves objects of one length under every path; those in `names` are listed at `/`.
    pub(super) fn start(shape: Shape, length: u64, names: &[String]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Connections inherit it from their listener.
        sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
        let address = listener.local_addr()?;
        let links: String = names
            .iter()
            .map(|name| format!("<a href=\"{name}\">{name}</a>\n"))
            .collect();
        let shared = Arc::new(Shared {
            shape,
            length,
            listing: format!("<!DOCTYPE html><title>films</title>\n{links}"),
            bucket: Bucket::new(shape.capacity),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        // The first film of all would be late by what making its bytes takes.
        let _ = Content::of("/").from(0, 1);
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if for_thread.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&for_thread);
                // A client that goes away ends its connection; that is all there is to know.
                thread::spawn(move || drop(shared.converse(connection)));
            }
        });
        Ok(Self { address, shared })
    }

    /// Begins the line's time, for lines whose rate changes.
    pub(super) fn begin(&self) {
        self.shared.bucket.begin();
    }

    /// What has been asked and sent so far.
    pub(super) fn count(&self) -> Count {
        Count {
            requests: self.shared.requests.load(Ordering::SeqCst),
            bytes: self.shared.bytes.load(Ordering::SeqCst),
        }
    }

    /// What has been asked and sent since.
    pub(super) fn since(&self, before: Count) -> Count {
        let now = self.count();
        Count {
            requests: now.requests - before.requests,
            bytes: now.bytes - before.bytes,
        }
    }

    /// Waits until nothing has been sent for a while, or until the limit: some caches fetch whole films.
    pub(super) fn rest(&self, limit: Duration) {
        const QUIET: Duration = Duration::from_millis(150);
        let end = Instant::now() + limit;
        let mut seen = self.count();
        loop {
            thread::sleep(QUIET);
            let now = self.count();
            if now == seen || Instant::now() > end {
                return;
            }
            seen = now;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, so that it sees the flag and gives the port back.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn converse(&self, connection: TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        let each = self
            .shape
            .each
            .map(|rate| Bucket::new(Capacity::Steady(rate)));
        thread::sleep(self.shape.connecting);
        let mut answers = connection.try_clone()?;
        let mut requests = BufReader::new(connection);
        while let Some(request) = Request::read(&mut requests)? {
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.answer(&mut answers, &request, each.as_ref())?;
        }
        Ok(())
    }

    fn answer(&self, to: &mut TcpStream, request: &Request, each: Option<&Bucket>) -> Result<()> {
        thread::sleep(self.shape.delay);
        if request.path.ends_with('/') {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
                self.listing.len()
            );
            to.write_all(head.as_bytes())?;
            if !request.is_head {
                to.write_all(self.listing.as_bytes())?;
            }
            return Ok(());
        }
        let total = self.length;
        let common = "Content-Type: video/mp4\r\nAccept-Ranges: bytes\r\nETag: \"bench-1\"\r\n\
                      Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: max-age=86400\r\n";
        let (status, start, end) = match request.wanted(total)? {
            Wanted::Whole => (format!("200 OK\r\n{common}"), 0, total),
            Wanted::Part { start, end } => {
                let last = end - 1;
                let range = format!("Content-Range: bytes {start}-{last}/{total}\r\n");
                (
                    format!("206 Partial Content\r\n{common}{range}"),
                    start,
                    end,
                )
            }
            Wanted::Nothing => {
                let range = format!("Content-Range: bytes */{total}\r\n");
                (format!("416 Range Not Satisfiable\r\n{range}"), 0, 0)
            }
        };
        let length = end - start;
        let head = format!("HTTP/1.1 {status}Content-Length: {length}\r\n\r\n");
        to.write_all(head.as_bytes())?;
        if request.is_head {
            return Ok(());
        }
        self.body(to, Content::of(&request.path), start..end, each)
    }

    fn body(
        &self,
        to: &mut TcpStream,
        content: Content,
        span: std::ops::Range<u64>,
        each: Option<&Bucket>,
    ) -> Result<()> {
        let piece = self.piece();
        let mut at = span.start;
        let mut before = Before::Pause;
        while at < span.end {
            let most = if at == span.start { FIRST_PIECE } else { piece };
            let most = usize::try_from(span.end - at).map_or(most, |left| left.min(most));
            let bytes = content.from(at, most);
            if has_left(to) {
                bail!("the client has left");
            }
            if let Some(each) = each {
                sleep_until(each.reserve(bytes.len(), before));
            }
            sleep_until(self.bucket.reserve(bytes.len(), before));
            let writing = Instant::now();
            to.write_all(bytes)?;
            before = if writing.elapsed() < BLOCKED {
                Before::Bytes
            } else {
                Before::Pause
            };
            at += bytes.len() as u64;
            self.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Sent at once: about a millisecond of the line, so that an abort is seen soon and connections share evenly.
    fn piece(&self) -> usize {
        let rate = self.shape.capacity.at(Duration::ZERO);
        usize::try_from(rate / 1_000).map_or(16 << 10, |piece| piece.clamp(1_448, 16 << 10))
    }
}

fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Whether the client has closed its side before the answer was whole.
fn has_left(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match recv(
        stream,
        byte.as_mut_slice(),
        RecvFlags::PEEK | RecvFlags::DONTWAIT,
    ) {
        Ok((_, count)) => count == 0,
        Err(error) => error != rustix::io::Errno::AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Capacity, Content, Link, Shape};
    use crate::http::Get;

    #[test]
    fn what_is_sent_is_what_is_counted_and_what_is_expected() {
        let shape = Shape {
            delay: Duration::ZERO,
            connecting: Duration::ZERO,
            capacity: Capacity::Steady(1 << 40),
            each: None,
        };
        let link = Link::start(shape, 100_000, &["film.mp4".to_owned()]).expect("the loopback");
        let before = link.count();
        let get = |path: &'static str, range: Option<&str>| Get {
            server: link.address,
            path,
            range: range.map(ToOwned::to_owned),
        };
        let (part, _) = get("/film.mp4", Some("bytes=70000-79999"))
            .fetch(206)
            .expect("a part");
        let (whole, _) = get("/film.mp4", None).fetch(200).expect("the whole");
        get("/film.mp4", Some("bytes=100000-"))
            .fetch(416)
            .expect("no part");
        let (listing, _) = get("/", None).fetch(200).expect("the listing");
        let content = Content::of("/film.mp4");
        content.check(&part, 70_000).expect("right bytes");
        content.check(&whole, 0).expect("right bytes");
        assert!(String::from_utf8_lossy(&listing).contains("href=\"film.mp4\""));
        link.rest(Duration::from_secs(5));
        let sent = link.since(before);
        assert_eq!((sent.requests, sent.bytes), (4, 110_000));
    }
}
