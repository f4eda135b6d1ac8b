//! Requests like one before: the same head but for the numbers of its range.
//!
//! A player's requests on one connection differ in nothing else, and nothing that is decided about them depends on
//! anything else of the head; so it is decided once. What the cache has to say is asked each time, and where that takes
//! more than a look, the request is answered like any other.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use chunk_core::ByteRange;
use chunk_manager::{Hints, Revision};
use chunk_ports::Resource;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use crate::admission::{self, Caller};
use crate::answer::{Answerer, MAX_TARGET};
use crate::body::Body;
use crate::heads::{Date, push_decimal, push_fields, push_status};
use crate::multipart::random_boundary;
use crate::observe::Meter;
use crate::preconditions;
use crate::respond::{self, BodyPlan, Policy, Retrieval};
use crate::route;
use crate::source::Open;

/// How many heads a connection remembers: players ask for one file, and now and then for its neighbours.
const MOST: usize = 4;
/// How many bytes they may have together.
const MOST_BYTES: usize = 4 * 1024;
/// Numbers with more digits are for who compares numbers of any length.
const MOST_DIGITS: usize = 18;

/// What a connection remembers of its requests.
#[derive(Default)]
pub(crate) struct Memory {
    known: Vec<Known>,
    /// Which one goes next.
    oldest: usize,
}

/// A request, and how it is answered.
struct Known {
    /// The head up to the numbers of its range; without a range all of it.
    before: Box<[u8]>,
    after: Box<[u8]>,
    is_ranged: bool,
    standing: Standing,
    fields: Option<Fields>,
}

/// All that is decided about a request without its range.
pub(crate) struct Standing {
    resource: Resource,
    hints: Hints,
    policy: Policy,
    caller: Caller,
}

/// The fields of an answer, but for those that differ from range to range.
struct Fields {
    /// Of what they were made.
    revision: Revision,
    has_ranges: bool,
    age: Duration,
    text: Vec<u8>,
}

/// A request that is like one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Like {
    /// Which one.
    index: usize,
    /// Where its head ends.
    pub(crate) end: usize,
    span: Option<Span>,
}

/// The numbers of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    /// Inclusive, as it was written.
    last: Option<u64>,
}

/// Without what it remembers: there may be credentials in it.
impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// Whether what has been read begins with a head like one before.
    pub(crate) fn find(&self, read: &[u8]) -> Option<Like> {
        self.known.iter().enumerate().find_map(|(index, known)| {
            let rest = read.strip_prefix(&*known.before)?;
            let (span, rest) = if known.is_ranged {
                let (span, rest) = Span::parse(rest)?;
                (Some(span), rest)
            } else {
                (None, rest)
            };
            let rest = rest.strip_prefix(&*known.after)?;
            let end = read.len() - rest.len();
            Some(Like { index, end, span })
        })
    }

    /// Remembers a whole head of a plain request, if it is one that may come again.
    pub(crate) fn learn(&mut self, head: &[u8], standing: impl FnOnce() -> Option<Standing>) {
        let Some((before, after)) = split(head) else {
            return;
        };
        if head.len() > MOST_BYTES || self.find(head).is_some() {
            return;
        }
        let Some(standing) = standing() else {
            return;
        };
        let bytes = |known: &Known| known.before.len() + known.after.len();
        while self.known.len() >= MOST
            || self.known.iter().map(bytes).sum::<usize>() + head.len() > MOST_BYTES
        {
            self.oldest %= self.known.len();
            self.known.remove(self.oldest);
        }
        self.known.push(Known {
            before: before.into(),
            after: after.unwrap_or_default().into(),
            is_ranged: after.is_some(),
            standing,
            fields: None,
        });
    }
}

impl Span {
    /// `a-` or `a-b`, and what follows it.
    fn parse(text: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = number(text)?;
        let rest = rest.strip_prefix(b"-")?;
        let (last, rest) = match number(rest) {
            Some((last, rest)) => (Some(last), rest),
            None => (None, rest),
        };
        // A digit too many is one that is not at the end; and what is the wrong way round is no range.
        let is_good =
            !rest.first().is_some_and(u8::is_ascii_digit) && last.is_none_or(|last| first <= last);
        is_good.then_some((Self { first, last }, rest))
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    let mut len = 0;
    while let Some(digit) = text.get(len).filter(|byte| byte.is_ascii_digit())
        && len < MOST_DIGITS
    {
        number = number * 10 + u64::from(digit - b'0');
        len += 1;
    }
    (len > 0).then(|| (number, &text[len..]))
}

/// A head in two parts, its range's numbers left out; without a range there is no second part. `None` where the range
/// is another than one span, or there are several.
fn split(head: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut found = None;
    let mut at = 0;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let start = at;
        at += line.len();
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        if !line[..colon].eq_ignore_ascii_case(RANGE.as_str().as_bytes()) {
            continue;
        }
        let equals = line.iter().position(|&byte| byte == b'=')?;
        let unit = line[colon + 1..equals].trim_ascii_start();
        let (_, rest) = Span::parse(&line[equals + 1..])?;
        if found.is_some() || !unit.eq_ignore_ascii_case(b"bytes") || rest != b"\r\n" {
            return None;
        }
        found = Some((&head[..=start + equals], Some(&head[at - rest.len()..])));
    }
    Some(found.unwrap_or((head, None)))
}

