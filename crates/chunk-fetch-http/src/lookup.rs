//! From names to addresses, checked where a redirect leads.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

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

/// Finds addresses that may be connected to.
#[derive(Debug)]
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
