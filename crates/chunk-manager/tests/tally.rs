//! Sums that outlive the process, and a manager that does nothing by itself.

mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::ChunkSize;
use chunk_manager::{Builder, ChunkManager, EntryState, First, Limits, Priority};
use chunk_ports::{ByteStore, ChunkStore, ChunkStoreError, Tally, TallyStore};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{OriginObject, OriginWorld};
use support::*;

/// A store of sums that does what it is told to, and counts how often it was asked.
#[derive(Debug, Default)]
struct Sums {
    inner: MemoryChunkStore,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    mood: Mood,
    looks: usize,
    writes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    Full,
    Silent,
}

impl Sums {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    async fn answer<T: Send>(
        &self,
        mood: Mood,
        call: impl Future<Output = Result<T, ChunkStoreError>> + Send,
    ) -> Result<T, ChunkStoreError> {
        match mood {
            Mood::Well => call.await,
            Mood::Full => Err(ChunkStoreError::Full("scripted: full".into())),
            Mood::Silent => std::future::pending().await,
        }
    }
}

#[async_trait]
impl TallyStore for Sums {
    async fn tally(&self) -> Result<Tally, ChunkStoreError> {
        let mood = {
            let mut script = self.script();
            script.looks += 1;
            script.mood
        };
        self.answer(mood, self.inner.tally()).await
    }

    async fn keep_tally(&self, tally: Tally) -> Result<(), ChunkStoreError> {
        let mood = {
            let mut script = self.script();
            script.writes += 1;
            script.mood
        };
        self.answer(mood, self.inner.keep_tally(tally)).await
    }
}

/// What outlives a manager.
struct Disk {
    world: OriginWorld,
    index: Arc<MemoryChunkStore>,
    bytes: Arc<MemoryByteStore>,
    sums: Arc<Sums>,
}

impl Disk {
    fn new() -> Self {
        let world = OriginWorld::new();
        world.put(OriginObject::new(FILM, 4 * MIB).header("Cache-Control", "max-age=3600"));
        Self {
            world,
            index: Arc::default(),
            bytes: Arc::new(MemoryByteStore::new()),
            sums: Arc::default(),
        }
    }

    fn builder(&self) -> Builder {
        ChunkManager::builder(
            Arc::clone(&self.index) as Arc<dyn ChunkStore>,
            Arc::clone(&self.bytes) as Arc<dyn ByteStore>,
            Arc::new(ScriptedFetcher::new(self.world.clone(), link())),
        )
        .chunk_size(ChunkSize::new(MIB).unwrap())
    }

    async fn start(&self) -> ChunkManager {
        let builder = self.builder().tally(Arc::clone(&self.sums) as _);
        builder.start().await.unwrap()
    }
}

