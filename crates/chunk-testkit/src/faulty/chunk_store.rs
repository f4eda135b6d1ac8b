//! An index that fails on purpose.

use async_trait::async_trait;
use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_ports::{
    ChunkStore, ChunkStoreError, EntryRecord, GenerationRecord, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite,
};

use super::{Fault, Faults};

/// The methods of [`ChunkStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ChunkStoreMethod {
    /// [`ChunkStore::entries`].
    Entries,
    /// [`ChunkStore::entry`].
    Entry,
    /// [`ChunkStore::ensure_entry`].
    EnsureEntry,
    /// [`ChunkStore::begin_generation`].
    BeginGeneration,
    /// [`ChunkStore::segments`].
    Segments,
    /// [`ChunkStore::segment`].
    Segment,
    /// [`ChunkStore::retired_generations`].
    RetiredGenerations,
    /// [`ChunkStore::jobs`].
    Jobs,
    /// [`ChunkStore::commit`].
    Commit,
}

/// An index whose calls fail as its [`Faults`] say. Everything else goes to the index within.
///
/// [`Fault::AppliedButUnavailable`] on [`ChunkStoreMethod::Commit`] is the commit whose outcome is unknown.
#[derive(Debug)]
pub struct FaultyChunkStore<S> {
    inner: S,
    faults: Faults<ChunkStoreMethod>,
}

impl<S: ChunkStore> FaultyChunkStore<S> {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            faults: Faults::new(),
        }
    }

    /// The handle that decides what fails.
    #[must_use]
    pub fn faults(&self) -> Faults<ChunkStoreMethod> {
        self.faults.clone()
    }

    /// The index within, past all faults and counters.
    #[must_use]
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Carries `call` out, or fails it.
    async fn with_fault<T: Send>(
        &self,
        method: ChunkStoreMethod,
        call: impl Future<Output = Result<T, ChunkStoreError>> + Send,
    ) -> Result<T, ChunkStoreError> {
        match self.faults.on_call(method) {
            None => call.await,
            Some(Fault::Full) => Err(ChunkStoreError::Full("scripted: full".into())),
            Some(Fault::Corrupt) => Err(ChunkStoreError::Corrupt("scripted: corrupt".into())),
            Some(Fault::Unavailable) => {
                Err(ChunkStoreError::Unavailable("scripted: unavailable".into()))
            }
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::AppliedButUnavailable) => {
                call.await?;
                Err(ChunkStoreError::Unavailable(
                    "scripted: applied, but unavailable".into(),
                ))
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: ChunkStore> ChunkStore for FaultyChunkStore<S> {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        self.with_fault(ChunkStoreMethod::Entries, self.inner.entries())
            .await
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        self.with_fault(ChunkStoreMethod::Entry, self.inner.entry(key))
            .await
    }

    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        self.with_fault(
            ChunkStoreMethod::EnsureEntry,
            self.inner.ensure_entry(key, now_unix),
        )
        .await
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        self.with_fault(
            ChunkStoreMethod::BeginGeneration,
            self.inner.begin_generation(entry, new),
        )
        .await
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        self.with_fault(ChunkStoreMethod::Segments, self.inner.segments(generation))
            .await
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        self.with_fault(
            ChunkStoreMethod::Segment,
            self.inner.segment(generation, segment),
        )
        .await
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        self.with_fault(
            ChunkStoreMethod::RetiredGenerations,
            self.inner.retired_generations(),
        )
        .await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        self.with_fault(ChunkStoreMethod::Jobs, self.inner.jobs())
            .await
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        self.with_fault(ChunkStoreMethod::Commit, self.inner.commit(writes))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// An index that only counts what was committed: the decorator needs no more to be tested.
    #[derive(Debug, Default)]
    struct Counting {
        committed: Mutex<usize>,
    }

    #[async_trait]
    impl ChunkStore for Counting {
        async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
            Ok(Vec::new())
        }
        async fn entry(&self, _key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
            Ok(None)
        }
        async fn ensure_entry(
            &self,
            _key: &CacheKey,
            _now_unix: i64,
        ) -> Result<EntryRecord, ChunkStoreError> {
            Err(ChunkStoreError::Missing { what: "entry" })
        }
        async fn begin_generation(
            &self,
            _entry: EntryId,
            _new: NewGeneration,
        ) -> Result<GenerationRecord, ChunkStoreError> {
            Err(ChunkStoreError::Missing { what: "entry" })
        }
        async fn segments(
            &self,
            _generation: GenerationId,
        ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
            Ok(Vec::new())
        }
        async fn segment(
            &self,
            _generation: GenerationId,
            _segment: u32,
        ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
            Ok(None)
        }
        async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
            Ok(Vec::new())
        }
        async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
            Ok(Vec::new())
        }
        async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
            *self.committed.lock().unwrap() += writes.len();
            Ok(())
        }
    }

    fn write() -> Vec<StoreWrite> {
        vec![StoreWrite::RemoveEntry(EntryId::new(1))]
    }

    #[tokio::test]
    async fn fault23_a_commit_of_unknown_outcome_was_applied() {
        let store = FaultyChunkStore::new(Counting::default());
        let faults = store.faults();
        faults.fail_call(ChunkStoreMethod::Commit, 1, Fault::AppliedButUnavailable);
        faults.fail_call(ChunkStoreMethod::Commit, 2, Fault::Unavailable);

        assert!(store.commit(write()).await.unwrap_err().is_retryable());
        assert_eq!(*store.inner().committed.lock().unwrap(), 1);
        assert!(store.commit(write()).await.unwrap_err().is_retryable());
        assert_eq!(*store.inner().committed.lock().unwrap(), 1);
        store.commit(write()).await.unwrap();
        assert_eq!(*store.inner().committed.lock().unwrap(), 2);
        assert_eq!(faults.calls(ChunkStoreMethod::Commit), 3);
    }

    #[tokio::test]
    async fn faults_name_their_kind() {
        let store = FaultyChunkStore::new(Counting::default());
        let faults = store.faults();
        faults.fail_next(ChunkStoreMethod::Commit, Fault::Full);
        assert!(matches!(
            store.commit(write()).await,
            Err(ChunkStoreError::Full(_))
        ));
        faults.fail_next(ChunkStoreMethod::Entries, Fault::Corrupt);
        assert!(matches!(
            store.entries().await,
            Err(ChunkStoreError::Corrupt(_))
        ));
        store.entries().await.unwrap();
    }

    #[tokio::test]
    async fn every_method_fails_while_the_index_is_down() {
        let store = FaultyChunkStore::new(Counting::default());
        store.faults().fail_all(true);
        let key = CacheKey::new("", "/film.mkv", &[""; 0]).unwrap();
        let generation = GenerationId::new(1);
        let down = |error: ChunkStoreError| matches!(error, ChunkStoreError::Unavailable(_));
        let outcomes = [
            store.entries().await.is_err_and(down),
            store.entry(&key).await.is_err_and(down),
            store.ensure_entry(&key, 0).await.is_err_and(down),
            store.segments(generation).await.is_err_and(down),
            store.segment(generation, 0).await.is_err_and(down),
            store.retired_generations().await.is_err_and(down),
            store.jobs().await.is_err_and(down),
            store.commit(write()).await.is_err_and(down),
        ];
        assert_eq!(outcomes, [true; 8]);
        assert_eq!(store.faults().all_calls(), 8);
    }
}
