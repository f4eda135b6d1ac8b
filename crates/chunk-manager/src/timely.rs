//! An index that answers in time, or counts as unavailable.
//!
//! A disk that hangs lets calls neither succeed nor fail. Everything in this crate knows what to do without an
//! index, once it is told; this tells it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_ports::{
    ChunkStore, ChunkStoreError, Clock, EntryRecord, GenerationRecord, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite,
};

/// How long somebody who wants to play waits for what the index has: longer than a busy disk takes over a few rows,
/// and short of what a player takes for an error.
pub(crate) const LOOK_UP: Duration = Duration::from_secs(2);
/// How long the index may take over a transaction, or over a list that nobody plays from.
pub(crate) const TRANSACTION: Duration = Duration::from_secs(10);
/// How long it may take over everything that it has, which is read at the start.
const EVERYTHING: Duration = Duration::from_secs(60);

/// The index within, with a limit to each call. What is dropped in the middle may have taken effect or not, which is
/// what [`ChunkStoreError::Unavailable`] says of a call.
#[derive(Debug)]
pub(crate) struct Timely {
    inner: Arc<dyn ChunkStore>,
    clock: Arc<dyn Clock>,
}

impl Timely {
    pub(crate) fn new(inner: Arc<dyn ChunkStore>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, ChunkStoreError>> + Send,
    ) -> Result<T, ChunkStoreError> {
        let enough = self.clock.now() + limit;
        tokio::select! {
            biased;
            outcome = call => outcome,
            () = self.clock.sleep_until(enough) => {
                Err(ChunkStoreError::Unavailable("it does not answer".into()))
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ChunkStore for Timely {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        self.within(EVERYTHING, self.inner.entries()).await
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        self.within(LOOK_UP, self.inner.entry(key)).await
    }

    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        self.within(LOOK_UP, self.inner.ensure_entry(key, now_unix))
            .await
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        self.within(TRANSACTION, self.inner.begin_generation(entry, new))
            .await
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        self.within(LOOK_UP, self.inner.segments(generation)).await
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        self.within(LOOK_UP, self.inner.segment(generation, segment))
            .await
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        self.within(TRANSACTION, self.inner.retired_generations())
            .await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        self.within(EVERYTHING, self.inner.jobs()).await
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        self.within(TRANSACTION, self.inner.commit(writes)).await
    }
}
