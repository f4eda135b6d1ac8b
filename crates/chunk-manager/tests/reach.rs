//! An origin that cannot be connected to: what it costs those who come later, and that nobody else pays.

mod support;

use std::time::Duration;

use chunk_manager::{First, OpenError, Opened, ReadError};
use chunk_testkit::origin::{Cut, Fault, OriginObject, When};
use support::*;
use tokio::time::{Instant, sleep};

const OTHER: &str = "other.mkv";

fn whole() -> First {
    First::Span {
        start: 0,
        end: None,
    }
}

async fn rig() -> Rig {
    let setup = setup(8 * MIB);
    setup.world.put(OriginObject::new(OTHER, MIB));
    setup.start().await
}

async fn open(rig: &Rig, name: &str) -> (Result<Opened, OpenError>, Duration) {
    let asked = Instant::now();
    let opened = rig.manager.open(resource(name), whole()).await;
    (opened, asked.elapsed())
}

/// Lets the first to come find out that the origin is gone.
async fn fail_once(rig: &Rig) {
    rig.world.cut_line();
    let (opened, took) = open(rig, "first.mkv").await;
    let error = opened.err().unwrap();
    let is_away = matches!(error, OpenError::Away { .. } | OpenError::Unreachable);
    assert!(is_away, "{error:?}");
    assert!(
        took >= Duration::from_secs(3),
        "its tries were cut short: {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn fault11_only_the_first_pays_for_an_origin_that_is_gone() {
    let rig = rig().await;
    fail_once(&rig).await;
    let mut tries = rig.world.unconnected();
    assert!(tries <= 6, "{tries}");
    let mut waited = Duration::ZERO;
    for _ in 0..100 {
        let (opened, took) = open(&rig, OTHER).await;
        let error = opened.err().unwrap();
        let OpenError::Away { retry_after } = error else {
            panic!("{error:?}");
        };
        assert!(took < Duration::from_millis(10), "{took:?}");
        assert!(retry_after <= Duration::from_secs(30), "{retry_after:?}");
        // Whoever does as told is the one who looks, with one try.
        sleep(retry_after).await; // why: virtual time, what the error asks for
        waited += retry_after;
        assert!(rig.world.unconnected() <= tries + 1);
        tries = rig.world.unconnected();
    }
    assert!(
        waited > Duration::from_secs(1000),
        "no back-off: {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn fault11_an_origin_that_is_back_is_found_by_the_next_look() {
    let rig = rig().await;
    fail_once(&rig).await;
    let (opened, _) = open(&rig, OTHER).await;
    let Err(OpenError::Away { retry_after }) = opened else {
        panic!("{opened:?}");
    };
    rig.world.mend_line();
    sleep(retry_after).await; // why: virtual time, what the error asks for
    let opened = open(&rig, OTHER).await.0.unwrap();
    // Where one got through, all do.
    let mut film = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut film.reader, 1).await, 8 * MIB);
    drop(opened);
}

#[tokio::test(start_paused = true)]
async fn fault11_one_looks_while_the_others_are_told_at_once() {
    let rig = rig().await;
    fail_once(&rig).await;
    sleep(Duration::from_secs(30)).await; // why: virtual time, longer than the first pauses
    let before = rig.world.unconnected();
    rig.world.mend_line();
    rig.world.fault(OTHER, When::Always, Fault::StallBeforeHead);
    let manager = rig.manager.clone();
    let looks = tokio::spawn(async move { manager.open(resource(OTHER), whole()).await });
    rig.world
        .journal()
        .wait_until(|journal| journal.requests_of(OTHER) == 1)
        .await;
    for name in [FILM, OTHER, "third.mkv"] {
        let (opened, took) = open(&rig, name).await;
        assert!(matches!(opened, Err(OpenError::Away { .. })), "{opened:?}");
        assert!(took < Duration::from_millis(10), "{took:?}");
    }
    rig.world.release();
    looks.await.unwrap().unwrap();
    assert_eq!(rig.world.unconnected(), before);
}

#[tokio::test(start_paused = true)]
async fn fault11_cached_bytes_are_served_at_once_while_an_origin_is_gone() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(2 * MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;

    // Nothing of it is confirmed in this session.
    let rig = setup.start().await;
    fail_once(&rig).await;
    let before = rig.world.unconnected();
    for _ in 0..20 {
        let asked = Instant::now();
        let mut opened = rig.open(0, Some(2 * MIB)).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB);
        assert!(
            asked.elapsed() < Duration::from_millis(100),
            "{:?}",
            asked.elapsed()
        );
        sleep(Duration::from_secs(5)).await; // why: virtual time, several pauses
    }
    let looks = rig.world.unconnected() - before;
    assert!((3..=8).contains(&looks), "{looks} looks in 100 s");

    // A place of the file that is not here needs the origin.
    let far = First::Span {
        start: 6 * MIB,
        end: None,
    };
    let error = rig.manager.open(resource(FILM), far).await.unwrap_err();
    assert!(matches!(error, OpenError::Away { .. }), "{error:?}");

    // Once it is back, the entry is confirmed after all, and goes on.
    rig.world.mend_line();
    rig.world.journal().clear();
    for _ in 0..10 {
        let mut opened = rig.open(0, Some(MIB)).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
        sleep(Duration::from_secs(5)).await; // why: virtual time, so that a look is due
    }
    let requests = rig.world.journal().requests_of(FILM);
    assert_eq!(requests, 1, "the look is a confirmation");
    let mut opened = rig.open(6 * MIB, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault11_who_is_in_the_middle_of_a_file_gets_all_tries() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    let how = Cut::Reset;
    rig.world
        .fault(FILM, When::Next, Fault::CutAfter { bytes: MIB, how });
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1).await;
    fail_once(&rig).await;
    let (refused, _) = open(&rig, OTHER).await;
    assert!(
        matches!(refused, Err(OpenError::Away { .. })),
        "{refused:?}"
    );

    // Its own fetch broke; it is tried again as if nobody else had failed, and in time.
    let before = rig.world.unconnected();
    read_exact(&mut opened.reader, 1, MIB - 1).await;
    let back = tokio::spawn({
        let world = rig.world.clone();
        async move {
            sleep(Duration::from_secs(2)).await; // why: virtual time, a server that restarts
            world.mend_line();
        }
    });
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 7 * MIB);
    back.await.unwrap();
    assert!(rig.world.unconnected() > before, "it did not need to try");
    // What it got is news for everybody.
    let (found, _) = open(&rig, FILM).await;
    found.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fault11_a_reader_that_gives_up_in_the_middle_says_so() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    rig.world.cut_line();
    let mut far = opened.entry.reader(6 * MIB, None);
    let asked = Instant::now();
    let error = far.next(1).await.unwrap_err();
    let is_unreachable = matches!(error, ReadError::Failed(OpenError::Unreachable));
    assert!(is_unreachable, "{error:?}");
    assert!(
        asked.elapsed() >= Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn fault11_an_origin_that_answers_anything_is_in_reach() {
    for fault in [Fault::status(404), Fault::status(503), Fault::NoAnswer] {
        let rig = rig().await;
        rig.world.fault("first.mkv", When::Always, fault);
        for _ in 0..3 {
            open(&rig, "first.mkv").await.0.unwrap_err();
        }
        open(&rig, OTHER).await.0.unwrap();
        assert_eq!(rig.world.unconnected(), 0);
    }
}
