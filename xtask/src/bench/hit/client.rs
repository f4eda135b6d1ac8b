//! One connection of the load generator. It knows which bytes it must get, and looks at a part of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{RecvFlags, recv};

use super::LENGTH;
use super::frames::{Event, Frames};
use super::server::path;
use super::session::{Session, Trust};
use crate::bench::cold::check;

/// Of every piece this much is compared with what the origin has: enough to see bytes of another place.
const LOOKED_AT: usize = 64;
/// Every so manieth piece is read and compared as a whole.
const WHOLE_EVERY: u64 = 256;
/// A head that is longer is none of those that these servers send.
const LONGEST_HEAD: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    server: SocketAddr,
    /// With TLS.
    session: Option<Session>,
    /// With HTTP/2.
    frames: Option<Frames>,
    request: Vec<u8>,
    answer: Answer,
}

/// What is asked for, and what has come of it.
#[derive(Debug)]
struct Answer {
    state: State,
    asked: Instant,
    /// The next byte of the file, and the end of what was asked for.
    at: u64,
    end: u64,
    is_range: bool,
    pieces: u64,
}

#[derive(Debug)]
enum State {
    Idle,
    /// What there is of the head.
    Head(Vec<u8>),
    Body,
}

/// What one read brought.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) bytes: u64,
    pub(super) first_byte: Option<Duration>,
    pub(super) is_whole: bool,
}

impl Client {
    /// Connects; with TLS where there is somebody to trust, and then with HTTP/2 where that was agreed on.
    pub(super) fn connect(server: SocketAddr, trust: Option<&Trust>) -> Result<Self> {
        let mut stream = TcpStream::connect(server).context("cannot connect")?;
        stream.set_nodelay(true)?;
        let session = match trust {
            Some(trust) => Some(Session::begin(&mut stream, trust)?),
            None => None,
        };
        let frames = trust.is_some_and(Trust::speaks_http_2).then(Frames::new);
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            server,
            session,
            frames,
            request: Vec::new(),
            answer: Answer {
                state: State::Idle,
                asked: Instant::now(),
                at: 0,
                end: 0,
                is_range: false,
                pieces: 0,
            },
        })
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Asks for a part of a file, or for all of it.
    pub(super) fn ask(&mut self, file: u64, range: Option<(u64, u64)>) -> Result<()> {
        let bytes = range.map(|(start, end)| format!("bytes={start}-{}", end - 1));
        let answer = &mut self.answer;
        (answer.at, answer.end) = range.unwrap_or((0, LENGTH));
        answer.is_range = range.is_some();
        answer.asked = Instant::now();
        answer.state = State::Head(Vec::new());
        self.request.clear();
        if let Some(frames) = &mut self.frames {
            frames.ask(&self.server.to_string(), &path(file), bytes.as_deref());
            self.request.append(&mut frames.words);
            return self.say();
        }
        let (path, server) = (path(file), self.server);
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: {server}\r\n")?;
        if let Some(bytes) = bytes {
            write!(self.request, "Range: {bytes}\r\n")?;
        }
        self.request.extend_from_slice(b"\r\n");
        self.say()
    }

    /// Sends the request.
    fn say(&mut self) -> Result<()> {
        if let Some(session) = &mut self.session {
            return session.send(&mut self.stream, &self.request);
        }
        // An empty send buffer takes a request as a whole.
        let sent = self.stream.write(&self.request)?;
        if sent != self.request.len() {
            bail!("a request was not taken as a whole");
        }
        Ok(())
    }

    /// Reads once. The server has something to say, or has gone.
    pub(super) fn read(&mut self, piece: &mut [u8]) -> Result<Progress> {
        let mut progress = Progress::default();
        let (frames, answer) = (&mut self.frames, &mut self.answer);
        if let Some(session) = &mut self.session {
            session.receive(&mut self.stream, |words| match frames {
                Some(frames) => {
                    frames.take(words, |event| answer.take_event(&event, &mut progress))
                }
                None => answer.take(words, &mut progress),
            })?;
            if let Some(frames) = frames
                && !frames.words.is_empty()
            {
                session.send(&mut self.stream, &frames.words)?;
                frames.words.clear();
            }
            return Ok(progress);
        }
        while !progress.is_whole {
            let room = answer.wants().min(piece.len());
            let Some(count) = some(self.stream.read(&mut piece[..room]))? else {
                break;
            };
            answer.take(&piece[..count], &mut progress)?;
            let passed_over = answer.passes_over().min(piece.len());
            if passed_over == 0 {
                break;
            }
            // The system throws these away, which costs it a fraction of handing them over.
            let thrown = recv(&self.stream, &mut piece[..passed_over], RecvFlags::TRUNC);
            let thrown = some(thrown.map(|(count, _)| count).map_err(Into::into))?;
            answer.pass_over(thrown.unwrap_or(0), &mut progress);
            if thrown != Some(passed_over) {
                break;
            }
        }
        Ok(progress)
    }

    /// Gets all of a file, and compares every byte.
    pub(super) fn get_whole(&mut self, file: u64) -> Result<()> {
        self.ask(file, None)?;
        let mut piece = vec![0; 1 << 20];
        loop {
            // The next piece is looked at as a whole.
            self.answer.pieces = WHOLE_EVERY - 1;
            self.stream.set_nonblocking(false)?;
            let progress = self.read(&mut piece)?;
            self.stream.set_nonblocking(true)?;
            if progress.is_whole {
                return Ok(());
            }
        }
    }
}

/// How many bytes came; `None` where there are none yet.
fn some(read: std::io::Result<usize>) -> Result<Option<usize>> {
    match read {
        Ok(0) => bail!("the server has closed the connection"),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("reading an answer"),
    }
}

