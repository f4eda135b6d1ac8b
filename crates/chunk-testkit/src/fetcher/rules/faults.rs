//! What holds of an origin that does something wrong, by the number of the fault.

use std::time::Duration;

use chunk_ports::{
    ChunkFetcher, Condition, FetchError, FetchOutcome, RangeSupport, RefusalFields, Secret, Wanted,
};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::{
    FILM, LEN, PLANTED, asked, assert_bytes, body, continued, drain, failure, film, soon, span,
};
use crate::origin::{
    Cut, Fault, OriginObject, OriginWorld, TagKind, When, content, verify_content,
};

/// An ignored range is mapped from 0, never to where the range would have been.
pub async fn fault01_a_200_to_a_range_starts_at_0_and_says_so<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::IgnoreRange);
    for condition in [Condition::Any, Condition::Continue(film())] {
        let fetched = body(fetcher, continued(5000, 6000, condition)).await;
        assert_eq!(fetched.ranges, RangeSupport::Ignored);
        assert_eq!(fetched.end, Some(LEN));
        assert_bytes(fetched, 1, 0, LEN).await;
    }
}

/// A part is used only where it says that it is the one asked for.
pub async fn fault02_a_part_with_a_wrong_or_no_range_is_refused<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let said = |text: &str| Fault::ContentRange(text.to_owned());
    for fault in [
        Fault::StartLater { by: 1 },
        Fault::NoContentRange,
        said("bytes 199-100/300007"),
        said("bytes 0-99/300007"),
        said("bytes 100-300007/300007"),
        said("bytes 100-200/300007"),
        said("bytes 100-199/150"),
        said("items 100-199/300007"),
        said("bytes */300007"),
        said("nonsense"),
    ] {
        world.fault(FILM, When::Next, fault.clone());
        let error = failure(fetcher, span(100, 200)).await;
        assert!(
            matches!(error, FetchError::Refused { .. }),
            "{fault:?}: {error:?}"
        );
        assert!(!error.is_retryable());
    }
    world.fault(FILM, When::Next, Fault::StartLater { by: 1 });
    let suffix = asked(Wanted::Suffix { len: 100 }, Condition::Any);
    // One byte fewer of the end is still the end.
    assert_bytes(body(fetcher, suffix).await, 1, LEN - 99, LEN).await;
    world.fault(FILM, When::Next, said("bytes 0-99/300007"));
    let suffix = asked(Wanted::Suffix { len: 100 }, Condition::Any);
    let error = failure(fetcher, suffix).await;
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
}

/// The total counts among what tells two files apart.
pub async fn trap10_a_part_of_another_file_is_not_continued<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::WrongTotal(LEN + 1));
    let error = failure(fetcher, continued(100, 200, Condition::Continue(film()))).await;
    let FetchError::Changed { now } = error else {
        panic!("{error:?}");
    };
    assert_eq!(now.total_len, Some(LEN + 1));
}

/// What came before the cut is good, and the rest begins exactly there.
pub async fn fault03_short_body_is_interrupted_and_resumed_exactly<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let (start, end) = (1000, 140_000);
    for bytes in [0, 1, 64_535, 64_536, 64_537, 65_536, end - start - 1] {
        for how in [Cut::Close, Cut::Reset] {
            world.fault(FILM, When::Next, Fault::CutAfter { bytes, how });
            let request = continued(start, end, Condition::Any);
            let (mut got, error) = match soon(fetcher.fetch(request)).await {
                Ok(FetchOutcome::Body(fetched)) => drain(fetched).await,
                // A reset may overtake the head.
                Err(error) => (Vec::new(), Some(error)),
                Ok(other) => panic!("{other:?}"),
            };
            let error = error.expect("a short body is not the whole of it");
            assert!(error.is_retryable(), "{error:?}");
            if how == Cut::Close {
                assert!(matches!(error, FetchError::Interrupted(_)), "{error:?}");
                assert_eq!(got.len() as u64, bytes);
            }
            assert!(got.len() as u64 <= bytes);
            let resumed = start + got.len() as u64;
            let rest = body(
                fetcher,
                continued(resumed, end, Condition::Continue(film())),
            )
            .await;
            let (rest, error) = drain(rest).await;
            assert!(error.is_none(), "{error:?}");
            got.extend_from_slice(&rest);
            assert_eq!(got.len() as u64, end - start);
            assert_eq!(verify_content(FILM, 1, start, &got), Ok(()));
        }
    }
}

