//! HTTP for players, in front of a [`ChunkManager`](chunk_manager::ChunkManager).
//!
//! A correct HTTP server first and a cache second: ranges, preconditions, freshness and framing as
//! RFC 9110, 9111, 9112 and 9113 say, tried against how real players ask. It holds no bytes of its own: a body
//! is pulled from a reader as fast as the socket takes it, and a client that leaves takes its demand along.
//!
//! It refuses to be a general web server: no compression, no administration. What it answers is fixed in
//! `docs/SEMANTICS.md`. With a [`TlsIdentity`] players connect with TLS, and may speak HTTP/2.
//!
//! [`Proxy`] is built from a manager and a [`ProxyConfig`]; [`Proxy::serve`] accepts until told to stop,
//! [`Proxy::serve_connection`] serves a connection that something else accepted. [`RangeHeader`] is the
//! parser of `Range`, usable on its own:
//!
//! ```
//! use chunk_proxy::{ConfigError, Mount, Proxy, ProxyConfig, RangeHeader, Selection};
//!
//! // A suffix is the end of the file, and a position past the end is another thing than nonsense.
//! let range = RangeHeader::parse(b"bytes=-500").unwrap();
//! assert!(matches!(range.select(1000), Selection::One(last) if last.start() == 500));
//! let past = RangeHeader::parse(b"bytes=5000-").unwrap();
//! assert_eq!(past.select(1000), Selection::Unsatisfiable);
//! assert_eq!(RangeHeader::parse(b"bytes=9-5"), None);
//!
//! /// Serves two origins under `/films/` and `/music/` until `stop` is ready.
//! async fn serve(
//!     manager: chunk_manager::ChunkManager,
//!     listener: tokio::net::TcpListener,
//!     stop: impl Future<Output = ()>,
//! ) -> Result<(), ConfigError> {
//!     let mounts = vec![Mount::named("films").immutable(), Mount::named("music")];
//!     let proxy = Proxy::new(manager, ProxyConfig::new(mounts))?;
//!     proxy.serve(listener, stop).await;
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod admission;
mod again;
mod answer;
mod body;
mod config;
mod dated;
mod flush;
mod forward;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod found_inputs;
mod framing;
mod gathered;
mod heads;
mod lane;
mod multipart;
mod near;
mod observe;
mod patience;
mod preconditions;
mod range_header;
mod refusal;
mod respond;
mod route;
mod seats;
mod secure;
mod serve;
mod source;
mod streams;
mod structured;
#[cfg(test)]
mod tests;
mod tls;
mod told;
mod turned_away;
mod wire;

pub use admission::HostNames;
pub use config::{ConfigError, Cors, Mount, PartitionKey, ProxyConfig};
pub use dated::while_dated;
pub use observe::{LatencyHistogram, ProxyStatistics};
pub use range_header::{RangeHeader, RangeSpec, Selection};
pub use serve::Proxy;
pub use tls::{TlsError, TlsIdentity};
pub use told::{BadRate, plain_target};
