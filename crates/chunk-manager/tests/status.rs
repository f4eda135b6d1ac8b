//! What the manager tells of itself: states, sums, commits, shutdown, and durable work as a whole.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_manager::{EntryState, First, OpenError, Priority};
use chunk_ports::{CacheEvent, ChunkStore, EventSource, Received, Resource, Secret};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::faulty::{ByteStoreMethod, ChunkStoreMethod, FaultyByteStore, FaultyChunkStore};
use chunk_testkit::origin::{Fault, OriginObject, When};
use support::*;

async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, one group commit and more
}

async fn state(rig: &Rig, name: &str) -> EntryState {
    let status = rig.manager.entry_status(&key(name)).await.unwrap();
    status.unwrap().state
}

#[tokio::test(start_paused = true)]
async fn trap15_every_state_is_reached_and_derived() {
    let mut setup = setup(4 * MIB);
    setup.limits = setup.limits.with_initial_buffer(MIB);
    let rig = setup.start().await;
    assert!(
        rig.manager
            .entry_status(&key(FILM))
            .await
            .unwrap()
            .is_none()
    );
    rig.manager.pin(&key(FILM), true).await.unwrap();
    assert_eq!(state(&rig, FILM).await, EntryState::NotStarted);

    let opening = {
        let manager = rig.manager.clone();
        tokio::spawn(async move {
            let first = First::Span {
                start: 0,
                end: Some(MIB),
            };
            manager.open(resource(FILM), first).await.unwrap()
        })
    };
    tokio::time::sleep(Duration::from_millis(10)).await; // why: virtual time, asked and not answered
    assert_eq!(state(&rig, FILM).await, EntryState::Probing);

    let mut opened = opening.await.unwrap();
    assert_eq!(state(&rig, FILM).await, EntryState::Downloading);
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    settle().await;
    assert_eq!(state(&rig, FILM).await, EntryState::Paused);

    rig.world.fault(FILM, When::Always, Fault::status(410));
    let entry = rig.manager.status().await.unwrap()[0].id;
    rig.manager
        .request_chunk(entry, 2, Priority::Low)
        .await
        .unwrap();
    settle().await;
    let EntryState::Failed(reason) = state(&rig, FILM).await else {
        panic!("{:?}", state(&rig, FILM).await)
    };
    assert!(reason.contains("410"), "{reason}");
    rig.manager.shutdown().await;

    // A failure is no property of what is stored: after a restart the work goes on.
    rig.world.clear_faults(FILM);
    rig.world
        .fault(FILM, When::Next, Fault::StallAfter { bytes: 10 });
    let rig = setup.start().await;
    tokio::time::sleep(Duration::from_millis(200)).await; // why: virtual time, the origin stands still
    assert_eq!(state(&rig, FILM).await, EntryState::Downloading);
    rig.world.release();
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    settle().await;
    assert_eq!(state(&rig, FILM).await, EntryState::Complete);
    rig.manager.shutdown().await;
    let rig = setup.start().await;
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.state, EntryState::Complete);
    assert!(status.pinned);
    assert_eq!(
        (status.recorded_bytes, status.readable_bytes),
        (4 * MIB, 4 * MIB)
    );
}

#[tokio::test(start_paused = true)]
async fn statistics_add_up() {
    let rig = setup(8 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB);
    opened.reader.seek_to(2 * MIB);
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 6 * MIB);
    settle().await;
    let statistics = rig.manager.statistics();
    let journal = rig.world.journal();
    assert_eq!(statistics.bytes_from_origin, journal.bytes_of(FILM));
    assert_eq!(statistics.origin_requests, journal.requests() as u64);
    assert_eq!(statistics.bytes_served, 14 * MIB);
    assert!(statistics.bytes_served_from_cache >= 6 * MIB);
    assert!(statistics.bytes_served_from_cache < 14 * MIB);
    // Where one request meets another's bytes, what is on the wire is cut off.
    assert!(statistics.bytes_wasted <= MIB / 4, "{statistics:?}");
    let wasted: u64 = statistics.levels.iter().map(|l| l.bytes_wasted).sum();
    assert_eq!(wasted, statistics.bytes_wasted);
    assert_eq!(statistics.stored_bytes, 8 * MIB);
    assert!(statistics.hits > 0 && statistics.misses > 0);
    assert_eq!((statistics.readers, statistics.active_runs), (1, 0));
    let mean = statistics.first_byte_nanos / statistics.first_byte_count;
    assert!(mean > 0 && mean < 60_000_000, "{mean} ns");
    drop(opened);
    settle().await;
    assert_eq!(rig.manager.statistics().readers, 0);
    // Quiet when idle.
    let before = rig.manager.statistics();
    tokio::time::sleep(Duration::from_secs(600)).await; // why: virtual time, nothing may happen
    assert_eq!(rig.manager.statistics().commits, before.commits);
    assert_eq!(
        rig.manager.statistics().origin_requests,
        before.origin_requests
    );
}

