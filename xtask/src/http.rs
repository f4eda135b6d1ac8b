//! The little of HTTP/1.1 that checks and measurements need: one GET per connection, with an exact clock on it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Nothing here takes longer than this between two bytes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Get<'a> {
    pub(crate) server: SocketAddr,
    pub(crate) path: &'a str,
    /// The value of the `Range` header, for instance `bytes=0-`.
    pub(crate) range: Option<String>,
}

/// An answer whose head has been read; its body comes as it is asked for.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The headers, their names in lower case.
    headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
    started: Instant,
}

/// When a body's first byte was there, and when all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) first_byte: Duration,
    pub(crate) whole: Duration,
}

impl Get<'_> {
    /// Sends the request and reads the head of the answer.
    pub(crate) fn send(&self) -> Result<Answer> {
        self.send_patiently(PATIENCE)
    }

    /// The same for somebody who waits no longer than `patience` between two bytes.
    pub(crate) fn send_patiently(&self, patience: Duration) -> Result<Answer> {
        let started = Instant::now();
        let mut stream = TcpStream::connect(self.server).context("cannot connect")?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let mut head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", self.path, self.server);
        if let Some(range) = &self.range {
            head.push_str(&format!("Range: {range}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;

        let mut body = BufReader::with_capacity(64 << 10, stream);
        let first = line(&mut body)?;
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("not an HTTP/1.1 answer: `{first}`"))?;
        let mut headers = Vec::new();
        loop {
            let line = line(&mut body)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer {
            status,
            headers,
            body,
            started,
        })
    }

    /// Sends the request, expects the status, and reads the whole body.
    pub(crate) fn fetch(&self, expected: u16) -> Result<(Vec<u8>, Times)> {
        let mut answer = self.send()?;
        answer.expect(expected)?;
        let length = answer.content_length()?;
        answer.read(length)
    }
}

impl Answer {
    /// Fails unless the status is the expected one.
    pub(crate) fn expect(&self, status: u16) -> Result<()> {
        if self.status != status {
            bail!("status {} instead of {status}", self.status);
        }
        Ok(())
    }

    /// The value of a header, asked for in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// The length that the answer promises.
    pub(crate) fn content_length(&self) -> Result<usize> {
        let length = self.header("content-length").context("no Content-Length")?;
        length.parse().context("Content-Length is not a number")
    }

    /// From now on no read waits for longer than this.
    pub(crate) fn wait_at_most(&self, patience: Duration) -> Result<()> {
        // Zero would mean for ever.
        let patience = patience.max(Duration::from_millis(1));
        Ok(self.body.get_ref().set_read_timeout(Some(patience))?)
    }

    /// Reads what there is of the body, at most a buffer full and at least one byte; the end is an error.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.body.read(buffer).context("the body stalls")?;
        if count == 0 {
            bail!("the body ends early");
        }
        Ok(count)
    }

    /// Reads exactly so many bytes of the body; the times count from before the connection was opened.
    pub(crate) fn read(&mut self, length: usize) -> Result<(Vec<u8>, Times)> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        let mut first_byte = None;
        while filled < length {
            let count = self
                .body
                .read(&mut bytes[filled..])
                .context("the body stalls")?;
            if count == 0 {
                bail!("the body ends after {filled} of {length} bytes");
            }
            first_byte.get_or_insert_with(|| self.started.elapsed());
            filled += count;
        }
        let whole = self.started.elapsed();
        let times = Times {
            first_byte: first_byte.unwrap_or(whole),
            whole,
        };
        Ok((bytes, times))
    }
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line).context("no answer")?;
    line.strip_suffix("\r\n")
        .map(ToOwned::to_owned)
        .context("the connection ends within the head of the answer")
}
