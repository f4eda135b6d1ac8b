//! A byte store that knows how much is on it.
#![expect(unreachable_pub, reason = "a module of several test programs")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{ByteRange, GenerationId, RangeSet};
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
use chunk_store_memory::MemoryByteStore;

/// A disk of a certain size, which knows at each instant how much is on it and how much ever was.
#[derive(Debug, Default)]
pub struct Disk {
    inner: MemoryByteStore,
    held: Mutex<BTreeMap<SegmentKey, RangeSet>>,
    most: AtomicU64,
    /// How much fits on it; nothing is known where it is 0.
    pub size: AtomicU64,
    /// How many milliseconds a write takes, and a removal.
    pub takes: AtomicU64,
}

impl Disk {
    pub fn used(&self) -> u64 {
        self.held.lock().unwrap().values().map(RangeSet::len).sum()
    }

    async fn turn(&self) {
        let takes = Duration::from_millis(self.takes.load(Ordering::Relaxed));
        tokio::time::sleep(takes).await; // why: virtual time, that of a slow disk
    }

    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// The segments of which anything is there.
    pub fn segments(&self) -> Vec<u32> {
        self.held
            .lock()
            .unwrap()
            .keys()
            .map(|key| key.segment)
            .collect()
    }
}

#[async_trait]
impl ByteStore for Disk {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        self.turn().await;
        let len: usize = data.iter().map(Bytes::len).sum();
        self.inner.write(key, offset, data).await?;
        let range = ByteRange::with_len(offset, len as u64).unwrap();
        self.held
            .lock()
            .unwrap()
            .entry(key)
            .or_default()
            .insert(range);
        self.most.fetch_max(self.used(), Ordering::Relaxed);
        Ok(())
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        self.inner.read(key, offset, len).await
    }

    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        self.inner.flush(key).await
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        self.turn().await;
        for key in &keys {
            self.held.lock().unwrap().remove(key);
        }
        self.inner.remove(keys).await
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.held
            .lock()
            .unwrap()
            .retain(|key, _| key.generation != generation);
        self.inner.remove_generation(generation).await
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        self.inner.generations().await
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        let size = self.size.load(Ordering::Relaxed);
        Ok((size > 0).then(|| size.saturating_sub(self.used())))
    }
}
