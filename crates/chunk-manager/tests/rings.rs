//! Bytes that cannot be kept, and readers out of step: how often the origin is asked, and for how much.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_manager::Limits;
use chunk_store_memory::MemoryByteStore;
use chunk_testkit::faulty::{ByteStoreMethod, Fault, FaultyByteStore};
use chunk_testkit::origin::OriginObject;
use futures_util::future::join_all;
use support::*;
use tokio::time::{Instant, sleep, sleep_until};

const LEN: u64 = 30 * MIB;
/// What each reader takes a second, which is a third of what one connection brings.
const PACE: u64 = 5_000_000;

struct Cost {
    requests: usize,
    bytes: u64,
    peak_memory: u64,
}

impl Cost {
    fn copies(&self) -> f64 {
        self.bytes as f64 / LEN as f64
    }
}

fn unstorable() -> Setup {
    let mut setup = setup(LEN);
    setup.link = chunk_testkit::origin::Link::new()
        .delay(Duration::from_millis(20))
        .connection_rate(15_000_000);
    setup
        .world
        .put(OriginObject::new(FILM, LEN).header("Cache-Control", "no-store"));
    setup
}

/// Reads from `start` to the end, `after` so long, at `rate` bytes a second.
async fn play(rig: &Rig, start: u64, after: Duration, rate: u64) {
    sleep(after).await; // why: virtual time, the distance between readers
    let mut opened = rig.open(start, None).await;
    let begun = Instant::now();
    let mut read = 0;
    while start + read < LEN {
        // A socket takes what is there, in pieces of no fixed size.
        let piece = (40_000 + read % 7 * 9_000).min(LEN - start - read);
        read_exact(&mut opened.reader, 1, piece).await;
        read += piece;
        sleep_until(begun + Duration::from_micros(read * 1_000_000 / rate)).await;
    }
}

/// What `work` costs the origin.
async fn cost_of(rig: &Rig, work: impl Future<Output = ()>) -> Cost {
    let mut peak_memory = 0;
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            () = &mut work => break,
            () = sleep(Duration::from_millis(1)) => { // why: virtual time, a look at the memory in use
                peak_memory = peak_memory.max(rig.manager.statistics().memory_bytes);
            }
        }
    }
    Cost {
        requests: rig.world.journal().requests_of(FILM),
        bytes: rig.world.journal().bytes_of(FILM),
        peak_memory,
    }
}

/// What `count` readers of `rig` cost, each begun `apart` after the one before.
async fn cost_of_readers(rig: &Rig, count: u32, apart: Duration) -> Cost {
    let readers = (0..count).map(|reader| play(rig, 0, apart * reader, PACE));
    let all = async {
        join_all(readers).await;
    };
    cost_of(rig, all).await
}

#[tokio::test(start_paused = true)]
async fn fault27_who_is_close_behind_shares_the_ring() {
    for millis in [0, 10, 100, 300, 500, 600] {
        let cost = cost_of_readers(
            &unstorable().start().await,
            2,
            Duration::from_millis(millis),
        )
        .await;
        let (copies, requests) = (cost.copies(), cost.requests);
        assert!(
            copies <= 1.15 && requests <= 4,
            "{millis} ms apart: {copies} copies, {requests} requests"
        );
        assert!(
            cost.peak_memory <= 9 * MIB,
            "{} bytes in memory",
            cost.peak_memory
        );
    }
}

/// Whatever the distance, and just at the ring's edge as well.
#[tokio::test(start_paused = true)]
async fn fault27_two_readers_cost_two_copies_at_most_and_few_requests() {
    for millis in [
        700, 750, 800, 830, 850, 870, 900, 1_000, 1_200, 1_500, 3_000,
    ] {
        let cost = cost_of_readers(
            &unstorable().start().await,
            2,
            Duration::from_millis(millis),
        )
        .await;
        let (copies, requests) = (cost.copies(), cost.requests);
        assert!(
            copies <= 2.1 && requests <= 8,
            "{millis} ms apart: {copies} copies, {requests} requests"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault27_several_readers_cost_a_copy_each_at_most_and_few_requests() {
    for (count, millis, most) in [(3, 700, 2.0), (4, 300, 1.3), (4, 1_500, 4.1)] {
        let cost = cost_of_readers(
            &unstorable().start().await,
            count,
            Duration::from_millis(millis),
        )
        .await;
        let (copies, requests) = (cost.copies(), cost.requests);
        assert!(
            copies <= most && requests <= 12,
            "{count} readers {millis} ms apart: {copies} copies, {requests} requests"
        );
    }
}

/// A disk that is full from the start, and is tried again every few seconds.
#[tokio::test(start_paused = true)]
async fn fault15_on_a_full_disk_readers_out_of_step_cost_a_copy_each_at_most_and_few_requests() {
    for (millis, most) in [(300, 1.3), (700, 2.1), (1_500, 3.1)] {
        let bytes = FaultyByteStore::new(MemoryByteStore::new());
        let faults = bytes.faults();
        faults.fail_every(ByteStoreMethod::Write, Some(Fault::Full));
        let mut setup = unstorable();
        setup.world.put(OriginObject::new(FILM, LEN));
        setup.bytes = Arc::new(bytes);
        let cost = cost_of_readers(&setup.start().await, 3, Duration::from_millis(millis)).await;
        let (copies, requests) = (cost.copies(), cost.requests);
        assert!(
            copies <= most && requests <= 12,
            "{millis} ms apart: {copies} copies, {requests} requests"
        );
    }
}

/// A fast one runs away from slow ones; a slow one is met by fast ones.
#[tokio::test(start_paused = true)]
async fn fault27_readers_of_different_pace_cost_a_copy_each_at_most_and_few_requests() {
    let rig = unstorable().start().await;
    let plays = [
        (0, 0, 2_000_000),
        (0, 100, 5_000_000),
        (0, 1_000, 9_000_000),
        (6 * MIB, 0, 3_000_000),
    ];
    let plays =
        plays.map(|(start, after, rate)| play(&rig, start, Duration::from_millis(after), rate));
    let all = async {
        join_all(plays).await;
    };
    let cost = cost_of(&rig, all).await;
    let (copies, requests) = (cost.copies(), cost.requests);
    assert!(
        copies <= 4.1 && requests <= 16,
        "{copies} copies, {requests} requests"
    );
}

/// Rings share the memory that there is: less of it costs no more than a copy each.
#[tokio::test(start_paused = true)]
async fn fault38_rings_are_as_large_as_the_memory_allows() {
    let mut setup = unstorable();
    setup.limits = Limits::default().with_memory(8 * MIB);
    let rig = setup.start().await;
    let cost = cost_of_readers(&rig, 4, Duration::from_millis(1_500)).await;
    assert!(
        cost.peak_memory <= 8 * MIB + MIB,
        "{} bytes in memory",
        cost.peak_memory
    );
    let (copies, requests) = (cost.copies(), cost.requests);
    assert!(
        copies <= 4.5 && requests <= 40,
        "{copies} copies, {requests} requests"
    );
}

/// Nothing is fetched twice for who seeks within what is there.
#[tokio::test(start_paused = true)]
async fn a_step_back_within_the_ring_asks_for_nothing() {
    let rig = unstorable().start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 8 * MIB).await;
    opened.reader.seek_to(8 * MIB - MIB / 2);
    read_exact(&mut opened.reader, 1, 2 * MIB).await;
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
}
