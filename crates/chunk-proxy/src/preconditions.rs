//! Preconditions, in the order of RFC 9110, 13.2.2.

use chunk_core::{ETag, LastModified};
use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};

/// What tells the representation at hand from others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validators {
    /// The tag that clients are given: strong, the origin's own or made here.
    pub(crate) served: Option<ETag>,
    /// The tag the origin gave, weak or strong. A client that knows it from elsewhere may name it.
    pub(crate) origin: Option<ETag>,
    pub(crate) last_modified: Option<LastModified>,
}

/// How a GET or HEAD goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answer it; `Range` counts.
    Proceed,
    /// Answer it as though it had no `Range`: the client has another representation.
    ProceedWhole,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD.
pub(crate) fn evaluate(headers: &HeaderMap, validators: &Validators) -> Outcome {
    if let Some(tags) = TagList::of(headers, &IF_MATCH) {
        if !tags.matches(|tag| validators.strong_match(tag)) {
            return Outcome::Failed;
        }
    } else if let Some((modified, since)) = validators.dates(headers, &IF_UNMODIFIED_SINCE)
        && modified > since
    {
        return Outcome::Failed;
    }
    if let Some(tags) = TagList::of(headers, &IF_NONE_MATCH) {
        if tags.matches(|tag| validators.weak_match(tag)) {
            return Outcome::NotModified;
        }
    } else if let Some((modified, since)) = validators.dates(headers, &IF_MODIFIED_SINCE)
        && modified <= since
    {
        return Outcome::NotModified;
    }
    if validators.range_condition_holds(headers) {
        Outcome::Proceed
    } else {
        Outcome::ProceedWhole
    }
}

/// Whether the request has any condition that can turn its answer into something other than its range.
pub(crate) fn any(headers: &HeaderMap) -> bool {
    [
        IF_MATCH,
        IF_UNMODIFIED_SINCE,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_RANGE,
    ]
    .iter()
    .any(|name| headers.contains_key(name))
}

impl Validators {
    fn strong_match(&self, tag: &ETag) -> bool {
        [&self.served, &self.origin]
            .into_iter()
            .flatten()
            .any(|known| known.strong_eq(tag))
    }

    fn weak_match(&self, tag: &ETag) -> bool {
        [&self.served, &self.origin]
            .into_iter()
            .flatten()
            .any(|known| known.weak_eq(tag))
    }

    /// `Last-Modified` and the date in `field`, if both are there. A condition on a date is ignored where
    /// either is missing or the date is none (RFC 9110, 13.1.3 and 13.1.4).
    fn dates(&self, headers: &HeaderMap, field: &HeaderName) -> Option<(i64, i64)> {
        let date = parse_date(single(headers, field)?)?;
        Some((self.last_modified?.unix_seconds, date))
    }

    /// RFC 9110, 13.1.5: strong comparison only, and for a date an exact match with a strong `Last-Modified`.
    fn range_condition_holds(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(IF_RANGE) {
            return true;
        }
        let Some(value) = single(headers, &IF_RANGE) else {
            return false;
        };
        if let Some(tag) = ETag::parse(value) {
            return self.strong_match(&tag);
        }
        let known = self.last_modified.filter(|time| time.is_strong);
        matches!((parse_date(value), known), (Some(date), Some(known)) if date == known.unix_seconds)
    }
}

/// The value of a field that stands once and is text.
fn single<'a>(headers: &'a HeaderMap, field: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(field).iter();
    let value = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    str::from_utf8(value.as_bytes()).ok()
}

/// An HTTP date, in seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(text.trim_matches([' ', '\t'])).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, PartialEq, Eq)]
enum TagList {
    /// `*`: any representation there is.
    Any,
    /// The tags named. Members that are no tags name nothing and are left out.
    Tags(Vec<ETag>),
}

impl TagList {
    fn of(headers: &HeaderMap, field: &HeaderName) -> Option<Self> {
        if !headers.contains_key(field) {
            return None;
        }
        let mut tags = Vec::new();
        for line in headers.get_all(field) {
            let Ok(line) = str::from_utf8(line.as_bytes()) else {
                continue;
            };
            if line.trim_matches([' ', '\t']) == "*" {
                return Some(Self::Any);
            }
            collect_tags(line, &mut tags);
        }
        Some(Self::Tags(tags))
    }

    fn matches(&self, same: impl Fn(&ETag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(same),
        }
    }
}

