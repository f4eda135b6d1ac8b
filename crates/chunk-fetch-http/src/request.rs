//! The fields that ask for a range under a condition.

use std::time::{Duration, SystemTime};

use chunk_core::{LastModified, Representation};
use chunk_ports::{Condition, FetchError, Wanted};
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

/// `Range` and the fields of the condition.
pub(crate) fn fields(wanted: Wanted, condition: &Condition) -> Result<HeaderMap, FetchError> {
    let mut fields = HeaderMap::new();
    let range = match wanted {
        Wanted::Span { start, end: None } => format!("bytes={start}-"),
        Wanted::Span {
            start,
            end: Some(end),
        } if start < end => format!("bytes={start}-{}", end - 1),
        Wanted::Suffix { len } if len > 0 => format!("bytes=-{len}"),
        _ => {
            return Err(FetchError::Forbidden {
                reason: "an empty range".to_owned(),
            });
        }
    };
    insert(&mut fields, RANGE, &range);
    match condition {
        Condition::Continue(known) => {
            if let Some(validator) = strong_validator(known) {
                insert(&mut fields, IF_RANGE, &validator);
            }
        }
        Condition::IfChanged(known) => {
            if let Some(tag) = &known.etag {
                insert(&mut fields, IF_NONE_MATCH, tag.as_str());
            } else if let Some(time) = known.last_modified {
                insert(&mut fields, IF_MODIFIED_SINCE, &http_date(time));
            }
        }
        _ => {}
    }
    Ok(fields)
}

/// The moment of a `Last-Modified` time.
pub(crate) fn moment(time: LastModified) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(time.unix_seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What `If-Range` may hold (RFC 9110, 13.1.5): a strong tag, or a strong time where there is no tag.
fn strong_validator(known: &Representation) -> Option<String> {
    match &known.etag {
        Some(_) => known.strong_etag().map(|tag| tag.as_str().to_owned()),
        None => known
            .last_modified
            .filter(|time| time.is_strong)
            .map(http_date),
    }
}

fn http_date(time: LastModified) -> String {
    httpdate::fmt_http_date(moment(time))
}

fn insert(fields: &mut HeaderMap, name: http::HeaderName, text: &str) {
    // A tag with bytes beyond ASCII is a legal value, but not a legal `str` of one.
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        fields.insert(name, value);
    }
}
