//! Whether an answer's head is one to what was asked: pure, from fields to facts or a refusal.

use std::time::{Duration, SystemTime};

use chunk_core::{ETag, LastModified, Representation};
use chunk_ports::{Condition, FetchError, Wanted};
use http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderName, LAST_MODIFIED,
    RETRY_AFTER,
};
use http::{HeaderMap, StatusCode};

use crate::content_range::ContentRange;

/// An answer's head, and what it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) wanted: Wanted,
    pub(crate) condition: &'a Condition,
    /// Whether the name of the resource is that of a media file, for which a page is never right.
    pub(crate) media_expected: bool,
    pub(crate) status: StatusCode,
    pub(crate) fields: &'a HeaderMap,
    /// The number of body bytes, where the framing says.
    pub(crate) body_len: Option<u64>,
    pub(crate) now: SystemTime,
}

/// What a good head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    NotModified,
    Body {
        representation: Representation,
        start: u64,
        end: Option<u64>,
        accepts_ranges: bool,
    },
}

impl Head<'_> {
    /// Accepts or refuses the answer.
    pub(crate) fn judge(&self) -> Result<Accepted, FetchError> {
        match self.status.as_u16() {
            200 => self.whole(),
            206 => self.part(),
            304 => self.confirmation(),
            401 | 403 | 407 => Err(FetchError::Denied {
                status: self.status.as_u16(),
            }),
            404 | 410 => Err(FetchError::NotFound {
                status: self.status.as_u16(),
            }),
            416 => Err(self.unsatisfied()),
            408 | 425 | 429 | 500..=599 => Err(FetchError::Busy {
                status: self.status.as_u16(),
                retry_after: self.retry_after(),
            }),
            status => Err(refused(&format!("status {status} to a range request"))),
        }
    }

    /// The whole file, from its first byte, whatever was asked.
    fn whole(&self) -> Result<Accepted, FetchError> {
        let representation = self.representation(self.body_len);
        self.check_form(&representation)?;
        if let Condition::Continue(known) = self.condition {
            // The range was ignored, or `If-Range` failed. Only an answer that names the known
            // representation tells the two apart.
            let confirmed = names_all_of(known, &representation);
            if !confirmed || is_another(known, &representation) {
                return Err(changed(representation));
            }
        }
        Ok(Accepted::Body {
            start: 0,
            end: representation.total_len,
            accepts_ranges: false,
            representation,
        })
    }

    fn part(&self) -> Result<Accepted, FetchError> {
        // Before the range: several parts have none, and deserve their own reason.
        self.check_form(&self.representation(None))?;
        let said = self.text(CONTENT_RANGE).and_then(ContentRange::parse);
        let Some(ContentRange::Part { range, total_len }) = said else {
            return Err(refused("a part without a Content-Range that can be used"));
        };
        if self.fields.get_all(CONTENT_RANGE).iter().count() > 1 {
            return Err(refused("a part with two Content-Ranges"));
        }
        let representation = self.representation(total_len);
        if let Condition::Continue(known) = self.condition {
            if is_another(known, &representation) {
                return Err(changed(representation));
            }
            if known.total_len.is_some_and(|total| range.end() > total) {
                return Err(refused("a part beyond the file's end"));
            }
        }
        match self.wanted {
            Wanted::Span { start, end } => {
                if range.start() != start {
                    return Err(refused("a part that starts elsewhere than asked"));
                }
                if end.is_some_and(|end| range.end() > end) {
                    return Err(refused("a part that ends later than asked"));
                }
            }
            Wanted::Suffix { len } => {
                if total_len != Some(range.end()) || range.len() > len {
                    return Err(refused("a part that is not the end asked for"));
                }
            }
        }
        Ok(Accepted::Body {
            representation,
            start: range.start(),
            end: Some(range.end()),
            accepts_ranges: true,
        })
    }

    fn confirmation(&self) -> Result<Accepted, FetchError> {
        let Condition::IfChanged(known) = self.condition else {
            return Err(refused("status 304 to an unconditional request"));
        };
        if known.differs_from(&self.representation(None)) {
            return Err(refused("status 304 that names another version"));
        }
        Ok(Accepted::NotModified)
    }

    fn unsatisfied(&self) -> FetchError {
        let total_len = match self.text(CONTENT_RANGE).and_then(ContentRange::parse) {
            Some(ContentRange::Unsatisfied { total_len }) => Some(total_len),
            _ => None,
        };
        if let (Condition::Continue(known), Some(total)) = (self.condition, total_len)
            && known.total_len.is_some_and(|known| known != total)
        {
            return changed(self.representation(Some(total)));
        }
        match (self.wanted, total_len) {
            (Wanted::Span { start, .. }, Some(total)) if start < total => {
                refused("status 416 to a range inside the file")
            }
            _ => FetchError::Unsatisfiable { total_len },
        }
    }

    /// What cannot be a part of a file, whichever part it is.
    fn check_form(&self, now: &Representation) -> Result<(), FetchError> {
        let coded = |value: &http::HeaderValue| {
            !value
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"identity")
        };
        if self.fields.get_all(CONTENT_ENCODING).iter().any(coded) {
            return Err(refused("a content coding nobody asked for"));
        }
        if has_type(now, "multipart/byteranges") {
            return Err(refused("several parts for one range"));
        }
        if is_page(now) {
            match self.condition {
                Condition::Continue(known) | Condition::IfChanged(known) if !is_page(known) => {
                    return Err(changed(now.clone()));
                }
                Condition::Any if self.media_expected => {
                    return Err(refused("a page in HTML in place of a media file"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn representation(&self, total_len: Option<u64>) -> Representation {
        let mut now = Representation::with_len(total_len);
        now.etag = self.text(ETAG).and_then(ETag::parse);
        now.last_modified = self.date(LAST_MODIFIED).map(|modified| {
            // RFC 9110, 8.8.2.2: the file could have changed again within the second of its time.
            let answered = self.date(DATE);
            LastModified::new(modified, answered.is_some_and(|date| date > modified))
        });
        now.content_type = self.text(CONTENT_TYPE).map(Into::into);
        now
    }

    /// `Retry-After` as a time from now: seconds or a date (RFC 9110, 10.2.3).
    fn retry_after(&self) -> Option<Duration> {
        let text = self.text(RETRY_AFTER)?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = httpdate::parse_http_date(text).ok()?;
        // By the origin's own clock where it shows it.
        let date = self
            .text(DATE)
            .and_then(|d| httpdate::parse_http_date(d).ok());
        let wait = until.duration_since(date.unwrap_or(self.now));
        Some(wait.unwrap_or_default())
    }

    fn date(&self, name: HeaderName) -> Option<i64> {
        let time = httpdate::parse_http_date(self.text(name)?).ok()?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    }

    fn text(&self, name: HeaderName) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// Whether a page at this path would be a surprise: its name ends as those of media files do.
pub(crate) fn is_media_path(path: &str) -> bool {
    const MEDIA: &[&str] = &[
        "3gp", "aac", "ac3", "aif", "aiff", "ape", "asf", "avi", "bin", "dts", "flac", "flv",
        "iso", "m2ts", "m4a", "m4b", "m4s", "m4v", "mka", "mkv", "mov", "mp2", "mp3", "mp4",
        "mpeg", "mpg", "mts", "mxf", "oga", "ogg", "ogv", "opus", "ts", "vob", "wav", "weba",
        "webm", "wma", "wmv",
    ];
    let file = path.rsplit('/').next().unwrap_or_default();
    file.rsplit_once('.')
        .is_some_and(|(_, ending)| MEDIA.contains(&ending.to_ascii_lowercase().as_str()))
}

/// Stricter than [`Representation::differs_from`] where the known tag is strong: a weak one of the same
/// text does not promise the same bytes.
fn is_another(known: &Representation, now: &Representation) -> bool {
    let weakened = match (known.strong_etag(), &now.etag) {
        (Some(known), Some(now)) => !known.strong_eq(now),
        _ => false,
    };
    weakened || known.differs_from(now)
}

/// Whether `now` says something about the strongest thing that is known.
fn names_all_of(known: &Representation, now: &Representation) -> bool {
    if known.etag.is_some() {
        now.etag.is_some()
    } else {
        known.last_modified.is_none() || now.last_modified.is_some()
    }
}

fn is_page(representation: &Representation) -> bool {
    has_type(representation, "text/html") || has_type(representation, "application/xhtml+xml")
}

fn has_type(representation: &Representation, media_type: &str) -> bool {
    representation.content_type.as_deref().is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(media_type)
    })
}

fn changed(now: Representation) -> FetchError {
    FetchError::Changed { now: Box::new(now) }
}

pub(crate) fn refused(reason: &str) -> FetchError {
    FetchError::Refused {
        reason: reason.to_owned(),
    }
}
