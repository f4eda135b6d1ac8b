//! Stores that fail: every reader still gets its bytes, through the same interface, in bounded memory.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_manager::{EntryState, First, Limits, ManagerError, OpenError, Priority};
use chunk_ports::{
    ChunkStore, ChunkStoreError, EntryRecord, GenerationRecord, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite,
};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::faulty::{
    ByteStoreMethod, ChunkStoreMethod, Fault, Faults, FaultyByteStore, FaultyChunkStore,
};
use chunk_testkit::origin::{OriginObject, verify_content};
use futures_util::future::join_all;
use support::*;
use tokio::time::{Instant, sleep};

/// What a reader has around it of bytes that cannot be stored.
const RING: u64 = 4 * MIB;

struct Failing {
    setup: Setup,
    bytes: Faults<ByteStoreMethod>,
    index: Faults<ChunkStoreMethod>,
}

fn failing(len: u64) -> Failing {
    let bytes = FaultyByteStore::new(MemoryByteStore::new());
    let index = FaultyChunkStore::new(MemoryChunkStore::new());
    let (byte_faults, index_faults) = (bytes.faults(), index.faults());
    let mut setup = setup(len);
    setup.bytes = Arc::new(bytes);
    setup.store = Arc::new(index);
    Failing {
        setup,
        bytes: byte_faults,
        index: index_faults,
    }
}

fn whole() -> First {
    First::Span {
        start: 0,
        end: None,
    }
}

/// Watches the memory in use while `work` goes on; returns its peak.
async fn peak_memory(rig: &Rig, work: impl Future<Output = ()>) -> u64 {
    let mut peak = 0;
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            () = &mut work => return peak,
            () = sleep(Duration::from_millis(1)) => {
                peak = peak.max(rig.manager.statistics().memory_bytes);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault15_a_byte_store_that_is_full_from_the_start_keeps_nobody_waiting() {
    for fault in [Fault::Full, Fault::Unavailable, Fault::Corrupt] {
        let Failing { setup, bytes, .. } = failing(24 * MIB);
        bytes.fail_every(ByteStoreMethod::Write, Some(fault));
        let rig = setup.start().await;
        let read = async {
            let mut one = rig.open(0, None).await;
            let mut two = rig.open(0, None).await;
            let mut part = rig.open(9 * MIB + 5, Some(12 * MIB)).await;
            let (a, b, c) = tokio::join!(
                read_to_end(&mut one.reader, 1),
                read_to_end(&mut two.reader, 1),
                read_to_end(&mut part.reader, 1),
            );
            assert_eq!((a, b, c), (24 * MIB, 24 * MIB, 3 * MIB - 5));
        };
        let asked = Instant::now();
        let peak = peak_memory(&rig, read).await;
        // Two read the same, and one elsewhere.
        assert!(peak <= 2 * RING + MIB, "{peak} bytes in memory");
        assert!(
            asked.elapsed() <= Duration::from_secs(6),
            "{:?}",
            asked.elapsed()
        );
        let sent = rig.world.journal().bytes_of(FILM);
        assert!(sent <= 40 * MIB, "{sent} bytes for two readers abreast");
        assert!(rig.manager.statistics().store_failing);
    }
}

#[tokio::test(start_paused = true)]
async fn fault15_an_order_that_the_index_has_no_room_for_is_refused_with_that_reason() {
    let Failing { setup, index, .. } = failing(3 * MIB);
    index.fail_every(ChunkStoreMethod::EnsureEntry, Some(Fault::Full));
    let rig = setup.start().await;
    let refused = rig
        .manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap_err();
    let OpenError::Manager(ManagerError::Index(reason)) = &refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(**reason, ChunkStoreError::Full(_)), "{refused:?}");
    index.clear();
    sleep(Duration::from_secs(70)).await; // why: virtual time, until what was opened for it is closed
    rig.manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap();
    sleep(Duration::from_secs(10)).await; // why: virtual time, for three megabytes and their commit
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.state, EntryState::Complete);
}

