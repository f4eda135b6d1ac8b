//! The short way for plain requests, and where it meets the server library.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::film::{Film, bytes};
use super::player::Player;
use super::{play, proxy, proxy_with};
use crate::config::{Mount, ProxyConfig};
use crate::serve::Proxy;

/// A player on a real socket, which takes windows.
async fn connected(proxy: &Proxy) -> Player<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve(listener, std::future::pending()).await });
    Player::over(TcpStream::connect(address).await.unwrap())
}

#[tokio::test]
async fn windows_bring_what_memory_brings() {
    let film = Film::new(3_000_000).in_windows(u64::MAX);
    let mut player = connected(&proxy(&film)).await;
    let whole = player.get("/f", &[]).await;
    assert!(whole.whole && whole.body == bytes(0, 3_000_000));
    let part = player.get("/f", &["Range: bytes=1000-70999"]).await;
    assert_eq!(part.status(), 206);
    assert!(part.whole && part.body == bytes(1000, 71_000));
    assert!(film.put() > 0, "nothing went past memory");
    film.until(|film| film.readers() == 0).await;
}

#[tokio::test]
async fn fault18_a_window_that_ends_early_goes_on_through_memory() {
    for absent_at in [0, 1, 1_000, 255_999, 256_000, 300_001] {
        let film = Film::new(600_000).in_windows(absent_at);
        let proxy = proxy(&film);
        let mut player = connected(&proxy).await;
        let answer = player.get("/f", &[]).await;
        assert!(
            answer.whole && answer.body == bytes(0, 600_000),
            "{absent_at}"
        );
        let again = player.get("/f", &["Range: bytes=5-9"]).await;
        assert_eq!(again.body, bytes(5, 10));
        assert_eq!(proxy.statistics().bytes_sent, 600_005, "{absent_at}");
    }
}

#[tokio::test]
async fn fault34_a_chunk_is_as_long_as_it_says_whatever_becomes_of_windows() {
    let film = Film::new(600_000).endless().in_windows(300_000);
    let mut player = connected(&proxy(&film)).await;
    for _ in 0..2 {
        let answer = player.get("/f", &[]).await;
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert!(answer.whole && answer.body == bytes(0, 600_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_goes_out_with_the_first_bytes_or_soon_without_them() {
    let moment = Duration::from_millis(1);
    for (comes_after, waits, with_head) in [
        (Duration::ZERO, Duration::ZERO, true),
        (10 * moment, moment, false),
    ] {
        let film = Film::new(1000).holding_at(0);
        let mut player = play(&film);
        let asked = Instant::now();
        player.ask("GET", "/f", &[]).await;
        film.until(|film| film.readers() == 1).await;
        let origin = film.clone();
        tokio::spawn(async move {
            // why: paused time.
            tokio::time::sleep(comes_after).await;
            origin.release(1000);
        });
        assert!(player.fill().await);
        // The clock counts in whole milliseconds.
        let waited = asked.elapsed();
        assert!(waits <= waited && waited <= 2 * moment, "{waited:?}");
        assert_eq!(player.unread().ends_with(&bytes(0, 1000)), with_head);
        assert_eq!(player.answer().await.body, bytes(0, 1000));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_are_answered_in_turn() {
    let film = Film::new(1000);
    let mut player = play(&film);
    let ask =
        |range: &str| format!("GET /f HTTP/1.1\r\nHost: localhost\r\nRange: bytes={range}\r\n\r\n");
    let odd = "OPTIONS /f HTTP/1.1\r\nHost: localhost\r\n\r\n";
    player
        .send([&ask("0-9"), &ask("10-19"), odd, &ask("20-29")].concat())
        .await;
    assert_eq!(player.answer().await.body, bytes(0, 10));
    assert_eq!(player.answer().await.body, bytes(10, 20));
    assert_eq!(player.answer().await.status(), 204, "by the library");
    assert_eq!(
        player.answer().await.body,
        bytes(20, 30),
        "and so is the rest"
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_a_head() {
    let film = Film::new(100);
    let mut player = play(&film);
    for byte in b"GET /f HTTP/1.1\r\nHost: localhost\r\nRange: bytes=3-4\r\n\r\n" {
        player.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(player.answer().await.body, bytes(3, 5));
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_says_so_and_is_the_last() {
    let film = Film::new(100);
    let mut player = play(&film);
    let answer = player.get("/f", &["Connection: close"]).await;
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!((answer.whole, answer.body), (true, bytes(0, 100)));
    assert!(player.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_no_head_in_time_is_let_go_and_each_answer_gives_new_time() {
    let film = Film::new(100);
    let config =
        ProxyConfig::new(vec![Mount::unnamed()]).with_header_timeout(Duration::from_secs(10));
    let mut player = Player::connect(&proxy_with(&film, config));
    let second = Duration::from_secs(1);
    for _ in 0..3 {
        // why: paused time; less than the limit each time, and more in all.
        tokio::time::sleep(6 * second).await;
        assert_eq!(player.get("/f", &[]).await.status(), 200);
    }
    player.send("GET /f HTTP/1.1\r\n").await;
    let began = Instant::now();
    assert!(player.is_closed().await);
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_connection_takes_little_memory_while_nothing_is_asked() {
    let proxy = proxy(&Film::new(10));
    let (_theirs, ours) = tokio::io::duplex(64);
    let connection = proxy.serve_connection(ours, None, std::future::pending());
    let size = size_of_val(&connection);
    // Measured: 2,088; with the state of answering, which is given back before bytes are sent, 6,688.
    assert!(size <= 3_000, "{size}");
}
