//! From the HTTP library's errors to the port's, without what they would give away.

use std::error::Error;

use chunk_ports::{BackendError, FetchError};

use crate::answer::refused;
use crate::redirect::not_public;
use crate::wire::WireError;

/// Whose machine a request was on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The configured origin: its operator knows its host and may read it in an error.
    Origin,
    /// The target of a redirect, of which not even the host may be told.
    Elsewhere,
}

/// Why no head came to a request.
pub(crate) fn before_head(error: WireError, side: Side) -> FetchError {
    if matches!(error, WireError::NotPublic) {
        return not_public();
    }
    if matches!(error, WireError::TwoEnds) {
        return refused("a length and a transfer coding at once");
    }
    let is_unconnected = matches!(
        error,
        WireError::Lookup(_)
            | WireError::Connect(_)
            | WireError::Tls(_)
            | WireError::ConnectTimeout
    );
    let source = source(error, side);
    match side {
        Side::Origin if is_unconnected => FetchError::NoConnection(source),
        _ => FetchError::Unreachable(source),
    }
}

/// Why a body broke off.
pub(crate) fn within_body(error: WireError, side: Side) -> FetchError {
    FetchError::Interrupted(source(error, side))
}

/// What may be told of an error. Causes deeper down may name the host (a certificate's name that does not
/// match, for one).
fn source(error: WireError, side: Side) -> BackendError {
    match side {
        Side::Origin => Box::new(error),
        Side::Elsewhere => Box::new(Anonymous {
            what: error.nameless(),
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
