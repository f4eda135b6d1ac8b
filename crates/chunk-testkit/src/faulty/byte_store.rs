//! A byte store that fails on purpose.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey, Window};

use super::{Fault, Faults};

/// The methods of [`ByteStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ByteStoreMethod {
    /// [`ByteStore::write`].
    Write,
    /// [`ByteStore::read`].
    Read,
    /// [`ByteStore::flush`].
    Flush,
    /// [`ByteStore::remove`].
    Remove,
    /// [`ByteStore::remove_generation`].
    RemoveGeneration,
    /// [`ByteStore::generations`].
    Generations,
    /// [`ByteStore::free_space`].
    FreeSpace,
}

/// A byte store whose calls fail as its [`Faults`] say. Everything else goes to the store within.
///
/// It keeps the contract while it fails: once a flush of a key has failed, every later one fails too.
#[derive(Debug)]
pub struct FaultyByteStore<S> {
    inner: S,
    faults: Faults<ByteStoreMethod>,
    distrusted: Mutex<BTreeSet<SegmentKey>>,
}

impl<S: ByteStore> FaultyByteStore<S> {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            faults: Faults::new(),
            distrusted: Mutex::default(),
        }
    }

    /// The handle that decides what fails.
    #[must_use]
    pub fn faults(&self) -> Faults<ByteStoreMethod> {
        self.faults.clone()
    }

    /// The store within, past all faults and counters.
    #[must_use]
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Carries `call` out, or fails it.
    async fn with_fault<T: Send>(
        &self,
        method: ByteStoreMethod,
        call: impl Future<Output = Result<T, ByteStoreError>> + Send,
    ) -> Result<T, ByteStoreError> {
        match self.faults.on_call(method) {
            None => call.await,
            Some(Fault::Full) => Err(ByteStoreError::Full("scripted: full".into())),
            Some(Fault::Corrupt) => Err(ByteStoreError::Corrupt("scripted: corrupt".into())),
            Some(Fault::Unavailable) => {
                Err(ByteStoreError::Unavailable("scripted: unavailable".into()))
            }
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::AppliedButUnavailable) => {
                call.await?;
                Err(ByteStoreError::Unavailable(
                    "scripted: applied, but unavailable".into(),
                ))
            }
        }
    }

    fn distrusts(&self, key: SegmentKey) -> bool {
        self.distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&key)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: ByteStore> ByteStore for FaultyByteStore<S> {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        self.with_fault(ByteStoreMethod::Write, self.inner.write(key, offset, data))
            .await
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        self.with_fault(ByteStoreMethod::Read, self.inner.read(key, offset, len))
            .await
    }

    /// None: what goes past `read` could not be made to fail.
    fn window(&self, _key: SegmentKey, _offset: u64, _len: usize) -> Option<Box<dyn Window>> {
        None
    }

    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        let outcome = self
            .with_fault(ByteStoreMethod::Flush, self.inner.flush(key))
            .await;
        if self.distrusts(key) {
            return Err(ByteStoreError::Corrupt(
                "scripted: an earlier flush has failed".into(),
            ));
        }
        if outcome.is_err() {
            self.distrusted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key);
        }
        outcome
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        self.with_fault(ByteStoreMethod::Remove, self.inner.remove(keys))
            .await
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.with_fault(
            ByteStoreMethod::RemoveGeneration,
            self.inner.remove_generation(generation),
        )
        .await
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        self.with_fault(ByteStoreMethod::Generations, self.inner.generations())
            .await
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        self.with_fault(ByteStoreMethod::FreeSpace, self.inner.free_space())
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::CrashByteStore;

    const KEY: SegmentKey = SegmentKey {
        generation: GenerationId::new(1),
        segment: 0,
        epoch: 0,
    };

    async fn fresh() -> (FaultyByteStore<CrashByteStore>, ()) {
        (FaultyByteStore::new(CrashByteStore::new()), ())
    }

    mod conformance_without_faults {
        use super::fresh;
        crate::byte_store_conformance!(fresh);
    }

    fn text() -> Vec<Bytes> {
        vec![Bytes::from_static(b"abc")]
    }

    #[tokio::test]
    async fn a_refused_write_did_nothing_and_an_applied_one_did() {
        let (store, ()) = fresh().await;
        let faults = store.faults();
        faults.fail_next(ByteStoreMethod::Write, Fault::Full);
        assert!(matches!(
            store.write(KEY, 0, text()).await,
            Err(ByteStoreError::Full(_))
        ));
        assert_eq!(store.read(KEY, 0, 3).await.unwrap(), None);

        faults.fail_next(ByteStoreMethod::Write, Fault::AppliedButUnavailable);
        let unknown = store.write(KEY, 0, text()).await.unwrap_err();
        assert!(unknown.is_retryable());
        assert_eq!(
            store.read(KEY, 0, 3).await.unwrap().as_deref(),
            Some(&b"abc"[..])
        );
        assert_eq!(faults.calls(ByteStoreMethod::Write), 2);
    }

    #[tokio::test]
    async fn fault16_a_failed_flush_fails_for_ever() {
        let (store, ()) = fresh().await;
        store.write(KEY, 0, text()).await.unwrap();
        store
            .faults()
            .fail_next(ByteStoreMethod::Flush, Fault::Corrupt);
        assert!(store.flush(KEY).await.is_err());
        store.faults().clear();
        assert!(matches!(
            store.flush(KEY).await,
            Err(ByteStoreError::Corrupt(_))
        ));
        let other = SegmentKey { epoch: 1, ..KEY };
        store.write(other, 0, text()).await.unwrap();
        store.flush(other).await.unwrap();
    }

    #[tokio::test]
    async fn every_method_fails_while_the_store_is_down() {
        let (store, ()) = fresh().await;
        store.faults().fail_all(true);
        let outcomes = [
            store.write(KEY, 0, text()).await.is_err(),
            store.read(KEY, 0, 1).await.is_err(),
            store.flush(KEY).await.is_err(),
            store.remove(vec![KEY]).await.is_err(),
            store.remove_generation(KEY.generation).await.is_err(),
            store.generations().await.is_err(),
            store.free_space().await.is_err(),
        ];
        assert_eq!(outcomes, [true; 7]);
        assert_eq!(store.faults().failed(), 7);
    }
}
