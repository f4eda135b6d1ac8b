//! Players that speak HTTP/2.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_manager::{First, ReadError};
use chunk_ports::{FetchError, ForwardRequest, ForwardResponse, OriginForward};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::film::{Event, Film, bytes};
use super::secure::Site;
use crate::config::ProxyConfig;

const HTTP_2: &[&str] = &["h2", "http/1.1"];
/// What a client takes of a stream that it does not read.
const WINDOW: u32 = 64 * 1024;

/// A client, and how its connection ends.
struct Player {
    ask: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Player {
    async fn over<Io>(io: Io) -> Self
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (ask, connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(64 * WINDOW)
            .handshake(io)
            .await
            .unwrap();
        let ended = tokio::spawn(connection);
        Self { ask, ended }
    }

    async fn connect(site: &Site) -> Self {
        let io = site.connect().await;
        assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(io).await
    }

    /// Asks for a film; each of `fields` is a name and a value.
    async fn ask(&mut self, method: Method, fields: &[(&str, &str)]) -> ResponseFuture {
        let mut request = Request::builder().method(method).uri("https://localhost/f");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        poll_fn(|cx| self.ask.poll_ready(cx)).await.unwrap();
        let request = request.body(()).unwrap();
        self.ask.send_request(request, true).unwrap().0
    }

    async fn get(&mut self, range: &str) -> Response<RecvStream> {
        let fields = [("range", range)];
        self.ask(Method::GET, &fields).await.await.unwrap()
    }
}

/// All that comes, and how it ends.
async fn read(body: &mut RecvStream) -> (Vec<u8>, Result<(), h2::Error>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                all.extend_from_slice(&data);
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

#[tokio::test(start_paused = true)]
async fn many_streams_at_once_bring_each_its_own_range() {
    let film = Film::new(3_000_000);
    let site = Site::new(&film, HTTP_2);
    let mut player = Player::connect(&site).await;
    let mut reading = Vec::new();
    for at in 0..100 {
        let (start, len) = (at * 29_989, [1, 16_384, 65_536, 300_007][at as usize % 4]);
        let end = (start + len).min(3_000_000);
        let range = format!("bytes={start}-{}", end - 1);
        let answer = player.ask(Method::GET, &[("range", &range)]).await;
        reading.push(tokio::spawn(async move {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 206);
            let said = format!("bytes {start}-{}/3000000", end - 1);
            assert_eq!(answer.headers()["content-range"], said);
            let (body, ended) = read(&mut answer.into_body()).await;
            assert!(ended.is_ok() && body == bytes(start, end), "{range}");
        }));
    }
    for reading in reading {
        reading.await.unwrap();
    }
    let statistics = site.proxy.statistics();
    assert_eq!((statistics.abandoned, statistics.broken), (0, 0));
    assert_eq!((statistics.answers[1], statistics.accepted), (100, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_the_fields_that_it_has_without_http_2_but_those_of_a_connection() {
    let film = Film::new(1000);
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let whole = player.ask(Method::GET, &[]).await.await.unwrap();
    assert_eq!(whole.status(), 200);
    for (name, value) in [
        ("content-length", "1000"),
        ("content-type", "video/mp4"),
        ("accept-ranges", "bytes"),
        ("etag", "\"v1\""),
        ("age", "5"),
        ("cache-control", "max-age=60"),
    ] {
        assert_eq!(whole.headers()[name], value);
    }
    assert_eq!(whole.headers()["date"].len(), 29);
    assert_eq!(read(&mut whole.into_body()).await.0, bytes(0, 1000));

    let head = player.ask(Method::HEAD, &[]).await.await.unwrap();
    assert_eq!(head.headers()["content-length"], "1000");
    assert!(head.into_body().is_end_stream());
    let past = player.get("bytes=5000-").await;
    assert_eq!(past.status(), 416);
    assert_eq!(past.headers()["content-range"], "bytes */1000");
    let fields = [("if-none-match", "\"v1\"")];
    let same = player.ask(Method::GET, &fields).await.await.unwrap();
    assert_eq!(same.status(), 304);
    assert!(same.into_body().is_end_stream());
    // Over HTTP/1.1 this one ends the connection.
    let refused = player.ask(Method::TRACE, &[]).await.await.unwrap();
    assert_eq!(refused.status(), 405);
    assert!(!refused.headers().contains_key("connection"));
    assert_eq!(player.get("bytes=0-1").await.status(), 206);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_ends_with_its_stream() {
    let film = Film::new(300_000).endless();
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let answer = player.ask(Method::GET, &[]).await.await.unwrap();
    assert!(!answer.headers().contains_key("content-length"));
    assert!(!answer.headers().contains_key("transfer-encoding"));
    let (body, ended) = read(&mut answer.into_body()).await;
    assert!(ended.is_ok() && body == bytes(0, 300_000));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_ends_with_a_reset_behind_all_that_came_before() {
    for at in [0, 1, 16_384, 65_535, 65_536, 65_537, 262_144, 500_000] {
        for film in [Film::new(1_000_000), Film::new(1_000_000).endless()] {
            let film = film.failing_at(at, ReadError::Changed);
            let site = Site::new(&film, HTTP_2);
            let mut player = Player::connect(&site).await;
            let asked = player.ask(Method::GET, &[]).await;
            let (body, ended) = match asked.await {
                Ok(answer) => read(&mut answer.into_body()).await,
                Err(error) => (Vec::new(), Err(error)),
            };
            assert_eq!(ended.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
            assert!(body == bytes(0, at), "{} of {at}", body.len());
            assert_eq!(site.proxy.statistics().broken, 1);
            // The connection goes on.
            if at > 0 {
                assert!(player.get("bytes=0-0").await.status().is_success());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault36_a_stream_that_is_not_read_is_read_for_no_further_and_holds_up_no_other() {
    let film = Film::new(1 << 30);
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let paused = player.ask(Method::GET, &[]).await.await.unwrap();
    // why: paused time; whatever could go on would.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let other = player.get("bytes=1000000-3999999").await;
    let (body, ended) = read(&mut other.into_body()).await;
    assert!(ended.is_ok() && body == bytes(1_000_000, 4_000_000));
    assert_eq!(film.readers(), 1);
    drop(paused);
    film.until(|film| film.readers() == 0).await;
    let read = film.journal().iter().rev().find_map(|event| match event {
        Event::ReaderGone(position) => Some(*position),
        _ => None,
    });
    // What the client takes unread, a piece that waits to be sent, and one more.
    assert!(read.unwrap() <= u64::from(WINDOW) + 512 * 1024, "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_its_origin_keeps_no_room_from_others() {
    let film = Film::new(1 << 20).holding_at(100_000);
    let io = Site::new(&film, HTTP_2).connect().await;
    // All of the connection's room, and of each stream's, is what the protocol begins with.
    let (ask, connection) = Builder::new().handshake(io).await.unwrap();
    let mut player = Player {
        ask,
        ended: tokio::spawn(connection),
    };
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(player.get("bytes=100000-").await);
    }
    let (body, ended) = read(player.get("bytes=0-99999").await.body_mut()).await;
    assert!(ended.is_ok() && body == bytes(0, 100_000));
}

#[tokio::test(start_paused = true)]
async fn records_are_full_whatever_is_spoken() {
    const LEN: u64 = 4 << 20;
    let film = Film::new(LEN);
    let mut counts = Vec::new();
    for protocol in ["h2", "http/1.1"] {
        let site = Site::new(&film, &[protocol]);
        let heard = Heard::new(site.begin());
        let records = Arc::clone(&heard.bytes);
        let io = site.client.connect(heard).await.unwrap();
        if protocol == "h2" {
            let mut builder = Builder::new();
            builder
                .initial_window_size(1 << 30)
                .initial_connection_window_size(1 << 30);
            let (ask, connection) = builder.handshake(io).await.unwrap();
            let ended = tokio::spawn(connection);
            let mut player = Player { ask, ended };
            let answer = player.ask(Method::GET, &[]).await.await.unwrap();
            let (body, ended) = read(&mut answer.into_body()).await;
            assert!(ended.is_ok() && body == bytes(0, LEN));
        } else {
            let mut player = super::player::Player::over(io);
            assert!(player.get("/f", &[]).await.body == bytes(0, LEN));
        }
        counts.push(count_records(&records.lock().unwrap()));
    }
    // What full ones hold, and some for the handshake and for what waits when a piece ends.
    let full = usize::try_from(LEN).unwrap() / (16 * 1024);
    for count in &counts {
        assert!((full..full + full / 5).contains(count), "{counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn trap14_a_stream_that_is_reset_cancels_while_others_go_on() {
    let film = Film::new(1000).holding_at(10);
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let mut stays = player.get("bytes=5-").await;
    let mut leaves = player.get("bytes=0-").await;
    assert_eq!(
        leaves.body_mut().data().await.unwrap().unwrap(),
        bytes(0, 10)
    );
    drop(leaves);
    film.until_noted(Event::ReaderGone(10)).await;
    assert_eq!(film.readers(), 1);
    film.release(1000);
    assert_eq!(read(stays.body_mut()).await.0, bytes(5, 1000));
}

#[tokio::test(start_paused = true)]
async fn trap14_a_stream_that_is_reset_cancels_while_waiting_for_the_origin() {
    let film = Film::new(1000).hanging();
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let asked = player.ask(Method::GET, &[]).await;
    let (start, end) = (0, None);
    film.until_noted(Event::Opened(First::Span { start, end }))
        .await;
    drop(asked);
    film.until_noted(Event::OpeningDropped).await;
}

#[tokio::test(start_paused = true)]
async fn trap14_a_connection_that_is_gone_takes_all_its_streams_along() {
    let film = Film::new(1 << 20).holding_at(10);
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(player.get("bytes=0-").await);
    }
    assert_eq!(film.readers(), 5);
    player.ended.abort();
    film.until(|film| film.readers() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn fault36_only_so_many_streams_are_answered_at_once() {
    let film = Film::new(1000).holding_at(10);
    let site = Site::new(&film, HTTP_2);
    let mut player = Player::connect(&site).await;
    assert_eq!(player.get("bytes=0-0").await.status(), 206);
    let mut answers = Vec::new();
    for _ in 0..32 {
        answers.push(player.get("bytes=0-").await);
    }
    assert_eq!(player.ask.current_max_send_streams(), 32);
    let mut one_more = player.ask.clone();
    let wait = Duration::from_secs(60);
    let full = tokio::time::timeout(wait, poll_fn(|cx| one_more.poll_ready(cx))).await;
    let request = Request::get("https://localhost/f").body(()).unwrap();
    let asked = full.map(|_| one_more.send_request(request, true).unwrap().0);
    assert_eq!(film.readers(), 32);
    film.release(1000);
    for mut answer in answers {
        assert_eq!(read(answer.body_mut()).await.0, bytes(0, 1000));
    }
    if let Ok(asked) = asked {
        assert_eq!(asked.await.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn fault36_a_flood_of_streams_that_are_taken_back_ends_the_connection() {
    let film = Film::new(1000).hanging();
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    for _ in 0..1000 {
        let request = Request::get("https://localhost/f").body(()).unwrap();
        if poll_fn(|cx| player.ask.poll_ready(cx)).await.is_err() {
            break;
        }
        let Ok((_, mut stream)) = player.ask.send_request(request, true) else {
            break;
        };
        stream.send_reset(Reason::CANCEL);
    }
    let error = player.ended.await.unwrap().unwrap_err();
    // What the client still had to say when the connection ended may hide the reason.
    let is_told = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    assert!(is_told || error.is_io(), "{error:?}");
    assert!(film.journal().len() < 200, "{}", film.journal().len());
}

#[tokio::test(start_paused = true)]
async fn fault36_who_asks_for_nothing_is_let_go_and_a_pause_is_not_that() {
    let limit = Duration::from_secs(10);
    let film = Film::new(1 << 20);
    let site = Site::with(&film, HTTP_2, |config| config.with_header_timeout(limit));
    // Who says nothing at all.
    let mut io = site.connect().await;
    let began = Instant::now();
    assert!(io.read_to_end(&mut Vec::new()).await.is_err());
    assert_eq!(began.elapsed(), limit);
    // Who says half of it.
    let mut io = site.connect().await;
    io.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    let began = Instant::now();
    let _ = io.read_to_end(&mut Vec::new()).await;
    assert_eq!(began.elapsed(), limit);
    // Who pauses, however long, and then asks no more; also where all that is left is one piece.
    for len in [1 << 20, 66_000, 200_000] {
        let mut player = Player::connect(&site).await;
        let mut answer = player.get(&format!("bytes=0-{}", len - 1)).await;
        // why: paused time.
        tokio::time::sleep(360 * limit).await;
        assert_eq!(read(answer.body_mut()).await.0, bytes(0, len), "{len}");
        let began = Instant::now();
        assert!(player.ended.await.unwrap().is_ok());
        assert_eq!(began.elapsed(), limit, "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault36_a_head_that_is_too_long_is_refused() {
    let film = Film::new(1000);
    let mut player = Player::connect(&Site::new(&film, HTTP_2)).await;
    let long = "x".repeat(70_000);
    let answer = player.ask(Method::GET, &[("x-long", &long)]).await.await;
    assert!(answer.map_or(true, |answer| answer.status() == 431));
    assert_eq!(film.journal(), []);
}

#[tokio::test]
async fn a_connection_of_http_2_at_rest_makes_room_and_a_busy_one_does_not() {
    let film = Film::new(1000).holding_at(10);
    let change = |config: ProxyConfig| config.with_max_connections(1);
    let site = Site::with(&film, HTTP_2, change);
    let address = site.listen().await;
    let connect = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        Player::over(site.client.connect(stream).await.unwrap()).await
    };
    let mut first = connect().await;
    let answer = first.get("bytes=0-4").await;
    assert_eq!(read(&mut answer.into_body()).await.0, bytes(0, 5));
    let mut second = connect().await;
    let mut answer = second.get("bytes=1-").await;
    assert!(first.ended.await.unwrap().is_ok(), "told that it is over");
    // A third one is told, in HTTP/1.1, that there is no place.
    let stream = TcpStream::connect(address).await.unwrap();
    let io = site.client.connect(stream).await.unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut third = super::player::Player::over(io);
    assert_eq!(third.get("/f", &[]).await.status(), 503);
    film.release(1000);
    assert_eq!(read(answer.body_mut()).await.0, bytes(1, 1000));
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_streams_under_way_and_takes_no_more() {
    let film = Film::new(1000).holding_at(10);
    let site = Site::new(&film, HTTP_2);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (stop, stopped) = oneshot::channel();
    let proxy = site.proxy.clone();
    let serving = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        proxy.serve_connection(theirs, None, stopped).await;
    });
    let mut player = Player::over(site.client.connect(ours).await.unwrap()).await;
    let mut answer = player.get("bytes=0-").await;
    stop.send(()).unwrap();
    // why: paused time; longer than the moment that a client with nothing under way would get.
    tokio::time::sleep(Duration::from_secs(5)).await;
    film.release(1000);
    assert_eq!(read(answer.body_mut()).await.0, bytes(0, 1000));
    serving.await.unwrap();
    assert!(poll_fn(|cx| player.ask.poll_ready(cx)).await.is_err());
}

/// How many records of TLS (RFC 8446, 5.1) there are.
fn count_records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
        bytes = rest.get(len..).unwrap_or_default();
        count += 1;
    }
    count
}

/// A connection, and everything that has been read from it.
struct Heard {
    io: DuplexStream,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Heard {
    fn new(io: DuplexStream) -> Self {
        let bytes = Arc::default();
        Self { io, bytes }
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let known = out.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, out);
        let new = &out.filled()[known..];
        self.bytes.lock().unwrap().extend_from_slice(new);
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// An origin that answers with the length of what it was sent.
#[derive(Debug)]
struct Counting;

#[async_trait]
impl OriginForward for Counting {
    async fn forward(&self, mut request: ForwardRequest) -> Result<ForwardResponse, FetchError> {
        let mut count = 0;
        if let Some(body) = &mut request.body {
            while let Some(piece) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                count += piece?.len();
            }
        }
        let said = super::forwarding::pieces([Ok(count.to_string().into())]);
        Ok(ForwardResponse {
            status: 200,
            headers: Vec::new(),
            body: said,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_goes_up_whole_and_its_answer_comes_back() {
    let film = Film::new(100);
    let site = Site::forwarding(&film, HTTP_2, Arc::new(Counting));
    let mut player = Player::connect(&site).await;
    let request = Request::put("https://localhost/f").body(()).unwrap();
    let (answer, mut sending) = player.ask.send_request(request, false).unwrap();
    // More than the window that the protocol begins with.
    sending.send_data(bytes(0, 300_000).into(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(read(&mut answer.into_body()).await.0, b"300000");
}