#[tokio::test(start_paused = true)]
async fn fault19_a_store_that_fails_midway_and_recovers_caches_again() {
    let Failing { setup, bytes, .. } = failing(60 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 5 * MIB).await;
    bytes.fail_all(true);
    read_exact(&mut opened.reader, 1, 20 * MIB).await;
    bytes.clear();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 35 * MIB);
    sleep(Duration::from_secs(3)).await;
    let recorded: u64 = opened
        .entry
        .recorded()
        .iter()
        .map(|range| range.len())
        .sum();
    assert!(recorded >= 35 * MIB, "only {recorded} bytes are kept");
    assert!(!rig.manager.statistics().store_failing);
    // Whatever was lost is fetched again, and nothing else.
    let before = rig.world.journal().bytes_of(FILM);
    let mut again = opened.entry.reader(0, None);
    assert_eq!(read_to_end(&mut again, 1).await, 60 * MIB);
    let cost = rig.world.journal().bytes_of(FILM) - before;
    assert!(
        cost <= 60 * MIB - recorded,
        "{cost} bytes, {recorded} were kept"
    );
}

#[tokio::test(start_paused = true)]
async fn fault15_what_the_store_refused_is_offered_again() {
    let Failing { setup, bytes, .. } = failing(3 * MIB);
    let rig = setup.start().await;
    bytes.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    bytes.clear();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB);
    sleep(Duration::from_secs(3)).await;
    let recorded: u64 = opened
        .entry
        .recorded()
        .iter()
        .map(|range| range.len())
        .sum();
    assert_eq!(recorded, 3 * MIB);
    assert_eq!(rig.world.journal().bytes_of(FILM), 3 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault17_bytes_that_cannot_be_read_back_are_fetched_again() {
    let Failing { setup, bytes, .. } = failing(3 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    bytes.fail_by_seed(7, 3, &[Fault::Unavailable]);
    let mut again = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut again.reader, 1).await, 3 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault20_an_index_that_fails_from_the_start_costs_the_cache_and_no_reader() {
    let Failing {
        setup,
        index,
        bytes,
    } = failing(12 * MIB);
    let rig = setup.start().await;
    index.fail_all(true);
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 12 * MIB);
    assert_eq!(bytes.calls(ByteStoreMethod::Write), 0);
    drop(opened);
    index.clear();
    sleep(Duration::from_secs(130)).await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 12 * MIB);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(opened.entry.recorded().len(), 1, "caching has resumed");
}

#[tokio::test(start_paused = true)]
async fn fault20_an_index_that_fails_for_a_moment_takes_the_film_later() {
    let Failing { setup, index, .. } = failing(40 * MIB);
    let rig = setup.start().await;
    index.fail_next(ChunkStoreMethod::BeginGeneration, Fault::Unavailable);
    let mut opened = rig.open(0, None).await;
    for _ in 0..40 {
        read_exact(&mut opened.reader, 1, MIB).await;
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_secs(3)).await;
    let recorded: u64 = opened
        .entry
        .recorded()
        .iter()
        .map(|range| range.len())
        .sum();
    assert!(recorded >= 20 * MIB, "only {recorded} bytes are kept");
}

#[tokio::test(start_paused = true)]
async fn fault20_segments_that_cannot_be_looked_up_are_not_given_up() {
    let Failing { setup, index, .. } = failing(4 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;
    let rig = setup.start().await;
    index.fail_next(ChunkStoreMethod::Segments, Fault::Unavailable);
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 4 * MIB);
    drop(opened);
    sleep(Duration::from_secs(130)).await;
    rig.world.journal().clear();
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 4 * MIB);
    assert_eq!(
        rig.world.journal().bytes_of(FILM),
        0,
        "what was cached was given up"
    );
}

/// An index that takes its time over new generations.
#[derive(Debug)]
struct Slow(MemoryChunkStore);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ChunkStore for Slow {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        self.0.entries().await
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        self.0.entry(key).await
    }

    async fn ensure_entry(&self, key: &CacheKey, now: i64) -> Result<EntryRecord, ChunkStoreError> {
        self.0.ensure_entry(key, now).await
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        sleep(Duration::from_secs(10)).await;
        self.0.begin_generation(entry, new).await
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        self.0.segments(generation).await
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        self.0.segment(generation, segment).await
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        self.0.retired_generations().await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        self.0.jobs().await
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        self.0.commit(writes).await
    }
}

