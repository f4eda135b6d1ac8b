//! A resource at an origin, with the secrets needed to ask for it.

use std::fmt;
use std::sync::Arc;

use chunk_core::CacheKey;

/// A text that is never printed: a signed URL, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself. Must not reach a log, an error, a metric or another origin.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What to ask an origin for: the identity to cache under, and the request target as it stands today.
///
/// Two resources with one key may have different targets: a signed URL rotates, its entry stays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resource {
    /// The identity; names the origin.
    pub key: Arc<CacheKey>,
    /// Path and query to ask for, below the origin's base URL, beginning with `/`.
    pub target: Secret,
    /// The value of an `Authorization` field to send, where the origin's configuration forwards it.
    pub authorization: Option<Secret>,
}

impl Resource {
    /// The resource `key`, asked for as `target` (path and query, beginning with `/`).
    #[must_use]
    pub const fn new(key: Arc<CacheKey>, target: Secret) -> Self {
        Self {
            key,
            target,
            authorization: None,
        }
    }

    /// The resource as far as its key tells: what a durable job knows after a restart.
    ///
    /// Of a key whose query is hidden that is not enough to ask for it: the target is none that an adapter sends.
    #[must_use]
    pub fn from_key(key: Arc<CacheKey>) -> Self {
        let target = if key.query().is_empty() {
            key.path().to_owned()
        } else {
            format!("{}?{}", key.path(), key.query())
        };
        Self::new(key, Secret::new(target))
    }

    /// Whether `other` is asked for with the same target and the same `Authorization`.
    #[must_use]
    pub fn is_asked_for_like(&self, other: &Self) -> bool {
        self.target == other.target && self.authorization == other.authorization
    }

    /// The same resource with an `Authorization` value to send.
    #[must_use]
    pub fn with_authorization(mut self, value: Secret) -> Self {
        self.authorization = Some(value);
        self
    }
}
