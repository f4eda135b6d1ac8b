//! Players that connect with TLS.

use std::future::pending;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use chunk_manager::ReadError;
use chunk_ports::OriginForward;
use chunk_testkit::secure::{Certificate, SecureClient, TlsStream};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::film::{Event, Film, bytes};
use super::player::{Player, SOCKET};
use super::proxy_with;
use crate::config::{Cors, Mount, ProxyConfig};
use crate::serve::Proxy;
use crate::tls::{TlsError, TlsIdentity};

/// A proxy with a certificate, and a client that trusts it.
pub(super) struct Site {
    pub(super) proxy: Proxy,
    pub(super) client: SecureClient,
}

impl Site {
    pub(super) fn new(film: &Film, protocols: &[&str]) -> Self {
        Self::with(film, protocols, |config| config)
    }

    pub(super) fn with(
        film: &Film,
        protocols: &[&str],
        change: impl FnOnce(ProxyConfig) -> ProxyConfig,
    ) -> Self {
        let certificate = Certificate::of("localhost");
        let config = ProxyConfig::new(vec![Mount::unnamed()]).with_tls(identity(&certificate));
        Self {
            proxy: proxy_with(film, change(config)),
            client: SecureClient::new(&certificate, "localhost", protocols),
        }
    }

    /// With a way to the origin.
    pub(super) fn forwarding(
        film: &Film,
        protocols: &[&str],
        forward: Arc<dyn OriginForward>,
    ) -> Self {
        let certificate = Certificate::of("localhost");
        let config = ProxyConfig::new(vec![Mount::unnamed()]).with_tls(identity(&certificate));
        Self {
            proxy: Proxy::build(Arc::new(film.clone()), Some(forward), config).unwrap(),
            client: SecureClient::new(&certificate, "localhost", protocols),
        }
    }

    /// The other end of a connection that nothing has been said on.
    pub(super) fn begin(&self) -> DuplexStream {
        let (ours, theirs) = duplex(SOCKET);
        let proxy = self.proxy.clone();
        tokio::spawn(async move { proxy.serve_connection(theirs, None, pending()).await });
        ours
    }

    pub(super) async fn connect(&self) -> TlsStream<DuplexStream> {
        self.client.connect(self.begin()).await.unwrap()
    }

    async fn play(&self) -> Player<TlsStream<DuplexStream>> {
        Player::over(self.connect().await)
    }

    /// The same on a real socket.
    pub(super) async fn listen(&self) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = self.proxy.clone();
        tokio::spawn(async move { proxy.serve(listener, pending()).await });
        address
    }
}

