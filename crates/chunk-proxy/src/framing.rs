//! A gate in front of the HTTP parser that lets only well-framed request heads through.
//!
//! The parser behind it is lenient where leniency lets two parties disagree about where a request ends
//! (RFC 9112, 11.2): it takes bare line feeds, repeated lengths, and a length beside a transfer coding.
//! The gate holds a head back until all of it is there, and passes on one byte that no parser accepts in
//! place of a head that breaks a rule; the parser answers 400 to that and closes.
//!
//! After a request with a body nothing more is looked at: such a request is the last on its connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::flush::Flushed;

/// The longest head let through, request line included.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// How many bytes are read from the socket at once while looking for a head.
const READ_SIZE: usize = 4 * 1024;

/// A byte that can begin no request line.
const POISON: &[u8] = b"\0";

/// A connection whose request heads are checked.
#[derive(Debug)]
pub(crate) struct Gate<Io> {
    io: Io,
    flushed: Arc<Flushed>,
    state: State,
    /// Bytes read from the socket and not yet passed on.
    buffer: Vec<u8>,
    /// How far `buffer` has been searched for the end of a head.
    scanned: usize,
    /// How many bytes at the front of `buffer` may be passed on.
    passed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next byte that is not `passed` belongs to a head.
    Head,
    /// Nothing is looked at any more.
    Open,
    /// A head was refused: nothing more is read.
    Refused,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHead {
    RequestLine,
    BareLineFeed,
    Folded,
    FieldName,
    FieldValue,
    ContentLength,
    LengthAndCoding,
    TransferCoding,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    NextHead,
    Body,
}

impl<Io> Gate<Io> {
    /// A gate in front of `io`, of which `buffer` has been read already.
    pub(crate) const fn new(io: Io, buffer: Vec<u8>, flushed: Arc<Flushed>) -> Self {
        Self {
            io,
            flushed,
            state: State::Head,
            buffer,
            scanned: 0,
            passed: 0,
        }
    }

    /// Looks for the end of a head in what has been read, and judges it.
    fn scan(&mut self) {
        match find_end(&self.buffer, self.scanned) {
            Ok(Some(end)) => match check(&self.buffer[..end]) {
                Ok(follows) => {
                    self.passed = end;
                    if follows == Follows::Body {
                        self.open();
                    }
                }
                Err(bad) => self.refuse(bad),
            },
            // The parser has the same limit and answers 431.
            Ok(None) if self.buffer.len() > MAX_HEAD => self.open(),
            Ok(None) => self.scanned = self.buffer.len(),
            Err(bad) => self.refuse(bad),
        }
    }

    fn open(&mut self) {
        self.state = State::Open;
        self.passed = self.buffer.len();
    }

    fn refuse(&mut self, bad: BadHead) {
        tracing::debug!(?bad, "request head refused");
        self.state = State::Refused;
        self.buffer = POISON.to_vec();
        self.passed = POISON.len();
    }

