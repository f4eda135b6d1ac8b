//! A media server small enough for an example: one film, ranges, a strong validator. Not for real use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The length of the film.
pub(crate) const LENGTH: u64 = 64 * 1024 * 1024;
const ETAG: &str = "\"first-cut\"";

/// The film's bytes from `start` up to, not including, `end`: each a function of where it stands, so that
/// whoever reads it can check it.
pub(crate) fn film(start: u64, end: u64) -> Bytes {
    (start..end)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0])
        .collect()
}

/// A server on the loopback.
#[derive(Debug)]
pub(crate) struct MediaServer {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl MediaServer {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                // A client that stops reading half-way is no error: it has what it wanted.
                tokio::spawn(async move { drop(answer(socket).await) });
            }
        });
        Ok(Self {
            address,
            requests,
            task,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// How many requests have come; each on its own connection.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Stops listening, as a server does that is switched off.
    pub(crate) async fn stop(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

/// Answers one request and closes the connection.
async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = socket.split();
    let mut lines = BufReader::new(reader).lines();
    let mut range = None;
    while let Some(line) = lines.next_line().await? {
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("range") {
            range = parse(value.trim());
        }
    }
    let (start, end) = range.unwrap_or((0, LENGTH));
    let status = match range {
        Some(_) => format!(
            "206 Partial Content\r\nContent-Range: bytes {start}-{}/{LENGTH}",
            end - 1
        ),
        None => "200 OK".to_owned(),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: {ETAG}\r\nContent-Type: video/x-matroska\r\n\
         Cache-Control: max-age=3600\r\nConnection: close\r\n\r\n",
        end - start
    );
    writer.write_all(head.as_bytes()).await?;
    let mut at = start;
    while at < end {
        let next = end.min(at + 64 * 1024);
        writer.write_all(&film(at, next)).await?;
        at = next;
    }
    writer.shutdown().await
}

/// The one form that a fetcher of whole spans sends: `bytes=FIRST-` or `bytes=FIRST-LAST`.
fn parse(value: &str) -> Option<(u64, u64)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = first.parse().ok()?;
    let end = match last {
        "" => LENGTH,
        last => last.parse::<u64>().ok()?.saturating_add(1).min(LENGTH),
    };
    (start < end).then_some((start, end))
}
