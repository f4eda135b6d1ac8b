//! A cache that lasts: the index in SQLite, the bytes in files, the origin behind HTTP.
//!
//! Reads a mebibyte out of the middle of a film, ends, switches the origin off, starts again over the same
//! folder, and reads the mebibyte once more.
//!
//! ```text
//! cargo run -p chunk-app --example sqlite_and_files
//! ```
#![expect(clippy::print_stdout, reason = "an example is there to be read")]

mod support;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use chunk_bytes_file::{FileByteStore, FolderLock};
use chunk_core::CacheKey;
use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_manager::{ChunkManager, First};
use chunk_ports::{ChunkStore, Resource};
use chunk_store_sqlite::SqliteChunkStore;
use support::MediaServer;
use tokio::io::AsyncReadExt;

const MIB: u64 = 1024 * 1024;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let origin = MediaServer::start().await?;
    let url = origin.url();

    println!("first run, the folder is empty");
    let cache = Cache::open(folder.path(), &url).await?;
    cache.read_a_mebibyte().await?;
    println!("  the origin had {} request(s)", origin.requests());
    cache.close().await?;

    origin.stop().await;
    println!("second run, the origin is switched off");
    let cache = Cache::open(folder.path(), &url).await?;
    cache.read_a_mebibyte().await?;
    cache.close().await
}

/// A manager with what stands behind it.
struct Cache {
    manager: ChunkManager,
    index: Arc<SqliteChunkStore>,
    /// Two processes in one folder would disagree about what is in it.
    _lock: FolderLock,
}

impl Cache {
    async fn open(folder: &Path, origin: &str) -> Outcome<Self> {
        let lock = FolderLock::acquire(folder)?;
        let opened = SqliteChunkStore::open(folder.join("index.db")).await?;
        if let Some(damaged) = opened.set_aside {
            println!("  the index was damaged and is now {}", damaged.display());
        }
        let index = Arc::new(opened.store);
        let bytes = FileByteStore::open(folder.join("data"))?;
        // Cache keys name their origin; this one has no name.
        let fetcher = HttpFetcher::builder()
            .origin("", OriginConfig::new(origin))
            .build()?;
        let manager = ChunkManager::builder(
            Arc::clone(&index) as Arc<dyn ChunkStore>,
            Arc::new(bytes),
            Arc::new(fetcher),
        )
        .start()
        .await?;
        Ok(Self {
            manager,
            index,
            _lock: lock,
        })
    }

    /// From the middle of a chunk of 10 MiB: only the bytes asked for are fetched, not the chunk.
    async fn read_a_mebibyte(&self) -> Outcome<()> {
        let (start, end) = (33 * MIB, 34 * MIB);
        let key = Arc::new(CacheKey::new("", "/film.mkv", &[""; 0])?);
        let first = First::Span {
            start,
            end: Some(end),
        };
        let mut opened = self.manager.open(Resource::from_key(key), first).await?;
        let mut bytes = Vec::new();
        opened.reader.read_to_end(&mut bytes).await?;
        if bytes != support::film(start, end) {
            return Err("these are not the film's bytes".into());
        }
        println!(
            "  read bytes {start} to {end} of {}, all right; {} of them came from the origin",
            opened.entry.total_len().unwrap_or_default(),
            self.manager.statistics().bytes_from_origin,
        );
        Ok(())
    }

    /// Records what has arrived. After a kill, what was not recorded by then is fetched again.
    async fn close(self) -> Outcome<()> {
        self.manager.shutdown().await;
        self.index.close().await?;
        Ok(())
    }
}
