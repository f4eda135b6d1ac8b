//! The proxy with a real manager over memory adapters and a scripted origin, in paused time.

use std::sync::Arc;
use std::time::Duration;

use chunk_core::BLOCK_SIZE;
use chunk_manager::{ChunkManager, Limits};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Cut, Fault, Link, OriginObject, OriginWorld, TagKind, When, content};
use proptest::prelude::*;

use super::player::Player;
use crate::config::{Mount, ProxyConfig};
use crate::serve::Proxy;

pub(super) const FILM: &str = "film.mkv";
pub(super) const LEN: u64 = 3_000_007;

pub(super) fn world() -> OriginWorld {
    world_of(OriginObject::new(FILM, LEN))
}

fn world_of(object: OriginObject) -> OriginWorld {
    let world = OriginWorld::new();
    world.put(object);
    world
}

pub(super) async fn proxy(world: &OriginWorld, link: Link) -> Proxy {
    let fetcher = Arc::new(ScriptedFetcher::new(world.clone(), link));
    let (store, bytes) = (MemoryChunkStore::new(), MemoryByteStore::new());
    let manager = ChunkManager::builder(Arc::new(store), Arc::new(bytes), fetcher)
        .limits(Limits::default().with_initial_buffer(512 * 1024))
        .start()
        .await
        .unwrap();
    Proxy::new(manager, ProxyConfig::new(vec![Mount::unnamed()])).unwrap()
}

async fn play(world: &OriginWorld) -> Player {
    Player::connect(&proxy(world, near()).await)
}

/// A line on which paused time passes, so that nothing is there at once.
pub(super) fn near() -> Link {
    Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(12_500_000)
}

pub(super) fn film(start: u64, end: u64) -> Vec<u8> {
    film_version(1, start, end)
}

pub(super) fn film_version(version: u64, start: u64, end: u64) -> Vec<u8> {
    content(FILM, version, start, (end - start) as usize)
}

#[tokio::test(start_paused = true)]
async fn r27_a_film_plays_through_a_proxy_and_the_second_time_asks_for_no_byte() {
    let world = world();
    let mut player = play(&world).await;
    let answer = player.get("/film.mkv", &[]).await;
    assert_eq!((answer.status(), answer.whole), (200, true));
    assert!(answer.body == film(0, LEN));
    assert_eq!(world.journal().duplicate_bytes_of(FILM), 0);
    let before = world.journal().bytes_of(FILM);
    let again = player.get("/film.mkv", &["Range: bytes=1000000-"]).await;
    assert!(again.body == film(1_000_000, LEN));
    assert_eq!(again.field("etag"), answer.field("etag"));
    assert_eq!(world.journal().bytes_of(FILM), before);
}

#[tokio::test(start_paused = true)]
async fn fault46_a_cold_range_of_a_byte_is_one_request_of_at_most_a_block() {
    for (range, first) in [("0-1", 0), ("1500000-1500000", 1_500_000), ("-1", LEN - 1)] {
        let world = world();
        let mut player = play(&world).await;
        let answer = player
            .get("/film.mkv", &[&format!("Range: bytes={range}")])
            .await;
        assert_eq!(answer.status(), 206);
        assert_eq!(answer.body, film(first, first + answer.body.len() as u64));
        drop(player);
        // why: virtual time; whatever would still be fetched is.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let fetched = world.journal().bytes_of(FILM);
        assert!(fetched <= BLOCK_SIZE, "{fetched} bytes for {range}");
    }
}

