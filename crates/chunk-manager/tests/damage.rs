//! Disks that lie and indexes that refuse: the block in question is fetched again, its neighbours stay.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::GenerationId;
use chunk_manager::{First, ManagerError, Opened, Priority};
use chunk_ports::{ByteStore, ChunkStore, SegmentKey};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::faulty::{
    ByteStoreMethod, ChunkStoreMethod, Fault, FaultyByteStore, FaultyChunkStore,
};
use chunk_testkit::origin::{OriginObject, content};
use support::*;

const BLOCK: u64 = 65_536;
const LEN: u64 = 4 * MIB + 1_000;

async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, one group commit and more
}

/// A film that is recorded whole by a manager that is gone.
async fn recorded(setup: &Setup) {
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;
    setup.world.journal().clear();
}

async fn generation(store: &dyn ChunkStore) -> GenerationId {
    let entry = store.entry(&key(FILM)).await.unwrap().unwrap();
    entry.current.unwrap().id
}

async fn segment(setup: &Setup, segment: u32) -> SegmentKey {
    let generation = generation(setup.store.as_ref()).await;
    SegmentKey {
        generation,
        segment,
        epoch: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn fault18_trap09_a_flipped_bit_costs_its_block_and_no_other() {
    let setup = setup(LEN);
    recorded(&setup).await;
    let second = segment(&setup, 1).await;
    let at = 5 * BLOCK + 77;
    let mut wrong = content(FILM, 1, MIB + at, 1);
    wrong[0] ^= 4;
    setup
        .bytes
        .write(second, at, vec![wrong.into()])
        .await
        .unwrap();
    // The short last block as well.
    let last = segment(&setup, 4).await;
    setup
        .bytes
        .write(last, 999, vec![Bytes::from_static(b"?")])
        .await
        .unwrap();

    let rig = setup.start().await;
    let report = rig.manager.verify(false).await.unwrap();
    let bad: Vec<_> = report
        .bad
        .iter()
        .map(|bad| (bad.range.start(), bad.range.len()))
        .collect();
    assert_eq!(bad, [(MIB + 5 * BLOCK, BLOCK), (4 * MIB, 1_000)]);
    assert_eq!((report.blocks, report.bytes), (4 * 16 + 1, LEN));

    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    assert_eq!(rig.world.journal().bytes_of(FILM), BLOCK + 1_000);
    settle().await;
    let report = rig.manager.verify(false).await.unwrap();
    assert!(report.bad.is_empty(), "{report:?}");
    assert_eq!(report.bytes, LEN, "it is recorded again");
}

#[tokio::test(start_paused = true)]
async fn fault18_verify_repairs_whether_or_not_the_entry_is_open() {
    for is_open in [false, true] {
        let setup = setup(LEN);
        recorded(&setup).await;
        let second = segment(&setup, 1).await;
        let garbage = Bytes::from(vec![0xEE; 10]);
        setup
            .bytes
            .write(second, 3 * BLOCK, vec![garbage])
            .await
            .unwrap();
        let rig = setup.start().await;
        let opened = match is_open {
            true => Some(rig.open(0, Some(10)).await),
            false => None,
        };
        let report = rig.manager.verify(true).await.unwrap();
        assert!(report.repaired);
        assert_eq!(report.bad.len(), 1);
        let report = rig.manager.verify(false).await.unwrap();
        assert!(report.bad.is_empty());
        assert_eq!(report.bytes, LEN - BLOCK, "exactly the bad block went");
        let entry = rig.manager.status().await.unwrap()[0].id;
        assert!(!rig.manager.has_chunk(entry, 1).await.unwrap());
        assert!(rig.manager.has_chunk(entry, 2).await.unwrap());
        drop(opened);
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
        assert_eq!(rig.world.journal().bytes_of(FILM), BLOCK);
    }
}

/// A film that this manager has fetched and recorded whole, and of which one block then rots. Its bytes are
/// trusted: they are not checked again when they are read.
async fn rotten(setup: &Setup, at: u64) -> (Rig, Opened) {
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    settle().await;
    let key = segment(setup, u32::try_from(at / MIB).unwrap()).await;
    let mut wrong = content(FILM, 1, at, 1);
    wrong[0] ^= 1;
    let wrong = vec![wrong.into()];
    setup.bytes.write(key, at % MIB, wrong).await.unwrap();
    rig.world.journal().clear();
    (rig, opened)
}

#[tokio::test(start_paused = true)]
async fn fault18_what_a_check_finds_bad_is_not_served_again_though_it_was_trusted() {
    for repair in [false, true] {
        let setup = setup(LEN);
        let (rig, mut opened) = rotten(&setup, 15 * BLOCK + 77).await;
        let report = rig.manager.verify(repair).await.unwrap();
        assert_eq!(report.bad.len(), 1);
        assert_eq!(report.bad[0].range.start(), 15 * BLOCK);
        opened.reader.seek_to(0);
        assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
        assert_eq!(rig.world.journal().bytes_of(FILM), BLOCK, "it alone");
        settle().await;
        let report = rig.manager.verify(false).await.unwrap();
        assert!(report.bad.is_empty(), "{report:?}");
        assert_eq!(report.bytes, LEN, "it is recorded again");
    }
}

#[tokio::test(start_paused = true)]
async fn fault18_what_a_check_finds_bad_is_an_error_while_the_origin_is_away() {
    for repair in [false, true] {
        let setup = setup(LEN);
        let (rig, mut opened) = rotten(&setup, 15 * BLOCK + 77).await;
        rig.world.cut_line();
        assert_eq!(rig.manager.verify(repair).await.unwrap().bad.len(), 1);
        opened.reader.seek_to(0);
        read_exact(&mut opened.reader, 1, 15 * BLOCK).await;
        let refused = opened.reader.next(1).await;
        assert!(refused.is_err(), "{refused:?}");
        // Its neighbours are served all the same.
        opened.reader.seek_to(16 * BLOCK);
        assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN - 16 * BLOCK);
        rig.world.mend_line();
        opened.reader.seek_to(15 * BLOCK);
        read_exact(&mut opened.reader, 1, BLOCK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fault18_what_a_reader_has_taken_from_the_disk_is_dropped_when_a_check_finds_it_bad() {
    let setup = setup(LEN);
    let (rig, mut opened) = rotten(&setup, 15 * BLOCK + 77).await;
    opened.reader.seek_to(15 * BLOCK);
    read_exact(&mut opened.reader, 1, 10).await;
    assert_eq!(rig.manager.verify(false).await.unwrap().bad.len(), 1);
    read_exact(&mut opened.reader, 1, 2 * BLOCK).await;
}

#[tokio::test(start_paused = true)]
async fn fault18_the_scrub_finds_damage_that_nobody_reads() {
    let mut setup = setup(LEN);
    recorded(&setup).await;
    let second = segment(&setup, 1).await;
    let garbage = Bytes::from(vec![0xEE; 10]);
    setup
        .bytes
        .write(second, 3 * BLOCK, vec![garbage])
        .await
        .unwrap();
    setup.scrub = true;
    let rig = setup.start().await;
    let failures = || rig.manager.statistics().checksum_failures;
    assert_eq!(failures(), 0);
    tokio::time::sleep(Duration::from_secs(24 * 3600 + 60)).await; // why: virtual time, a day passes
    assert_eq!(failures(), 1);
    let report = rig.manager.verify(false).await.unwrap();
    assert!(report.bad.is_empty());
    assert_eq!(report.bytes, LEN - BLOCK, "exactly the bad block went");
    assert_eq!(
        rig.world.journal().requests_of(FILM),
        0,
        "nobody asked for it"
    );
}

#[tokio::test(start_paused = true)]
async fn fault18_swapped_truncated_and_deleted_segments_are_never_served() {
    let setup = setup(LEN);
    recorded(&setup).await;
    let [zero, one, two, three] = [
        segment(&setup, 0).await,
        segment(&setup, 1).await,
        segment(&setup, 2).await,
        segment(&setup, 3).await,
    ];
    let read = async |key| {
        setup
            .bytes
            .read(key, 0, MIB as usize)
            .await
            .unwrap()
            .unwrap()
    };
    let (first, second, third) = (read(zero).await, read(one).await, read(two).await);
    setup.bytes.write(zero, 0, vec![second]).await.unwrap();
    setup.bytes.write(one, 0, vec![first]).await.unwrap();
    // Cut in the middle of its sixth block.
    setup.bytes.remove(vec![two, three]).await.unwrap();
    let rest = third.slice(..5 * BLOCK as usize + 100);
    setup.bytes.write(two, 0, vec![rest]).await.unwrap();

    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    let whole_again = 3 * MIB + 11 * BLOCK;
    assert_eq!(rig.world.journal().bytes_of(FILM), whole_again);
}

/// What became of a segment's file.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Missing,
    /// In the middle of a block.
    CutAt(u64),
    Overwritten,
}

/// Damages the one segment of a film, of which `lost` bytes are to be fetched again then.
async fn damage(setup: &Setup, loss: Loss, len: u64) -> u64 {
    let key = segment(setup, 0).await;
    let bytes = &setup.bytes;
    match loss {
        Loss::Missing => {
            bytes.remove(vec![key]).await.unwrap();
            len
        }
        Loss::CutAt(end) => {
            bytes.remove(vec![key]).await.unwrap();
            let left = content(FILM, 1, 0, usize::try_from(end).unwrap());
            bytes.write(key, 0, vec![left.into()]).await.unwrap();
            len - end / BLOCK * BLOCK
        }
        Loss::Overwritten => {
            let garbage = vec![0xEE; usize::try_from(len).unwrap()];
            bytes.write(key, 0, vec![garbage.into()]).await.unwrap();
            len
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault18_a_file_that_is_missing_cut_or_overwritten_is_fetched_again_with_one_request() {
    let len = 8 * MIB;
    for loss in [
        Loss::Missing,
        Loss::CutAt(3 * MIB + 100),
        Loss::CutAt(3 * MIB),
        Loss::Overwritten,
    ] {
        for was_closed in [true, false] {
            // What this process wrote itself is trusted, and only a check finds that it was overwritten.
            if matches!((loss, was_closed), (Loss::Overwritten, false)) {
                continue;
            }
            let mut setup = setup(len);
            setup.chunk_size = 10 * MIB;
            let rig = setup.start().await;
            let mut opened = rig.open(0, None).await;
            read_to_end(&mut opened.reader, 1).await;
            settle().await;
            let (rig, mut opened, lost) = if was_closed {
                drop(opened);
                rig.manager.shutdown().await;
                let lost = damage(&setup, loss, len).await;
                let rig = setup.start().await;
                let opened = rig.open(0, None).await;
                (rig, opened, lost)
            } else {
                let lost = damage(&setup, loss, len).await;
                opened.reader.seek_to(0);
                (rig, opened, lost)
            };
            let before = (
                rig.world.journal().requests_of(FILM),
                rig.world.journal().bytes_of(FILM),
            );
            assert_eq!(read_to_end(&mut opened.reader, 1).await, len);
            let requests = rig.world.journal().requests_of(FILM) - before.0;
            let sent = rig.world.journal().bytes_of(FILM) - before.1;
            assert_eq!(requests, 1, "{loss:?}");
            assert_eq!(sent, lost, "{loss:?}");
            settle().await;
            let report = rig.manager.verify(false).await.unwrap();
            assert!(report.bad.is_empty(), "{loss:?}: {report:?}");
            assert_eq!(report.bytes, len, "{loss:?}: it is recorded again");
        }
    }
}

/// What comes again is written where it was, and what lies between it and the cut is zeros then.
#[tokio::test(start_paused = true)]
async fn fault18_trap10_a_cut_that_is_met_far_behind_it_lets_no_zeros_through() {
    let len = 8 * MIB;
    for first in [2 * MIB + 77, 5 * MIB, 6 * MIB + BLOCK - 1] {
        let mut setup = setup(len);
        setup.chunk_size = 10 * MIB;
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        read_to_end(&mut opened.reader, 1).await;
        settle().await;
        damage(&setup, Loss::CutAt(MIB + 100), len).await;
        opened.reader.seek_to(first);
        assert_eq!(read_to_end(&mut opened.reader, 1).await, len - first);
        settle().await;
        // As a file reads between its old end and what was written behind it; the memory store ends reads there.
        let hole = MIB + 100..first / BLOCK * BLOCK;
        let zeros = vec![0; usize::try_from(hole.end - hole.start).unwrap()];
        let cut = segment(&setup, 0).await;
        setup
            .bytes
            .write(cut, hole.start, vec![zeros.into()])
            .await
            .unwrap();
        opened.reader.seek_to(0);
        assert_eq!(read_to_end(&mut opened.reader, 1).await, len);
        settle().await;
        let report = rig.manager.verify(false).await.unwrap();
        assert!(report.bad.is_empty(), "{report:?}");
        assert_eq!(report.bytes, len, "it is recorded again");
    }
}

#[tokio::test(start_paused = true)]
async fn fault17_what_cannot_be_read_is_fetched_again_and_the_player_hears_nothing() {
    let mut setup = setup(LEN);
    let disk = Arc::new(FaultyByteStore::new(MemoryByteStore::new()));
    setup.bytes = Arc::clone(&disk) as _;
    recorded(&setup).await;
    let rig = setup.start().await;
    let before = disk.faults().calls(ByteStoreMethod::Read);
    disk.faults()
        .fail_call(ByteStoreMethod::Read, before + 2, Fault::Unavailable);
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    assert_eq!(disk.faults().failed(), 1);
    let sent = rig.world.journal().bytes_of(FILM);
    assert!((1..=4 * BLOCK).contains(&sent), "{sent}");
    // Bytes that this process has checked already are no exception.
    let before = disk.faults().calls(ByteStoreMethod::Read);
    disk.faults()
        .fail_call(ByteStoreMethod::Read, before + 1, Fault::Corrupt);
    opened.reader.seek_to(MIB);
    read_exact(&mut opened.reader, 1, MIB).await;
    assert_eq!(disk.faults().failed(), 2);
}

#[tokio::test(start_paused = true)]
async fn fault16_a_failed_flush_is_final_and_what_it_left_is_never_served() {
    for fault in [Fault::Unavailable, Fault::Full, Fault::Corrupt] {
        let mut setup = setup(LEN);
        let disk = Arc::new(FaultyByteStore::new(MemoryByteStore::new()));
        setup.bytes = Arc::clone(&disk) as _;
        let rig = setup.start().await;
        disk.faults().fail_next(ByteStoreMethod::Flush, fault);
        let mut opened = rig.open(0, Some(MIB)).await;
        read_exact(&mut opened.reader, 1, MIB).await;
        drop(opened.reader);
        settle().await;
        assert_eq!(disk.faults().failed(), 1, "not tried again");
        let old = segment(&setup, 0).await;
        assert_eq!(opened.entry.recorded(), []);
        assert_eq!(
            disk.inner().read(old, 0, 1).await.unwrap(),
            None,
            "the distrusted file is gone"
        );
        opened.reader = opened.entry.reader(0, Some(MIB));
        read_exact(&mut opened.reader, 1, MIB).await;
        settle().await;
        let rows = setup.store.segments(old.generation).await.unwrap();
        assert_eq!(
            rows.iter()
                .map(|row| (row.segment, row.epoch))
                .collect::<Vec<_>>(),
            [(0, 1)]
        );
        rig.manager.shutdown().await;
        let sent = rig.world.journal().bytes_of(FILM);
        let rig = setup.start().await;
        let mut opened = rig.open(0, Some(MIB)).await;
        read_exact(&mut opened.reader, 1, MIB).await;
        assert_eq!(rig.world.journal().bytes_of(FILM), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_removed_while_it_is_fetched_keeps_no_other_from_the_index() {
    let setup = setup(64 * MIB);
    setup.world.put(OriginObject::new("other.mkv", 2 * MIB));
    let rig = setup.start().await;
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await; // why: virtual time, in the middle of it
    rig.manager.evict(&key(FILM)).await.unwrap();
    rig.manager
        .prefetch(resource("other.mkv"), Priority::Low)
        .await
        .unwrap();
    settle().await;
    let other = rig
        .manager
        .entry_status(&key("other.mkv"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(other.recorded_bytes, 2 * MIB);
    assert!(
        rig.manager
            .entry_status(&key(FILM))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(setup.bytes.generations().await.unwrap().len(), 1);
    assert!(setup.store.jobs().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_keeps_no_other_from_the_index() {
    let setup = setup(8 * MIB);
    setup.world.put(OriginObject::new("other.mkv", 2 * MIB));
    let rig = setup.start().await;
    let mut old = rig.open(0, None).await;
    read_exact(&mut old.reader, 1, 2 * MIB).await;
    rig.world.set_version(FILM, 2);
    old.reader.seek_to(6 * MIB);
    assert!(old.reader.next(1).await.is_err());
    // The old reader goes on marking what it reads, after its generation was removed from the index.
    let mut new = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut new.reader, 2).await, 8 * MIB);
    old.reader.seek_to(MIB);
    drop(old.reader.next(10).await);
    drop(old);
    let mut other = rig
        .manager
        .open(
            resource("other.mkv"),
            First::Span {
                start: 0,
                end: None,
            },
        )
        .await
        .unwrap();
    while other.reader.next(1 << 20).await.unwrap().is_some() {}
    settle().await;
    for name in [FILM, "other.mkv"] {
        let status = rig.manager.entry_status(&key(name)).await.unwrap().unwrap();
        assert_eq!(Some(status.recorded_bytes), status.total_len, "{name}");
    }
    assert_eq!(rig.manager.statistics().stored_bytes, 10 * MIB);
    assert_eq!(setup.store.retired_generations().await.unwrap(), []);

    // What replaced it is trusted when it is opened again.
    drop((new, other));
    tokio::time::sleep(Duration::from_secs(200)).await; // why: virtual time, until idle entries are closed
    let sent = rig.world.journal().bytes_of(FILM);
    let mut again = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut again.reader, 2).await, 8 * MIB);
    assert_eq!(rig.world.journal().bytes_of(FILM), sent);
}

#[tokio::test(start_paused = true)]
async fn fault20_an_index_that_is_down_for_a_while_hears_of_everything_later() {
    let mut setup = setup(LEN);
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    setup.store = Arc::clone(&index) as _;
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(1)).await;
    settle().await;
    index
        .faults()
        .fail_every(ChunkStoreMethod::Commit, Some(Fault::Full));
    opened.reader.set_end(LEN);
    assert_eq!(read_to_end(&mut opened.reader, 1).await, LEN);
    settle().await;
    assert!(rig.manager.statistics().store_failing);
    let recorded: u64 = opened.entry.recorded().iter().map(|r| r.len()).sum();
    assert!(recorded <= BLOCK, "{recorded}");
    index.faults().clear();
    settle().await;
    assert_eq!(opened.entry.recorded(), opened.entry.readable());
    assert!(rig.manager.verify(false).await.unwrap().bad.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_recorded_file_outlives_an_index_that_could_not_be_asked_for_it() {
    let mut setup = setup(LEN);
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    setup.store = Arc::clone(&index) as _;
    recorded(&setup).await;
    let rig = setup.start().await;
    index
        .faults()
        .fail_next(ChunkStoreMethod::Segments, Fault::Unavailable);
    rig.world.remove(FILM);
    let first = First::Span {
        start: 0,
        end: None,
    };
    assert!(rig.manager.open(resource(FILM), first).await.is_err());
    tokio::time::sleep(Duration::from_secs(200)).await; // why: virtual time, until idle entries are closed
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.recorded_bytes, LEN);
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_orders_are_refused_rather_than_lost() {
    let rig = setup(LEN).start().await;
    let entry = rig.open(0, Some(1)).await.entry.id();
    rig.manager.shutdown().await;
    assert!(rig.manager.is_closed());
    let refused = rig.manager.request_chunk(entry, 1, Priority::Low).await;
    assert!(matches!(refused, Err(ManagerError::Closed)), "{refused:?}");
    assert!(rig.store.jobs().await.unwrap().is_empty());
}
