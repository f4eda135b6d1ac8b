//! An origin whose delay, rate and traffic are known exactly.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::pace::Pace;
use crate::child::wait_until;
use crate::random::mix;

/// Sent at once: small, so that an abort is seen within milliseconds and the rate is even.
const PIECE: usize = 8 << 10;

/// The first piece of an answer: about one packet, because a network would not hold the first byte back longer.
const FIRST_PIECE: usize = 1 << 10;

/// What kind of line leads to the origin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rate {
    /// So many bytes per second for each connection.
    PerConnection(u64),
    /// So many bytes per second for all connections together.
    Shared(u64),
}

/// The origin. Its threads end with the process.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    traffic: Arc<Traffic>,
}

#[derive(Debug, Default)]
struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
    under_way: AtomicU64,
    stopped: AtomicBool,
}

/// What the origin has done so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone)]
struct Behaviour {
    length: u64,
    delay: Duration,
    rate: Rate,
    pace: Pace,
    traffic: Arc<Traffic>,
}

impl Origin {
    /// Serves objects of one length under every path; each answer begins after `delay`.
    pub(super) fn start(length: u64, delay: Duration, rate: Rate) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let traffic = Arc::new(Traffic::default());
        let (Rate::PerConnection(bytes) | Rate::Shared(bytes)) = rate;
        let behaviour = Behaviour {
            length,
            delay,
            rate,
            pace: Pace::new(bytes),
            traffic: Arc::clone(&traffic),
        };
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if behaviour.traffic.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let behaviour = behaviour.clone();
                // A client that goes away ends its connection; that is all there is to know.
                thread::spawn(move || drop(behaviour.converse(connection)));
            }
        });
        Ok(Self { address, traffic })
    }

    /// What has been asked and sent so far.
    pub(super) fn count(&self) -> Count {
        Count {
            requests: self.traffic.requests.load(Ordering::SeqCst),
            bytes: self.traffic.bytes.load(Ordering::SeqCst),
        }
    }

    /// What has been asked and sent since, once nothing is on its way any more.
    pub(super) fn settled_since(&self, before: Count) -> Result<Count> {
        let settled = wait_until(Duration::from_secs(30), || {
            Ok(self.traffic.under_way.load(Ordering::SeqCst) == 0)
        })?;
        if !settled {
            bail!("the origin is still sending after 30 seconds");
        }
        Ok(self.count_since(before))
    }

    /// What has been asked and sent since.
    pub(super) fn count_since(&self, before: Count) -> Count {
        let now = self.count();
        Count {
            requests: now.requests - before.requests,
            bytes: now.bytes - before.bytes,
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.traffic.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, so that it sees the flag and gives the port back.
        drop(TcpStream::connect(self.address));
    }
}

impl Behaviour {
    fn converse(&self, connection: TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        let pace = match self.rate {
            Rate::PerConnection(_) => self.pace.apart(),
            Rate::Shared(_) => self.pace.clone(),
        };
        let mut answers = connection.try_clone()?;
        let mut requests = BufReader::new(connection);
        while let Some(range) = read_request(&mut requests)? {
            self.traffic.requests.fetch_add(1, Ordering::SeqCst);
            self.traffic.under_way.fetch_add(1, Ordering::SeqCst);
            let sent = self.answer(&mut answers, range.as_deref(), &pace);
            self.traffic.under_way.fetch_sub(1, Ordering::SeqCst);
            sent?;
        }
        Ok(())
    }

    fn answer(&self, stream: &mut TcpStream, range: Option<&str>, pace: &Pace) -> Result<()> {
        thread::sleep(self.delay);
        let total = self.length;
        let common = "Content-Type: video/mp4\r\nAccept-Ranges: bytes\r\nETag: \"bench-1\"\r\n\
                      Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: max-age=86400\r\n";
        let span = match range {
            None => Some((0, total)),
            Some(range) => span(range, total).context("a range that is not understood")?,
        };
        let Some((start, end)) = span else {
            let head = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
            );
            return Ok(stream.write_all(head.as_bytes())?);
        };
        let length = end - start;
        let head = if range.is_some() {
            let last = end - 1;
            format!(
                "HTTP/1.1 206 Partial Content\r\n{common}Content-Range: bytes {start}-{last}/{total}\r\nContent-Length: {length}\r\n\r\n"
            )
        } else {
            format!("HTTP/1.1 200 OK\r\n{common}Content-Length: {length}\r\n\r\n")
        };
        stream.write_all(head.as_bytes())?;
        self.body(stream, start, end, pace)
    }

    fn body(&self, stream: &mut TcpStream, start: u64, end: u64, pace: &Pace) -> Result<()> {
        let mut piece = vec![0; PIECE];
        let mut at = start;
        while at < end {
            let most = if at == start { FIRST_PIECE } else { PIECE };
            let length = usize::try_from(end - at).map_or(most, |left| left.min(most));
            if has_left(stream)? {
                bail!("the client has left");
            }
            fill(&mut piece[..length], at);
            pace.send(length);
            stream.write_all(&piece[..length])?;
            self.traffic
                .bytes
                .fetch_add(length as u64, Ordering::SeqCst);
            at += length as u64;
        }
        Ok(())
    }
}

