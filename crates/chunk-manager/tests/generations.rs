//! Which bytes belong to one version of a file: those of two never meet.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_core::{CacheKey, Priority};
use chunk_manager::{First, ReadError};
use chunk_ports::{Resource, SegmentKey};
use chunk_testkit::origin::{Fault, OriginObject, TagKind, When};
use support::*;
use tokio::time::sleep;

/// Longer than an entry stays open without readers.
const UNTIL_CLOSED: Duration = Duration::from_secs(130);

/// Freshness lets bytes be given out unasked; it does not tell whose the missing ones are.
#[tokio::test(start_paused = true)]
async fn fault06_a_fresh_file_without_strong_validator_is_served_whole_or_begun_anew() {
    let fresh = || OriginObject::new(FILM, 4 * MIB).header("Cache-Control", "max-age=600");
    let weak = TagKind::Fixed("W/\"same\"".to_owned());
    let time = 1_700_000_000;
    for object in [
        fresh().without_validators(),
        fresh().tag(weak).last_modified(None),
        fresh().tag(TagKind::Absent).date(time),
    ] {
        for restart in [false, true] {
            for read in [MIB, 4 * MIB] {
                let setup = setup(0);
                setup.world.put(object.clone());
                let mut rig = setup.start().await;
                let mut opened = rig.open(0, Some(read)).await;
                assert_eq!(read_to_end(&mut opened.reader, 1).await, read);
                drop(opened);
                // The length stays, and so does what the origin says of it.
                rig.world.put(object.clone().version(2));
                if restart {
                    rig.manager.shutdown().await;
                    rig = setup.start().await;
                } else {
                    sleep(UNTIL_CLOSED).await; // why: virtual time, until the entry is closed
                }
                let kept = if read == 4 * MIB { 1 } else { 2 };
                for first in [0, 3 * MIB] {
                    let mut opened = rig.open(first, None).await;
                    let len = read_to_end(&mut opened.reader, kept).await;
                    assert_eq!(len, 4 * MIB - first, "{object:?}, restart: {restart}");
                }
            }
        }
    }
}

/// What was whole when it was taken up again may lose bytes; those of the next version do not fill the gap.
#[tokio::test(start_paused = true)]
async fn fault06_a_gap_in_a_file_without_strong_validator_ends_it() {
    let setup = setup(0);
    let object = OriginObject::new(FILM, 4 * MIB)
        .without_validators()
        .header("Cache-Control", "max-age=600");
    setup.world.put(object.clone());
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;
    setup.world.put(object.version(2));
    let record = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
    let lost = SegmentKey {
        generation: record.current.unwrap().id,
        segment: 2,
        epoch: 0,
    };
    setup.bytes.remove(vec![lost]).await.unwrap();

    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 2 * MIB).await;
    let error = opened.reader.next(1).await.unwrap_err();
    assert!(matches!(error, ReadError::Changed), "{error:?}");
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 2).await, 4 * MIB);
}

/// The operator's word stands in for the origin's.
#[tokio::test(start_paused = true)]
async fn fault06_an_immutable_origins_bytes_are_continued_without_validators() {
    let setup = setup(0);
    let object = OriginObject::new(FILM, 4 * MIB)
        .without_validators()
        .header("Cache-Control", "max-age=600");
    setup.world.put(object);
    for read in [1, 4] {
        let rig = setup
            .start_with(|builder| builder.immutable_origin(""))
            .await;
        let mut opened = rig.open(0, Some(read * MIB)).await;
        read_to_end(&mut opened.reader, 1).await;
        drop(opened);
        rig.manager.shutdown().await;
    }
    assert_eq!(setup.world.journal().bytes_of(FILM), 4 * MIB);
}

/// An origin that knows no `If-Range`, and whose next version has no tag, sends a part that could be anybody's.
#[tokio::test(start_paused = true)]
async fn fault05_a_part_that_names_no_tag_continues_nothing() {
    let rig = setup(4 * MIB).start().await;
    let mut opened = rig.open(0, Some(MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    let next = OriginObject::new(FILM, 4 * MIB).without_validators();
    rig.world.put(next.version(2));
    rig.world.fault(FILM, When::Always, Fault::IgnoreConditions);
    let mut old = rig.open(0, None).await;
    read_exact(&mut old.reader, 1, MIB).await;
    let error = old.reader.next(1).await.unwrap_err();
    assert!(matches!(error, ReadError::Changed), "{error:?}");
    let mut new = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut new.reader, 2).await, 4 * MIB);
}

/// RFC 9111, 4.3.3: bytes are the answer "something else", unless they are named as what is known.
#[tokio::test(start_paused = true)]
async fn fault05_bytes_confirm_nothing_but_what_they_name_strongly() {
    let tagged = || OriginObject::new(FILM, MIB);
    let timed = || tagged().tag(TagKind::Absent);
    let weak = || tagged().tag(TagKind::Fixed("W/\"same\"".to_owned()));
    let second = || tagged().without_validators().version(2);
    for (before, after, knows_conditions, expected) in [
        (tagged(), second(), true, 2),
        (tagged(), second(), false, 2),
        (timed(), second(), true, 2),
        (timed(), second(), false, 2),
        // Only the time has been strong, and it is gone.
        (weak(), weak().last_modified(None).version(2), false, 2),
        // What knows no conditions, and says the same, has the same.
        (tagged(), tagged(), false, 1),
        (timed(), timed(), false, 1),
        (weak(), weak(), false, 1),
    ] {
        let setup = setup(0);
        setup.world.put(before.clone());
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        read_to_end(&mut opened.reader, 1).await;
        drop(opened);
        rig.manager.shutdown().await;
        setup.world.put(after.clone());
        if !knows_conditions {
            let fault = Fault::IgnoreConditions;
            setup.world.fault(FILM, When::Always, fault);
        }
        setup.world.journal().clear();
        for _ in 0..2 {
            let rig = setup.start().await;
            let mut opened = rig.open(0, None).await;
            let len = read_to_end(&mut opened.reader, expected).await;
            assert_eq!(len, MIB, "{before:?} {after:?}");
            drop(opened);
            rig.manager.shutdown().await;
        }
        if expected == 1 {
            let again = setup.world.journal().bytes_of(FILM);
            assert!(again <= 2, "{again} bytes were fetched again");
        }
    }
}

