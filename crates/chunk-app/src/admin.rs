//! The admin API: HTTP over the socket, and its two harmless pages on an address of their own.
//!
//! | method | path | answer |
//! |---|---|---|
//! | GET | `/healthz` | `ok`, or 503 while the store cannot be written to |
//! | GET | `/metrics` | Prometheus text |
//! | GET | `/v1/instance` | who holds the folder |
//! | GET | `/v1/status` | entries, queue, activity |
//! | GET | `/v1/jobs` | files ordered in whole and not there yet |
//! | POST | `/v1/fetch` | one JSON object per line while it goes on |
//! | POST | `/v1/why` | where a byte is, and how it came |
//! | POST | `/v1/verify`, `/v1/evict`, `/v1/pin` | what was done |
//! | POST | `/v1/handover` | lets go of the folder, unless it serves players |
//!
//! HEAD is answered wherever GET is (RFC 9110, 9.1), any other method by 405.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunk_proxy::{HostNames, while_dated};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::control::{Control, Local};
use crate::failure::{Failure, Kind, Outcome};
use crate::host::Host;
use crate::lines::LineBody;
use crate::metrics;
use crate::wire::{Refusal, Role};

/// Orders are a few paths; this is many.
const LARGEST_ORDER: usize = 1 << 20;

/// How long a client may take over its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers under way may go on once the host closes.
const CLOSING_GRACE: Duration = Duration::from_secs(2);

/// How long to leave a listener alone that cannot accept, say for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// Which of the pages are there, and for whom.
#[derive(Clone, Debug)]
enum Scope {
    /// All, for the user whose socket it is. No page in a browser reaches it.
    Orders,
    /// `/healthz` and `/metrics`, for who asks by one of these names or by the address connected to.
    Pages {
        names: Arc<HostNames>,
        local: Option<IpAddr>,
    },
}

/// Answers orders on `listener` until the host closes, and finishes what is under way.
pub(crate) async fn serve_socket(listener: UnixListener, host: Arc<Host>) {
    let mut connections = JoinSet::new();
    let mut closing = host.closing();
    loop {
        tokio::select! {
            () = closing.wait() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&host), Scope::Orders));
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    finish(connections).await;
}

