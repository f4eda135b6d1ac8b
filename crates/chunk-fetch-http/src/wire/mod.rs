//! HTTP/1.1 on sockets of our own, so that little is in flight when a transfer is dropped or stops reading.
//!
//! A connection is driven by whoever reads its body: nothing is read that is not polled for, and dropping
//! a body before its end closes the socket at once. Only what had a body to send is driven by a task once
//! its answer begins: the rest may have to go up before the answer goes on.

mod connect;
mod exchange;
mod gather;
mod options;
mod pool;
mod socket;
mod upload;
mod window;

pub(crate) use connect::Connector;
pub(crate) use exchange::{Answer, Transport};
pub(crate) use upload::Upload;

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a redirect leads to an address that is not public")]
    NotPublic,
    #[error("the host has no address")]
    Lookup(#[source] std::io::Error),
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("no TLS connection")]
    Tls(#[source] std::io::Error),
    #[error("no connection in time")]
    ConnectTimeout,
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    #[error("the connection closed before an answer")]
    Closed,
    #[error("the answer has a length and a transfer coding")]
    TwoEnds,
    #[error("the request cannot be written")]
    Request(#[from] http::Error),
}

impl WireError {
    /// What may be told of it where the place must not be named: causes may name it (a certificate's name
    /// that does not match, for one).
    pub(crate) const fn nameless(&self) -> &'static str {
        match self {
            Self::NotPublic => "the address is not public",
            Self::Lookup(_) => "the host has no address",
            Self::Connect(_) => "no connection",
            Self::Tls(_) => "no TLS connection",
            Self::ConnectTimeout => "no connection in time",
            Self::TwoEnds => "the answer has a length and a transfer coding",
            Self::Http(_) | Self::Closed | Self::Request(_) => "the connection broke",
        }
    }
}
