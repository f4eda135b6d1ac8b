//! Whom to trust, and what to show: one TLS set-up for both ways to an origin.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls_platform_verifier::Verifier;

use crate::config::{BuildError, OriginConfig};

/// The set-ups for an origin itself and for wherever it redirects to, which differ in that the latter is
/// shown no certificate.
pub(crate) struct TlsSetup {
    pub(crate) own: Arc<ClientConfig>,
    pub(crate) elsewhere: Arc<ClientConfig>,
}

impl TlsSetup {
    pub(crate) fn new(name: &str, config: &OriginConfig) -> Result<Self, BuildError> {
        let unusable = |what| BuildError::Pem {
            origin: name.to_owned(),
            what,
        };
        let cannot = |source| BuildError::Tls {
            origin: name.to_owned(),
            source,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let extra = match &config.extra_ca_pem {
            Some(pem) => certificates(pem).ok_or_else(|| unusable("CA certificate"))?,
            None => Vec::new(),
        };
        let verifier = verifier(extra, &provider).map_err(cannot)?;
        let builder = || {
            let clock = Arc::new(WallClock);
            Ok(
                ClientConfig::builder_with_details(Arc::clone(&provider), clock)
                    .with_safe_default_protocol_versions()?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::clone(&verifier)),
            )
        };
        let elsewhere = builder().map_err(cannot)?.with_no_client_auth();
        let own = match &config.identity_pem {
            None => elsewhere.clone(),
            Some(pem) => {
                let unusable = || unusable("client certificate with its key");
                let pem = pem.expose().as_bytes();
                let chain = certificates(pem).ok_or_else(unusable)?;
                let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
                builder()
                    .map_err(cannot)?
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| unusable())?
            }
        };
        Ok(Self {
            own: Arc::new(http_1_only(own)),
            elsewhere: Arc::new(http_1_only(elsewhere)),
        })
    }
}

/// The time by which certificates are judged. The library's own clock panics before 1970; no certificate is good then.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(judged_at(SystemTime::now()))
    }
}

fn judged_at(now: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The system's certificates and those in `extra`.
fn verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let provider = Arc::clone(provider);
    Ok(Arc::new(if extra.is_empty() {
        Verifier::new(provider)?
    } else {
        Verifier::new_with_extra_roots(extra, provider)?
    }))
}

/// The certificates in `pem`, at least one, and no broken one.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .ok()?;
    (!found.is_empty()).then_some(found)
}

fn http_1_only(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fault40_certificates_are_judged_by_any_clock() {
        let hour = Duration::from_secs(3600);
        assert_eq!(judged_at(UNIX_EPOCH - hour).as_secs(), 0);
        assert_eq!(judged_at(UNIX_EPOCH + hour).as_secs(), 3600);
        assert!(WallClock.current_time().is_some());
    }
}