/// A part whose framing tells no length still has the one of its `Content-Range`.
pub async fn fault03_a_part_that_closes_early_is_interrupted<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::UntilClose);
    assert_bytes(body(fetcher, span(100, 200)).await, 1, 100, 200).await;
    let (bytes, how) = (50, Cut::Close);
    world.fault(FILM, When::Next, Fault::CutAfter { bytes, how });
    let (bytes, error) = drain(body(fetcher, span(100, 200)).await).await;
    assert_eq!(bytes, content(FILM, 1, 100, 50));
    assert!(
        matches!(error, Some(FetchError::Interrupted(_))),
        "{error:?}"
    );
}

/// Bytes beyond the promise never reach the caller, and the next exchange is not confused by them.
pub async fn fault04_a_longer_body_is_cut<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for by in [1, 100_000] {
        for fault in [
            Fault::LongerThanRange { by },
            Fault::LongerThanLength { by },
        ] {
            world.fault(FILM, When::Next, fault);
            assert_bytes(body(fetcher, span(100, 5000)).await, 1, 100, 5000).await;
            assert_bytes(body(fetcher, span(7, 9)).await, 1, 7, 9).await;
        }
    }
}

/// Each of the three alone ends the version that was being read.
pub async fn fault05_another_tag_time_or_length_is_a_change<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let base = || OriginObject::new(FILM, LEN);
    let untagged = || base().tag(TagKind::Absent);
    for (before, after) in [
        (base(), base().tag(TagKind::Fixed("\"other\"".to_owned()))),
        (untagged(), untagged().last_modified(Some(1_700_000_060))),
        (
            base().without_validators(),
            OriginObject::new(FILM, LEN + 1).without_validators(),
        ),
        (
            base(),
            base()
                .without_validators()
                .last_modified(Some(1_800_000_000)),
        ),
        // A part that names no tag is not one of a file that has one.
        (base(), base().without_validators()),
    ] {
        world.put(after.clone());
        for ignored in [
            None,
            Some(Fault::IgnoreRange),
            Some(Fault::IgnoreConditions),
        ] {
            world.clear_faults(FILM);
            if let Some(ignored) = ignored {
                world.fault(FILM, When::Next, ignored);
            }
            let condition = Condition::Continue(before.representation());
            let error = failure(fetcher, continued(100, 200, condition)).await;
            let FetchError::Changed { now } = error else {
                panic!("{after:?}: {error:?}");
            };
            assert_eq!(now.etag, after.representation().etag);
        }
    }
}

/// `If-Range` carries a strong validator or nothing; a weak one is compared, not trusted.
pub async fn fault06_weak_validators_are_not_sent_as_if_range<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let base = || OriginObject::new(FILM, LEN);
    let modified = 1_700_000_000;
    for (object, sent) in [
        (base(), base().etag()),
        (base().tag(TagKind::Weak), None),
        (base().without_validators(), None),
        (
            base().tag(TagKind::Absent),
            Some("Tue, 14 Nov 2023 22:13:20 GMT".to_owned()),
        ),
        // Modified in the very second of the answer: it may have been modified again since.
        (base().tag(TagKind::Absent).date(modified), None),
    ] {
        world.put(object.clone());
        let first = body(fetcher, span(0, 10)).await;
        assert_eq!(first.representation, object.representation());
        let condition = Condition::Continue(first.representation);
        assert_bytes(body(fetcher, continued(10, 20, condition)).await, 1, 10, 20).await;
        let record = world.journal().last().unwrap();
        assert_eq!(record.header("if-range"), sent.as_deref(), "{object:?}");
    }
    assert!(
        !base()
            .tag(TagKind::Weak)
            .last_modified(None)
            .representation()
            .is_reusable()
    );
}

