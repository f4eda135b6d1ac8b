//! Certificates that are trusted for one test, and clients that connect with TLS.

use std::io;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use tokio_rustls::client::TlsStream;

/// A certificate with its key, made for one test.
#[derive(Clone)]
#[non_exhaustive]
pub struct Certificate {
    /// The certificate, in PEM.
    pub chain: String,
    /// Its private key, in PEM.
    pub key: String,
}

impl Certificate {
    /// For a server that is called `name`.
    ///
    /// # Panics
    /// Where the name is none.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let made = generate_simple_self_signed([name.to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("a name that a certificate may have");
        Self {
            chain: cert.pem(),
            key: signing_key.serialize_pem(),
        }
    }
}

/// A client that trusts one certificate. Its clones resume each other's sessions.
#[derive(Clone)]
pub struct SecureClient {
    connector: TlsConnector,
    name: String,
}

impl SecureClient {
    /// For a server called `name` that has `certificate`, speaking `protocols` (RFC 7301), the best first; none for
    /// a client that knows nothing of that.
    ///
    /// # Panics
    /// Where the certificate is none.
    #[must_use]
    pub fn new(certificate: &Certificate, name: &str, protocols: &[&str]) -> Self {
        let pem = certificate.chain.as_bytes();
        let mut roots = RootCertStore::empty();
        let der = rustls::pki_types::CertificateDer::from_pem_slice(pem).expect("PEM");
        roots.add(der).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has what those need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Self {
            connector: Arc::new(config).into(),
            name: name.to_owned(),
        }
    }

    /// Begins a connection over `io`.
    ///
    /// # Errors
    /// Where the server is not the one with the certificate, speaks none of the protocols, or goes away.
    pub async fn connect<Io>(&self, io: Io) -> io::Result<TlsStream<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        self.connector.connect(name, io).await
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SecureClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SecureClient");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}
