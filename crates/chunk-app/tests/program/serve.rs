//! `chunkd serve`.

use std::os::unix::fs::PermissionsExt;

use chunk_testkit::origin::{Fault, OriginObject, TagKind, When, verify_content};
use rustix::process::Signal;

use crate::http;
use crate::program::{Bench, LOOKS, Server, look_later};

const LEN: u64 = 700_001;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_through_byte_for_byte_and_the_second_time_from_here() {
    let bench = Bench::with("film.mkv", LEN).await;
    let server = bench.serve().await;
    assert_eq!(
        server.first_line,
        format!(
            "chunkd: http://{}/ -> {}/",
            server.address,
            bench.origin.url()
        )
    );
    for _ in 0..2 {
        let whole = server.get("/film.mkv", "").await;
        assert_eq!((whole.status, whole.body.len() as u64), (200, LEN));
        assert_eq!(verify_content("film.mkv", 1, 0, &whole.body), Ok(()));
        let part = server
            .get("/film.mkv", "Range: bytes=65530-131080\r\n")
            .await;
        assert_eq!(part.status, 206);
        assert_eq!(
            part.header("content-range"),
            Some("bytes 65530-131080/700001")
        );
        assert_eq!(verify_content("film.mkv", 1, 65_530, &part.body), Ok(()));
        let tail = server.get("/film.mkv", "Range: bytes=-1000\r\n").await;
        assert_eq!(tail.body.len(), 1000);
        assert_eq!(
            verify_content("film.mkv", 1, LEN - 1000, &tail.body),
            Ok(())
        );
    }
    assert_eq!(bench.origin.journal().duplicate_bytes_of("film.mkv"), 0);
    server.stop().await;
    // A restart forgets nothing that was recorded, and the origin may have gone.
    let sent = bench.origin.journal().bytes_of("film.mkv");
    let server = bench.serve().await;
    let whole = server.get("/film.mkv", "").await;
    assert_eq!(verify_content("film.mkv", 1, 0, &whole.body), Ok(()));
    assert_eq!(bench.origin.journal().bytes_of("film.mkv"), sent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap12_a_suffix_is_served_where_the_origin_leaves_the_total_open() {
    for (asked, first) in [(1000, LEN - 1000), (LEN + 5, 0)] {
        let bench = Bench::with("film.mkv", LEN).await;
        bench.origin.fault("film.mkv", When::Always, Fault::NoTotal);
        let server = bench.serve().await;
        let field = format!("Range: bytes=-{asked}\r\n");
        for _ in 0..2 {
            let end = server.get("/film.mkv", &field).await;
            assert_eq!(end.status, 206, "{asked}: {}", end.head);
            assert_eq!(verify_content("film.mkv", 1, first, &end.body), Ok(()));
            assert_eq!(end.body.len() as u64, LEN - first);
            let said = format!("bytes {first}-700000/{LEN}");
            assert_eq!(end.header("content-range"), Some(said.as_str()));
        }
        let middle = server.get("/film.mkv", "Range: bytes=5-9\r\n").await;
        assert_eq!(middle.header("content-range"), Some("bytes 5-9/700001"));
        let whole = server.get("/film.mkv", "").await;
        assert_eq!(verify_content("film.mkv", 1, 0, &whole.body), Ok(()));
        assert_eq!((whole.status, whole.body.len() as u64), (200, LEN));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_bytes_is_a_file_at_an_origin_that_refuses_every_range_of_it() {
    let bench = Bench::new().await;
    let empty = OriginObject::new("empty.txt", 0).content_type("text/plain");
    let tag = empty.etag().unwrap();
    bench.origin.put(empty);
    let server = bench.serve().await;
    for (field, status) in [
        (String::new(), 200),
        ("Range: bytes=-5".to_owned(), 200),
        ("Range: bytes=0-".to_owned(), 416),
        ("Range: bytes=7-".to_owned(), 416),
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-Match: {tag}"), 200),
        ("If-Match: \"another\"".to_owned(), 412),
    ] {
        let line = if field.is_empty() {
            String::new()
        } else {
            format!("{field}\r\n")
        };
        // In a cache that has never met it, and in one that has.
        let cold = Bench::new().await;
        let empty = OriginObject::new("empty.txt", 0).content_type("text/plain");
        cold.origin.put(empty);
        let first = cold.serve().await;
        for answer in [
            first.get("/empty.txt", &line).await,
            server.get("/empty.txt", &line).await,
        ] {
            assert_eq!(answer.status, status, "{field}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()), "{field}");
            assert!(answer.header("last-modified").is_some(), "{field}");
            if status == 200 {
                assert_eq!(answer.header("content-type"), Some("text/plain"), "{field}");
                assert_eq!(answer.header("content-length"), Some("0"), "{field}");
                assert!(answer.body.is_empty(), "{field}");
            }
        }
        first.stop().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn named_origins_have_a_line_and_a_folder_each() {
    let bench = Bench::with("a", 10).await;
    let other = Bench::with("a", 20).await;
    let one = format!("one={}", bench.origin.url());
    let two = format!("two={}", other.origin.url());
    let mut server = bench
        .serve_with(&["--origin", &one, "--origin", &two])
        .await;
    assert!(server.first_line.contains("/one/ -> "));
    assert!(server.line().await.contains("/two/ -> "));
    assert_eq!(server.get("/one/a", "").await.body.len(), 10);
    assert_eq!(server.get("/two/a", "").await.body.len(), 20);
    assert_eq!(server.get("/three/a", "").await.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_and_its_socket_are_for_this_user_alone() {
    let bench = Bench::with("a", 10).await;
    let server = bench.serve().await;
    let mode = |name: &str| {
        let metadata = std::fs::metadata(bench.folder().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("data"), 0o700);
    for file in ["chunkd.sock", "index.db", "origins.json", "lock"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    server.stop().await;
    assert!(!bench.folder().join("chunkd.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_on_the_socket_and_on_an_address_of_their_own() {
    let bench = Bench::with("a", 70_000).await;
    let url = bench.origin.url();
    let arguments = ["--origin", &url, "--admin-listen", "127.0.0.1:0"];
    let mut server = bench.serve_with(&arguments).await;
    let line = server.logged("health and metrics on").await;
    let admin = line.split("http://").nth(1).unwrap();
    let admin = admin.trim_end_matches('/').parse().unwrap();
    assert_eq!(server.get("/a", "").await.body.len(), 70_000);
    for page in ["/healthz", "/metrics"] {
        let here = http::order(&bench.folder(), "GET", page, "").await;
        let there = http::get(admin, page, "").await;
        assert_eq!((here.status, there.status), (200, 200));
        let head = http::whatever(admin, "HEAD", page).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("\r\ncontent-length: "), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        for method in ["POST", "DELETE", "OPTIONS"] {
            let answer = http::whatever(admin, method, page).await;
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
            assert!(answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
        }
    }
    let answer = http::order(&bench.folder(), "POST", "/v1/status", "").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let answer = http::order(&bench.folder(), "GET", "/v1/pin", "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let metrics = http::get(admin, "/metrics", "").await.text();
    for line in [
        "chunkd_origin_bytes_total 70000",
        "chunkd_http_answers_total{class=\"2xx\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}: {metrics}"
        );
    }
    // Orders are for the socket only, and the players' port has none of it: an origin owns its paths.
    for page in ["/v1/status", "/v1/instance"] {
        assert_eq!(http::get(admin, page, "").await.status, 404);
    }
    assert_eq!(server.get("/metrics", "").await.status, 404);
    assert_eq!(bench.origin.journal().requests_of("metrics"), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault42_the_admin_address_answers_to_its_own_names_only() {
    let bench = Bench::new().await;
    let url = bench.origin.url();
    let pages = ["--admin-listen", "127.0.0.1:0", "--host", "Media.example"];
    let arguments = [&["--origin", url.as_str()], &pages[..]].concat();
    let mut server = bench.serve_with(&arguments).await;
    let line = server.logged("health and metrics on").await;
    let admin = line.split("http://").nth(1).unwrap();
    let admin = admin.trim_end_matches('/').parse().unwrap();
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9", 200),
        ("media.example:9090", 200),
        ("rebound.example", 421),
        ("localhost.rebound.example", 421),
        ("media.example, localhost", 400),
    ] {
        for page in ["/healthz", "/metrics"] {
            let answer = http::get_as(admin, host, page).await;
            assert_eq!(answer.status, status, "{host}{page}");
            assert_eq!(
                answer.text().contains("chunkd_"),
                status == 200 && page == "/metrics"
            );
        }
    }
    // The socket is in a folder that only its user can enter; no name can be pointed at it.
    let answer = http::order(&bench.folder(), "GET", "/healthz", "").await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_does_not_answer_is_a_warning() {
    let mut bench = Bench::with("a", 10).await;
    bench.origin.close().await;
    let mut server = bench.serve().await;
    let warning = server.logged("does not answer").await;
    assert!(
        warning.contains("WARN") && warning.contains("may come back"),
        "{warning}"
    );
    bench.origin.reopen().await.unwrap();
    assert_eq!(server.get("/a", "").await.body.len(), 10);
    server.stop().await;
}

/// A server in the middle of an answer whose rest the origin holds back, told to end.
async fn draining(bench: &Bench) -> (Server, http::Begun<tokio::net::TcpStream>) {
    let stall = Fault::StallAfter { bytes: 200_000 };
    bench.origin.fault("film.mkv", When::Nth(1), stall);
    let server = bench.serve().await;
    let mut answer = http::begin(server.address, "/film.mkv", "").await.unwrap();
    answer.at_least(200_000).await;
    server.terminate();
    for _ in 0..LOOKS {
        if http::begin(server.address, "/film.mkv", "Range: bytes=0-0\r\n")
            .await
            .is_err()
        {
            return (server, answer);
        }
        look_later().await;
    }
    panic!("the server goes on taking connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_answers_under_way_finish() {
    let bench = Bench::with("film.mkv", LEN).await;
    let (server, answer) = draining(&bench).await;
    bench.origin.release();
    let answer = answer.finish().await.unwrap();
    assert_eq!(verify_content("film.mkv", 1, 0, &answer.body), Ok(()));
    assert_eq!(answer.body.len() as u64, LEN);
    let (status, said) = server.end().await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let bench = Bench::with("film.mkv", LEN).await;
    let (server, answer) = draining(&bench).await;
    server.signal(Signal::INT);
    let (status, said) = server.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("ended at once"), "{said}");
    assert!(answer.finish().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault45_another_server_under_the_same_name_never_lends_its_bytes() {
    let bench = Bench::with("a", 100_000).await;
    let server = bench.serve().await;
    assert_eq!(server.get("/a", "").await.body.len(), 100_000);
    server.stop().await;
    let other = Bench::new().await;
    // By its tag it would be the same.
    let tag = OriginObject::new("a", 100_000).etag().unwrap();
    let object = OriginObject::new("a", 100_000).tag(TagKind::Fixed(tag));
    other.origin.put(object.version(2));
    let mut server = bench.serve_with(&["--origin", &other.origin.url()]).await;
    server
        .logged("the origin at / is at another URL than before")
        .await;
    let answer = server.get("/a", "").await;
    assert_eq!(verify_content("a", 2, 0, &answer.body), Ok(()));
    server.stop().await;
}
