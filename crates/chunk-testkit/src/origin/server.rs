//! The socket form of the origin.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{Answer, AnswerBody, Framing};
use super::fault::Cut;
use super::journal::{Exchange, RequestRecord};
use super::link::{Bucket, Link};
use super::request::Request;
use super::world::{OriginWorld, object_name};

/// An HTTP/1.1 origin on loopback that does what a test tells it to, right or wrong.
///
/// It speaks raw TCP, because a library would not let it break the protocol. Dropping it closes every
/// connection.
#[derive(Debug)]
pub struct ScriptedOrigin {
    world: OriginWorld,
    address: SocketAddr,
    link: Link,
    serving: Option<JoinHandle<()>>,
}

impl ScriptedOrigin {
    /// Starts an origin without objects on a free loopback port.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(OriginWorld::new(), Link::new()).await
    }

    /// Starts an origin that serves `world` over a line of this shape.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start_with(world: OriginWorld, link: Link) -> io::Result<Self> {
        let mut origin = Self {
            world,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            link,
            serving: None,
        };
        origin.reopen().await?;
        Ok(origin)
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves; also reached by dereferencing.
    #[must_use]
    pub const fn world(&self) -> &OriginWorld {
        &self.world
    }

    /// Stops listening and drops every connection, as a machine that goes down. Its port is kept for
    /// [`ScriptedOrigin::reopen`].
    pub async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// Where the port was taken meanwhile.
    pub async fn reopen(&mut self) -> io::Result<()> {
        self.close().await;
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        if let Some(bytes) = self.link.send_buffer {
            // Accepted connections inherit it.
            socket.set_send_buffer_size(bytes)?;
        }
        socket.bind(self.address)?;
        let listener = socket.listen(1024)?;
        self.address = listener.local_addr()?;
        let line = Arc::new(Line {
            world: self.world.clone(),
            total: self.link.total_rate.map(Bucket::new),
            link: self.link.clone(),
        });
        self.serving = Some(tokio::spawn(accept(listener, line)));
        Ok(())
    }
}

impl Deref for ScriptedOrigin {
    type Target = OriginWorld;

    fn deref(&self) -> &OriginWorld {
        &self.world
    }
}

impl Drop for ScriptedOrigin {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

/// What every connection shares.
#[derive(Debug)]
struct Line {
    world: OriginWorld,
    total: Option<Bucket>,
    link: Link,
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    // Aborting this task drops the set, and with it every connection.
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(converse(stream, Arc::clone(&line), number));
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How a connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    Reset,
}

async fn converse(stream: TcpStream, line: Arc<Line>, connection: u64) {
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.into_split();
    let own = line.link.connection_rate.map(Bucket::new);
    let mut buffer = Vec::new();
    while let Ok(Some(request)) = Request::read(&mut reader, &mut buffer).await {
        let (answer, _) = line.world.answer(&request);
        let object = object_name(&request.target).to_owned();
        let exchange = line.world.journal().begin(RequestRecord {
            method: request.method.clone(),
            target: request.target.clone(),
            range: request.header("range").map(str::to_owned),
            object: object.clone(),
            headers: request.headers,
            body: request.body,
            connection,
            status: answer.status,
            version: answer.version,
            content_start: match answer.body {
                AnswerBody::Content { start, .. } => Some(start),
                AnswerBody::Text(_) => None,
            },
            ..RequestRecord::default()
        });
        let mut sender = Sender {
            releases: line.world.releases(),
            line: &line,
            own: own.as_ref(),
            writer: &mut writer,
            exchange: &exchange,
            object: &object,
        };
        // While an answer is under way, the only thing a client may do is leave.
        let sent = tokio::select! {
            sent = sender.send(&answer) => sent,
            () = left(&mut reader, &mut buffer) => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        let Ok(after) = sent else { return };
        exchange.complete();
        match after {
            After::KeepAlive => {}
            After::Close => {
                let _ = writer.shutdown().await;
                return;
            }
            After::Reset => {
                if let Ok(stream) = reader.reunite(writer) {
                    let _ = stream.set_zero_linger();
                }
                return;
            }
        }
    }
}

/// Waits until the peer closes.
async fn left(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) {
    while !matches!(reader.read_buf(buffer).await, Ok(0) | Err(_)) {}
}

/// One answer on its way.
struct Sender<'a> {
    line: &'a Line,
    releases: watch::Receiver<u64>,
    own: Option<&'a Bucket>,
    writer: &'a mut OwnedWriteHalf,
    exchange: &'a Exchange,
    object: &'a str,
}

impl Sender<'_> {
    async fn send(&mut self, answer: &Answer) -> io::Result<After> {
        if !self.line.link.delay.is_zero() {
            tokio::time::sleep(self.line.link.delay).await;
        }
        if answer.stall_head {
            self.stalled().await;
        }
        if answer.nothing {
            return Ok(After::Close);
        }
        let head = head(answer);
        match answer.slow_head {
            None => self.writer.write_all(head.as_bytes()).await?,
            Some(gap) => {
                for byte in head.as_bytes() {
                    self.writer.write_all(&[*byte]).await?;
                    tokio::time::sleep(gap).await;
                }
            }
        }
        if matches!(answer.framing, Framing::None(_)) {
            return Ok(After::KeepAlive);
        }
        self.send_body(answer).await
    }

