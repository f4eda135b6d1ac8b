//! What the stores did not take at first is stored in the end, without anybody coming back for it; and what
//! nobody holds any more ends.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_manager::{EntryState, Priority};
use chunk_ports::{
    ChunkStore, ChunkStoreError, EntryRecord, GenerationRecord, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite,
};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::faulty::{
    ByteStoreMethod, ChunkStoreMethod, Fault, FaultyByteStore, FaultyChunkStore,
};
use support::{FILM, MIB, Rig, key, read_to_end, resource, setup};

const LEN: u64 = 2 * MIB + 77_777;

/// An index whose first orders to begin a generation get no answer.
#[derive(Debug, Default)]
struct Silent {
    inner: MemoryChunkStore,
    unanswered: AtomicU64,
}

#[async_trait]
impl ChunkStore for Silent {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        self.inner.entries().await
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        self.inner.entry(key).await
    }

    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        self.inner.ensure_entry(key, now_unix).await
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        let left = self
            .unanswered
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            std::future::pending::<()>().await;
        }
        self.inner.begin_generation(entry, new).await
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        self.inner.segments(generation).await
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        self.inner.segment(generation, segment).await
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        self.inner.retired_generations().await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        self.inner.jobs().await
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        self.inner.commit(writes).await
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await; // why: virtual time
}

async fn recorded(rig: &Rig) -> u64 {
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap();
    status.map_or(0, |status| status.recorded_bytes)
}

/// All of the film is in the index, and no request is left.
async fn assert_recorded(rig: &Rig, len: u64) {
    assert_eq!(recorded(rig).await, len);
    assert_eq!(rig.store.jobs().await.unwrap(), []);
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.state, EntryState::Complete);
    assert_eq!(
        rig.manager.verify(false).await.unwrap().bad,
        [],
        "what was stored late is what was received"
    );
}

#[tokio::test(start_paused = true)]
async fn r07_a_durable_request_survives_an_index_that_does_not_answer() {
    let mut setup = setup(LEN);
    setup.store = Arc::new(Silent {
        unanswered: AtomicU64::new(2),
        ..Silent::default()
    });
    let rig = setup.start().await;
    let prefetch = rig.manager.prefetch(resource(FILM), Priority::Medium);
    tokio::time::timeout(Duration::from_secs(30), prefetch)
        .await
        .expect("it waits for the index")
        .unwrap();
    seconds(5).await;
    assert_eq!(recorded(&rig).await, 0, "the index has not answered");
    seconds(60).await;
    assert_recorded(&rig, LEN).await;
    assert_eq!(
        rig.world.journal().bytes_of(FILM),
        LEN,
        "what was in memory came once"
    );
}

#[tokio::test(start_paused = true)]
async fn r07_a_file_that_is_only_in_memory_is_recorded_once_the_index_works_again() {
    let mut setup = setup(LEN);
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    setup.store = Arc::clone(&index) as _;
    let rig = setup.start().await;
    let faults = index.faults();
    faults.fail_every(ChunkStoreMethod::BeginGeneration, Some(Fault::Unavailable));
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    let entry = opened.entry.id();
    for chunk in rig.manager.get_available_chunks(entry).await.unwrap() {
        let priority = Priority::Medium;
        rig.manager
            .request_chunk(entry, chunk, priority)
            .await
            .unwrap();
    }
    drop(opened);
    // Longer than an entry stays open without readers.
    seconds(200).await;
    assert_eq!(recorded(&rig).await, 0);
    faults.clear();
    seconds(100).await;
    assert_recorded(&rig, LEN).await;
    assert_eq!(rig.world.journal().bytes_of(FILM), LEN);
}

#[tokio::test(start_paused = true)]
async fn r07_what_memory_could_not_hold_is_fetched_again_once_the_store_works() {
    const LONG: u64 = 9 * MIB;
    for is_index in [true, false] {
        let mut setup = setup(LONG);
        let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
        let bytes = Arc::new(FaultyByteStore::new(MemoryByteStore::new()));
        setup.store = Arc::clone(&index) as _;
        setup.bytes = Arc::clone(&bytes) as _;
        let rig = setup.start().await;
        if is_index {
            index
                .faults()
                .fail_every(ChunkStoreMethod::BeginGeneration, Some(Fault::Unavailable));
        } else {
            bytes
                .faults()
                .fail_every(ByteStoreMethod::Write, Some(Fault::Full));
        }
        rig.manager
            .prefetch(resource(FILM), Priority::Low)
            .await
            .unwrap();
        seconds(30).await;
        assert_eq!(recorded(&rig).await, 0);
        index.faults().clear();
        bytes.faults().clear();
        seconds(200).await;
        assert_recorded(&rig, LONG).await;
    }
}

#[tokio::test(start_paused = true)]
async fn everything_ends_with_the_last_handle() {
    let mut setup = setup(LEN);
    setup.scrub = true;
    let rig = setup.start().await;
    let another = rig.manager.clone();
    let store = Arc::clone(&setup.store);
    let used = Arc::downgrade(&setup.bytes);
    let mut opened = rig.open(0, Some(MIB)).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
    drop((opened, rig));
    seconds(5).await;
    drop(setup);
    assert!(used.upgrade().is_some(), "there is another handle");
    assert!(!another.is_closed());
    drop(another);
    seconds(5).await;
    assert!(used.upgrade().is_none(), "a task still holds the adapters");
    let entry = store.entry(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(entry.current.unwrap().recorded_bytes, MIB);
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_recorded_when_the_last_handle_goes() {
    let setup = setup(LEN);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    drop((opened, rig));
    seconds(5).await;
    let entry = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(entry.current.unwrap().recorded_bytes, LEN);
}
