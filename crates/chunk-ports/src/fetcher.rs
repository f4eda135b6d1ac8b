//! The fetcher port: byte ranges of a resource at its origin.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::Representation;
use futures_core::Stream;

use crate::{BackendError, Resource, Secret};

/// Body bytes as they arrive. Dropping it ends the transfer on the wire.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, FetchError>> + Send>>;

/// Fetches byte ranges from origins.
///
/// # Contract
/// - **One call, one request** to the origin. Retrying is the caller's decision. Apart from that are redirects, and
///   a second request without a range where a 416 to a range from either end says that the file is empty: it names
///   neither validators nor media type.
/// - **Right or refused.** The bytes in the body are those of the named range of the named
///   representation. An answer with another start, a contradictory `Content-Range`, a content coding,
///   several parts, or (under [`Condition::Continue`]) another representation is an error, never a body.
///   Where the origin ignored the range and sent the whole, the body says so by starting at 0.
/// - **Length.** The body never yields more bytes than its range has. If the origin sends fewer, the
///   last item is [`FetchError::Interrupted`]; what came before it is good.
/// - **Progress.** A body that makes no progress for the adapter's configured time ends with
///   [`FetchError::Stalled`]. Time during which the caller does not poll does not count.
/// - **Back-pressure.** What is not polled is not read from the wire, up to the transport's buffers.
/// - **Cancellation.** Dropping the future or the body stops the transfer and leaks nothing.
/// - **Secrets.** No error text contains a target, an `Authorization` value or a redirect's location.
///
/// Not promised: order or fairness among concurrent calls.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ChunkFetcher: Send + Sync + fmt::Debug + 'static {
    /// Asks for `request.wanted` and returns once the answer's head is there.
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError>;
}

/// What to ask for.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "adapters take it apart")]
pub struct FetchRequest {
    /// Of which resource.
    pub resource: Resource,
    /// Which bytes.
    pub wanted: Wanted,
    /// Under which condition.
    pub condition: Condition,
}

/// Which bytes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "HTTP knows no further kinds")]
pub enum Wanted {
    /// From `start` up to, not including, `end`; to the end of the file where that is `None`.
    Span {
        /// The first byte.
        start: u64,
        /// The end, exclusive.
        end: Option<u64>,
    },
    /// The last `len` bytes.
    Suffix {
        /// How many, at least 1.
        len: u64,
    },
}

/// Under which condition to send bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Whatever the origin has now.
    Any,
    /// Only bytes of this representation (`If-Range` with its strong validator, and a check of the
    /// answer); another one is [`FetchError::Changed`].
    Continue(Representation),
    /// Only if the origin has another representation now (`If-None-Match`, `If-Modified-Since`); the
    /// same one is [`FetchOutcome::NotModified`].
    IfChanged(Representation),
}

/// What the origin answered.
#[non_exhaustive]
#[derive(Debug)]
pub enum FetchOutcome {
    /// Bytes.
    Body(FetchedBody),
    /// The representation of [`Condition::IfChanged`] is still the one.
    NotModified(Verdict),
}

/// The bytes of one answer, with what the answer's head said.
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct FetchedBody {
    /// What the origin has now.
    pub representation: Representation,
    /// The offset of the body's first byte. 0 where the origin ignored the range.
    pub start: u64,
    /// The offset after the body's last byte, where known.
    pub end: Option<u64>,
    /// What the answer shows of whether the origin serves ranges of this resource.
    pub ranges: RangeSupport,
    /// How the answer may be kept.
    pub verdict: Verdict,
    /// The bytes.
    pub body: BodyStream,
}

impl fmt::Debug for FetchedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedBody")
            .field("representation", &self.representation)
            .field("start", &self.start)
            .field("end", &self.end)
            .field("ranges", &self.ranges)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