    async fn stalled(&mut self) {
        // The sender cannot be gone: the line holds it.
        let _ = self.releases.changed().await;
    }

    async fn send_body(&mut self, answer: &Answer) -> io::Result<After> {
        let len = answer.body.len();
        let end = answer.cut.map_or(len, |(at, _)| at.min(len));
        let chunked = answer.framing == Framing::Chunked;
        let mut piece = vec![0; answer.drip.map_or(self.line.link.piece(), |_| 1)];
        let mut at = 0;
        let mut stall = answer.stall;
        while at < end || stall == Some(at) {
            if stall == Some(at) {
                stall = None;
                self.stalled().await;
                continue;
            }
            let until = stall.map_or(end, |stall| end.min(stall));
            let size = (until - at).min(piece.len() as u64) as usize;
            let data = &mut piece[..size];
            match &answer.body {
                AnswerBody::Content { start, .. } => {
                    answer.fill(self.object, start + at, data);
                }
                AnswerBody::Text(text) => {
                    data.copy_from_slice(&text.as_bytes()[at as usize..at as usize + size]);
                }
            }
            if let Some(gap) = answer.drip {
                tokio::time::sleep(gap).await;
            }
            for bucket in self.own.into_iter().chain(&self.line.total) {
                bucket.pass(size).await;
            }
            if chunked {
                let head = format!("{size:x}\r\n");
                self.writer.write_all(head.as_bytes()).await?;
            }
            let mut sent = 0;
            while sent < size {
                let n = self.writer.write(&piece[sent..size]).await?;
                self.exchange.sent(n as u64);
                sent += n;
            }
            if chunked {
                self.writer.write_all(b"\r\n").await?;
            }
            at += size as u64;
        }
        Ok(match answer.cut {
            Some((_, Cut::Close)) => After::Close,
            Some((_, Cut::Reset)) => After::Reset,
            None => match answer.framing {
                Framing::UntilClose => After::Close,
                Framing::Length(told) if told != len => After::Close,
                Framing::Chunked => {
                    self.writer.write_all(b"0\r\n\r\n").await?;
                    After::KeepAlive
                }
                _ => After::KeepAlive,
            },
        })
    }
}

fn head(answer: &Answer) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match answer.framing {
        Framing::Length(len) | Framing::None(Some(len)) => {
            head.push_str(&format!("Content-Length: {len}\r\n"));
        }
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose => head.push_str("Connection: close\r\n"),
        Framing::None(None) => {}
    }
    head.push_str("\r\n");
    head
}
