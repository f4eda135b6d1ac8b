//! What every answer obeys.

use std::time::Duration;

use chunk_core::ETag;
use chunk_manager::{First, ManagerError, OpenError, ReadError};
use chunk_ports::{RefusalFields, Secret};
use proptest::prelude::*;

use super::film::{Event, Film, MODIFIED, bytes};
use super::player::Player;
use super::{play, proxy_with};
use crate::config::{Mount, PartitionKey, ProxyConfig};

#[tokio::test(start_paused = true)]
async fn every_field_of_a_plain_answer() {
    let answer = play(&Film::new(1000)).get("/film.mp4", &[]).await;
    assert_eq!((answer.status(), answer.whole), (200, true));
    let expected = [
        ("content-length", "1000"),
        ("content-type", "video/mp4"),
        ("accept-ranges", "bytes"),
        ("etag", "\"v1\""),
        ("last-modified", MODIFIED),
        ("age", "5"),
        ("cache-control", "max-age=60"),
    ];
    for (name, value) in expected {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
    assert!(answer.field("date").is_some());
    assert_eq!(answer.field("warning"), None);
    assert_eq!(answer.body, bytes(0, 1000));
}

#[tokio::test(start_paused = true)]
async fn trap12_a_suffix_is_the_end_and_past_the_end_is_a_416() {
    let film = Film::new(1000);
    let mut player = play(&film);
    let answer = player.get("/f", &["Range: bytes=-500"]).await;
    assert_eq!((answer.status(), answer.body), (206, bytes(500, 1000)));
    assert_eq!(film.journal()[0], Event::Opened(First::Suffix { len: 500 }));
    for range in [
        "bytes=5000-6000",
        "bytes=1000-",
        "bytes=-0",
        "bytes=18446744073709551615-",
    ] {
        let answer = player.get("/f", &[&format!("Range: {range}")]).await;
        assert_eq!(answer.status(), 416, "{range}");
        assert_eq!(
            answer.field("content-range"),
            Some("bytes */1000"),
            "{range}"
        );
        // It names the version it is about, so that a player can tell a shorter file from another one.
        assert_eq!(answer.field("etag"), Some("\"v1\""), "{range}");
        assert_eq!(answer.field("last-modified"), Some(MODIFIED), "{range}");
        assert_eq!(answer.field("accept-ranges"), Some("bytes"), "{range}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_ranges_come_in_the_order_asked() {
    let film = Film::new(1000);
    let answer = play(&film).get("/f", &["Range: bytes=2000-,-2,0-2"]).await;
    assert_eq!(answer.status(), 206);
    let boundary = answer
        .field("content-type")
        .unwrap()
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let mut expected = format!(
        "--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes 998-999/1000\r\n\r\n"
    )
    .into_bytes();
    expected.extend(bytes(998, 1000));
    expected.extend(
        format!(
            "\r\n--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-2/1000\r\n\r\n"
        )
        .into_bytes(),
    );
    expected.extend(bytes(0, 3));
    expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    assert_eq!(answer.body, expected);
    // Each range is wanted only when its turn comes.
    assert_eq!(
        film.journal()[2..],
        [
            Event::Reading(998, Some(1000)),
            Event::ReaderGone(1000),
            Event::Reading(0, Some(3)),
            Event::ReaderGone(3),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn head_has_the_fields_of_a_get_and_reads_nothing() {
    let film = Film::new(1000);
    let mut player = play(&film);
    let head = player.head("/f", &["Range: bytes=0-1"]).await;
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("1000"))
    );
    assert_eq!(film.journal(), [Event::Opened(First::Nothing)]);
    // The connection is where it should be for the next answer.
    assert_eq!(
        player.get("/f", &["Range: bytes=0-1"]).await.body,
        bytes(0, 2)
    );
    let head = play(&Film::new(1000).endless()).head("/f", &[]).await;
    assert_eq!((head.status, head.field("content-length")), (200, None));
}

#[tokio::test(start_paused = true)]
async fn not_modified_beats_range_and_holds_no_reader() {
    let film = Film::new(1000);
    let mut player = play(&film);
    let answer = player
        .get("/f", &["If-None-Match: W/\"v1\"", "Range: bytes=0-1"])
        .await;
    assert_eq!(
        (answer.status(), answer.field("etag")),
        (304, Some("\"v1\""))
    );
    assert_eq!(answer.field("content-length"), None);
    let answer = player
        .get("/f", &["If-None-Match: \"v1\"", "Range: bytes=9999-"])
        .await;
    assert_eq!(answer.status(), 304);
    assert_eq!(
        player
            .get("/f", &[&format!("If-Modified-Since: {MODIFIED}")])
            .await
            .status(),
        304
    );
    assert_eq!(film.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_version_in_if_range_gives_the_whole() {
    let film = Film::new(1000);
    let mut player = play(&film);
    for validator in ["\"v0\"", "W/\"v1\"", "Sun, 06 Nov 1994 08:49:38 GMT"] {
        let answer = player
            .get(
                "/f",
                &[&format!("If-Range: {validator}"), "Range: bytes=10-20"],
            )
            .await;
        assert_eq!(
            (answer.status(), answer.body),
            (200, bytes(0, 1000)),
            "{validator}"
        );
    }
    let answer = player
        .get("/f", &["If-Range: \"v1\"", "Range: bytes=10-20"])
        .await;
    assert_eq!((answer.status(), answer.body), (206, bytes(10, 21)));
}

#[tokio::test(start_paused = true)]
async fn a_made_tag_works_in_both_directions() {
    let film = Film::new(1000).with_facts(|facts| {
        facts.validators.served = ETag::parse("\"made\"");
        facts.validators.origin = ETag::parse("W/\"o\"");
    });
    let mut player = play(&film);
    assert_eq!(player.get("/f", &[]).await.field("etag"), Some("\"made\""));
    assert_eq!(
        player
            .get("/f", &["If-None-Match: \"made\""])
            .await
            .status(),
        304
    );
    assert_eq!(
        player.get("/f", &["If-None-Match: W/\"o\""]).await.status(),
        304
    );
    assert_eq!(
        player.get("/f", &["If-Match: \"made\""]).await.status(),
        200
    );
    assert_eq!(player.get("/f", &["If-Match: W/\"o\""]).await.status(), 412);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_length_is_chunked_and_has_no_ranges() {
    let film = Film::new(300_000).endless();
    let mut player = play(&film);
    let answer = player.get("/live", &["Range: bytes=100-"]).await;
    assert_eq!(
        (answer.status(), answer.field("transfer-encoding")),
        (200, Some("chunked"))
    );
    assert_eq!(
        (
            answer.field("accept-ranges"),
            answer.field("content-length")
        ),
        (Some("none"), None)
    );
    assert!(answer.whole);
    assert_eq!(answer.body, bytes(0, 300_000));
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_an_empty_200() {
    let mut player = play(&Film::new(0));
    let answer = player.get("/empty", &[]).await;
    assert_eq!(
        (
            answer.status(),
            answer.field("content-length"),
            answer.whole
        ),
        (200, Some("0"), true)
    );
    assert_eq!(
        player.get("/empty", &["Range: bytes=0-"]).await.status(),
        416
    );
    // An origin that says 416 to whatever it is asked about an empty file.
    let stubborn = Film::new(0).refusing(OpenError::Unsatisfiable { total_len: Some(0) });
    let answer = play(&stubborn).get("/empty", &[]).await;
    assert_eq!(
        (answer.status(), answer.field("content-length")),
        (200, Some("0"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_head_goes_out_before_the_first_byte_is_there() {
    let film = Film::new(1000).holding_at(0);
    let mut player = play(&film);
    player.ask("GET", "/f", &["Range: bytes=0-99"]).await;
    let head = player.answer_head().await.unwrap();
    assert_eq!(
        (head.status, head.field("content-length")),
        (206, Some("100"))
    );
    film.release(50);
    assert_eq!(
        player.take(50).await,
        (bytes(0, 50), true),
        "bytes go out as they come"
    );
    film.release(1000);
    assert_eq!(player.take(50).await, (bytes(50, 100), true));
}

#[tokio::test(start_paused = true)]
async fn fault05_a_body_that_breaks_is_cut_and_never_ends_cleanly() {
    for error in [
        ReadError::Changed,
        ReadError::Failed(OpenError::Unreachable),
        ReadError::Closed,
    ] {
        let film = Film::new(100_000).failing_at(70_000, error.clone());
        let answer = play(&film).get("/f", &[]).await;
        assert!(!answer.whole, "{error}");
        assert_eq!(answer.body, bytes(0, 70_000), "what came is good");
        let endless = Film::new(100_000).failing_at(70_000, error).endless();
        let answer = play(&endless).get("/f", &[]).await;
        assert_eq!((answer.whole, answer.body), (false, bytes(0, 70_000)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_shorter_than_promised_is_cut_too() {
    let film = Film::new(1000).with_facts(|facts| facts.total_len = Some(2000));
    let answer = play(&film).get("/f", &[]).await;
    assert_eq!((answer.whole, answer.body), (false, bytes(0, 1000)));
}

#[tokio::test(start_paused = true)]
async fn why_an_entry_cannot_be_opened_decides_the_status() {
    let reason = || "https://origin.example/?token=s3cret".to_owned();
    let busy = |status, after| OpenError::Busy {
        status,
        retry_after: after,
    };
    let told = RefusalFields {
        retry_after: Some(Duration::from_millis(6001)),
        allow: Some("PUT".to_owned()),
        challenge: Some(Secret::new("Basic realm=\"s3cret\"")),
    };
    let away = OpenError::Away {
        retry_after: Duration::from_millis(29_001),
    };
    let unconfirmed = |retry_after| OpenError::Unconfirmed { retry_after };
    let denied = |status| OpenError::Denied {
        status,
        told: RefusalFields::default(),
    };
    let rejected = |status| OpenError::Rejected {
        status,
        told: told.clone(),
    };
    let table = [
        (OpenError::NotFound { status: 404 }, 404, None),
        (OpenError::NotFound { status: 410 }, 410, None),
        (denied(401), 401, None),
        (denied(403), 403, None),
        (denied(407), 502, None),
        (rejected(400), 400, Some("7")),
        (rejected(405), 405, Some("7")),
        (rejected(409), 409, Some("7")),
        (rejected(451), 451, Some("7")),
        // About the request we made, or the way there.
        (rejected(411), 502, Some("7")),
        (rejected(412), 502, Some("7")),
        (rejected(417), 502, Some("7")),
        (rejected(421), 502, Some("7")),
        (rejected(426), 502, Some("7")),
        (rejected(431), 502, Some("7")),
        (busy(429, Some(Duration::from_secs(7))), 429, Some("7")),
        (busy(429, None), 429, Some("1")),
        (busy(408, None), 503, Some("1")),
        (busy(503, Some(Duration::from_secs(7))), 503, Some("7")),
        (busy(500, None), 503, Some("1")),
        (OpenError::Unreachable, 502, None),
        (away, 502, Some("30")),
        (OpenError::Timeout, 504, None),
        (unconfirmed(Some(Duration::from_secs(7))), 504, Some("7")),
        (unconfirmed(None), 504, Some("1")),
        (OpenError::Refused { reason: reason() }, 502, None),
        (OpenError::Forbidden { reason: reason() }, 502, None),
        (OpenError::Manager(ManagerError::Closed), 503, Some("1")),
        (OpenError::Manager(ManagerError::NoSuchEntry), 500, None),
    ];
    for (error, status, retry_after) in table {
        let film = Film::new(1000).refusing(error.clone());
        let answer = play(&film).get("/f", &["Range: bytes=0-1"]).await;
        assert_eq!(
            (answer.status(), answer.field("retry-after")),
            (status, retry_after),
            "{error:?}"
        );
        assert!(answer.text().ends_with('\n') && answer.text().lines().count() == 1);
        assert!(!answer.text().contains("s3cret"), "{}", answer.text());
        assert_eq!(answer.field("www-authenticate"), None);
        assert_eq!(answer.field("allow"), (status == 405).then_some("PUT"));
        assert_eq!(play(&film).head("/f", &[]).await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn fault48_a_challenge_reaches_only_whose_credentials_reach_the_origin() {
    let challenge = "Basic realm=\"films\"";
    let told = RefusalFields {
        challenge: Some(Secret::new(challenge)),
        ..RefusalFields::default()
    };
    let forwarding = Mount::unnamed().forwarding_authorization(PartitionKey::new([7; 32]));
    for (mount, status, expected) in [
        (forwarding.clone(), 401, Some(challenge)),
        (forwarding, 403, None),
        (Mount::unnamed(), 401, None),
    ] {
        let told = told.clone();
        let film = Film::new(1000).refusing(OpenError::Denied { status, told });
        let proxy = proxy_with(&film, ProxyConfig::new(vec![mount]));
        let answer = Player::connect(&proxy).get("/f", &[]).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("www-authenticate"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_answers_many_requests_even_pipelined() {
    let film = Film::new(1000);
    let mut player = play(&film);
    for range in ["0-0", "1-1", "2-2"] {
        player
            .ask("GET", "/f", &[&format!("Range: bytes={range}")])
            .await;
    }
    for offset in 0..3 {
        assert_eq!(player.answer().await.body, bytes(offset, offset + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_counted() {
    let film = Film::new(1000);
    let proxy = super::proxy(&film);
    let mut player = Player::connect(&proxy);
    player.get("/f", &["Range: bytes=0-9"]).await;
    player.get("/f", &["Range: bytes=5000-"]).await;
    drop(player);
    let statistics = proxy.statistics();
    assert_eq!(statistics.answers, [0, 1, 0, 1, 0]);
    assert_eq!(statistics.first_byte.buckets[0].1, 2);
    assert_eq!(
        (statistics.accepted, statistics.abandoned, statistics.broken),
        (1, 0, 0)
    );
}

/// What a client makes of an answer: which bytes of the file, at which offsets.
pub(super) fn understood(answer: &super::player::Answer) -> Vec<(u64, Vec<u8>)> {
    let start = |value: &str| -> u64 {
        let range = value.strip_prefix("bytes ").unwrap();
        range.split('-').next().unwrap().parse().unwrap()
    };
    if let Some(value) = answer.field("content-range") {
        return vec![(start(value), answer.body.clone())];
    }
    let kind = answer.field("content-type").unwrap();
    let Some(boundary) = kind.strip_prefix("multipart/byteranges; boundary=") else {
        return vec![(0, answer.body.clone())];
    };
    let mut rest = answer.body.as_slice();
    let mut parts = Vec::new();
    let delimiter = format!("--{boundary}");
    let find =
        |text: &[u8], what: &[u8]| text.windows(what.len()).position(|window| window == what);
    loop {
        rest = &rest[find(rest, delimiter.as_bytes()).unwrap() + delimiter.len()..];
        if rest == b"--\r\n" {
            return parts;
        }
        let head_end = find(rest, b"\r\n\r\n").unwrap() + 4;
        let head = str::from_utf8(&rest[..head_end]).unwrap();
        let value = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Range: "))
            .unwrap();
        let len = find(&rest[head_end..], format!("\r\n{delimiter}").as_bytes()).unwrap();
        parts.push((start(value), rest[head_end..head_end + len].to_vec()));
        rest = &rest[head_end + len..];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn fault34_whatever_the_range_the_bytes_are_the_files(
        len in 0u64..3000,
        range in prop_oneof![
            "bytes=[0-9]{1,4}-[0-9]{0,4}",
            "bytes=-[0-9]{1,4}",
            "bytes=([0-9]{1,3}-[0-9]{4},){1,9}[0-9]{1,4}-",
            "(bytes|items)?=?[-0-9, ]{0,30}",
        ],
        unranged in proptest::bool::weighted(0.1),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let answer = runtime.block_on(async {
            let film = Film::new(len).with_facts(|facts| facts.ranges = !unranged);
            play(&film).get("/f", &[&format!("Range: {range}")]).await
        });
        prop_assert!(answer.whole);
        match answer.status() {
            416 => {
                let size = format!("bytes */{len}");
                prop_assert_eq!(answer.field("content-range"), Some(size.as_str()));
            }
            200 => prop_assert_eq!(&answer.body, &bytes(0, len)),
            206 => {
                let parts = understood(&answer);
                let total: usize = parts.iter().map(|(_, part)| part.len()).sum();
                prop_assert!(total as u64 <= len, "more bytes than the file has");
                for (start, part) in parts {
                    prop_assert!(!part.is_empty());
                    prop_assert_eq!(&part, &bytes(start, start + part.len() as u64));
                }
            }
            other => prop_assert!(false, "status {}", other),
        }
    }
}
