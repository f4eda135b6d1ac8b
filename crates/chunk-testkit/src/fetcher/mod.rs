//! The scripted origin without sockets: a [`ChunkFetcher`] for paused time.
//!
//! With sockets, paused time runs ahead of the bytes; here every wait is a timer of tokio's, so that a
//! simulated hour takes what its computations take.
//!
//! ```
//! use std::time::Duration;
//! use chunk_testkit::fetcher::ScriptedFetcher;
//! use chunk_testkit::origin::{Link, OriginObject, OriginWorld};
//!
//! let world = OriginWorld::new();
//! world.put(OriginObject::new("film.mkv", 1_000_000));
//! let link = Link::new().delay(Duration::from_millis(50)).total_rate(12_500_000);
//! let fetcher = ScriptedFetcher::new(world, link);
//! assert_eq!(fetcher.journal().requests(), 0);
//! ```
//!
//! [`fetcher_conformance!`](crate::fetcher_conformance) expands to one named test per rule of the port's
//! contract, for any fetcher that can be pointed at an [`OriginWorld`].

mod answered;
mod conformance;
pub mod rules;

use std::ops::Deref;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_ports::{
    BodyStream, ChunkFetcher, Condition, FetchError, FetchOutcome, FetchRequest, Wanted,
};
use futures_util::stream;
use tokio::sync::watch;

use crate::origin::{
    Answer, AnswerBody, Bucket, Exchange, Link, OriginWorld, Request, RequestRecord, http_date,
    object_name,
};
use answered::{Answered, interpret};

/// Serves the objects of an [`OriginWorld`] in process, with its faults, over a line of a given shape.
///
/// It stands for a right adapter: what a fault makes unusable comes back as the error the port's
/// contract asks for. Clones share the world and the line.
#[derive(Clone, Debug)]
pub struct ScriptedFetcher {
    world: OriginWorld,
    link: Link,
    total: Option<Bucket>,
    progress_timeout: Duration,
}

impl ScriptedFetcher {
    /// A fetcher from `world`. The progress timeout is 10 s.
    #[must_use]
    pub fn new(world: OriginWorld, link: Link) -> Self {
        Self {
            world,
            total: link.total_rate.map(Bucket::new),
            link,
            progress_timeout: Duration::from_secs(10),
        }
    }

    /// With another progress timeout.
    #[must_use]
    pub const fn progress_timeout(mut self, timeout: Duration) -> Self {
        self.progress_timeout = timeout;
        self
    }
}

impl Deref for ScriptedFetcher {
    type Target = OriginWorld;

    fn deref(&self) -> &OriginWorld {
        &self.world
    }
}

#[async_trait]
impl ChunkFetcher for ScriptedFetcher {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let empty = match request.wanted {
            Wanted::Span { start, end } => end.is_some_and(|end| end <= start),
            Wanted::Suffix { len } => len == 0,
        };
        if empty {
            return Err(FetchError::Forbidden {
                reason: "an empty range".to_owned(),
            });
        }
        if self.world.is_cut() {
            return Err(FetchError::NoConnection("the line is cut".into()));
        }
        let asked = as_http(&request);
        let mut releases = self.world.releases();
        let (answer, object) = self.world.answer(&asked);
        let exchange = self.world.journal().begin(RequestRecord {
            method: asked.method.clone(),
            target: asked.target.clone(),
            object: object_name(&asked.target).to_owned(),
            range: asked.header("range").map(str::to_owned),
            headers: asked.headers.clone(),
            status: answer.status,
            version: answer.version,
            content_start: match answer.body {
                AnswerBody::Content { start, .. } => Some(start),
                AnswerBody::Text(_) => None,
            },
            ..RequestRecord::default()
        });
        if !self.link.delay.is_zero() {
            tokio::time::sleep(self.link.delay).await;
        }
        if answer.stall_head {
            let released = tokio::time::timeout(self.progress_timeout, releases.changed()).await;
            if released.is_err() {
                return Err(FetchError::Unreachable("no answer in time".into()));
            }
        }
        match interpret(&request, &answer, object.as_ref()) {
            Ok(Answered::NotModified(verdict)) => {
                exchange.complete();
                Ok(FetchOutcome::NotModified(verdict))
            }
            Ok(Answered::Body(mut head)) => {
                let promised = head.end.map(|end| end - head.start);
                head.body = self.body(answer, promised, releases, exchange);
                Ok(FetchOutcome::Body(head))
            }
            Err(error) => {
                exchange.complete();
                Err(error)
            }
        }
    }
}

