//! Connections between two requests.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Url;

use super::socket::{Bytestream, Peer};
use super::upload::Upload;

/// An idle connection is not used again after this time: what lies between may have forgotten it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// What reads and writes a connection, while it is polled.
pub(crate) type Driver = Connection<TokioIo<Box<dyn Bytestream>>, Upload>;

/// A connection and what drives it.
pub(crate) struct Line {
    requests: SendRequest<Upload>,
    driving: Driving,
    peer: Arc<Peer>,
}

/// Who reads and writes a connection.
enum Driving {
    /// Whoever polls it.
    Here(Pin<Box<Driver>>),
    /// A task of its own.
    Apart(JoinHandle<()>),
    /// Nobody any more.
    Over,
}

impl Line {
    pub(crate) fn new(requests: SendRequest<Upload>, driver: Driver, peer: Arc<Peer>) -> Self {
        Self {
            requests,
            driving: Driving::Here(Box::pin(driver)),
            peer,
        }
    }

    /// So many bytes of the answer are still to come.
    pub(crate) fn expects(&self, bytes: u64) {
        self.peer.expects(bytes);
    }

    /// Begins to send `request`.
    pub(crate) fn try_send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        self.requests.try_send_request(request)
    }

    /// Has the connection read and written by a task of its own for as long as this lives.
    pub(crate) fn drive_apart(&mut self) {
        self.driving = match std::mem::replace(&mut self.driving, Driving::Over) {
            Driving::Here(driver) => Driving::Apart(tokio::spawn(async move {
                // What went wrong is told by the answer's body.
                let _ = driver.await;
            })),
            other => other,
        };
    }

    /// Reads and writes what can be; ready once the connection is over. What went wrong is told by the
    /// answer or by its body.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.driving {
            Driving::Here(driver) => {
                let _ = ready!(driver.as_mut().poll(cx));
                self.driving = Driving::Over;
                Poll::Ready(())
            }
            Driving::Apart(task) if !task.is_finished() => Poll::Pending,
            Driving::Apart(_) | Driving::Over => Poll::Ready(()),
        }
    }

    /// Whether a request can go out, as far as can be known without sending one.
    fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.driving, Driving::Here(_))
            && self.peer.is_quiet()
            && self.drive(&mut cx).is_pending()
            && matches!(self.requests.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Driving::Apart(task) = &self.driving {
            task.abort();
        }
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
