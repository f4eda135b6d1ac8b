//! The bytes of segments, kept in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};

/// A [`ByteStore`] in memory, stricter than any real one.
///
/// A file gives zeros where nothing was written; this store ends the read there instead, so that a caller
/// who asks for bytes that it does not have notices in a test and not in a player. Nothing survives the
/// value: `flush` has nothing to do and never fails.
///
/// ```
/// use bytes::Bytes;
/// use chunk_core::GenerationId;
/// use chunk_ports::{ByteStore, SegmentKey};
/// use chunk_store_memory::MemoryByteStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), chunk_ports::ByteStoreError> {
/// let store = MemoryByteStore::new();
/// let key = SegmentKey { generation: GenerationId::new(1), segment: 0, epoch: 0 };
/// store.write(key, 0, vec![Bytes::from_static(b"head")]).await?;
/// store.write(key, 8, vec![Bytes::from_static(b"tail")]).await?;
///
/// assert_eq!(store.read(key, 0, 100).await?, Some(Bytes::from_static(b"head")));
/// assert_eq!(store.read(key, 4, 100).await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct MemoryByteStore {
    segments: Mutex<Segments>,
    capacity: Option<u64>,
}

#[derive(Default)]
struct Segments {
    by_key: BTreeMap<SegmentKey, Extents>,
    used: u64,
}

impl MemoryByteStore {
    /// An empty store that takes whatever memory there is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that is full when it holds `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        Self {
            segments: Mutex::default(),
            capacity: Some(bytes),
        }
    }

    /// The number of bytes held.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// A panic while the lock is held leaves at worst a byte count that is off, never a wrong byte; so
    /// the lock is taken over rather than the panic spread.
    fn lock(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryByteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = self.lock();
        f.debug_struct("MemoryByteStore")
            .field("segments", &segments.by_key.len())
            .field("used", &segments.used)
            .field("capacity", &self.capacity)
            .finish()
    }
}

#[async_trait]
impl ByteStore for MemoryByteStore {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        let len: usize = data.iter().map(Bytes::len).sum();
        if len == 0 {
            return Ok(());
        }
        if offset.checked_add(len as u64).is_none() {
            return Err(ByteStoreError::Unavailable(
                "the bytes would end beyond the largest offset".into(),
            ));
        }
        // Copied, because a slice of a network buffer would keep all of that buffer alive, uncounted.
        let mut joined = BytesMut::with_capacity(len);
        for part in &data {
            joined.extend_from_slice(part);
        }

        let mut segments = self.lock();
        let present = segments
            .by_key
            .get(&key)
            .map_or(0, |extents| extents.present(offset, len as u64));
        let grown = segments
            .used
            .saturating_add(len as u64)
            .saturating_sub(present);
        if self.capacity.is_some_and(|capacity| grown > capacity) {
            return Err(ByteStoreError::Full(
                "the memory set aside for bytes is used up".into(),
            ));
        }
        segments.used = grown;
        segments
            .by_key
            .entry(key)
            .or_default()
            .insert(offset, joined.freeze());
        Ok(())
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        let segments = self.lock();
        Ok(segments
            .by_key
            .get(&key)
            .and_then(|extents| extents.read(offset, len)))
    }

    async fn flush(&self, _key: SegmentKey) -> Result<(), ByteStoreError> {
        Ok(())
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        let mut segments = self.lock();
        for key in keys {
            if let Entry::Occupied(found) = segments.by_key.entry(key) {
                let gone = found.remove().len();
                segments.used = segments.used.saturating_sub(gone);
            }
        }
        Ok(())
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        let mut segments = self.lock();
        let mut gone = 0;
        segments.by_key.retain(|key, extents| {
            let stays = key.generation != generation;
            if !stays {
                gone += extents.len();
            }
            stays
        });
        segments.used = segments.used.saturating_sub(gone);
        Ok(())
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        let segments = self.lock();
        let mut found: Vec<_> = segments.by_key.keys().map(|key| key.generation).collect();
        // Keys are ordered by generation first, so equal ones are neighbours.
        found.dedup();
        Ok(found)
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        let used = self.lock().used;
        Ok(self.capacity.map(|capacity| capacity.saturating_sub(used)))
    }
}

/// What was written of one segment: pieces by their offset, none empty, no two overlapping.
#[derive(Default)]
struct Extents {
    pieces: BTreeMap<u64, Bytes>,
}

impl Extents {
    /// The number of bytes held.
    fn len(&self) -> u64 {
        self.pieces.values().map(|piece| piece.len() as u64).sum()
    }

    /// How many of the `len` bytes at `offset` are there.
    fn present(&self, offset: u64, len: u64) -> u64 {
        let end = offset.saturating_add(len);
        self.from(offset)
            .take_while(|(start, _)| *start < end)
            .map(|(start, piece)| {
                end.min(start + piece.len() as u64)
                    .saturating_sub(start.max(offset))
            })
            .sum()
    }

