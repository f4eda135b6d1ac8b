//! How much an origin can get rid of that nobody reads.

#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;

use std::time::Duration;

use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_ports::{BodyStream, ChunkFetcher, FetchOutcome};
use chunk_testkit::origin::{Link, OriginObject, OriginWorld, ScriptedOrigin, verify_content};
use futures_util::StreamExt;
use support::{resource, span};

const LEN: u64 = 64 << 20;

/// What is read at full speed, by which the kernel's own window grows.
const BURST: u64 = 32 << 20;

/// What may be on its way unread: the window, half a megabyte at this rate and a whole one where the machine
/// is busy, and the origin's own buffer. Measured with the kernel's own window: 2.8 to 3.5 MB.
const UNREAD: u64 = 2 << 20;

/// An origin with a small buffer of its own, and a body of its film.
async fn film() -> (ScriptedOrigin, BodyStream) {
    // 1 Gbit/s.
    let link = Link::new().send_buffer(128 * 1024).total_rate(125_000_000);
    let origin = ScriptedOrigin::start_with(OriginWorld::new(), link)
        .await
        .unwrap();
    origin.put(OriginObject::new("film.mkv", LEN));
    let config = OriginConfig::new(origin.url());
    let fetcher = HttpFetcher::builder().origin("", config).build().unwrap();
    let request = span(resource("/film.mkv", "/film.mkv"), 0, LEN);
    let FetchOutcome::Body(fetched) = fetcher.fetch(request).await.unwrap() else {
        panic!("no body");
    };
    (origin, fetched.body)
}

/// Reads at least `len` further bytes, which are those from `at`; where it ended.
async fn read(body: &mut BodyStream, at: u64, len: u64) -> u64 {
    let mut end = at;
    while end < at + len {
        let piece = body.next().await.unwrap().unwrap();
        assert_eq!(verify_content("film.mkv", 1, end, &piece), Ok(()));
        end += piece.len() as u64;
    }
    end
}

/// What the origin got rid of in all, once it gets rid of no more.
async fn sent(origin: &ScriptedOrigin) -> u64 {
    let mut sent = 0;
    let mut unchanged = 0;
    while unchanged < 100 {
        // On a machine too busy to send, this sees too little and the test passes.
        // why: real time, for the kernel keeps no other.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = origin.journal().bytes_of("film.mkv");
        unchanged = if now == sent { unchanged + 1 } else { 0 };
        sent = now;
    }
    sent
}

#[tokio::test]
async fn a_body_that_is_not_read_lets_little_come_and_goes_on_where_it_was() {
    let (origin, mut body) = film().await;
    let at = read(&mut body, 0, BURST).await;
    let unread = sent(&origin).await - at;
    assert!(unread <= UNREAD, "{unread}");
    read(&mut body, at, LEN - at).await;
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_body_that_is_dropped_ends_its_transfer_and_little_is_wasted() {
    let (origin, mut body) = film().await;
    let at = read(&mut body, 0, BURST).await;
    let unread = sent(&origin).await;
    drop(body);
    assert_eq!(sent(&origin).await, unread);
    assert!(unread - at <= UNREAD, "{}", unread - at);
    assert_eq!(origin.journal().in_flight(), 0);
    assert!(origin.journal().last().unwrap().ended_by_peer);
}
