//! One request and its answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use url::Url;

use super::WireError;
use super::connect::Connector;
use super::pool::{Line, Place, Pool};
use super::upload::Upload;

/// An answer's head is at most this long, and a body comes in pieces of at most this.
const BUFFER: usize = 128 * 1024;

/// No answer has more fields.
const MAX_FIELDS: usize = 128;

/// The rest of a body that is shorter than this is read rather than its connection lost, if it is here.
const SHORT_REST: u64 = 16 * 1024;

/// Asks whom its connector may connect to, on connections that are used again.
pub(crate) struct Transport {
    connector: Connector,
    pool: Arc<Pool>,
}

/// An answer. Its body's connection goes back to where it came from when the body was read.
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) body: WireBody,
}

impl Transport {
    pub(crate) fn new(connector: Connector, most_idle: usize) -> Self {
        Self {
            connector,
            pool: Arc::new(Pool::new(most_idle)),
        }
    }

    /// Asks the host of `url` for `target` and waits for the answer's head.
    pub(crate) async fn ask(
        &self,
        url: &Url,
        target: &str,
        fields: HeaderMap,
    ) -> Result<Answer, WireError> {
        let nothing = Upload::new(None);
        self.send(Method::GET, url, target, fields, nothing).await
    }

    /// The same by any method, with what goes up.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        target: &str,
        fields: HeaderMap,
        body: Upload,
    ) -> Result<Answer, WireError> {
        let place = Place::of(url);
        let is_upload = !body.is_end_stream();
        let mut request = request(method, url, target, fields, body)?;
        loop {
            let (mut line, is_new) = match self.pool.take(&place) {
                Some(line) => (line, false),
                None => (self.open(url).await?, true),
            };
            match send(&mut line, request).await {
                Ok(answer) => {
                    if is_upload {
                        // What is left of it goes up whether or not the answer is read, until that has ended. The
                        // connection is not used again.
                        line.drive_apart();
                    }
                    let (head, body) = answer.into_parts();
                    if has_two_ends(&head.headers) {
                        return Err(WireError::TwoEnds);
                    }
                    return Ok(Answer {
                        head,
                        body: WireBody {
                            body,
                            line: Some(line),
                            place,
                            pool: Arc::clone(&self.pool),
                        },
                    });
                }
                // An old connection that turns out closed before anything was sent says nothing of the
                // origin, and whatever the method, the origin has seen nothing of it. Taking it used it up, so that
                // this ends.
                Err((_, Some(unsent))) if !is_new => request = unsent,
                Err((error, _)) => return Err(error),
            }
        }
    }

    async fn open(&self, url: &Url) -> Result<Line, WireError> {
        let connected = self.connector.connect(url).await?;
        let (requests, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .max_headers(MAX_FIELDS)
            .handshake(TokioIo::new(connected.stream))
            .await?;
        Ok(Line::new(requests, driver, connected.peer))
    }
}

/// Whether an answer says twice where it ends: somebody between us and the origin may have believed the other one,
/// and then what comes next is not ours (RFC 9112, 6.3).
fn has_two_ends(fields: &HeaderMap) -> bool {
    fields.contains_key(TRANSFER_ENCODING) && fields.contains_key(CONTENT_LENGTH)
}

fn request(
    method: Method,
    url: &Url,
    target: &str,
    fields: HeaderMap,
    body: Upload,
) -> Result<Request<Upload>, WireError> {
    let mut request = Request::builder().method(method).uri(target).body(body)?;
    *request.headers_mut() = fields;
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
        None => HeaderValue::from_str(host),
    };
    let host = host.map_err(http::Error::from)?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// The answer to `request`; or why there is none, and the request if it was not sent.
async fn send(
    line: &mut Line,
    request: Request<Upload>,
) -> Result<Response<Incoming>, (WireError, Option<Request<Upload>>)> {
    // The future owns what it needs of the sender.
    let mut answer = pin!(line.try_send(request));
    poll_fn(|cx| {
        let mut polled = answer.as_mut().poll(cx);
        let mut is_over = false;
        if polled.is_pending() {
            // Driving it may have brought the answer, or the news that there will be none.
            is_over = line.drive(cx).is_ready();
            polled = answer.as_mut().poll(cx);
        }
        match polled {
            Poll::Ready(answer) => Poll::Ready(answer.map_err(|mut error| {
                let unsent = error.take_message();
                (error.into_error().into(), unsent)
            })),
            Poll::Pending if is_over => Poll::Ready(Err((WireError::Closed, None))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A body as it comes off the wire. Dropped before its end, it closes its connection.
pub(crate) struct WireBody {
    body: Incoming,
    line: Option<Line>,
    place: Place,
    pool: Arc<Pool>,
}

impl WireBody {
    /// How many bytes are still to come, where the framing says.
    pub(crate) fn len(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    // Trailers are of no use here.
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}

impl Stream for WireBody {
    type Item = Result<Bytes, WireError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut polled = this.poll_body(cx);
        if polled.is_pending() {
            let Some(line) = &mut this.line else {
                return Poll::Ready(None);
            };
            let is_over = line.drive(cx).is_ready();
            polled = this.poll_body(cx);
            if is_over && polled.is_pending() {
                polled = Poll::Ready(None);
            }
        }
        match ready!(polled) {
            Some(Ok(bytes)) => {
                if let Some(line) = &this.line {
                    line.expects(this.len().unwrap_or(0));
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => {
                this.line = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                if let Some(line) = this.line.take() {
                    this.pool.keep(this.place.clone(), line);
                }
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for WireBody {
    fn drop(&mut self) {
        // The text of a redirect or of an error is not worth a new connection, where it is already here.
        if self.line.is_none() || self.len().is_none_or(|len| len > SHORT_REST) {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut *self).poll_next(&mut cx) {}
    }
}
