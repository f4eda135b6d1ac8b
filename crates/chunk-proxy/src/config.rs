//! What a proxy serves, to whom, and within which bounds.

use std::fmt;
use std::time::Duration;

use chunk_core::{CacheKey, DEFAULT_SIGNATURE_PARAMETERS};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::admission::Scheme;
use crate::route::push_hex;
use crate::tls::TlsIdentity;
use crate::turned_away::AT_ONCE;

/// What a [`Proxy`](crate::Proxy) is made of besides its manager.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The origins. Either the single unnamed one at `/`, or named ones at `/NAME/`.
    pub mounts: Vec<Mount>,
    /// Host names to answer to, without port, besides the loopback names and the address connected to.
    pub hosts: Vec<String>,
    /// Whether pages from elsewhere may read what is served.
    pub cors: Cors,
    /// How many connections are served at once. For one more, whoever has rested longest between two requests is
    /// closed; where nobody rests, it waits for as long as others end, and is then answered 503.
    pub max_connections: usize,
    /// How long a request head may take, and how long a connection may stand idle before one.
    pub header_timeout: Duration,
    /// How long answers under way may go on when the proxy is to stop.
    pub grace: Duration,
    /// What to show to clients, who then connect with TLS, and without it are not understood. Who does may speak
    /// HTTP/2.
    pub tls: Option<TlsIdentity>,
}

impl ProxyConfig {
    /// How many connections there may be for a moment besides those that are served: one that waits for a place, and
    /// those that are told that there is none.
    pub const BEYOND: usize = AT_ONCE + 1;

    /// These origins; loopback names only; no cross-origin access; 1,024 connections, 30 s for a request
    /// head, 10 s to drain; no TLS.
    #[must_use]
    pub const fn new(mounts: Vec<Mount>) -> Self {
        Self {
            mounts,
            hosts: Vec::new(),
            cors: Cors::Off,
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            tls: None,
        }
    }

    /// The same, answering to these host names as well.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Vec<String>) -> Self {
        self.hosts = hosts;
        self
    }

    /// The same with another rule for pages from elsewhere.
    #[must_use]
    pub fn with_cors(mut self, cors: Cors) -> Self {
        self.cors = cors;
        self
    }

    /// The same with another bound on connections; at least 1.
    #[must_use]
    pub const fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// The same with another time for request heads.
    #[must_use]
    pub const fn with_header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// The same with another time to drain in.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The same for clients that connect with TLS.
    #[must_use]
    pub fn with_tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    pub(crate) const fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// Checks what the types cannot: that the mounts can be told apart.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.mounts.is_empty() {
            return Err(ConfigError::NoMount);
        }
        for (at, mount) in self.mounts.iter().enumerate() {
            let name = mount.name();
            if name.is_empty() && self.mounts.len() > 1 {
                return Err(ConfigError::UnnamedAmongOthers);
            }
            if !name.bytes().all(is_name_byte) {
                return Err(ConfigError::Name {
                    name: name.to_owned(),
                });
            }
            if self.mounts[..at].iter().any(|other| other.name() == name) {
                return Err(ConfigError::Duplicate {
                    name: name.to_owned(),
                });
            }
        }
        if let Cors::Allow(origins) = &self.cors
            && let Some(wrong) = origins.iter().find(|origin| !is_origin(origin))
        {
            return Err(ConfigError::CorsOrigin {
                origin: wrong.clone(),
            });
        }
        Ok(())
    }
}

/// One origin as players see it.
#[derive(Clone, Debug)]
pub struct Mount {
    name: String,
    signature_parameters: Vec<String>,
    immutable: bool,
    partition: Option<PartitionKey>,
    query: Option<PartitionKey>,
}

impl Mount {
    /// The single origin, at `/`.
    #[must_use]
    pub fn unnamed() -> Self {
        Self::named("")
    }

