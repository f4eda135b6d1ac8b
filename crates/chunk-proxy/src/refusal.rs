//! Answers that are not the file: a status and one plain line, which never holds a secret.

use std::borrow::Cow;
use std::time::Duration;

use chunk_manager::{ManagerError, OpenError};
use chunk_ports::{RefusalFields, Secret};
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::admission::{NotAdmitted, Scheme};
use crate::body::Body;
use crate::multipart::unsatisfied_range;
use crate::route::NoRoute;

/// A request that is not answered with what it asks for.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    line: Cow<'static, str>,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) const fn new(status: StatusCode, line: &'static str) -> Self {
        Self {
            status,
            line: Cow::Borrowed(line),
            fields: Vec::new(),
        }
    }

    /// 400, and the end of the connection: whoever sent this may mean something else by what follows.
    pub(crate) fn bad_request(line: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, line).closing()
    }

    /// The method is none of those in `allowed`.
    pub(crate) fn method(allowed: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "the method is not served here",
        )
        .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// The same, asking for patience. Never none: a client that comes back at once makes what is busy busier.
    fn retrying_after(self, wait: Duration) -> Self {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(RETRY_AFTER, whole.max(1).into())
    }

    fn telling_when(self, told: &RefusalFields) -> Self {
        match told.retry_after {
            Some(wait) => self.retrying_after(wait),
            None => self,
        }
    }

    /// The same with the origin's challenge. Only for a client whose credentials would reach that origin:
    /// any other would be made to give them away for nothing.
    pub(crate) fn challenging(self, error: &OpenError) -> Self {
        match error {
            OpenError::Denied { told, .. } if self.status == StatusCode::UNAUTHORIZED => {
                let challenge = told.challenge.as_ref().map(Secret::expose);
                match challenge.map(HeaderValue::try_from) {
                    Some(Ok(challenge)) => self.with(WWW_AUTHENTICATE, challenge),
                    _ => self,
                }
            }
            _ => self,
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    /// The same, as the last answer on its connection.
    pub(crate) fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let text = format!("{}\n", self.line);
        let mut response = text_response(self.status, text);
        response.headers_mut().extend(
            self.fields
                .into_iter()
                .map(|(name, value)| (Some(name), value)),
        );
        response
    }
}

/// A response with a text as its body.
pub(crate) fn text_response(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let text = text.into();
    let len = text.len();
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONTENT_LENGTH, len.into());
    response
}

impl From<NotAdmitted> for Refusal {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Host => Self::bad_request("a request names exactly one host"),
            NotAdmitted::Scheme(Scheme::Http) => Self::bad_request("only http targets are served"),
            NotAdmitted::Scheme(Scheme::Https) => {
                Self::bad_request("only https targets are served")
            }
            NotAdmitted::ForeignHost => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this proxy does not answer to that host name",
            ),
        }
    }
}

impl From<NoRoute> for Refusal {
    fn from(reason: NoRoute) -> Self {
        match reason {
            NoRoute::Unknown => Self::new(StatusCode::NOT_FOUND, "no origin is mounted there"),
            NoRoute::Malformed => Self::bad_request("the target is not a path"),
            NoRoute::Rate(reason) => Self {
                status: StatusCode::BAD_REQUEST,
                line: Cow::Owned(reason.to_string()),
                fields: Vec::new(),
            },
        }
    }
}

/// The client's status for an origin's 4xx: the same, unless it is about the request that we made of the client's,
/// or about the way there. A 412 would pass for the answer to a precondition of the client's own.
fn origin_says(status: u16) -> StatusCode {
    const OURS: [StatusCode; 7] = [
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        StatusCode::LENGTH_REQUIRED,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::EXPECTATION_FAILED,
        StatusCode::MISDIRECTED_REQUEST,
        StatusCode::UPGRADE_REQUIRED,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    ];
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| status.is_client_error() && !OURS.contains(status))
        .unwrap_or(StatusCode::BAD_GATEWAY)
}

impl From<&OpenError> for Refusal {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::NotFound { status } => {
                Self::new(origin_says(*status), "the origin has no such file")
            }
            OpenError::Denied { status, told } => {
                Self::new(origin_says(*status), "the origin wants other credentials")
                    .telling_when(told)
            }
            OpenError::Rejected { status, told } => {
                let refusal = Self::new(origin_says(*status), "the origin refuses the request")
                    .telling_when(told);
                let allowed = told.allow.as_deref().map(HeaderValue::try_from);
                match allowed {
                    // RFC 9110, 15.5.6: a 405 lists what there is.
                    Some(Ok(allowed)) if refusal.status == StatusCode::METHOD_NOT_ALLOWED => {
                        refusal.with(ALLOW, allowed)
                    }
                    _ => refusal,
                }
            }
            OpenError::Unsatisfiable { total_len } => {
                let refusal = Self::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "the file has no bytes in that range",
                );
                let value = unsatisfied_range(*total_len)
                    .and_then(|value| HeaderValue::try_from(value).ok());
                match value {
                    Some(value) => refusal.with(CONTENT_RANGE, value),
                    None => refusal,
                }
            }
            OpenError::Busy {
                status,
                retry_after,
            } => {
                // A limit on requests is the client's to keep; all else is between us and the origin.
                let status = if *status == StatusCode::TOO_MANY_REQUESTS.as_u16() {
                    StatusCode::TOO_MANY_REQUESTS
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Self::new(status, "the origin is busy; try again later")
                    .retrying_after(retry_after.unwrap_or_default())
            }
            OpenError::Away { retry_after } => {
                Self::new(StatusCode::BAD_GATEWAY, "the origin cannot be reached")
                    .retrying_after(*retry_after)
            }
            // RFC 9111, 5.2.2.2.
            OpenError::Unconfirmed { retry_after } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "the origin does not confirm what is cached, and forbids it to be served unconfirmed",
            )
            .retrying_after(retry_after.unwrap_or_default()),
            OpenError::Timeout => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "the origin did not answer in time",
            ),
            OpenError::Refused { .. } => Self::new(
                StatusCode::BAD_GATEWAY,
                "the origin's answer cannot be used",
            ),
            OpenError::Forbidden { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "the origin leads where it may not")
            }
            OpenError::Manager(ManagerError::Closed) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the cache is shutting down",
            )
            .retrying_after(Duration::ZERO)
            .closing(),
            OpenError::Manager(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the cache cannot answer")
            }
            _ => Self::new(StatusCode::BAD_GATEWAY, "the origin cannot be reached"),
        }
    }
}
