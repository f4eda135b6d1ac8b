//! A player: an HTTP client that shows every byte it gets.

use std::future::pending;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};

use crate::serve::Proxy;

/// How much a connection holds in flight, like a small socket buffer.
pub(super) const SOCKET: usize = 64 * 1024;

pub(super) struct Player<Io = DuplexStream> {
    pub(super) io: Io,
    buffer: Vec<u8>,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
}

/// An answer as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    /// Whether the body ended as its framing says it ends.
    pub(super) whole: bool,
}

impl Head {
    pub(super) fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// The value of a field, `None` where it is absent. Panics where it stands twice.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head.status
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

impl Player {
    pub(super) fn connect(proxy: &Proxy) -> Self {
        let (ours, theirs) = duplex(SOCKET);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve_connection(theirs, None, pending()).await });
        Self::over(ours)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Player<Io> {
    pub(super) const fn over(io: Io) -> Self {
        Self {
            io,
            buffer: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request without a body. Each of `fields` is a line without its end.
    pub(super) async fn ask(&mut self, method: &str, target: &str, fields: &[&str]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost:8787\r\n");
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.send(head).await;
    }

    pub(super) async fn get(&mut self, target: &str, fields: &[&str]) -> Answer {
        self.ask("GET", target, fields).await;
        self.answer().await
    }

    pub(super) async fn head(&mut self, target: &str, fields: &[&str]) -> Head {
        self.ask("HEAD", target, fields).await;
        self.answer_head().await.unwrap()
    }

    /// Reads more; `false` at the end of the connection.
    pub(super) async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.io.read(&mut piece).await {
            Ok(0) | Err(_) => false,
            Ok(len) => {
                self.buffer.extend_from_slice(&piece[..len]);
                true
            }
        }
    }

    /// What has been read and not looked at.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// The next answer's head; `None` where the connection ends instead.
    pub(super) async fn answer_head(&mut self) -> Option<Head> {
        let end = loop {
            let found = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            match found {
                Some(at) => break at + 4,
                None if self.fill().await => {}
                None => return None,
            }
        };
        let text = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Some(Head { status, fields })
    }

    /// The next answer, to a request that was not HEAD.
    pub(super) async fn answer(&mut self) -> Answer {
        let head = self.answer_head().await.expect("an answer");
        self.body(head).await
    }

    pub(super) async fn body(&mut self, head: Head) -> Answer {
        let (body, whole) = if matches!(head.status, 204 | 304) {
            (Vec::new(), true)
        } else if let Some(len) = head.field("content-length") {
            self.take(len.parse().unwrap()).await
        } else if head.field("transfer-encoding") == Some("chunked") {
            self.chunks().await
        } else {
            while self.fill().await {}
            (std::mem::take(&mut self.buffer), true)
        };
        Answer { head, body, whole }
    }

    /// The next `len` bytes, and whether they came.
    pub(super) async fn take(&mut self, len: usize) -> (Vec<u8>, bool) {
        while self.buffer.len() < len {
            if !self.fill().await {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
        (self.buffer.drain(..len).collect(), true)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(size) = self.line().await else {
                return (body, false);
            };
            let size = usize::from_str_radix(&size, 16).unwrap();
            let (chunk, whole) = self.take(size).await;
            body.extend(chunk);
            if !whole || self.line().await.is_none() {
                return (body, false);
            }
            if size == 0 {
                return (body, true);
            }
        }
    }

    /// Whether the connection is at its end, with nothing more said.
    pub(super) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }
}
