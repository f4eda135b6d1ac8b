//! What holds of an origin that does everything right.

use std::time::Duration;

use chunk_ports::{ChunkFetcher, Condition, FetchError, FetchOutcome, RangeSupport, Wanted};
use futures_util::StreamExt;

use super::{FILM, LEN, asked, assert_bytes, body, continued, failure, film, soon, span};
use crate::origin::{Fault, OriginObject, OriginWorld, TagKind, When};

/// The bytes are those asked for, and the head tells length, validators and type.
pub async fn a_range_comes_right_and_says_what_it_is<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    _world: &OriginWorld,
) {
    for (start, end) in [(0, 1), (65_535, 65_537), (1000, 200_000), (LEN - 1, LEN)] {
        let fetched = body(fetcher, span(start, end)).await;
        assert_eq!(fetched.representation, film());
        assert_eq!(fetched.end, Some(end));
        assert_eq!(fetched.ranges, RangeSupport::Served);
        assert!(fetched.verdict.storable);
        assert_bytes(fetched, 1, start, end).await;
    }
}

/// A span without an end is the rest of the file.
pub async fn an_open_range_goes_to_the_end<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    _world: &OriginWorld,
) {
    for start in [0, 250_000] {
        let wanted = Wanted::Span { start, end: None };
        let fetched = body(fetcher, asked(wanted, Condition::Any)).await;
        assert_eq!(fetched.end, Some(LEN));
        assert_bytes(fetched, 1, start, LEN).await;
    }
}

/// The last n bytes are the last n bytes; more than there are is the whole file.
pub async fn trap12_a_suffix_is_the_end_of_the_file<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    _world: &OriginWorld,
) {
    for len in [1, 500, LEN, LEN + 1, u64::MAX] {
        let fetched = body(fetcher, asked(Wanted::Suffix { len }, Condition::Any)).await;
        assert_bytes(fetched, 1, LEN.saturating_sub(len), LEN).await;
    }
}

/// As many bytes as were asked for of the end tell the length, where the origin leaves it open.
pub async fn trap12_a_whole_suffix_tells_a_total_that_is_left_open<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::NoTotal);
    for len in [1, 500, LEN - 1] {
        let fetched = body(fetcher, asked(Wanted::Suffix { len }, Condition::Any)).await;
        assert_eq!(fetched.representation, film());
        assert_eq!(fetched.ranges, RangeSupport::Served);
        assert_bytes(fetched, 1, LEN - len, LEN).await;
    }
    assert_eq!(world.journal().requests(), 3);
}

/// A span past the end gives what is there.
pub async fn trap12_a_range_that_reaches_past_the_end_is_clipped<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    _world: &OriginWorld,
) {
    let fetched = body(fetcher, span(LEN - 10, LEN + 1000)).await;
    assert_eq!(fetched.end, Some(LEN));
    assert_bytes(fetched, 1, LEN - 10, LEN).await;
}

/// A span that starts past the end is an error that tells the length.
pub async fn trap12_a_range_past_the_end_is_unsatisfiable<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    _world: &OriginWorld,
) {
    for start in [LEN, LEN + 5000, u64::MAX - 1] {
        let error = failure(fetcher, span(start, u64::MAX)).await;
        let FetchError::Unsatisfiable { total_len } = error else {
            panic!("{error:?}");
        };
        assert_eq!(total_len, Some(LEN));
    }
}

/// No range of HTTP is empty or reversed; none is made up.
pub async fn an_empty_range_is_not_asked_for<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let empty = asked(Wanted::Suffix { len: 0 }, Condition::Any);
    for request in [span(5, 5), span(9, 5), empty] {
        let error = failure(fetcher, request).await;
        assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
    }
    assert_eq!(world.journal().requests(), 0);
}

/// No probe before, no retry after.
pub async fn one_call_is_one_request<F: ChunkFetcher + ?Sized>(fetcher: &F, world: &OriginWorld) {
    assert_bytes(body(fetcher, span(0, 10)).await, 1, 0, 10).await;
    assert_eq!(world.journal().requests(), 1);
    world.fault(FILM, When::Next, Fault::status(503));
    failure(fetcher, span(0, 10)).await;
    assert_eq!(world.journal().requests(), 2);
    world.fault(FILM, When::Next, Fault::NoAnswer);
    let error = failure(fetcher, span(0, 10)).await;
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(world.journal().requests(), 3);
}

/// Eight bodies read in turns are all right.
pub async fn concurrent_calls_do_not_disturb_each_other<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let calls = (0..8).map(async |n| {
        let start = n * 30_000;
        assert_bytes(
            body(fetcher, span(start, start + 40_000)).await,
            1,
            start,
            start + 40_000,
        )
        .await;
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(world.journal().requests(), 8);
    assert_eq!(world.journal().distinct_bytes_of(FILM), 250_000);
}

/// A short part is a part: the head says where it ends, and its end is no error.
pub async fn a_part_may_end_earlier_than_asked<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::EndEarlier { by: 400 });
    let fetched = body(fetcher, span(100, 1100)).await;
    assert_eq!(fetched.end, Some(700));
    assert_bytes(fetched, 1, 100, 700).await;
}

/// Chunked bodies end where they end, whether a part says its length or the whole does not.
pub async fn a_body_without_length_ends_well<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::Chunked);
    let part = body(fetcher, span(100, 5000)).await;
    assert_eq!(part.end, Some(5000));
    assert_bytes(part, 1, 100, 5000).await;
    world.fault(FILM, When::Always, Fault::IgnoreRange);
    world.fault(FILM, When::Always, Fault::Chunked);
    let whole = body(fetcher, span(100, 5000)).await;
    assert_eq!((whole.end, whole.representation.total_len), (None, None));
    assert_bytes(whole, 1, 0, LEN).await;
}

