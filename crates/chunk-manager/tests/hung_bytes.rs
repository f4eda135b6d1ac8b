//! A byte store whose calls neither succeed nor fail: nobody who plays waits for it for long, what it was to keep is
//! fetched again once it answers, and neither the recorder nor the end waits for ever.

#[path = "support/filled.rs"]
mod filled;
mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_manager::{EntryState, Priority};
use chunk_store_memory::MemoryByteStore;
use chunk_testkit::faulty::{ByteStoreMethod, Fault, Faults, FaultyByteStore};
use filled::{FIRST, SECOND, play, with_two_others};
use support::*;
use tokio::time::Instant;

/// All that is asked of a byte store once it runs.
const METHODS: [ByteStoreMethod; 6] = [
    ByteStoreMethod::Write,
    ByteStoreMethod::Read,
    ByteStoreMethod::Flush,
    ByteStoreMethod::Remove,
    ByteStoreMethod::RemoveGeneration,
    ByteStoreMethod::FreeSpace,
];

fn hang(faults: &Faults<ByteStoreMethod>, methods: &[ByteStoreMethod]) {
    for &method in methods {
        faults.fail_every(method, Some(Fault::Silent));
    }
}

fn faulty(len: u64) -> (Setup, Faults<ByteStoreMethod>) {
    let mut setup = setup(len);
    let bytes = FaultyByteStore::new(MemoryByteStore::new());
    let faults = bytes.faults();
    setup.bytes = Arc::new(bytes);
    (setup, faults)
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await; // why: virtual time
}

async fn status(rig: &Rig) -> chunk_manager::EntryStatus {
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap();
    status.unwrap()
}

#[tokio::test(start_paused = true)]
async fn fault16_a_flush_that_hangs_is_given_up_and_an_order_gets_its_bytes_again() {
    let (setup, faults) = faulty(24 * MIB);
    let rig = setup.start().await;
    hang(&faults, &[ByteStoreMethod::Flush]);
    rig.manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap();
    seconds(60).await;
    assert_eq!(status(&rig).await.recorded_bytes, 0, "nothing was flushed");
    assert!(rig.manager.statistics().store_failing);
    assert!(!rig.store.jobs().await.unwrap().is_empty());

    faults.clear();
    // The next attempt but one, and a flush now and then in between.
    seconds(300).await;
    assert_eq!(status(&rig).await.state, EntryState::Complete);
    assert!(rig.store.jobs().await.unwrap().is_empty());
    // What is recorded is what the origin has.
    rig.manager.shutdown().await;
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 24 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault16_a_reader_does_not_notice_that_flushes_hang() {
    let (setup, faults) = faulty(24 * MIB);
    let rig = setup.start().await;
    hang(&faults, &[ByteStoreMethod::Flush]);
    let begun = Instant::now();
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 24 * MIB);
    // 24 MiB at 12.5 MB/s.
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(2_300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn fault15_writes_that_hang_hold_a_reader_up_once() {
    let (setup, faults) = faulty(48 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    hang(&faults, &METHODS);
    let begun = Instant::now();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 47 * MIB);
    // 47 MiB at 12.5 MB/s, the moment that shows that writes hang, and two for how much space there is. After a second the
    // bytes are asked for anew, since their origin might be what is late, and what that brings is written as well.
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(4 + 5 + 1 + 2), "{took:?}");
    // Another one, of another file, is not held up again.
    let begun = Instant::now();
    let mut opened = rig.open(40 * MIB, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB);
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(3), "{took:?}");

    faults.clear();
    seconds(200).await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 48 * MIB);
    seconds(5).await;
    assert!(!rig.manager.statistics().store_failing);
    assert_eq!(status(&rig).await.state, EntryState::Complete);
}

#[tokio::test(start_paused = true)]
async fn fault17_bytes_that_cannot_be_read_because_the_disk_hangs_come_from_the_origin() {
    let (setup, faults) = faulty(24 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 24 * MIB);
    drop(opened);
    rig.manager.shutdown().await;

    let rig = setup.start().await;
    hang(&faults, &[ByteStoreMethod::Read]);
    let begun = Instant::now();
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 64 * 1024).await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(25), "{took:?}");
    faults.clear();
    assert_eq!(
        read_to_end(&mut opened.reader, 1).await,
        24 * MIB - 64 * 1024
    );
}

#[tokio::test(start_paused = true)]
async fn fault16_the_end_does_not_wait_for_ever_for_a_byte_store_that_hangs() {
    for methods in [
        &METHODS[..],
        &[ByteStoreMethod::Flush],
        &[ByteStoreMethod::Write],
    ] {
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
            status(&rig).await.state,
            EntryState::Complete,
            "what was lost is fetched again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault16_a_reader_with_a_full_cache_does_not_notice_that_flushes_hang() {
    // A removal that hangs is noticed once; what it was to remove stays counted.
    for (method, longest) in [
        (ByteStoreMethod::Flush, 2_300),
        (ByteStoreMethod::Remove, 2_900),
    ] {
        let (mut setup, faults) = faulty(24 * MIB);
        setup.limits = setup.limits.with_max_size(Some(8 * MIB));
        let rig = with_two_others(&setup).await;
        hang(&faults, &[method]);
        let begun = Instant::now();
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, 24 * MIB);
        // 24 MiB at 12.5 MB/s.
        let took = begun.elapsed();
        assert!(
            took <= Duration::from_millis(longest),
            "{method:?} {took:?}"
        );
        drop(opened);

        faults.clear();
        seconds(300).await;
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, 24 * MIB);
        seconds(10).await;
        assert!(rig.manager.verify(false).await.unwrap().bad.is_empty());
        let recorded = status(&rig).await.recorded_bytes;
        assert!(recorded > 2 * MIB, "{method:?}: {recorded} bytes are kept");
    }
}

#[tokio::test(start_paused = true)]
async fn fault16_a_file_is_opened_from_the_cache_while_another_is_evicted_and_flushes_hang() {
    let (mut setup, faults) = faulty(7 * MIB);
    setup.limits = setup.limits.with_max_size(Some(12 * MIB));
    let rig = with_two_others(&setup).await;
    hang(&faults, &[ByteStoreMethod::Flush]);
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    let begun = Instant::now();
    play(&rig, SECOND).await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(500), "{took:?}");
    assert_eq!(rig.world.journal().duplicate_bytes_of(SECOND), 0);
    faults.clear();
    seconds(60).await;
    play(&rig, FIRST).await;
    assert!(rig.manager.verify(false).await.unwrap().bad.is_empty());
}
