//! An origin that does what a test tells it to, and remembers what it was asked.
//!
//! ```
//! use chunk_testkit::origin::{Fault, OriginObject, ScriptedOrigin, When, verify_content};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let origin = ScriptedOrigin::start().await?;
//! origin.put(OriginObject::new("film.mkv", 1_000_000));
//! origin.fault("film.mkv", When::Nth(2), Fault::status(503));
//! let base_url = origin.url();
//! // … let the code under test fetch from `base_url`, then check its bytes and what it asked for:
//! # let received: Vec<u8> = Vec::new();
//! assert_eq!(verify_content("film.mkv", 1, 0, &received), Ok(()));
//! assert_eq!(origin.journal().duplicate_bytes_of("film.mkv"), 0);
//! # Ok(())
//! # }
//! ```

mod answer;
mod content;
mod fault;
mod journal;
mod link;
mod object;
mod request;
mod server;
mod world;

pub use content::{ContentMismatch, content, content_byte, fill_content, verify_content};
pub use fault::{Cut, Fault, When};
pub use journal::{Journal, RequestRecord};
pub use link::Link;
pub use object::{OriginObject, TagKind};
pub use server::ScriptedOrigin;
pub use world::OriginWorld;

// The in-process form is made of the same parts.
pub(crate) use answer::{Answer, AnswerBody, Framing, http_date};
pub(crate) use journal::Exchange;
pub(crate) use link::Bucket;
pub(crate) use request::Request;
pub(crate) use world::object_name;

#[cfg(test)]
mod tests;
