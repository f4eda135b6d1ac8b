//! Connections: accepting, bounding and draining them.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chunk_manager::ChunkManager;
use chunk_ports::OriginForward;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{Answerer, Connection};
use crate::body::{Body, BodyError};
use crate::config::{ConfigError, ProxyConfig};
use crate::dated::{self, while_dated};
use crate::flush::Flushed;
use crate::framing::{Gate, MAX_HEAD};
use crate::lane::{End, Lane};
use crate::near::do_not_pace;
use crate::observe::{Counters, OpenConnection, ProxyStatistics};
use crate::patience::Closing;
use crate::seats::{Seat, Seats};
use crate::source::Source;
use crate::streams::Streams;
use crate::tls::TlsIdentity;
use crate::turned_away::{AT_ONCE, turn_away};
use crate::wire::{Foreign, Socket, Wire};

/// How long to wait after the system refused a connection, as it does when descriptors run out. They come
/// back as connections end, so trying on in a tight loop would only take their time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves players over HTTP from a [`ChunkManager`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub(crate) answerer: Arc<Answerer>,
}

impl Proxy {
    /// A proxy in front of `manager`.
    ///
    /// # Errors
    /// [`ConfigError`] where the mounts cannot be told apart or the CORS list holds what is no origin.
    pub fn new(manager: ChunkManager, config: ProxyConfig) -> Result<Self, ConfigError> {
        Self::build(Arc::new(manager), None, config)
    }

    /// The same, passing methods other than GET and HEAD on to the origin by `forward`. Without it they
    /// are refused with 405.
    ///
    /// # Errors
    /// As [`Proxy::new`].
    pub fn with_forward(
        manager: ChunkManager,
        forward: Arc<dyn OriginForward>,
        config: ProxyConfig,
    ) -> Result<Self, ConfigError> {
        Self::build(Arc::new(manager), Some(forward), config)
    }

