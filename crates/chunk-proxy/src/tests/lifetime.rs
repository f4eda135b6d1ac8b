//! When connections end, and what ends with them.

use std::io::ErrorKind;
use std::time::Duration;

use chunk_manager::{First, ReadError};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::film::{Event, Film, bytes};
use super::player::Player;
use super::{play, proxy, proxy_with};
use crate::config::{Mount, ProxyConfig};
use crate::serve::Proxy;

#[tokio::test(start_paused = true)]
async fn trap14_client_disconnect_cancels_while_bytes_flow() {
    let film = Film::new(1 << 30);
    let mut player = play(&film);
    player.ask("GET", "/f", &[]).await;
    player.answer_head().await.unwrap();
    assert_eq!(film.readers(), 1);
    drop(player);
    film.until(|film| film.readers() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn trap14_client_disconnect_cancels_while_waiting_for_bytes() {
    let film = Film::new(1000).holding_at(10);
    let proxy = proxy(&film);
    let mut player = Player::connect(&proxy);
    player.ask("GET", "/f", &[]).await;
    player.answer_head().await.unwrap();
    assert_eq!(player.take(10).await.0, bytes(0, 10));
    drop(player);
    film.until_noted(Event::ReaderGone(10)).await;
    assert_eq!(
        (proxy.statistics().abandoned, proxy.statistics().broken),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn trap14_client_disconnect_cancels_while_waiting_for_the_origin() {
    let film = Film::new(1000).hanging();
    let mut player = play(&film);
    player.ask("GET", "/f", &[]).await;
    film.until_noted(Event::Opened(First::Span {
        start: 0,
        end: None,
    }))
    .await;
    drop(player);
    film.until_noted(Event::OpeningDropped).await;
}

/// A proxy on a loopback socket, and the switch that stops it.
async fn listening(
    proxy: Proxy,
) -> (
    std::net::SocketAddr,
    oneshot::Sender<()>,
    tokio::task::JoinHandle<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        proxy.serve(listener, async { drop(stopped.await) }).await;
    });
    (address, stop, serving)
}

#[tokio::test]
async fn stopping_drains_what_is_under_way_and_ends_what_is_idle() {
    let film = Film::new(1000).holding_at(10);
    let (address, stop, serving) = listening(proxy(&film)).await;
    let mut idle = Player::over(TcpStream::connect(address).await.unwrap());
    idle.get("/f", &["Range: bytes=0-0"]).await;
    let mut busy = Player::over(TcpStream::connect(address).await.unwrap());
    busy.ask("GET", "/f", &[]).await;
    let head = busy.answer_head().await.unwrap();
    stop.send(()).unwrap();
    assert!(idle.is_closed().await);
    film.release(1000);
    let answer = busy.body(head).await;
    assert_eq!((answer.whole, answer.body), (true, bytes(0, 1000)));
    serving.await.unwrap();
    assert_eq!(
        TcpStream::connect(address).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn stopping_cuts_what_outlasts_the_grace() {
    let film = Film::new(1000).holding_at(10);
    let config = ProxyConfig::new(vec![Mount::unnamed()]).with_grace(Duration::from_millis(1));
    let (address, stop, serving) = listening(proxy_with(&film, config)).await;
    let mut busy = Player::over(TcpStream::connect(address).await.unwrap());
    busy.ask("GET", "/f", &[]).await;
    let head = busy.answer_head().await.unwrap();
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert!(!busy.body(head).await.whole);
    assert_eq!(film.readers(), 0);
}

#[tokio::test]
async fn a_connection_beyond_the_bound_takes_the_place_of_one_at_rest() {
    let film = Film::new(1000);
    let config = ProxyConfig::new(vec![Mount::unnamed()]).with_max_connections(2);
    let proxy = proxy_with(&film, config);
    let (address, _stop, _serving) = listening(proxy.clone()).await;
    let connect = async || Player::over(TcpStream::connect(address).await.unwrap());
    // One that the lane has, and one that the library has.
    let mut plain = connect().await;
    plain.get("/f", &["Range: bytes=0-0"]).await;
    let mut odd = connect().await;
    let options = "OPTIONS /f HTTP/1.1\r\nHost: localhost\r\n\r\n";
    odd.send(options).await;
    assert_eq!(odd.answer().await.status(), 204);
    for (at, rested) in [plain, odd].iter_mut().enumerate() {
        let mut next = connect().await;
        let answer = next.get("/f", &["Range: bytes=1-1"]).await;
        assert_eq!(answer.body, bytes(1, 2), "{at}");
        assert!(rested.is_closed().await, "{at}");
        // It stays busy, so that the other one has rested longer.
        next.ask("GET", "/f", &["Range: bytes=2-2"]).await;
        assert_eq!(next.answer().await.body, bytes(2, 3));
        std::mem::forget(next);
    }
    assert_eq!(proxy.statistics().connections, 2);
}

#[tokio::test]
async fn where_nobody_rests_a_connection_beyond_the_bound_is_told_to_come_later() {
    let film = Film::new(1000).holding_at(10);
    let config = ProxyConfig::new(vec![Mount::unnamed()]).with_max_connections(1);
    let proxy = proxy_with(&film, config);
    let (address, _stop, _serving) = listening(proxy.clone()).await;
    let connect = async || Player::over(TcpStream::connect(address).await.unwrap());
    let mut first = connect().await;
    first.ask("GET", "/f", &[]).await;
    let head = first.answer_head().await.unwrap();
    let mut others = Vec::new();
    for _ in 0..20 {
        let mut other = connect().await;
        other.ask("GET", "/f", &["Range: bytes=0-0"]).await;
        others.push(other);
    }
    for other in &mut others {
        let answer = other.answer().await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.field("retry-after"), Some("2"));
        assert!(answer.whole && other.is_closed().await);
    }
    assert_eq!(proxy.statistics().accepted, 1);
    film.release(1000);
    let answer = first.body(head).await;
    assert_eq!((answer.whole, answer.body), (true, bytes(0, 1000)));
    drop(first);
    let mut later = connect().await;
    assert_eq!(
        later.get("/f", &["Range: bytes=5-5"]).await.body,
        bytes(5, 6)
    );
    assert_eq!(proxy.statistics().answers[4], 20);
}

#[tokio::test]
async fn the_address_connected_to_is_a_host() {
    let film = Film::new(10);
    let (address, _stop, _serving) = listening(proxy(&film)).await;
    let mut player = Player::over(TcpStream::connect(address).await.unwrap());
    player
        .send(format!("GET /f HTTP/1.1\r\nHost: {address}\r\n\r\n"))
        .await;
    assert_eq!(player.answer().await.status(), 200);
}

#[tokio::test]
async fn an_unframed_body_that_breaks_ends_with_a_reset() {
    let film = Film::new(1000)
        .endless()
        .failing_at(500, ReadError::Changed);
    let (address, _stop, _serving) = listening(proxy(&film)).await;
    let mut player = Player::over(TcpStream::connect(address).await.unwrap());
    player.send("GET /f HTTP/1.0\r\n\r\n").await;
    let mut all = Vec::new();
    let error = player.io.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