#[tokio::test(start_paused = true)]
async fn no_reader_waits_for_a_slow_index() {
    let mut setup = setup(12 * MIB);
    setup.store = Arc::new(Slow(MemoryChunkStore::new()));
    setup.world.put(OriginObject::new("subtitles", 10_000));
    let rig = setup.start().await;
    let asked = Instant::now();
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 12 * MIB);
    assert!(
        asked.elapsed() <= Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    // Small files whose runs are over before the index answers take no slot meanwhile.
    for name in 0..8 {
        setup
            .world
            .put(OriginObject::new(format!("small{name}"), 10_000));
    }
    let asked = Instant::now();
    for name in 0..8 {
        let mut small = rig
            .manager
            .open(resource(&format!("small{name}")), whole())
            .await
            .unwrap();
        while small.reader.next(4096).await.unwrap().is_some() {}
    }
    assert!(
        asked.elapsed() <= Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    sleep(Duration::from_secs(20)).await;
    let small = rig.manager.open(resource("small3"), whole()).await.unwrap();
    assert_eq!(
        small.entry.recorded().len(),
        1,
        "a small film is kept in the end"
    );
}

#[tokio::test(start_paused = true)]
async fn fault38_a_small_memory_slows_many_readers_down_and_stops_none() {
    const READERS: u64 = 12;
    for fails in [false, true] {
        let Failing {
            mut setup, bytes, ..
        } = failing(MIB);
        setup.limits = Limits::default().with_memory(8 * MIB);
        for name in 0..READERS {
            setup
                .world
                .put(OriginObject::new(format!("film{name}"), 8 * MIB));
        }
        let rig = setup.start().await;
        if fails {
            bytes.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
        }
        let work = async {
            let mut readers = tokio::task::JoinSet::new();
            for reader in 0..READERS {
                let manager = rig.manager.clone();
                readers.spawn(async move {
                    let name = format!("film{reader}");
                    let mut opened = manager.open(resource(&name), whole()).await.unwrap();
                    let mut read = 0;
                    while let Some(bytes) = opened.reader.next(1 << 20).await.unwrap() {
                        verify_content(&name, 1, read, &bytes).unwrap();
                        read += bytes.len() as u64;
                        // Some play, some copy.
                        sleep(Duration::from_millis(reader % 3 * 20)).await;
                    }
                    assert_eq!(read, 8 * MIB);
                });
            }
            while let Some(reader) = readers.join_next().await {
                reader.unwrap();
            }
        };
        let asked = Instant::now();
        let peak = peak_memory(&rig, work).await;
        assert!(
            peak <= 8 * MIB + 2 * MIB,
            "{peak} bytes in memory, failing: {fails}"
        );
        assert!(
            asked.elapsed() <= Duration::from_secs(120),
            "{:?}",
            asked.elapsed()
        );
        sleep(Duration::from_secs(130)).await;
        assert_eq!(rig.manager.statistics().memory_bytes, 0, "memory of nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn a_laggard_gets_a_range_of_its_own() {
    let Failing { setup, bytes, .. } = failing(40 * MIB);
    bytes.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
    let rig = setup.start().await;
    let mut slow = rig.open(0, None).await;
    read_exact(&mut slow.reader, 1, 100_000).await;
    let mut fast = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut fast.reader, 1).await, 40 * MIB);
    assert_eq!(read_to_end(&mut slow.reader, 1).await, 40 * MIB - 100_000);
}

#[tokio::test(start_paused = true)]
async fn without_ranges_fast_and_slow_go_at_one_pace() {
    let Failing { setup, bytes, .. } = failing(20 * MIB);
    setup
        .world
        .put(OriginObject::new(FILM, 20 * MIB).without_ranges());
    bytes.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
    let rig = setup.start().await;
    let mut slow = rig.open(0, None).await;
    let mut fast = rig.open(0, None).await;
    let slowly = async {
        for _ in 0..20 {
            read_exact(&mut slow.reader, 1, MIB).await;
            sleep(Duration::from_millis(300)).await;
        }
    };
    let ((), fast) = tokio::join!(slowly, read_to_end(&mut fast.reader, 1));
    assert_eq!(fast, 20 * MIB);
    let requests = rig.world.journal().requests_of(FILM);
    assert!(requests <= 2, "{requests} transfers of the whole file");
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_stored_is_not() {
    for control in ["no-store", "private"] {
        let Failing {
            setup,
            bytes,
            index,
        } = failing(12 * MIB);
        setup
            .world
            .put(OriginObject::new(FILM, 12 * MIB).header("Cache-Control", control));
        let rig = setup.start().await;
        let mut one = rig.open(0, None).await;
        let mut two = rig.open(0, None).await;
        let (a, b) = tokio::join!(
            read_to_end(&mut one.reader, 1),
            read_to_end(&mut two.reader, 1)
        );
        assert_eq!((a, b), (12 * MIB, 12 * MIB));
        drop((one, two));
        // It was shared by those who read it at once; who comes later asks the origin.
        let before = rig.world.journal().requests_of(FILM);
        let mut later = rig.open(0, Some(10)).await;
        read_exact(&mut later.reader, 1, 10).await;
        assert_eq!(
            rig.world.journal().requests_of(FILM),
            before + 1,
            "{control}"
        );
        drop(later);
        sleep(Duration::from_secs(130)).await;
        assert_eq!(bytes.calls(ByteStoreMethod::Write), 0, "{control}");
        assert_eq!(
            index.calls(ChunkStoreMethod::BeginGeneration),
            0,
            "{control}"
        );
        assert!(
            rig.store.entries().await.unwrap().is_empty(),
            "{control}: a trace"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_ranges_a_reader_that_stopped_for_good_stops_nobody_else() {
    let Failing { setup, bytes, .. } = failing(20 * MIB);
    setup
        .world
        .put(OriginObject::new(FILM, 20 * MIB).without_ranges());
    bytes.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
    let rig = setup.start().await;
    let mut stopped = rig.open(0, None).await;
    read_exact(&mut stopped.reader, 1, 1_000).await;
    let asked = Instant::now();
    let mut fast = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut fast.reader, 1).await, 20 * MIB);
    assert!(
        asked.elapsed() <= Duration::from_secs(40),
        "{:?}",
        asked.elapsed()
    );
    // And whoever goes on after all gets the right bytes, at the price of another transfer.
    assert_eq!(read_to_end(&mut stopped.reader, 1).await, 20 * MIB - 1_000);
}

/// The bound: those who fall behind together share one more transfer, and one reader alone, however slow, costs one.
#[tokio::test(start_paused = true)]
async fn fault01_without_ranges_those_who_fall_behind_together_share_one_more_transfer() {
    for control in ["no-store", "max-age=3600"] {
        let Failing { setup, bytes, .. } = failing(20 * MIB);
        let film = OriginObject::new(FILM, 20 * MIB).without_ranges();
        setup.world.put(film.header("Cache-Control", control));
        bytes.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
        let rig = setup.start().await;
        let slowly = async |pause: Duration| {
            let mut slow = rig.open(0, None).await;
            for _ in 0..20 {
                read_exact(&mut slow.reader, 1, MIB).await;
                sleep(pause).await; // why: virtual time, a film's pace
            }
        };
        let mut fast = rig.open(0, None).await;
        let slow = join_all([300; 6].map(|pause| slowly(Duration::from_millis(pause))));
        let (read, _) = tokio::join!(read_to_end(&mut fast.reader, 1), slow);
        assert_eq!(read, 20 * MIB);
        let transfers = rig.world.journal().requests_of(FILM);
        assert!(transfers <= 2, "{control}: {transfers} transfers");

        drop(fast);
        sleep(Duration::from_secs(130)).await; // why: virtual time, until the entry is closed
        rig.world.journal().clear();
        slowly(Duration::from_secs(3)).await;
        assert_eq!(rig.world.journal().requests_of(FILM), 1, "{control}");
    }
}
