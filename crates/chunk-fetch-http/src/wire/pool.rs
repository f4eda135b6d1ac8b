//! Connections between two requests.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::socket::{Bytestream, is_quiet};

/// An idle connection is not used again after this time: what lies between may have forgotten it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// What reads and writes a connection, while it is polled.
pub(crate) type Driver = Connection<TokioIo<Box<dyn Bytestream>>, Empty<Bytes>>;

/// A connection and what drives it.
pub(crate) struct Line {
    pub(crate) requests: SendRequest<Empty<Bytes>>,
    /// `None` once it is over.
    pub(crate) driver: Option<Pin<Box<Driver>>>,
    pub(crate) socket: Arc<TcpStream>,
}

impl Line {
    /// Reads and writes what can be; ready once the connection is over. What went wrong is told by the
    /// answer or by its body.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else {
            return Poll::Ready(());
        };
        let _ = ready!(driver.as_mut().poll(cx));
        self.driver = None;
        Poll::Ready(())
    }

    /// Whether a request can go out, as far as can be known without sending one.
    fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        is_quiet(&self.socket)
            && self.drive(&mut cx).is_pending()
            && matches!(self.requests.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

/// Scheme, host and port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(String, String, Option<u16>);

impl Place {
    pub(crate) fn of(url: &Url) -> Self {
        Self(
            url.scheme().to_owned(),
            url.host_str().unwrap_or_default().to_owned(),
            url.port_or_known_default(),
        )
    }
}

/// Idle connections by where they lead.
pub(crate) struct Pool {
    idle: Mutex<BTreeMap<Place, Vec<(Instant, Line)>>>,
    /// How many are kept for one place.
    most: usize,
}

impl Pool {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            idle: Mutex::new(BTreeMap::new()),
            most,
        }
    }

    /// The connection to `place` that was used last, if it still stands.
    pub(crate) fn take(&self, place: &Place) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Places that nobody asks any more are tidied up here as well.
        idle.retain(|_, lines| {
            lines.retain(|(since, _)| since.elapsed() < MAX_IDLE);
            !lines.is_empty()
        });
        let lines = idle.get_mut(place)?;
        while let Some((_, mut line)) = lines.pop() {
            if line.is_usable() {
                return Some(line);
            }
        }
        None
    }

    /// Keeps a connection on which nothing is under way.
    pub(crate) fn keep(&self, place: Place, mut line: Line) {
        if !line.is_usable() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = idle.entry(place).or_default();
        if lines.len() < self.most {
            lines.push((Instant::now(), line));
        }
    }
}