/// Answers the harmless pages on `listener`, under `names`, until the host closes.
pub(crate) async fn serve_address(listener: TcpListener, names: HostNames, host: Arc<Host>) {
    let names = Arc::new(names);
    let mut connections = JoinSet::new();
    let mut closing = host.closing();
    loop {
        tokio::select! {
            () = closing.wait() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let scope = Scope::Pages {
                        names: Arc::clone(&names),
                        local: stream.local_addr().ok().map(|address| address.ip()),
                    };
                    connections.spawn(serve_connection(stream, Arc::clone(&host), scope));
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    finish(connections).await;
}

async fn pause_after(error: &std::io::Error) {
    tracing::warn!(%error, "the admin listener cannot accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn finish(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    // What is not done by then is cut when the set is dropped.
    let _ = tokio::time::timeout(CLOSING_GRACE, all).await;
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: Arc<Host>,
    scope: Scope,
) {
    let mut closing = host.closing();
    let service = service_fn(move |request| {
        let (host, scope) = (Arc::clone(&host), scope.clone());
        async move { Ok::<_, Infallible>(answer(request, host, &scope).await) }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = while_dated(connection.as_mut()) => ended,
        () = closing.wait() => {
            connection.as_mut().graceful_shutdown();
            while_dated(connection).await
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "an admin connection broke");
    }
}

async fn answer(request: Request<Incoming>, host: Arc<Host>, scope: &Scope) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let orders = match scope {
        Scope::Orders => true,
        Scope::Pages { names, local } => {
            if let Err(status) = names.admit(&parts, *local) {
                let text = "this address does not answer to that host name\n".to_owned();
                return page(status, "text/plain", text);
            }
            false
        }
    };
    let path = parts.uri.path();
    let Some(methods) = methods_of(path, orders) else {
        let text = "no such page; there are /healthz and /metrics\n".to_owned();
        return page(StatusCode::NOT_FOUND, "text/plain", text);
    };
    // The library leaves the body of an answer to HEAD out.
    let method = match parts.method {
        Method::HEAD => Method::GET,
        method => method,
    };
    if !methods.contains(method.as_str()) {
        return not_allowed(methods);
    }
    let local = Local(Arc::clone(&host));
    let result = match (&method, path) {
        (&Method::GET, "/healthz") => return health(&host),
        (&Method::GET, "/metrics") => {
            return page(StatusCode::OK, metrics::CONTENT_TYPE, host.metrics());
        }
        (&Method::GET, "/v1/instance") => to_json(&host.instance()),
        (&Method::GET, "/v1/status") => local.status().await.and_then(|a| to_json(&a)),
        (&Method::GET, "/v1/jobs") => local.jobs().await.and_then(|a| to_json(&a)),
        (&Method::POST, "/v1/fetch") => match fetch(&local, body).await {
            Ok(response) => return response,
            Err(failure) => Err(failure),
        },
        (&Method::POST, "/v1/why") => match order(body).await {
            Ok(order) => local.why(order).await.and_then(|a| to_json(&a)),
            Err(failure) => Err(failure),
        },
        (&Method::POST, "/v1/verify") => match order(body).await {
            Ok(order) => local.verify(order).await.and_then(|a| to_json(&a)),
            Err(failure) => Err(failure),
        },
        (&Method::POST, "/v1/evict") => match order(body).await {
            Ok(order) => local.evict(order).await.and_then(|a| to_json(&a)),
            Err(failure) => Err(failure),
        },
        (&Method::POST, "/v1/pin") => match order(body).await {
            Ok(order) => local.pin(order).await.and_then(|a| to_json(&a)),
            Err(failure) => Err(failure),
        },
        (&Method::POST, "/v1/handover") => hand_over(&host),
        _ => return not_allowed(methods),
    };
    match result {
        Ok(json) => page(StatusCode::OK, "application/json", json),
        Err(failure) => refuse(&failure),
    }
}

/// The methods of a page; `None` where there is no such page for who asks. `orders` says whether those for orders are
/// there.
fn methods_of(path: &str, orders: bool) -> Option<&'static str> {
    match path {
        "/healthz" | "/metrics" => Some("GET, HEAD"),
        "/v1/instance" | "/v1/status" | "/v1/jobs" if orders => Some("GET, HEAD"),
        "/v1/fetch" | "/v1/why" | "/v1/verify" | "/v1/evict" | "/v1/pin" | "/v1/handover"
            if orders =>
        {
            Some("POST")
        }
        _ => None,
    }
}

/// RFC 9110, 15.5.6: a 405 lists what there is.
fn not_allowed(methods: &'static str) -> Response<Body> {
    let text = format!("this page has {methods} alone\n");
    let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
    let methods = HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}

fn health(host: &Host) -> Response<Body> {
    if host.manager.statistics().store_failing {
        let text = "the store cannot be written to; players are served from the origin\n";
        page(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            text.to_owned(),
        )
    } else {
        page(StatusCode::OK, "text/plain", "ok\n".to_owned())
    }
}

/// A stream of events, one a line, that ends early when the host closes.
async fn fetch(local: &Local, body: Incoming) -> Outcome<Response<Body>> {
    if local.0.role == Role::Command {
        return Err(Failure::failed(
            "a short command uses this cache folder just now; try again",
        ));
    }
    let events = local.fetch(order(body).await?).await?;
    let mut response = Response::new(LineBody::new(events).boxed_unsync());
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response)
}

fn hand_over(host: &Host) -> Outcome<String> {
    if host.role == Role::Serve {
        return Err(Failure::failed("a server does not hand over"));
    }
    host.request_handover();
    to_json(&host.instance())
}

async fn order<O: DeserializeOwned>(body: Incoming) -> Outcome<O> {
    let body = Limited::new(body, LARGEST_ORDER)
        .collect()
        .await
        .map_err(|error| Failure::usage(format!("the order cannot be read: {error}")))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Failure::usage(format!("the order is not understood: {error}")))
}

fn to_json<A: Serialize>(answer: &A) -> Outcome<String> {
    serde_json::to_string(answer).map_err(Failure::failed)
}

fn refuse(failure: &Failure) -> Response<Body> {
    let usage = failure.kind() == Kind::Usage;
    let refusal = Refusal {
        usage,
        error: failure.message().to_owned(),
    };
    let status = if usage {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::CONFLICT
    };
    let json = to_json(&refusal).unwrap_or_default();
    page(status, "application/json", json)
}

fn page(status: StatusCode, media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    response
}
