//! A fetcher that breaks down in the middle of its work.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::ChunkSize;
use chunk_manager::{ChunkManager, EntryState, First};
use chunk_ports::{ChunkFetcher, FetchError, FetchOutcome, FetchRequest};
use chunk_testkit::fetcher::ScriptedFetcher;
use futures_util::{StreamExt as _, stream};
use support::*;
use tokio::time::timeout;

/// Panics while it is asked, or while its answer comes, as often as told.
#[derive(Debug)]
struct Fragile {
    origin: ScriptedFetcher,
    breaks_in_body: bool,
    left: AtomicU32,
}

impl Fragile {
    fn is_to_break(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

#[async_trait]
impl ChunkFetcher for Fragile {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        assert!(self.breaks_in_body || !self.is_to_break(), "broken");
        let mut outcome = self.origin.fetch(request).await?;
        if let FetchOutcome::Body(fetched) = &mut outcome
            && self.is_to_break()
        {
            let body = std::mem::replace(&mut fetched.body, Box::pin(stream::empty()));
            let broken = stream::poll_fn(|_| panic!("broken"));
            fetched.body = Box::pin(body.take(1).chain(broken));
        }
        Ok(outcome)
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_costs_its_readers_time_and_nobody_a_slot() {
    for breaks_in_body in [false, true] {
        let setup = setup(4 * MIB);
        let fetcher = Fragile {
            origin: ScriptedFetcher::new(setup.world.clone(), setup.link.clone()),
            breaks_in_body,
            left: AtomicU32::new(2),
        };
        let (store, bytes) = (Arc::clone(&setup.store), Arc::clone(&setup.bytes));
        let manager = ChunkManager::builder(store, bytes, Arc::new(fetcher))
            .chunk_size(ChunkSize::new(MIB).unwrap())
            .start()
            .await
            .unwrap();
        let whole = First::Span {
            start: 0,
            end: None,
        };
        let read = async {
            let mut opened = manager.open(resource(FILM), whole).await.unwrap();
            read_to_end(&mut opened.reader, 1).await
        };
        let read = timeout(Duration::from_secs(60), read).await;
        assert_eq!(read.expect("nobody asked again"), 4 * MIB);
        assert_eq!(manager.statistics().active_runs, 0);
        // What the runs had brought is kept with the rest.
        tokio::time::sleep(Duration::from_secs(60)).await; // why: virtual time
        let status = manager.entry_status(&key(FILM)).await.unwrap();
        assert_eq!(status.unwrap().state, EntryState::Complete);
    }
}
