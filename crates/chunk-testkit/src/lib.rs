//! Conformance suites, a scripted origin and fault injection for the ports of a chunk cache.
//!
//! A backend is done when it passes the suite of its port; whoever uses ports is tested against what fails
//! on purpose. For tests only: no other crate depends on this one outside its tests.
//!
//! | module | what it is |
//! |---|---|
//! | [`chunk_store`] | the suite of the index, and a comparison of two indexes |
//! | [`tally`] | the suite of a store of sums |
//! | [`byte_store`] | the suite of the byte store, content that knows its place, and a model test |
//! | [`events`] | the suite of the event bus |
//! | [`clock`] | the suite of the clock |
//! | [`forward`] | the suite of what passes requests on |
//! | [`fetcher`] | the suite of the fetcher, and a scripted one for paused time |
//! | [`origin`] | a scripted HTTP origin on loopback |
//! | [`secure`] | a certificate for one test, and clients that trust it |
//! | [`simulator`] | hours of simulated playback over a simulated link |
//! | [`corpus`] | inputs that a fuzzer has found worth keeping, once more |
//! | [`faulty`] | stores that fail on purpose, and one that loses power |
//!
//! ```
//! use chunk_core::GenerationId;
//! use chunk_ports::{ByteStore, SegmentKey};
//! use chunk_testkit::byte_store::content::{bytes_at, first_wrong};
//! use chunk_testkit::faulty::CrashByteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), chunk_ports::ByteStoreError> {
//! let store = CrashByteStore::new();
//! let key = SegmentKey { generation: GenerationId::new(1), segment: 0, epoch: 0 };
//! store.write(key, 0, vec![bytes_at(key, 0, 100_000)]).await?;
//! store.flush(key).await?;
//!
//! // Whatever a power cut takes, it does not take what was flushed.
//! for seed in 0..10 {
//!     let left = store.crash(seed).read(key, 0, 100_000).await?.unwrap_or_default();
//!     assert_eq!((left.len(), first_wrong(key, 0, &left)), (100_000, None));
//! }
//! # Ok(())
//! # }
//! ```

pub mod byte_store;
pub mod chunk_store;
pub mod clock;
pub mod corpus;
pub mod events;
pub mod faulty;
pub mod fetcher;
pub mod forward;
pub mod origin;
pub mod secure;
pub mod simulator;
pub mod tally;
