//! Requests that a cache does not answer, passed on to the origin.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use chunk_ports::{
    BodyStream, FetchError, ForwardRequest, ForwardResponse, OriginForward, Resource,
};
use futures_core::Stream;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::refusal::Refusal;

/// Why there is no answer.
pub(crate) struct Failed {
    pub(crate) refusal: Refusal,
    /// Whether the origin may have done what it was asked to.
    pub(crate) may_have_arrived: bool,
}

/// Passes `request` on and its answer back.
pub(crate) async fn forward<B>(
    origin: &dyn OriginForward,
    request: Request<B>,
    resource: Resource,
) -> Result<Response<Body>, Failed>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let named = named_by_connection(&head.headers);
    let headers = head
        .headers
        .iter()
        .filter(|(name, _)| !is_hop_by_hop(name, &named) && !is_credential(name) && *name != HOST)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    let is_broken = Arc::<AtomicBool>::default();
    let body = (!body.is_end_stream()).then(|| {
        Box::pin(ClientBody {
            body,
            is_broken: Arc::clone(&is_broken),
        }) as BodyStream
    });
    let forwarded = ForwardRequest {
        method: head.method.as_str().to_owned(),
        resource,
        headers,
        body,
    };
    let (refusal, may_have_arrived) = match origin.forward(forwarded).await {
        Ok(answer) => match answer_back(answer) {
            Ok(response) => return Ok(response),
            Err(refusal) => (refusal, true),
        },
        // Whatever the origin made of half a body, it is not to blame.
        Err(_) if is_broken.load(Ordering::Acquire) => {
            let broken = "the request's body breaks the rules of its framing";
            // An origin that saw no end of it takes it for no request (RFC 9112, 8).
            (Refusal::bad_request(broken), false)
        }
        Err(error) => {
            let was_kept = matches!(
                error,
                FetchError::NoConnection(_) | FetchError::Forbidden { .. }
            );
            (refusal(&error), !was_kept)
        }
    };
    Err(Failed {
        refusal,
        may_have_arrived,
    })
}

/// Whether a method asks for nothing to change (RFC 9110, 9.2.1, and the registry of methods).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}

fn answer_back(answer: ForwardResponse) -> Result<Response<Body>, Refusal> {
    let broken = || {
        Refusal::new(
            StatusCode::BAD_GATEWAY,
            "the origin's answer cannot be used",
        )
    };
    let status = StatusCode::from_u16(answer.status).map_err(|_| broken())?;
    // What is informational is none of the client's business, and 101 would hand it the connection.
    if status.is_informational() {
        return Err(broken());
    }
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            continue;
        };
        headers.append(name, value);
    }
    let named = named_by_connection(&headers);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name, &named))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    // Only one length that is a number can be promised on; otherwise the body is sent in chunks.
    let lengths: Vec<Option<u64>> = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .map(|value| value.to_str().ok()?.parse().ok())
        .collect();
    let len = match lengths.as_slice() {
        [Some(len)] => Some(*len),
        _ => {
            headers.remove(CONTENT_LENGTH);
            None
        }
    };
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodiless {
        headers.remove(CONTENT_LENGTH);
        Body::empty()
    } else {
        Body::forwarded(answer.body, len)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn refusal(error: &FetchError) -> Refusal {
    let (status, line) = match error {
        FetchError::Stalled => (
            StatusCode::GATEWAY_TIMEOUT,
            "the origin did not answer in time",
        ),
        FetchError::Refused { .. } => (
            StatusCode::BAD_GATEWAY,
            "the origin's answer cannot be used",
        ),
        FetchError::Forbidden { .. } => (StatusCode::FORBIDDEN, "the request may not be passed on"),
        _ => (StatusCode::BAD_GATEWAY, "the origin cannot be reached"),
    };
    Refusal::new(status, line)
}

/// The fields that `Connection` names, which go no further than this connection (RFC 9110, 7.6.1).
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

fn is_hop_by_hop(name: &HeaderName, named: &[String]) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || named.iter().any(|named| named == name.as_str())
}

/// A client's credentials are dropped; those that a mount forwards travel with the resource.
fn is_credential(name: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name)
}

/// The client's body as a stream. Trailers are dropped.
struct ClientBody<B> {
    body: B,
    /// Set where it cannot be read to its end.
    is_broken: Arc<AtomicBool>,
}

impl<B> Stream for ClientBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Item = Result<Bytes, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    self.is_broken.store(true, Ordering::Release);
                    Poll::Ready(Some(Err(FetchError::Interrupted(error.into()))))
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Poll::Ready(Some(Ok(data))),
                    Err(_) => continue,
                },
            };
        }
    }
}
