//! What makes an entry the same entry, and a representation the same representation.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

/// The number a store gave an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u64);

/// The number a store gave a generation: one representation of an entry. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(u64);

macro_rules! number {
    ($name:ident) => {
        impl $name {
            /// The id with this number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
number!(EntryId);
number!(GenerationId);

/// Query parameters that sign a URL rather than name a resource, by their usual names. A name that ends
/// in `*` stands for every name with that beginning. Compared without regard to case.
pub const DEFAULT_SIGNATURE_PARAMETERS: &[&str] = &[
    "x-amz-*",
    "x-goog-*",
    "awsaccesskeyid",
    "googleaccessid",
    "signature",
    "expires",
    "policy",
    "key-pair-id",
    "token",
    "access_token",
    "auth_token",
    "sig",
    "hdnts",
    "hdnea",
    "__gda__",
    "api_key",
    "apikey",
    "x-plex-token",
];

/// The identity of an entry: origin name, path, and the query without the parameters that only sign it.
///
/// A rotated signed URL is the same key. The printed form ([`fmt::Display`], [`fmt::Debug`]) hides the
/// values of the query, because an unlisted one may be a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    origin: Box<str>,
    path: Box<str>,
    query: Box<str>,
    /// A keyed hash of forwarded client credentials, empty where none are forwarded.
    partition: Box<str>,
}

/// Why a text is not a [`CacheKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheKeyError {
    /// The path does not begin with `/`.
    #[error("a path begins with '/'")]
    RelativePath,
    /// The origin's name has other characters than `A-Z a-z 0-9 _ -`.
    #[error("an origin's name consists of letters, digits, '_' and '-'")]
    OriginName,
    /// A control character, white space or `#` in the path or query.
    #[error("a path and query hold no control characters, white space or '#'")]
    Character,
}

impl CacheKey {
    /// The key of `path_and_query` (as it stands in a request line, beginning with `/`) at the origin
    /// named `origin` (empty for the single unnamed one). Parameters that `signature_parameters` lists
    /// are left out; the order of the others is kept. The path is normalised as RFC 3986, 6.2.2 says:
    /// dot segments removed, percent-encoded unreserved characters decoded, hex digits in upper case.
    ///
    /// # Errors
    /// See [`CacheKeyError`].
    pub fn new<P: AsRef<str>>(
        origin: &str,
        path_and_query: &str,
        signature_parameters: &[P],
    ) -> Result<Self, CacheKeyError> {
        if !origin
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        {
            return Err(CacheKeyError::OriginName);
        }
        if path_and_query
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '#')
        {
            return Err(CacheKeyError::Character);
        }
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        if !path.starts_with('/') {
            return Err(CacheKeyError::RelativePath);
        }
        let mut kept = String::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            if !signature_parameters
                .iter()
                .any(|listed| names(listed.as_ref(), name))
            {
                if !kept.is_empty() {
                    kept.push('&');
                }
                kept.push_str(pair);
            }
        }
        Ok(Self {
            origin: origin.into(),
            path: normalise_path(path).into(),
            query: kept.into(),
            partition: "".into(),
        })
    }

    /// The same resource for the holders of one set of forwarded credentials only; `hash` must be a
    /// keyed hash of them, never the credentials.
    #[must_use]
    pub fn with_partition(mut self, hash: &str) -> Self {
        self.partition = hash.into();
        self
    }

    /// The key from the parts a store kept.
    #[must_use]
    pub fn from_parts(origin: &str, path: &str, query: &str, partition: &str) -> Self {
        Self {
            origin: origin.into(),
            path: path.into(),
            query: query.into(),
            partition: partition.into(),
        }
    }

    /// The origin's name, empty for the single unnamed one.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The normalised path, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query without signature parameters, empty where nothing is left. May hold secrets of its own.
    #[must_use]
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The hash of forwarded credentials, empty where none are forwarded.
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.is_empty() {
            write!(f, "/{}", self.origin)?;
        }
        f.write_str(&self.path)?;
        if !self.query.is_empty() {
            f.write_str("?…")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

fn names(listed: &str, name: &str) -> bool {
    match listed.strip_suffix('*') {
        Some(prefix) => name
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        None => listed.eq_ignore_ascii_case(name),
    }
}

fn normalise_path(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    for segment in path.split_inclusive('/') {
        let before = decoded.len();
        if decode_unreserved(segment, &mut decoded).is_none() {
            // A '%' that begins no escape: the segment stays as it is. Decoding the rest of it could put
            // an escape together that was none ("%%34%31"), and make one key of two texts.
            decoded.truncate(before);
            decoded.push_str(segment);
        }
    }
    remove_dot_segments(&decoded)
}

/// RFC 3986, 6.2.2.1 and 6.2.2.2; `None` where a '%' is not followed by two hex digits.
fn decode_unreserved(segment: &str, decoded: &mut String) -> Option<()> {
    let mut rest = segment;
    while let Some((plain, escaped)) = rest.split_once('%') {
        decoded.push_str(plain);
        let hex = escaped
            .get(..2)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(hex, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            decoded.push(char::from(byte));
        } else {
            decoded.push('%');
            decoded.push_str(&hex.to_ascii_uppercase());
        }
        rest = escaped.get(2..)?;
    }
    decoded.push_str(rest);
    Some(())
}

/// RFC 3986, 5.2.4, for an absolute path.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: alloc::vec::Vec<&str> = alloc::vec::Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// An entity tag as it stands in the header, with its quotes and, if weak, its `W/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(Box<str>);

impl ETag {
    /// The tag written `text`, if that is one (RFC 9110, 8.8.3): `"…"` or `W/"…"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        let opaque = text.strip_prefix("W/").unwrap_or(text);
        let inner = opaque.strip_prefix('"')?.strip_suffix('"')?;
        // `etagc` is any visible character but the quote, or obs-text.
        inner
            .chars()
            .all(|c| c != '"' && !c.is_control() && c != ' ')
            .then(|| Self(text.into()))
    }

    /// The tag as it stands in a header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the tag begins with `W/`.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.starts_with("W/")
    }

    /// RFC 9110, 8.8.3.2: equal and both strong.
    #[must_use]
    pub fn strong_eq(&self, other: &Self) -> bool {
        !self.is_weak() && self == other
    }

    /// RFC 9110, 8.8.3.2: equal but for weakness.
    #[must_use]
    pub fn weak_eq(&self, other: &Self) -> bool {
        let opaque = |tag: &Self| -> Box<str> { tag.0.trim_start_matches("W/").into() };
        opaque(self) == opaque(other)
    }
}

