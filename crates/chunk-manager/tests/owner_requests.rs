//! Explicit requests: registered once, promoted, cancelled, completed and failed; the queue always drains.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::EntryId;
use chunk_manager::{First, Priority, WaitError};
use chunk_ports::{ChunkStore, JobRecord};
use chunk_store_memory::MemoryChunkStore;
use chunk_testkit::faulty::FaultyChunkStore;
use chunk_testkit::origin::{Fault, OriginObject, When, content};
use support::*;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(3_600);

/// The film's entry, with one byte of it fetched at most.
async fn known(rig: &Rig) -> EntryId {
    rig.manager
        .open(resource(FILM), First::Nothing)
        .await
        .unwrap()
        .entry
        .id()
}

async fn jobs(store: &Arc<dyn ChunkStore>) -> Vec<JobRecord> {
    store.jobs().await.unwrap()
}

/// Lets everything that needs no further arrival happen.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, one group commit and more
}

#[tokio::test(start_paused = true)]
async fn r01_trap02_many_requests_for_a_chunk_are_one_download() {
    let rig = setup(8 * MIB).start().await;
    let entry = known(&rig).await;
    for priority in [
        Priority::Low,
        Priority::High,
        Priority::Medium,
        Priority::Low,
        Priority::Critical,
    ] {
        for _ in 0..50 {
            rig.manager.request_chunk(entry, 3, priority).await.unwrap();
        }
    }
    rig.manager.wait_for_chunk(entry, 3, LONG).await.unwrap();
    rig.manager
        .request_chunk(entry, 3, Priority::Critical)
        .await
        .unwrap();
    settle().await;
    assert_eq!(rig.world.journal().duplicate_bytes_of(FILM), 0);
    let asked_for_three = rig
        .world
        .journal()
        .records_of(FILM)
        .iter()
        .filter(|record| record.content_start == Some(3 * MIB))
        .count();
    assert_eq!(asked_for_three, 1);
}