    /// Passes on what may be.
    fn pass(&mut self, out: &mut ReadBuf<'_>) {
        let len = self.passed.min(out.remaining());
        out.put_slice(&self.buffer[..len]);
        self.buffer.drain(..len);
        self.passed -= len;
        self.scanned = 0;
        if self.buffer.is_empty() {
            // An idle connection holds no memory for heads.
            self.buffer = Vec::new();
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Gate<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                this.pass(out);
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Refused => return Poll::Ready(Ok(())),
                State::Open => return Pin::new(&mut this.io).poll_read(cx, out),
                State::Head => {}
            }
            // What is left over from the last read may already hold another head.
            if this.scanned < this.buffer.len() {
                this.scan();
                continue;
            }
            let mut piece = [0; READ_SIZE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.buffer.extend_from_slice(read.filled());
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Gate<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.flushed.note();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// The offset after the empty line that ends the head at the front of `bytes`, searched from `from` on.
/// A bare line feed is refused as soon as it is seen, because with it the end might never be.
pub(crate) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, BadHead> {
    for at in from..bytes.len() {
        if bytes[at] != b'\n' {
            continue;
        }
        let before = &bytes[..at];
        if !before.ends_with(b"\r") {
            return Err(BadHead::BareLineFeed);
        }
        // Empty lines before the request line are to be skipped (RFC 9112, 2.2).
        let leading = before.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if before.ends_with(b"\r\n\r") && !leading {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Judges a whole head, which `find_end` delimited.
pub(crate) fn check(head: &[u8]) -> Result<Follows, BadHead> {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty());
    let request_line = lines.next().ok_or(BadHead::RequestLine)?;
    // A target has no fragment (RFC 9112, 3.2), and the parser would quietly drop one.
    if request_line
        .iter()
        .any(|&byte| byte == b'#' || byte == b'\t' || byte.is_ascii_control())
        || request_line.iter().filter(|&&byte| byte == b' ').count() != 2
    {
        return Err(BadHead::RequestLine);
    }
    let mut length = None;
    let mut coding = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        if matches!(line[0], b' ' | b'\t') {
            return Err(BadHead::Folded);
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.ok_or(BadHead::FieldName)?);
        let value = value[1..].trim_ascii();
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return Err(BadHead::FieldName);
        }
        if value
            .iter()
            .any(|&byte| byte != b'\t' && byte.is_ascii_control())
        {
            return Err(BadHead::FieldValue);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            // Even a second one with the same number: whoever sent it was confused or is lying.
            if !digits || length.is_some() {
                return Err(BadHead::ContentLength);
            }
            length = Some(value.iter().any(|&digit| digit != b'0'));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if coding || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(BadHead::TransferCoding);
            }
            coding = true;
        }
    }
    match (length, coding) {
        (Some(_), true) => Err(BadHead::LengthAndCoding),
        // RFC 9112, 6.1: a version without transfer codings cannot mean one.
        (None, true) if !request_line.ends_with(b" HTTP/1.1") => Err(BadHead::TransferCoding),
        (None, true) | (Some(true), false) => Ok(Follows::Body),
        (None | Some(false), false) => Ok(Follows::NextHead),
    }
}

/// RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// What the parser behind the gate gets to see of `sent`.
    async fn through(sent: &[u8]) -> Vec<u8> {
        let mut seen = Vec::new();
        Gate::new(sent, Vec::new(), Arc::default())
            .read_to_end(&mut seen)
            .await
            .unwrap();
        seen
    }

    #[test]
    fn fault44_bad_heads_are_refused() {
        let table: &[(&str, BadHead)] = &[
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                BadHead::LengthAndCoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
                BadHead::LengthAndCoding,
            ),
            (
                "Content-Length: 1\r\nContent-Length: 2\r\n",
                BadHead::ContentLength,
            ),
            (
                "Content-Length: 5\r\ncontent-length: 5\r\n",
                BadHead::ContentLength,
            ),
            ("Content-Length: 5, 5\r\n", BadHead::ContentLength),
            ("Content-Length: +5\r\n", BadHead::ContentLength),
            ("Content-Length:\r\n", BadHead::ContentLength),
            (
                "Transfer-Encoding: gzip, chunked\r\n",
                BadHead::TransferCoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                BadHead::TransferCoding,
            ),
            ("Transfer-Encoding: identity\r\n", BadHead::TransferCoding),
            ("Transfer-Encoding: xchunked\r\n", BadHead::TransferCoding),
            ("A: b\r\n folded\r\n", BadHead::Folded),
            ("A: b\r\n\tfolded\r\n", BadHead::Folded),
            ("Content-Length : 1\r\n", BadHead::FieldName),
            (": empty\r\n", BadHead::FieldName),
            ("no colon\r\n", BadHead::FieldName),
            ("A: b\0c\r\n", BadHead::FieldValue),
            ("A: b\rc\r\n", BadHead::FieldValue),
        ];
        for (fields, bad) in table {
            let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            assert_eq!(check(head.as_bytes()), Err(*bad), "{fields:?}");
        }
        for line in [
            "GET /#a HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /",
            "GET / a HTTP/1.1",
            "GET\t/ HTTP/1.1",
        ] {
            let head = format!("{line}\r\nHost: localhost\r\n\r\n");
            assert_eq!(
                check(head.as_bytes()),
                Err(BadHead::RequestLine),
                "{line:?}"
            );
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(check(old), Err(BadHead::TransferCoding));
    }

    #[test]
    fn good_heads_say_what_follows() {
        assert_eq!(check(GET), Ok(Follows::NextHead));
        let post = |field: &str| check(format!("POST / HTTP/1.1\r\n{field}\r\n\r\n").as_bytes());
        assert_eq!(post("Content-Length: 0"), Ok(Follows::NextHead));
        assert_eq!(post("Content-Length: 7"), Ok(Follows::Body));
        assert_eq!(post("Transfer-Encoding: Chunked"), Ok(Follows::Body));
        assert_eq!(post("A:\tb \t"), Ok(Follows::NextHead));
    }

    #[tokio::test]
    async fn pipelined_heads_pass_one_after_the_other() {
        let sent = [b"\r\n\r\n", GET, GET].concat();
        assert_eq!(through(&sent).await, sent);
    }

    #[tokio::test]
    async fn fault44_a_bare_line_feed_is_refused_before_the_head_ends() {
        assert_eq!(through(b"GET / HTTP/1.1\nHost: localhost").await, POISON);
        assert_eq!(through(b"\nGET / HTTP/1.1\r\n\r\n").await, POISON);
        let smuggled = [GET, b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n"].concat();
        assert_eq!(through(&smuggled).await, [GET, POISON].concat());
    }

    #[tokio::test]
    async fn a_body_is_none_of_the_gates_business() {
        let sent = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\nGET / HTTP/1.1\n\n";
        assert_eq!(through(sent).await, sent);
    }

    #[tokio::test]
    async fn a_head_that_never_ends_reaches_the_parser_at_the_limit() {
        let mut sent = b"GET / HTTP/1.1\r\nA: ".to_vec();
        sent.resize(MAX_HEAD + READ_SIZE, b'a');
        assert!(through(&sent).await.len() > MAX_HEAD);
        sent.truncate(MAX_HEAD);
        assert_eq!(through(&sent).await, b"", "an unfinished head is held back");
    }

    proptest! {
        #[test]
        fn fault44_any_bytes_are_judged_without_panic(head: Vec<u8>) {
            let _ = find_end(&head, 0).map(|end| end.map(|end| check(&head[..end])));
            let _ = check(&head);
        }

        #[test]
        fn fault44_what_passes_has_no_bare_line_feed_and_one_framing(
            fields in proptest::collection::vec(
                prop_oneof![
                    Just("Content-Length: 3\r\n"), Just("Content-Length: 0\r\n"), Just("A: b\r\n"),
                    Just("Transfer-Encoding: chunked\r\n"), Just("A: b\n"), Just(" x\r\n"),
                ],
                0..4,
            ),
        ) {
            let head = format!("POST / HTTP/1.1\r\n{}\r\n", fields.concat());
            let framings = fields.iter().filter(|field| !field.starts_with(['A', ' '])).count();
            let odd = fields.iter().any(|field| field.starts_with(' ') || !field.contains('\r'));
            let passes = matches!(find_end(head.as_bytes(), 0), Ok(Some(end)) if check(&head.as_bytes()[..end]).is_ok());
            prop_assert_eq!(passes, framings <= 1 && !odd, "{:?}", head);
        }
    }
}
