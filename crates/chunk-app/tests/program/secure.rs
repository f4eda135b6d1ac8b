//! Players that connect with TLS.

use chunk_testkit::origin::content;
use chunk_testkit::secure::{Certificate, SecureClient};
use tokio::net::TcpStream;

use crate::http::Begun;
use crate::program::{Bench, text};

#[tokio::test]
async fn with_a_certificate_players_connect_with_tls() {
    let bench = Bench::with("film.mkv", 300_000).await;
    let certificate = Certificate::of("localhost");
    // A key beside the settings, and a certificate that a flag names.
    let home = bench.home.path();
    let chain = home.join("chain.pem");
    std::fs::write(&chain, &certificate.chain).unwrap();
    std::fs::write(home.join("key.pem"), &certificate.key).unwrap();
    let settings = home.join("settings.toml");
    std::fs::write(&settings, "tls_key = \"key.pem\"").unwrap();
    let server = bench
        .serve_with(&[
            "--origin",
            &bench.origin.url(),
            "--config",
            settings.to_str().unwrap(),
            "--tls-cert",
            chain.to_str().unwrap(),
        ])
        .await;
    let url = format!("chunkd: https://{}/ -> ", server.address);
    assert!(server.first_line.starts_with(&url), "{}", server.first_line);
    let client = SecureClient::new(&certificate, "localhost", &[]);
    for _ in 0..2 {
        let io = TcpStream::connect(server.address).await.unwrap();
        let io = client.connect(io).await.unwrap();
        let request = "GET /film.mkv HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1000-200999\r\n\
                       Connection: close\r\n\r\n";
        let answer = Begun::new(io, request).await.unwrap();
        let answer = answer.finish().await.unwrap();
        assert_eq!(answer.status, 206);
        assert_eq!(answer.body, content("film.mkv", 1, 1000, 200_000));
    }
    let said = server.stop().await;
    assert!(!said.contains("PRIVATE"), "{said}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_before_anything_is_begun() {
    let bench = Bench::new().await;
    let (one, other) = (Certificate::of("localhost"), Certificate::of("localhost"));
    let write = |name: &str, text: &str| {
        let path = bench.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let chain = write("chain.pem", &one.chain);
    let key = write("key.pem", &one.key);
    let other_key = write("other.pem", &other.key);
    let missing = format!("{}/missing.pem", bench.home.path().display());
    for (chain, key, message) in [
        (
            &missing,
            &key,
            format!(
                "chunkd: tls_cert: cannot read {missing}: No such file or directory (os error 2); it must hold the \
                 server's certificate in PEM"
            ),
        ),
        (
            &chain,
            &missing,
            format!(
                "chunkd: tls_key: cannot read {missing}: No such file or directory (os error 2); it must hold the \
                 certificate's private key in PEM"
            ),
        ),
        (
            &chain,
            &other_key,
            format!(
                "chunkd: tls_key: the private key in {other_key} is not that of the first certificate in {chain}; the key \
                 must be the one that the certificate was made for, and the server's own certificate must be the first"
            ),
        ),
        (
            &key,
            &key,
            format!(
                "chunkd: tls_cert: {key}: there is no certificate in it; it must hold the server's certificate in PEM, and \
                 after it those that lead to one that players trust: `-----BEGIN CERTIFICATE-----`"
            ),
        ),
        (
            &chain,
            &chain,
            format!(
                "chunkd: tls_key: {chain}: there is no private key in it; it must hold the certificate's private key in \
                 PEM, which is not encrypted: `-----BEGIN PRIVATE KEY-----`"
            ),
        ),
    ] {
        let arguments = [
            "serve",
            "--origin",
            "http://a/",
            "--tls-cert",
            chain,
            "--tls-key",
            key,
        ];
        let output = bench.run(&arguments).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(text(&output.stderr).trim_end(), message);
    }
    assert!(!bench.folder().exists());
}