/// Writes the bytes that every object has from `at` on: a function of the offset, so that any part can be checked.
///
/// Eight bytes at a time, because the origin must keep its pace in a debug build too.
pub(super) fn fill(bytes: &mut [u8], at: u64) {
    let lead = (at % 8) as usize;
    let head = bytes.len().min((8 - lead) % 8);
    let (first, rest) = bytes.split_at_mut(head);
    first.copy_from_slice(&word(at / 8)[lead..][..head]);
    for (number, eight) in (at.div_ceil(8)..).zip(rest.chunks_mut(8)) {
        eight.copy_from_slice(&word(number)[..eight.len()]);
    }
}

const fn word(number: u64) -> [u8; 8] {
    mix(number).to_le_bytes()
}

/// A connection on which the client has closed its side before the answer was whole.
fn has_left(stream: &TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(count) => Ok(count == 0),
        Err(error) => Ok(error.kind() != ErrorKind::WouldBlock),
    }
}

/// The `Range` header of the next request; `None` when the client is done.
#[expect(
    clippy::option_option,
    reason = "the end of a connection is not a request without a range"
)]
fn read_request(requests: &mut impl BufRead) -> Result<Option<Option<String>>> {
    let mut range = None;
    let mut is_first = true;
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() && !is_first {
            return Ok(Some(range));
        }
        is_first = false;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
}

/// The half-open span of one range; `None` where it cannot be satisfied.
#[expect(
    clippy::option_option,
    reason = "not understood and not satisfiable are different answers"
)]
fn span(range: &str, total: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        return Some((suffix > 0).then(|| (total.saturating_sub(suffix), total)));
    }
    let first: u64 = first.parse().ok()?;
    let end = if last.is_empty() {
        total
    } else {
        last.parse::<u64>().ok()?.saturating_add(1).min(total)
    };
    Some((first < total).then_some((first, end)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Origin, Rate, fill, span};
    use crate::http::Get;

    #[test]
    fn ranges_are_read_as_players_write_them() {
        assert_eq!(span("bytes=0-0", 10), Some(Some((0, 1))));
        assert_eq!(span("bytes=4-", 10), Some(Some((4, 10))));
        assert_eq!(span("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(span("bytes=4-99", 10), Some(Some((4, 10))));
        assert_eq!(span("bytes=10-", 10), Some(None));
        assert_eq!(span("lines=1-2", 10), None);
    }

    #[test]
    fn content_does_not_depend_on_where_reading_begins() {
        let mut whole = [0; 64];
        fill(&mut whole, 0);
        for start in 0..32 {
            for length in 0..32 {
                let mut part = vec![0; length];
                fill(&mut part, start as u64);
                assert_eq!(part, whole[start..start + length], "{length} from {start}");
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_is_counted() {
        let rate = Rate::Shared(1 << 40);
        let origin = Origin::start(100_000, Duration::ZERO, rate).expect("the loopback is there");
        let before = origin.count();
        let get = |range: Option<&str>| Get {
            server: origin.address,
            path: "/film.mp4",
            range: range.map(ToOwned::to_owned),
        };
        let (part, _) = get(Some("bytes=70000-79999")).fetch(206).expect("a part");
        let (whole, _) = get(None).fetch(200).expect("the whole");
        assert!(
            get(Some("bytes=100000-"))
                .fetch(416)
                .expect("no part")
                .0
                .is_empty()
        );
        assert_eq!(part, whole[70_000..80_000]);
        let sent = origin.settled_since(before).expect("it settles");
        assert_eq!((sent.requests, sent.bytes), (3, 110_000));
    }
}
