//! The manager with adapters that live in memory, and an origin that makes its film up.
//!
//! ```text
//! cargo run -p chunk-manager --example memory_adapters
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{CacheKey, ETag, Representation};
use chunk_manager::{ChunkManager, First, Priority};
use chunk_ports::{
    ChunkFetcher, FetchError, FetchOutcome, FetchRequest, FetchedBody, RangeSupport, Resource,
    Verdict, Wanted,
};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// An origin with one film of 30 MiB, in which every byte is its offset modulo 251.
#[derive(Debug, Default)]
struct MadeUp {
    sent: Arc<AtomicU64>,
}

const LEN: u64 = 30 * 1024 * 1024;
const PIECE: u64 = 16 * 1024;

#[async_trait]
impl ChunkFetcher for MadeUp {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let (start, end) = match request.wanted {
            Wanted::Span { start, end } => (start, end.unwrap_or(LEN).min(LEN)),
            Wanted::Suffix { len } => (LEN.saturating_sub(len), LEN),
        };
        if start >= end {
            return Err(FetchError::Unsatisfiable {
                total_len: Some(LEN),
            });
        }
        let mut film = Representation::with_len(Some(LEN));
        film.etag = ETag::parse("\"made-up\"");
        // What is not asked for is not made: the manager stops a body by dropping it.
        let sent = Arc::clone(&self.sent);
        let body = stream::unfold(start, move |at| {
            let sent = Arc::clone(&sent);
            async move {
                let next = end.min(at + PIECE);
                (at < end).then(|| {
                    sent.fetch_add(next - at, Ordering::Relaxed);
                    let piece: Vec<u8> = (at..next).map(byte).collect();
                    (Ok(Bytes::from(piece)), next)
                })
            }
        });
        Ok(FetchOutcome::Body(FetchedBody {
            representation: film,
            start,
            end: Some(end),
            ranges: RangeSupport::Served,
            verdict: Verdict {
                storable: true,
                fresh_for: Some(Duration::from_secs(3600)),
                must_revalidate: None,
            },
            body: Box::pin(body),
        }))
    }
}

fn byte(offset: u64) -> u8 {
    u8::try_from(offset % 251).unwrap_or(0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let origin = MadeUp::default();
    let sent = Arc::clone(&origin.sent);
    let manager = ChunkManager::builder(
        Arc::new(MemoryChunkStore::new()),
        Arc::new(MemoryByteStore::new()),
        Arc::new(origin),
    )
    .start()
    .await?;

    let film = Resource::from_key(Arc::new(CacheKey::new("", "/film.mkv", &[""; 0])?));
    let first = First::Span {
        start: 0,
        end: Some(1000),
    };
    let mut opened = manager.open(film.clone(), first).await?;
    println!(
        "the film has {:?} bytes and the tag {}",
        opened.entry.total_len(),
        opened.entry.etag()
    );

    // A player looks at the index at the end, wherever that is.
    let mut reader = opened.entry.reader(0, None);
    reader.seek(SeekFrom::End(-4096)).await?;
    let mut index = Vec::new();
    reader.read_to_end(&mut index).await?;
    assert!(
        index
            .iter()
            .zip(LEN - 4096..)
            .all(|(&found, at)| found == byte(at))
    );
    let mut head = [0; 1000];
    opened.reader.read_exact(&mut head).await?;
    println!(
        "read {} bytes at both ends; the origin sent {}",
        head.len() + index.len(),
        sent.load(Ordering::Relaxed)
    );

    // Somebody wants the second chunk, and waits for it.
    let entry = opened.entry.id();
    manager.request_chunk(entry, 1, Priority::High).await?;
    manager
        .wait_for_chunk(entry, 1, Duration::from_secs(10))
        .await?;
    println!(
        "chunks there: {:?}",
        manager.get_available_chunks(entry).await?
    );

    drop((reader, opened));
    manager.shutdown().await;
    Ok(())
}
