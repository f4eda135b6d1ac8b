//! Reading requests off a connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A request's head and body.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a field, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The same without its conditions.
    pub(crate) fn unconditional(&self) -> Self {
        Self {
            headers: self
                .headers
                .iter()
                .filter(|(name, _)| !name.starts_with("if-"))
                .cloned()
                .collect(),
            ..self.clone()
        }
    }

    /// Reads one request; `None` where the peer closed before one began. `buffer` keeps what came early.
    pub(crate) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<Self>> {
        let head_len = loop {
            if let Some(at) = find(buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > 64 * 1024 {
                return Err(io::Error::other("a request head of more than 64 KiB"));
            }
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_len]).into_owned();
        buffer.drain(..head_len);
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let mut request = Self {
            method: first.next().unwrap_or_default().to_owned(),
            target: first.next().unwrap_or_default().to_owned(),
            headers: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        };
        if request.header("transfer-encoding").is_some() {
            request.body = read_chunks(stream, buffer).await?;
        } else {
            let len = request.header("content-length");
            let len = len.and_then(|len| len.parse().ok()).unwrap_or(0);
            fill_to(stream, buffer, len).await?;
            request.body = buffer.drain(..len).collect();
        }
        Ok(Some(request))
    }
}

async fn read_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = find(buffer, b"\r\n") {
                break at;
            }
            fill_to(stream, buffer, buffer.len() + 1).await?;
        };
        let size = std::str::from_utf8(&buffer[..line])
            .ok()
            .and_then(|size| usize::from_str_radix(size, 16).ok())
            .ok_or_else(|| io::Error::other("a chunk without a size"))?;
        fill_to(stream, buffer, line + 2 + size + 2).await?;
        body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
        buffer.drain(..line + 2 + size + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn fill_to(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    len: usize,
) -> io::Result<()> {
    while buffer.len() < len {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
