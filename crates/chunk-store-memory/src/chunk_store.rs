//! The index in memory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_ports::{
    ChunkStore, ChunkStoreError, EntryRecord, GenerationRecord, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite, Tally, TallyStore,
};

use crate::chunk_store_state::State;

/// A strict index in memory: the reference that other [`ChunkStore`] adapters are compared with, and an
/// index for embedders that want nothing kept.
///
/// It refuses everything the contract lets it refuse, and never fails otherwise. A batch is applied to a
/// copy that replaces the state when all of it went well, so nothing can be half done; the rows
/// themselves are shared, which makes the copy cost O(rows) pointers. Thousands of rows are fine,
/// millions belong in a database.
#[derive(Debug, Default)]
pub struct MemoryChunkStore {
    state: Mutex<State>,
    tally: Mutex<Tally>,
}

impl MemoryChunkStore {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read<T>(&self, question: impl FnOnce(&State) -> T) -> T {
        // A panic cannot leave the state half changed: changes replace it as a whole.
        question(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, ChunkStoreError>,
    ) -> Result<T, ChunkStoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = state.clone();
        let answer = change(&mut next)?;
        *state = next;
        Ok(answer)
    }
}

#[async_trait]
impl ChunkStore for MemoryChunkStore {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        Ok(self.read(State::entries))
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        Ok(self.read(|state| state.entry(key)))
    }

    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        self.change(|state| Ok(state.ensure_entry(key, now_unix)))
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        self.change(|state| state.begin_generation(entry, new))
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        Ok(self.read(|state| state.segments(generation)))
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        Ok(self
            .read(|state| state.segment(generation, segment))
            .map(Arc::unwrap_or_clone))
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        Ok(self.read(State::retired_generations))
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        Ok(self.read(State::jobs))
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        self.change(|state| writes.into_iter().try_for_each(|write| state.apply(write)))
    }
}

#[async_trait]
impl TallyStore for MemoryChunkStore {
    async fn tally(&self) -> Result<Tally, ChunkStoreError> {
        Ok(*self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn keep_tally(&self, tally: Tally) -> Result<(), ChunkStoreError> {
        const LARGEST: u64 = i64::MAX as u64;
        let tally = Tally {
            bytes_served: tally.bytes_served.min(LARGEST),
            bytes_served_from_cache: tally.bytes_served_from_cache.min(LARGEST),
            bytes_from_origin: tally.bytes_from_origin.min(LARGEST),
            bytes_wasted: tally.bytes_wasted.min(LARGEST),
            hits: tally.hits.min(LARGEST),
            misses: tally.misses.min(LARGEST),
            origin_requests: tally.origin_requests.min(LARGEST),
            evicted_bytes: tally.evicted_bytes.min(LARGEST),
            checksum_failures: tally.checksum_failures.min(LARGEST),
        };
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = tally;
        Ok(())
    }
}