#[tokio::test(start_paused = true)]
async fn r28_one_row_for_each_segment_in_each_commit_and_two_commits_a_second() {
    let mut setup = setup(50 * MIB);
    setup.chunk_size = 10 * MIB;
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    let disk = Arc::new(FaultyByteStore::new(MemoryByteStore::new()));
    setup.store = Arc::clone(&index) as _;
    setup.bytes = Arc::clone(&disk) as _;
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    settle().await;
    // 50 MiB at 12.5 MB/s are 4.2 s, hence nine groups of half a second, and one for the last reading.
    let commits = index.faults().calls(ChunkStoreMethod::Commit);
    assert!((8..=11).contains(&commits), "{commits} commits");
    assert_eq!(rig.manager.statistics().commits, commits);
    // Five segments; a boundary inside a group makes one more flush.
    let flushes = disk.faults().calls(ByteStoreMethod::Flush);
    assert!(
        (commits - 1..=commits + 5).contains(&flushes),
        "{flushes} flushes"
    );
    let generation = index.inner().entries().await.unwrap()[0]
        .current
        .as_ref()
        .unwrap()
        .id;
    assert_eq!(index.inner().segments(generation).await.unwrap().len(), 5);
    // Reading what is recorded asks the index for each segment's checksums once, and no more.
    rig.manager.shutdown().await;
    let rig = setup.start().await;
    let before = index.faults().calls(ChunkStoreMethod::Segment);
    for _ in 0..2 {
        let mut opened = rig.open(0, None).await;
        read_to_end(&mut opened.reader, 1).await;
    }
    let asked = index.faults().calls(ChunkStoreMethod::Segment) - before;
    assert_eq!(asked, 5);
}