async fn play(manager: &ChunkManager) {
    let all = First::Span {
        start: 0,
        end: None,
    };
    let mut opened = manager.open(resource(FILM), all).await.unwrap();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 4 * MIB);
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_goes_on_in_the_next_process() {
    let disk = Disk::new();
    let manager = disk.start().await;
    assert_eq!(manager.tally(), Tally::default());
    play(&manager).await;
    manager.shutdown().await;
    let first = manager.tally();
    assert_eq!(first.bytes_served, 4 * MIB);
    assert_eq!(first.bytes_from_origin, 4 * MIB);
    assert!(first.misses > 0 && first.origin_requests > 0, "{first:?}");
    assert_eq!(disk.sums.tally().await.unwrap(), first);

    let manager = disk.start().await;
    assert_eq!(manager.tally(), first);
    // What is counted for a moment's view stays this process's own.
    assert_eq!(manager.statistics().bytes_served, 0);
    play(&manager).await;
    manager.evict_all().await.unwrap();
    manager.shutdown().await;
    let second = disk.sums.tally().await.unwrap();
    assert_eq!(second.bytes_served, 8 * MIB);
    assert_eq!(second.bytes_from_origin, 4 * MIB);
    assert!(second.hits > first.hits, "{second:?}");
    assert_eq!(second.evicted_bytes, 4 * MIB);
    assert_eq!(second, manager.tally());
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_loses_the_last_seconds_of_it_and_an_idle_one_writes_nothing() {
    let disk = Disk::new();
    let manager = disk.start().await;
    play(&manager).await;
    tokio::time::sleep(Duration::from_secs(6)).await; // why: virtual time, more than the time between two writes
    let kept = disk.sums.tally().await.unwrap();
    assert_eq!(kept, manager.tally());
    let writes = disk.sums.script().writes;
    tokio::time::sleep(Duration::from_secs(600)).await; // why: virtual time, nothing may happen
    assert_eq!(disk.sums.script().writes, writes);
    // What comes now is not kept before the next time.
    play(&manager).await;
    assert_eq!(disk.sums.tally().await.unwrap(), kept);
    assert_ne!(manager.tally(), kept);
    assert_eq!(disk.start().await.tally(), kept);
}

#[tokio::test(start_paused = true)]
async fn counting_is_never_a_reason_to_fail() {
    let before = Tally {
        hits: 7,
        ..Tally::default()
    };
    for mood in [Mood::Full, Mood::Silent] {
        let disk = Disk::new();
        disk.sums.keep_tally(before).await.unwrap();
        disk.sums.script().mood = mood;
        let manager = disk.start().await;
        play(&manager).await;
        tokio::time::sleep(Duration::from_secs(20)).await; // why: virtual time, in which it is tried some times
        assert!(!manager.statistics().store_failing, "{mood:?}");
        assert!(disk.sums.script().looks > 2, "{mood:?}");
        // Until it is known what was there, nothing is put in its place.
        assert_eq!(disk.sums.inner.tally().await.unwrap(), before, "{mood:?}");
        disk.sums.script().mood = Mood::Well;
        tokio::time::sleep(Duration::from_secs(10)).await; // why: virtual time, in which it is tried again
        let kept = disk.sums.tally().await.unwrap();
        assert_eq!(kept.bytes_served, 4 * MIB, "{mood:?}");
        assert_eq!(kept.hits, 7 + manager.statistics().hits, "{mood:?}");
        // It does not hold up an end either.
        play(&manager).await;
        disk.sums.script().mood = mood;
        let began = tokio::time::Instant::now();
        manager.shutdown().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resting_manager_does_what_it_is_asked_to_and_nothing_by_itself() {
    let disk = Disk::new();
    disk.world.put(OriginObject::new("other", 4 * MIB));
    let manager = disk.start().await;
    play(&manager).await;
    manager
        .prefetch(resource("other"), Priority::Low)
        .await
        .unwrap();
    manager.shutdown().await;
    let asked = disk.world.journal().requests();

    let limits = Limits::default().with_max_size(Some(MIB));
    let resting = disk.builder().limits(limits.clone()).resting();
    let manager = resting.start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await; // why: virtual time, nothing may happen
    let film = manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(film.state, EntryState::Complete);
    assert_eq!(film.recorded_bytes, 4 * MIB);
    let other = manager.entry_status(&key("other")).await.unwrap().unwrap();
    assert!(other.queued_bytes > 0, "{other:?}");
    assert!(
        matches!(other.state, EntryState::NotStarted | EntryState::Paused),
        "{other:?}"
    );
    assert_eq!(disk.world.journal().requests(), asked);
    assert_eq!(manager.statistics().origin_requests, 0);
    assert_eq!(manager.evict(&key(FILM)).await.unwrap(), 4 * MIB);
    manager.shutdown().await;

    // The order is still there for one that does not rest.
    let manager = disk.start().await;
    tokio::time::sleep(Duration::from_secs(60)).await; // why: virtual time, more than it takes
    let other = manager.entry_status(&key("other")).await.unwrap().unwrap();
    assert_eq!(other.state, EntryState::Complete);
    manager.shutdown().await;
}
