//! An origin that takes long to confirm what is cached, or never does: how long that keeps whom waiting.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::ChunkSize;
use chunk_manager::{ChunkManager, First, OpenError};
use chunk_ports::{ChunkFetcher, FetchError, FetchOutcome, FetchRequest};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Fault, OriginObject, When, verify_content};
use support::*;
use tokio::time::{Instant, sleep};

const OTHER: &str = "other.mkv";
const WHOLE: First = First::Span {
    start: 0,
    end: None,
};

/// Reads a whole file of one mebibyte, checks it, and returns how long that took.
async fn read_named(manager: &ChunkManager, name: &str, version: u64) -> Duration {
    let asked = Instant::now();
    let mut opened = manager.open(resource(name), WHOLE).await.unwrap();
    let mut read = 0;
    while let Some(bytes) = opened.reader.next(1 << 20).await.unwrap() {
        verify_content(name, version, read, &bytes).unwrap();
        read += bytes.len() as u64;
    }
    assert_eq!(read, MIB);
    asked.elapsed()
}

/// The film and another file, cached by a manager that has been shut down.
async fn both_cached() -> Setup {
    let setup = setup(MIB);
    setup.world.put(OriginObject::new(OTHER, MIB));
    let rig = setup.start().await;
    for name in [FILM, OTHER] {
        read_named(&rig.manager, name, 1).await;
    }
    rig.manager.shutdown().await;
    setup.world.journal().clear();
    setup
}

/// The film with this `Cache-Control`, cached by a manager that has been shut down.
async fn cached_with(control: &str) -> Setup {
    let setup = setup(0);
    setup
        .world
        .put(OriginObject::new(FILM, MIB).header("Cache-Control", control));
    let rig = setup.start().await;
    read_named(&rig.manager, FILM, 1).await;
    rig.manager.shutdown().await;
    setup.world.journal().clear();
    setup
}

#[tokio::test(start_paused = true)]
async fn fault13_a_silent_origin_holds_up_what_is_cached_once_and_shortly() {
    let rig = both_cached().await.start().await;
    for name in [FILM, OTHER] {
        rig.world.fault(name, When::Always, Fault::StallBeforeHead);
    }
    let took = read_named(&rig.manager, FILM, 1).await;
    assert!(took >= Duration::from_secs(2), "it did not wait: {took:?}");
    assert!(took <= Duration::from_millis(2_100), "{took:?}");
    // Neither it nor another file waits again, and the origin is not asked each time.
    for _ in 0..60 {
        for name in [FILM, OTHER] {
            let took = read_named(&rig.manager, name, 1).await;
            assert!(took <= Duration::from_millis(100), "{name}: {took:?}");
        }
        sleep(Duration::from_secs(1)).await; // why: virtual time, a viewer that comes each second
    }
    let requests = rig.world.journal().requests();
    assert!((3..=12).contains(&requests), "{requests} in a minute");

    // Once it answers, what it says counts.
    for name in [FILM, OTHER] {
        rig.world.clear_faults(name);
        rig.world.set_version(name, 2);
    }
    for name in [FILM, OTHER, FILM, OTHER] {
        drop(rig.manager.open(resource(name), WHOLE).await.unwrap());
        sleep(Duration::from_secs(31)).await; // why: virtual time, the longest pause between two looks
    }
    for name in [FILM, OTHER] {
        read_named(&rig.manager, name, 2).await;
    }
}

