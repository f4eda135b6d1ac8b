//! The pure logic of a chunk cache for streaming media.
//!
//! This crate decides *which bytes to fetch next*. It has no async, no clock and no I/O: time is an
//! argument ([`Tick`]), facts go in, imperatives come out. The same inputs always give the same outputs.
//!
//! Start with [`ByteRange`] and [`RangeSet`] for coverage, [`ChunkGeometry`] for the arithmetic between
//! bytes and chunks, [`DemandQueue`] for explicit requests, and [`scheduler::Scheduler`] for the whole.
//!
//! | question | answered by |
//! |---|---|
//! | which bytes are there, which are missing | [`RangeSet`], [`BlockMap`] |
//! | which chunk is a byte in, which bytes are a chunk | [`ChunkSize`], [`ChunkGeometry`] |
//! | what was asked for and goes next | [`DemandQueue`], [`Priority`] |
//! | how far to fetch ahead of a reader | [`ReadAhead`], [`ConsumptionRate`] |
//! | how fast does an origin answer, and when to ask again | [`RateEstimator`], [`RoundTrip`], [`RetryPolicy`] |
//! | what to forget, and is there room | [`EvictionIndex`], [`SpaceLedger`] |
//! | how fast does a film play, and where is its index | [`Container`] |
//! | is this the same entry, the same file | [`CacheKey`], [`Representation`] |
//! | what does `20Mbit/s` mean | [`units`] |
//!
//! All arithmetic is on integers, and checked or saturating: no offset, length, rate or time panics.
//!
//! ```
//! use chunk_core::{ByteRange, ChunkGeometry, ChunkSize, RangeSet};
//!
//! let geometry = ChunkGeometry::new(ChunkSize::DEFAULT, 25 * 1024 * 1024).unwrap();
//! let mut coverage = RangeSet::new();
//! coverage.insert(ByteRange::new(20 * 1024 * 1024, 25 * 1024 * 1024).unwrap());
//!
//! // The short last chunk counts as soon as its own bytes are there.
//! let last = geometry.chunk_range(2).unwrap();
//! assert_eq!(last.len(), 5 * 1024 * 1024);
//! assert!(coverage.contains_range(last));
//! assert!(!coverage.contains_range(geometry.chunk_range(1).unwrap()));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod block;
mod breaker;
mod container;
mod estimate;
mod eviction;
mod geometry;
mod identity;
mod priority;
mod queue;
mod range;
mod range_set;
mod read_ahead;
mod representation;
mod retry;
mod space;
mod time;

pub mod scheduler;
pub mod units;

pub use block::{BLOCK_SIZE, BlockMap};
pub use breaker::{Admission, Breaker, BreakerPolicy};
pub use container::{Container, ContainerKind};
pub use estimate::{ConsumptionRate, PlayerBuffer, RateEstimator, RoundTrip};
pub use eviction::{EvictionIndex, Place, Victim};
pub use geometry::{ChunkGeometry, ChunkSize, GeometryError};
pub use identity::{CacheKey, CacheKeyError, DEFAULT_SIGNATURE_PARAMETERS, EntryId, GenerationId};
pub use priority::Priority;
pub use queue::{Demand, DemandQueue, Pushed};
pub use range::{ByteRange, RangeError};
pub use range_set::RangeSet;
pub use read_ahead::{ReadAhead, ReadAheadPolicy};
pub use representation::{ETag, LastModified, Representation};
pub use retry::{RetryPolicy, RetryState};
pub use space::{Shortfall, SpaceLedger};
pub use time::Tick;
