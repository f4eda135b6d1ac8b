//! Everything at once: many readers, an origin and stores that fail at random. Every byte that is read is
//! right and of one version, everything ends in bounded time, and nothing is left behind.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_manager::{First, Limits, OpenError, ReadError};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::faulty::{Fault as StoreFault, FaultyByteStore, FaultyChunkStore};
use chunk_testkit::origin::{Cut, Fault, OriginObject, When, verify_content};
use proptest::prelude::*;
use support::*;
use tokio::time::{Instant, sleep, timeout};

const LEN: u64 = 7 * MIB + 4_321;

#[derive(Clone, Debug)]
struct Viewer {
    start: u64,
    /// Reads so many pieces, of at most so many bytes, so many milliseconds apart, then seeks or leaves.
    legs: Vec<(u8, u32, u16, u64)>,
}

#[derive(Clone, Debug)]
struct Storm {
    viewers: Vec<Viewer>,
    origin: Vec<(u64, Fault)>,
    has_ranges: bool,
    bytes_fail: Option<u64>,
    index_fails: Option<u64>,
    memory: u64,
}

fn viewers() -> impl Strategy<Value = Vec<Viewer>> {
    let leg = (0..20_u8, 1..400_000_u32, 0..300_u16, 0..LEN);
    let viewer =
        (0..LEN, prop::collection::vec(leg, 1..4)).prop_map(|(start, legs)| Viewer { start, legs });
    prop::collection::vec(viewer, 1..7)
}

fn origin_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..400_000_u64).prop_map(|bytes| Fault::CutAfter {
            bytes,
            how: Cut::Reset
        }),
        (0..400_000_u64).prop_map(|bytes| Fault::StallAfter { bytes }),
        Just(Fault::StallBeforeHead),
        Just(Fault::NoAnswer),
        Just(Fault::IgnoreRange),
        Just(Fault::NoContentRange),
        Just(Fault::LoginPage),
        Just(Fault::Gzip),
        Just(Fault::status(404)),
        Just(Fault::status(500)),
        Just(Fault::retry_after(503, "2")),
        Just(Fault::NewVersion(2)),
        Just(Fault::NewVersion(3)),
    ]
}

fn storm() -> impl Strategy<Value = Storm> {
    (
        viewers(),
        prop::collection::vec((1..16_u64, origin_fault()), 0..8),
        prop::bool::weighted(0.8),
        prop::option::of(any::<u64>()),
        prop::option::weighted(0.3, any::<u64>()),
        prop_oneof![Just(2 * MIB), Just(64 * MIB)],
    )
        .prop_map(
            |(viewers, origin, has_ranges, bytes_fail, index_fails, memory)| Storm {
                viewers,
                origin,
                has_ranges,
                bytes_fail,
                index_fails,
                memory,
            },
        )
}

/// Which version these bytes are of; a reader that has met one must never meet another.
fn check(version: &mut Option<u64>, at: u64, bytes: &[u8]) {
    let of = |version: u64| verify_content(FILM, version, at, bytes).is_ok();
    match version {
        Some(version) => assert!(of(*version), "another version, or nonsense, at {at}"),
        // A few bytes may be alike in two versions.
        None if bytes.len() < 16 => assert!((1..=3).any(of), "nonsense at {at}"),
        None => {
            *version = (1..=3).find(|&version| of(version));
            assert!(version.is_some(), "nonsense at {at}");
        }
    }
}

async fn view(manager: chunk_manager::ChunkManager, viewer: Viewer) {
    let first = First::Span {
        start: viewer.start,
        end: None,
    };
    let opened = timeout(
        Duration::from_secs(120),
        manager.open(resource(FILM), first),
    )
    .await
    .expect("opening ends");
    let Ok(mut opened) = opened else { return };
    let mut version = None;
    let mut failures = 0;
    for (pieces, most, gap, target) in viewer.legs {
        for _ in 0..pieces {
            let at = opened.reader.position();
            let next = timeout(Duration::from_secs(300), opened.reader.next(most as usize));
            match next.await.expect("a read ends") {
                Ok(Some(bytes)) => check(&mut version, at, &bytes),
                Ok(None) => {
                    assert!(at >= LEN, "the end at {at}");
                    break;
                }
                Err(ReadError::Changed) => return,
                Err(ReadError::Failed(OpenError::Manager(_)) | ReadError::Closed) => {
                    panic!("the manager is open")
                }
                Err(_) => {
                    failures += 1;
                    if failures > 3 {
                        return;
                    }
                }
            }
            sleep(Duration::from_millis(gap.into())).await;
        }
        opened.reader.seek_to(target);
    }
}

async fn rage(storm: Storm) {
    let mut setup = setup(LEN);
    let bytes = FaultyByteStore::new(MemoryByteStore::new());
    let index = FaultyChunkStore::new(MemoryChunkStore::new());
    let (byte_faults, index_faults) = (bytes.faults(), index.faults());
    setup.bytes = Arc::new(bytes);
    setup.store = Arc::new(index);
    setup.limits = Limits::default().with_memory(storm.memory);
    if !storm.has_ranges {
        setup
            .world
            .put(OriginObject::new(FILM, LEN).without_ranges());
    }
    for (nth, fault) in storm.origin {
        setup.world.fault(FILM, When::Nth(nth), fault);
    }
    let rig = setup.start().await;
    if let Some(seed) = storm.bytes_fail {
        let kinds = [
            StoreFault::Full,
            StoreFault::Unavailable,
            StoreFault::Corrupt,
        ];
        byte_faults.fail_by_seed(seed, 5, &kinds);
    }
    if let Some(seed) = storm.index_fails {
        let kinds = [StoreFault::Unavailable, StoreFault::AppliedButUnavailable];
        index_faults.fail_by_seed(seed, 4, &kinds);
    }
    let began = Instant::now();
    let mut viewers = tokio::task::JoinSet::new();
    for viewer in storm.viewers {
        viewers.spawn(view(rig.manager.clone(), viewer));
    }
    while let Some(viewer) = viewers.join_next().await {
        viewer.unwrap();
    }
    assert!(
        began.elapsed() < Duration::from_secs(2_000),
        "{:?}",
        began.elapsed()
    );

    // The weather clears up: the film is there, whole and of one version.
    byte_faults.clear();
    index_faults.clear();
    rig.world.clear_faults(FILM);
    sleep(Duration::from_secs(300)).await;
    let statistics = rig.manager.statistics();
    assert_eq!(rig.world.journal().in_flight(), 0, "a transfer for nobody");
    assert_eq!((statistics.active_runs, statistics.held_runs), (0, 0));
    assert_eq!((statistics.readers, statistics.queued_ranges), (0, 0));
    assert_eq!(statistics.memory_bytes, 0, "memory of nobody");
    let mut opened = rig.open(0, None).await;
    let mut version = None;
    while let Some(bytes) = {
        let at = opened.reader.position();
        let bytes = opened.reader.next(1 << 20).await.unwrap();
        if let Some(bytes) = &bytes {
            check(&mut version, at, bytes);
        }
        bytes
    } {
        drop(bytes);
    }
    assert_eq!(opened.reader.position(), LEN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn fault31_in_any_storm_bytes_are_right_and_nothing_is_left_behind(storm in storm()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(rage(storm));
    }
}