    /// The origin at `/name/`; the name consists of letters, digits, `_` and `-`.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            signature_parameters: DEFAULT_SIGNATURE_PARAMETERS
                .iter()
                .map(|&parameter| parameter.to_owned())
                .collect(),
            immutable: false,
            partition: None,
            query: None,
        }
    }

    /// The same with other query parameters left out of the identity of a file.
    #[must_use]
    pub fn with_signature_parameters(mut self, parameters: Vec<String>) -> Self {
        self.signature_parameters = parameters;
        self
    }

    /// The same, telling clients that no file ever changes under its name.
    #[must_use]
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// The same, passing a client's `Authorization` on to the origin and keeping apart what each holder
    /// of credentials gets, by a hash under `key`.
    #[must_use]
    pub const fn forwarding_authorization(mut self, key: PartitionKey) -> Self {
        self.partition = Some(key);
        self
    }

    /// The same, keeping of a query only a hash under `key`: whatever is in it may be a secret.
    #[must_use]
    pub const fn hiding_queries(mut self, key: PartitionKey) -> Self {
        self.query = Some(key);
        self
    }

    /// The name, empty for the unnamed one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn signature_parameters(&self) -> &[String] {
        &self.signature_parameters
    }

    pub(crate) const fn is_immutable(&self) -> bool {
        self.immutable
    }

    /// The key as it is kept.
    pub(crate) fn hide(&self, key: CacheKey) -> CacheKey {
        match &self.query {
            Some(under) => under.hide_query(key),
            None => key,
        }
    }

    pub(crate) const fn partition(&self) -> Option<&PartitionKey> {
        self.partition.as_ref()
    }
}

/// The key under which credentials and queries are hashed into cache keys. It has to outlive a restart, or nothing
/// cached for anyone is found again.
#[derive(Clone)]
pub struct PartitionKey([u8; 32]);

impl PartitionKey {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// `key` with a hash in place of its query.
    #[must_use]
    pub fn hide_query(&self, key: CacheKey) -> CacheKey {
        let hash = self.hash("query", key.query());
        key.with_hidden_query(&hash)
    }

    /// A keyed hash of `text`, in hexadecimal: enough to keep two of them apart, useless to anyone who reads
    /// the index. `what` keeps apart texts of different kinds.
    pub(crate) fn hash(&self, what: &str, text: &str) -> String {
        // HMAC fills a key up to its hash's block with zeros; done here, there is no length left to refuse.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(what.as_bytes());
        mac.update(text.as_bytes());
        let mut hash = String::with_capacity(32);
        for byte in mac.finalize().into_bytes().iter().take(16) {
            push_hex(&mut hash, "", *byte);
        }
        hash
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Which pages from elsewhere may read what is served (the Fetch standard's CORS protocol).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cors {
    /// None.
    #[default]
    Off,
    /// Pages of these origins, written as browsers write them: `https://player.example.org`. No wildcard.
    Allow(Vec<String>),
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is nothing to serve.
    #[error("a proxy needs at least one origin")]
    NoMount,
    /// An unnamed origin owns `/`, so no other can be beside it.
    #[error("an origin without a name must be the only one; name them all")]
    UnnamedAmongOthers,
    /// A name cannot stand in a path.
    #[error("an origin's name consists of letters, digits, '_' and '-', which {name:?} does not")]
    Name {
        /// The name given.
        name: String,
    },
    /// Two origins have one name.
    #[error("two origins are named {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// What is on the list is no origin.
    #[error("{origin:?} is no origin; write scheme://host or scheme://host:port")]
    CorsOrigin {
        /// What was given.
        origin: String,
    },
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https")
            && !host.is_empty()
            && !host.contains(['/', '*', '?', '#', '@', ' '])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: Vec<Mount>) -> Result<(), ConfigError> {
        ProxyConfig::new(mounts).check()
    }

    #[test]
    fn unnamed_and_named_origins_exclude_each_other() {
        assert_eq!(check(vec![Mount::unnamed()]), Ok(()));
        assert_eq!(
            check(vec![Mount::named("a"), Mount::named("b-2_X")]),
            Ok(())
        );
        assert_eq!(check(vec![]), Err(ConfigError::NoMount));
        assert_eq!(
            check(vec![Mount::named("a"), Mount::unnamed()]),
            Err(ConfigError::UnnamedAmongOthers)
        );
        let name = |name: &str| name.to_owned();
        assert_eq!(
            check(vec![Mount::named("a/b")]),
            Err(ConfigError::Name { name: name("a/b") })
        );
        assert_eq!(
            check(vec![Mount::named("a"), Mount::named("a")]),
            Err(ConfigError::Duplicate { name: name("a") })
        );
    }

    #[test]
    fn fault43_no_wildcard_can_be_configured() {
        for wrong in [
            "*",
            "https://*",
            "player.example.org",
            "https://a.example/",
            "null",
        ] {
            let config = ProxyConfig::new(vec![Mount::unnamed()])
                .with_cors(Cors::Allow(vec![wrong.to_owned()]));
            assert!(
                matches!(config.check(), Err(ConfigError::CorsOrigin { .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn fault48_keys_are_not_printed() {
        let mount = Mount::unnamed().forwarding_authorization(PartitionKey::new([0xab; 32]));
        assert!(!format!("{mount:?}").contains("171"));
    }
}
