//! The index of a chunk cache in SQLite: which blocks of which files are recorded, and what is still wanted.
//!
//! [`SqliteChunkStore`] implements [`chunk_ports::ChunkStore`]; it is opened from a path, or from
//! [`SqliteOptions`]. It keeps no payload and no secret: bytes live in a byte store, and a key holds
//! nothing that signs a URL. It implements [`chunk_ports::TallyStore`] as well, with a table of one row.
//!
//! ```
//! use chunk_core::CacheKey;
//! use chunk_ports::ChunkStore;
//! use chunk_store_sqlite::SqliteChunkStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let opened = SqliteChunkStore::open(folder.path().join("index.db")).await?;
//! assert!(opened.set_aside.is_none(), "the file was malformed; the index begins empty");
//! let key = CacheKey::new("", "/film.mkv", &[""; 0])?;
//! let entry = opened.store.ensure_entry(&key, 1_700_000_000).await?;
//! assert_eq!(opened.store.entries().await?, [entry]);
//! opened.store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Cost
//! A recorded segment (10 MiB unless configured otherwise) is **one row**, and a commit of N segments of
//! one generation is **2 ⌈N / 100⌉ + 2 statements**: begin, for each 100 rows one that moves the generation's sum and one
//! insertion, commit; the first one of a generation has a look at it as well, and the first one after a new entry or
//! generation sets when the log is synced. [`SqliteChunkStore::statistics`] counts them. SQLite works in threads of its
//! own, and a commit of up to 100 segments goes there once. The log is moved into the main file in a reader's thread,
//! while nobody waits.
//!
//! # Damage
//! A malformed file is renamed to `<name>.damaged-N` when it is opened, and the index begins empty. A
//! start reads entries, not chunks; damage met later leaves the file `<name>.suspect`, which makes the
//! next start check everything once. A schema newer than the program is refused and left alone.
//!
//! # A full disk
//! The file `<name>.reserve`, 1 MiB larger than the index or its log, whichever is larger, holds room that is given up when rows are to be removed, or a file
//! to be made known, and the disk is full; it is made again when there is room. Other writes fail with
//! [`chunk_ports::ChunkStoreError::Full`].
//!
//! # Durability
//! What was committed survives the end of the process. After a power cut the last commits may be
//! missing, whole and in order, unless [`Durability::PowerCut`] is asked for; the numbers of
//! generations, which name files, are synced in either case, so that none is ever given twice. An entry of which nothing
//! else was committed is synced in neither: somebody waits for it, and nothing refers to it that would outlast it.
#![forbid(unsafe_code)]

mod batch;
mod connection;
mod error;
mod open;
mod options;
mod reserve;
mod rows;
mod statements;
mod store;

pub use connection::Statistics;
pub use error::OpenError;
pub use open::Opened;
pub use options::{Durability, SqliteOptions};
pub use store::SqliteChunkStore;
