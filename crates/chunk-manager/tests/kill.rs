//! Killed at any instant, with power lost: what was recorded stays, and no byte is ever wrong.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{ByteRange, CacheKey, EntryId, GenerationId, RangeSet};
use chunk_manager::{First, Priority};
use chunk_ports::{
    ByteStore, ByteStoreError, ChunkStore, ChunkStoreError, EntryRecord, GenerationRecord,
    JobRecord, NewGeneration, SegmentKey, SegmentRecord, SegmentSummary, StoreWrite,
};
use chunk_store_memory::MemoryChunkStore;
use chunk_testkit::faulty::{
    ByteStoreMethod, ChunkStoreMethod, CrashByteStore, Fault, FaultyByteStore, FaultyChunkStore,
};
use proptest::prelude::*;
use support::*;

const LEN: u64 = 24 * MIB + 12_345;

/// One life of a process: whatever goes on when `life` returns is gone, as after a kill.
fn life<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(life)
}

fn millis(millis: u64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_millis(millis)) // why: virtual time until the next event of the script
}

/// What the index says is there of the only entry.
async fn recorded(store: &dyn ChunkStore) -> RangeSet {
    let mut set = RangeSet::new();
    for entry in store.entries().await.unwrap() {
        let Some(current) = entry.current else {
            continue;
        };
        for segment in store.segments(current.id).await.unwrap() {
            set.extend(segment.blocks.byte_ranges(
                u64::from(segment.segment) * current.segment_size,
                current.representation.total_len.unwrap(),
            ));
        }
    }
    set
}

/// Seeks about, reads a little at each place, and asks for chunks durably, until it is killed.
async fn busy(setup: &Setup, seeks: &[u64]) {
    let rig = setup.start().await;
    let Ok(mut opened) = rig
        .manager
        .open(
            resource(FILM),
            First::Span {
                start: seeks[0] % LEN,
                end: None,
            },
        )
        .await
    else {
        return;
    };
    for (number, seek) in seeks.iter().enumerate() {
        opened.reader.seek_to(seek % LEN);
        let len = (LEN - seek % LEN).min(300_000);
        read_exact(&mut opened.reader, 1, len).await;
        let priority = [Priority::Low, Priority::Medium, Priority::High][number % 3];
        rig.manager
            .request_chunk(opened.entry.id(), (seek / 7) % 24, priority)
            .await
            .unwrap();
        millis(seek % 300).await;
    }
    millis(60_000).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn fault24_fault25_a_kill_at_any_instant_serves_no_wrong_byte_and_refetches_nothing_recorded(
        seed: u64,
        cuts in prop::collection::vec(0_u64..2_500, 1..4),
        seeks in prop::collection::vec(0..LEN, 1..6),
    ) {
        let mut setup = setup(LEN);
        let mut disk = Arc::new(CrashByteStore::new());
        setup.bytes = Arc::clone(&disk) as _;
        for &cut in &cuts {
            life(async {
                tokio::select! {
                    biased;
                    () = busy(&setup, &seeks) => {}
                    () = millis(cut) => {}
                }
            });
            disk = Arc::new(disk.crash(seed));
            setup.bytes = Arc::clone(&disk) as _;
        }
        setup.world.journal().clear();
        life(async {
            let before = recorded(setup.store.as_ref()).await;
            let rig = setup.start().await;
            let mut opened = rig.open(0, None).await;
            assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
            let mut fetched = RangeSet::new();
            for record in rig.world.journal().records_of(FILM) {
                let Some(start) = record.content_start else { continue };
                fetched.extend(ByteRange::try_new(start, start + record.body_sent));
            }
            for range in before.iter() {
                assert_eq!(fetched.covered_len(range), 0, "{range} was recorded");
            }
            rig.manager.shutdown().await;
            let report = rig.manager.verify(false).await.unwrap();
            assert!(report.bad.is_empty(), "{report:?}");
            assert_eq!(recorded(setup.store.as_ref()).await.len(), LEN);
        });
    }

    #[test]
    fn fault24_at_most_a_second_of_filling_is_lost(seed: u64, cut in 1_100_u64..2_000) {
        let mut setup = setup(LEN);
        let disk = Arc::new(CrashByteStore::new());
        setup.bytes = Arc::clone(&disk) as _;
        let arrived = life(async {
            let rig = setup.start().await;
            let prefetching = tokio::spawn(async move {
                rig.manager.prefetch(resource(FILM), Priority::Low).await.unwrap();
                millis(60_000).await;
            });
            millis(cut - 1_000).await;
            let arrived = setup.world.journal().bytes_of(FILM);
            millis(1_000).await;
            prefetching.abort();
            arrived
        });
        setup.bytes = Arc::new(disk.crash(seed));
        life(async {
            let kept = recorded(setup.store.as_ref()).await.len();
            // The block under way, and the answer's pieces on the wire, are nobody's fault.
            assert!(kept + 2 * 65_536 >= arrived, "{kept} of {arrived}");
            let rig = setup.start().await;
            millis(10_000).await;
            assert_eq!(recorded(setup.store.as_ref()).await.len(), LEN);
            assert!(rig.store.jobs().await.unwrap().is_empty());
            let mut opened = rig.open(0, None).await;
            assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
        });
    }

    #[test]
    fn fault20_fault23_commits_that_fail_or_whose_outcome_is_unknown_lose_nothing(
        seed: u64,
        one_in in 2_u64..5,
        seeks in prop::collection::vec(0..LEN, 1..5),
    ) {
        chunks_are_asked_for_while_commits_are_unsure(seed, one_in, &seeks);
    }
}

