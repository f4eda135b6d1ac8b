//! How real players ask, each as it does.

use chunk_manager::First;

use super::film::{Event, Film, MODIFIED, bytes};
use super::player::{Player, SOCKET};
use super::{play, proxy};

const MIB: u64 = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn ffmpeg_takes_64_kib_of_an_open_range_then_the_index_then_goes_on() {
    let film = Film::new(64 * MIB);
    let proxy = proxy(&film);

    let mut opening = Player::connect(&proxy);
    opening
        .ask(
            "GET",
            "/film.mp4",
            &["Range: bytes=0-", "User-Agent: Lavf/61"],
        )
        .await;
    let head = opening.answer_head().await.unwrap();
    assert_eq!(head.status, 206);
    assert_eq!(
        head.field("content-range"),
        Some("bytes 0-67108863/67108864")
    );
    assert_eq!(opening.take(64 * 1024).await, (bytes(0, 64 * 1024), true));
    drop(opening);

    // An open-ended range is no wish to download everything.
    film.until(|film| film.readers() == 0).await;
    let Some(Event::ReaderGone(read)) = film.journal().pop() else {
        panic!("the reader should be gone last")
    };
    assert!(
        read <= 2 * MIB,
        "{read} bytes were read for a client that took 64 KiB"
    );

    let mut index = Player::connect(&proxy);
    let answer = index.get("/film.mp4", &["Range: bytes=67000000-"]).await;
    assert_eq!((answer.status(), answer.whole), (206, true));
    assert_eq!(answer.body, bytes(67_000_000, 64 * MIB));

    let mut on = Player::connect(&proxy);
    on.ask("GET", "/film.mp4", &["Range: bytes=30000000-"])
        .await;
    assert_eq!(on.answer_head().await.unwrap().status, 206);
    assert_eq!(on.take(100_000).await.0, bytes(30_000_000, 30_100_000));
}

#[tokio::test(start_paused = true)]
async fn mpv_holds_one_response_open_by_back_pressure_for_hours() {
    let film = Film::new(4 * MIB);
    let mut player = play(&film);
    player
        .ask(
            "GET",
            "/film.mkv",
            &["Range: bytes=0-", "Connection: close"],
        )
        .await;
    assert_eq!(player.answer_head().await.unwrap().status, 206);
    assert_eq!(player.take(10_000).await.0, bytes(0, 10_000));
    // A blocked socket is a pause, not a dead client.
    tokio::time::advance(std::time::Duration::from_secs(6 * 3600)).await;
    assert_eq!(film.readers(), 1);
    let (rest, whole) = player.take(4 * MIB as usize - 10_000).await;
    assert!(whole);
    assert_eq!(rest, bytes(10_000, 4 * MIB));
}

#[tokio::test(start_paused = true)]
async fn vlc_goes_on_under_if_match_and_learns_the_size_from_a_416() {
    let film = Film::new(100_000);
    let mut player = play(&film);
    let answer = player.get("/film.mkv", &["Range: bytes=0-"]).await;
    let tag = answer.field("etag").unwrap().to_owned();
    // It strips a weak prefix and would be refused for ever; so the tag is strong.
    assert!(!tag.starts_with("W/"));
    let condition = format!("If-Match: {tag}");
    let answer = player
        .get("/film.mkv", &["Range: bytes=5000-", &condition])
        .await;
    assert_eq!(
        answer.field("content-range"),
        Some("bytes 5000-99999/100000")
    );
    assert_eq!(answer.body, bytes(5000, 100_000));

    let answer = player.get("/film.mkv", &["Range: bytes=100000-"]).await;
    assert_eq!(
        (answer.status(), answer.field("content-range")),
        (416, Some("bytes */100000"))
    );
    let past_the_end = First::Span {
        start: 100_000,
        end: None,
    };
    // The second time for what the file is, which takes none of its bytes.
    let opened = [past_the_end, First::Nothing].map(Event::Opened);
    assert!(film.journal().ends_with(&opened));

    let answer = player
        .get("/film.mkv", &["Range: bytes=0-", "If-Match: \"v0\""])
        .await;
    assert_eq!(answer.status(), 412);
    let unmodified = format!("If-Unmodified-Since: {MODIFIED}");
    assert_eq!(
        player
            .get("/film.mkv", &["Range: bytes=9-", &unmodified])
            .await
            .status(),
        206
    );
    let earlier = "If-Unmodified-Since: Sat, 05 Nov 1994 08:49:37 GMT";
    assert_eq!(
        player
            .get("/film.mkv", &["Range: bytes=9-", earlier])
            .await
            .status(),
        412
    );
}

