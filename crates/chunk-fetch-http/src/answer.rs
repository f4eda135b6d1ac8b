//! Whether an answer's head is one to what was asked: pure, from fields to facts or a refusal.

use std::time::{Duration, SystemTime};

use chunk_core::{ETag, LastModified, Representation};
use chunk_ports::{Condition, FetchError, RangeSupport, RefusalFields, Secret, Wanted};
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderName,
    LAST_MODIFIED, RETRY_AFTER, WWW_AUTHENTICATE,
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
        ranges: RangeSupport,
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
                told: self.told(),
            }),
            404 | 410 => Err(FetchError::NotFound {
                status: self.status.as_u16(),
            }),
            416 => Err(self.unsatisfied()),
            408 | 425 | 429 | 500..=599 => Err(FetchError::Busy {
                status: self.status.as_u16(),
                retry_after: self.retry_after(),
            }),
            400..=499 => Err(FetchError::Rejected {
                status: self.status.as_u16(),
                told: self.told(),
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
            if !known.is_named_by(&representation) {
                return Err(changed(representation));
            }
        }
        Ok(Accepted::Body {
            start: 0,
            end: representation.total_len,
            ranges: self.ranges_beside_whole(),
            representation,
        })
    }

    /// What an answer with the whole shows of ranges. One without a length shows nothing: of what ends nowhere in
    /// particular, only its beginning is there to be asked for.
    fn ranges_beside_whole(&self) -> RangeSupport {
        let said = self.list(ACCEPT_RANGES).unwrap_or_default();
        let is_said = said
            .split(',')
            .any(|unit| unit.trim().eq_ignore_ascii_case("bytes"));
        match self.wanted {
            Wanted::Span { start: 0, .. } if is_said && self.body_len.is_some() => {
                RangeSupport::Claimed
            }
            _ => RangeSupport::Ignored,
        }
    }

    fn part(&self) -> Result<Accepted, FetchError> {
        // Before the range: several parts have none, and deserve their own reason.
        self.check_form(&self.representation(None))?;
        let said = self.text(CONTENT_RANGE).and_then(ContentRange::parse);
        let Some(said @ ContentRange::Part { range, total_len }) = said else {
            return Err(refused("a part without a Content-Range that can be used"));
        };
        if self.fields.get_all(CONTENT_RANGE).iter().count() > 1 {
            return Err(refused("a part with two Content-Ranges"));
        }
        let total_len = match self.wanted {
            Wanted::Suffix { len } => said.total_by_suffix(len),
            Wanted::Span { .. } => total_len,
        };
        let representation = self.representation(total_len);
        if let Condition::Continue(known) = self.condition {
            if !known.is_continued_by(&representation) {
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
            ranges: RangeSupport::Served,
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
            && known.differs_from(&self.representation(Some(total)))
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

    /// What a refusal says for whoever asked.
    fn told(&self) -> RefusalFields {
        RefusalFields {
            retry_after: self.retry_after(),
            allow: self.list(ALLOW),
            challenge: self.list(WWW_AUTHENTICATE).map(Secret::new),
        }
    }

    /// All lines of a field that is a list (RFC 9110, 5.3), as one.
    fn list(&self, name: HeaderName) -> Option<String> {
        let lines = self.fields.get_all(name).iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DATE_FIELD: (&str, &str) = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");

    fn judge(
        wanted: Wanted,
        condition: &Condition,
        status: u16,
        fields: &[(&'static str, &str)],
    ) -> Result<Accepted, FetchError> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Head {
            wanted,
            condition,
            media_expected: true,
            status: StatusCode::from_u16(status).unwrap(),
            fields: &map,
            body_len: Some(10),
            now: SystemTime::UNIX_EPOCH,
        }
        .judge()
    }

    fn span(start: u64, end: u64) -> Wanted {
        let end = Some(end);
        Wanted::Span { start, end }
    }

    fn known(tag: &str) -> Representation {
        let mut known = Representation::with_len(Some(100));
        known.etag = ETag::parse(tag);
        known
    }

    #[test]
    fn a_strong_last_modified_is_older_than_the_answer() {
        for (modified, strong) in [
            ("Tue, 14 Nov 2023 22:13:19 GMT", true),
            ("Tue, 14 Nov 2023 22:13:20 GMT", false),
            ("Tue, 14 Nov 2023 22:13:21 GMT", false),
        ] {
            let modified = ("last-modified", modified);
            for (fields, strong) in [
                (vec![DATE_FIELD, modified], strong),
                (vec![modified], false),
            ] {
                let Ok(Accepted::Body { representation, .. }) =
                    judge(span(0, 10), &Condition::Any, 200, &fields)
                else {
                    panic!("{fields:?}");
                };
                let found = representation.last_modified.unwrap();
                assert_eq!(found.is_strong, strong, "{fields:?}");
            }
        }
    }

    #[test]
    fn a_416_is_held_against_what_was_asked_and_known() {
        let continued = Condition::Continue(known("\"a\""));
        let total = |total| [("content-range", total)];
        let inside = judge(span(50, 60), &Condition::Any, 416, &total("bytes */100"));
        assert!(
            matches!(inside, Err(FetchError::Refused { .. })),
            "{inside:?}"
        );
        let shrunk = judge(span(50, 60), &continued, 416, &total("bytes */40"));
        assert!(
            matches!(shrunk, Err(FetchError::Changed { .. })),
            "{shrunk:?}"
        );
        let silent = judge(span(50, 60), &Condition::Any, 416, &[]);
        assert!(
            matches!(silent, Err(FetchError::Unsatisfiable { total_len: None })),
            "{silent:?}"
        );
    }

    #[test]
    fn fault05_a_continuation_wants_the_same_strong_tag() {
        let continued = Condition::Continue(known("\"a\""));
        let part = ("content-range", "bytes 50-59/100");
        for (fields, status, good) in [
            (vec![part, ("etag", "\"a\"")], 206, true),
            // RFC 9110, 15.3.7: a server whose file has a tag repeats it in each part.
            (vec![part], 206, false),
            (vec![part, ("etag", "W/\"a\"")], 206, false),
            (vec![part, ("etag", "\"b\"")], 206, false),
            // The whole without a tag is no word at all.
            (vec![], 200, false),
        ] {
            let found = judge(span(50, 60), &continued, status, &fields);
            match found {
                Ok(_) => assert!(good, "{fields:?}"),
                Err(FetchError::Changed { .. }) => assert!(!good, "{fields:?}"),
                Err(other) => panic!("{fields:?}: {other:?}"),
            }
        }
        let beyond = [("content-range", "bytes 95-104/*"), ("etag", "\"a\"")];
        let beyond = judge(span(95, 105), &continued, 206, &beyond);
        assert!(
            matches!(beyond, Err(FetchError::Refused { .. })),
            "{beyond:?}"
        );
    }

    #[test]
    fn a_304_is_an_answer_to_a_condition_and_names_no_other_version() {
        let condition = Condition::IfChanged(known("\"a\""));
        let same = judge(span(0, 1), &condition, 304, &[("etag", "W/\"a\"")]);
        assert_eq!(same.unwrap(), Accepted::NotModified);
        let other = judge(span(0, 1), &condition, 304, &[("etag", "\"b\"")]);
        assert!(
            matches!(other, Err(FetchError::Refused { .. })),
            "{other:?}"
        );
        for condition in [Condition::Any, Condition::Continue(known("\"a\""))] {
            let unasked = judge(span(0, 1), &condition, 304, &[]);
            assert!(
                matches!(unasked, Err(FetchError::Refused { .. })),
                "{unasked:?}"
            );
        }
    }

    #[test]
    fn two_content_ranges_are_one_too_many() {
        let fields = [
            ("content-range", "bytes 0-9/100"),
            ("content-range", "bytes 10-19/100"),
        ];
        let found = judge(span(0, 10), &Condition::Any, 206, &fields);
        assert!(
            matches!(found, Err(FetchError::Refused { .. })),
            "{found:?}"
        );
    }

    #[test]
    fn fault07_an_identity_coding_is_none() {
        let part = ("content-range", "bytes 0-9/100");
        let coded = |coding| {
            let fields = [part, ("content-encoding", coding)];
            judge(span(0, 10), &Condition::Any, 206, &fields)
        };
        assert!(coded("Identity").is_ok());
        for coding in ["gzip", "br", "identity, gzip"] {
            assert!(
                matches!(coded(coding), Err(FetchError::Refused { .. })),
                "{coding}"
            );
        }
    }

    #[test]
    fn pages_are_right_where_no_media_is_expected() {
        assert!(is_media_path("/a/film.MKV") && is_media_path("/x.mp4"));
        assert!(
            !is_media_path("/a.mkv/") && !is_media_path("/mkv") && !is_media_path("/index.html")
        );
    }

    #[test]
    fn other_statuses_are_neither_content_nor_worth_a_retry() {
        for status in [100, 201, 204, 205, 300, 399, 600] {
            let found = judge(span(0, 10), &Condition::Any, status, &[]);
            let Err(error) = found else {
                panic!("{status}: {found:?}");
            };
            assert!(
                matches!(error, FetchError::Refused { .. }),
                "{status}: {error:?}"
            );
            assert!(!error.is_retryable());
        }
    }
}
