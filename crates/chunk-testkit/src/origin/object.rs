//! What the origin serves.

use std::sync::Arc;

use chunk_core::{ETag, LastModified, Representation};

/// Which entity tag an object has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagKind {
    /// A strong tag that changes with the version.
    Strong,
    /// A weak tag that changes with the version.
    Weak,
    /// None.
    Absent,
    /// This text, whatever the version.
    Fixed(String),
}

/// One object: its bytes are [`content`](super::content) of its name and version.
///
/// New ones have version 1, a strong tag, a `Last-Modified` time, `video/x-matroska` and no
/// `Cache-Control`, and the `Date` of their answers is the wall clock's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OriginObject {
    /// The path below the origin without its leading `/`; also the name the content is made from.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// Which content.
    pub version: u64,
    /// Which `ETag`.
    pub tag: TagKind,
    /// `Last-Modified` in seconds since 1970.
    pub last_modified: Option<i64>,
    /// `Date` in seconds since 1970, where it is not the wall clock's.
    pub date: Option<i64>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Further response fields, such as `Cache-Control`.
    pub headers: Vec<(String, String)>,
    /// Whether ranges are served at all; where not, every answer is a 200 without `Accept-Ranges`.
    pub accepts_ranges: bool,
    /// Bytes that stand in place of the content, by their offsets.
    pub patches: Vec<(u64, Arc<[u8]>)>,
}

impl OriginObject {
    /// An object of `len` bytes.
    #[must_use]
    pub fn new(name: impl Into<String>, len: u64) -> Self {
        Self {
            name: name.into(),
            len,
            version: 1,
            tag: TagKind::Strong,
            last_modified: Some(1_700_000_000),
            date: None,
            content_type: Some("video/x-matroska".to_owned()),
            headers: Vec::new(),
            accepts_ranges: true,
            patches: Vec::new(),
        }
    }

    /// With another content.
    #[must_use]
    pub const fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// With another kind of entity tag.
    #[must_use]
    pub fn tag(mut self, tag: TagKind) -> Self {
        self.tag = tag;
        self
    }

    /// With another `Last-Modified`, or none.
    #[must_use]
    pub const fn last_modified(mut self, unix: Option<i64>) -> Self {
        self.last_modified = unix;
        self
    }

    /// With neither tag nor time.
    #[must_use]
    pub fn without_validators(self) -> Self {
        self.tag(TagKind::Absent).last_modified(None)
    }

    /// With this `Date` in its answers.
    #[must_use]
    pub const fn date(mut self, unix: i64) -> Self {
        self.date = Some(unix);
        self
    }

    /// With another media type.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// With one more response field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With these bytes from `offset` on, such as a file's header; whoever checks the content leaves them out.
    #[must_use]
    pub fn with_bytes(mut self, offset: u64, bytes: &[u8]) -> Self {
        self.patches.push((offset, bytes.into()));
        self
    }

    /// With these bytes at its beginning.
    #[must_use]
    pub fn with_prefix(self, bytes: &[u8]) -> Self {
        self.with_bytes(0, bytes)
    }

    /// Served whole only.
    #[must_use]
    pub const fn without_ranges(mut self) -> Self {
        self.accepts_ranges = false;
        self
    }

    /// The text of its `ETag` field.
    #[must_use]
    pub fn etag(&self) -> Option<String> {
        match &self.tag {
            TagKind::Strong => Some(format!("\"v{}-{:x}\"", self.version, self.len)),
            TagKind::Weak => Some(format!("W/\"v{}\"", self.version)),
            TagKind::Absent => None,
            TagKind::Fixed(text) => Some(text.clone()),
        }
    }

    /// What a client learns of it.
    #[must_use]
    pub fn representation(&self) -> Representation {
        let mut known = Representation::with_len(Some(self.len));
        known.etag = self.etag().as_deref().and_then(ETag::parse);
        known.last_modified = self.last_modified.map(|at| {
            let strong = self.date.is_none_or(|date| date > at);
            LastModified::new(at, strong)
        });
        known.content_type = self.content_type.as_deref().map(Into::into);
        known
    }
}