#[tokio::test(start_paused = true)]
async fn trap13_a_cold_seek_takes_one_round_trip_not_a_chunk() {
    let mut player = play(&world()).await;
    let asked = tokio::time::Instant::now();
    player
        .ask("GET", "/film.mkv", &["Range: bytes=2000000-"])
        .await;
    assert_eq!(player.answer_head().await.unwrap().status, 206);
    assert_eq!(player.take(1).await.0, film(2_000_000, 2_000_001));
    // One delay of the line and a piece at its rate.
    assert!(
        asked.elapsed() < Duration::from_millis(70),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn trap12_a_cold_range_past_the_end_is_a_416_with_the_size() {
    let mut player = play(&world()).await;
    for range in ["bytes=3000007-", "bytes=9999999-", "bytes=-0"] {
        let answer = player.get("/film.mkv", &[&format!("Range: {range}")]).await;
        let size = answer.field("content-range");
        assert_eq!(
            (answer.status(), size),
            (416, Some("bytes */3000007")),
            "{range}"
        );
        let named = ["etag", "last-modified"].map(|name| answer.field(name).is_some());
        assert_eq!(named, [true; 2], "{range}");
        assert_eq!(answer.field("accept-ranges"), Some("bytes"), "{range}");
    }
    assert_eq!(
        player
            .get("/film.mkv", &["Range: bytes=3000006-"])
            .await
            .body,
        film(3_000_006, LEN)
    );
}

#[tokio::test(start_paused = true)]
async fn trap14_client_disconnect_cancels_the_origins_transfer() {
    let world = world_of(OriginObject::new(FILM, 1 << 30));
    let slow = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(2_000_000);
    let proxy = proxy(&world, slow).await;
    let mut player = Player::connect(&proxy);
    player.ask("GET", "/film.mkv", &["Range: bytes=0-"]).await;
    player.answer_head().await.unwrap();
    player.take(1024 * 1024).await;
    drop(player);
    world
        .journal()
        .wait_until(|journal| journal.in_flight() == 0)
        .await;
    let fetched = world.journal().bytes_of(FILM);
    assert!(
        fetched < 4 * 1024 * 1024,
        "{fetched} bytes for a client that took 1 MiB"
    );
}

#[tokio::test(start_paused = true)]
async fn head_learns_everything_from_the_origin_in_one_ranged_get() {
    let world = world();
    let mut player = play(&world).await;
    let head = player.head("/film.mkv", &[]).await;
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("3000007"))
    );
    let records = world.journal().records_of(FILM);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].method, "GET");
}

#[tokio::test(start_paused = true)]
async fn several_ranges_of_a_cold_film() {
    let answer = play(&world())
        .await
        .get("/film.mkv", &["Range: bytes=9999999-,2000000-2000009,-5"])
        .await;
    assert_eq!(answer.status(), 206);
    let body = &answer.body;
    let holds = |bytes: &[u8]| body.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(&film(2_000_000, 2_000_010)) && holds(&film(LEN - 5, LEN)));
    assert_eq!(
        answer.field("content-length"),
        Some(body.len().to_string().as_str())
    );
}