/// Reads a list of entity tags. A tag may hold commas, so the list cannot simply be split at them.
fn collect_tags(mut rest: &str, tags: &mut Vec<ETag>) {
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return;
        }
        let opaque = rest.strip_prefix("W/").unwrap_or(rest);
        let closing = opaque.strip_prefix('"').and_then(|inner| inner.find('"'));
        let len = closing.map_or(0, |at| rest.len() - opaque.len() + 1 + at + 1);
        let (tag, after) = rest.split_at(len);
        let ends = after.trim_start_matches([' ', '\t']);
        if len > 0 && (ends.is_empty() || ends.starts_with(',')) {
            tags.extend(ETag::parse(tag));
            rest = after;
        } else {
            // Not a tag: go on after the next comma.
            rest = rest.split_once(',').map_or("", |(_, after)| after);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: i64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators {
        Validators {
            served: ETag::parse("\"v1\""),
            origin: ETag::parse("\"v1\""),
            last_modified: Some(LastModified::new(MODIFIED, true)),
        }
    }

    /// The origin had a weak tag only, so a strong one was made.
    fn made() -> Validators {
        Validators {
            served: ETag::parse("\"made\""),
            origin: ETag::parse("W/\"o\""),
            last_modified: Some(LastModified::new(MODIFIED, false)),
        }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value.parse().unwrap());
        }
        map
    }

    #[track_caller]
    fn check(fields: &[(HeaderName, &str)], validators: &Validators, expected: Outcome) {
        assert_eq!(
            evaluate(&headers(fields), validators),
            expected,
            "{fields:?}"
        );
    }

    #[test]
    fn if_match_compares_strongly() {
        let v = &validators();
        check(&[(IF_MATCH, "\"v1\"")], v, Outcome::Proceed);
        check(&[(IF_MATCH, "\"v0\", \"v1\"")], v, Outcome::Proceed);
        check(&[(IF_MATCH, "*")], v, Outcome::Proceed);
        check(&[(IF_MATCH, "\"v2\"")], v, Outcome::Failed);
        check(&[(IF_MATCH, "W/\"v1\"")], v, Outcome::Failed);
        check(&[(IF_MATCH, "v1")], v, Outcome::Failed);
        check(&[(IF_MATCH, "W/\"o\"")], &made(), Outcome::Failed);
        check(&[(IF_MATCH, "\"made\"")], &made(), Outcome::Proceed);
    }

    #[test]
    fn if_unmodified_since_counts_only_without_if_match() {
        let v = &validators();
        check(&[(IF_UNMODIFIED_SINCE, EARLIER)], v, Outcome::Failed);
        check(&[(IF_UNMODIFIED_SINCE, DATE)], v, Outcome::Proceed);
        check(&[(IF_UNMODIFIED_SINCE, "yesterday")], v, Outcome::Proceed);
        check(
            &[(IF_MATCH, "\"v1\""), (IF_UNMODIFIED_SINCE, EARLIER)],
            v,
            Outcome::Proceed,
        );
        let undated = &Validators {
            last_modified: None,
            ..validators()
        };
        check(&[(IF_UNMODIFIED_SINCE, EARLIER)], undated, Outcome::Proceed);
    }

    #[test]
    fn if_none_match_compares_weakly_and_knows_the_origins_tag_too() {
        let v = &validators();
        check(&[(IF_NONE_MATCH, "W/\"v1\"")], v, Outcome::NotModified);
        check(
            &[(IF_NONE_MATCH, "\"v0\",W/\"v1\"")],
            v,
            Outcome::NotModified,
        );
        check(&[(IF_NONE_MATCH, "*")], v, Outcome::NotModified);
        check(&[(IF_NONE_MATCH, "\"v2\"")], v, Outcome::Proceed);
        check(&[(IF_NONE_MATCH, "W/\"o\"")], &made(), Outcome::NotModified);
        check(
            &[(IF_NONE_MATCH, "\"made\"")],
            &made(),
            Outcome::NotModified,
        );
    }

    #[test]
    fn if_modified_since_counts_only_without_if_none_match() {
        let v = &validators();
        check(&[(IF_MODIFIED_SINCE, DATE)], v, Outcome::NotModified);
        check(&[(IF_MODIFIED_SINCE, LATER)], v, Outcome::NotModified);
        check(&[(IF_MODIFIED_SINCE, EARLIER)], v, Outcome::Proceed);
        check(
            &[(IF_NONE_MATCH, "\"v2\""), (IF_MODIFIED_SINCE, LATER)],
            v,
            Outcome::Proceed,
        );
    }

    #[test]
    fn the_412_of_a_false_if_match_beats_a_304() {
        check(
            &[(IF_MATCH, "\"v2\""), (IF_NONE_MATCH, "\"v1\"")],
            &validators(),
            Outcome::Failed,
        );
    }

    #[test]
    fn if_range_is_strong_and_exact() {
        let v = &validators();
        check(&[(IF_RANGE, "\"v1\"")], v, Outcome::Proceed);
        check(&[(IF_RANGE, "\"v2\"")], v, Outcome::ProceedWhole);
        check(&[(IF_RANGE, "W/\"v1\"")], v, Outcome::ProceedWhole);
        check(&[(IF_RANGE, DATE)], v, Outcome::Proceed);
        check(&[(IF_RANGE, LATER)], v, Outcome::ProceedWhole);
        check(&[(IF_RANGE, EARLIER)], v, Outcome::ProceedWhole);
        check(&[(IF_RANGE, "v1")], v, Outcome::ProceedWhole);
        check(&[(IF_RANGE, "\"made\"")], &made(), Outcome::Proceed);
        check(&[(IF_RANGE, "W/\"o\"")], &made(), Outcome::ProceedWhole);
        check(&[(IF_RANGE, DATE)], &made(), Outcome::ProceedWhole);
    }

    #[test]
    fn tags_may_hold_commas_and_lists_may_hold_rubbish() {
        let mut tags = Vec::new();
        collect_tags(" \"a,b\" ,, W/\"c\", rubbish, \"d\"x, \"e\"", &mut tags);
        let texts: Vec<&str> = tags.iter().map(ETag::as_str).collect();
        assert_eq!(texts, ["\"a,b\"", "W/\"c\"", "\"e\""]);
    }

    proptest! {
        #[test]
        fn any_list_ends(text in "[\"W/, a*\t\u{e9}]{0,40}") {
            let mut tags = Vec::new();
            collect_tags(&text, &mut tags);
            prop_assert!(tags.len() <= text.len());
        }

        #[test]
        fn a_list_of_tags_comes_back_whole(inner in proptest::collection::vec("[!#-~]{0,8}", 0..6)) {
            let written: Vec<String> = inner.iter().map(|text| format!("\"{text}\"")).collect();
            let mut tags = Vec::new();
            collect_tags(&written.join(", "), &mut tags);
            let read: Vec<&str> = tags.iter().map(ETag::as_str).collect();
            prop_assert_eq!(read, written);
        }
    }
}
