//! One request, one answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use chunk_core::CacheKey;
use chunk_manager::{First, OpenError};
use chunk_ports::{OriginForward, Resource};
use http::header::{ALLOW, CONNECTION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::admission::{self, Caller};
use crate::body::Body;
use crate::config::ProxyConfig;
use crate::flush::Flushed;
use crate::forward;
use crate::multipart::random_boundary;
use crate::observe::{Counters, Meter};
use crate::preconditions;
use crate::range_header::{RangeHeader, RangeSpec};
use crate::refusal::{Refusal, text_response};
use crate::respond::{self, BodyPlan, EntryFacts, Plan, Policy, Retrieval};
use crate::route::{self, Routed};
use crate::source::{Open, Source};

/// The longest request target answered; a longer one is 414.
pub(crate) const MAX_TARGET: usize = 8 * 1024;

/// What every request of a proxy is answered from.
#[derive(Debug)]
pub(crate) struct Answerer {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) forward: Option<Arc<dyn OriginForward>>,
    pub(crate) config: ProxyConfig,
    pub(crate) counters: Arc<Counters>,
}

/// What is known of the connection a request came by.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// The address the client connected to.
    pub(crate) local: Option<IpAddr>,
    /// Set where an answer broke off in a way that only a reset can tell.
    pub(crate) must_reset: Arc<AtomicBool>,
    /// Where the server library writes the answers: word of when they have been written.
    pub(crate) flushed: Option<Arc<Flushed>>,
}

impl Answerer {
    /// Answers `request`, whatever it is.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        connection: &Connection,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let asked = Instant::now();
        let version = request.version();
        let head = *request.method() == Method::HEAD;
        // What follows a body is not looked at by the gate, so nothing may.
        let last = !request.body().is_end_stream();
        // The key prints without the values of its query, and nothing else of the target is noted.
        let span = tracing::debug_span!("request", method = %request.method(), key = Empty);
        let mut response = self
            .admitted(request, connection.local, &span)
            .instrument(span.clone())
            .await
            .unwrap_or_else(Refusal::into_response);
        let status = response.status();
        tracing::debug!(parent: &span, status = status.as_u16(), "answered");
        self.counters.answered(status);
        if last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        if head {
            return response.map(|_| Body::empty());
        }
        // HTTP/1.0 ends a body of unknown length by closing, which is also how a broken one ends.
        let unframed = version < Version::HTTP_11 && response.body().len().is_none();
        let must_reset = unframed.then(|| Arc::clone(&connection.must_reset));
        let empty = response.body().is_end_stream();
        response.map(|body| {
            if empty {
                return body;
            }
            let meter = Meter::new(Arc::clone(&self.counters), asked, must_reset);
            body.on_connection(meter, connection.flushed.clone())
        })
    }

    async fn admitted<B>(
        &self,
        request: Request<B>,
        local: Option<IpAddr>,
        span: &Span,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let target_len = head
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if target_len > MAX_TARGET {
            return Err(Refusal::new(
                StatusCode::URI_TOO_LONG,
                "the target is too long",
            ));
        }
        if head.method == Method::CONNECT || head.method == Method::TRACE {
            return Err(Refusal::method(self.methods()).closing());
        }
        let authority = admission::admit(&self.config.hosts, self.config.scheme(), &head, local)?;
        let caller = Caller::of(&self.config, &head.headers, authority.as_deref());
        if !forward::is_safe(&head.method) && caller == Caller::Foreign {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "pages from elsewhere may change nothing here",
            ));
        }
        let answered = self.routed(head, body, &caller, span).await;
        let mut response = answered.unwrap_or_else(Refusal::into_response);
        admission::allow(&self.config, &caller, response.headers_mut());
        Ok(response)
    }

    async fn routed<B>(
        &self,
        head: Parts,
        body: B,
        caller: &Caller,
        span: &Span,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if admission::is_preflight(&head.method, &head.headers) {
            let mut response = self.options();
            if matches!(caller, Caller::Listed(_)) {
                let methods = HeaderValue::from_static(self.methods());
                admission::allow_preflight(response.headers_mut(), methods);
            }
            return Ok(response);
        }
        if head.method == Method::OPTIONS && (self.forward.is_none() || head.uri.path() == "*") {
            return Ok(self.options());
        }
        let routed = route::resolve(&self.config.mounts, &head.uri, &head.headers)?;
        let resource = &routed.resource;
        span.record("key", tracing::field::display(&resource.key));
        let retrieval = match head.method {
            Method::GET => Retrieval::Get,
            Method::HEAD => Retrieval::Head,
            _ => {
                return self
                    .pass_on(Request::from_parts(head, body), routed.resource)
                    .await;
            }
        };
        self.retrieve(retrieval, &head.headers, routed).await
    }

    /// Answers a GET or HEAD from the cache, which asks the origin where it must.
    async fn retrieve(
        &self,
        retrieval: Retrieval,
        headers: &HeaderMap,
        routed: Routed<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let Routed {
            mount,
            resource,
            hints,
        } = routed;
        let range = match retrieval {
            Retrieval::Get => RangeHeader::of(headers),
            Retrieval::Head => None,
        };
        let policy = Policy::of(mount, &resource);
        let first = match retrieval {
            Retrieval::Get => first_of(range.as_ref()),
            Retrieval::Head => First::Nothing,
        };
        let opened = match self.source.open(resource.clone(), first, hints).await {
            // The first range has no byte, but the answer may be another than 416: a precondition comes
            // first, a second range may have bytes, and without a range an empty file is a file. And a 416
            // names by its validators the file that it is about.
            Err(error @ OpenError::Unsatisfiable { total_len }) if first != First::Nothing => {
                let is_decided = total_len.is_some()
                    && !preconditions::any(headers)
                    && range.as_ref().is_some_and(|range| range.specs().len() == 1);
                match self.source.open(resource, First::Nothing, hints).await {
                    // The origin has gone since; what it said of the range still holds.
                    Err(_) if is_decided => Err(error),
                    again => again,
                }
            }
            other => other,
        };
        match opened {
            Ok(opened) => {
                let plan =
                    respond::plan(retrieval, headers, &opened.facts(), policy, random_boundary);
                Ok(carry_out(plan, opened))
            }
            // An origin may answer 416 to any range of an empty file, even the one that asks for its size.
            Err(OpenError::Unsatisfiable { total_len: Some(0) }) if range.is_none() => {
                let empty = EntryFacts {
                    total_len: Some(0),
                    ranges: true,
                    storable: true,
                    ..EntryFacts::default()
                };
                let plan = respond::plan(retrieval, headers, &empty, policy, random_boundary);
                Ok(response(plan.status, plan.headers, Body::empty()))
            }
            Err(error) => {
                tracing::debug!(%error, "not opened");
                let refusal = Refusal::from(&error);
                Err(match mount.partition() {
                    Some(_) => refusal.challenging(&error),
                    None => refusal,
                })
            }
        }
    }

    /// Passes on what is neither GET nor HEAD, and forgets what it may have changed.
    async fn pass_on<B>(
        &self,
        request: Request<B>,
        resource: Resource,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(origin) = &self.forward else {
            return Err(Refusal::method(self.methods()));
        };
        let mut doubt = Doubt {
            source: Arc::clone(&self.source),
            key: Arc::clone(&resource.key),
            is_open: !forward::is_safe(request.method()),
        };
        let forwarded = forward::forward(origin.as_ref(), request, resource).await;
        let has_changed = match &forwarded {
            Ok(response) => response.status().is_success() || response.status().is_redirection(),
            Err(failed) => failed.may_have_arrived,
        };
        if has_changed {
            doubt.settle().await;
        }
        doubt.is_open = false;
        forwarded.map_err(|failed| failed.refusal)
    }

    const fn methods(&self) -> &'static str {
        if self.forward.is_some() {
            "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
        } else {
            "GET, HEAD, OPTIONS"
        }
    }

    fn options(&self) -> Response<Body> {
        let allowed = HeaderValue::from_static(self.methods());
        let mut headers = HeaderMap::new();
        headers.insert(ALLOW, allowed);
        response(StatusCode::NO_CONTENT, headers, Body::empty())
    }
}