/// Bytes in another coding or with boundaries between them have other offsets.
pub async fn fault07_coded_and_multipart_answers_are_refused<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for fault in [Fault::Gzip, Fault::Multipart] {
        world.fault(FILM, When::Next, fault.clone());
        let error = failure(fetcher, span(0, 100)).await;
        assert!(
            matches!(error, FetchError::Refused { .. }),
            "{fault:?}: {error:?}"
        );
    }
    world.fault(FILM, When::Next, Fault::IgnoreRange);
    world.fault(FILM, When::Always, Fault::Gzip);
    let error = failure(fetcher, span(0, 100)).await;
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
}

/// An origin that answers HEAD with an error is as good as any.
pub async fn fault08_head_is_never_asked<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for status in [403, 405, 500] {
        world.fault(FILM, When::Always, Fault::HeadStatus(status));
    }
    assert_bytes(body(fetcher, span(0, 100)).await, 1, 0, 100).await;
    let records = world.journal().records();
    assert!(records.iter().all(|record| record.method == "GET"));
}

/// Final answers are told as what they are.
pub async fn fault09_missing_and_denied_are_told_at_once<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for wanted in [401, 403, 404, 407, 410] {
        world.fault(FILM, When::Next, Fault::status(wanted));
        let error = failure(fetcher, span(0, 100)).await;
        assert!(!error.is_retryable());
        match error {
            FetchError::NotFound { status } => {
                assert!(matches!(status, 404 | 410) && status == wanted);
            }
            FetchError::Denied { status, .. } => {
                assert!(matches!(status, 401 | 403 | 407) && status == wanted);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Every other refusal keeps its status; one that asks for patience is one to come back after.
pub async fn fault09_other_refusals_keep_their_status<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    for wanted in [400, 402, 405, 406, 409, 412, 418, 423, 431, 451] {
        world.fault(FILM, When::Next, Fault::status(wanted));
        let error = failure(fetcher, span(0, 100)).await;
        assert!(!error.is_retryable(), "{error:?}");
        let FetchError::Rejected { status, told } = error else {
            panic!("{error:?} for {wanted}");
        };
        assert_eq!((status, told), (wanted, RefusalFields::default()));
    }
    for wanted in [408, 425, 429] {
        world.fault(FILM, When::Next, Fault::status(wanted));
        let error = failure(fetcher, span(0, 100)).await;
        assert!(error.is_retryable(), "{error:?}");
    }
}

/// What a refusal says for whoever asked comes with it, and what it asks credentials with is not printed.
pub async fn fault09_a_refusal_tells_what_else_it_says<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let challenge = format!("Digest nonce=\"{PLANTED}\"");
    let fields = [
        ("Retry-After", "30"),
        ("Allow", "PUT"),
        ("WWW-Authenticate", challenge.as_str()),
        ("Set-Cookie", "a=b"),
    ];
    for status in [401, 405] {
        let headers = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let fault = Fault::Status {
            status,
            headers: headers.to_vec(),
            body: "a page".to_owned(),
        };
        world.fault(FILM, When::Next, fault);
        let error = failure(fetcher, span(0, 100)).await;
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains(PLANTED), "{printed}");
        let (FetchError::Denied { told, .. } | FetchError::Rejected { told, .. }) = error else {
            panic!("{error:?} for {status}");
        };
        let expected = RefusalFields {
            retry_after: Some(Duration::from_secs(30)),
            allow: Some("PUT".to_owned()),
            challenge: Some(Secret::new(challenge.as_str())),
        };
        assert_eq!(told, expected);
    }
}

/// `Retry-After` reaches the caller.
pub async fn fault10_patience_is_told<F: ChunkFetcher + ?Sized>(fetcher: &F, world: &OriginWorld) {
    for (status, said, wait) in [
        (429, "7", Some(7)),
        (503, "120", Some(120)),
        (503, "x", None),
    ] {
        world.fault(FILM, When::Next, Fault::retry_after(status, said));
        let error = failure(fetcher, span(0, 100)).await;
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), wait.map(Duration::from_secs));
    }
    world.fault(FILM, When::Next, Fault::status(500));
    let error = failure(fetcher, span(0, 100)).await;
    assert!(
        matches!(error, FetchError::Busy { status: 500, .. }),
        "{error:?}"
    );
}