/// A server may answer `bytes=0-` with a 200: the bytes are the same. Whether it serves other ranges, it says.
pub async fn a_whole_that_was_asked_for_tells_nothing_against_ranges<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let everything = Wanted::Span {
        start: 0,
        end: None,
    };
    for condition in [Condition::Any, Condition::Continue(film())] {
        world.fault(FILM, When::Next, Fault::IgnoreRange);
        let fetched = body(fetcher, asked(everything, condition)).await;
        assert_eq!(fetched.ranges, RangeSupport::Claimed);
        assert_bytes(fetched, 1, 0, LEN).await;
    }
    world.put(OriginObject::new(FILM, LEN).without_ranges());
    let fetched = body(fetcher, asked(everything, Condition::Any)).await;
    assert_eq!(fetched.ranges, RangeSupport::Ignored);
}

/// `Cache-Control` decides what may be kept, and for how long.
pub async fn no_store_and_private_are_not_storable<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for (control, storable, seconds) in [
        ("no-store", false, 0),
        ("private, max-age=60", false, 0),
        ("max-age=60", true, 60),
    ] {
        world.put(OriginObject::new(FILM, LEN).header("Cache-Control", control));
        let verdict = body(fetcher, span(0, 10)).await.verdict;
        assert_eq!(verdict.storable, storable, "{control}");
        if storable {
            assert_eq!(
                verdict.fresh_for,
                Some(Duration::from_secs(seconds)),
                "{control}"
            );
        }
    }
}

/// Which answers may not be given out unconfirmed once they are no longer fresh (RFC 9111, 5.2.2).
pub async fn what_forbids_stale_answers_is_told<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for (control, expected) in [
        (None, None),
        (Some("max-age=60"), Some(false)),
        (Some("no-cache"), Some(true)),
        (Some("max-age=60, must-revalidate"), Some(true)),
        (Some("proxy-revalidate, max-age=60"), Some(true)),
        (Some("s-maxage=60"), Some(true)),
    ] {
        let mut object = OriginObject::new(FILM, LEN);
        if let Some(control) = control {
            object = object.header("Cache-Control", control);
        }
        let condition = Condition::IfChanged(object.representation());
        world.put(object);
        let verdict = body(fetcher, span(0, 10)).await.verdict;
        assert_eq!(verdict.must_revalidate, expected, "{control:?}");
        let outcome = soon(fetcher.fetch(continued(0, 1, condition))).await;
        let Ok(FetchOutcome::NotModified(verdict)) = outcome else {
            panic!("{control:?}: {outcome:?}");
        };
        assert_eq!(verdict.must_revalidate, expected, "{control:?}");
        assert_eq!(
            verdict.fresh_for.is_some(),
            control.is_some(),
            "{control:?}"
        );
    }
}

/// The same representation, by tag or by time, is confirmed without a byte.
pub async fn an_unchanged_file_is_confirmed<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for tag in [TagKind::Strong, TagKind::Weak, TagKind::Absent] {
        let object = OriginObject::new(FILM, LEN).tag(tag.clone());
        let condition = Condition::IfChanged(object.representation());
        world.put(object.header("Cache-Control", "max-age=60"));
        let outcome = soon(fetcher.fetch(continued(0, 100, condition))).await;
        let Ok(FetchOutcome::NotModified(verdict)) = outcome else {
            panic!("{tag:?}: {outcome:?}");
        };
        assert_eq!(verdict.fresh_for, Some(Duration::from_secs(60)));
    }
    assert_eq!(world.journal().bytes_of(FILM), 0);
}

/// Another representation comes at once, in the same exchange.
pub async fn a_changed_file_comes_with_its_bytes<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.set_version(FILM, 2);
    let request = continued(50, 100, Condition::IfChanged(film()));
    let fetched = body(fetcher, request).await;
    assert!(film().differs_from(&fetched.representation));
    assert_bytes(fetched, 2, 50, 100).await;
    assert_eq!(world.journal().requests(), 1);
}

/// The origin sees the end, and is not asked for the rest.
pub async fn dropping_a_body_ends_the_transfer<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::StallAfter { bytes: 1000 });
    let mut fetched = body(fetcher, span(0, 100_000)).await;
    soon(fetched.body.next()).await.unwrap().unwrap();
    assert_eq!(world.journal().in_flight(), 1);
    drop(fetched);
    soon(
        world
            .journal()
            .wait_until(|journal| journal.in_flight() == 0),
    )
    .await;
    assert!(world.journal().last().unwrap().ended_by_peer);
}

/// The same before the answer has begun.
pub async fn dropping_the_call_ends_the_transfer<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::StallBeforeHead);
    tokio::select! {
        outcome = fetcher.fetch(span(0, 100)) => panic!("{outcome:?}"),
        () = world.journal().wait_until(|journal| journal.in_flight() == 1) => {}
    }
    soon(
        world
            .journal()
            .wait_until(|journal| journal.in_flight() == 0),
    )
    .await;
    assert!(world.journal().last().unwrap().ended_by_peer);
}

/// The origin sends no more than fits in the transport's buffers.
pub async fn what_is_not_polled_is_not_read<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let len = 64 << 20;
    world.put(OriginObject::new(FILM, len));
    let mut fetched = body(fetcher, span(0, len)).await;
    soon(fetched.body.next()).await.unwrap().unwrap();
    // In paused time a second passes once nobody has anything left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = world.journal().bytes_of(FILM);
    assert!(
        sent < len / 2,
        "{sent} bytes were sent to a reader that took one piece"
    );
}
