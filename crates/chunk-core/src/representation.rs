//! What makes a representation the same representation: validators (RFC 9110, 8.8) and length.

use alloc::boxed::Box;

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
        self.strong_etag().is_some() || self.has_strong_time()
    }

    /// Whether a 304 says for sure that the origin still has this, though somebody has just changed it there: a weak tag
    /// may be that of the new version as well (RFC 9110, 8.8.1), and where there is one, the time is not compared
    /// (13.1.3).
    #[must_use]
    pub fn is_confirmed_by_condition(&self) -> bool {
        self.strong_etag().is_some() || self.etag.is_none() && self.has_strong_time()
    }

    /// Whether an answer with bytes that says `now` of itself names this representation: it contradicts nothing that
    /// is known, and repeats the validator by which this one is told from others, the tag or where there is none the
    /// time. Only a strong tag repeats a strong one. Without a validator the length is all there is.
    #[must_use]
    pub fn is_named_by(&self, now: &Self) -> bool {
        let is_repeated = match (&self.etag, &now.etag) {
            (Some(known), Some(now)) => known.is_weak() || known.strong_eq(now),
            (Some(_), None) => false,
            (None, _) => self.last_modified.is_none() || now.last_modified.is_some(),
        };
        is_repeated && !self.differs_from(now)
    }

    /// Whether a part that says `part` of itself belongs to this representation, where it was asked for under
    /// `If-Range` if there is a strong validator. As [`Self::is_named_by`], but for a time that was sent: a server
    /// that found it to hold may leave it out of the part, and has to repeat a tag (RFC 9110, 15.3.7).
    #[must_use]
    pub fn is_continued_by(&self, part: &Self) -> bool {
        let was_time_sent = self.etag.is_none() && self.has_strong_time();
        self.is_named_by(part) || was_time_sent && !self.differs_from(part)
    }

    /// Whether an answer with bytes that says `now` of itself confirms this representation to be the present one. An
    /// origin that is asked whether it has another one, and sends bytes, says that it has (RFC 9111, 4.3.3), unless it
    /// repeats a strong validator: then it knows no conditions.
    #[must_use]
    pub fn is_confirmed_by(&self, now: &Self) -> bool {
        let is_told_strongly =
            self.strong_etag().is_some() || self.has_strong_time() && now.has_strong_time();
        is_told_strongly && self.is_named_by(now)
    }

    fn has_strong_time(&self) -> bool {
        self.last_modified.is_some_and(|time| time.is_strong)
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
