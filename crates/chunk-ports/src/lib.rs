//! The ports of a chunk cache: the traits its adapters implement, and their errors.
//!
//! A backend is written by implementing one of these traits; each states its contract, and
//! `chunk-testkit` holds a conformance suite for it. Nothing here assumes a local disk, a single process
//! or any one database.
//!
//! | port | what it is |
//! |---|---|
//! | [`ChunkStore`] | the index: entries, generations, recorded blocks, the durable download queue |
//! | [`TallyStore`] | sums over the life of the cache |
//! | [`ByteStore`] | the bytes of segments |
//! | [`ChunkFetcher`] | byte ranges of a resource at its origin |
//! | [`OriginForward`] | requests other than GET and HEAD, passed on |
//! | [`EventSink`], [`EventSource`] | what happened, for whoever wants to know |
//! | [`Clock`] | time |
//!
//! ```
//! use std::sync::Arc;
//! use chunk_core::{ByteRange, CacheKey};
//! use chunk_ports::{CacheEvent, EventSink};
//!
//! /// An event sink that keeps nothing.
//! #[derive(Debug)]
//! struct Silent;
//!
//! impl EventSink for Silent {
//!     fn publish(&self, _event: CacheEvent) {}
//! }
//!
//! let sink: Arc<dyn EventSink> = Arc::new(Silent);
//! let key = Arc::new(CacheKey::new("", "/film.mkv", &[""; 0]).unwrap());
//! let range = ByteRange::new(0, 1024).unwrap();
//! sink.publish(CacheEvent::chunk_completed(key, range));
//! ```
#![forbid(unsafe_code)]

mod byte_store;
mod chunk_store;
mod clock;
mod events;
mod fetcher;
mod forward;
mod index_rules;
mod resource;
mod tally;
mod window;

pub use byte_store::{ByteStore, ByteStoreError, SegmentKey};
pub use chunk_store::{
    ChunkStore, ChunkStoreError, EntryRecord, Freshness, GenerationRecord, JobRange, JobRecord,
    NewGeneration, SegmentRecord, SegmentSummary, StoreWrite,
};
pub use clock::Clock;
pub use events::{CacheEvent, EventSink, EventSource, EventSubscription, Received};
pub use fetcher::{
    BodyStream, ChunkFetcher, Condition, FetchError, FetchOutcome, FetchRequest, FetchedBody,
    RangeSupport, RefusalFields, Verdict, Wanted,
};
pub use forward::{ForwardRequest, ForwardResponse, OriginForward};
pub use resource::{Resource, Secret};
pub use tally::{Tally, TallyStore};
pub use window::{Put, Window};

/// The source of a port's error: whatever the backend said.
pub type BackendError = Box<dyn std::error::Error + Send + Sync + 'static>;

#[cfg(feature = "mock")]
pub use {
    byte_store::MockByteStore, chunk_store::MockChunkStore, clock::MockClock,
    events::MockEventSink, fetcher::MockChunkFetcher, forward::MockOriginForward,
    tally::MockTallyStore,
};
