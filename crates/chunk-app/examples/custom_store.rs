//! A byte store of one's own, behind the manager.
//!
//! `ScratchByteStore` keeps segments in memory and forgets them with the process: what a kiosk without a
//! disk would want. The index is SQLite in memory; the manager cannot tell the difference.
//!
//! ```text
//! cargo run -p chunk-app --example custom_store
//! cargo test -p chunk-app --example custom_store     # the port's rules, one test each
//! ```
#![expect(clippy::print_stdout, reason = "an example is there to be read")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{CacheKey, GenerationId};
use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_manager::{ChunkManager, First};
use chunk_ports::{ByteStore, ByteStoreError, Resource, SegmentKey};
use chunk_store_sqlite::SqliteChunkStore;
use support::MediaServer;

const MIB: u64 = 1024 * 1024;

/// Segments in memory. Holes read as zeros, which the contract allows: the caller knows what it wrote and
/// never asks for a hole.
#[derive(Debug, Default)]
struct ScratchByteStore {
    segments: Mutex<BTreeMap<SegmentKey, Vec<u8>>>,
}

impl ScratchByteStore {
    /// No await happens while this is held.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SegmentKey, Vec<u8>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes held, holes included.
    fn size(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }
}

#[async_trait]
impl ByteStore for ScratchByteStore {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        let too_far = |_| ByteStoreError::Full("no memory reaches that far".into());
        let mut at = usize::try_from(offset).map_err(too_far)?;
        let mut segments = self.lock();
        let segment = segments.entry(key).or_default();
        for piece in data {
            let end = at + piece.len();
            if segment.len() < end {
                segment.resize(end, 0);
            }
            segment[at..end].copy_from_slice(&piece);
            at = end;
        }
        Ok(())
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        let segments = self.lock();
        // A miss is no error: neither an unknown segment nor a place past its end.
        let found = segments
            .get(&key)
            .zip(usize::try_from(offset).ok())
            .filter(|(segment, start)| *start < segment.len())
            .map(|(segment, start)| {
                let end = segment.len().min(start.saturating_add(len));
                Bytes::copy_from_slice(&segment[start..end])
            });
        Ok(found)
    }

    async fn flush(&self, _key: SegmentKey) -> Result<(), ByteStoreError> {
        // Nothing here outlives the process, and neither does the index beside it.
        Ok(())
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        let mut segments = self.lock();
        for key in keys {
            segments.remove(&key);
        }
        Ok(())
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.lock().retain(|key, _| key.generation != generation);
        Ok(())
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        let found: BTreeSet<_> = self.lock().keys().map(|key| key.generation).collect();
        Ok(found.into_iter().collect())
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        // Unknown: the manager then goes by its own cap alone.
        Ok(None)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let origin = MediaServer::start().await?;
    let scratch = Arc::new(ScratchByteStore::default());
    let index = Arc::new(SqliteChunkStore::in_memory().await?);
    let fetcher = HttpFetcher::builder()
        .origin("", OriginConfig::new(origin.url()))
        .build()?;
    let manager = ChunkManager::builder(
        index,
        Arc::clone(&scratch) as Arc<dyn ByteStore>,
        Arc::new(fetcher),
    )
    .start()
    .await?;

    let film = Resource::from_key(Arc::new(CacheKey::new("", "/film.mkv", &[""; 0])?));
    for pass in ["first", "second"] {
        let before = origin.requests();
        let first = First::Span {
            start: 0,
            end: Some(8 * MIB),
        };
        let mut opened = manager.open(film.clone(), first).await?;
        // Bytes come in pieces, as they arrive and without copying.
        loop {
            let at = opened.reader.position();
            let Some(bytes) = opened.reader.next(256 * 1024).await? else {
                break;
            };
            if bytes != support::film(at, at + bytes.len() as u64) {
                return Err(format!("byte {at} is not the film's").into());
            }
        }
        println!(
            "{pass} pass: 8 MiB read and right, {} request(s) to the origin, {} bytes in the store",
            origin.requests() - before,
            scratch.size(),
        );
    }
    manager.shutdown().await;
    origin.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ScratchByteStore;

    async fn fresh() -> (ScratchByteStore, ()) {
        (ScratchByteStore::default(), ())
    }

    chunk_testkit::byte_store_conformance!(fresh);
}