impl Answer {
    const fn is_next_whole(&self) -> bool {
        (self.pieces + 1).is_multiple_of(WHOLE_EVERY)
    }

    /// How much to read of HTTP/1.1: a head, all that is there, or as much as is looked at.
    const fn wants(&self) -> usize {
        match self.state {
            State::Body if self.is_next_whole() => usize::MAX,
            State::Body => LOOKED_AT,
            State::Head(_) | State::Idle => LONGEST_HEAD,
        }
    }

    /// How many bytes come that nobody looks at: none of a piece that is compared as a whole, nor the answer's last ones.
    fn passes_over(&self) -> usize {
        if !matches!(self.state, State::Body) || self.is_next_whole() {
            return 0;
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        left.saturating_sub(LOOKED_AT)
    }

    const fn pass_over(&mut self, count: usize, progress: &mut Progress) {
        self.at += count as u64;
        progress.bytes += count as u64;
    }

    /// Takes bytes of HTTP/1.1.
    fn take(&mut self, bytes: &[u8], progress: &mut Progress) -> Result<()> {
        let mut body = bytes;
        if let State::Head(head) = &mut self.state {
            if head.is_empty() {
                progress.first_byte = Some(self.asked.elapsed());
            }
            // What an answer's first read brings of the body is small beside the body.
            let known = head.len();
            head.extend_from_slice(&body[..body.len().min(LONGEST_HEAD)]);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                if head.len() >= LONGEST_HEAD {
                    bail!("a head without an end");
                }
                return Ok(());
            };
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            self.expect(&text)?;
            body = &body[end + 4 - known..];
            self.state = State::Body;
        }
        self.take_body(body, progress)?;
        progress.is_whole = self.at == self.end;
        if progress.is_whole {
            self.state = State::Idle;
        }
        Ok(())
    }

    /// Takes what HTTP/2 brings.
    fn take_event(&mut self, event: &Event<'_>, progress: &mut Progress) -> Result<()> {
        match event {
            Event::Head(block) => {
                progress.first_byte = Some(self.asked.elapsed());
                // The places of `:status` 200 and 206 in the static table, after what may change the size of the other.
                let place = block.iter().find(|byte| **byte & 0xe0 != 0x20);
                let expected = if self.is_range { 0x8a } else { 0x88 };
                if place != Some(&expected) {
                    bail!("a head that begins with {place:?} instead of {expected}");
                }
                self.state = State::Body;
                Ok(())
            }
            Event::Data(bytes) => self.take_body(bytes, progress),
            Event::End => {
                if self.at != self.end {
                    bail!("an end {} bytes too early", self.end - self.at);
                }
                self.state = State::Idle;
                progress.is_whole = true;
                Ok(())
            }
        }
    }

    fn take_body(&mut self, body: &[u8], progress: &mut Progress) -> Result<()> {
        if !matches!(self.state, State::Body) {
            bail!("bytes that nobody asked for");
        }
        self.compare(body)?;
        progress.bytes += body.len() as u64;
        self.at += body.len() as u64;
        if self.at > self.end {
            bail!("more bytes than were asked for");
        }
        Ok(())
    }

    fn compare(&mut self, body: &[u8]) -> Result<()> {
        self.pieces += 1;
        let looked_at = if self.pieces.is_multiple_of(WHOLE_EVERY) {
            body.len()
        } else {
            body.len().min(LOOKED_AT)
        };
        check(&body[..looked_at], self.at)?;
        let last = body.len().saturating_sub(LOOKED_AT);
        check(&body[last..], self.at + last as u64)
    }

    /// Fails unless the head promises what was asked for.
    fn expect(&self, head: &str) -> Result<()> {
        let status = if self.is_range { "206" } else { "200" };
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        if first.split(' ').nth(1) != Some(status) {
            bail!("`{first}` instead of {status}");
        }
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<u64>().ok());
        if length != Some(self.end - self.at) {
            bail!("a length of {length:?} instead of {}", self.end - self.at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::Client;
    use crate::bench::origin::fill;

    /// What the client says to an answer for bytes 1000 to 1099.
    fn answered(head: &str, body: &[u8]) -> anyhow::Result<bool> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut client = Client::connect(listener.local_addr()?, None)?;
        let (mut server, _) = listener.accept()?;
        client.ask(0, Some((1000, 1100)))?;
        let mut request = [0; 512];
        let length = server.read(&mut request)?;
        assert!(
            request[..length]
                .windows(15)
                .any(|part| part == b"bytes=1000-1099")
        );
        server.write_all(format!("{head}\r\n\r\n").as_bytes())?;
        server.write_all(body)?;
        drop(server);
        client.stream.set_nonblocking(false)?;
        let mut piece = [0; 4096];
        loop {
            if client.read(&mut piece)?.is_whole {
                return Ok(true);
            }
        }
    }

    #[test]
    fn only_the_right_bytes_under_the_right_head_pass() {
        const HEAD: &str = "HTTP/1.1 206 Partial Content\r\ncontent-length: 100";
        let mut right = [0; 100];
        fill(&mut right, 1000);
        assert!(answered(HEAD, &right).expect("the right answer"));
        let mut wrong = right;
        wrong[3] ^= 1;
        assert!(answered(HEAD, &wrong).is_err(), "wrong at the start");
        let mut wrong = right;
        wrong[99] ^= 1;
        assert!(answered(HEAD, &wrong).is_err(), "wrong at the end");
        assert!(answered(HEAD, &right[..99]).is_err(), "too short");
        assert!(answered("HTTP/1.1 200 OK\r\ncontent-length: 100", &right).is_err());
        assert!(answered("HTTP/1.1 206 Partial Content\r\ncontent-length: 99", &right).is_err());
    }
}
