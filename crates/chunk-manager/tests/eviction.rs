//! Room: held before bytes arrive, made by forgetting what was used least recently.

#[path = "support/disk.rs"]
mod disk;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::Tick;
use chunk_manager::{ChunkManager, First, ManagerError, Opened, Priority, TokioClock};
use chunk_ports::{CacheEvent, ChunkStore, Clock, EventSource, Received};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::OriginObject;
use disk::Disk;
use support::*;

async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, one group commit and more
}

/// A clock whose wall moves with virtual time, so that accesses have an order.
#[derive(Debug)]
struct WallClock(TokioClock);

#[async_trait]
impl Clock for WallClock {
    fn now(&self) -> Tick {
        self.0.now()
    }

    async fn sleep_until(&self, deadline: Tick) {
        self.0.sleep_until(deadline).await;
    }

    fn unix_seconds(&self) -> i64 {
        let since = self.0.now().since(Tick::ZERO).as_secs();
        1_700_000_000 + i64::try_from(since).unwrap()
    }
}

struct Room {
    setup: Setup,
    disk: Arc<Disk>,
}

fn room(len: u64, cap: Option<u64>) -> Room {
    let mut setup = setup(len);
    let disk = Arc::new(Disk::default());
    setup.bytes = Arc::clone(&disk) as _;
    setup.limits = setup.limits.with_max_size(cap).with_initial_buffer(2 * MIB);
    setup.limits.read_ahead = Duration::from_secs(2);
    Room { setup, disk }
}

impl Room {
    async fn start(&self) -> ChunkManager {
        let fetcher = ScriptedFetcher::new(self.setup.world.clone(), self.setup.link.clone());
        ChunkManager::builder(
            Arc::clone(&self.setup.store),
            Arc::clone(&self.setup.bytes),
            Arc::new(fetcher),
        )
        .chunk_size(chunk_core::ChunkSize::new(self.setup.chunk_size).unwrap())
        .clock(Arc::new(WallClock(TokioClock::new())))
        .limits(self.setup.limits.clone())
        .start()
        .await
        .unwrap()
    }
}

async fn play(manager: &ChunkManager, name: &str, start: u64, end: Option<u64>) -> u64 {
    let first = First::Span { start, end };
    let mut opened = manager.open(resource(name), first).await.unwrap();
    let mut read = 0;
    loop {
        let at = opened.reader.position();
        let Some(bytes) = opened.reader.next(200_000).await.unwrap() else {
            return read;
        };
        chunk_testkit::origin::verify_content(name, 1, at, &bytes).unwrap();
        read += bytes.len() as u64;
    }
}

