//! What must hold of any fields that an origin sends, and the inputs that the fuzzer has found worth keeping.

use std::time::{Duration, UNIX_EPOCH};

use chunk_core::ByteRange;
use http::header::{
    AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
    PRAGMA, SET_COOKIE, VARY,
};

use crate::content_range::ContentRange;
use crate::freshness::Policy;

/// A `Content-Range`: what is understood is possible, and is understood again when it is written as it should be.
pub(crate) fn content_range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(found) = ContentRange::parse(text) else {
        return;
    };
    let written = match found {
        ContentRange::Part { range, total_len } => {
            let (first, last) = (range.start(), range.end() - 1);
            assert!(first <= last && total_len.is_none_or(|total| last < total));
            assert_eq!(ByteRange::from_inclusive(first, last), Ok(range));
            let total = total_len.map_or("*".to_owned(), |total| total.to_string());
            format!("bytes {first}-{last}/{total}")
        }
        ContentRange::Unsatisfied { total_len } => format!("bytes */{total_len}"),
    };
    assert_eq!(ContentRange::parse(&written), Some(found));
}

/// Fields of an answer, one a line, the first byte of each saying which.
pub(crate) fn freshness(data: &[u8]) {
    const NAMES: [HeaderName; 9] = [
        CACHE_CONTROL,
        EXPIRES,
        AGE,
        DATE,
        LAST_MODIFIED,
        ETAG,
        PRAGMA,
        VARY,
        SET_COOKIE,
    ];
    let mut fields = HeaderMap::new();
    let mut forbids = false;
    for line in data.split(|&byte| byte == b'\n').take(16) {
        let Some((which, value)) = line.split_first() else {
            continue;
        };
        let name = &NAMES[usize::from(*which) % NAMES.len()];
        if let Ok(value) = HeaderValue::from_bytes(value) {
            forbids |= name == CACHE_CONTROL && value.as_bytes() == b"no-store";
            fields.append(name, value);
        }
    }
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let most = Duration::from_secs(60);
    for (private_cache, immutable) in [(false, false), (true, false), (false, true)] {
        let policy = Policy {
            private_cache,
            immutable,
        };
        let verdict = policy.verdict(&fields, now);
        assert!(!(forbids && verdict.storable));
        assert!(verdict.fresh_for <= Some(Duration::from_secs(10 * 365 * 24 * 3600)));
        assert!(policy.redirect_lifetime(&fields, now, most) <= most);
        let known = now.checked_sub(Duration::from_secs(1_000_000));
        let confirmed = policy.verdict_on_confirmation(&fields, known, now);
        assert!(!(forbids && confirmed.storable));
        assert!(confirmed.fresh_for <= Some(Duration::from_secs(10 * 365 * 24 * 3600)));
    }
}

#[cfg(test)]
mod tests {
    use chunk_testkit::corpus::replay;

    #[test]
    fn fault02_content_ranges_that_were_found() {
        let corpus = include_str!("../corpus/content-range.txt");
        replay(corpus, super::content_range);
    }

    #[test]
    fn fault35_lifetimes_that_were_found() {
        replay(include_str!("../corpus/freshness.txt"), super::freshness);
    }
}