    /// Lays `data` over what is there. Its end must be a valid offset.
    fn insert(&mut self, offset: u64, data: Bytes) {
        let end = offset + data.len() as u64;
        let touched: Vec<u64> = self
            .from(offset)
            .map(|(start, _)| start)
            .take_while(|start| *start < end)
            .collect();
        for start in touched {
            let Some(former) = self.pieces.remove(&start) else {
                continue;
            };
            let former_end = start + former.len() as u64;
            if start < offset {
                self.pieces
                    .insert(start, former.slice(..memory_len(offset - start)));
            }
            if end < former_end {
                self.pieces
                    .insert(end, former.slice(memory_len(end - start)..));
            }
        }
        self.pieces.insert(offset, data);
    }

    /// Up to `len` bytes at `offset`, ending early at the first byte that was never written.
    fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let end = offset.saturating_add(len as u64);
        let mut at = offset;
        let mut parts = Vec::new();
        for (start, piece) in self.from(offset) {
            if start > at || at >= end {
                break;
            }
            let piece_end = start + piece.len() as u64;
            let until = end.min(piece_end);
            parts.push(piece.slice(memory_len(at - start)..memory_len(until - start)));
            at = until;
        }
        match parts.as_slice() {
            [] => None,
            // The usual read lies in one piece and copies nothing.
            [one] => Some(one.clone()),
            many => Some(Bytes::from(many.concat())),
        }
    }

    /// The pieces that end after `offset`, in order.
    fn from(&self, offset: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        let first = self
            .pieces
            .range(..=offset)
            .next_back()
            .filter(|(start, piece)| *start + piece.len() as u64 > offset)
            .map_or(offset, |(start, _)| *start);
        self.pieces
            .range(first..)
            .map(|(start, piece)| (*start, piece))
    }
}

/// A distance inside one piece, which is in memory and so fits.
fn memory_len(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SegmentKey {
        SegmentKey {
            generation: GenerationId::new(1),
            segment: 0,
            epoch: 0,
        }
    }

    async fn write(store: &MemoryByteStore, offset: u64, text: &'static str) {
        store
            .write(key(), offset, vec![Bytes::from_static(text.as_bytes())])
            .await
            .unwrap();
    }

    async fn read(store: &MemoryByteStore, offset: u64, len: usize) -> Option<Bytes> {
        store.read(key(), offset, len).await.unwrap()
    }

    #[tokio::test]
    async fn trap10_a_hole_ends_a_read_and_never_reads_as_zeros() {
        let store = MemoryByteStore::new();
        write(&store, 0, "abc").await;
        write(&store, 5, "fgh").await;
        assert_eq!(read(&store, 1, 10).await.as_deref(), Some(&b"bc"[..]));
        assert_eq!(read(&store, 3, 10).await, None);
        assert_eq!(read(&store, 4, 10).await, None);
        assert_eq!(read(&store, 5, 10).await.as_deref(), Some(&b"fgh"[..]));
    }

    #[tokio::test]
    async fn a_write_lies_over_the_middle_of_a_former_one() {
        let store = MemoryByteStore::new();
        write(&store, 0, "abcdefgh").await;
        write(&store, 2, "XY").await;
        assert_eq!(read(&store, 0, 8).await.as_deref(), Some(&b"abXYefgh"[..]));
        assert_eq!(store.used(), 8);
    }

    #[tokio::test]
    async fn a_write_lies_over_several_pieces_and_the_holes_between() {
        let store = MemoryByteStore::new();
        for offset in [0, 4, 8] {
            write(&store, offset, "ab").await;
        }
        write(&store, 1, "12345678").await;
        assert_eq!(
            read(&store, 0, 99).await.as_deref(),
            Some(&b"a12345678b"[..])
        );
        assert_eq!(store.used(), 10);
    }

    #[tokio::test]
    async fn a_full_store_refuses_a_write_and_keeps_nothing_of_it() {
        let store = MemoryByteStore::with_capacity(4);
        write(&store, 0, "abc").await;
        assert_eq!(store.free_space().await.unwrap(), Some(1));
        let refused = store
            .write(key(), 2, vec![Bytes::from_static(b"CDE")])
            .await
            .unwrap_err();
        assert!(matches!(refused, ByteStoreError::Full(_)), "{refused:?}");
        assert_eq!(read(&store, 0, 9).await.as_deref(), Some(&b"abc"[..]));
        // What is written again takes no further room.
        write(&store, 2, "cd").await;
        assert_eq!(store.free_space().await.unwrap(), Some(0));
    }

    #[tokio::test]
    async fn removal_gives_the_room_back() {
        let store = MemoryByteStore::with_capacity(4);
        write(&store, 0, "abcd").await;
        store.remove(vec![key()]).await.unwrap();
        assert_eq!(store.free_space().await.unwrap(), Some(4));
        write(&store, 0, "abcd").await;
        store.remove_generation(key().generation).await.unwrap();
        assert_eq!(store.used(), 0);
    }

    #[tokio::test]
    async fn a_write_past_the_largest_offset_is_refused() {
        let store = MemoryByteStore::new();
        let refused = store
            .write(key(), u64::MAX, vec![Bytes::from_static(b"x")])
            .await;
        assert!(refused.is_err());
    }
}