/// The bytes that the index says are there.
async fn indexed(store: &dyn ChunkStore) -> u64 {
    let entries = store.entries().await.unwrap();
    entries
        .iter()
        .filter_map(|entry| entry.current.as_ref())
        .map(|current| current.recorded_bytes)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_at_every_instant_and_a_file_larger_than_it_plays_through() {
    for cap in [6 * MIB, 9 * MIB + 100_001] {
        let room = room(40 * MIB + 33, Some(cap));
        let manager = room.start().await;
        assert_eq!(
            play(&manager, FILM, 12_345, None).await,
            40 * MIB + 33 - 12_345
        );
        assert!(room.disk.most() <= cap, "{} of {cap}", room.disk.most());
        assert!(room.disk.most() > cap / 2, "what there is is used");
        settle().await;
        assert!(room.disk.used() <= cap);
        // Where one request meets another's bytes, what is on the wire is cut off.
        let twice = room.setup.world.journal().duplicate_bytes_of(FILM);
        let most = cost_of_cuts(&room.setup.world);
        assert!(twice <= most, "{twice} bytes came twice, of {most}");
        assert!(manager.verify(false).await.unwrap().bad.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_for_bytes_that_somebody_else_has_downloaded() {
    let room = room(16 * MIB, Some(3 * MIB));
    let manager = room.start().await;
    let first = First::Nothing;
    let entry = manager
        .open(resource(FILM), first)
        .await
        .unwrap()
        .entry
        .id();
    for at in 0..16 {
        let data = chunk_testkit::origin::content(FILM, 1, at * MIB, MIB as usize);
        manager
            .complete_range(entry, at * MIB, data.into())
            .await
            .unwrap();
    }
    assert!(room.disk.most() <= 3 * MIB, "{}", room.disk.most());
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_for_many_files_at_once() {
    let room = room(8 * MIB, Some(10 * MIB));
    let names: Vec<String> = (0..6).map(|number| format!("film-{number}")).collect();
    for name in &names {
        room.setup.world.put(OriginObject::new(name, 8 * MIB));
    }
    let manager = room.start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for name in names {
        let manager = manager.clone();
        tasks.spawn(async move { play(&manager, &name, 0, None).await });
    }
    while let Some(read) = tasks.join_next().await {
        assert_eq!(read.unwrap(), 8 * MIB);
    }
    assert!(room.disk.most() <= 10 * MIB, "{}", room.disk.most());
}

#[tokio::test(start_paused = true)]
async fn many_who_are_short_of_the_same_room_evict_for_all_of_them_once() {
    const SMALL: u64 = 100_000;
    let room = room(6 * MIB, None);
    let names: Vec<String> = (0..8).map(|number| format!("small-{number}")).collect();
    for name in &names {
        room.setup.world.put(OriginObject::new(name, SMALL));
    }
    let manager = room.start().await;
    play(&manager, FILM, 0, None).await;
    settle().await;
    let full = manager.statistics().stored_bytes;
    room.disk.takes.store(50, Ordering::Relaxed);
    manager.set_limits(room.setup.limits.clone().with_max_size(Some(full)));
    let mut tasks = tokio::task::JoinSet::new();
    for name in names {
        let manager = manager.clone();
        tasks.spawn(async move { play(&manager, &name, 0, None).await });
    }
    while let Some(read) = tasks.join_next().await {
        assert_eq!(read.unwrap(), SMALL);
    }
    settle().await;
    let statistics = manager.statistics();
    assert_eq!(statistics.evicted_bytes, MIB, "one segment is room for all");
    assert_eq!(statistics.stored_bytes, full - MIB + 8 * SMALL);
}

/// Has the oldest segment of the film that is neither head nor tail evicted, which waits for the write of another one.
async fn evict_behind_a_write(room: &Room, manager: &ChunkManager) -> Opened {
    play(manager, FILM, 0, Some(3 * MIB)).await;
    settle().await;
    room.disk.takes.store(300, Ordering::Relaxed);
    let first = First::Span {
        start: 5 * MIB,
        end: Some(5 * MIB + 128 * 1024),
    };
    let mut writing = manager.open(resource(FILM), first).await.unwrap();
    read_exact(&mut writing.reader, 1, 128 * 1024).await;
    manager.set_limits(room.setup.limits.clone().with_max_size(Some(2 * MIB)));
    tokio::time::sleep(Duration::from_millis(100)).await; // why: virtual time, until the eviction waits
    writing
}

#[tokio::test(start_paused = true)]
async fn what_somebody_comes_to_read_while_its_eviction_waits_stays() {
    let room = room(6 * MIB, None);
    let manager = room.start().await;
    let _writing = evict_behind_a_write(&room, &manager).await;
    let first = First::Span {
        start: MIB,
        end: Some(2 * MIB),
    };
    let mut comes = manager.open(resource(FILM), first).await.unwrap();
    read_exact(&mut comes.reader, 1, 1_000).await;
    settle().await;
    assert!(manager.statistics().evicted_bytes > 0, "others have gone");
    read_exact(&mut comes.reader, 1, MIB - 1_000).await;
    assert_eq!(room.setup.world.journal().duplicate_bytes_of(FILM), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_pinned_while_its_eviction_waits_stays() {
    let room = room(6 * MIB, None);
    let manager = room.start().await;
    let _writing = evict_behind_a_write(&room, &manager).await;
    manager.pin(&key(FILM), true).await.unwrap();
    settle().await;
    assert_eq!(manager.statistics().evicted_bytes, 0);
    let kept = manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert!(kept.recorded_bytes >= 3 * MIB, "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_goes_first_and_head_and_tail_outlive_the_middle() {
    let room = room(5 * MIB, Some(13 * MIB));
    for name in ["old", "new"] {
        room.setup.world.put(OriginObject::new(name, 5 * MIB));
    }
    let manager = room.start().await;
    for name in ["old", "new"] {
        play(&manager, name, 0, None).await;
        tokio::time::sleep(Duration::from_secs(600)).await; // why: virtual time, to be older than the next
    }
    // One megabyte of four has no room, and each request reserves some for itself.
    play(&manager, FILM, 0, Some(4 * MIB)).await;
    settle().await;
    let has = async |name: &str| {
        let id = manager.entry_status(&key(name)).await.unwrap().unwrap().id;
        manager.get_available_chunks(id).await.unwrap()
    };
    let old = has("old").await;
    assert!(
        old.len() < 5 && old.contains(&0) && old.contains(&4),
        "{old:?}"
    );
    assert_eq!(has("new").await, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_in_small_ranges_was_used_as_well() {
    let room = room(5 * MIB, Some(13 * MIB));
    for name in ["old", "new"] {
        room.setup.world.put(OriginObject::new(name, 5 * MIB));
    }
    let manager = room.start().await;
    for name in ["old", "new"] {
        play(&manager, name, 0, None).await;
        tokio::time::sleep(Duration::from_secs(600)).await; // why: virtual time, to be older than the next
    }
    for start in (0..5 * MIB).step_by(64 * 1024) {
        play(&manager, "old", start, Some(start + 64 * 1024)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await; // why: virtual time, to be older than the next
    play(&manager, FILM, 0, Some(4 * MIB)).await;
    settle().await;
    let has = async |name: &str| {
        let id = manager.entry_status(&key(name)).await.unwrap().unwrap().id;
        manager.get_available_chunks(id).await.unwrap()
    };
    assert_eq!(has("old").await, [0, 1, 2, 3, 4], "it was used last");
    assert!(has("new").await.len() < 5);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_entry_stays_and_what_is_being_read_stays() {
    let room = room(4 * MIB, Some(7 * MIB));
    for name in ["kept", "other"] {
        room.setup.world.put(OriginObject::new(name, 4 * MIB));
    }
    let manager = room.start().await;
    manager.pin(&key("kept"), true).await.unwrap();
    play(&manager, "kept", 0, None).await;
    let first = First::Span {
        start: MIB,
        end: Some(2 * MIB),
    };
    let mut standing = manager.open(resource(FILM), first).await.unwrap();
    read_exact(&mut standing.reader, 1, 10).await;
    tokio::time::sleep(Duration::from_secs(900)).await; // why: virtual time, so that it is the oldest
    let sent = room.setup.world.journal().bytes_of(FILM);
    assert_eq!(play(&manager, "other", 0, None).await, 4 * MIB);
    settle().await;
    let kept = manager.entry_status(&key("kept")).await.unwrap().unwrap();
    assert!(kept.pinned);
    assert_eq!(kept.recorded_bytes, 4 * MIB);
    read_exact(&mut standing.reader, 1, 500_000).await;
    assert_eq!(
        room.setup.world.journal().bytes_of(FILM),
        sent,
        "it was still there"
    );
    assert!(room.disk.most() <= 7 * MIB);
    // After a restart the pin still holds, and without it nothing does.
    drop(standing);
    manager.shutdown().await;
    let manager = room.start().await;
    manager.set_limits(room.setup.limits.clone().with_max_size(Some(4 * MIB)));
    settle().await;
    let kept = manager.entry_status(&key("kept")).await.unwrap().unwrap();
    assert_eq!(kept.recorded_bytes, 4 * MIB);
    manager.pin(&key("kept"), false).await.unwrap();
    manager.set_limits(room.setup.limits.clone().with_max_size(Some(MIB)));
    settle().await;
    // Blocks that an earlier process left in parts are not in the index, so nobody counts them.
    let most = MIB + cost_of_cuts(&room.setup.world);
    assert!(room.disk.used() <= most, "{} of {most}", room.disk.used());
    assert!(indexed(room.setup.store.as_ref()).await <= MIB);
}

#[tokio::test(start_paused = true)]
async fn a_floor_of_free_space_is_left_to_others() {
    let room = room(20 * MIB, None);
    room.disk.size.store(16 * MIB, Ordering::Relaxed);
    let mut room = room;
    room.setup.limits = room.setup.limits.with_min_free(8 * MIB);
    let manager = room.start().await;
    assert_eq!(play(&manager, FILM, 0, None).await, 20 * MIB);
    assert!(room.disk.most() <= 8 * MIB, "{}", room.disk.most());
    assert!(room.disk.most() >= 6 * MIB, "{}", room.disk.most());
    // Others take more of the disk: room is made at once where the limits are told anew.
    room.disk.size.store(12 * MIB, Ordering::Relaxed);
    settle().await;
    manager.set_limits(room.setup.limits.clone());
    settle().await;
    assert!(room.disk.used() <= 4 * MIB, "{}", room.disk.used());
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_was_lowered_between_two_starts_holds_after_the_second() {
    let mut room = room(12 * MIB, None);
    let manager = room.start().await;
    play(&manager, FILM, 0, None).await;
    manager.shutdown().await;
    room.setup.limits = room.setup.limits.with_max_size(Some(5 * MIB));
    let manager = room.start().await;
    settle().await;
    assert!(room.disk.used() <= 5 * MIB, "{}", room.disk.used());
    assert_eq!(indexed(room.setup.store.as_ref()).await, room.disk.used());
    assert_eq!(manager.statistics().stored_bytes, room.disk.used());
    let left = room.disk.segments();
    assert!(left.contains(&0) && left.contains(&11), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn trap16_evicting_takes_rows_and_bytes_and_never_what_is_being_read() {
    let setup = setup(4 * MIB);
    setup.world.put(OriginObject::new("pinned", MIB));
    setup.world.put(OriginObject::new("idle", MIB));
    let rig = setup.start().await;
    for name in ["pinned", "idle"] {
        play(&rig.manager, name, 0, None).await;
    }
    rig.manager.pin(&key("pinned"), true).await.unwrap();
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    settle().await;
    let refused = rig.manager.evict(&key(FILM)).await;
    assert!(matches!(refused, Err(ManagerError::InUse)), "{refused:?}");
    let mut events = rig.events.subscribe();
    assert_eq!(rig.manager.evict_all().await.unwrap(), MIB);
    let Received::Event(CacheEvent::Evicted {
        cache_key, bytes, ..
    }) = events.recv().await
    else {
        panic!("no event")
    };
    assert_eq!((cache_key, bytes), (key("idle"), MIB));
    read_exact(&mut opened.reader, 1, 3 * MIB).await;
    settle().await;

    drop(opened);
    tokio::task::yield_now().await;
    assert_eq!(rig.manager.evict(&key(FILM)).await.unwrap(), 4 * MIB);
    assert_eq!(rig.manager.evict(&key("pinned")).await.unwrap(), MIB);
    let missing = rig.manager.evict(&key(FILM)).await;
    assert!(matches!(missing, Err(ManagerError::NoSuchEntry)));
    settle().await;
    assert_eq!(setup.store.entries().await.unwrap(), []);
    assert_eq!(setup.bytes.generations().await.unwrap(), []);
    let statistics = rig.manager.statistics();
    assert_eq!(
        (statistics.stored_bytes, statistics.evicted_bytes),
        (0, 6 * MIB)
    );

    // It comes back as if it had never been there.
    assert_eq!(play(&rig.manager, FILM, 0, None).await, 4 * MIB);
    assert_eq!(rig.world.journal().distinct_bytes_of(FILM), 4 * MIB);
    assert!(rig.world.journal().bytes_of(FILM) >= 8 * MIB);
}

#[tokio::test(start_paused = true)]
async fn evicting_ends_the_durable_requests_of_an_entry() {
    let setup = setup(40 * MIB);
    let rig = setup.start().await;
    rig.manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await; // why: virtual time, in the middle of it
    assert!(rig.manager.evict(&key(FILM)).await.unwrap() > 0);
    rig.world.journal().clear();
    settle().await;
    assert_eq!(
        rig.world.journal().bytes_of(FILM),
        0,
        "nobody wants it any more"
    );
    assert_eq!(setup.store.jobs().await.unwrap(), []);
    assert_eq!(setup.store.entries().await.unwrap(), []);
    assert_eq!(setup.bytes.generations().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn room_is_counted_right_when_an_entry_is_closed_and_opened_again() {
    let room = room(8 * MIB, Some(64 * MIB));
    let manager = room.start().await;
    for at in [100, 3 * MIB + 70_000, 6 * MIB + 5] {
        play(&manager, FILM, at, Some(at + 200_000)).await;
        tokio::time::sleep(Duration::from_secs(200)).await; // why: virtual time, until the entry is closed
    }
    play(&manager, FILM, 0, None).await;
    settle().await;
    assert_eq!(manager.statistics().stored_bytes, 8 * MIB);
    assert_eq!(room.disk.used(), 8 * MIB);
}

#[tokio::test(start_paused = true)]
async fn memory_is_given_back_by_what_cannot_be_kept_and_by_what_is_closed() {
    let mut room = room(MIB, None);
    room.setup.limits = room.setup.limits.with_memory(8 * MIB);
    let manager = room.start().await;
    for number in 0..40 {
        let name = format!("film-{number}");
        let mut object = OriginObject::new(&name, 3 * MIB);
        if number % 2 == 0 {
            object = object.header("Cache-Control", "no-store");
        }
        room.setup.world.put(object);
        let read = tokio::time::timeout(Duration::from_secs(5), play(&manager, &name, 0, None));
        assert_eq!(read.await.expect("starved of memory"), 3 * MIB, "{name}");
    }
}
