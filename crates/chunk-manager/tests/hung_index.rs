//! An index whose calls neither succeed nor fail: nobody who plays waits for it, and neither does the end.

#[path = "support/filled.rs"]
mod filled;
mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_manager::{EntryState, Priority};
use chunk_store_memory::MemoryChunkStore;
use chunk_testkit::faulty::{ChunkStoreMethod, Fault, Faults, FaultyChunkStore};
use chunk_testkit::origin::{Fault as OriginFault, OriginObject, When};
use filled::{FIRST, SECOND, play, with_two_others};
use support::*;
use tokio::time::Instant;

/// All that is asked of an index once it runs.
const METHODS: [ChunkStoreMethod; 7] = [
    ChunkStoreMethod::Entry,
    ChunkStoreMethod::EnsureEntry,
    ChunkStoreMethod::BeginGeneration,
    ChunkStoreMethod::Segments,
    ChunkStoreMethod::Segment,
    ChunkStoreMethod::RetiredGenerations,
    ChunkStoreMethod::Commit,
];

fn hang(faults: &Faults<ChunkStoreMethod>, methods: &[ChunkStoreMethod]) {
    for &method in methods {
        faults.fail_every(method, Some(Fault::Silent));
    }
}

fn faulty(len: u64) -> (Setup, Faults<ChunkStoreMethod>) {
    let mut setup = setup(len);
    let index = FaultyChunkStore::new(MemoryChunkStore::new());
    let faults = index.faults();
    setup.store = Arc::new(index);
    (setup, faults)
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await; // why: virtual time
}

async fn state(rig: &Rig) -> EntryState {
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap();
    status.unwrap().state
}

#[tokio::test(start_paused = true)]
async fn fault20_a_reader_does_not_notice_that_commits_hang_and_all_is_recorded_afterwards() {
    let (setup, faults) = faulty(24 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    hang(&faults, &[ChunkStoreMethod::Commit]);
    let begun = Instant::now();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 23 * MIB);
    // 23 MiB at 12.5 MB/s.
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(2_200), "{took:?}");
    seconds(60).await;
    assert!(rig.manager.statistics().store_failing);

    faults.clear();
    seconds(30).await;
    assert_eq!(state(&rig).await, EntryState::Complete);
    // A run that is cut for a second connection may bring the piece that was on its way twice.
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    assert!(twice <= 65_536, "{twice} bytes came twice");
}

#[tokio::test(start_paused = true)]
async fn fault20_a_file_is_opened_and_played_although_the_index_says_nothing() {
    let (setup, faults) = faulty(8 * MIB);
    let rig = setup.start().await;
    hang(&faults, &METHODS);
    let begun = Instant::now();
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1).await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(2_100), "{took:?}");
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB - 1);
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(3_500), "{took:?}");
    // Who comes later has what the first one found out.
    let again = Instant::now();
    let mut opened = rig.open(8 * MIB - 10, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 10);
    assert!(again.elapsed() <= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn fault20_a_file_whose_last_rows_hang_is_played_again() {
    let (setup, faults) = faulty(8 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(4 * MIB)).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    hang(&faults, &[ChunkStoreMethod::Commit]);
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    // It is closed meanwhile.
    seconds(300).await;
    let begun = Instant::now();
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB);
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn fault20_a_confirmation_that_the_index_does_not_note_keeps_nobody() {
    let (setup, faults) = faulty(2 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    rig.manager.shutdown().await;

    let rig = setup.start().await;
    hang(&faults, &[ChunkStoreMethod::Commit]);
    let begun = Instant::now();
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB);
    // A round trip to confirm, and a moment for the index to note it.
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(700), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn fault20_the_end_does_not_wait_for_ever_for_an_index_that_hangs() {
    for methods in [&METHODS[..], &[ChunkStoreMethod::Commit]] {
        let (setup, faults) = faulty(24 * MIB);
        let rig = setup.start().await;
        rig.manager
            .prefetch(resource(FILM), Priority::Low)
            .await
            .unwrap();
        seconds(1).await;
        hang(&faults, methods);
        seconds(1).await;
        let begun = Instant::now();
        rig.manager.shutdown().await;
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(40), "{took:?}");

        faults.clear();
        let rig = setup.start().await;
        seconds(30).await;
        assert_eq!(
            state(&rig).await,
            EntryState::Complete,
            "what was lost is fetched again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault20_a_length_that_the_index_did_not_take_is_told_it_again() {
    for fault in [
        Fault::Corrupt,
        Fault::Full,
        Fault::Unavailable,
        Fault::Silent,
    ] {
        let (setup, faults) = faulty(3 * MIB + 5);
        setup
            .world
            .put(OriginObject::new(FILM, 3 * MIB + 5).without_ranges());
        setup.world.fault(FILM, When::Always, OriginFault::Chunked);
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        read_exact(&mut opened.reader, 1, MIB).await;
        assert_eq!(opened.entry.total_len(), None);
        faults.fail_every(ChunkStoreMethod::Commit, Some(fault));
        read_to_end(&mut opened.reader, 1).await;
        drop(opened);
        seconds(30).await;
        faults.clear();
        seconds(30).await;
        let record = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
        let current = record.current.unwrap();
        assert_eq!(
            current.representation.total_len,
            Some(3 * MIB + 5),
            "{fault:?}"
        );
        assert_eq!(current.recorded_bytes, 3 * MIB + 5, "{fault:?}");
        assert_eq!(state(&rig).await, EntryState::Complete);
    }
}

#[tokio::test(start_paused = true)]
async fn fault20_a_reader_hardly_notices_that_commits_hang_while_the_cache_is_full() {
    let (mut setup, faults) = faulty(24 * MIB);
    setup.limits = setup.limits.with_max_size(Some(8 * MIB));
    let rig = with_two_others(&setup).await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    hang(&faults, &[ChunkStoreMethod::Commit]);
    let begun = Instant::now();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 23 * MIB);
    // 23 MiB at 12.5 MB/s, and the moment that shows that the index hangs.
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(2_800), "{took:?}");
    drop(opened);

    faults.clear();
    seconds(120).await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 24 * MIB);
    seconds(10).await;
    assert!(rig.manager.verify(false).await.unwrap().bad.is_empty());
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap();
    let recorded = status.unwrap().recorded_bytes;
    assert!(recorded > 2 * MIB, "{recorded} bytes are kept");
}

#[tokio::test(start_paused = true)]
async fn fault20_a_file_is_opened_from_the_cache_while_the_eviction_of_another_hangs() {
    let (mut setup, faults) = faulty(7 * MIB);
    setup.limits = setup.limits.with_max_size(Some(12 * MIB));
    let rig = with_two_others(&setup).await;
    hang(&faults, &[ChunkStoreMethod::Commit]);
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    let begun = Instant::now();
    play(&rig, SECOND).await;
    // A round trip to confirm it, and a moment for the index to note that.
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(700), "{took:?}");
    assert_eq!(rig.world.journal().duplicate_bytes_of(SECOND), 0);
    faults.clear();
    seconds(60).await;
    play(&rig, FIRST).await;
    assert!(rig.manager.verify(false).await.unwrap().bad.is_empty());
}
