//! A client that says what it means and reads what it gets.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer whose head has been read.
#[derive(Debug)]
pub(crate) struct Begun<Io> {
    io: Io,
    head: String,
    rest: Vec<u8>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Begun<Io> {
    /// Says `request`, and reads the head of its answer.
    pub(crate) async fn new(mut io: Io, request: &str) -> std::io::Result<Self> {
        io.write_all(request.as_bytes()).await?;
        let mut rest = Vec::new();
        loop {
            if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let body = rest.split_off(end + 4);
                let head = String::from_utf8_lossy(&rest).into_owned();
                return Ok(Self {
                    io,
                    head,
                    rest: body,
                });
            }
            if io.read_buf(&mut rest).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads until `len` bytes of the body are there.
    pub(crate) async fn at_least(&mut self, len: usize) {
        while self.rest.len() < len {
            assert_ne!(self.io.read_buf(&mut self.rest).await.unwrap(), 0);
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// What has been read of the body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.rest
    }

    /// Reads to the end of the connection.
    pub(crate) async fn finish(mut self) -> std::io::Result<Answer> {
        self.io.read_to_end(&mut self.rest).await?;
        let mut answer = Answer {
            status: self.status(),
            head: self.head,
            body: self.rest,
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = dechunk(&answer.body);
        } else if let Some(len) = answer.header("content-length")
            && answer.body.len() as u64 != len.parse::<u64>().unwrap()
        {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }
}

/// Asks a server for players; `fields` are whole lines.
pub(crate) async fn begin(
    address: SocketAddr,
    target: &str,
    fields: &str,
) -> std::io::Result<Begun<TcpStream>> {
    let io = TcpStream::connect(address).await?;
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n");
    Begun::new(io, &request).await
}

/// The same, on a connection that is kept for another request.
pub(crate) async fn begin_and_stay(
    address: SocketAddr,
    target: &str,
    fields: &str,
) -> std::io::Result<Begun<TcpStream>> {
    let io = TcpStream::connect(address).await?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    Begun::new(io, &request).await
}

/// The answer to `GET target`, asked of `address` under the name `host`.
pub(crate) async fn get_as(address: SocketAddr, host: &str, target: &str) -> Answer {
    let io = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let begun = Begun::new(io, &request).await.unwrap();
    begun.finish().await.unwrap()
}

/// Asks for all of `target`, or the range that `fields` name.
pub(crate) async fn get(address: SocketAddr, target: &str, fields: &str) -> Answer {
    let begun = begin(address, target, fields).await.unwrap();
    begun.finish().await.unwrap()
}

/// What comes in answer to `method target`, head and all.
pub(crate) async fn whatever(address: SocketAddr, method: &str, target: &str) -> String {
    let mut io = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Asks whoever holds the cache folder.
pub(crate) async fn order(folder: &Path, method: &str, path: &str, body: &str) -> Answer {
    try_order(folder, method, path, body).await.unwrap()
}

/// Asks whoever holds the cache folder, if anybody does.
pub(crate) async fn try_order(
    folder: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<Answer> {
    let io = UnixStream::connect(folder.join("chunkd.sock")).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: chunkd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Begun::new(io, &request).await?.finish().await
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return out;
        }
        out.extend_from_slice(&body[end + 2..end + 2 + len]);
        body = &body[end + 4 + len..];
    }
}
