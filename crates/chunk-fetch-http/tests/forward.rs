//! Requests that a cache does not answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::CacheKey;
use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_ports::{
    BodyStream, FetchError, ForwardRequest, ForwardResponse, OriginForward, Resource, Secret,
};
use chunk_testkit::origin::{Fault, OriginObject, ScriptedOrigin, When};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

async fn origin() -> (ScriptedOrigin, Arc<dyn OriginForward>) {
    let origin = ScriptedOrigin::start().await.unwrap();
    origin.put(
        OriginObject::new("film.mkv", 1000)
            .header("Set-Cookie", "session=1")
            .header("X-Internal", "1")
            .header("WWW-Authenticate", "Basic realm=films")
            .header("Allow", "GET, PUT"),
    );
    let config = OriginConfig::new(origin.url()).header("X-Key", Secret::new("key"));
    let fetcher = HttpFetcher::builder().origin("", config).build().unwrap();
    (origin, Arc::new(fetcher))
}

fn request(method: &str, headers: &[(&str, &str)], body: &[&'static str]) -> ForwardRequest {
    let key = CacheKey::new("", "/film.mkv", &[""; 0]).unwrap();
    let pieces: Vec<_> = body.iter().map(|piece| Ok(Bytes::from(*piece))).collect();
    ForwardRequest {
        method: method.to_owned(),
        resource: Resource::from_key(Arc::new(key)),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: (!pieces.is_empty()).then(|| Box::pin(stream::iter(pieces)) as BodyStream),
    }
}

async fn text(mut response: ForwardResponse) -> String {
    let mut bytes = Vec::new();
    while let Some(piece) = response.body.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn fault44_an_answer_that_says_twice_where_it_ends_is_not_passed_on() {
    let (origin, forward) = origin().await;
    origin.put(OriginObject::new("film.mkv", 1000).header("Content-Length", "10"));
    origin.fault("film.mkv", When::Next, Fault::Chunked);
    let error = forward.forward(request("DELETE", &[], &[])).await;
    assert!(matches!(error, Err(FetchError::Refused { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_body_goes_up_with_its_length_and_the_answer_comes_back() {
    let (origin, forward) = origin().await;
    let sent = request(
        "PUT",
        &[("content-length", "6"), ("content-type", "text/plain")],
        &["abc", "def"],
    );
    let response = forward.forward(sent).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(text(response).await, "PUT done");
    let record = origin.journal().last().unwrap();
    assert_eq!(
        (record.method.as_str(), record.body.as_slice()),
        ("PUT", &b"abcdef"[..])
    );
    assert_eq!(record.header("content-length"), Some("6"));
    assert_eq!(record.header("content-type"), Some("text/plain"));
    assert_eq!(record.header("x-key"), Some("key"));
}

#[tokio::test(start_paused = true)]
async fn trap17_a_query_goes_up_as_it_was_written() {
    let (origin, forward) = origin().await;
    let target = "/film.mkv?a='%27&b=[{x|y}]^`\\&sig=it's";
    for method in ["POST", "DELETE"] {
        let mut sent = request(method, &[], &[]);
        sent.resource = Resource::new(Arc::clone(&sent.resource.key), Secret::new(target));
        forward.forward(sent).await.unwrap();
        assert_eq!(origin.journal().last().unwrap().target, target);
    }
}

/// What the answer waits for does not wait for the answer to be read.
#[tokio::test]
async fn what_goes_up_goes_on_whether_or_not_an_early_answer_is_read() {
    const LEN: usize = 16 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = OriginConfig::new(format!("http://{}", listener.local_addr().unwrap()));
    let fetcher = HttpFetcher::builder().origin("", config).build().unwrap();
    let (all_came, came) = oneshot::channel();
    let origin = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let first = socket.read(&mut buffer).await.unwrap();
        let body = buffer[..first].windows(4).position(|w| w == b"\r\n\r\n");
        let mut got = first - body.unwrap() - 4;
        socket
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nO")
            .await
            .unwrap();
        while got < LEN {
            let more = socket.read(&mut buffer).await.unwrap();
            assert_ne!(more, 0, "{got} bytes came");
            got += more;
        }
        all_came.send(()).unwrap();
        socket.write_all(b"K").await.unwrap();
    });
    let length = LEN.to_string();
    let mut sent = request("PUT", &[("content-length", &length)], &[]);
    let pieces = (0..LEN / 65_536).map(|_| Ok(Bytes::from(vec![b'x'; 65_536])));
    sent.body = Some(Box::pin(stream::iter(pieces)));
    let response = fetcher.forward(sent).await.unwrap();
    came.await.unwrap();
    assert_eq!(text(response).await, "OK");
    origin.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_without_length_goes_up_in_chunks_and_none_stays_none() {
    let (origin, forward) = origin().await;
    let sent = request("POST", &[], &["abc", "def"]);
    forward.forward(sent).await.unwrap();
    let record = origin.journal().last().unwrap();
    assert_eq!(record.body, b"abcdef");
    forward.forward(request("DELETE", &[], &[])).await.unwrap();
    let record = origin.journal().last().unwrap();
    assert_eq!(record.header("transfer-encoding"), None);
}

#[tokio::test(start_paused = true)]
async fn only_listed_fields_travel_either_way() {
    let (origin, forward) = origin().await;
    let sent = [
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("connection", "x-internal"),
        ("x-internal", "1"),
        ("range", "bytes=0-1"),
        ("host", "elsewhere"),
        ("if-match", "\"tag\""),
    ];
    let response = forward
        .forward(request("DELETE", &sent, &[]))
        .await
        .unwrap();
    let names: Vec<_> = response
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["allow", "content-length", "date"]);
    let record = origin.journal().last().unwrap();
    assert_eq!(record.header("if-match"), Some("\"tag\""));
    for name in [
        "cookie",
        "authorization",
        "connection",
        "x-internal",
        "range",
    ] {
        assert_eq!(record.header(name), None, "{name}");
    }
    assert_eq!(
        record.header("host"),
        Some(origin.address().to_string().as_str())
    );
}

#[tokio::test(start_paused = true)]
async fn a_challenge_goes_back_where_credentials_are_forwarded() {
    let (origin, _) = origin().await;
    let mut config = OriginConfig::new(origin.url());
    config.forward_authorization = true;
    let fetcher = HttpFetcher::builder().origin("", config).build().unwrap();
    let response = fetcher.forward(request("DELETE", &[], &[])).await.unwrap();
    let challenge = |(name, _): &&(String, Vec<u8>)| name == "www-authenticate";
    let challenge = response.headers.iter().find(challenge);
    assert_eq!(challenge.unwrap().1, b"Basic realm=films");
}

#[tokio::test(start_paused = true)]
async fn redirects_and_failures_go_back_as_they_are_and_nothing_is_retried() {
    let (origin, forward) = origin().await;
    origin.fault("film.mkv", When::Next, Fault::redirect("/there"));
    let response = forward.forward(request("POST", &[], &[])).await.unwrap();
    assert_eq!(response.status, 302);
    assert!(
        response
            .headers
            .contains(&("location".to_owned(), b"/there".to_vec()))
    );
    origin.fault("film.mkv", When::Next, Fault::status(503));
    assert_eq!(
        forward
            .forward(request("POST", &[], &[]))
            .await
            .unwrap()
            .status,
        503
    );
    origin.fault("film.mkv", When::Next, Fault::NoAnswer);
    let error = forward
        .forward(request("POST", &[], &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
    assert_eq!(origin.journal().requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn methods_a_cache_answers_or_a_proxy_must_not_pass_are_forbidden() {
    let (origin, forward) = origin().await;
    for method in ["GET", "HEAD", "CONNECT", "TRACE", "BAD METHOD", ""] {
        let error = forward
            .forward(request(method, &[], &[]))
            .await
            .unwrap_err();
        assert!(
            matches!(error, FetchError::Forbidden { .. }),
            "{method}: {error:?}"
        );
    }
    assert_eq!(origin.journal().requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_exchange_ends_it() {
    let (origin, forward) = origin().await;
    origin.fault("film.mkv", When::Next, Fault::StallBeforeHead);
    let waits = forward.forward(request("POST", &[], &[]));
    let waits = tokio::time::timeout(Duration::from_secs(1), waits);
    assert!(waits.await.is_err());
    origin
        .journal()
        .wait_until(|journal| journal.in_flight() == 0)
        .await;
    assert!(origin.journal().last().unwrap().ended_by_peer);
}
