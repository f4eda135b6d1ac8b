//! From a URL to a connection, by way of checked addresses only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::WireError;
use super::socket::{BoundedSocket, Bytestream, Peer};
use crate::lookup::{NotPublic, Resolver};
use crate::redirect::literal;

/// How long one address may take before the next is tried as well (RFC 8305, 5: 250 ms recommended).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to where it may.
pub(crate) struct Connector {
    pub(crate) resolver: Resolver,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) timeout: Duration,
}

/// A new connection.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Bytestream>,
    pub(crate) peer: Arc<Peer>,
}

impl Connector {
    /// A connection to the host of `url`.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Connected, WireError> {
        tokio::time::timeout(self.timeout, self.connect_at_last(url))
            .await
            .unwrap_or(Err(WireError::ConnectTimeout))
    }

    async fn connect_at_last(&self, url: &Url) -> Result<Connected, WireError> {
        let addresses = self.addresses(url).await?;
        let socket = first(addresses).await.map_err(WireError::Connect)?;
        let peer = Arc::new(Peer::new(socket));
        let bounded = BoundedSocket::new(Arc::clone(&peer));
        let stream: Box<dyn Bytestream> = if url.scheme() == "https" {
            let name = server_name(url).map_err(WireError::Tls)?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let tls = connector.connect(name, bounded).await;
            Box::new(tls.map_err(WireError::Tls)?)
        } else {
            Box::new(bounded)
        };
        Ok(Connected { stream, peer })
    }

    /// Where the host is. These addresses are the ones connected to, so that no second lookup can give
    /// another answer (DNS rebinding).
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, WireError> {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(WireError::Lookup(io::ErrorKind::InvalidInput.into()));
        };
        let found = match literal(url) {
            Some(address) => self.resolver.check(vec![address]),
            None => {
                let found = self.resolver.lookup.addresses(host).await;
                self.resolver.check(found.map_err(WireError::Lookup)?)
            }
        };
        let found = found.map_err(|NotPublic| WireError::NotPublic)?;
        Ok(found
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect())
    }
}

/// The first connection to come about; an address that keeps silent does not hold up the others.
async fn first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut untried = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        tries.extend(untried.next().map(TcpStream::connect));
        if tries.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            biased;
            Some(tried) = tries.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if untried.len() > 0 => {}
        }
    }
}

fn server_name(url: &Url) -> io::Result<ServerName<'static>> {
    if let Some(address) = literal(url) {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(url.host_str().unwrap_or_default().to_owned())
        .map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::config::OriginConfig;
    use crate::lookup::{Lookup, Reach};
    use crate::tls::TlsSetup;

    /// A name whose answer changes with each question.
    #[derive(Debug, Default)]
    struct Rebinding(AtomicUsize);

    #[async_trait]
    impl Lookup for Rebinding {
        async fn addresses(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            let answers = [
                vec!["1.1.1.1"],
                vec!["127.0.0.1"],
                vec!["::ffff:10.0.0.1", "2606:4700::1"],
            ];
            let answer = &answers[self.0.fetch_add(1, Ordering::Relaxed)];
            Ok(answer.iter().map(|ip| ip.parse().unwrap()).collect())
        }
    }

    #[tokio::test]
    async fn fault42_each_lookup_is_checked_and_its_addresses_are_the_ones_connected_to() {
        let tls = TlsSetup::new("", &OriginConfig::new("http://media.example/")).unwrap();
        let connector = Connector {
            resolver: Resolver {
                lookup: Arc::new(Rebinding::default()),
                reach: Reach::PublicOnly,
            },
            tls: tls.elsewhere,
            timeout: Duration::from_secs(10),
        };
        let url = Url::parse("http://cdn.example/").unwrap();
        let ask = async || {
            let found = connector.addresses(&url).await?;
            Ok::<_, WireError>(found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(ask().await.unwrap(), ["1.1.1.1:80"]);
        assert!(matches!(ask().await, Err(WireError::NotPublic)));
        assert_eq!(ask().await.unwrap(), ["[2606:4700::1]:80"]);
    }
}