    pub(crate) fn build(
        source: Arc<dyn Source>,
        forward: Option<Arc<dyn OriginForward>>,
        config: ProxyConfig,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            answerer: Arc::new(Answerer {
                source,
                forward,
                config,
                counters: Arc::new(Counters::default()),
            }),
        })
    }

    /// What the proxy has done so far.
    #[must_use]
    pub fn statistics(&self) -> ProxyStatistics {
        self.answerer.counters.snapshot()
    }

    /// Accepts connections until `shutdown` is ready, then lets answers under way go on for the
    /// configured grace and cuts what is left.
    ///
    /// Where there are as many as configured, whoever has rested longest between two requests is closed for the next
    /// one; where nobody rests and none has ended for a second, who comes is answered 503. There are
    /// [`ProxyConfig::BEYOND`] more for that moment.
    ///
    /// A failure to accept one connection does not end it.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        if let Err(error) = do_not_pace(&listener) {
            tracing::debug!(%error, "connections are paced as elsewhere");
        }
        let seats = Seats::new(self.answerer.config.max_connections);
        let turning_away = Arc::new(Semaphore::new(AT_ONCE));
        let (closing, _) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut is_full = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    seats.make_room();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let seat = tokio::select! {
                biased;
                () = &mut shutdown => break,
                seat = seats.take() => seat,
            };
            if let Ok(seat) = seat {
                is_full = false;
                let (proxy, closing) = (self.clone(), closing.subscribe());
                connections.spawn(async move { proxy.serve_stream(stream, seat, closing).await });
                continue;
            }
            if !std::mem::replace(&mut is_full, true) {
                tracing::warn!(
                    "there are as many connections as there may be; who comes is turned away"
                );
            }
            let turn = tokio::select! {
                biased;
                () = &mut shutdown => break,
                turn = Arc::clone(&turning_away).acquire_owned() => turn,
            };
            self.answerer
                .counters
                .answered(StatusCode::SERVICE_UNAVAILABLE);
            let tls = self.answerer.config.tls.clone();
            connections.spawn(async move {
                turn_away(stream, tls).await;
                drop(turn);
            });
        }
        drop(listener);
        // Dropping the sender tells every connection.
        drop(closing);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(self.answerer.config.grace, drained).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Serves one connection that something else accepted, until it ends or `closing` is ready; then the
    /// answer under way is the last. `local` is the address the client connected to: a request may name
    /// it as its host. Where there is a [`TlsIdentity`](crate::TlsIdentity) the connection begins with a handshake.
    pub async fn serve_connection<Io>(
        &self,
        io: Io,
        local: Option<IpAddr>,
        closing: impl Future<Output = ()>,
    ) where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let comer = Comer {
            seat: Seat::elsewhere(),
            local,
            must_reset: Arc::default(),
        };
        self.begin(Foreign(io), comer, closing).await;
    }

    async fn serve_stream(&self, stream: TcpStream, seat: Seat, mut closing: watch::Receiver<()>) {
        // Answers are written in large pieces; the head of the next one must not wait for them.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok().map(|address| address.ip());
        let must_reset = Arc::<AtomicBool>::default();
        let socket = Socket::new(stream, Arc::clone(&must_reset));
        // Nothing is ever sent: it ends when the sender is gone.
        let closing = async move { while closing.changed().await.is_ok() {} };
        let comer = Comer {
            seat,
            local,
            must_reset,
        };
        self.begin(socket, comer, closing).await;
    }

    async fn begin<W>(&self, wire: W, comer: Comer, closing: impl Future<Output = ()>)
    where
        W: Wire + Send + 'static,
    {
        let _open = OpenConnection::new(Arc::clone(&self.answerer.counters));
        let closing = Closing::new(closing);
        match &self.answerer.config.tls {
            None => self.drive(wire, comer, closing).await,
            // Most connections that have no need of it should not have the memory for it.
            Some(identity) => Box::pin(self.drive_secure(identity, wire, comer, closing)).await,
        }
    }

    /// Serves a connection with TLS. To begin it may take as long as a request's head, and whoever has not begun makes room
    /// for others like one that rests.
    async fn drive_secure<W>(
        &self,
        identity: &TlsIdentity,
        wire: W,
        comer: Comer,
        mut closing: Closing<impl Future<Output = ()>>,
    ) where
        W: Wire + Send + 'static,
    {
        let beginning = async {
            let secure = identity.shake_hands(wire).await?;
            std::io::Result::Ok(if secure.speaks_http_2() {
                Begun::Streams(Box::new(Streams::begin(secure).await?))
            } else {
                Begun::Lane(secure)
            })
        };
        comer.seat.rest();
        let begun = tokio::select! {
            biased;
            begun = timeout(self.answerer.config.header_timeout, beginning) => begun,
            () = poll_fn(|cx| match closing.poll_over(cx) {
                Poll::Pending => comer.seat.poll_wanted(cx),
                over => over,
            }) => return,
        };
        match begun {
            Ok(Ok(Begun::Lane(secure))) => self.drive(secure, comer, closing).await,
            Ok(Ok(Begun::Streams(streams))) => {
                let connection = Arc::new(Connection {
                    local: comer.local,
                    ..Connection::default()
                });
                let served = streams.serve(&self.answerer, &connection, &comer.seat, &mut closing);
                Box::pin(served).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "no connection comes of it"),
            Err(_) => tracing::debug!("no connection comes of it in time"),
        }
    }

    async fn drive<W>(
        &self,
        mut wire: W,
        comer: Comer,
        mut closing: Closing<impl Future<Output = ()>>,
    ) where
        W: Wire + Send + 'static,
    {
        let plain = Connection {
            local: comer.local,
            ..Connection::default()
        };
        let lane = Lane::new(&mut wire, &self.answerer, &plain, &comer.seat);
        let End::Library(read) = lane.serve(&mut closing).await else {
            // The place is free when its descriptor is.
            drop(wire);
            return;
        };
        // Few connections get here, and those that do not should not have the memory for it.
        Box::pin(self.drive_library(wire, comer, read, closing)).await;
    }

    /// Leaves the rest of a connection to the server library.
    async fn drive_library<W>(
        &self,
        mut wire: W,
        comer: Comer,
        read: Vec<u8>,
        mut closing: Closing<impl Future<Output = ()>>,
    ) where
        W: Wire + Send + 'static,
    {
        wire.hold_little();
        if !dated::is_now() {
            tracing::warn!("the clock of this machine is not between 1970 and 9999; set it");
            return dated::refuse(wire).await;
        }
        let flushed = Arc::<Flushed>::default();
        let connection = Arc::new(Connection {
            local: comer.local,
            must_reset: comer.must_reset,
            flushed: Some(Arc::clone(&flushed)),
        });
        let answerer = Arc::clone(&self.answerer);
        let gate = Gate::new(wire, read, flushed);
        let seat = Arc::new(comer.seat);
        let sitting = Arc::clone(&seat);
        let service = service_fn(move |request| {
            let (answerer, connection) = (Arc::clone(&answerer), Arc::clone(&connection));
            let working = Working::new(&sitting);
            async move {
                let response = answerer.answer(request, &connection).await;
                Ok::<_, Infallible>(response.map(|body| working.over(body)))
            }
        });
        let mut served = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.answerer.config.header_timeout)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(gate), service)
        );
        let ended = tokio::select! {
            ended = while_dated(served.as_mut()) => ended,
            () = poll_fn(|cx| match closing.poll_over(cx) {
                Poll::Pending => seat.poll_wanted(cx),
                over => over,
            }) => {
                served.as_mut().graceful_shutdown();
                while_dated(served).await
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// What a client with TLS speaks.
enum Begun<W> {
    Lane(W),
    Streams(Box<Streams<W>>),
}

/// Where a connection comes from, and what it has of the server.
struct Comer {
    seat: Seat,
    /// The address the client connected to.
    local: Option<IpAddr>,
    must_reset: Arc<AtomicBool>,
}

/// A request that the library has; the connection rests again when its answer is over.
struct Working(Arc<Seat>);

impl Working {
    fn new(seat: &Arc<Seat>) -> Self {
        seat.work();
        Self(Arc::clone(seat))
    }

    fn over(self, body: Body) -> Answering {
        Answering {
            body,
            _working: self,
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// The body of an answer to a request that the library has.
struct Answering {
    body: Body,
    _working: Working,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