/// So many answers are cut where what is asked for next begins that more than 256 KiB come twice.
#[test]
fn fault20_chunks_asked_for_out_of_order_while_commits_are_unsure_cost_what_cuts_cost() {
    chunks_are_asked_for_while_commits_are_unsure(0, 2, &[7_340_032, 4_242_444, 3_988_557]);
}

fn chunks_are_asked_for_while_commits_are_unsure(seed: u64, one_in: u64, seeks: &[u64]) {
    let mut setup = setup(LEN);
    let store = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    setup.store = Arc::clone(&store) as _;
    life(async {
        let rig = setup.start().await;
        let entry = rig.open(0, Some(1)).await.entry.id();
        millis(1_000).await;
        for (number, seek) in seeks.iter().enumerate() {
            for method in [Fault::AppliedButUnavailable, Fault::Unavailable] {
                if (seed >> number).is_multiple_of(one_in) {
                    store.faults().fail_next(ChunkStoreMethod::Commit, method);
                }
            }
            rig.manager
                .request_chunk(entry, seek / MIB, Priority::Low)
                .await
                .unwrap();
            millis(seek % 2_000).await;
        }
        millis(20_000).await;
        for seek in seeks {
            let chunk =
                ByteRange::new(seek / MIB * MIB, (seek / MIB * MIB + MIB).min(LEN)).unwrap();
            assert!(
                recorded(store.inner()).await.contains_range(chunk),
                "{chunk}"
            );
        }
        assert!(rig.store.jobs().await.unwrap().is_empty());
    });
    life(async {
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
        assert_eq!(rig.manager.statistics().checksum_failures, 0);
        let twice = rig.world.journal().duplicate_bytes_of(FILM);
        let most = cost_of_cuts(&rig.world);
        assert!(twice <= most, "{twice} bytes came twice, of {most}");
    });
}

/// Watches the order in which bytes and rows become durable.
#[derive(Debug, Default)]
struct Watch {
    /// What was written and not flushed, by segment.
    unflushed: Mutex<BTreeMap<SegmentKey, RangeSet>>,
}

#[derive(Debug)]
struct WatchedBytes(Arc<Watch>, FaultyByteStore<CrashByteStore>);

#[derive(Debug)]
struct WatchedStore(Arc<Watch>, MemoryChunkStore);

#[async_trait]
impl ByteStore for WatchedBytes {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        let len: usize = data.iter().map(Bytes::len).sum();
        self.1.write(key, offset, data).await?;
        let range = ByteRange::with_len(offset, len as u64).unwrap();
        let mut unflushed = self.0.unflushed.lock().unwrap();
        unflushed.entry(key).or_default().insert(range);
        Ok(())
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        self.1.read(key, offset, len).await
    }

    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        let before = self.0.unflushed.lock().unwrap().remove(&key);
        millis(20).await;
        let outcome = self.1.flush(key).await;
        if outcome.is_err() {
            let mut unflushed = self.0.unflushed.lock().unwrap();
            let still = unflushed.entry(key).or_default();
            before.unwrap_or_default().iter().for_each(|range| {
                still.insert(range);
            });
        }
        outcome
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        self.1.remove(keys).await
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.1.remove_generation(generation).await
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        self.1.generations().await
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        self.1.free_space().await
    }
}

#[async_trait]
impl ChunkStore for WatchedStore {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        self.1.entries().await
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        self.1.entry(key).await
    }

    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        self.1.ensure_entry(key, now_unix).await
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        self.1.begin_generation(entry, new).await
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        self.1.segments(generation).await
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        self.1.segment(generation, segment).await
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        self.1.retired_generations().await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        self.1.jobs().await
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        for write in &writes {
            let StoreWrite::RecordSegment(row) = write else {
                continue;
            };
            let key = SegmentKey {
                generation: row.generation,
                segment: row.segment,
                epoch: row.epoch,
            };
            let unflushed = self.0.unflushed.lock().unwrap();
            if let Some(unflushed) = unflushed.get(&key) {
                for range in row.blocks.byte_ranges(0, MIB) {
                    assert_eq!(
                        unflushed.covered_len(range),
                        0,
                        "{range} of {key:?} has a row before it is durable"
                    );
                }
            }
        }
        millis(20).await;
        self.1.commit(writes).await
    }
}

/// A film is ordered, and read somewhere in it, while some flushes fail: whatever the recorder's interval, in the end
/// every byte is recorded, and no row ever came before its bytes.
fn record_beside_failing_flushes(interval: u64, failing: &[u64]) {
    let watch = Arc::new(Watch::default());
    let bytes = FaultyByteStore::new(CrashByteStore::new());
    let faults = bytes.faults();
    let mut setup = setup(LEN);
    setup.limits.commit_interval = Duration::from_millis(interval);
    setup.bytes = Arc::new(WatchedBytes(Arc::clone(&watch), bytes));
    setup.store = Arc::new(WatchedStore(watch, MemoryChunkStore::new()));
    life(async {
        let rig = setup.start().await;
        for &flush in failing {
            faults.fail_call(ByteStoreMethod::Flush, flush, Fault::Unavailable);
        }
        rig.manager
            .prefetch(resource(FILM), Priority::Medium)
            .await
            .unwrap();
        let mut opened = rig.open(13 * MIB + 77, None).await;
        read_exact(&mut opened.reader, 1, 5 * MIB).await;
        // Whatever a failed flush took is fetched again, in its own time.
        millis(120_000).await;
        assert_eq!(recorded(setup.store.as_ref()).await.len(), LEN);
        assert!(setup.store.jobs().await.unwrap().is_empty());
        assert!(faults.calls(ByteStoreMethod::Flush) > 12);
    });
}

#[test]
fn trap11_no_row_is_committed_before_its_bytes_are_durable() {
    for interval in [100, 250, 500] {
        record_beside_failing_flushes(interval, &[3, 9, 12]);
    }
}
