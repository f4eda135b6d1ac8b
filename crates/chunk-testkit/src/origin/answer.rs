//! What to answer to a request: first rightly, then with the faults of the script.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::content::fill_content;
use super::fault::{Cut, Fault};
use super::object::OriginObject;
use super::request::Request;

/// An answer as it will go out.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: AnswerBody,
    pub(crate) framing: Framing,
    pub(crate) version: u64,
    patches: Vec<(u64, Arc<[u8]>)>,
    /// Where the body ends before its time.
    pub(crate) cut: Option<(u64, Cut)>,
    /// After how many body bytes to wait for the test.
    pub(crate) stall: Option<u64>,
    pub(crate) stall_head: bool,
    pub(crate) slow_head: Option<Duration>,
    /// The gap before each single byte of the body.
    pub(crate) drip: Option<Duration>,
    pub(crate) nothing: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum AnswerBody {
    /// Bytes of the object.
    Content { start: u64, len: u64 },
    /// Something else.
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length` with this value.
    Length(u64),
    Chunked,
    UntilClose,
    /// No body at all (304, answers to HEAD); the length, where given, is only told.
    None(Option<u64>),
}

impl AnswerBody {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Content { len, .. } => *len,
            Self::Text(text) => text.len() as u64,
        }
    }
}

impl Answer {
    /// The answer of an origin without fault.
    pub(crate) fn right(object: Option<&OriginObject>, request: &Request) -> Self {
        let mut answer = Self {
            status: 200,
            headers: vec![("Date".to_owned(), date(object))],
            body: AnswerBody::Text(String::new()),
            framing: Framing::Length(0),
            version: object.map_or(0, |object| object.version),
            patches: object.map_or(Vec::new(), |object| object.patches.clone()),
            cut: None,
            stall: None,
            stall_head: false,
            slow_head: None,
            drip: None,
            nothing: false,
        };
        let Some(object) = object else {
            answer.status = 404;
            answer.set_text("no such object");
            return answer;
        };
        if request.method != "GET" && request.method != "HEAD" {
            answer.headers.extend(object.headers.iter().cloned());
            let text = format!("{} done", request.method);
            answer.set_text(&text);
            return answer;
        }
        answer.describe(object);
        if is_not_modified(object, request) {
            answer.status = 304;
            answer.framing = Framing::None(None);
            return answer;
        }
        let range = request
            .header("range")
            .filter(|_| {
                request.method == "GET" && object.accepts_ranges && if_range(object, request)
            })
            .and_then(|field| parse_range(field, object.len));
        match range {
            None => answer.set_content(0, object.len),
            Some(Some((start, end))) => {
                answer.status = 206;
                answer.set_field(
                    "Content-Range",
                    &format!("bytes {start}-{}/{}", end - 1, object.len),
                );
                answer.set_content(start, end - start);
            }
            Some(None) => {
                answer.status = 416;
                answer.set_field("Content-Range", &format!("bytes */{}", object.len));
                answer.set_text("");
            }
        }
        if request.method == "HEAD" {
            answer.framing = Framing::None(Some(answer.body.len()));
        }
        answer
    }

    /// Applies one fault.
    pub(crate) fn spoil(
        &mut self,
        fault: &Fault,
        object: Option<&OriginObject>,
        request: &Request,
    ) {
        let total = object.map_or(0, |object| object.len);
        match fault {
            Fault::IgnoreRange => {
                if self.status == 206 || self.status == 416 {
                    self.status = 200;
                    self.drop_field("Content-Range");
                    self.set_content(0, total);
                }
            }
            Fault::IgnoreConditions => *self = Self::right(object, &request.unconditional()),
            Fault::StartLater { by } => self.shift(*by, 0, total),
            Fault::EndEarlier { by } => self.shift(0, *by, total),
            Fault::NoContentRange => self.drop_field("Content-Range"),
            Fault::ContentRange(text) => self.set_field("Content-Range", text),
            Fault::WrongTotal(wrong) => {
                if let AnswerBody::Content { start, len } = self.body {
                    let text = format!("bytes {start}-{}/{wrong}", start + len - 1);
                    self.set_field("Content-Range", &text);
                }
            }
            Fault::NoTotal => {
                if self.status == 206
                    && let AnswerBody::Content { start, len } = self.body
                {
                    let text = format!("bytes {start}-{}/*", start + len - 1);
                    self.set_field("Content-Range", &text);
                }
            }
            Fault::CutAfter { bytes, how } => self.cut = Some((*bytes, *how)),
            Fault::LongerThanRange { by } => {
                if let AnswerBody::Content { start, len } = self.body {
                    self.set_content(start, len + by);
                }
            }
            Fault::LongerThanLength { by } => {
                if let AnswerBody::Content { start, len } = self.body {
                    self.set_content(start, len + by);
                    self.framing = Framing::Length(len);
                }
            }
            Fault::Chunked => self.framing = Framing::Chunked,
            Fault::UntilClose => self.framing = Framing::UntilClose,
            Fault::Gzip => self.set_field("Content-Encoding", "gzip"),
            Fault::Multipart => {
                self.drop_field("Content-Range");
                self.set_field("Content-Type", "multipart/byteranges; boundary=b");
                self.set_text("--b\r\nContent-Range: bytes 0-0/1\r\n\r\nx\r\n--b--\r\n");
            }
            Fault::Status {
                status,
                headers,
                body,
            } => {
                self.status = *status;
                self.headers.truncate(1);
                self.headers.extend(headers.iter().cloned());
                self.set_text(body);
            }
            Fault::HeadStatus(status) => {
                if request.method == "HEAD" {
                    self.status = *status;
                    self.headers.truncate(1);
                    self.framing = Framing::None(Some(0));
                }
            }
            Fault::StallBeforeHead => self.stall_head = true,
            Fault::StallAfter { bytes } => self.stall = Some(*bytes),
            Fault::Redirect { status, location } => {
                self.status = *status;
                self.headers.truncate(1);
                self.set_field("Location", location);
                self.set_text("");
            }
            Fault::LoginPage => {
                self.status = 200;
                self.headers.truncate(1);
                self.set_field("Content-Type", "text/html; charset=utf-8");
                self.set_text("<!doctype html><title>Log in</title><form></form>");
            }
            Fault::SlowHead { gap_ms } => self.slow_head = Some(Duration::from_millis(*gap_ms)),
            Fault::Drip { gap_ms } => self.drip = Some(Duration::from_millis(*gap_ms)),
            Fault::NoAnswer => self.nothing = true,
            // The object itself has changed already.
            Fault::NewVersion(_) => {}
        }
    }

    fn shift(&mut self, later: u64, earlier: u64, total: u64) {
        if let AnswerBody::Content { start, len } = self.body {
            let len = len.saturating_sub(later + earlier).max(1);
            let start = start + later;
            self.set_field(
                "Content-Range",
                &format!("bytes {start}-{}/{total}", start + len - 1),
            );
            self.set_content(start, len);
        }
    }

    fn describe(&mut self, object: &OriginObject) {
        if object.accepts_ranges {
            self.set_field("Accept-Ranges", "bytes");
        }
        if let Some(tag) = object.etag() {
            self.set_field("ETag", &tag);
        }
        if let Some(at) = object.last_modified {
            self.set_field("Last-Modified", &http_date(at));
        }
        if let Some(media_type) = &object.content_type {
            self.set_field("Content-Type", media_type);
        }
        self.headers.extend(object.headers.iter().cloned());
    }

    /// The bytes of the object named `object` from `offset` on.
    pub(crate) fn fill(&self, object: &str, offset: u64, out: &mut [u8]) {
        fill_content(object, self.version, offset, out);
        let end = offset + out.len() as u64;
        for (start, patch) in &self.patches {
            let from = offset.max(*start);
            let to = end.min(start + patch.len() as u64);
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&patch[(from - start) as usize..(to - start) as usize]);
            }
        }
    }

    fn set_content(&mut self, start: u64, len: u64) {
        self.body = AnswerBody::Content { start, len };
        self.framing = Framing::Length(len);
    }

    fn set_text(&mut self, text: &str) {
        self.body = AnswerBody::Text(text.to_owned());
        self.framing = Framing::Length(text.len() as u64);
    }

    fn set_field(&mut self, name: &str, value: &str) {
        self.drop_field(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn drop_field(&mut self, name: &str) {
        self.headers
            .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
    }
}

/// `None`: ignored. `Some(None)`: unsatisfiable. Several ranges are ignored, which a server may do.
#[expect(clippy::option_option, reason = "three outcomes of one private parser")]
fn parse_range(field: &str, total: u64) -> Option<Option<(u64, u64)>> {
    let spec = field.strip_prefix("bytes=")?;
    let (first, last) = spec.split_once('-')?;
    if spec.contains(',') {
        return None;
    }
    if first.is_empty() {
        let len: u64 = last.parse().ok()?;
        let start = total.saturating_sub(len);
        return Some((start < total).then_some((start, total)));
    }
    let start: u64 = first.parse().ok()?;
    let end = if last.is_empty() {
        total
    } else {
        let last: u64 = last.parse().ok()?;
        if last < start {
            return None;
        }
        last.saturating_add(1).min(total)
    };
    Some((start < total).then_some((start, end)))
}

fn is_not_modified(object: &OriginObject, request: &Request) -> bool {
    if let Some(field) = request.header("if-none-match") {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let Some(tag) = object.etag().map(|tag| opaque(&tag)) else {
            return false;
        };
        return field.trim() == "*" || field.split(',').any(|listed| opaque(listed) == tag);
    }
    match (request.header("if-modified-since"), object.last_modified) {
        (Some(field), Some(at)) => field == http_date(at),
        _ => false,
    }
}

/// Whether `If-Range` lets the range stand.
fn if_range(object: &OriginObject, request: &Request) -> bool {
    let Some(field) = request.header("if-range") else {
        return true;
    };
    if field.starts_with('"') {
        return object.etag().as_deref() == Some(field);
    }
    object
        .last_modified
        .is_some_and(|at| http_date(at) == field)
}

fn date(object: Option<&OriginObject>) -> String {
    match object.and_then(|object| object.date) {
        Some(at) => http_date(at),
        None => httpdate::fmt_http_date(SystemTime::now()),
    }
}

pub(crate) fn http_date(unix: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}