#[tokio::test(start_paused = true)]
async fn shutdown_records_what_has_arrived_and_ends_readers() {
    let setup = setup(64 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 3 * MIB + 100).await;
    let readable: u64 = opened.entry.readable().iter().map(|r| r.len()).sum();
    rig.manager
        .request_chunk(opened.entry.id(), 60, Priority::Low)
        .await
        .unwrap();
    rig.manager.shutdown().await;
    opened.reader.seek_to(40 * MIB);
    assert!(opened.reader.next(1).await.is_err());
    assert_eq!(rig.world.journal().in_flight(), 0);
    let entry = setup.store.entries().await.unwrap().remove(0);
    let recorded = entry.current.unwrap().recorded_bytes;
    // Each answer under way was cut, perhaps within a block.
    let lost = cost_of_cuts(&rig.world);
    assert!(recorded + lost >= readable, "{recorded} of {readable}");
    let jobs = setup.store.jobs().await.unwrap();
    assert_eq!(jobs.len(), 1, "what was asked for a moment ago as well");
    assert!(matches!(
        rig.manager.open(resource(FILM), First::Nothing).await,
        Err(OpenError::Manager(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn prefetch_completes_says_so_and_goes_on_after_a_restart() {
    let setup = setup(30 * MIB + 9);
    let rig = setup.start().await;
    rig.manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap();
    let rows = setup.store.jobs().await.unwrap();
    assert!(!rows.is_empty(), "durable before the caller is told");
    tokio::time::sleep(Duration::from_secs(1)).await; // why: virtual time, in the middle of it
    rig.manager.shutdown().await;
    let left: u64 = setup
        .store
        .jobs()
        .await
        .unwrap()
        .iter()
        .map(|row| row.job.range.len())
        .sum();
    assert!((1..30 * MIB).contains(&left), "{left}");
    assert!(rows.iter().all(|row| row.job.priority == Priority::Medium));

    let rig = setup.start().await;
    let mut events = rig.events.subscribe();
    loop {
        match events.recv().await {
            Received::Event(CacheEvent::EntryCompleted { cache_key, .. }) => {
                assert_eq!(cache_key, key(FILM));
                break;
            }
            Received::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(state(&rig, FILM).await, EntryState::Complete);
    assert_eq!(setup.store.jobs().await.unwrap(), []);
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world);
    assert!(
        twice <= most,
        "only blocks cut by the shutdown: {twice} of {most}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_durable_request_for_a_body_of_unknown_length_ends_with_it() {
    let setup = setup(3 * MIB + 5);
    setup
        .world
        .put(OriginObject::new(FILM, 3 * MIB + 5).without_ranges());
    setup.world.fault(FILM, When::Always, Fault::Chunked);
    let rig = setup.start().await;
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    settle().await;
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.state, EntryState::Complete);
    assert_eq!(status.total_len, Some(3 * MIB + 5));
    assert_eq!(status.queued_bytes, 0);
    assert_eq!(setup.store.jobs().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_prefetch_removes_its_rows() {
    let setup = setup(20 * MIB);
    let rig = setup.start().await;
    let entry = rig
        .manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    let all: Vec<u64> = (0..20).collect();
    rig.manager.cancel_requests(entry, &all).await.unwrap();
    settle().await;
    assert_eq!(setup.store.jobs().await.unwrap(), []);
    assert_ne!(state(&rig, FILM).await, EntryState::Downloading);
    let sent = rig.world.journal().bytes_of(FILM);
    settle().await;
    assert_eq!(rig.world.journal().bytes_of(FILM), sent);
}

#[tokio::test(start_paused = true)]
async fn trap17_durable_work_without_its_credentials_waits_for_fresh_ones() {
    let setup = setup(20 * MIB);
    let rig = setup.start().await;
    let signed = |token: &str| {
        let target = Secret::new(format!("/{FILM}?sig={token}"));
        Resource::new(key(FILM), target)
    };
    rig.manager
        .prefetch(signed("one"), Priority::Low)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await; // why: virtual time, in the middle of it
    rig.manager.shutdown().await;

    // Without the signature the origin refuses.
    rig.world.fault(FILM, When::Always, Fault::status(403));
    let rig = setup.start().await;
    settle().await;
    assert!(matches!(state(&rig, FILM).await, EntryState::Failed(_)));
    assert!(!setup.store.jobs().await.unwrap().is_empty(), "it waits");
    let asked = rig.world.journal().requests();
    tokio::time::sleep(Duration::from_secs(300)).await; // why: virtual time, it may not ask again and again
    assert!(rig.world.journal().requests() <= asked + 1);

    rig.world.clear_faults(FILM);
    let first = First::Span {
        start: 0,
        end: Some(10),
    };
    let mut opened = rig.manager.open(signed("two"), first).await.unwrap();
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    tokio::time::sleep(Duration::from_secs(5)).await; // why: virtual time, two seconds of transfer
    assert_eq!(state(&rig, FILM).await, EntryState::Complete);
    assert_eq!(setup.store.jobs().await.unwrap(), []);
    let last = rig.world.journal().last().unwrap();
    assert!(last.target.ends_with("sig=two"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_entry_is_closed_after_a_minute_and_reopened_from_the_index() {
    let rig = setup(4 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    let part = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(part.readers, 1);
    drop(opened);
    tokio::time::sleep(Duration::from_secs(50)).await; // why: virtual time, still within its minute
    rig.world.journal().clear();
    drop(rig.open(0, Some(10)).await);
    assert_eq!(rig.world.journal().requests(), 0, "still open");
    tokio::time::sleep(Duration::from_secs(130)).await; // why: virtual time, until it is closed
    let mut again = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut again.reader, 1).await, 4 * MIB);
    assert_eq!(
        rig.world.journal().requests(),
        1,
        "asked whether it still holds"
    );
    assert_eq!(rig.world.journal().bytes_of(FILM), 0);
}

#[tokio::test(start_paused = true)]
async fn readers_of_what_is_there_keep_an_entry_open_for_a_minute_each() {
    let rig = setup(4 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.world.journal().clear();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(50)).await; // why: virtual time, within a minute of the last one
        let mut again = rig.open(MIB, None).await;
        assert_eq!(read_to_end(&mut again.reader, 1).await, 3 * MIB);
    }
    assert_eq!(
        rig.world.journal().requests(),
        0,
        "it was open all the time"
    );
    tokio::time::sleep(Duration::from_secs(70)).await; // why: virtual time, until it is closed
    drop(rig.open(0, Some(10)).await);
    assert_eq!(
        rig.world.journal().requests(),
        1,
        "asked whether it still holds"
    );
}
