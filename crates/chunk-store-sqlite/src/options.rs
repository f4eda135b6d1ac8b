//! How an index is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What an acknowledged commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process, however sudden (`synchronous=NORMAL`: 0.015 ms a commit). A power cut may
    /// take the last commits with it, whole and in order, never a part of one. New generations are
    /// synced all the same, because their numbers name files and must not be given twice.
    #[default]
    ProcessCrash,
    /// A power cut as well (`synchronous=FULL`: 0.25 ms a commit and more, the disk's flush).
    PowerCut,
}

/// Where the index is and how it is opened.
///
/// ```
/// # use std::time::Duration;
/// # use chunk_store_sqlite::{Durability, SqliteOptions};
/// let options = SqliteOptions::new("/var/cache/films/index.db")
///     .readers(2)
///     .busy_timeout(Duration::from_secs(1))
///     .durability(Durability::PowerCut);
/// ```
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub(crate) location: Location,
    pub(crate) readers: usize,
    pub(crate) busy_timeout: Duration,
    pub(crate) durability: Durability,
    pub(crate) max_pages: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

impl SqliteOptions {
    /// The index in the file `path`, made if there is none. Its folder must exist.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Location::File(path.as_ref().to_path_buf()))
    }

    /// An index in memory, gone with its store.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::at(Location::Memory)
    }

    fn at(location: Location) -> Self {
        Self {
            location,
            readers: 3,
            busy_timeout: Duration::from_secs(5),
            durability: Durability::default(),
            max_pages: None,
        }
    }

    /// How many connections answer reads beside the one that writes; 3 unless told, each a thread.
    /// With 0, and in memory, the writer answers them.
    #[must_use]
    pub const fn readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// How long a write waits for another process that holds the file; 5 s unless told.
    #[must_use]
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// What an acknowledged commit survives.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The largest size of the index in pages of 4 KiB; no limit unless told. Beyond it writes fail with
    /// [`chunk_ports::ChunkStoreError::Full`].
    #[must_use]
    pub const fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }
}