/// Bytes that do not come are given up after the timeout, not before and not much later.
pub async fn fault13_a_stall_ends_at_the_progress_timeout<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::StallAfter { bytes: 1000 });
    let fetched = body(fetcher, span(0, 100_000)).await;
    let began = Instant::now();
    let (bytes, error) = drain(fetched).await;
    assert_eq!(bytes, content(FILM, 1, 0, 1000));
    assert!(matches!(error, Some(FetchError::Stalled)), "{error:?}");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(12),
        "{took:?}"
    );
    soon(
        world
            .journal()
            .wait_until(|journal| journal.in_flight() == 0),
    )
    .await;
}

/// A byte every four seconds is a stall too.
pub async fn fault13_a_byte_now_and_then_is_no_progress<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::Drip { gap_ms: 4000 });
    let began = Instant::now();
    let (bytes, error) = drain(body(fetcher, span(0, 100_000)).await).await;
    assert!(matches!(error, Some(FetchError::Stalled)), "{error:?}");
    assert_eq!(verify_content(FILM, 1, 0, &bytes), Ok(()));
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(15), "{took:?}");
}

/// A reader that pauses does not lose its transfer.
pub async fn fault13_time_without_polling_does_not_count<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::StallAfter { bytes: 1000 });
    let mut fetched = body(fetcher, span(0, 2000)).await;
    let mut got = Vec::new();
    while got.len() < 1000 {
        got.extend_from_slice(&soon(fetched.body.next()).await.unwrap().unwrap());
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    world.release();
    let (rest, error) = drain(fetched).await;
    assert!(error.is_none(), "{error:?}");
    got.extend_from_slice(&rest);
    assert_eq!(got, content(FILM, 1, 0, 2000));
}

/// A caller that goes away with a byte and comes back has only waited while it waited.
pub async fn fault13_time_between_polls_is_not_waiting<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::Drip { gap_ms: 2000 });
    let mut fetched = body(fetcher, span(0, 100_000)).await;
    soon(fetched.body.next()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    for _ in 0..2 {
        let item = soon(fetched.body.next()).await.unwrap();
        assert!(item.is_ok(), "{item:?}");
    }
}

/// An answer that does not begin is given up in bounded time.
pub async fn fault13_a_silent_origin_is_given_up<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Next, Fault::StallBeforeHead);
    let began = Instant::now();
    let error = failure(fetcher, span(0, 100)).await;
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
    assert!(
        began.elapsed() <= Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
}

/// A page in place of a film is a change or a refusal, whatever its status.
pub async fn fault14_a_login_page_is_not_content<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    world.fault(FILM, When::Always, Fault::LoginPage);
    let error = failure(fetcher, span(0, 100)).await;
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    for condition in [Condition::Continue(film()), Condition::IfChanged(film())] {
        let error = failure(fetcher, continued(0, 100, condition)).await;
        let FetchError::Changed { now } = error else {
            panic!("{error:?}");
        };
        assert!(now.content_type.unwrap().starts_with("text/html"));
    }
}

/// Not in the text of an error, not in its causes, not in what is printed to debug it.
pub async fn fault48_no_error_tells_the_target<F: ChunkFetcher + ?Sized>(
    fetcher: &F,
    world: &OriginWorld,
) {
    let cut = |how| Fault::CutAfter { bytes: 10, how };
    let leading = format!("http://169.254.169.254/{PLANTED}");
    for fault in [
        Fault::status(404),
        Fault::status(403),
        Fault::status(503),
        Fault::status(418),
        Fault::NoContentRange,
        Fault::Gzip,
        Fault::NoAnswer,
        Fault::LoginPage,
        Fault::StallBeforeHead,
        Fault::StallAfter { bytes: 10 },
        Fault::redirect(leading),
        cut(Cut::Close),
        cut(Cut::Reset),
    ] {
        world.fault(FILM, When::Next, fault.clone());
        let error = match soon(fetcher.fetch(span(0, 100))).await {
            Ok(FetchOutcome::Body(fetched)) => drain(fetched).await.1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => Some(error),
        };
        let error = error.expect("each of them is a failure");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(told) = cause {
            let text = format!("{told} {told:?}");
            assert!(!text.contains(PLANTED), "{fault:?}: {text}");
            assert!(!text.contains(FILM), "{fault:?}: {text}");
            cause = told.source();
        }
    }
}