/// RFC 9111, 4.4: a 304 to a weak tag would keep what was there before the change.
#[tokio::test(start_paused = true)]
async fn fault06_what_was_changed_under_a_weak_tag_begins_anew() {
    let object = || OriginObject::new(FILM, 2 * MIB);
    let weak = || object().tag(TagKind::Fixed("W/\"same\"".to_owned()));
    for (before, after, expected) in [
        (
            weak().last_modified(None),
            weak().last_modified(None).version(2),
            2,
        ),
        (weak(), weak().version(2), 2),
        (object(), object(), 1),
    ] {
        for is_open in [true, false] {
            let setup = setup(0);
            setup.world.put(before.clone());
            let rig = setup.start().await;
            let mut reading = rig.open(0, None).await;
            read_exact(&mut reading.reader, 1, MIB).await;
            let reading = is_open.then_some(reading);
            if reading.is_none() {
                sleep(UNTIL_CLOSED).await; // why: virtual time, until the entry is closed
            }
            setup.world.put(after.clone());
            setup.world.journal().clear();
            rig.manager.invalidate(&key(FILM)).await.unwrap();
            let mut opened = rig.open(0, None).await;
            let len = read_to_end(&mut opened.reader, expected).await;
            assert_eq!(len, 2 * MIB, "{before:?}");
            let asked = setup.world.journal().records_of(FILM);
            let is_confirmed = asked.iter().any(|record| record.status == 304);
            assert_eq!(is_confirmed, expected == 1, "{before:?}: {asked:#?}");
        }
    }
}

/// A name that stands for another place: the tag of the former one says nothing, and its bytes are nobody's stand-in.
#[tokio::test(start_paused = true)]
async fn fault45_a_moved_origin_lends_no_byte_to_the_next() {
    let setup = setup(0);
    let object = OriginObject::new(FILM, 4 * MIB).tag(TagKind::Fixed("\"same\"".to_owned()));
    let object = object.header("Cache-Control", "max-age=3600");
    setup.world.put(object.clone());
    let stayed = Arc::new(CacheKey::new("stays", &format!("/{FILM}"), &[""; 0]).unwrap());
    let whole = First::Span {
        start: 0,
        end: None,
    };
    for read in [MIB, 4 * MIB] {
        setup.world.put(object.clone());
        let rig = setup.start_with(|builder| builder.moved_origin("")).await;
        let mut opened = rig.open(0, Some(read)).await;
        read_to_end(&mut opened.reader, 1).await;
        let other = Resource::from_key(Arc::clone(&stayed));
        let mut other = rig.manager.open(other, whole).await.unwrap();
        read_to_end(&mut other.reader, 1).await;
        rig.manager.pin(&key(FILM), true).await.unwrap();
        drop((opened, other));
        rig.manager.shutdown().await;

        setup.world.put(object.clone().version(2));
        let rig = setup.start_with(|builder| builder.moved_origin("")).await;
        // The new place is down: the former one's bytes do not stand in for it.
        rig.world.cut_line();
        let opened = rig.manager.open(resource(FILM), whole).await;
        assert!(opened.is_err(), "{opened:?}");
        // Another name is another matter.
        let other = Resource::from_key(Arc::clone(&stayed));
        let mut other = rig.manager.open(other, whole).await.unwrap();
        assert_eq!(read_to_end(&mut other.reader, 1).await, 4 * MIB);
        rig.world.mend_line();
        sleep(Duration::from_secs(60)).await; // why: virtual time, until an origin out of reach is asked again
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 2).await, 4 * MIB);
        let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
        assert!(status.pinned, "{status:?}");
        drop((opened, other));
        rig.manager.shutdown().await;
        assert_eq!(setup.bytes.generations().await.unwrap().len(), 2);
    }
}

/// An order is for the file, wherever it is: what has come of it from the former place is asked for again.
#[tokio::test(start_paused = true)]
async fn fault45_an_order_begins_anew_where_its_origin_has_moved() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    let cut = Fault::StallAfter { bytes: 3 * MIB };
    rig.world.fault(FILM, When::Always, cut);
    rig.manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap();
    sleep(Duration::from_secs(5)).await; // why: virtual time, until what came is recorded
    rig.manager.shutdown().await;
    let record = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
    assert!(record.current.unwrap().recorded_bytes >= 2 * MIB);

    setup.world.clear_faults(FILM);
    setup.world.set_version(FILM, 2);
    let rig = setup.start_with(|builder| builder.moved_origin("")).await;
    sleep(Duration::from_secs(60)).await; // why: virtual time, until the order is done
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.recorded_bytes, 8 * MIB, "{status:?}");
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 2).await, 8 * MIB);
}