/// What a request under way may change (RFC 9111, 4.4). Where its client leaves before the answer, nobody will ever know
/// whether it did.
struct Doubt {
    source: Arc<dyn Source>,
    key: Arc<CacheKey>,
    is_open: bool,
}

impl Doubt {
    /// What is cached is asked about before it is given out again.
    async fn settle(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        if let Err(error) = self.source.invalidate(&self.key).await {
            tracing::debug!(%error, key = %self.key, "not invalidated");
        }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.is_open {
            let mut left = Self {
                source: Arc::clone(&self.source),
                key: Arc::clone(&self.key),
                is_open: true,
            };
            runtime.spawn(async move { left.settle().await });
        }
    }
}

/// Which bytes to ask the origin for first. The manager learns the rest of what the answer needs from the
/// same round trip.
fn first_of(range: Option<&RangeHeader>) -> First {
    // No file is larger than this; a range beyond it is answered from the file's length alone.
    const LARGEST: u64 = i64::MAX as u64;
    let Some(range) = range else {
        return First::Span {
            start: 0,
            end: None,
        };
    };
    let usable = range.specs().iter().find_map(|spec| match *spec {
        RangeSpec::Suffix { len: 0 } => None,
        RangeSpec::Suffix { len } => Some(First::Suffix {
            len: len.min(LARGEST),
        }),
        RangeSpec::Span { first, .. } if first >= LARGEST => None,
        RangeSpec::Span { first, last } => Some(First::Span {
            start: first,
            end: last.map(|last| last.saturating_add(1).min(LARGEST)),
        }),
    });
    usable.unwrap_or(First::Nothing)
}

/// Connects a plan to the bytes it names; a plan without bytes lets the opening go at once.
fn carry_out(plan: Plan, opened: Box<dyn Open>) -> Response<Body> {
    let Plan {
        status,
        headers,
        body,
    } = plan;
    let body = match body {
        BodyPlan::Empty => Body::empty(),
        BodyPlan::Text(line) => {
            let mut response = text_response(status, line);
            response.headers_mut().extend(headers);
            return response;
        }
        BodyPlan::Whole => {
            let total_len = opened.facts().total_len;
            Body::pieces(opened.read(0, total_len), total_len)
        }
        BodyPlan::Span(range) => Body::pieces(
            opened.read(range.start(), Some(range.end())),
            Some(range.len()),
        ),
        BodyPlan::Parts(parts) => Body::multipart(&parts, opened.read_parts()),
    };
    response(status, headers, body)
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
