//! Clients that do wrong, by carelessness or on purpose.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::film::{Film, bytes};
use super::play;
use super::semantics::understood;

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn fault44_ambiguous_requests_get_a_400_and_the_connection_ends() {
    let host = "Host: localhost\r\n";
    let corpus = [
        format!(
            "POST / HTTP/1.1\r\n{host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        ),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 4, 4\r\n\r\nbody"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: -4\r\n\r\nbody"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\nbody"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\nbody"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "GET / HTTP/1.1\nHost: localhost\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: localhost\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}A: b\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A: b\rContent-Length: 4\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A: b\0c\r\n\r\n"),
        format!("GET /\0 HTTP/1.1\r\n{host}\r\n"),
        format!("GET /a#b HTTP/1.1\r\n{host}\r\n"),
        format!("GET  / HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}no colon\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ];
    for request in corpus {
        let film = Film::new(100);
        let mut player = play(&film);
        // Whatever hides behind the bad request must not be answered.
        player.send(format!("{request}{GOOD}")).await;
        let answer = player.answer().await;
        assert_eq!(answer.status(), 400, "{request:?}");
        assert!(player.is_closed().await, "{request:?}");
        assert_eq!(film.journal(), [], "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault44_a_bad_request_behind_a_good_one_waits_its_turn() {
    let film = Film::new(100);
    let mut player = play(&film);
    player
        .send(format!("{GOOD}GET / HTTP/1.1\nHost: localhost\n\n{GOOD}"))
        .await;
    let answer = player.answer().await;
    assert_eq!((answer.status(), answer.body), (200, bytes(0, 100)));
    assert_eq!(player.answer().await.status(), 400);
    assert!(player.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn fault44_after_a_body_that_nobody_read_the_connection_ends() {
    let film = Film::new(100);
    for framing in ["Content-Length: 70", "Transfer-Encoding: chunked"] {
        let mut player = play(&film);
        player.ask("GET", "/f", &[framing]).await;
        // A body that looks like a request.
        player.send(GOOD).await;
        let answer = player.answer().await;
        assert_eq!(
            (answer.status(), answer.field("connection")),
            (200, Some("close"))
        );
        assert!(player.is_closed().await);
    }
    assert_eq!(film.journal().len(), 2 * 3);
}

#[tokio::test(start_paused = true)]
async fn fault36_a_head_that_trickles_in_is_given_up() {
    let film = Film::new(100);
    let mut player = play(&film);
    let start = tokio::time::Instant::now();
    // One byte per second never ends; the connection does.
    for byte in GOOD.bytes().cycle() {
        // why: virtual time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if player.io.write_all(&[byte & 0x5f | 0x40]).await.is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(40), "still listening");
    }
    assert!(start.elapsed() >= Duration::from_secs(30));
    assert!(player.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn fault36_an_idle_connection_is_given_up_and_a_busy_one_is_not() {
    let mut idle = play(&Film::new(100));
    idle.get("/f", &[]).await;
    let since = tokio::time::Instant::now();
    assert!(idle.is_closed().await);
    assert!((30..32).contains(&since.elapsed().as_secs()));
    let film = Film::new(100).holding_at(0);
    let mut busy = play(&film);
    busy.ask("GET", "/f", &[]).await;
    // why: virtual time; ten times as long as an idle connection may stand.
    tokio::time::sleep(Duration::from_secs(300)).await;
    film.release(100);
    assert_eq!(busy.answer().await.body, bytes(0, 100));
}

#[tokio::test(start_paused = true)]
async fn fault36_a_reader_that_never_reads_holds_a_bounded_buffer() {
    let film = Film::new(1 << 30);
    let proxy = super::proxy(&film);
    let mut player = super::Player::connect(&proxy);
    player.ask("GET", "/f", &[]).await;
    // why: virtual time; everything that can run does.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let sent = proxy.statistics().bytes_sent;
    assert!(
        sent > 0 && sent <= 1024 * 1024,
        "{sent} bytes taken for a client that takes none"
    );
    assert_eq!(film.readers(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_long_is_said_to_be_too_long() {
    let film = Film::new(100);
    let mut player = play(&film);
    assert_eq!(
        player
            .get(&format!("/{}", "a".repeat(8 * 1024)), &[])
            .await
            .status(),
        414
    );
    assert_eq!(
        player
            .get(&format!("/{}", "a".repeat(8 * 1024 - 1)), &[])
            .await
            .status(),
        200
    );
    let mut player = play(&film);
    let (mut reading, mut writing) = tokio::io::split(player.io);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n",
        "a".repeat(70 * 1024)
    );
    let sending = tokio::spawn(async move {
        let _ = writing.write_all(head.as_bytes()).await;
        writing
    });
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer)
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    player = super::Player::over(reading.unsplit(sending.await.unwrap()));
    drop(player);
    let mut player = play(&film);
    let fields: Vec<String> = (0..120).map(|number| format!("F{number}: x")).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    assert_eq!(player.get("/f", &fields).await.status(), 431);
    assert_eq!(film.journal().len(), 3, "only the good one was opened");
}

#[tokio::test(start_paused = true)]
async fn fault47_odd_paths_are_data() {
    let film = Film::new(100);
    let mut player = play(&film);
    for target in [
        "/../../etc/passwd",
        "/%2e%2e/%2E%2e/x",
        "/a%2f..%2fb",
        "/%00",
        "//x",
        "/a//b",
        "/?",
        "/a?b?c",
    ] {
        assert_eq!(player.get(target, &[]).await.status(), 200, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn old_clients_without_a_host_are_served() {
    let mut player = play(&Film::new(100));
    player.send("GET /f HTTP/1.0\r\n\r\n").await;
    let answer = player.answer().await;
    assert_eq!((answer.status(), answer.body), (200, bytes(0, 100)));
    assert!(player.is_closed().await);
    let mut player = play(&Film::new(100).endless());
    player.send("GET /f HTTP/1.0\r\n\r\n").await;
    let answer = player.answer().await;
    assert_eq!(answer.field("transfer-encoding"), None);
    assert_eq!(answer.body, bytes(0, 100));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn fault44_a_damaged_request_is_answered_or_the_connection_ends(
        damages in proptest::collection::vec((0usize..120, any::<u8>(), any::<bool>()), 1..4),
    ) {
        let whole = "GET /f HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\nContent-Length: 0\r\n\r\n";
        let mut request = whole.as_bytes().to_vec();
        for (at, byte, inserted) in damages {
            let at = at % request.len();
            if inserted {
                request.insert(at, byte);
            } else {
                request[at] = byte;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut player = play(&Film::new(100));
            player.send(&request).await;
            // In virtual time a connection that neither answers nor ends would hang this test.
            while let Some(head) = player.answer_head().await {
                let answer = player.body(head).await;
                assert!(answer.whole);
                if answer.status() == 206 {
                    for (start, part) in understood(&answer) {
                        assert_eq!(part, bytes(start, start + part.len() as u64));
                    }
                }
            }
        });
    }
}