/// What one answer shows of whether the origin serves ranges of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an answer shows it, says it, or neither"
)]
pub enum RangeSupport {
    /// It is a part.
    Served,
    /// It is the whole where the first byte was asked for, which a server may send in place of the same bytes as a
    /// part, and it says that parts can be asked for (RFC 9110, 14.2 and 14.3).
    Claimed,
    /// It is the whole where a part was asked for, or says nothing of parts.
    Ignored,
}

/// How an answer may be kept: the neutral outcome of the protocol's cache rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct Verdict {
    /// Whether it may be kept beyond the requests it is being fetched for (`no-store` and `private` say no).
    pub storable: bool,
    /// How long from now it may be given out without asking again; `None` where a confirmation says nothing of caching, so
    /// that it may be for as long as an earlier answer said.
    pub fresh_for: Option<Duration>,
    /// Whether it must not be given out after that without being confirmed, even where the origin cannot be asked
    /// (`no-cache`, `must-revalidate` and what means the same say yes); `None` where nothing is said of caching, so that
    /// what an earlier answer said stands.
    pub must_revalidate: Option<bool>,
}

/// What a refusal says besides its status, as far as it is meant for whoever asked.
///
/// Not the page that came with it, nor any other field: those may hold what is between us and the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct RefusalFields {
    /// `Retry-After`, as a time from the answer on.
    pub retry_after: Option<Duration>,
    /// `Allow`: the methods that a 405 says there are.
    pub allow: Option<String>,
    /// `WWW-Authenticate`: which credentials a 401 wants. It may hold a nonce, so it is not printed.
    pub challenge: Option<Secret>,
}

/// Why bytes did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The origin has another representation now.
    #[error("the origin has another version of the file")]
    Changed {
        /// What it has, as far as it said.
        now: Box<Representation>,
    },
    /// There is no such resource (404, 410).
    #[error("the origin answered {status}: no such file")]
    NotFound {
        /// The status code.
        status: u16,
    },
    /// The origin wants other credentials (401, 403, 407).
    #[error("the origin answered {status}: it wants other credentials")]
    Denied {
        /// The status code.
        status: u16,
        /// What else it says.
        told: RefusalFields,
    },
    /// The origin refuses the request for another reason (any other 4xx that is not about patience).
    #[error("the origin answered {status}: it refuses the request")]
    Rejected {
        /// The status code.
        status: u16,
        /// What else it says.
        told: RefusalFields,
    },
    /// The range starts past the end (416).
    #[error("the file has no bytes in that range")]
    Unsatisfiable {
        /// The file's length, where the origin said.
        total_len: Option<u64>,
    },
    /// The origin asks for patience (408, 425, 429, 503) or fails (other 5xx).
    #[error("the origin answered {status}")]
    Busy {
        /// The status code.
        status: u16,
        /// How long to wait at least, where it said.
        retry_after: Option<Duration>,
    },
    /// No connection to the origin itself: nothing at all can be had from it now.
    #[error("no connection to the origin")]
    NoConnection(#[source] BackendError),
    /// No answer: the connection broke or kept silent, or a place that the origin led to cannot be reached.
    #[error("the origin cannot be reached")]
    Unreachable(#[source] BackendError),
    /// The body ended before its end. What came is good.
    #[error("the transfer was interrupted")]
    Interrupted(#[source] BackendError),
    /// The body made no progress for too long. What came is good.
    #[error("the transfer made no progress")]
    Stalled,
    /// The answer broke a rule; nothing of it may be used.
    #[error("the origin's answer is refused: {reason}")]
    Refused {
        /// Which rule, without secrets.
        reason: String,
    },
    /// The request may not be made: an unknown origin, a forbidden address.
    #[error("not asked for: {reason}")]
    Forbidden {
        /// Why, without secrets.
        reason: String,
    },
}

impl FetchError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::NoConnection(_)
                | Self::Unreachable(_)
                | Self::Interrupted(_)
                | Self::Stalled
        )
    }

    /// How long the origin asked to wait, if it did.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Denied { told, .. } | Self::Rejected { told, .. } => told.retry_after,
            _ => None,
        }
    }
}