/// A body under way.
struct Transfer {
    answer: Answer,
    at: u64,
    end: u64,
    /// What to say after the last byte.
    then: Option<FetchError>,
    stall: Option<u64>,
    releases: watch::Receiver<u64>,
    exchange: Option<Exchange>,
    object: String,
    buckets: Vec<Bucket>,
    piece: usize,
    /// Time waited for single bytes.
    dripped: Duration,
    progress_timeout: Duration,
    _world: OriginWorld,
}

impl ScriptedFetcher {
    fn body(
        &self,
        answer: Answer,
        promised: Option<u64>,
        releases: watch::Receiver<u64>,
        exchange: Exchange,
    ) -> BodyStream {
        let sent = answer.body.len();
        let cut = answer.cut.map_or(sent, |(at, _)| at.min(sent));
        let end = promised.map_or(cut, |promised| cut.min(promised));
        let short = answer.cut.is_some() && promised.is_none_or(|promised| end < promised)
            || promised.is_some_and(|promised| end < promised);
        let own = self.link.connection_rate.map(Bucket::new);
        let transfer = Transfer {
            at: 0,
            end,
            then: short.then(|| FetchError::Interrupted("the origin sent less".into())),
            stall: answer.stall,
            releases,
            object: exchange.object(),
            exchange: Some(exchange),
            buckets: own.into_iter().chain(self.total.clone()).collect(),
            piece: answer.drip.map_or(self.link.piece(), |_| 1),
            dripped: Duration::ZERO,
            progress_timeout: self.progress_timeout,
            _world: self.world.clone(),
            answer,
        };
        Box::pin(stream::unfold(transfer, |mut transfer| async move {
            let item = transfer.next().await?;
            Some((item, transfer))
        }))
    }
}

impl Transfer {
    async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        self.exchange.as_ref()?;
        if self.stall == Some(self.at) {
            self.stall = None;
            let released = tokio::time::timeout(self.progress_timeout, self.releases.changed());
            if released.await.is_err() {
                self.exchange = None;
                return Some(Err(FetchError::Stalled));
            }
        }
        if self.at >= self.end {
            if let Some(exchange) = self.exchange.take() {
                exchange.complete();
            }
            return self.then.take().map(Err);
        }
        let until = match self.stall {
            Some(stall) if stall > self.at => self.end.min(stall),
            _ => self.end,
        };
        let size = (until - self.at).min(self.piece as u64) as usize;
        if let Some(gap) = self.answer.drip {
            // Single bytes are no progress.
            let left = self.progress_timeout.saturating_sub(self.dripped);
            tokio::time::sleep(gap.min(left)).await;
            self.dripped += gap;
            if gap >= left {
                self.exchange = None;
                return Some(Err(FetchError::Stalled));
            }
        }
        for bucket in &self.buckets {
            bucket.pass(size).await;
        }
        let data = match &self.answer.body {
            AnswerBody::Content { start, .. } => {
                let mut data = vec![0; size];
                self.answer.fill(&self.object, start + self.at, &mut data);
                Bytes::from(data)
            }
            AnswerBody::Text(text) => {
                let at = self.at as usize;
                Bytes::copy_from_slice(&text.as_bytes()[at..at + size])
            }
        };
        self.at += size as u64;
        if let Some(exchange) = &self.exchange {
            exchange.sent(size as u64);
        }
        Some(Ok(data))
    }
}

fn as_http(request: &FetchRequest) -> Request {
    let mut headers = Vec::new();
    match request.wanted {
        Wanted::Span { start, end: None } => {
            headers.push(("range".to_owned(), format!("bytes={start}-")));
        }
        Wanted::Span {
            start,
            end: Some(end),
        } => {
            let last = end.saturating_sub(1);
            headers.push(("range".to_owned(), format!("bytes={start}-{last}")));
        }
        Wanted::Suffix { len } => headers.push(("range".to_owned(), format!("bytes=-{len}"))),
    }
    match &request.condition {
        Condition::Continue(known) => {
            let time = known.last_modified.filter(|time| time.is_strong);
            if let Some(tag) = known.strong_etag() {
                headers.push(("if-range".to_owned(), tag.as_str().to_owned()));
            } else if let (None, Some(time)) = (&known.etag, time) {
                headers.push(("if-range".to_owned(), http_date(time.unix_seconds)));
            }
        }
        Condition::IfChanged(known) => {
            if let Some(tag) = &known.etag {
                headers.push(("if-none-match".to_owned(), tag.as_str().to_owned()));
            } else if let Some(time) = known.last_modified {
                let date = http_date(time.unix_seconds);
                headers.push(("if-modified-since".to_owned(), date));
            }
        }
        _ => {}
    }
    Request {
        method: "GET".to_owned(),
        target: request.resource.target.expose().to_owned(),
        headers,
        body: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