#[tokio::test(start_paused = true)]
async fn vlc_gets_a_412_for_a_range_past_the_end_of_a_new_version() {
    let film = Film::new(1000);
    let answer = play(&film)
        .get("/f", &["Range: bytes=5000-", "If-Match: \"v0\""])
        .await;
    assert_eq!(answer.status(), 412);
}

#[tokio::test(start_paused = true)]
async fn gstreamer_asks_for_no_range_at_first() {
    let film = Film::new(100_000);
    let mut player = play(&film);
    let answer = player.get("/film.webm", &["icy-metadata: 1"]).await;
    assert_eq!(
        (answer.status(), answer.field("accept-ranges")),
        (200, Some("bytes"))
    );
    assert_eq!(answer.field("content-length"), Some("100000"));
    assert_eq!(answer.body, bytes(0, 100_000));
    let answer = player.get("/film.webm", &["Range: bytes=60000-"]).await;
    assert_eq!(
        (answer.status(), answer.body),
        (206, bytes(60_000, 100_000))
    );
}

#[tokio::test(start_paused = true)]
async fn chromium_parks_connections_and_they_cost_no_more_than_their_socket() {
    let film = Film::new(64 * MIB);
    let proxy = proxy(&film);
    let mut parked = Vec::new();
    for block in 0..32u64 {
        let mut player = Player::connect(&proxy);
        let range = format!("Range: bytes={}-", block * MIB);
        player.ask("GET", "/film.mp4", &[&range]).await;
        assert_eq!(player.answer_head().await.unwrap().status, 206);
        let (start, block_len) = (block * MIB, 32 * 1024);
        assert_eq!(
            player.take(block_len).await.0,
            bytes(start, start + block_len as u64)
        );
        parked.push(player);
    }
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(film.readers(), 32, "a parked connection is not a dead one");
    // One piece of 256 KiB under way and another behind it is all that a blocked socket holds.
    let sent = proxy.statistics().bytes_sent;
    assert!(
        sent <= 32 * (3 * 256 * 1024 + SOCKET as u64),
        "{sent} bytes for 32 parked clients"
    );
    drop(parked);
    film.until(|film| film.readers() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn safari_asks_for_two_bytes_and_only_two_are_wanted() {
    let film = Film::new(64 * MIB);
    let mut player = play(&film);
    let answer = player
        .get(
            "/film.mp4",
            &["Range: bytes=0-1", "X-Playback-Session-Id: 1"],
        )
        .await;
    assert_eq!((answer.status(), answer.body), (206, bytes(0, 2)));
    assert_eq!(
        answer.head.field("content-range"),
        Some("bytes 0-1/67108864")
    );
    assert_eq!(
        film.journal(),
        [
            Event::Opened(First::Span {
                start: 0,
                end: Some(2)
            }),
            Event::Reading(0, Some(2)),
            Event::ReaderGone(2),
        ]
    );
    // The last byte is a valid offset, which never gets a 416.
    let answer = player
        .get("/film.mp4", &["Range: bytes=67108863-67108863"])
        .await;
    assert_eq!(answer.status(), 206);
    let answer = player
        .get("/film.mp4", &["Range: bytes=67108863-99999999"])
        .await;
    assert_eq!((answer.status(), answer.body.len()), (206, 1));
}

#[tokio::test(start_paused = true)]
async fn fault37_a_scrubbing_storm_leaves_one_reader() {
    // No byte ever comes, so every request is abandoned while it waits.
    let film = Film::new(64 * MIB).holding_at(0);
    let proxy = proxy(&film);
    let mut last = None;
    for seek in 0..50u64 {
        let mut player = Player::connect(&proxy);
        let range = format!("Range: bytes={}-", seek * MIB);
        player.ask("GET", "/film.mp4", &[&range]).await;
        assert_eq!(player.answer_head().await.unwrap().status, 206);
        last = Some(player);
        film.until(|film| film.readers() == 1).await;
    }
    let gone = film
        .journal()
        .iter()
        .filter(|event| matches!(event, Event::ReaderGone(_)))
        .count();
    assert_eq!(gone, 49);
    film.release(u64::MAX);
    assert_eq!(
        last.unwrap().take(1000).await.0,
        bytes(49 * MIB, 49 * MIB + 1000)
    );
}
