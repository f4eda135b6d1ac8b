//! Pages in HTML that come in place of a file: for a while, or for good.

mod support;

use std::time::Duration;

use chunk_manager::{OpenError, ReadError};
use chunk_testkit::origin::{Fault, OriginObject, TagKind, When};
use support::*;
use tokio::time::sleep;

/// A file that may become a page: nothing in its name says that it never will.
fn file() -> OriginObject {
    OriginObject::new(FILM, 4 * MIB).content_type("application/octet-stream")
}

fn page() -> OriginObject {
    file().version(2).content_type("text/html; charset=utf-8")
}

/// With the file cached by a manager that has been shut down.
async fn cached(object: OriginObject) -> Setup {
    let setup = setup(0);
    setup.world.put(object);
    let rig = setup.start().await;
    read(&rig, 1).await;
    rig.manager.shutdown().await;
    setup.world.journal().clear();
    setup
}

async fn read(rig: &Rig, version: u64) {
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, version).await, 4 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault14_a_page_that_is_still_there_after_a_minute_is_what_the_file_is_now() {
    for tag in [TagKind::Strong, TagKind::Absent] {
        let setup = cached(file()).await;
        setup.world.put(page().tag(tag));
        let rig = setup.start().await;
        for _ in 0..50 {
            read(&rig, 1).await;
            sleep(Duration::from_secs(1)).await; // why: virtual time, a viewer that comes each second
        }
        assert_eq!(rig.world.journal().requests_of(FILM), 1);
        // Nobody comes when it is asked for again.
        sleep(Duration::from_secs(20)).await; // why: virtual time, the rest of the minute
        let records = rig.world.journal().records_of(FILM);
        // The third one brings the page's beginning.
        assert_eq!(records.len(), 3, "{records:#?}");
        for field in ["if-none-match", "if-modified-since", "if-range"] {
            assert!(records[1].header(field).is_none(), "asked under {field}");
        }
        read(&rig, 2).await;
        assert!(rig.world.journal().requests_of(FILM) <= 4);
    }
}

#[tokio::test(start_paused = true)]
async fn fault14_a_page_comes_true_in_any_session_that_is_long_enough() {
    let setup = cached(file()).await;
    setup.world.put(page());
    for seconds in [1, 30, 59, 70] {
        let rig = setup.start().await;
        read(&rig, 1).await;
        sleep(Duration::from_secs(seconds)).await; // why: virtual time, the length of a session
        rig.manager.shutdown().await;
    }
    read(&setup.start().await, 2).await;
}

#[tokio::test(start_paused = true)]
async fn fault14_a_page_that_goes_away_costs_nothing() {
    let setup = cached(file()).await;
    setup.world.put(page());
    let rig = setup.start().await;
    for second in 0..200 {
        read(&rig, 1).await;
        if second == 40 {
            setup.world.put(file());
        }
        sleep(Duration::from_secs(1)).await; // why: virtual time, a viewer that comes each second
    }
    let records = rig.world.journal().records_of(FILM);
    assert_eq!(records.len(), 2, "asked twice, and confirmed: {records:#?}");
    let bytes = rig.world.journal().bytes_of(FILM);
    assert!(bytes <= 2 * 64 * 1024, "{bytes} bytes came for questions");
}

#[tokio::test(start_paused = true)]
async fn fault14_a_page_that_is_another_one_each_time_is_never_believed() {
    for tag in [TagKind::Strong, TagKind::Weak, TagKind::Absent] {
        let setup = cached(file()).await;
        let rig = setup.start().await;
        for minute in 0..10_u64 {
            // Of the same length each time.
            let page = page().version(2 + minute).tag(tag.clone());
            setup.world.put(page.last_modified(None));
            for _ in 0..6 {
                read(&rig, 1).await;
                sleep(Duration::from_secs(10)).await; // why: virtual time, a viewer that comes now and then
            }
        }
        let asked = rig.world.journal().requests_of(FILM);
        assert!(
            (5..=11).contains(&asked),
            "{asked} questions in ten minutes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault14_what_is_named_like_a_film_never_becomes_a_page() {
    let setup = cached(OriginObject::new(FILM, 4 * MIB)).await;
    let rig = setup.start().await;
    rig.world.fault(FILM, When::Always, Fault::LoginPage);
    for _ in 0..60 {
        read(&rig, 1).await;
        sleep(Duration::from_secs(10)).await; // why: virtual time, a viewer that comes now and then
    }
    let asked = rig.world.journal().requests_of(FILM);
    assert!(
        (5..=11).contains(&asked),
        "{asked} questions in ten minutes"
    );
    rig.world.clear_faults(FILM);
    sleep(Duration::from_secs(61)).await; // why: virtual time, until it is asked again
    read(&rig, 1).await;
    sleep(Duration::from_secs(1)).await; // why: virtual time, the answer
    let asked = rig.world.journal().requests_of(FILM);
    sleep(Duration::from_secs(61)).await; // why: virtual time, as long as an answer was waited for
    read(&rig, 1).await;
    // Confirmed, in the session before or in this one.
    assert!(rig.world.journal().requests_of(FILM) <= asked + 1);
}

#[tokio::test(start_paused = true)]
async fn fault14_a_page_that_a_reader_meets_half_way_is_asked_for_again_as_well() {
    let setup = setup(0);
    setup.world.put(file());
    let rig = setup.start().await;
    // In steady use, so that no new session asks.
    let mut steady = rig.open(0, Some(MIB)).await;
    assert_eq!(read_to_end(&mut steady.reader, 1).await, MIB);
    rig.world.put(page());
    let mut far = rig.open(3 * MIB, None).await;
    let error = far.reader.next(1).await.unwrap_err();
    assert!(
        matches!(error, ReadError::Failed(OpenError::Refused { .. })),
        "{error:?}"
    );
    let mut here = rig.open(0, Some(MIB)).await;
    assert_eq!(read_to_end(&mut here.reader, 1).await, MIB);
    sleep(Duration::from_secs(61)).await; // why: virtual time, until it is asked for again
    read(&rig, 2).await;
}
