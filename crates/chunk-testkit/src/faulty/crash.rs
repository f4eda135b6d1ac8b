//! A byte store that can lose power.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};

use super::rng::Rng;

/// Bytes per page: what an operating system writes back together.
const PAGE: usize = 4096;

/// Bytes per sector: what a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A [`ByteStore`] in memory that models what a power cut leaves of files.
///
/// What was flushed stays. Of what was not, each 4 KiB page is lost, kept or torn at 512-byte sectors,
/// independently, so that later writes may survive earlier ones; a segment that was never flushed may be
/// gone, and may have its length without its bytes; one that was removed may be back. Holes read as zeros,
/// as in a file. [`crash`](Self::crash) with the same seed leaves the same.
///
/// ```
/// use bytes::Bytes;
/// use chunk_core::GenerationId;
/// use chunk_ports::{ByteStore, SegmentKey};
/// use chunk_testkit::faulty::CrashByteStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), chunk_ports::ByteStoreError> {
/// let store = CrashByteStore::new();
/// let key = SegmentKey { generation: GenerationId::new(1), segment: 0, epoch: 0 };
/// store.write(key, 0, vec![Bytes::from_static(b"safe")]).await?;
/// store.flush(key).await?;
/// store.write(key, 4, vec![Bytes::from_static(b"perhaps")]).await?;
///
/// let after = store.crash(42);
/// assert_eq!(after.read(key, 0, 4).await?.as_deref(), Some(&b"safe"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct CrashByteStore {
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    segments: BTreeMap<SegmentKey, Segment>,
    /// Removed segments: a directory's removals are not durable by themselves.
    removed: BTreeMap<SegmentKey, Segment>,
}

#[derive(Clone, Default)]
struct Segment {
    /// What readers see.
    current: Vec<u8>,
    /// What was there at the last flush; `None` before the first one.
    flushed: Option<Vec<u8>>,
    /// The pages written since.
    dirty: BTreeSet<usize>,
}

impl CrashByteStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a power cut at this moment leaves, as `seed` decides. This store goes on as if nothing had
    /// happened, so that one history can be crashed in many ways.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let disk = self.lock();
        let mut rng = Rng::new(seed);
        let mut left = BTreeMap::new();
        for (key, segment) in &disk.segments {
            if segment.flushed.is_some() || rng.coin() {
                left.insert(*key, segment.torn(&mut rng));
            }
        }
        for (key, segment) in &disk.removed {
            if rng.coin() {
                left.entry(*key).or_insert_with(|| segment.torn(&mut rng));
            }
        }
        let segments = left
            .into_iter()
            .map(|(key, bytes)| {
                let segment = Segment {
                    current: bytes.clone(),
                    flushed: Some(bytes),
                    dirty: BTreeSet::new(),
                };
                (key, segment)
            })
            .collect();
        Self {
            disk: Mutex::new(Disk {
                segments,
                removed: BTreeMap::new(),
            }),
        }
    }

    /// How many 4 KiB pages a power cut could take.
    #[must_use]
    pub fn unflushed_pages(&self) -> usize {
        self.lock()
            .segments
            .values()
            .map(|segment| segment.dirty.len())
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segment {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(data);
        self.dirty.extend(offset / PAGE..end.div_ceil(PAGE));
    }

    fn flush(&mut self) {
        self.flushed = Some(self.current.clone());
        self.dirty.clear();
    }

    /// The segment's bytes after a power cut.
    fn torn(&self, rng: &mut Rng) -> Vec<u8> {
        let mut left = self.flushed.clone().unwrap_or_default();
        let safe_len = left.len();
        // The length may have become durable apart from the bytes: it then shows zeros.
        let grown = (self.current.len() - safe_len) as u64;
        let len = match rng.below(3) {
            0 => safe_len,
            1 => self.current.len(),
            _ => safe_len + usize::try_from(rng.below(grown + 1)).unwrap_or(0),
        };
        left.resize(len, 0);
        for page in &self.dirty {
            let fate = rng.below(3);
            for sector in (page * PAGE..(page + 1) * PAGE).step_by(SECTOR) {
                let end = (sector + SECTOR).min(len).min(self.current.len());
                let written = match fate {
                    0 => false,
                    1 => true,
                    _ => rng.coin(),
                };
                if written && sector < end {
                    left[sector..end].copy_from_slice(&self.current[sector..end]);
                }
            }
        }
        left
    }
}

impl fmt::Debug for CrashByteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashByteStore")
            .field("segments", &self.lock().segments.len())
            .field("unflushed_pages", &self.unflushed_pages())
            .finish()
    }
}

#[async_trait]
impl ByteStore for CrashByteStore {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        let data = data.concat();
        if data.is_empty() {
            return Ok(());
        }
        // A bound far above any segment keeps a stray offset from taking all the memory there is.
        let offset = usize::try_from(offset)
            .ok()
            .filter(|offset| *offset < 1 << 30)
            .ok_or_else(|| ByteStoreError::Full("an offset beyond 1 GiB".into()))?;
        self.lock()
            .segments
            .entry(key)
            .or_default()
            .write(offset, &data);
        Ok(())
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        let disk = self.lock();
        let Some(segment) = disk.segments.get(&key) else {
            return Ok(None);
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(len).min(segment.current.len());
        Ok((start < end).then(|| Bytes::copy_from_slice(&segment.current[start..end])))
    }

    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        if let Some(segment) = self.lock().segments.get_mut(&key) {
            segment.flush();
        }
        Ok(())
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        let mut disk = self.lock();
        for key in keys {
            if let Some(segment) = disk.segments.remove(&key) {
                disk.removed.insert(key, segment);
            }
        }
        Ok(())
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        let mut disk = self.lock();
        let gone = disk
            .segments
            .extract_if(.., |key, _| key.generation == generation)
            .collect::<Vec<_>>();
        disk.removed.extend(gone);
        Ok(())
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        let mut found: Vec<_> = self
            .lock()
            .segments
            .keys()
            .map(|key| key.generation)
            .collect();
        found.dedup();
        Ok(found)
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        Ok(None)
    }
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod tests;
