//! What an origin can do wrong, and what readers see of it.

mod support;

use std::time::Duration;

use chunk_manager::{EntryState, First, OpenError, Priority, ReadError};
use chunk_ports::{Resource, Secret};
use chunk_testkit::origin::{Cut, Fault, OriginObject, TagKind, When, verify_content};
use support::*;
use tokio::time::{Instant, sleep};

const BLOCK: u64 = 64 * 1024;
/// Longer than an entry stays open without readers.
const UNTIL_CLOSED: Duration = Duration::from_secs(130);

fn whole() -> First {
    First::Span {
        start: 0,
        end: None,
    }
}

#[tokio::test(start_paused = true)]
async fn fault01_one_200_to_a_range_costs_nobody_a_wrong_byte() {
    let rig = setup(4 * MIB).start().await;
    let mut opened = rig.open(0, Some(1)).await;
    read_exact(&mut opened.reader, 1, 1).await;
    rig.world.fault(FILM, When::Next, Fault::IgnoreRange);
    let mut far = rig.open(3 * MIB + 7, None).await;
    assert_eq!(read_to_end(&mut far.reader, 1).await, MIB - 7);
}

#[tokio::test(start_paused = true)]
async fn fault01_many_readers_of_an_origin_without_ranges_share_one_fetch() {
    let setup = setup(8 * MIB);
    setup
        .world
        .put(OriginObject::new(FILM, 8 * MIB).without_ranges());
    let rig = setup.start().await;
    let mut readers = tokio::task::JoinSet::new();
    for start in [0, 0, 1, MIB, 5 * MIB + 3, 8 * MIB - 1, 2 * MIB, 7 * MIB] {
        let manager = rig.manager.clone();
        readers.spawn(async move {
            let first = First::Span { start, end: None };
            let mut opened = manager.open(resource(FILM), first).await.unwrap();
            assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB - start);
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_is_streamed_to_all_and_kept_once_complete() {
    let setup = setup(3 * MIB + 5);
    setup
        .world
        .put(OriginObject::new(FILM, 3 * MIB + 5).without_ranges());
    setup.world.fault(FILM, When::Always, Fault::Chunked);
    let rig = setup.start().await;
    let mut first = rig.open(0, None).await;
    let mut second = rig.open(0, None).await;
    assert_eq!(first.entry.total_len(), None);
    let (a, b) = tokio::join!(
        read_to_end(&mut first.reader, 1),
        read_to_end(&mut second.reader, 1)
    );
    assert_eq!((a, b), (3 * MIB + 5, 3 * MIB + 5));
    assert_eq!(first.entry.total_len(), Some(3 * MIB + 5));
    drop((first, second));
    rig.manager.shutdown().await;

    let again = setup.start().await;
    let mut opened = again.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 3 * MIB + 5);
    assert_eq!(again.world.journal().bytes_of(FILM), 3 * MIB + 5);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_that_is_cut_is_never_taken_for_the_whole() {
    let setup = setup(3 * MIB);
    setup
        .world
        .put(OriginObject::new(FILM, 3 * MIB).without_ranges());
    setup.world.fault(FILM, When::Always, Fault::Chunked);
    let cut = Fault::CutAfter {
        bytes: MIB + 1,
        how: Cut::Reset,
    };
    setup.world.fault(FILM, When::Always, cut);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    let asked = Instant::now();
    read_exact(&mut opened.reader, 1, MIB + 1).await;
    let error = opened.reader.next(1).await.unwrap_err();
    assert!(matches!(error, ReadError::Failed(_)), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(60));
    assert_eq!(opened.entry.total_len(), None);
    rig.world.clear_faults(FILM);
    drop(opened);
    rig.manager.shutdown().await;

    let again = setup.start().await;
    let mut opened = again.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 3 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault03_a_cut_body_goes_on_at_the_very_byte() {
    for k in [
        0,
        1,
        2,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        2 * BLOCK,
        100_000,
        MIB - 1,
    ] {
        for how in [Cut::Close, Cut::Reset] {
            let rig = setup(MIB).start().await;
            rig.world
                .fault(FILM, When::Next, Fault::CutAfter { bytes: k, how });
            let mut opened = rig.open(0, None).await;
            assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB, "cut at {k}");
            assert_eq!(rig.world.journal().bytes_of(FILM), MIB, "cut at {k}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault04_what_is_longer_than_promised_is_cut() {
    let rig = setup(MIB).start().await;
    for by in [1, BLOCK] {
        rig.world
            .fault(FILM, When::Always, Fault::LongerThanLength { by });
    }
    let mut opened = rig.open(1_000, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB - 1_000);
}

#[tokio::test(start_paused = true)]
async fn fault05_a_new_version_ends_the_old_one_at_its_first_missing_byte() {
    let setup = setup(64 * MIB);
    let rig = setup.start().await;
    let mut old = rig.open(0, Some(2 * MIB)).await;
    assert_eq!(read_to_end(&mut old.reader, 1).await, 2 * MIB);
    let mut cached = old.entry.reader(0, None);
    sleep(Duration::from_secs(2)).await;
    rig.world.set_version(FILM, 2);

    let mut missing = old.entry.reader(40 * MIB, None);
    let error = missing.next(1).await.unwrap_err();
    assert!(matches!(error, ReadError::Changed), "{error:?}");
    assert!(matches!(missing.next(1).await, Err(ReadError::Changed)));

    // Whoever opens it now gets the new one from its first byte to its last.
    let mut new = rig.open(0, None).await;
    read_exact(&mut new.reader, 2, 4 * MIB).await;
    sleep(Duration::from_secs(2)).await;
    // What is cached of the old one is still read by those who had it open.
    read_exact(&mut cached, 1, 2 * MIB).await;
    loop {
        let at = cached.position();
        match cached.next(1 << 20).await {
            Ok(bytes) => verify_content(FILM, 1, at, &bytes.unwrap()).unwrap(),
            Err(error) => {
                assert!(matches!(error, ReadError::Changed), "{error:?}");
                break;
            }
        }
    }
    drop((old, cached, missing));
    sleep(Duration::from_secs(2)).await;
    assert!(rig.store.retired_generations().await.unwrap().is_empty());
    assert_eq!(rig.bytes.generations().await.unwrap().len(), 1);
    drop(new);

    // A second report of the first change must not cost the new version its place.
    sleep(UNTIL_CLOSED).await;
    let before = rig.world.journal().bytes_of(FILM);
    let mut again = rig.open(0, Some(4 * MIB)).await;
    assert_eq!(read_to_end(&mut again.reader, 2).await, 4 * MIB);
    let cost = rig.world.journal().bytes_of(FILM) - before;
    // What a cut left of a block, which is not recorded.
    assert!(cost <= BLOCK, "{cost} bytes for what was cached");
}

#[tokio::test(start_paused = true)]
async fn fault06_without_a_strong_validator_nothing_is_used_again() {
    let weak = OriginObject::new(FILM, MIB)
        .tag(TagKind::Weak)
        .last_modified(None);
    let none = OriginObject::new(FILM, MIB).without_validators();
    let strong = OriginObject::new(FILM, MIB);
    let by_time = OriginObject::new(FILM, MIB).tag(TagKind::Absent);
    for (object, expected) in [(weak, 2), (none, 2), (strong, 1), (by_time, 1)] {
        for restart in [false, true] {
            let setup = setup(MIB);
            setup.world.put(object.clone());
            let mut rig = setup.start().await;
            let mut opened = rig.open(0, None).await;
            assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
            drop(opened);
            if restart {
                rig.manager.shutdown().await;
                rig = setup.start().await;
            } else {
                sleep(UNTIL_CLOSED).await;
            }
            let mut opened = rig.open(0, None).await;
            assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
            let bytes = rig.world.journal().bytes_of(FILM);
            assert_eq!(bytes / MIB, expected, "{object:?}, restart: {restart}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault09_a_refusal_is_told_at_once_and_remembered_shortly() {
    for status in [404, 410, 403, 400, 405, 409, 451] {
        let rig = setup(MIB).start().await;
        rig.world.fault(FILM, When::Always, Fault::status(status));
        let asked = Instant::now();
        for _ in 0..5 {
            let error = rig.manager.open(resource(FILM), whole()).await.unwrap_err();
            assert_eq!(refused_with(&error), Some(status), "{error:?}");
        }
        assert!(asked.elapsed() < Duration::from_millis(200));
        assert_eq!(rig.world.journal().requests_of(FILM), 1);

        rig.world.clear_faults(FILM);
        sleep(Duration::from_secs(11)).await;
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
    }
}

#[tokio::test(start_paused = true)]
async fn fault09_a_refusal_keeps_what_is_cached() {
    for status in [404, 403, 400, 451] {
        let setup = setup(MIB);
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        read_to_end(&mut opened.reader, 1).await;
        drop(opened);
        rig.manager.shutdown().await;

        let rig = setup.start().await;
        rig.world.fault(FILM, When::Always, Fault::status(status));
        rig.world.journal().clear();
        for _ in 0..5 {
            let error = rig.manager.open(resource(FILM), whole()).await.unwrap_err();
            assert_eq!(refused_with(&error), Some(status), "{error:?}");
        }
        assert_eq!(rig.world.journal().requests_of(FILM), 1);
        rig.world.clear_faults(FILM);
        sleep(Duration::from_secs(11)).await; // why: virtual time, longer than a refusal is remembered
        let mut opened = rig.open(0, None).await;
        assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
        let again = rig.world.journal().bytes_of(FILM);
        assert_eq!(again, 0, "cached bytes were given up for a {status}");
    }
}

/// A signature that ran out is the origin's answer to that URL; the entry is another matter.
#[tokio::test(start_paused = true)]
async fn fault09_trap17_a_403_to_an_old_signature_ends_with_the_next_one() {
    let setup = setup(MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;

    let rig = setup.start().await;
    rig.world.fault(FILM, When::Next, Fault::status(403));
    rig.world.journal().clear();
    let signed = |signature: &str| {
        Resource::new(key(FILM), Secret::new(format!("/{FILM}?token={signature}")))
    };
    let old = rig.manager.open(signed("old"), whole()).await.unwrap_err();
    assert_eq!(refused_with(&old), Some(403), "{old:?}");
    let mut opened = rig.manager.open(signed("new"), whole()).await.unwrap();
    assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
    assert_eq!(rig.world.journal().bytes_of(FILM), 0);
    assert_eq!(rig.world.journal().requests_of(FILM), 2);
}

/// The status of a refusal that is the origin's own, for good.
const fn refused_with(error: &OpenError) -> Option<u16> {
    match error {
        OpenError::NotFound { status }
        | OpenError::Denied { status, .. }
        | OpenError::Rejected { status, .. } => Some(*status),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn fault10_retry_after_is_waited_out() {
    for status in [429, 503] {
        let rig = setup(MIB).start().await;
        rig.world
            .fault(FILM, When::Next, Fault::retry_after(status, "7"));
        let asked = Instant::now();
        let mut opened = rig.open(0, None).await;
        read_exact(&mut opened.reader, 1, 1).await;
        let waited = asked.elapsed();
        assert!(waited >= Duration::from_secs(7), "{waited:?}");
        assert!(waited <= Duration::from_secs(9), "{waited:?}");
        assert_eq!(rig.world.journal().requests_of(FILM), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn fault11_an_origin_out_of_reach_is_reported_in_bounded_time() {
    let rig = setup(MIB).start().await;
    rig.world.fault(FILM, When::Always, Fault::NoAnswer);
    let asked = Instant::now();
    let error = rig.manager.open(resource(FILM), whole()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable), "{error:?}");
    assert!(
        asked.elapsed() <= Duration::from_secs(15),
        "{:?}",
        asked.elapsed()
    );
    assert!(rig.world.journal().requests_of(FILM) <= 6, "no back-off");
    rig.world.clear_faults(FILM);
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB);
}

#[tokio::test(start_paused = true)]
async fn fault11_what_is_cached_is_served_while_the_origin_is_away() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(2 * MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;

    let rig = setup.start().await;
    rig.world.fault(FILM, When::Always, Fault::NoAnswer);
    let asked = Instant::now();
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 2 * MIB).await;
    assert!(
        asked.elapsed() <= Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    let mut far = rig.open(6 * MIB, None).await;
    let error = far.reader.next(1).await.unwrap_err();
    assert!(
        matches!(error, ReadError::Failed(OpenError::Unreachable)),
        "{error:?}"
    );
    assert!(
        asked.elapsed() <= Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    rig.world.clear_faults(FILM);
    // A failure that is over is not reported to who reads on much later.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(read_to_end(&mut far.reader, 1).await, 2 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_happened_while_nobody_waited_is_tried_again() {
    let rig = setup(8 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1).await;
    let cut = Fault::CutAfter {
        bytes: 0,
        how: Cut::Reset,
    };
    let mut other = rig.open(6 * MIB, None).await;
    rig.world.fault(FILM, When::Always, cut);
    sleep(Duration::from_secs(20)).await;
    // Whatever became of the read-ahead meanwhile, the origin works again when the bytes are asked for.
    rig.world.clear_faults(FILM);
    read_exact(&mut other.reader, 1, 1).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 8 * MIB - 1);
}

#[tokio::test(start_paused = true)]
async fn fault13_a_stalled_transfer_goes_on_elsewhere() {
    let rig = setup(4 * MIB).start().await;
    rig.world
        .fault(FILM, When::Next, Fault::StallAfter { bytes: 300_000 });
    let asked = Instant::now();
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 4 * MIB);
    // A third of a second of bytes, and what is late is asked for again, long before the stall counts as a failure.
    assert!(
        asked.elapsed() <= Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    // The stalled transfer is cut with nothing on its way; the one tried beside it, in a piece.
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world).min(62_500);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
}

#[tokio::test(start_paused = true)]
async fn fault13_a_seek_away_from_a_stalled_transfer_does_not_wait_for_it() {
    let rig = setup(64 * MIB).start().await;
    rig.world
        .fault(FILM, When::Next, Fault::StallAfter { bytes: 300_000 });
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 300_000).await;
    sleep(Duration::from_millis(100)).await;
    for target in [350_000, 40 * MIB, 299_999] {
        let asked = Instant::now();
        opened.reader.seek_to(target);
        if target == 350_000 {
            continue;
        }
        read_exact(&mut opened.reader, 1, 1).await;
        assert!(
            asked.elapsed() <= Duration::from_millis(60),
            "{:?}",
            asked.elapsed()
        );
    }
    let mut other = rig.open(50 * MIB, None).await;
    read_exact(&mut other.reader, 1, 1).await;
    assert_eq!(rig.manager.statistics().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn fault14_a_login_page_is_no_content() {
    let rig = setup(MIB).start().await;
    rig.world.fault(FILM, When::Always, Fault::LoginPage);
    let error = rig.manager.open(resource(FILM), whole()).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn fault14_a_login_page_leaves_the_cached_file_alone() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(2 * MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    rig.world.fault(FILM, When::Always, Fault::LoginPage);
    let mut far = rig.open(6 * MIB, None).await;
    let error = far.reader.next(1).await.unwrap_err();
    assert!(
        matches!(error, ReadError::Failed(OpenError::Refused { .. })),
        "{error:?}"
    );
    drop((opened, far));
    rig.manager.shutdown().await;

    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(2 * MIB)).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 2 * MIB);
    rig.world.clear_faults(FILM);
    let mut whole = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut whole.reader, 1).await, 8 * MIB);
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world).min(62_500);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
}

#[tokio::test(start_paused = true)]
async fn fault05_a_durable_request_goes_on_with_the_new_version() {
    let rig = setup(20 * MIB).start().await;
    let cut = Fault::CutAfter {
        bytes: 3 * MIB,
        how: Cut::Reset,
    };
    rig.world.fault(FILM, When::Next, cut);
    rig.world.fault(FILM, When::Nth(2), Fault::NewVersion(2));
    rig.manager
        .prefetch(resource(FILM), Priority::Medium)
        .await
        .unwrap();
    // Nobody reads it, and nobody opens it again.
    sleep(Duration::from_secs(60)).await;
    let status = rig.manager.entry_status(&key(FILM)).await.unwrap().unwrap();
    assert_eq!(status.state, EntryState::Complete, "{status:?}");
    assert!(rig.store.jobs().await.unwrap().is_empty());
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 2).await, 20 * MIB);
    assert_eq!(rig.bytes.generations().await.unwrap().len(), 1);
}