fn identity(certificate: &Certificate) -> TlsIdentity {
    TlsIdentity::from_pem(certificate.chain.as_bytes(), certificate.key.as_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn over_tls_come_the_bytes_that_come_without() {
    let film = Film::new(3_000_000);
    for protocols in [&["http/1.1"][..], &[]] {
        let mut player = Site::new(&film, protocols).play().await;
        let agreed = player.io.get_ref().1.alpn_protocol();
        assert_eq!(agreed, protocols.first().map(|name| name.as_bytes()));
        // Around what a record and what a queue of them holds.
        for len in [1_u64, 2, 16_383, 16_384, 16_385, 65_536, 81_920, 400_001] {
            let range = format!("Range: bytes=1000-{}", 1000 + len - 1);
            let answer = player.get("/f", &[&range]).await;
            assert_eq!(answer.status(), 206, "{len}");
            assert!(
                answer.whole && answer.body == bytes(1000, 1000 + len),
                "{len}"
            );
        }
        assert_eq!(
            player.head("/f", &[]).await.field("content-length"),
            Some("3000000")
        );
        // The library's, and what follows it.
        player.ask("OPTIONS", "/f", &[]).await;
        assert_eq!(player.answer().await.status(), 204);
        let whole = player.get("/f", &["Connection: close"]).await;
        assert!(whole.whole && whole.body == bytes(0, 3_000_000));
        assert!(player.is_closed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_is_told_and_a_cut_is_not_taken_for_it() {
    let film = Film::new(1000);
    let mut player = Site::new(&film, &[]).play().await;
    player.get("/f", &["Connection: close"]).await;
    assert_eq!(player.io.read(&mut [0]).await.unwrap(), 0);

    let broken = Film::new(1000).failing_at(500, ReadError::Changed);
    let mut player = Site::new(&broken, &[]).play().await;
    player.ask("GET", "/f", &[]).await;
    let head = player.answer_head().await.unwrap();
    assert_eq!(player.take(500).await, (bytes(0, 500), true));
    assert_eq!(head.field("content-length"), Some("1000"));
    let error = player.io.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_unframed_body_that_breaks_ends_with_a_reset_over_tls_too() {
    let film = Film::new(1000)
        .endless()
        .failing_at(500, ReadError::Changed);
    let site = Site::new(&film, &[]);
    let stream = TcpStream::connect(site.listen().await).await.unwrap();
    let mut player = Player::over(site.client.connect(stream).await.unwrap());
    player.send("GET /f HTTP/1.0\r\n\r\n").await;
    let error = player.io.read_to_end(&mut Vec::new()).await.unwrap_err();
    let is_cut = matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    );
    assert!(is_cut, "{error}");
}

#[tokio::test(start_paused = true)]
async fn fault36_a_handshake_that_trickles_in_is_given_up() {
    let film = Film::new(100);
    let limit = Duration::from_secs(10);
    let site = Site::with(&film, &[], |config| config.with_header_timeout(limit));
    for begun in [&[][..], &[0x16, 0x03, 0x01, 0x02, 0x00]] {
        let mut io = site.begin();
        io.write_all(begun).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(io.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        assert_eq!(began.elapsed(), limit);
    }
    // And a head that does not come after it.
    let mut player = site.play().await;
    let began = tokio::time::Instant::now();
    assert!(player.is_closed().await);
    assert_eq!(began.elapsed(), limit);
}

#[tokio::test(start_paused = true)]
async fn fault44_who_speaks_without_tls_is_not_answered() {
    let film = Film::new(100);
    let site = Site::new(&film, &[]);
    let mut io = site.begin();
    io.write_all(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    io.read_to_end(&mut said).await.unwrap();
    // An alert, by which a client of TLS would know.
    assert!(said.len() < 16 && said.first() == Some(&0x15), "{said:?}");
    assert_eq!(film.journal(), []);
    assert_eq!(site.proxy.statistics().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_that_is_not_spoken_ends_the_handshake() {
    let site = Site::new(&Film::new(100), &["spdy/3"]);
    assert!(site.client.connect(site.begin()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn fault36_who_takes_nothing_is_read_for_no_further() {
    let film = Film::new(1 << 30);
    let mut player = Site::new(&film, &[]).play().await;
    player.ask("GET", "/f", &[]).await;
    let head = player.answer_head().await.unwrap();
    assert_eq!(head.status, 200);
    // why: paused time; whatever could go on would.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    drop(player);
    film.until(|film| film.readers() == 0).await;
    let read = film.journal().iter().find_map(|event| match event {
        Event::ReaderGone(position) => Some(*position),
        _ => None,
    });
    // What the connection holds, what is encrypted, and a piece.
    assert!(read.unwrap() <= 512 * 1024, "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_resumes_the_session_of_the_first() {
    let site = Site::new(&Film::new(100), &[]);
    let mut first = site.play().await;
    first.get("/f", &["Connection: close"]).await;
    assert_eq!(
        first.io.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Full)
    );
    let mut second = site.play().await;
    assert_eq!(second.get("/f", &[]).await.body, bytes(0, 100));
    assert_eq!(
        second.io.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
}

#[tokio::test(start_paused = true)]
async fn fault43_a_page_of_ours_and_a_target_of_ours_begin_with_https() {
    let film = Film::new(100);
    let change = |config: ProxyConfig| config.with_cors(Cors::Allow(Vec::new()));
    let site = Site::with(&film, &[], change);
    let mut player = site.play().await;
    let ours = ["Origin: https://localhost:8787", "Content-Length: 0"];
    player.ask("DELETE", "/f", &ours).await;
    assert_eq!(player.answer().await.status(), 405, "let in, and no way on");
    let mut player = site.play().await;
    let foreign = ["Origin: http://localhost:8787", "Content-Length: 0"];
    player.ask("DELETE", "/f", &foreign).await;
    assert_eq!(player.answer().await.status(), 403);
    let mut player = site.play().await;
    assert_eq!(player.get("https://localhost/f", &[]).await.status(), 200);
    assert_eq!(player.get("http://localhost/f", &[]).await.status(), 400);
}

#[tokio::test]
async fn who_finds_no_place_is_told_so_over_tls() {
    let film = Film::new(1000).holding_at(10);
    let site = Site::with(&film, &[], |config| config.with_max_connections(1));
    let address = site.listen().await;
    let connect = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        Player::over(site.client.connect(stream).await.unwrap())
    };
    let mut first = connect().await;
    first.ask("GET", "/f", &[]).await;
    let head = first.answer_head().await.unwrap();
    let mut other = connect().await;
    let answer = other.get("/f", &[]).await;
    assert_eq!((answer.status(), answer.whole), (503, true));
    assert!(other.is_closed().await);
    film.release(1000);
    assert!(first.body(head).await.whole);
}

#[test]
fn what_is_wrong_with_a_certificate_or_its_key_is_told_apart() {
    let (one, other) = (Certificate::of("localhost"), Certificate::of("localhost"));
    let try_both = |chain: &str, key: &str| {
        TlsIdentity::from_pem(chain.as_bytes(), key.as_bytes()).map(|_| ())
    };
    assert_eq!(try_both(&one.chain, &one.key), Ok(()));
    let both = format!("{}{}", one.key, one.chain);
    assert_eq!(try_both(&both, &both), Ok(()), "both in one file");
    assert_eq!(try_both(&one.chain, &other.key), Err(TlsError::OtherKey));
    let later = format!("{}{}", other.chain, one.chain);
    assert_eq!(try_both(&later, &one.key), Err(TlsError::OtherKey));
    assert_eq!(try_both(&one.key, &one.key), Err(TlsError::NoCertificate));
    assert_eq!(try_both("", &one.key), Err(TlsError::NoCertificate));
    assert_eq!(try_both(&one.chain, &one.chain), Err(TlsError::NoKey));
    let broken = one
        .chain
        .replace("CERTIFICATE-----\n", "CERTIFICATE-----\n!");
    assert_eq!(try_both(&broken, &one.key), Err(TlsError::BadCertificate));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(try_both(garbage, &one.key), Err(TlsError::BadCertificate));
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(try_both(&one.chain, garbage), Err(TlsError::BadKey));
}

#[test]
fn fault48_a_private_key_is_not_printed() {
    let identity = identity(&Certificate::of("localhost"));
    assert_eq!(format!("{identity:?}"), "TlsIdentity { .. }");
}
