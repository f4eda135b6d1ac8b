use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;

async fn ask(origin: &ScriptedOrigin, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut stream).await
}

async fn read_answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut got = Vec::new();
    let head_end = loop {
        if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "no head");
    };
    let head = String::from_utf8(got[..head_end].to_vec()).unwrap();
    let mut body = got.split_off(head_end);
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map(|len| len.parse::<usize>().unwrap());
    while len.is_none_or(|len| body.len() < len) {
        if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
            break;
        }
    }
    (head, body)
}

async fn film() -> ScriptedOrigin {
    let origin = ScriptedOrigin::start().await.unwrap();
    origin.put(OriginObject::new("film", 1000));
    origin
}

fn get(range: &str) -> String {
    format!("GET /film HTTP/1.1\r\nHost: x\r\nRange: {range}\r\n\r\n")
}

#[tokio::test]
async fn ranges_are_answered_rightly() {
    let origin = film().await;
    for (range, status, start, len) in [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 10),
        ("bytes=990-", 206, 990, 10),
        ("bytes=990-5000", 206, 990, 10),
        ("bytes=-7", 206, 993, 7),
        ("bytes=-5000", 206, 0, 1000),
        ("bytes=9-5", 200, 0, 1000),
        ("bytes=0-1,4-5", 200, 0, 1000),
        ("bytes=1000-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ] {
        let (head, body) = ask(&origin, &get(range)).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{range}: {head}"
        );
        assert_eq!(body.len(), len, "{range}");
        assert_eq!(verify_content("film", 1, start, &body), Ok(()), "{range}");
    }
}

#[tokio::test]
async fn one_connection_serves_several_requests_and_the_journal_counts_copies() {
    let origin = film().await;
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    for range in ["bytes=0-99", "bytes=50-149"] {
        stream.write_all(get(range).as_bytes()).await.unwrap();
        read_answer(&mut stream).await;
    }
    origin.journal().wait_until(|j| j.in_flight() == 0).await;
    let journal = origin.journal();
    assert_eq!(journal.requests_of("film"), 2);
    assert_eq!(journal.bytes_of("film"), 200);
    assert_eq!(journal.distinct_bytes_of("film"), 150);
    assert_eq!(journal.duplicate_bytes_of("film"), 50);
    let records = journal.records();
    assert_eq!(records[0].connection, records[1].connection);
    assert_eq!(records[1].range.as_deref(), Some("bytes=50-149"));
    assert!(!records[1].ended_by_peer);
    journal.clear();
    assert_eq!(journal.requests(), 0);
}

#[tokio::test]
async fn conditions_are_answered_rightly() {
    let origin = film().await;
    let tag = OriginObject::new("film", 1000).etag().unwrap();
    for (field, status) in [
        (format!("If-None-Match: {tag}"), 304),
        ("If-None-Match: \"other\"".to_owned(), 200),
        (
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT".to_owned(),
            304,
        ),
        (format!("Range: bytes=0-9\r\nIf-Range: {tag}"), 206),
        ("Range: bytes=0-9\r\nIf-Range: \"other\"".to_owned(), 200),
    ] {
        let mut stream = TcpStream::connect(origin.address()).await.unwrap();
        let request = format!("GET /film HTTP/1.1\r\n{field}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, format!("HTTP/1.1 {status}").as_bytes(), "{field}");
    }
}

#[tokio::test]
async fn faults_come_when_they_are_scripted() {
    let origin = film().await;
    origin.fault("film", When::Nth(2), Fault::status(503));
    origin.fault("film", When::Next, Fault::IgnoreRange);
    origin.fault(
        "film",
        When::From(3),
        Fault::CutAfter {
            bytes: 3,
            how: Cut::Close,
        },
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (head, body) = ask(&origin, &get("bytes=0-9")).await;
        seen.push((head[9..12].to_owned(), body.len()));
    }
    let expected = [("200", 1000), ("503", 0), ("206", 3)];
    assert_eq!(seen, expected.map(|(status, len)| (status.to_owned(), len)));
}

#[tokio::test]
async fn a_stall_lasts_until_the_release_and_a_departure_is_noted() {
    let origin = film().await;
    origin.fault("film", When::Always, Fault::StallAfter { bytes: 4 });
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    stream.write_all(get("bytes=0-9").as_bytes()).await.unwrap();
    origin
        .journal()
        .wait_until(|j| j.bytes_of("film") == 4)
        .await;
    drop(stream);
    origin.journal().wait_until(|j| j.in_flight() == 0).await;
    assert!(origin.journal().last().unwrap().ended_by_peer);

    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    stream.write_all(get("bytes=0-9").as_bytes()).await.unwrap();
    origin
        .journal()
        .wait_until(|j| j.bytes_of("film") == 8)
        .await;
    origin.release();
    let (_, body) = read_answer(&mut stream).await;
    assert_eq!(body, content("film", 1, 0, 10));
}

#[tokio::test]
async fn a_closed_origin_refuses_and_an_opened_one_is_at_the_same_place() {
    let mut origin = film().await;
    let address = origin.address();
    origin.close().await;
    assert!(TcpStream::connect(address).await.is_err());
    origin.reopen().await.unwrap();
    assert_eq!(origin.address(), address);
    let (_, body) = ask(&origin, &get("bytes=0-9")).await;
    assert_eq!(body.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_line_delays_the_first_byte_and_shares_its_rate_among_connections() {
    let link = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(1_000_000)
        .send_buffer(16 * 1024);
    let origin = ScriptedOrigin::start_with(OriginWorld::new(), link)
        .await
        .unwrap();
    origin.put(OriginObject::new("film", 100_000));
    let begin = Instant::now();
    let read = async || {
        let (_, body) = ask(&origin, &get("bytes=0-99999")).await;
        assert_eq!(verify_content("film", 1, 0, &body), Ok(()));
        assert_eq!(body.len(), 100_000);
    };
    tokio::join!(read(), read());
    // 200,000 bytes at 1 MB/s after 50 ms; the timer counts whole milliseconds.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(240), "{took:?}");
    assert!(took <= Duration::from_millis(280), "{took:?}");
    assert_eq!(origin.journal().duplicate_bytes_of("film"), 100_000);
}

#[tokio::test(start_paused = true)]
async fn each_connection_has_its_own_rate() {
    let link = Link::new().connection_rate(1_000_000);
    let origin = ScriptedOrigin::start_with(OriginWorld::new(), link)
        .await
        .unwrap();
    origin.put(OriginObject::new("film", 100_000));
    let begin = Instant::now();
    let request = get("bytes=0-99999");
    tokio::join!(ask(&origin, &request), ask(&origin, &request));
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(90), "{took:?}");
    assert!(took <= Duration::from_millis(130), "{took:?}");
}
