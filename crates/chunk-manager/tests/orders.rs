//! Durable orders and the room there is: what cannot be kept is not fetched, waits visibly, and goes on by itself.

#[path = "support/disk.rs"]
mod disk;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunk_manager::{EntryState, First, Limits, Priority};
use chunk_ports::{CacheEvent, EventSource, Received};
use chunk_store_memory::MemoryChunkStore;
use chunk_testkit::faulty::{ChunkStoreMethod, Fault, FaultyChunkStore};
use chunk_testkit::origin::{OriginObject, verify_content};
use disk::Disk;
use support::*;

/// A piece of an answer: what may be on its way when a run is cut.
const PIECE: u64 = 64 * 1024;

struct Room {
    rig: Rig,
    disk: Arc<Disk>,
    limits: Limits,
}

/// Files of some lengths, in a cache of `cap` bytes.
async fn room(cap: Option<u64>, files: &[(&str, u64)]) -> Room {
    let mut setup = setup(MIB);
    let disk = Arc::new(Disk::default());
    setup.bytes = Arc::clone(&disk) as _;
    setup.limits = setup.limits.with_max_size(cap).with_initial_buffer(MIB);
    setup.limits.read_ahead = Duration::from_secs(2);
    for &(name, len) in files {
        setup.world.put(OriginObject::new(name, len));
    }
    Room {
        rig: setup.start().await,
        disk,
        limits: setup.limits,
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await; // why: virtual time
}

impl Room {
    async fn order(&self, name: &str) {
        let manager = &self.rig.manager;
        manager
            .prefetch(resource(name), Priority::Low)
            .await
            .unwrap();
    }

    async fn state(&self, name: &str) -> EntryState {
        let status = self.rig.manager.entry_status(&key(name)).await.unwrap();
        status.unwrap().state
    }

    async fn recorded(&self, name: &str) -> u64 {
        let status = self.rig.manager.entry_status(&key(name)).await.unwrap();
        status.unwrap().recorded_bytes
    }

    fn set_cap(&self, cap: u64) {
        let limits = self.limits.clone().with_max_size(Some(cap));
        self.rig.manager.set_limits(limits);
    }

    /// Reads a file from end to end.
    async fn play(&self, name: &str) -> u64 {
        let first = First::Span {
            start: 0,
            end: None,
        };
        let opened = self.rig.manager.open(resource(name), first).await.unwrap();
        let mut reader = opened.reader;
        loop {
            let at = reader.position();
            let Some(bytes) = reader.next(200_000).await.unwrap() else {
                return at;
            };
            verify_content(name, 1, at, &bytes).unwrap();
        }
    }

    async fn open_jobs(&self) -> usize {
        self.rig.store.jobs().await.unwrap().len()
    }

    /// The order rests: it is durable, says what it waits for, holds no connection and asks for nothing.
    async fn assert_waits(&self, name: &str) {
        seconds(1).await;
        assert_eq!(self.state(name).await, EntryState::WaitingForRoom);
        assert!(self.open_jobs().await > 0);
        let journal = self.rig.world.journal();
        let (requests, bytes) = (journal.requests(), journal.bytes_of(name));
        seconds(3_600).await;
        assert_eq!(journal.in_flight(), 0);
        assert_eq!(journal.requests(), requests, "it asks again and again");
        assert_eq!(journal.bytes_of(name), bytes);
        assert_eq!(self.state(name).await, EntryState::WaitingForRoom);
    }

    /// It is complete, and nothing of it was sent twice but what was on its way when a run was cut, `cuts` times.
    async fn assert_complete(&self, name: &str, cuts: u64) {
        assert_eq!(self.state(name).await, EntryState::Complete, "{name}");
        let twice = self.rig.world.journal().duplicate_bytes_of(name);
        assert!(twice <= cuts * PIECE, "{twice} bytes of {name} came twice");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_loses_its_room_lets_its_connection_go_and_ends_once_there_is_room() {
    let room = room(None, &[("a", 5 * MIB + 77_777)]).await;
    room.order("a").await;
    tokio::time::sleep(Duration::from_millis(51)).await; // why: virtual time, asked and hardly answered
    room.set_cap(2 * MIB);
    seconds(2).await;
    let EntryState::Failed(why) = room.state("a").await else {
        panic!("{:?}", room.state("a").await)
    };
    assert!(why.contains("do not fit"), "{why}");
    assert_eq!(room.rig.world.journal().in_flight(), 0);
    assert!(room.disk.most() <= 2 * MIB);
    room.set_cap(20 * MIB);
    seconds(5).await;
    room.assert_complete("a", 2).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_orders_that_exceed_the_cap_the_first_completes_and_the_second_waits() {
    for gap in [0, 300] {
        let room = room(Some(12 * MIB), &[("a", 9 * MIB), ("b", 9 * MIB)]).await;
        let mut events = room.rig.events.subscribe();
        room.order("a").await;
        tokio::time::sleep(Duration::from_millis(gap)).await; // why: virtual time, at once or in the middle
        room.order("b").await;
        tokio::time::sleep(Duration::from_millis(200)).await; // why: virtual time, before the first is complete
        assert_eq!(room.state("a").await, EntryState::Downloading);
        assert_eq!(room.state("b").await, EntryState::WaitingForRoom);
        loop {
            match events.recv().await {
                Received::Event(CacheEvent::EntryCompleted { cache_key, .. }) => {
                    assert_eq!(cache_key, key("a"));
                    break;
                }
                Received::Event(CacheEvent::Evicted { .. }) => panic!("it took what it needs"),
                Received::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let journal = room.rig.world.journal();
        assert!(journal.bytes_of("b") <= PIECE, "only what it is");
        // Once the first is complete, its bytes are like any others, and the least recently used.
        seconds(5).await;
        room.assert_complete("b", 1).await;
        assert!(room.disk.most() <= 12 * MIB);
        assert_eq!(room.open_jobs().await, 0);
        assert!(journal.duplicate_bytes_of("a") <= PIECE);
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_for_pinned_bytes_and_goes_on_when_they_are_unpinned() {
    let room = room(Some(12 * MIB), &[("a", 9 * MIB), ("b", 9 * MIB)]).await;
    room.order("a").await;
    room.order("b").await;
    room.rig.manager.pin(&key("a"), true).await.unwrap();
    seconds(5).await;
    room.assert_complete("a", 1).await;
    assert!(matches!(room.state("b").await, EntryState::Failed(_)));
    let sent = room.rig.world.journal().bytes_of("b");
    assert!(sent <= PIECE, "{sent} bytes of what cannot be kept");
    seconds(3_600).await;
    assert_eq!(room.rig.world.journal().bytes_of("b"), sent);
    assert!(room.open_jobs().await > 0, "it waits");
    room.rig.manager.pin(&key("a"), false).await.unwrap();
    seconds(5).await;
    room.assert_complete("b", 1).await;
    assert_eq!(room.open_jobs().await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_for_what_is_being_read_and_goes_on_when_the_reader_leaves() {
    let mut room = room(Some(10 * MIB), &[("read", 4 * MIB), ("b", 9 * MIB)]).await;
    room.limits = room.limits.clone().with_initial_buffer(8 * MIB);
    room.set_cap(10 * MIB);
    assert_eq!(room.play("read").await, 4 * MIB);
    let first = First::Span {
        start: 0,
        end: None,
    };
    let reader = room
        .rig
        .manager
        .open(resource("read"), first)
        .await
        .unwrap();
    room.order("b").await;
    room.assert_waits("b").await;
    drop(reader);
    seconds(5).await;
    room.assert_complete("b", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_goes_on_when_another_is_cancelled() {
    let room = room(
        Some(12 * MIB),
        &[("a", 9 * MIB), ("b", 9 * MIB), ("c", 9 * MIB)],
    )
    .await;
    room.order("a").await;
    // Its origin stands still, and it keeps what it has.
    let stall = chunk_testkit::origin::Fault::StallAfter { bytes: 4 * MIB };
    room.rig
        .world
        .fault("a", chunk_testkit::origin::When::Always, stall);
    seconds(1).await;
    room.order("b").await;
    seconds(2).await;
    assert_eq!(room.state("b").await, EntryState::WaitingForRoom);
    let chunks: Vec<u64> = (0..9).collect();
    let entry = room.rig.manager.entry_status(&key("a")).await.unwrap();
    let entry = entry.unwrap().id;
    room.rig
        .manager
        .cancel_requests(entry, &chunks)
        .await
        .unwrap();
    seconds(5).await;
    room.assert_complete("b", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_goes_on_when_others_free_space_on_the_disk() {
    let room = room(None, &[("a", 9 * MIB)]).await;
    room.disk.size.store(6 * MIB, Ordering::Relaxed);
    room.order("a").await;
    seconds(2).await;
    room.assert_waits("a").await;
    room.disk.size.store(9 * MIB, Ordering::Relaxed);
    seconds(60).await;
    room.assert_complete("a", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_fits_exactly_completes() {
    for pinned in [3 * MIB, 3 * MIB - 100_001] {
        let files = [("kept", pinned), ("a", 9 * MIB)];
        let room = room(Some(9 * MIB + pinned), &files).await;
        room.rig.manager.pin(&key("kept"), true).await.unwrap();
        assert_eq!(room.play("kept").await, pinned);
        seconds(1).await;
        room.order("a").await;
        seconds(5).await;
        room.assert_complete("a", 0).await;
        assert_eq!(room.disk.used(), 9 * MIB + pinned);
        assert_eq!(room.disk.most(), 9 * MIB + pinned);
        assert_eq!(room.open_jobs().await, 0);
        assert_eq!(room.recorded("kept").await, pinned);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_can_never_fit_says_so_once_and_is_not_asked_for() {
    let room = room(Some(20 * MIB), &[("a", 9 * MIB)]).await;
    let mut events = room.rig.events.subscribe();
    room.order("a").await;
    tokio::time::sleep(Duration::from_millis(300)).await; // why: virtual time, in the middle of it
    room.set_cap(8 * MIB);
    seconds(1).await;
    let journal = room.rig.world.journal();
    let (requests, bytes) = (journal.requests(), journal.bytes_of("a"));
    assert_eq!(journal.in_flight(), 0);
    // Whatever happens, it is not tried.
    for cap in [7, 6, 8] {
        room.set_cap(cap * MIB);
        seconds(600).await;
    }
    assert!(matches!(room.state("a").await, EntryState::Failed(_)));
    assert_eq!(
        (journal.requests(), journal.bytes_of("a")),
        (requests, bytes)
    );
    room.set_cap(9 * MIB);
    seconds(5).await;
    room.assert_complete("a", 1).await;
    let mut failures = 0;
    while let Ok(Received::Event(event)) =
        tokio::time::timeout(Duration::from_secs(1), events.recv()).await
    {
        failures += usize::from(matches!(event, CacheEvent::RangeFailed { .. }));
    }
    assert_eq!(failures, 1, "it says so, and once");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_what_waits_for_room_is_served() {
    let files = [("kept", 8 * MIB), ("a", 9 * MIB)];
    let room = room(Some(20 * MIB), &files).await;
    room.rig.manager.pin(&key("kept"), true).await.unwrap();
    room.play("kept").await;
    room.order("a").await;
    room.set_cap(8 * MIB);
    seconds(1).await;
    for _ in 0..2 {
        assert_eq!(room.play("a").await, 9 * MIB);
        seconds(100).await;
        assert_eq!(room.rig.world.journal().in_flight(), 0);
    }
    assert_eq!(room.recorded("kept").await, 8 * MIB);
    room.set_cap(20 * MIB);
    seconds(10).await;
    assert_eq!(room.state("a").await, EntryState::Complete);
    assert_eq!(room.open_jobs().await, 0);
    assert_eq!(room.disk.segments().len(), 17);
}

#[tokio::test(start_paused = true)]
async fn a_player_goes_before_orders() {
    let room = room(Some(12 * MIB), &[("a", 9 * MIB), ("film", 30 * MIB)]).await;
    room.order("a").await;
    tokio::time::sleep(Duration::from_millis(300)).await; // why: virtual time, in the middle of it
    assert_eq!(room.play("film").await, 30 * MIB);
    assert!(room.disk.most() <= 12 * MIB);
    seconds(10).await;
    assert_eq!(room.open_jobs().await, 0, "it went on beside, or after");
    assert_eq!(room.rig.world.journal().in_flight(), 0);
}

/// Room that the books promise and that cannot be had: nothing can be evicted while the index takes no commit. Two runs of
/// the order want it; the one that finds none lets the other go, and what that one gives back must not bring both back.
#[tokio::test(start_paused = true)]
async fn runs_of_one_order_that_give_room_back_do_not_wake_each_other_for_ever() {
    let mut setup = setup(5 * MIB);
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    setup.store = Arc::clone(&index) as _;
    setup.limits = setup.limits.with_max_size(Some(6 * MIB));
    setup.world.put(OriginObject::new("old", 5 * MIB));
    let rig = setup.start().await;
    let first = First::Span {
        start: 0,
        end: None,
    };
    let mut old = rig.manager.open(resource("old"), first).await.unwrap();
    while old.reader.next(MIB as usize).await.unwrap().is_some() {}
    drop(old);
    // What is there of the film leaves two gaps, so that there are two runs.
    let mut opened = rig.open(2 * MIB, Some(2 * MIB + 1)).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    seconds(120).await;

    index
        .faults()
        .fail_every(ChunkStoreMethod::Commit, Some(Fault::Corrupt));
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    let before = rig.world.journal().requests();
    seconds(600).await;
    let requests = rig.world.journal().requests() - before;
    assert!(requests <= 8, "{requests} requests");
    index.faults().clear();
    seconds(600).await;
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap();
    assert_eq!(status.unwrap().state, EntryState::Complete);
}
