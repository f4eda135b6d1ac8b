//! HTTP origins behind the fetcher port.
//!
//! [`HttpFetcher`] asks origins for byte ranges and believes an answer only as far as it fits what was
//! asked and what is known: another start, a coded body, several parts, a log-in page or another version
//! is an error, never bytes. It retries nothing, caches nothing and plans nothing; who does is told by
//! [`FetchError`](chunk_ports::FetchError).
//!
//! Little is in flight that nobody reads: a connection's receive window is no larger than its line needs,
//! nothing is read that is not polled for, and dropping a body closes its socket. That is why the transport is
//! of its own, down to the sockets.
//!
//! An origin the operator named may be at any address. Where it redirects to may not be private, unless
//! that is the origin itself or [`OriginConfig::allow_private`] says so; the addresses that are checked are the
//! ones connected to. Credentials go to the origin alone.
//!
//! ```
//! use chunk_fetch_http::{HttpFetcher, OriginConfig};
//! use chunk_ports::Secret;
//!
//! # fn main() -> Result<(), chunk_fetch_http::BuildError> {
//! let films = OriginConfig::new("https://media.example.org/library/")
//!     .header("X-Api-Key", Secret::new("from a file, never from the command line"));
//! let fetcher = HttpFetcher::builder().origin("", films).build()?;
//! // A resource whose key names the origin "" and whose target is "/film.mkv" is now
//! // https://media.example.org/library/film.mkv.
//! # let _ = fetcher;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod address;
mod answer;
mod body;
mod config;
mod content_range;
mod failure;
mod fetcher;
mod forward;
#[cfg(test)]
mod found_inputs;
mod freshness;
mod lookup;
mod memo;
mod origin;
mod redirect;
mod request;
mod tls;
mod wire;

pub use config::{BuildError, OriginConfig};
pub use content_range::ContentRange;
pub use fetcher::{HttpFetcher, HttpFetcherBuilder};
pub use lookup::{Lookup, SystemLookup};
