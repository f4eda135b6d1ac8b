//! How what arrives is cut into writes.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{BLOCK_SIZE, GenerationId};
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
use chunk_store_memory::MemoryByteStore;
use support::*;

/// A byte store that notes where writes begin and end.
#[derive(Debug, Default)]
struct Noted {
    inner: MemoryByteStore,
    /// Of each write its segment, first byte and end.
    writes: Mutex<Vec<(u32, u64, u64)>>,
}

#[async_trait]
impl ByteStore for Noted {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        let len: usize = data.iter().map(Bytes::len).sum();
        let end = offset + len as u64;
        self.writes.lock().unwrap().push((key.segment, offset, end));
        self.inner.write(key, offset, data).await
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
        self.inner.remove(keys).await
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.inner.remove_generation(generation).await
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        self.inner.generations().await
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        self.inner.free_space().await
    }
}

fn noted(len: u64) -> (Setup, Arc<Noted>) {
    let mut setup = setup(len);
    let bytes = Arc::new(Noted::default());
    setup.bytes = Arc::clone(&bytes) as Arc<dyn ByteStore>;
    (setup, bytes)
}

#[tokio::test(start_paused = true)]
async fn writes_begin_and_end_where_blocks_do_but_for_where_a_request_does() {
    const LEN: u64 = 6 * MIB + 12_345;
    const START: u64 = MIB + 100_000;
    // Pieces come as large as 5 ms of the line, which is no part of a block.
    let (setup, bytes) = noted(LEN);
    let rig = setup.start().await;
    let mut opened = rig.open(START, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN - START);
    tokio::time::sleep(Duration::from_secs(10)).await; // why: virtual time, for the last write

    let writes = bytes.writes.lock().unwrap().clone();
    assert!(writes.len() > 3, "{writes:?}");
    let at = |segment: u32, offset: u64| u64::from(segment) * setup.chunk_size + offset;
    for &(segment, from, to) in &writes {
        let (from, to) = (at(segment, from), at(segment, to));
        assert!(from == START || from.is_multiple_of(BLOCK_SIZE), "{from}");
        assert!(
            to == LEN || to == START || to.is_multiple_of(BLOCK_SIZE),
            "{to}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_has_the_bytes_of_a_block_before_it_is_whole() {
    let (mut setup, bytes) = noted(MIB);
    // A second for each tenth of a block.
    setup.link = link().total_rate(BLOCK_SIZE / 10);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, BLOCK_SIZE / 2).await;
    assert_eq!(*bytes.writes.lock().unwrap(), []);
    drop(opened);
    tokio::time::sleep(Duration::from_secs(30)).await; // why: virtual time, until nobody wants more
    // What there is of the block is kept when no more of it comes.
    let kept: u64 = bytes
        .writes
        .lock()
        .unwrap()
        .iter()
        .map(|(_, from, to)| to - from)
        .sum();
    assert!(kept >= BLOCK_SIZE / 2, "{kept}");
}
