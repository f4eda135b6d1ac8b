//! When the origin is asked whether what is cached still holds.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chunk_core::{ChunkSize, Tick};
use chunk_manager::{ChunkManager, First, TokioClock};
use chunk_ports::{Clock, Resource, StoreWrite};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Fault, OriginObject, When};
use support::*;
use tokio::time::sleep;

/// A manager that has the whole file cached, shut down again.
async fn cached(setup: &Setup) {
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;
    rig.world.journal().clear();
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_confirmed_once_and_brings_no_body() {
    let setup = setup(2 * MIB);
    cached(&setup).await;
    let rig = setup.start().await;
    let mut readers = tokio::task::JoinSet::new();
    for start in [0, 5, MIB] {
        let manager = rig.manager.clone();
        readers.spawn(async move {
            let first = First::Span { start, end: None };
            let mut opened = manager.open(resource(FILM), first).await.unwrap();
            assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB - start);
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    let records = rig.world.journal().records_of(FILM);
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0].status, 304);
    assert!(records[0].header("if-none-match").is_some());
    assert_eq!(records[0].body_sent, 0);
    assert!(
        !rig.open(0, None)
            .await
            .entry
            .age()
            .gt(&Duration::from_secs(5))
    );
}

#[tokio::test(start_paused = true)]
async fn a_fresh_entry_asks_nobody() {
    let setup = setup(2 * MIB);
    setup
        .world
        .put(OriginObject::new(FILM, 2 * MIB).header("Cache-Control", "max-age=3600"));
    cached(&setup).await;
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB);
    assert_eq!(rig.world.journal().requests_of(FILM), 0);
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_is_noted_in_the_index() {
    let setup = setup(MIB);
    cached(&setup).await;
    // As if the last confirmation were long ago.
    let record = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
    let mut freshness = record.current.as_ref().unwrap().freshness;
    freshness.validated_unix -= 1_000_000;
    freshness.fresh_until_unix -= 1_000_000;
    let generation = record.current.unwrap().id;
    let refresh = StoreWrite::Refresh {
        generation,
        freshness,
    };
    setup.store.commit(vec![refresh]).await.unwrap();

    let rig = setup.start().await;
    let opened = rig.open(0, None).await;
    assert!(opened.entry.age() < Duration::from_secs(100));
    let record = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
    let noted = record.current.unwrap().freshness.validated_unix;
    assert!(noted > freshness.validated_unix + 900_000);
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_that_changed_is_replaced_by_many_openers_with_one_question() {
    let setup = setup(2 * MIB);
    cached(&setup).await;
    setup.world.set_version(FILM, 2);
    let rig = setup.start().await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let manager = rig.manager.clone();
        readers.spawn(async move {
            let first = First::Span {
                start: 0,
                end: None,
            };
            let mut opened = manager.open(resource(FILM), first).await.unwrap();
            assert_eq!(read_to_end(&mut opened.reader, 2).await, 2 * MIB);
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    // One question, one transfer.
    assert_eq!(rig.world.journal().requests_of(FILM), 2);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.bytes.generations().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_cannot_confirm_does_not_keep_the_file_away() {
    for fault in [
        Fault::NoAnswer,
        Fault::status(500),
        Fault::retry_after(503, "60"),
    ] {
        let setup = setup(MIB);
        cached(&setup).await;
        let rig = setup.start().await;
        rig.world.fault(FILM, When::Always, fault);
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
        assert!(rig.world.journal().requests_of(FILM) <= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fault11_a_file_in_steady_use_is_asked_about_again_once_its_origin_answers() {
    for changes in [false, true] {
        let setup = setup(MIB);
        cached(&setup).await;
        let rig = setup.start().await;
        rig.world.fault(FILM, When::Always, Fault::status(500));
        let steady = rig.open(0, None).await;
        for _ in 0..60 {
            let mut opened = rig.open(0, None).await;
            assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
            sleep(Duration::from_secs(1)).await; // why: virtual time, a viewer that comes each second
        }
        let asked = rig.world.journal().requests_of(FILM);
        assert!((4..=7).contains(&asked), "{asked} questions in a minute");

        rig.world.clear_faults(FILM);
        if changes {
            rig.world.set_version(FILM, 2);
        }
        sleep(Duration::from_secs(11)).await; // why: virtual time, until it is asked again
        drop(rig.open(0, None).await);
        sleep(Duration::from_secs(1)).await; // why: virtual time, until it has answered
        let mut opened = rig.open(0, None).await;
        let version = if changes { 2 } else { 1 };
        assert_eq!(read_to_end(&mut opened.reader, version).await, MIB);
        let asked = rig.world.journal().requests_of(FILM);
        drop(rig.open(0, None).await);
        sleep(Duration::from_secs(11)).await; // why: virtual time, as long as an answer was waited for
        drop(rig.open(0, None).await);
        assert_eq!(
            rig.world.journal().requests_of(FILM),
            asked,
            "it has been told"
        );
        drop(steady);
    }
}

/// Tokio's clock with a wall clock that a test may set.
#[derive(Debug)]
struct Wall {
    clock: TokioClock,
    unix: AtomicI64,
}

#[async_trait::async_trait]
impl Clock for Wall {
    fn now(&self) -> Tick {
        self.clock.now()
    }

    async fn sleep_until(&self, deadline: Tick) {
        self.clock.sleep_until(deadline).await;
    }

    fn unix_seconds(&self) -> i64 {
        self.unix.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn fault40_a_wall_clock_that_jumps_stops_nothing() {
    const YEAR: i64 = 365 * 24 * 3600;
    let setup = setup(8 * MIB);
    setup
        .world
        .put(OriginObject::new(FILM, 8 * MIB).header("Cache-Control", "max-age=3600"));
    let start = 1_800_000_000;
    let wall = Arc::new(Wall {
        clock: TokioClock::new(),
        unix: AtomicI64::new(start),
    });
    let manager = || {
        let fetcher = ScriptedFetcher::new(setup.world.clone(), setup.link.clone());
        ChunkManager::builder(
            Arc::clone(&setup.store),
            Arc::clone(&setup.bytes),
            Arc::new(fetcher),
        )
        .clock(Arc::clone(&wall) as _)
        .chunk_size(ChunkSize::new(MIB).unwrap())
        .start()
    };
    let first = First::Span {
        start: 0,
        end: None,
    };
    let running = manager().await.unwrap();
    let mut opened = running.open(resource(FILM), first).await.unwrap();
    read_exact(&mut opened.reader, 1, MIB).await;
    for jump in [YEAR, -2 * YEAR, i64::MAX - start - YEAR] {
        wall.unix.fetch_add(jump, Ordering::Relaxed);
        read_exact(&mut opened.reader, 1, MIB).await;
        let (age, fresh_for) = (opened.entry.age(), opened.entry.fresh_for());
        assert!(fresh_for <= Duration::from_secs(3600), "{fresh_for:?}");
        if jump < 0 {
            assert_eq!(age, Duration::ZERO, "an age below zero");
        }
    }
    wall.unix.store(start, Ordering::Relaxed);
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 4 * MIB);
    drop(opened);
    running.shutdown().await;
    setup.world.journal().clear();

    // Set back before the last confirmation: nothing is fresh that was confirmed in the future.
    wall.unix.store(start - YEAR, Ordering::Relaxed);
    let running = manager().await.unwrap();
    let mut opened = running.open(resource(FILM), first).await.unwrap();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB);
    let records = setup.world.journal().records_of(FILM);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].status, 304);
}

/// Whoever waits for the origin's word reads nothing yet, and what goes meanwhile is not what they get to read.
#[tokio::test(start_paused = true)]
async fn fault32_an_entry_that_is_evicted_while_its_origin_is_asked_is_begun_anew() {
    for is_all in [false, true] {
        let setup = setup(2 * MIB);
        cached(&setup).await;
        let rig = setup.start().await;
        let manager = rig.manager.clone();
        let player = tokio::spawn(async move {
            let first = First::Span {
                start: 0,
                end: None,
            };
            let mut opened = manager.open(resource(FILM), first).await.unwrap();
            read_to_end(&mut opened.reader, 1).await
        });
        sleep(Duration::from_millis(1)).await;
        let freed = if is_all {
            rig.manager.evict_all().await
        } else {
            rig.manager.evict(&key(FILM)).await
        };
        assert_eq!(freed.unwrap(), 2 * MIB);
        assert_eq!(player.await.unwrap(), 2 * MIB);
        sleep(Duration::from_secs(2)).await;
        let report = rig.manager.verify(false).await.unwrap();
        assert_eq!((report.bytes, report.bad.len()), (2 * MIB, 0));
    }
}

/// RFC 9111, 3.2 and 4.3.4: a 304 changes what it names, and leaves the rest as it was.
#[tokio::test(start_paused = true)]
async fn what_a_confirmation_does_not_say_stands() {
    for said in ["no-cache", "max-age=0, must-revalidate", "s-maxage=0"] {
        let setup = setup(MIB);
        setup
            .world
            .put(OriginObject::new(FILM, MIB).header("Cache-Control", said));
        cached(&setup).await;
        // From here on it says nothing.
        setup.world.put(OriginObject::new(FILM, MIB));
        for _ in 0..2 {
            sleep(Duration::from_secs(6)).await;
            let rig = setup.start().await;
            let opened = rig.open(0, None).await;
            assert_eq!(opened.entry.fresh_for(), Duration::ZERO, "{said}");
            assert_eq!(rig.world.journal().requests_of(FILM), 1, "{said}");
            drop(opened);
            rig.manager.shutdown().await;
            setup.world.journal().clear();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_no_longer_be_kept_goes_though_it_is_the_same() {
    for said in ["no-store", "private"] {
        let setup = setup(MIB);
        cached(&setup).await;
        setup
            .world
            .put(OriginObject::new(FILM, MIB).header("Cache-Control", said));
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        assert!(!opened.entry.storable(), "{said}");
        assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
        drop(opened);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(rig.bytes.generations().await.unwrap(), [], "{said}");
    }
}

/// RFC 9111, 4.4: what changes is the target, whoever may read it.
#[tokio::test(start_paused = true)]
async fn what_one_has_changed_is_asked_about_by_those_with_other_credentials() {
    let setup = setup(MIB);
    setup
        .world
        .put(OriginObject::new(FILM, MIB).header("Cache-Control", "max-age=3600"));
    let others = {
        let resource = resource(FILM);
        let key = (*resource.key).clone().with_partition("other");
        Resource::new(Arc::new(key), resource.target)
    };
    let whole = First::Span {
        start: 0,
        end: None,
    };
    for is_open in [true, false] {
        let rig = setup.start().await;
        let mut opened = rig.manager.open(others.clone(), whole).await.unwrap();
        read_to_end(&mut opened.reader, 1).await;
        let rig = if is_open {
            rig
        } else {
            drop(opened);
            rig.manager.shutdown().await;
            setup.start().await
        };
        rig.world.journal().clear();
        rig.manager.invalidate(&key(FILM)).await.unwrap();
        drop(rig.manager.open(others.clone(), whole).await.unwrap());
        assert_eq!(rig.world.journal().requests_of(FILM), 1, "{is_open}");
        rig.manager.shutdown().await;
    }
}