impl Answerer {
    /// What is decided about a GET without its range. `None` where it is none, or no answer from the cache is certain
    /// to come of it.
    pub(crate) fn standing(&self, head: &Parts, local: Option<IpAddr>) -> Option<Standing> {
        let target = head.uri.path_and_query()?;
        if head.method != Method::GET
            || target.as_str().len() > MAX_TARGET
            || preconditions::any(&head.headers)
        {
            return None;
        }
        let authority =
            admission::admit(&self.config.hosts, self.config.scheme(), head, local).ok()?;
        let caller = Caller::of(&self.config, &head.headers, authority.as_deref());
        let routed = route::resolve(&self.config.mounts, &head.uri, &head.headers).ok()?;
        let policy = Policy::of(routed.mount, &routed.resource);
        Some(Standing {
            resource: routed.resource,
            hints: routed.hints,
            policy,
            caller,
        })
    }

    /// Answers a request like one before: the whole head, and the body. `None` where it has to be answered like any
    /// other.
    pub(crate) fn answer_again(
        &self,
        memory: &mut Memory,
        like: Like,
        is_last: bool,
        date: &mut Date,
    ) -> Option<(Vec<u8>, Body)> {
        let asked = Instant::now();
        let known = memory.known.get_mut(like.index)?;
        let (start, end) = match like.span {
            Some(span) => (span.first, span.last.map(|last| last + 1)),
            None => (0, None),
        };
        let resource = &known.standing.resource;
        let hints = known.standing.hints;
        let opened = self.source.open_now(resource, start, end, hints)?;
        let glance = opened.glance()?;
        let total_len = glance.total_len?;
        let end = end.map_or(total_len, |end| end.min(total_len));
        let range = ByteRange::try_new(start, end)?;
        let is_current = known.fields.as_ref().is_some_and(|fields| {
            fields.revision == glance.revision
                && fields.has_ranges == glance.has_ranges
                && fields.age == glance.age
        });
        if !is_current {
            let text = self.fields(&known.standing, known.is_ranged, &*opened)?;
            known.fields = Some(Fields {
                revision: glance.revision,
                has_ranges: glance.has_ranges,
                age: glance.age,
                text,
            });
        }
        let fields = known.fields.as_ref()?;

        let span = tracing::debug_span!("request", method = "GET", key = %resource.key);
        let status = if known.is_ranged {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        tracing::debug!(parent: &span, status = status.as_u16(), "answered");
        self.counters.answered(status);
        // Room for the fields below, whatever their numbers.
        let mut head = Vec::with_capacity(fields.text.len() + 256);
        push_status(&mut head, status);
        head.extend_from_slice(&fields.text);
        if known.is_ranged {
            head.extend_from_slice(b"content-range: bytes ");
            push_decimal(&mut head, range.start());
            head.push(b'-');
            push_decimal(&mut head, range.last());
            head.push(b'/');
            push_decimal(&mut head, total_len);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"content-length: ");
        push_decimal(&mut head, range.len());
        head.extend_from_slice(if is_last {
            b"\r\nconnection: close\r\ndate: ".as_slice()
        } else {
            b"\r\ndate: ".as_slice()
        });
        head.extend_from_slice(date.now());
        head.extend_from_slice(b"\r\n\r\n");
        let pieces = opened.read(range.start(), Some(range.end()));
        let meter = Meter::new(self.counters.clone(), asked, None);
        let body = Body::pieces(pieces, Some(range.len())).on_connection(meter, None);
        Some((head, body))
    }

    /// The fields that an answer like this has whatever its range: those of the one for the first byte, without those
    /// that tell of it.
    fn fields(&self, standing: &Standing, is_ranged: bool, opened: &dyn Open) -> Option<Vec<u8>> {
        let mut request = HeaderMap::new();
        if is_ranged {
            request.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        }
        let (facts, policy) = (opened.facts(), standing.policy);
        let plan = respond::plan(Retrieval::Get, &request, &facts, policy, random_boundary);
        let is_like = match plan.body {
            BodyPlan::Span(_) => is_ranged,
            BodyPlan::Whole => !is_ranged,
            _ => false,
        };
        if !is_like {
            return None;
        }
        let mut headers = plan.headers;
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_RANGE);
        admission::allow(&self.config, &standing.caller, &mut headers);
        let mut text = Vec::with_capacity(384);
        push_fields(&mut text, &headers);
        text.shrink_to_fit();
        Some(text)
    }
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
