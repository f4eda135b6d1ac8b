//! Strict backends in memory: [`MemoryChunkStore`] for the index, [`MemoryByteStore`] for the bytes.
//!
//! They are the reference: a real backend has to give the same answers, and may refuse no less. Nothing
//! survives the process.
//!
//! ```
//! use chunk_core::CacheKey;
//! use chunk_ports::ChunkStore;
//! use chunk_store_memory::MemoryChunkStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryChunkStore::new();
//! let key = CacheKey::new("", "/film.mkv", &[""; 0])?;
//! let entry = store.ensure_entry(&key, 1_700_000_000).await?;
//! assert_eq!(store.entries().await?, [entry]);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod byte_store;
mod chunk_store;
mod chunk_store_state;

pub use byte_store::MemoryByteStore;
pub use chunk_store::MemoryChunkStore;
