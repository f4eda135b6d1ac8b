//! What an operator says of an origin.

use std::time::Duration;

use chunk_ports::Secret;

/// One origin: where it is, what it wants to be sent, and how far it is trusted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OriginConfig {
    /// `http://` or `https://`, host, and a path that every target is appended to as it stands. User and
    /// password in it become a Basic `Authorization`.
    pub base_url: Secret,
    /// Fields sent with every request to this origin, and to no other.
    pub headers: Vec<(String, Secret)>,
    /// Certificates to trust besides those of the system, in PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// A client certificate and its key, in PEM, shown to this origin only.
    pub identity_pem: Option<Secret>,
    /// Whether redirects may lead to private addresses.
    pub allow_private: bool,
    /// Whether a resource's own `Authorization` is sent.
    pub forward_authorization: bool,
    /// The operator's promise that files never change: they are fresh for years.
    pub immutable: bool,
    /// One person's cache: what is marked `private` may be kept.
    pub private_cache: bool,
    /// How long to wait for a connection. 10 s.
    pub connect_timeout: Duration,
    /// How long to wait for the whole head of an answer, connecting included. 30 s.
    pub head_timeout: Duration,
    /// How long a body may make no progress (1 KiB) while somebody waits for it. 10 s.
    pub progress_timeout: Duration,
    /// How many requests may be under way at once; further ones wait. 16.
    pub max_connections: usize,
}

impl OriginConfig {
    /// An origin at `base_url`, with nothing special about it.
    #[must_use]
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: Secret::new(base_url.into()),
            headers: Vec::new(),
            extra_ca_pem: None,
            identity_pem: None,
            allow_private: false,
            forward_authorization: false,
            immutable: false,
            private_cache: false,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            progress_timeout: Duration::from_secs(10),
            max_connections: 16,
        }
    }

    /// With one more field to send.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: Secret) -> Self {
        self.headers.push((name.into(), value));
        self
    }
}

/// Why an origin cannot be used as configured. Names the origin and the setting, never a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL is not one.
    #[error("origin '{origin}': the URL {reason}")]
    BaseUrl {
        /// Which origin.
        origin: String,
        /// What is wrong, and what would be right.
        reason: &'static str,
    },
    /// A configured field is not a header field.
    #[error("origin '{origin}': '{name}' and its value are not a header field that may be set")]
    Header {
        /// Which origin.
        origin: String,
        /// The field's name.
        name: String,
    },
    /// A certificate or key cannot be read.
    #[error("origin '{origin}': the {what} is not usable PEM")]
    Pem {
        /// Which origin.
        origin: String,
        /// `CA certificate` or `client certificate with its key`.
        what: &'static str,
    },
    /// Two origins have one name.
    #[error("origin '{origin}' is configured twice")]
    Duplicate {
        /// Which origin.
        origin: String,
    },
    /// TLS cannot be set up: the system's certificates cannot be read, for one.
    #[error("origin '{origin}': TLS cannot be set up")]
    Tls {
        /// Which origin.
        origin: String,
        /// What the library said.
        #[source]
        source: rustls::Error,
    },
}