/// An origin has so many connections, and a question that nobody waits for must not keep one from a player.
#[tokio::test(start_paused = true)]
async fn fault13_of_many_questions_to_a_silent_origin_one_waits_on() {
    let names: Vec<String> = (0..40).map(|n| format!("{n}.mkv")).collect();
    let setup = setup(MIB);
    let rig = setup.start().await;
    for name in &names {
        setup.world.put(OriginObject::new(name, MIB));
        read_named(&rig.manager, name, 1).await;
    }
    rig.manager.shutdown().await;
    let rig = setup.start().await;
    for name in &names {
        rig.world.fault(name, When::Always, Fault::StallBeforeHead);
    }
    let mut viewers = tokio::task::JoinSet::new();
    for name in names {
        let manager = rig.manager.clone();
        viewers.spawn(async move { read_named(&manager, &name, 1).await });
    }
    for took in viewers.join_all().await {
        assert!(took <= Duration::from_millis(2_100), "{took:?}");
    }
    sleep(Duration::from_millis(10)).await; // why: virtual time, the origin notices that they left
    assert_eq!(rig.world.journal().in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn fault13_what_a_slow_origin_says_in_the_end_counts() {
    for version in [1, 2] {
        let rig = both_cached().await.start().await;
        rig.world.set_version(FILM, version);
        rig.world.fault(FILM, When::Next, Fault::StallBeforeHead);
        read_named(&rig.manager, FILM, 1).await;
        // It goes on although nobody waits for it.
        sleep(Duration::from_secs(3)).await; // why: virtual time, until the origin has thought about it
        rig.world.release();
        sleep(Duration::from_secs(1)).await; // why: virtual time, its answer
        for _ in 0..3 {
            read_named(&rig.manager, FILM, version).await;
        }
        // The question, and the transfer of another version.
        assert_eq!(rig.world.journal().requests_of(FILM) as u64, version);
        // It has been heard from: the next confirmation waits for its answer again.
        rig.world.set_version(OTHER, 2);
        read_named(&rig.manager, OTHER, 2).await;
    }
}

/// Everything goes to the scripted origin, or nowhere: packets vanish, and a connection is given up after 10 s.
#[derive(Debug)]
struct Line {
    origin: ScriptedFetcher,
    is_dead: AtomicBool,
}

#[async_trait]
impl ChunkFetcher for Line {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        if self.is_dead.load(Ordering::Relaxed) {
            sleep(Duration::from_secs(10)).await; // why: virtual time, what a connection may take
            return Err(FetchError::NoConnection("nothing came back".into()));
        }
        self.origin.fetch(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn fault11_packets_that_vanish_hold_up_one_cached_file_and_shortly() {
    let setup = both_cached().await;
    let line = Arc::new(Line {
        origin: ScriptedFetcher::new(setup.world.clone(), setup.link.clone()),
        is_dead: AtomicBool::new(true),
    });
    let (store, bytes) = (Arc::clone(&setup.store), Arc::clone(&setup.bytes));
    let manager = ChunkManager::builder(store, bytes, Arc::clone(&line) as _)
        .chunk_size(ChunkSize::new(MIB).unwrap())
        .start()
        .await
        .unwrap();
    let took = read_named(&manager, FILM, 1).await;
    assert!(took <= Duration::from_millis(2_100), "{took:?}");
    for _ in 0..10 {
        for name in [FILM, OTHER] {
            let took = read_named(&manager, name, 1).await;
            assert!(took <= Duration::from_millis(100), "{name}: {took:?}");
        }
        sleep(Duration::from_secs(3)).await; // why: virtual time, some of the pauses between two looks
    }
    line.is_dead.store(false, Ordering::Relaxed);
    for name in [FILM, OTHER, FILM, OTHER] {
        sleep(Duration::from_secs(31)).await; // why: virtual time, the longest pause between two looks
        read_named(&manager, name, 1).await;
    }
    for name in [FILM, OTHER] {
        let records = setup.world.journal().records_of(name);
        let confirmed = records.iter().filter(|record| record.status == 304).count();
        assert!(confirmed >= 1, "{records:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault13_what_must_be_confirmed_is_never_served_unconfirmed() {
    for control in [
        "no-cache",
        "max-age=0, must-revalidate",
        "max-age=0, proxy-revalidate",
        "s-maxage=0",
    ] {
        let setup = cached_with(control).await;
        for (fault, shortest) in [
            (Fault::StallBeforeHead, Duration::from_secs(10)),
            (Fault::NoAnswer, Duration::ZERO),
            (Fault::status(500), Duration::ZERO),
            (Fault::LoginPage, Duration::ZERO),
        ] {
            let rig = setup.start().await;
            rig.world.fault(FILM, When::Always, fault.clone());
            for start in [0, MIB / 2] {
                let asked = Instant::now();
                let first = First::Span { start, end: None };
                let opened = rig.manager.open(resource(FILM), first).await;
                let error = opened.err().unwrap();
                assert!(
                    matches!(error, OpenError::Unconfirmed { .. }),
                    "{control}, {fault:?}: {error:?}"
                );
                assert!(asked.elapsed() >= shortest, "{control}, {fault:?}");
            }
            rig.world.clear_faults(FILM);
            rig.world.release();
            rig.world.journal().clear();
            read_named(&rig.manager, FILM, 1).await;
            let records = rig.world.journal().records_of(FILM);
            assert_eq!(records.len(), 1, "{control}, {fault:?}: {records:#?}");
            assert_eq!(records[0].status, 304);
            rig.manager.shutdown().await;
        }
        // Nor where nothing can be connected to, which is known after a while and told at once.
        let rig = setup.start().await;
        rig.world.cut_line();
        for _ in 0..10 {
            let error = rig.manager.open(resource(FILM), WHOLE).await.err().unwrap();
            assert!(
                matches!(error, OpenError::Unconfirmed { .. }),
                "{control}: {error:?}"
            );
            sleep(Duration::from_secs(1)).await; // why: virtual time, until it counts as out of reach
        }
        rig.manager.shutdown().await;
        setup.world.mend_line();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_while_somebody_waits_for_a_confirmation_is_not_served_as_it_was() {
    for is_begun_anew in [false, true] {
        let rig = both_cached().await.start().await;
        rig.world.fault(FILM, When::Next, Fault::StallBeforeHead);
        let manager = rig.manager.clone();
        let viewer = tokio::spawn(async move { read_named(&manager, FILM, 2).await });
        sleep(Duration::from_millis(500)).await; // why: virtual time, the question is on its way
        rig.world.set_version(FILM, 2);
        rig.manager.invalidate(&key(FILM)).await.unwrap();
        if is_begun_anew {
            read_named(&rig.manager, FILM, 2).await;
        }
        viewer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_must_wait_for_a_confirmation_wait_for_the_same_one() {
    let rig = cached_with("no-cache").await.start().await;
    rig.world.fault(FILM, When::Always, Fault::StallBeforeHead);
    let asked = Instant::now();
    let mut openers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let manager = rig.manager.clone();
        openers.spawn(async move { manager.open(resource(FILM), WHOLE).await.err().unwrap() });
    }
    while let Some(error) = openers.join_next().await {
        let error = error.unwrap();
        assert!(matches!(error, OpenError::Unconfirmed { .. }), "{error:?}");
    }
    assert!(
        asked.elapsed() < Duration::from_secs(11),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
}

/// RFC 9111, 4.4: whoever changed a file through the cache does not get what it was before.
#[tokio::test(start_paused = true)]
async fn what_was_changed_through_the_cache_is_not_served_before_its_origin_has_spoken() {
    let rig = both_cached().await.start().await;
    read_named(&rig.manager, FILM, 1).await;
    rig.world.set_version(FILM, 2);
    rig.manager.invalidate(&key(FILM)).await.unwrap();
    rig.world.fault(FILM, When::Next, Fault::status(500));
    let error = rig.manager.open(resource(FILM), WHOLE).await.err().unwrap();
    assert!(matches!(error, OpenError::Unconfirmed { .. }), "{error:?}");
    rig.world.fault(FILM, When::Next, Fault::StallBeforeHead);
    let released = tokio::spawn({
        let world = rig.world.clone();
        async move {
            sleep(Duration::from_secs(5)).await; // why: virtual time, an origin that thinks about it
            world.release();
        }
    });
    let took = read_named(&rig.manager, FILM, 2).await;
    assert!(took >= Duration::from_secs(5), "{took:?}");
    released.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_a_change_says_nothing_of_what_came_after() {
    let rig = both_cached().await.start().await;
    rig.world.fault(FILM, When::Next, Fault::StallBeforeHead);
    // The origin has made up its mind, and its answer is on its way for long.
    read_named(&rig.manager, FILM, 1).await;
    rig.world.set_version(FILM, 2);
    rig.manager.invalidate(&key(FILM)).await.unwrap();
    rig.world.release();
    sleep(Duration::from_secs(1)).await; // why: virtual time, until that answer is here
    let records = rig.world.journal().records_of(FILM);
    assert_eq!(records[0].status, 304, "{records:#?}");
    read_named(&rig.manager, FILM, 2).await;
}
