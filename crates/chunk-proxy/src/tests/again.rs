//! Requests like one before, answered from a manager.

use std::sync::Arc;

use chunk_core::CacheKey;
use chunk_manager::{ChunkManager, Limits};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::OriginWorld;

use super::managed::{FILM, LEN, film, film_version, near, world};
use super::player::{Answer, Player};
use crate::again::Memory;
use crate::config::{Cors, Mount, ProxyConfig};
use crate::heads::{Date, parse};
use crate::serve::Proxy;

async fn serving(world: &OriginWorld) -> (ChunkManager, Proxy) {
    let fetcher = Arc::new(ScriptedFetcher::new(world.clone(), near()));
    let (store, bytes) = (MemoryChunkStore::new(), MemoryByteStore::new());
    let manager = ChunkManager::builder(Arc::new(store), Arc::new(bytes), fetcher)
        .limits(Limits::default().with_initial_buffer(64 * 1024))
        .start()
        .await
        .unwrap();
    let cors = Cors::Allow(vec!["https://player.example".to_owned()]);
    let config = ProxyConfig::new(vec![Mount::unnamed()]).with_cors(cors);
    let proxy = Proxy::new(manager.clone(), config).unwrap();
    (manager, proxy)
}

/// All of an answer but what changes with the time of day.
fn told(answer: &Answer) -> (u16, Vec<(String, String)>, &[u8]) {
    assert!(answer.whole && answer.field("date").is_some());
    let mut fields = answer.head.fields().to_vec();
    fields.retain(|(name, _)| name != "date" && name != "age");
    fields.sort();
    (answer.status(), fields, &answer.body)
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_again_and_again_is_answered_like_what_is_asked_once() {
    let world = world();
    let (_manager, proxy) = serving(&world).await;
    let mut kept = Player::connect(&proxy);
    assert!(kept.get("/film.mkv", &[]).await.whole);
    let before = world.journal().bytes_of(FILM);
    for round in 0..3 {
        for range in [
            "0-",
            "0-0",
            "1-70000",
            "3000000-",
            "3000006-3000006",
            "2999999-9999999",
            "00012-0013",
            "",
            "-7",
            "3000007-",
            "9-5",
            "18446744073709551615-",
        ] {
            let range = (!range.is_empty()).then(|| format!("Range: bytes={range}"));
            for other in ["Accept: */*", "Origin: https://player.example"] {
                let fields: Vec<&str> = range.iter().map(String::as_str).chain([other]).collect();
                let again = kept.get("/film.mkv", &fields).await;
                let once = Player::connect(&proxy).get("/film.mkv", &fields).await;
                assert_eq!(told(&again), told(&once), "{fields:?} in round {round}");
            }
        }
    }
    assert_eq!(world.journal().bytes_of(FILM), before);
    let statistics = proxy.statistics();
    assert_eq!(statistics.answers.iter().sum::<u64>(), 1 + 3 * 12 * 2 * 2);
    assert_eq!((statistics.abandoned, statistics.broken), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_like_one_before_takes_no_waiting_where_its_bytes_are_there() {
    let (manager, proxy) = serving(&world()).await;
    let mut player = Player::connect(&proxy);
    let answer = player.get("/film.mkv", &["Range: bytes=0-999999"]).await;
    assert!(answer.whole);
    let head = b"GET /film.mkv HTTP/1.1\r\nHost: localhost\r\nRange: bytes=5-9\r\n\r\n";
    let (parts, _) = parse(head).unwrap().request.into_parts();
    let mut memory = Memory::default();
    memory.learn(head, || proxy.answerer.standing(&parts, None));
    let mut ask = |range: &str, is_last| {
        let head =
            format!("GET /film.mkv HTTP/1.1\r\nHost: localhost\r\nRange: bytes={range}\r\n\r\n");
        let like = memory.find(head.as_bytes()).unwrap();
        let date = &mut Date::default();
        let (head, body) = proxy
            .answerer
            .answer_again(&mut memory, like, is_last, date)?;
        Some((String::from_utf8(head).unwrap(), body.len()))
    };
    let (head, len) = ask("5-9", false).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 206 Partial Content\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\ncontent-range: bytes 5-9/3000007\r\n"),
        "{head}"
    );
    assert!(!head.contains("connection"), "{head}");
    assert_eq!(len, Some(5));
    let (head, _) = ask("7-", true).unwrap();
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(ask("2999999-", false).is_none(), "that has to be fetched");
    assert!(ask("3000007-", false).is_none(), "that is another answer");
    let key = CacheKey::new("", "/film.mkv", &[""; 0]).unwrap();
    manager.invalidate(&key).await.unwrap();
    assert!(ask("5-9", false).is_none(), "the origin is to be asked");
    manager.shutdown().await;
    assert!(ask("5-9", false).is_none());
}

#[tokio::test(start_paused = true)]
async fn fault05_a_request_like_one_before_gets_the_version_of_its_own_day() {
    let world = world();
    let (manager, proxy) = serving(&world).await;
    let mut player = Player::connect(&proxy);
    assert!(player.get("/film.mkv", &[]).await.whole);
    let key = CacheKey::new("", "/film.mkv", &[""; 0]).unwrap();
    let mut tags = Vec::new();
    for version in 1..=3 {
        world.set_version(FILM, version);
        manager.invalidate(&key).await.unwrap();
        for start in [0, 1_000_000, 2_900_000, 0] {
            let range = format!("Range: bytes={start}-{}", start + 4999);
            let answer = player.get("/film.mkv", &[&range]).await;
            assert_eq!((answer.status(), answer.whole), (206, true));
            assert!(
                answer.body == film_version(version, start, start + 5000),
                "version {version} at {start}"
            );
            tags.extend(answer.field("etag").map(str::to_owned));
        }
        tags.dedup();
        assert_eq!(tags.len() as u64, version);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_like_one_before_may_go_on_where_nothing_has_been_read_yet() {
    let (_manager, proxy) = serving(&world()).await;
    let mut player = Player::connect(&proxy);
    for start in [0, 0, 0, 999_000, 1_500_000, 1_499_000, LEN - 2000] {
        let end = start + 2000;
        let range = format!("Range: bytes={start}-{}", end - 1);
        let answer = player.get("/film.mkv", &[&range]).await;
        assert!(answer.whole && answer.body == film(start, end), "{start}");
    }
}
