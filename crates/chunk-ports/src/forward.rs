//! The forwarding port: requests that a cache does not answer.

use std::fmt;

use async_trait::async_trait;

use crate::{BodyStream, FetchError, Resource};

/// Passes a request on to an origin and its answer back.
///
/// # Contract
/// - Only fields of the adapter's allow-list travel in either direction; none of them is hop-by-hop.
/// - Redirects are not followed: the answer goes back as it is.
/// - Nothing is retried, because the method may not be safe.
/// - Whatever status the origin answers is an answer, not an error.
/// - A request's body that ends with an error is not passed on as if it were whole; an answer's body that
///   breaks off ends with [`FetchError::Interrupted`].
/// - Dropping the future or the answer's body ends the exchange.
/// - No error text contains the target.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait OriginForward: Send + Sync + fmt::Debug + 'static {
    /// Sends `request` and returns once the answer's head is there.
    async fn forward(&self, request: ForwardRequest) -> Result<ForwardResponse, FetchError>;
}

/// A request to pass on.
#[expect(clippy::exhaustive_structs, reason = "adapters take it apart")]
pub struct ForwardRequest {
    /// The method, as it stood in the request line.
    pub method: String,
    /// What it is for.
    pub resource: Resource,
    /// The client's fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The client's body, where it sent one; of the length that `Content-Length` tells, where that is among the
    /// fields. How it was framed on the client's connection is nobody else's business (RFC 9112, 6).
    pub body: Option<BodyStream>,
}

impl fmt::Debug for ForwardRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardRequest")
            .field("method", &self.method)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// The answer to pass back.
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct ForwardResponse {
    /// The status code.
    pub status: u16,
    /// The origin's fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The origin's body.
    pub body: BodyStream,
}

impl fmt::Debug for ForwardResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardResponse")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