#[tokio::test(start_paused = true)]
async fn r01_a_promoted_chunk_overtakes_and_a_lower_request_demotes_nothing() {
    let mut setup = setup(64 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    for chunk in [10, 20, 30, 40] {
        rig.manager
            .request_chunk(entry, chunk, Priority::Medium)
            .await
            .unwrap();
    }
    rig.manager
        .request_chunk(entry, 40, Priority::High)
        .await
        .unwrap();
    rig.manager
        .request_chunk(entry, 40, Priority::Low)
        .await
        .unwrap();
    for chunk in [40, 10, 20, 30] {
        rig.manager
            .wait_for_chunk(entry, chunk, LONG)
            .await
            .unwrap();
        let available = rig.manager.get_available_chunks(entry).await.unwrap();
        let after: &[u64] = match chunk {
            40 => &[10, 20, 30],
            10 => &[20, 30],
            20 => &[30],
            _ => &[],
        };
        assert!(
            after.iter().all(|later| !available.contains(later)),
            "{chunk} came after one of {after:?}: {available:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn r03_trap01_critical_goes_before_a_thousand_low_ones_and_a_level_is_fifo() {
    let mut setup = setup(1_100 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    for chunk in 0..1_000 {
        // Not adjacent, so that no two of them are one run.
        rig.manager
            .request_chunk(entry, (chunk * 7) % 1_000, Priority::Low)
            .await
            .unwrap();
    }
    rig.manager.wait_for_chunk(entry, 0, LONG).await.unwrap();
    let asked = Instant::now();
    rig.manager
        .request_chunk(entry, 1_050, Priority::Critical)
        .await
        .unwrap();
    rig.manager
        .wait_for_chunk(entry, 1_050, LONG)
        .await
        .unwrap();
    // Its own round trip and transfer, and what was on the wire: not one other chunk.
    assert!(
        asked.elapsed() < Duration::from_millis(300),
        "{:?}",
        asked.elapsed()
    );
    rig.manager.wait_for_chunk(entry, 7, LONG).await.unwrap();
    assert!(!rig.manager.has_chunk(entry, 21).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn r05_trap03_trap04_five_hundred_chunks_pass_through_three_slots() {
    let mut setup = setup(1_000 * MIB);
    setup.limits = setup.limits.with_max_downloads(3);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    // Every other one: five hundred origin requests.
    for chunk in 0..500 {
        let priority = [Priority::High, Priority::Low, Priority::Medium][chunk as usize % 3];
        rig.manager
            .request_chunk(entry, 2 * chunk, priority)
            .await
            .unwrap();
    }
    for chunk in 0..500 {
        rig.manager
            .wait_for_chunk(entry, 2 * chunk, LONG)
            .await
            .unwrap();
    }
    settle().await;
    assert_eq!(rig.world.journal().max_in_flight(), 3);
    assert_eq!(rig.world.journal().in_flight(), 0);
    assert!(jobs(&rig.store).await.is_empty());
    assert_eq!(rig.manager.statistics().queued_ranges, 0);
}

#[tokio::test(start_paused = true)]
async fn r07_r14_durable_requests_survive_a_restart_and_finish_without_calls() {
    let mut setup = setup(16 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    rig.world
        .fault(FILM, When::Always, Fault::StallAfter { bytes: 0 });
    for (chunk, priority) in [
        (1, Priority::Critical),
        (3, Priority::High),
        (5, Priority::Medium),
        (9, Priority::Low),
    ] {
        rig.manager
            .request_chunk(entry, chunk, priority)
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await; // why: virtual time, one group commit
    let rows: Vec<_> = jobs(&rig.store)
        .await
        .into_iter()
        .map(|row| {
            (
                row.job.range.start() / MIB,
                row.job.range.len(),
                row.job.priority,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [(5, MIB, Priority::Medium), (9, MIB, Priority::Low)],
        "only what was asked for durably has rows"
    );
    rig.manager.shutdown().await;

    rig.world.clear_faults(FILM);
    let rig = setup.start().await;
    settle().await;
    assert_eq!(
        rig.manager.get_available_chunks(entry).await.unwrap(),
        [5, 9]
    );
    assert!(
        jobs(&rig.store).await.is_empty(),
        "rows vanish when recorded"
    );
}

#[tokio::test(start_paused = true)]
async fn r07_the_order_of_arrival_survives_two_restarts() {
    let mut setup = setup(64 * MIB);
    setup.world.put(OriginObject::new("second.mkv", 64 * MIB));
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let film = known(&rig).await;
    let second = rig
        .manager
        .open(resource("second.mkv"), First::Nothing)
        .await
        .unwrap()
        .entry
        .id();
    for name in [FILM, "second.mkv"] {
        rig.world
            .fault(name, When::Always, Fault::StallAfter { bytes: 0 });
    }
    for chunk in [60, 2, 50] {
        rig.manager
            .request_chunk(film, chunk, Priority::Low)
            .await
            .unwrap();
    }
    rig.manager
        .request_chunk(second, 1, Priority::Low)
        .await
        .unwrap();
    rig.manager.shutdown().await;
    // What comes after a restart is later than what was there before it.
    let rig = setup.start().await;
    rig.manager
        .request_chunk(film, 7, Priority::Low)
        .await
        .unwrap();
    rig.manager.shutdown().await;
    let order: Vec<_> = jobs(&setup.store)
        .await
        .into_iter()
        .map(|row| (row.entry, row.job.range.start() / MIB))
        .collect();
    assert_eq!(
        order,
        [(film, 60), (film, 2), (film, 50), (second, 1), (film, 7)]
    );
}

#[tokio::test(start_paused = true)]
async fn r07_rows_vanish_also_where_chunks_are_not_whole_blocks() {
    let mut setup = setup(10 * MIB);
    setup.chunk_size = 1_000_000;
    let rig = setup.start().await;
    let entry = known(&rig).await;
    rig.manager
        .request_chunk(entry, 4, Priority::Low)
        .await
        .unwrap();
    rig.manager.wait_for_chunk(entry, 4, LONG).await.unwrap();
    settle().await;
    assert!(jobs(&rig.store).await.is_empty());
    rig.manager.shutdown().await;
    let before = rig.world.journal().bytes_of(FILM);
    let rig = setup.start().await;
    settle().await;
    assert_eq!(rig.world.journal().bytes_of(FILM), before);
    assert!(rig.manager.has_chunk(entry, 4).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn r10_complete_range_wakes_waiters_and_is_recorded_without_an_origin() {
    let rig = setup(4 * MIB).start().await;
    let entry = known(&rig).await;
    let asked = rig.world.journal().requests_of(FILM);
    let waiting = {
        let manager = rig.manager.clone();
        tokio::spawn(async move { manager.wait_for_chunk(entry, 1, LONG).await })
    };
    tokio::task::yield_now().await;
    let data = Bytes::from(content(FILM, 1, MIB, MIB as usize));
    rig.manager.complete_range(entry, MIB, data).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(
        rig.manager
            .has_byte_range(entry, MIB, 2 * MIB)
            .await
            .unwrap()
    );
    let mut opened = rig.open(MIB, Some(2 * MIB)).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
    settle().await;
    assert_eq!(
        opened.entry.recorded().iter().map(|r| r.len()).sum::<u64>(),
        MIB
    );
    assert_eq!(rig.world.journal().requests_of(FILM), asked);

    let beyond = rig
        .manager
        .complete_range(entry, 4 * MIB - 1, Bytes::from_static(b"ab"))
        .await;
    assert!(beyond.is_err(), "nothing is taken in past the end");
}

#[tokio::test(start_paused = true)]
async fn r10_trap05_fail_range_tells_those_who_wait_for_it_and_nobody_else() {
    let mut setup = setup(64 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    rig.world
        .fault(FILM, When::Next, Fault::StallAfter { bytes: 0 });
    rig.manager
        .request_chunk(entry, 1, Priority::High)
        .await
        .unwrap();
    rig.manager
        .request_chunk(entry, 5, Priority::Medium)
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for chunk in [1, 5] {
        let manager = rig.manager.clone();
        tasks.push(tokio::spawn(async move {
            manager.wait_for_chunk(entry, chunk, LONG).await
        }));
    }
    let mut opened = rig.open(8 * MIB, Some(8 * MIB + 10)).await;
    let reading = tokio::spawn(async move { read_to_end(&mut opened.reader, 1).await });
    tokio::time::sleep(Duration::from_millis(200)).await; // why: virtual time, all are on their way
    let failed = Instant::now();
    rig.manager
        .fail_range(entry, MIB, 2 * MIB, "the other side gave up")
        .await
        .unwrap();
    let told = tasks.remove(0).await.unwrap();
    assert!(matches!(told, Err(WaitError::Failed(_))), "{told:?}");
    assert!(failed.elapsed() < Duration::from_millis(1));
    tasks.remove(0).await.unwrap().unwrap();
    assert_eq!(reading.await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn r20_a_range_expands_to_exactly_its_chunks_clipped_to_the_end() {
    let rig = setup(5 * MIB + 10).start().await;
    let entry = known(&rig).await;
    let ask = |start, end| {
        rig.manager
            .request_chunks_for_range(entry, start, end, Priority::High)
    };
    assert_eq!(ask(MIB - 1, MIB).await.unwrap(), [0]);
    assert_eq!(ask(MIB - 1, MIB + 1).await.unwrap(), [0, 1]);
    assert_eq!(ask(4 * MIB, u64::MAX).await.unwrap(), [4, 5]);
    assert_eq!(ask(6 * MIB, 7 * MIB).await.unwrap(), [0_u64; 0]);
    assert!(ask(5, 5).await.is_err());
    rig.manager.wait_for_chunk(entry, 5, LONG).await.unwrap();
    settle().await;
    assert_eq!(
        rig.manager.get_available_chunks(entry).await.unwrap(),
        [0, 1, 4, 5]
    );
}

#[tokio::test(start_paused = true)]
async fn r21_trap08_a_cancel_tells_waiters_and_stops_what_is_in_flight_for_nobody() {
    let mut setup = setup(64 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    for chunk in [10, 20, 30] {
        rig.manager
            .request_chunk(entry, chunk, Priority::Medium)
            .await
            .unwrap();
    }
    let wait = |chunk| {
        let manager = rig.manager.clone();
        tokio::spawn(async move { manager.wait_for_chunk(entry, chunk, LONG).await })
    };
    let (ten, twenty, thirty) = (wait(10), wait(20), wait(30));
    // A subscription that a cancel makes impossible hears of it, also where it ends elsewhere.
    let wide = {
        let mut subscription = rig
            .manager
            .subscribe_to_chunk(&key(FILM), 10 * MIB, 40 * MIB)
            .await
            .unwrap();
        tokio::spawn(async move { subscription.wait_for_completion(LONG).await })
    };
    rig.world
        .journal()
        .wait_until(|journal| journal.bytes_of(FILM) > MIB / 4)
        .await;
    let sent = rig.world.journal().bytes_of(FILM);
    assert!((1..MIB).contains(&sent), "{sent}");
    rig.manager.cancel_requests(entry, &[10, 30]).await.unwrap();
    for (name, task) in [("10", ten), ("30", thirty), ("wide", wide)] {
        let told = task.await.unwrap();
        assert!(
            matches!(told, Err(WaitError::Cancelled)),
            "{name}: {told:?}"
        );
    }
    twenty.await.unwrap().unwrap();
    settle().await;
    assert!(!rig.manager.has_chunk(entry, 10).await.unwrap());
    assert!(!rig.manager.has_chunk(entry, 30).await.unwrap());
    let sent = rig.world.journal().bytes_of(FILM);
    assert!(
        sent < MIB + MIB * 3 / 4,
        "{sent} bytes for one chunk and a half"
    );
    assert!(jobs(&rig.store).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn r21_a_cancel_leaves_a_readers_need_alone() {
    let rig = setup(8 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    let entry = opened.entry.id();
    rig.manager
        .request_chunk(entry, 0, Priority::High)
        .await
        .unwrap();
    rig.manager.cancel_requests(entry, &[0]).await.unwrap();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fill_ends_with_its_reader_and_what_was_asked_for_goes_on() {
    let mut setup = setup(64 * MIB);
    setup.fill = true;
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    let entry = opened.entry.id();
    read_exact(&mut opened.reader, 1, 1_000).await;
    for (chunk, priority) in [(40, Priority::High), (50, Priority::Low)] {
        rig.manager
            .request_chunk(entry, chunk, priority)
            .await
            .unwrap();
    }
    let high = {
        let manager = rig.manager.clone();
        tokio::spawn(async move { manager.wait_for_chunk(entry, 40, LONG).await })
    };
    let low = {
        let manager = rig.manager.clone();
        tokio::spawn(async move { manager.wait_for_chunk(entry, 50, LONG).await })
    };
    tokio::task::yield_now().await;
    drop(opened);
    high.await.unwrap().unwrap();
    low.await.unwrap().unwrap();
    settle().await;
    let sent = rig.world.journal().bytes_of(FILM);
    assert!(sent < 32 * MIB, "the fill went on: {sent}");
}

#[tokio::test(start_paused = true)]
async fn r25_a_request_for_what_is_there_queues_nothing() {
    let rig = setup(4 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    settle().await;
    let asked = rig.world.journal().requests_of(FILM);
    let entry = opened.entry.id();
    for priority in [Priority::Critical, Priority::Low] {
        rig.manager.request_chunk(entry, 2, priority).await.unwrap();
        let began = Instant::now();
        rig.manager.wait_for_chunk(entry, 2, LONG).await.unwrap();
        assert!(began.elapsed().is_zero());
    }
    settle().await;
    assert_eq!(rig.manager.statistics().queued_ranges, 0);
    assert!(jobs(&rig.store).await.is_empty());
    assert_eq!(rig.world.journal().requests_of(FILM), asked);
}

#[tokio::test(start_paused = true)]
async fn r08_ordering_asks_nothing_of_the_index() {
    let mut setup = setup(512 * MIB);
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    setup.store = Arc::clone(&index) as _;
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    settle().await;
    let asked = index.faults().all_calls();
    for chunk in 0..500 {
        for priority in [Priority::High, Priority::Critical] {
            rig.manager
                .request_chunk(entry, (chunk * 7) % 500, priority)
                .await
                .unwrap();
        }
    }
    rig.manager
        .cancel_requests(entry, &(0..500).collect::<Vec<_>>())
        .await
        .unwrap();
    assert_eq!(index.faults().all_calls(), asked);
}

#[tokio::test(start_paused = true)]
async fn r02_a_seek_goes_before_read_ahead_and_read_ahead_before_background_work() {
    let mut setup = setup(512 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    let mut opened = rig.open(100 * MIB, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    let sought = Instant::now();
    opened.reader.seek_to(400 * MIB);
    read_exact(&mut opened.reader, 1, 1).await;
    assert!(
        sought.elapsed().as_millis() <= 60,
        "one round trip: {:?}",
        sought.elapsed()
    );
    // From here on the window before the playhead is what comes, and nothing of the background.
    let background = |readable: Vec<chunk_core::ByteRange>| -> u64 {
        let near = |range: &chunk_core::ByteRange| range.start() >= 100 * MIB;
        readable
            .iter()
            .filter(|range| !near(range))
            .map(|range| range.len())
            .sum()
    };
    let before = background(opened.entry.readable());
    read_exact(&mut opened.reader, 1, 4 * MIB).await;
    assert_eq!(background(opened.entry.readable()), before);
}
