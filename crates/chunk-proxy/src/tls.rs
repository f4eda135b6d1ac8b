//! TLS towards players: what they are shown, and how a connection begins.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ServerConfig;
use rustls::time_provider::TimeProvider;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::dated;
use crate::secure::Secure;

/// What HTTP/2 over TLS is called (RFC 9113, 3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// What a proxy shows to clients that connect with TLS: a chain of certificates, and that it has the key. Cheap to
/// clone; never prints the key.
#[derive(Clone)]
pub struct TlsIdentity {
    /// For who may speak HTTP/2, and for who may not.
    both: Arc<ServerConfig>,
    only_1: Arc<ServerConfig>,
}

/// Why an identity cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// There is no certificate where one should be.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("a certificate in it cannot be read")]
    BadCertificate,
    /// There is no private key where one should be.
    #[error("there is no private key in it")]
    NoKey,
    /// The private key cannot be read, or is of a kind that TLS does not use.
    #[error("the private key in it cannot be used")]
    BadKey,
    /// The key is not that of the first certificate.
    #[error("the private key is not that of the first certificate")]
    OtherKey,
}

impl TlsIdentity {
    /// Takes PEM (RFC 7468): in `chain` the server's own certificate first, then those that lead to one that clients
    /// trust; in `key` its private key. Both may be in one text.
    ///
    /// # Errors
    /// [`TlsError`] where something is missing, cannot be read, or does not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::BadCertificate)?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            PemError::NoItemsFound => TlsError::NoKey,
            _ => TlsError::BadKey,
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::BadKey)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::OtherKey,
                rustls::Error::InvalidCertificate(_) => TlsError::BadCertificate,
                _ => TlsError::BadKey,
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let only_1 = Arc::new(config.clone());
        config.alpn_protocols.insert(0, HTTP_2.to_vec());
        let both = Arc::new(config);
        Ok(Self { both, only_1 })
    }

    /// Begins a connection. A client whose words make no sense is told so before this fails.
    pub(crate) async fn shake_hands<W>(&self, wire: W) -> io::Result<Secure<W>>
    where
        W: AsyncRead + AsyncWrite + Unpin,
    {
        shake_hands(&self.both, wire).await
    }

    /// Begins a connection on which nobody speaks HTTP/2.
    pub(crate) async fn shake_hands_in_http_1<W>(&self, wire: W) -> io::Result<Secure<W>>
    where
        W: AsyncRead + AsyncWrite + Unpin,
    {
        shake_hands(&self.only_1, wire).await
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

async fn shake_hands<W>(config: &Arc<ServerConfig>, wire: W) -> io::Result<Secure<W>>
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    let (wire, session) = acceptor.accept(wire).await?.into_inner();
    Ok(Secure::new(wire, session))
}

/// The time by which sessions grow old. The library's own clock panics before 1970.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = dated::clamped(SystemTime::now());
        Some(UnixTime::since_unix_epoch(since))
    }
}