#[tokio::test(start_paused = true)]
async fn fault06_without_a_strong_tag_one_is_made_and_understood() {
    for kind in [TagKind::Weak, TagKind::Absent] {
        let world = world_of(OriginObject::new(FILM, LEN).tag(kind));
        let mut player = play(&world).await;
        let answer = player.get("/film.mkv", &["Range: bytes=0-9"]).await;
        let tag = answer.field("etag").unwrap().to_owned();
        assert!(tag.starts_with('"'), "{tag}");
        let again = player
            .get("/film.mkv", &[&format!("If-None-Match: {tag}")])
            .await;
        assert_eq!(again.status(), 304);
        let part = player
            .get(
                "/film.mkv",
                &[&format!("If-Range: {tag}"), "Range: bytes=5-9"],
            )
            .await;
        assert_eq!((part.status(), part.body), (206, film(5, 10)));
        let other = player
            .get("/film.mkv", &["If-Match: \"other\"", "Range: bytes=5-9"])
            .await;
        assert_eq!(other.status(), 412);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_without_ranges_is_passed_through_and_cached_whole() {
    let world = world_of(OriginObject::new(FILM, LEN).without_ranges());
    let mut player = play(&world).await;
    let answer = player.get("/film.mkv", &["Range: bytes=1000-1999"]).await;
    assert_eq!((answer.status(), answer.whole), (200, true));
    assert_eq!(answer.field("accept-ranges"), Some("none"));
    assert!(answer.body == film(0, LEN));
    // All of it is here now, so ranges of it are.
    let part = player.get("/film.mkv", &["Range: bytes=1000-1999"]).await;
    assert_eq!((part.status(), part.body), (206, film(1000, 2000)));
}

#[tokio::test(start_paused = true)]
async fn an_origin_without_a_length_is_passed_through_in_chunks() {
    let world = world();
    world.fault(FILM, When::Always, Fault::IgnoreRange);
    world.fault(FILM, When::Always, Fault::Chunked);
    let mut player = play(&world).await;
    let answer = player.get("/film.mkv", &[]).await;
    assert_eq!((answer.status(), answer.whole), (200, true));
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    assert!(answer.body == film(0, LEN));
    // It ended well, so its length is known now.
    let part = player.get("/film.mkv", &["Range: bytes=-7"]).await;
    assert_eq!((part.status(), part.body), (206, film(LEN - 7, LEN)));
}

#[tokio::test(start_paused = true)]
async fn fault09_what_the_origin_refuses_is_said_at_once() {
    for (status, expected) in [(404, 404), (410, 410), (403, 403), (401, 401)] {
        let world = world();
        world.fault(FILM, When::Always, Fault::status(status));
        let answer = play(&world)
            .await
            .get("/film.mkv", &["Range: bytes=0-"])
            .await;
        assert_eq!(answer.status(), expected);
    }
    assert_eq!(play(&world()).await.get("/other", &[]).await.status(), 404);
}

#[tokio::test(start_paused = true)]
async fn fault03_a_body_that_breaks_off_is_resumed_behind_the_clients_back() {
    for how in [Cut::Close, Cut::Reset] {
        let world = world();
        world.fault(
            FILM,
            When::Next,
            Fault::CutAfter {
                bytes: 100_001,
                how,
            },
        );
        let answer = play(&world)
            .await
            .get("/film.mkv", &["Range: bytes=10-"])
            .await;
        assert_eq!((answer.status(), answer.whole), (206, true));
        assert!(answer.body == film(10, LEN));
    }
}

#[tokio::test(start_paused = true)]
async fn fault05_two_versions_never_meet_in_one_answer() {
    let world = world();
    let slow = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(500_000);
    let proxy = proxy(&world, slow).await;
    let mut player = Player::connect(&proxy);
    player.ask("GET", "/film.mkv", &[]).await;
    let head = player.answer_head().await.unwrap();
    let head_tag = head.field("etag").map(str::to_owned);
    // The first answer breaks off, and by then the origin has another version.
    world.fault(
        FILM,
        When::Always,
        Fault::CutAfter {
            bytes: 1_000_000,
            how: Cut::Close,
        },
    );
    world.set_version(FILM, 2);
    let mut body = player.take(100_000).await.0;
    let mut other = Player::connect(&proxy);
    let second = other
        .get("/film.mkv", &["Range: bytes=2500000-2500099"])
        .await;
    let rest = player.body(head).await;
    body.extend(rest.body);
    let len = body.len().min(LEN as usize) as u64;
    assert!(
        body == film_version(1, 0, len),
        "the first answer holds its version only"
    );
    // The second was promised the first version, which can no longer be had, or got the second.
    let end = 2_500_000 + second.body.len() as u64;
    let is_first = !second.whole && second.body == film(2_500_000, end);
    assert!(is_first || second.body == film_version(2, 2_500_000, end));
    world.clear_faults(FILM);
    let mut third = Player::connect(&proxy);
    let answer = third.get("/film.mkv", &["Range: bytes=10-99999"]).await;
    assert!(answer.whole && answer.body == film_version(2, 10, 100_000));
    assert_ne!(answer.field("etag"), head_tag.as_deref());
}

#[tokio::test(start_paused = true)]
async fn fault27_many_clients_of_one_cold_range_are_one_origin_request() {
    let world = world();
    let proxy = proxy(&world, near()).await;
    let mut players = Vec::new();
    for _ in 0..32 {
        let mut player = Player::connect(&proxy);
        player
            .ask("GET", "/film.mkv", &["Range: bytes=1000000-1099999"])
            .await;
        players.push(player);
    }
    for player in &mut players {
        assert!(player.answer().await.body == film(1_000_000, 1_100_000));
    }
    assert_eq!(world.journal().duplicate_bytes_of(FILM), 0);
}

#[tokio::test(start_paused = true)]
async fn trap17_a_rotated_token_is_the_same_film_and_is_what_the_origin_sees() {
    let world = world();
    let mut player = play(&world).await;
    let first = player
        .get("/film.mkv?token=one", &["Range: bytes=0-99999"])
        .await;
    let before = world.journal().bytes_of(FILM);
    let again = player
        .get("/film.mkv?token=two", &["Range: bytes=1000-1999"])
        .await;
    assert_eq!(again.body, film(1000, 2000));
    assert_eq!(again.field("etag"), first.field("etag"));
    assert_eq!(
        world.journal().bytes_of(FILM),
        before,
        "nothing is fetched twice"
    );
    let further = player
        .get("/film.mkv?token=three", &["Range: bytes=2500000-2500099"])
        .await;
    assert_eq!(further.body, film(2_500_000, 2_500_100));
    let last = world.journal().last().unwrap();
    assert_eq!(last.target, "/film.mkv?token=three");
}

#[tokio::test(start_paused = true)]
async fn fault11_with_the_origin_down_what_is_cached_is_served() {
    let world = world();
    let proxy = proxy(&world, near()).await;
    let mut player = Player::connect(&proxy);
    assert!(player.get("/film.mkv", &[]).await.whole);
    drop(player);
    world.fault(FILM, When::Always, Fault::NoAnswer);
    // why: virtual time; long enough for the entry's session to be over.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let mut player = Player::connect(&proxy);
    let answer = player
        .get("/film.mkv", &["Range: bytes=1000000-1999999"])
        .await;
    assert_eq!((answer.status(), answer.whole), (206, true));
    assert!(answer.body == film(1_000_000, 2_000_000));
    assert!(answer.field("age").is_some());
    assert_eq!(answer.field("warning"), None);
}

#[tokio::test(start_paused = true)]
async fn fault13_a_stalled_transfer_is_resumed_behind_the_clients_back() {
    let world = world();
    world.fault(FILM, When::Next, Fault::StallAfter { bytes: 200_001 });
    let answer = play(&world).await.get("/film.mkv", &[]).await;
    assert!(answer.whole && answer.body == film(0, LEN));
}

#[tokio::test(start_paused = true)]
async fn fault14_a_login_page_is_no_film() {
    let world = world();
    world.fault(FILM, When::Always, Fault::LoginPage);
    let answer = play(&world)
        .await
        .get("/film.mkv", &["Range: bytes=0-"])
        .await;
    assert_eq!(answer.status(), 502);
    assert!(!answer.text().contains('<'), "{}", answer.text());
}

#[tokio::test(start_paused = true)]
async fn fault10_a_busy_origin_is_said_to_be_busy() {
    let world = world();
    world.fault(FILM, When::Always, Fault::retry_after(503, "7"));
    let answer = play(&world)
        .await
        .get("/film.mkv", &["Range: bytes=0-"])
        .await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("retry-after"), Some("7"));
}

#[tokio::test(start_paused = true)]
async fn fault37_a_storm_of_seeks_leaves_nothing_in_flight() {
    let world = world_of(OriginObject::new(FILM, 1 << 30));
    let slow = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(2_000_000);
    let proxy = proxy(&world, slow).await;
    for seek in 0..50u64 {
        let mut player = Player::connect(&proxy);
        let range = format!("Range: bytes={}-", seek * 20_000_003);
        player.ask("GET", "/film.mkv", &[&range]).await;
        // why: virtual time; a seek every 20 ms, so that none lives to see its first byte.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world
        .journal()
        .wait_until(|journal| journal.in_flight() == 0)
        .await;
    let fetched = world.journal().bytes_of(FILM);
    assert!(
        fetched < 4 * 1024 * 1024,
        "{fetched} bytes for seeks that were all abandoned"
    );
    let mut player = Player::connect(&proxy);
    let asked = tokio::time::Instant::now();
    player
        .ask("GET", "/film.mkv", &["Range: bytes=777777777-"])
        .await;
    player.answer_head().await.unwrap();
    assert_eq!(player.take(100).await.0, film(777_777_777, 777_777_877));
    assert!(
        asked.elapsed() < Duration::from_millis(150),
        "{:?}",
        asked.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_asked_in_whatever_order_the_bytes_are_the_films(
        asked in proptest::collection::vec((0u64..LEN, 1u64..200_000, any::<bool>()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let proxy = proxy(&world(), near()).await;
            let mut player = Player::connect(&proxy);
            for (start, len, abandoned) in asked {
                let end = start.saturating_add(len).min(LEN);
                let range = format!("Range: bytes={start}-{}", end - 1);
                player.ask("GET", "/film.mkv", &[&range]).await;
                let head = player.answer_head().await.unwrap();
                assert_eq!(head.status, 206);
                if abandoned {
                    let taken = len.min(end - start) / 2;
                    assert!(player.take(taken as usize).await.0 == film(start, start + taken));
                    player = Player::connect(&proxy);
                } else {
                    let answer = player.body(head).await;
                    assert!(answer.whole && answer.body == film(start, end));
                }
            }
        });
    }
}
