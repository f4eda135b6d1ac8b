//! Inbound HTTP adapter: players and browsers in front of the manager
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "first part only")]

mod framing;
mod multipart;
mod preconditions;
mod range_header;
mod respond;

pub use range_header::{RangeHeader, RangeSpec, Selection};
