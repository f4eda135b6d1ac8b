//! Connections whose system receives on while nobody reads, as all do.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_manager::{ChunkManager, First};
use chunk_ports::{ChunkFetcher, FetchError, FetchOutcome, FetchRequest};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{OriginObject, OriginWorld};
use futures_util::StreamExt as _;
use support::*;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How many pieces of an answer a system holds that nobody has asked it for.
const WINDOW: usize = 8;

#[derive(Debug)]
struct WithWindows(ScriptedFetcher);

#[async_trait]
impl ChunkFetcher for WithWindows {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let mut outcome = self.0.fetch(request).await?;
        if let FetchOutcome::Body(fetched) = &mut outcome {
            let (sender, mut window) = mpsc::channel(WINDOW);
            let empty = Box::pin(futures_util::stream::empty());
            let mut body = std::mem::replace(&mut fetched.body, empty);
            tokio::spawn(async move {
                while let Some(piece) = body.next().await {
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            });
            fetched.body = Box::pin(futures_util::stream::poll_fn(move |cx| {
                window.poll_recv(cx)
            }));
        }
        Ok(outcome)
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_over_a_connection_that_was_held_is_kept_when_it_ends() {
    let world = OriginWorld::new();
    world.put(OriginObject::new(FILM, 100 * MIB));
    let fetcher = WithWindows(ScriptedFetcher::new(world.clone(), link()));
    let manager = ChunkManager::builder(
        Arc::new(MemoryChunkStore::new()),
        Arc::new(MemoryByteStore::new()),
        Arc::new(fetcher),
    )
    .start()
    .await
    .unwrap();
    let whole = First::Span {
        start: 0,
        end: None,
    };
    let mut opened = manager.open(resource(FILM), whole).await.unwrap();
    read_exact(&mut opened.reader, 1, MIB).await;
    // As much is ready as there is to be, and the connection is not read any more.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(manager.statistics().held_runs, 1);
    let sent = world.journal().bytes_of(FILM);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.journal().bytes_of(FILM), sent, "its window is full");
    drop(opened.reader);
    sleep(Duration::from_secs(3)).await;
    let statistics = manager.statistics();
    assert_eq!((statistics.held_runs, world.journal().in_flight()), (0, 0));
    let sent = world.journal().bytes_of(FILM);
    let readable = opened.entry.readable();
    let readable: u64 = readable.into_iter().map(chunk_core::ByteRange::len).sum();
    // One piece was about to enter the window.
    let piece = 64 * 1024;
    assert!(sent - readable <= piece, "{sent} came, {readable} are kept");
}
