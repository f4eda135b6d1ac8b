//! From names to addresses, checked where a redirect leads.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;

/// Finds the addresses of a host.
#[async_trait]
pub trait Lookup: Send + Sync + fmt::Debug + 'static {
    /// The addresses of `host`, best first.
    ///
    /// # Errors
    /// Where there are none, or they cannot be found now.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// The address is not one that a redirect may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a redirect leads to an address that is not public")]
pub(crate) struct NotPublic;

/// A resolver for one HTTP client. What it returns is what the client connects to, so that no second
/// lookup can give another answer (DNS rebinding).
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) reach: Reach,
}

/// Where a client may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Anywhere,
    PublicOnly,
}

impl Resolver {
    /// Those of `found` that may be connected to.
    pub(crate) fn check(&self, mut found: Vec<IpAddr>) -> Result<Vec<IpAddr>, NotPublic> {
        if self.reach == Reach::PublicOnly {
            found.retain(|address| is_public(*address));
            if found.is_empty() {
                return Err(NotPublic);
            }
        }
        Ok(found)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.lookup.addresses(name.as_str()).await?;
            let found = resolver.check(found)?;
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

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
        let resolver = Resolver {
            lookup: Arc::new(Rebinding::default()),
            reach: Reach::PublicOnly,
        };
        let ask = async || {
            let name = "cdn.example".parse().unwrap();
            let found = resolver.resolve(name).await;
            found.map(|found| found.map(|a| a.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(ask().await.unwrap(), ["1.1.1.1"]);
        assert!(ask().await.unwrap_err().is::<NotPublic>());
        assert_eq!(ask().await.unwrap(), ["2606:4700::1"]);
    }
}
