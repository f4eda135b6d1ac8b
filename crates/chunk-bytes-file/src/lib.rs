//! The bytes of a chunk cache as files on a local file system.
//!
//! [`FileByteStore`] is a [`ByteStore`](chunk_ports::ByteStore): one folder per generation, one file per
//! segment and epoch, every path made of numbers alone. Files are written at their offsets, flushed, read
//! and unlinked; never truncated, never reused for other content, so that a read that has begun finishes
//! with the bytes it began with. Which bytes of a file count is the index's business, and so are checksums.
//!
//! [`FolderLock`] keeps two processes from one cache folder.
//!
//! ```
//! use bytes::Bytes;
//! use chunk_bytes_file::{FileByteStore, FolderLock};
//! use chunk_core::GenerationId;
//! use chunk_ports::{ByteStore, SegmentKey};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let _lock = FolderLock::acquire(folder)?;
//! let store = FileByteStore::open(folder.join("bytes"))?;
//!
//! let key = SegmentKey { generation: GenerationId::new(1), segment: 0, epoch: 0 };
//! store.write(key, 0, vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")]).await?;
//! store.flush(key).await?;
//! assert_eq!(store.read(key, 1, 100).await?.as_deref(), Some(&b"bcd"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! The crate is for Unix; elsewhere it is empty. On Linux, bytes in the page cache are read without
//! leaving the calling task.
#![cfg(unix)]
#![forbid(unsafe_code)]

mod descriptors;
mod error;
mod layout;
mod lock;
#[cfg(target_os = "linux")]
mod looks;
mod names;
mod segment;
mod store;
#[cfg(target_os = "linux")]
mod window;

pub use lock::{FolderLock, FolderLockError};
pub use store::{FileByteStore, FileByteStoreOptions};
