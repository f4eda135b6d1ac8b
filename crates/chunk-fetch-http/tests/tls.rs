//! Whom HTTPS origins are taken for, and what they are shown.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunk_core::CacheKey;
use chunk_fetch_http::{HttpFetcher, Lookup, OriginConfig};
use chunk_ports::{FetchError, ForwardRequest, OriginForward, Resource, Secret};
use chunk_testkit::origin::{Fault, OriginObject, ScriptedOrigin, When, content};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use support::{assert_untold, fetch, whole_chain};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority made for one test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn certify(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A TLS end before a scripted origin.
struct TlsOrigin {
    origin: ScriptedOrigin,
    address: SocketAddr,
    /// The certificate each connection was shown, if any.
    shown: Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>,
}

impl TlsOrigin {
    async fn start(authority: &Authority, name: &str) -> Self {
        let origin = ScriptedOrigin::start().await.unwrap();
        origin.put(OriginObject::new("film.mkv", 100_000));
        let (certificate, key) = authority.certify(name);
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            shown: Arc::default(),
            origin,
        };
        let (behind, shown) = (this.origin.address(), Arc::clone(&this.shown));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shown) = (acceptor.clone(), Arc::clone(&shown));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(stream).await else {
                        return;
                    };
                    let peer = tls.get_ref().1.peer_certificates();
                    let peer = peer.map(|chain| chain[0].clone().into_owned());
                    shown.lock().unwrap().push(peer);
                    let mut plain = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
                });
            }
        });
        this
    }

    fn url(&self, name: &str) -> String {
        format!("https://{name}:{}", self.address.port())
    }

    fn shown(&self) -> Vec<Option<CertificateDer<'static>>> {
        self.shown.lock().unwrap().clone()
    }
}

/// Says of every name that it is on this machine.
#[derive(Debug)]
struct Here;

#[async_trait]
impl Lookup for Here {
    async fn addresses(&self, _host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![[127, 0, 0, 1].into()])
    }
}

fn fetcher(config: OriginConfig) -> HttpFetcher {
    let builder = HttpFetcher::builder().lookup(Arc::new(Here));
    builder.origin("", config).build().unwrap()
}

fn trusting(url: String, authority: &Authority) -> OriginConfig {
    let mut config = OriginConfig::new(url);
    config.extra_ca_pem = Some(authority.pem.clone().into_bytes());
    config
}

#[tokio::test]
async fn an_extra_authority_is_trusted_for_ranges_and_for_what_is_passed_on() {
    let authority = Authority::new();
    let tls = TlsOrigin::start(&authority, "media.test").await;
    let fetcher = fetcher(trusting(tls.url("media.test"), &authority));
    for start in [0, 50_000] {
        let bytes = fetch(&fetcher, "/film.mkv", start, start + 50_000).await;
        assert_eq!(bytes.unwrap(), content("film.mkv", 1, start, 50_000));
    }
    // Both ranges came over one connection, and no certificate was shown.
    assert_eq!(tls.shown(), [None]);

    let key = CacheKey::new("", "/film.mkv", &[""; 0]).unwrap();
    let request = ForwardRequest {
        method: "DELETE".to_owned(),
        resource: Resource::from_key(Arc::new(key)),
        headers: Vec::new(),
        body: None,
    };
    assert_eq!(fetcher.forward(request).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_unknown_authority_and_another_hosts_certificate_are_refused_and_told() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let tls = TlsOrigin::start(&unknown, "media.test").await;
    let other = TlsOrigin::start(&known, "other.test").await;
    for (url, config) in [
        (&tls, OriginConfig::new(tls.url("media.test"))),
        (&tls, trusting(tls.url("media.test"), &known)),
        (&other, trusting(other.url("media.test"), &known)),
    ] {
        let error = fetch(&fetcher(config), "/film.mkv", 0, 10)
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::NoConnection(_)), "{error:?}");
        let told = whole_chain(&error);
        assert!(told.contains("no TLS connection"), "{told}");
        assert!(told.contains("certificate"), "{told}");
        assert_eq!(url.origin.journal().requests(), 0);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_origin_and_to_no_other_place() {
    let authority = Authority::new();
    let tls = TlsOrigin::start(&authority, "media.test").await;
    let other = TlsOrigin::start(&authority, "cdn.test").await;
    let (certificate, key) = authority.certify("player.test");
    let mut config = trusting(tls.url("media.test"), &authority);
    config.allow_private = true;
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    config.identity_pem = Some(Secret::new(pem));
    let fetcher = fetcher(config);
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
    assert_eq!(tls.shown(), [Some(certificate.der().clone())]);

    let there = format!("{}/film.mkv", other.url("cdn.test"));
    tls.origin
        .fault("film.mkv", When::Next, Fault::redirect(there));
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
    assert_eq!(other.shown(), [None]);
}

#[tokio::test]
async fn fault41_a_redirect_from_https_to_http_is_not_followed() {
    let authority = Authority::new();
    let tls = TlsOrigin::start(&authority, "media.test").await;
    let plain = ScriptedOrigin::start().await.unwrap();
    plain.put(OriginObject::new("film.mkv", 100_000));
    let location = format!("{}/film.mkv?planted-secret", plain.url());
    tls.origin
        .fault("film.mkv", When::Next, Fault::redirect(location));
    let mut config = trusting(tls.url("media.test"), &authority);
    config.allow_private = true;
    let error = fetch(&fetcher(config), "/film.mkv", 0, 10)
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
    assert_untold(&error, "planted-secret");
    assert_eq!(plain.journal().requests(), 0);
}

#[tokio::test]
async fn fault48_a_certificate_that_does_not_fit_after_a_redirect_names_no_host() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let tls = TlsOrigin::start(&known, "media.test").await;
    let other = TlsOrigin::start(&unknown, "cdn.test").await;
    let there = format!("{}/film.mkv", other.url("cdn.test"));
    tls.origin
        .fault("film.mkv", When::Next, Fault::redirect(there));
    let mut config = trusting(tls.url("media.test"), &known);
    config.allow_private = true;
    let error = fetch(&fetcher(config), "/film.mkv", 0, 10)
        .await
        .unwrap_err();
    assert!(whole_chain(&error).contains("no TLS connection"));
    assert_untold(&error, "cdn.test");
}
