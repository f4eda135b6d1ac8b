//! From the HTTP library's errors to the port's, without what they would give away.

use std::error::Error;

use chunk_ports::{BackendError, FetchError};

use crate::lookup::NotPublic;
use crate::redirect::not_public;

/// Whose machine a request was on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The configured origin: its operator knows its host and may read it in an error.
    Origin,
    /// The target of a redirect, of which not even the host may be told.
    Elsewhere,
}

/// Why no head came.
pub(crate) fn before_head(error: reqwest::Error, side: Side) -> FetchError {
    if causes(&error).any(|cause| cause.is::<NotPublic>()) {
        return not_public();
    }
    FetchError::Unreachable(source(error, side))
}

/// Why a body broke off.
pub(crate) fn within_body(error: reqwest::Error, side: Side) -> FetchError {
    FetchError::Interrupted(source(error, side))
}

/// What may be told of an error. The library's carries the URL, and causes deeper down may name the host
/// (a certificate's name that does not match, for one).
fn source(error: reqwest::Error, side: Side) -> BackendError {
    match side {
        Side::Origin => Box::new(error.without_url()),
        Side::Elsewhere => Box::new(Anonymous {
            what: if error.is_timeout() {
                "timed out"
            } else if error.is_connect() {
                "no connection"
            } else {
                "the connection broke"
            },
            kind: causes(&error)
                .find_map(|cause| cause.downcast_ref::<std::io::Error>())
                .map(std::io::Error::kind),
        }),
    }
}

/// An error at a place that must not be named.
#[derive(Debug, thiserror::Error)]
#[error("after a redirect: {what} ({kind:?})")]
struct Anonymous {
    what: &'static str,
    kind: Option<std::io::ErrorKind>,
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| <dyn Error>::source(*error))
}
