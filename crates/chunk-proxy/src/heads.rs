//! Heads of plain requests and of their answers, as bytes.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use crate::body::Body;
use crate::dated;
use crate::framing::{Follows, check};

/// As many fields are read; players send ten.
const MOST_FIELDS: usize = 64;

/// A request that the lane answers.
pub(crate) struct Plain {
    pub(crate) request: Request<Body>,
    pub(crate) is_head: bool,
    /// Whether the client wants no other answer on its connection.
    pub(crate) is_last: bool,
}

/// Reads a whole head; `None` where it is not plain, or not good.
pub(crate) fn parse(head: &[u8]) -> Option<Plain> {
    if check(head) != Ok(Follows::NextHead) {
        return None;
    }
    let mut fields = [MaybeUninit::uninit(); MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(head, &mut fields).ok()?;
    if status.is_partial() || parsed.version != Some(1) {
        return None;
    }
    let method = match parsed.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    if headers.contains_key(UPGRADE) || headers.contains_key(EXPECT) {
        return None;
    }
    let is_last = {
        let mut options = headers.get_all(CONNECTION).iter();
        match (options.next(), options.next()) {
            (None, _) => false,
            (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"keep-alive") => false,
            (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"close") => true,
            _ => return None,
        }
    };
    let is_head = method == Method::HEAD;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    *request.headers_mut() = headers;
    Some(Plain {
        request,
        is_head,
        is_last,
    })
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) head: Vec<u8>,
    pub(crate) is_chunked: bool,
    /// Whether it says that it is the last one.
    pub(crate) is_last: bool,
}

/// Writes the head of an answer to a request of HTTP/1.1, with the framing of its body (RFC 9112, 6.3).
pub(crate) fn write_head(
    parts: &Parts,
    body: &Body,
    is_head: bool,
    is_last: bool,
    date: &mut Date,
) -> Written {
    let mut head = Vec::with_capacity(512);
    push_status(&mut head, parts.status);
    push_fields(&mut head, &parts.headers);
    let said = parts.headers.get(CONNECTION);
    let says_last = said.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    if is_last && !says_last {
        field(&mut head, &CONNECTION, b"close");
    }
    // RFC 9110, 8.6 and 15.4.5: these have no body, and what a GET would give is not to be guessed for a HEAD.
    let has_body = !is_head
        && parts.status != StatusCode::NO_CONTENT
        && parts.status != StatusCode::NOT_MODIFIED;
    let mut is_chunked = false;
    if has_body && !parts.headers.contains_key(CONTENT_LENGTH) {
        match body.len() {
            Some(len) => field(&mut head, &CONTENT_LENGTH, len.to_string().as_bytes()),
            None => {
                is_chunked = true;
                field(&mut head, &TRANSFER_ENCODING, b"chunked");
            }
        }
    }
    if !parts.headers.contains_key(DATE) {
        field(&mut head, &DATE, date.now());
    }
    head.extend_from_slice(b"\r\n");
    Written {
        head,
        is_chunked,
        is_last: is_last || says_last,
    }
}

/// Writes the first line of an answer.
pub(crate) fn push_status(head: &mut Vec<u8>, status: StatusCode) {
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.extend_from_slice(b"\r\n");
}

pub(crate) fn push_fields(head: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        field(head, name, value.as_bytes());
    }
}

/// Writes a number; what the standard library has for that takes several times as long.
pub(crate) fn push_decimal(head: &mut Vec<u8>, number: u64) {
    head.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn field(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// The time of day as HTTP writes it, written anew each second.
#[derive(Debug, Default)]
pub(crate) struct Date {
    second: u64,
    text: String,
}

impl Date {
    pub(crate) fn now(&mut self) -> &[u8] {
        let since = dated::clamped(SystemTime::now());
        if self.text.is_empty() || since.as_secs() != self.second {
            self.second = since.as_secs();
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + since);
        }
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn plain(head: &str) -> Option<Plain> {
        parse(head.as_bytes())
    }

    #[test]
    fn plain_is_what_players_send() {
        let ask = |first: &str, fields: &str| plain(&format!("{first}\r\nHost: a\r\n{fields}\r\n"));
        let get = ask("GET /f?x=1 HTTP/1.1", "Range: bytes=0-\r\n").unwrap();
        assert_eq!((get.is_head, get.is_last), (false, false));
        assert_eq!(get.request.uri(), "/f?x=1");
        assert_eq!(get.request.headers()["range"], "bytes=0-");
        assert!(ask("HEAD / HTTP/1.1", "").unwrap().is_head);
        assert!(
            ask("GET / HTTP/1.1", "Connection: Close\r\n")
                .unwrap()
                .is_last
        );
        assert!(
            !ask("GET / HTTP/1.1", "Connection: keep-alive\r\n")
                .unwrap()
                .is_last
        );
    }

    #[test]
    fn fault44_whatever_is_not_plain_is_the_librarys() {
        for (first, fields) in [
            ("POST / HTTP/1.1", ""),
            ("GET / HTTP/1.0", ""),
            ("GET / HTTP/1.1", "Content-Length: 3\r\n"),
            ("GET / HTTP/1.1", "Transfer-Encoding: chunked\r\n"),
            (
                "GET / HTTP/1.1",
                "Content-Length: 0\r\nContent-Length: 0\r\n",
            ),
            ("GET / HTTP/1.1", "Upgrade: h2c\r\n"),
            ("GET / HTTP/1.1", "Expect: 100-continue\r\n"),
            ("GET / HTTP/1.1", "Connection: close, x\r\n"),
            (
                "GET / HTTP/1.1",
                "Connection: close\r\nConnection: keep-alive\r\n",
            ),
            ("GET / HTTP/1.1", "A : b\r\n"),
            ("GET / HTTP/1.1", " folded\r\n"),
            ("GET /#f HTTP/1.1", ""),
            ("GET  / HTTP/1.1", ""),
        ] {
            let head = format!("{first}\r\nHost: a\r\n{fields}\r\n");
            assert!(plain(&head).is_none(), "{head}");
        }
        let many = "A: b\r\n".repeat(MOST_FIELDS + 1);
        assert!(plain(&format!("GET / HTTP/1.1\r\n{many}\r\n")).is_none());
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        let text = |status: u16, body: Body, is_head: bool, is_last: bool| {
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let (parts, body) = response.into_parts();
            let written = write_head(&parts, &body, is_head, is_last, &mut Date::default());
            String::from_utf8(written.head).unwrap()
        };
        let whole = text(200, Body::text("abc"), false, false);
        assert!(
            whole.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ndate: "),
            "{whole}"
        );
        assert!(whole.ends_with(" GMT\r\n\r\n"), "{whole}");
        assert!(text(200, Body::empty(), false, true).contains("\r\nconnection: close\r\n"));
        assert!(text(404, Body::empty(), false, false).contains("\r\ncontent-length: 0\r\n"));
        for no_body in [
            text(304, Body::empty(), false, false),
            text(204, Body::empty(), false, false),
            text(200, Body::empty(), true, false),
        ] {
            assert!(!no_body.contains("content-length"), "{no_body}");
        }
    }
}