/// A `Last-Modified` time, and whether it may be used as a strong validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LastModified {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_seconds: i64,
    /// Whether it was at least a second older than the answer's `Date` (RFC 9110, 8.8.2.2).
    pub is_strong: bool,
}

impl LastModified {
    /// A time and its strength.
    #[must_use]
    pub const fn new(unix_seconds: i64, is_strong: bool) -> Self {
        Self {
            unix_seconds,
            is_strong,
        }
    }
}

/// What an origin said of one representation: enough to tell two of them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Representation {
    /// The complete length in bytes, where known.
    pub total_len: Option<u64>,
    /// The `ETag`, strong or weak.
    pub etag: Option<ETag>,
    /// The `Last-Modified` time.
    pub last_modified: Option<LastModified>,
    /// The media type, as it stood in `Content-Type`.
    pub content_type: Option<Box<str>>,
}

impl Representation {
    /// A representation of which only the length may be known.
    #[must_use]
    pub const fn with_len(total_len: Option<u64>) -> Self {
        Self {
            total_len,
            etag: None,
            last_modified: None,
            content_type: None,
        }
    }

    /// The strong entity tag, if there is one.
    #[must_use]
    pub fn strong_etag(&self) -> Option<&ETag> {
        self.etag.as_ref().filter(|tag| !tag.is_weak())
    }

    /// Whether bytes may be reused after the entry was closed: a strong ETag or a strong Last-Modified.
    /// A weak tag alone, or nothing, does not tell two representations apart.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.strong_etag().is_some() || self.last_modified.is_some_and(|time| time.is_strong)
    }

    /// Whether `other`, seen later from the same origin, is a different representation: its length, its
    /// ETag or its Last-Modified differs. What only one of the two says is not a difference.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> bool {
        fn differ<T>(a: Option<T>, b: Option<T>, same: impl Fn(&T, &T) -> bool) -> bool {
            matches!((a, b), (Some(a), Some(b)) if !same(&a, &b))
        }
        differ(self.total_len, other.total_len, |a, b| a == b)
            || differ(self.etag.as_ref(), other.etag.as_ref(), |a, b| a.weak_eq(b))
            || differ(self.last_modified, other.last_modified, |a, b| {
                a.unix_seconds == b.unix_seconds
            })
    }
}
