//! What makes an entry the same entry.

use alloc::borrow::{Cow, ToOwned};
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
/// in `*` stands for every name with that beginning; `name&other` stands for `name` in a query that has `other` as
/// well. Compared without regard to case, after decoding what needed no percent-encoding.
///
/// Names that as often say which file is meant (`key`, `hash`, `id`, a lone `md5`) are not here: leaving them out would
/// make one file of two.
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
    "auth",
    "jwt",
    "hmac",
    "sig",
    "hdnts",
    "hdnea",
    "__gda__",
    "api_key",
    "apikey",
    "x-plex-token",
    "password",
    "passwd",
    "secret",
    "client_secret",
    // nginx, ngx_http_secure_link_module.
    "md5&expires",
];

/// What a query that is only known as a hash begins with.
const HIDDEN: char = '#';

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
    /// dot segments removed, percent-encoded unreserved characters decoded, hex digits in upper case; and what no
    /// path of a URL may hold is percent-encoded, so that a name has one key however it was written, and nobody
    /// after this reads a `\` as a `/`.
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
            let name = name_of(pair);
            if !signature_parameters
                .iter()
                .any(|listed| names(listed.as_ref(), &name, query))
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

    /// The same with its query replaced by `hash`, which must be a keyed hash of it: for queries that hold secrets
    /// nobody listed. Two queries stay two keys, and no request's own text makes such a key. A key without a query
    /// stays as it is.
    #[must_use]
    pub fn with_hidden_query(mut self, hash: &str) -> Self {
        if !self.query.is_empty() {
            let mut hidden = String::with_capacity(1 + hash.len());
            // What no request target can hold (RFC 3986, 3.5), and `new` refuses.
            hidden.push(HIDDEN);
            hidden.push_str(hash);
            self.query = hidden.into();
        }
        self
    }

    /// Whether the query is only known as a hash, so that nobody can be asked for it by this key.
    #[must_use]
    pub fn is_query_hidden(&self) -> bool {
        self.query.starts_with(HIDDEN)
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

/// The name of a query's parameter, as whoever evaluates the query reads it.
fn name_of(pair: &str) -> Cow<'_, str> {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut decoded = String::with_capacity(name.len());
    match decode_unreserved(name, &mut decoded) {
        Some(()) => Cow::Owned(decoded),
        None => Cow::Borrowed(name),
    }
}

/// Whether `listed` means the parameter `name` of `query`.
fn names(listed: &str, name: &str, query: &str) -> bool {
    match listed.split_once('&') {
        Some((listed, beside)) => {
            is_named(listed, name)
                && query
                    .split('&')
                    .any(|pair| is_named(beside, &name_of(pair)))
        }
        None => is_named(listed, name),
    }
}

fn is_named(listed: &str, name: &str) -> bool {
    match listed.strip_suffix('*') {
        Some(prefix) => name
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        None => listed.eq_ignore_ascii_case(name),
    }
}

fn normalise_path(path: &str) -> String {
    let path = &escape_foreign(path);
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

/// What clients send and RFC 3986, 3.3 does not have. Brackets are not in it either, but every library that makes URLs
/// leaves them as they are, and some origins want them so.
fn escape_foreign(path: &str) -> Cow<'_, str> {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let is_foreign = |byte: u8| !byte.is_ascii() || b"\"<>\\^`{|}".contains(&byte);
    if !path.bytes().any(is_foreign) {
        return Cow::Borrowed(path);
    }
    let mut escaped = String::with_capacity(path.len() + 2);
    for byte in path.bytes() {
        if is_foreign(byte) {
            escaped.push('%');
            escaped.push(DIGITS[usize::from(byte >> 4)]);
            escaped.push(DIGITS[usize::from(byte & 15)]);
        } else {
            escaped.push(char::from(byte));
        }
    }
    Cow::Owned(escaped)
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
