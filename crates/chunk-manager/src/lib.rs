//! The manager of a chunk cache: who wants which bytes, which are there, which are on their way.
//!
//! [`ChunkManager`] drives the pure scheduler of `chunk-core` over adapters for the index, the bytes and
//! the origin. It never names an adapter: anything that implements the traits of `chunk-ports` will do.
//! [`ChunkManager::open`] gives a [`ChunkReader`], which implements tokio's `AsyncRead` and `AsyncSeek`;
//! [`ChunkManager::request_chunk`] and its like ask for chunks explicitly.
//!
//! What it refuses to be: an HTTP server (that is `chunk-proxy`), a program (`chunk-app`), or a second
//! truth beside the index.
//!
//! ```
//! use std::sync::Arc;
//!
//! use chunk_core::CacheKey;
//! use chunk_manager::{ChunkManager, First};
//! use chunk_ports::{ByteStore, ChunkFetcher, ChunkStore, Resource};
//! use tokio::io::{AsyncReadExt, AsyncSeekExt};
//!
//! async fn last_kilobyte(
//!     store: Arc<dyn ChunkStore>,
//!     bytes: Arc<dyn ByteStore>,
//!     origin: Arc<dyn ChunkFetcher>,
//! ) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
//!     let manager = ChunkManager::builder(store, bytes, origin).start().await?;
//!     let key = Arc::new(CacheKey::new("", "/film.mkv", &[""; 0])?);
//!     let mut opened = manager
//!         .open(Resource::from_key(key), First::Span { start: 0, end: None })
//!         .await?;
//!     let mut tail = Vec::new();
//!     opened.reader.seek(std::io::SeekFrom::End(-1024)).await?;
//!     opened.reader.read_to_end(&mut tail).await?;
//!     manager.shutdown().await;
//!     Ok(tail)
//! }
//! ```
#![forbid(unsafe_code)]

mod admin;
mod asking;
mod at_once;
mod away;
mod builder;
mod checked;
mod clock;
mod counters;
mod driver;
mod entry;
mod error;
mod evicting;
mod hot_zones;
mod idling;
mod inner;
mod integrity;
mod jobs;
mod keys;
mod live;
mod manager;
mod memory;
mod mending;
mod moving;
mod opening;
mod options;
mod orders;
mod origins;
mod pages;
mod ranges;
mod reach;
mod reader;
mod recorder;
mod rings;
mod run;
mod segment;
mod space;
mod status;
mod subscription;
mod tail;
mod tallying;
mod timeline;
mod timely;
mod timely_bytes;
mod turns;
mod validating;
mod verify;
mod waiters;
mod waiting;
mod writer;

pub use builder::Builder;
pub use chunk_core::Priority;
pub use chunk_core::scheduler::{Claim, Halt, Hints, Rival};
pub use clock::TokioClock;
pub use entry::{Entry, Glance, Opened, Revision};
pub use error::{ManagerError, OpenError, ReadError, StartError, WaitError};
pub use manager::ChunkManager;
pub use options::{First, Limits};
pub use reader::{ChunkReader, Piece};
pub use status::{BadBlock, EntryState, EntryStatus, LevelStatistics, Statistics, VerifyReport};
pub use subscription::ChunkSubscription;
pub use timeline::{Cause, Delay, Happening, Moment, Part, Timeline, Whereabouts};
