//! From what a GET or HEAD asks and what is known of the entry to the answer: a pure function.

use std::time::{Duration, UNIX_EPOCH};

use chunk_core::ByteRange;
use chunk_ports::Resource;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::Mount;
use crate::multipart::{Multipart, content_range, unsatisfied_range};
use crate::preconditions::{self, Outcome, Validators};
use crate::range_header::{RangeHeader, Selection};

/// The two methods that a cache answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retrieval {
    Get,
    Head,
}

/// What is known of an entry when its answer begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryFacts {
    /// `None` while the origin has not said and the body has not ended.
    pub(crate) total_len: Option<u64>,
    /// Whether any range of it can be had: the origin serves ranges, or all of it is here.
    pub(crate) ranges: bool,
    pub(crate) validators: Validators,
    pub(crate) content_type: Option<String>,
    /// Since the origin last confirmed it.
    pub(crate) age: Duration,
    /// How long after that it may be used without asking again.
    pub(crate) fresh_for: Duration,
    /// Whether others may keep it.
    pub(crate) storable: bool,
}

/// What the mount says about keeping its answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    /// A file never changes under its name.
    pub(crate) immutable: bool,
    /// The answer was made for one holder of credentials.
    pub(crate) private: bool,
}

impl Policy {
    /// For a resource below its mount.
    pub(crate) fn of(mount: &Mount, resource: &Resource) -> Self {
        Self {
            immutable: mount.is_immutable(),
            private: !resource.key.partition().is_empty(),
        }
    }
}

/// An answer before its first byte.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BodyPlan,
}

/// The bytes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyPlan {
    Empty,
    /// All of the file, to wherever it ends.
    Whole,
    Span(ByteRange),
    Parts(Multipart),
    /// A line for a person.
    Text(&'static str),
}

/// Plans the answer. `boundary` separates the parts where there are several.
pub(crate) fn plan(
    retrieval: Retrieval,
    request: &HeaderMap,
    entry: &EntryFacts,
    policy: Policy,
    boundary: impl FnOnce() -> String,
) -> Plan {
    let outcome = preconditions::evaluate(request, &entry.validators);
    let mut headers = validator_fields(entry);
    match outcome {
        Outcome::Failed => return Plan::text(StatusCode::PRECONDITION_FAILED, headers, CHANGED),
        Outcome::NotModified => {
            freshness_fields(&mut headers, entry, policy);
            return Plan {
                status: StatusCode::NOT_MODIFIED,
                headers,
                body: BodyPlan::Empty,
            };
        }
        Outcome::Proceed | Outcome::ProceedWhole => {}
    }
    let accepts = if entry.ranges && entry.total_len.is_some() {
        "bytes"
    } else {
        "none"
    };
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static(accepts));
    // RFC 9110, 14.2: Range is defined for GET only, and a server without ranges ignores it.
    let ranged = outcome == Outcome::Proceed && retrieval == Retrieval::Get && entry.ranges;
    let selected = match (ranged, entry.total_len) {
        (true, Some(total_len)) => {
            RangeHeader::of(request).map(|range| (range.select(total_len), total_len))
        }
        _ => None,
    };
    let (status, body) = match selected {
        Some((Selection::Unsatisfiable, _)) => {
            set(
                &mut headers,
                CONTENT_RANGE,
                unsatisfied_range(entry.total_len),
            );
            return Plan::text(StatusCode::RANGE_NOT_SATISFIABLE, headers, PAST_THE_END);
        }
        Some((Selection::One(range), total_len)) => {
            set(
                &mut headers,
                CONTENT_RANGE,
                Some(content_range(range, total_len)),
            );
            set(&mut headers, CONTENT_TYPE, entry.content_type.clone());
            headers.insert(CONTENT_LENGTH, range.len().into());
            (StatusCode::PARTIAL_CONTENT, BodyPlan::Span(range))
        }
        Some((Selection::Several(ranges), total_len)) => {
            match Multipart::new(
                &ranges,
                total_len,
                entry.content_type.as_deref(),
                boundary(),
            ) {
                Some(parts) => {
                    set(&mut headers, CONTENT_TYPE, Some(parts.content_type()));
                    headers.insert(CONTENT_LENGTH, parts.len().into());
                    (StatusCode::PARTIAL_CONTENT, BodyPlan::Parts(parts))
                }
                None => whole(&mut headers, entry),
            }
        }
        Some((Selection::Empty, _)) | None => whole(&mut headers, entry),
    };
    freshness_fields(&mut headers, entry, policy);
    let body = match retrieval {
        Retrieval::Get => body,
        Retrieval::Head => BodyPlan::Empty,
    };
    Plan {
        status,
        headers,
        body,
    }
}

const CHANGED: &str = "the file is not the version the request names\n";
const PAST_THE_END: &str = "the file has no bytes in that range\n";

impl Plan {
    const fn text(status: StatusCode, headers: HeaderMap, line: &'static str) -> Self {
        Self {
            status,
            headers,
            body: BodyPlan::Text(line),
        }
    }
}

fn whole(headers: &mut HeaderMap, entry: &EntryFacts) -> (StatusCode, BodyPlan) {
    set(headers, CONTENT_TYPE, entry.content_type.clone());
    if let Some(total_len) = entry.total_len {
        headers.insert(CONTENT_LENGTH, total_len.into());
    }
    let body = if entry.total_len == Some(0) {
        BodyPlan::Empty
    } else {
        BodyPlan::Whole
    };
    (StatusCode::OK, body)
}

fn validator_fields(entry: &EntryFacts) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    let tag = entry.validators.served.as_ref();
    set(&mut headers, ETAG, tag.map(|tag| tag.as_str().to_owned()));
    let modified = entry.validators.last_modified;
    let modified = modified
        .and_then(|time| u64::try_from(time.unix_seconds).ok())
        .filter(|&seconds| seconds < END_OF_HTTP_TIME)
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    set(
        &mut headers,
        LAST_MODIFIED,
        modified.map(httpdate::fmt_http_date),
    );
    headers
}

/// The first second of the year 10000, which an HTTP date cannot be written for.
const END_OF_HTTP_TIME: u64 = 253_402_300_800;

/// `Age` and a `Cache-Control` made from what the origin allowed (RFC 9111, 5.1 and 5.2).
fn freshness_fields(headers: &mut HeaderMap, entry: &EntryFacts, policy: Policy) {
    headers.insert(AGE, entry.age.as_secs().into());
    let scope = if policy.private { "private, " } else { "" };
    let value = if !entry.storable {
        "no-store".to_owned()
    } else if policy.immutable {
        // A year is what RFC 8246 and practice use for "never".
        format!("{scope}max-age=31536000, immutable")
    } else if entry.age >= entry.fresh_for {
        // Nothing is left of its lifetime, or there never was any.
        format!("{scope}no-cache")
    } else {
        // Whoever reads it subtracts `Age`.
        format!("{scope}max-age={}", entry.fresh_for.as_secs())
    };
    set(headers, CACHE_CONTROL, Some(value));
}

/// Sets a field where there is a value that a field can hold.
fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<String>) {
    if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use chunk_core::{ETag, LastModified};
    use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
    use proptest::prelude::*;

    use super::*;

    fn film() -> EntryFacts {
        EntryFacts {
            total_len: Some(1000),
            ranges: true,
            validators: Validators {
                served: ETag::parse("\"v1\""),
                origin: None,
                last_modified: Some(LastModified::new(784_111_777, true)),
            },
            content_type: Some("video/mp4".to_owned()),
            age: Duration::from_secs(5),
            fresh_for: Duration::from_secs(60),
            storable: true,
        }
    }

    fn ask(retrieval: Retrieval, fields: &[(HeaderName, &str)], entry: &EntryFacts) -> Plan {
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(name, value.parse().unwrap());
        }
        plan(retrieval, &request, entry, Policy::default(), || {
            "B".to_owned()
        })
    }

    fn get(fields: &[(HeaderName, &str)]) -> Plan {
        ask(Retrieval::Get, fields, &film())
    }

    fn field(plan: &Plan, name: HeaderName) -> Option<&str> {
        plan.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn span(start: u64, end: u64) -> BodyPlan {
        BodyPlan::Span(ByteRange::new(start, end).unwrap())
    }

    #[test]
    fn a_plain_get_is_the_whole_with_all_that_is_known() {
        let plan = get(&[]);
        assert_eq!((plan.status.as_u16(), &plan.body), (200, &BodyPlan::Whole));
        assert_eq!(field(&plan, CONTENT_LENGTH), Some("1000"));
        assert_eq!(field(&plan, CONTENT_TYPE), Some("video/mp4"));
        assert_eq!(field(&plan, ACCEPT_RANGES), Some("bytes"));
        assert_eq!(field(&plan, ETAG), Some("\"v1\""));
        assert_eq!(
            field(&plan, LAST_MODIFIED),
            Some("Sun, 06 Nov 1994 08:49:37 GMT")
        );
        assert_eq!(field(&plan, AGE), Some("5"));
        assert_eq!(field(&plan, CACHE_CONTROL), Some("max-age=60"));
        assert_eq!(field(&plan, CONTENT_RANGE), None);
    }

    #[test]
    fn a_range_is_a_206_with_its_exact_fields() {
        let plan = get(&[(RANGE, "bytes=990-")]);
        assert_eq!((plan.status.as_u16(), &plan.body), (206, &span(990, 1000)));
        assert_eq!(field(&plan, CONTENT_RANGE), Some("bytes 990-999/1000"));
        assert_eq!(field(&plan, CONTENT_LENGTH), Some("10"));
        assert_eq!(field(&plan, ACCEPT_RANGES), Some("bytes"));
    }

    #[test]
    fn trap12_past_the_end_is_a_416_that_tells_the_size() {
        let plan = get(&[(RANGE, "bytes=5000-6000")]);
        assert_eq!(plan.status.as_u16(), 416);
        assert_eq!(field(&plan, CONTENT_RANGE), Some("bytes */1000"));
        assert_eq!(
            field(&plan, CONTENT_LENGTH),
            None,
            "the text has its own length"
        );
    }

    #[test]
    fn several_ranges_are_parts_in_the_order_asked() {
        let plan = get(&[(RANGE, "bytes=-1,0-1")]);
        assert_eq!(plan.status.as_u16(), 206);
        assert_eq!(
            field(&plan, CONTENT_TYPE),
            Some("multipart/byteranges; boundary=B")
        );
        assert_eq!(field(&plan, CONTENT_RANGE), None, "each part has its own");
        let BodyPlan::Parts(parts) = &plan.body else {
            panic!("{:?}", plan.body)
        };
        let ranges: Vec<_> = parts
            .parts()
            .iter()
            .map(|part| part.range.start())
            .collect();
        assert_eq!(ranges, [999, 0]);
        assert_eq!(
            field(&plan, CONTENT_LENGTH),
            Some(parts.len().to_string().as_str())
        );
    }

    #[test]
    fn never_multipart_for_one_range() {
        assert_eq!(get(&[(RANGE, "bytes=0-9,5-19,9000-")]).body, span(0, 20));
    }

    #[test]
    fn head_is_shaped_like_a_get_without_range() {
        let plan = ask(Retrieval::Head, &[(RANGE, "bytes=0-1")], &film());
        assert_eq!((plan.status.as_u16(), &plan.body), (200, &BodyPlan::Empty));
        assert_eq!(field(&plan, CONTENT_LENGTH), Some("1000"));
        assert_eq!(field(&plan, CONTENT_RANGE), None);
    }

    #[test]
    fn not_modified_beats_range_even_one_past_the_end() {
        for range in ["bytes=0-1", "bytes=5000-"] {
            let plan = get(&[(IF_NONE_MATCH, "W/\"v1\""), (RANGE, range)]);
            assert_eq!((plan.status.as_u16(), &plan.body), (304, &BodyPlan::Empty));
            assert_eq!(field(&plan, ETAG), Some("\"v1\""));
            assert_eq!(field(&plan, CACHE_CONTROL), Some("max-age=60"));
            assert_eq!(field(&plan, CONTENT_LENGTH), None);
        }
    }

    #[test]
    fn a_failed_precondition_is_a_412_before_any_range() {
        assert_eq!(
            get(&[(IF_MATCH, "\"v0\""), (RANGE, "bytes=5000-")])
                .status
                .as_u16(),
            412
        );
        let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
        assert_eq!(get(&[(IF_UNMODIFIED_SINCE, earlier)]).status.as_u16(), 412);
    }

    #[test]
    fn another_version_in_if_range_gives_the_whole_not_a_416() {
        for range in ["bytes=0-1", "bytes=5000-"] {
            let plan = get(&[(IF_RANGE, "\"v0\""), (RANGE, range)]);
            assert_eq!((plan.status.as_u16(), &plan.body), (200, &BodyPlan::Whole));
        }
        assert_eq!(
            get(&[(IF_RANGE, "\"v1\""), (RANGE, "bytes=0-1")]).body,
            span(0, 2)
        );
    }

    #[test]
    fn without_ranges_or_length_the_range_is_ignored_and_said_so() {
        let unranged = EntryFacts {
            ranges: false,
            ..film()
        };
        let endless = EntryFacts {
            total_len: None,
            ..film()
        };
        for entry in [unranged, endless] {
            let plan = ask(Retrieval::Get, &[(RANGE, "bytes=10-20")], &entry);
            assert_eq!((plan.status.as_u16(), &plan.body), (200, &BodyPlan::Whole));
            assert_eq!(field(&plan, ACCEPT_RANGES), Some("none"));
        }
    }

    #[test]
    fn an_empty_file_has_an_empty_body() {
        let empty = EntryFacts {
            total_len: Some(0),
            ..film()
        };
        let plan = ask(Retrieval::Get, &[], &empty);
        assert_eq!((plan.status.as_u16(), &plan.body), (200, &BodyPlan::Empty));
        assert_eq!(field(&plan, CONTENT_LENGTH), Some("0"));
        assert_eq!(
            ask(Retrieval::Get, &[(RANGE, "bytes=0-")], &empty)
                .status
                .as_u16(),
            416
        );
        assert_eq!(
            ask(Retrieval::Get, &[(RANGE, "bytes=-5")], &empty)
                .status
                .as_u16(),
            200
        );
    }

    #[test]
    fn cache_control_says_no_more_than_the_origin_allowed() {
        let value = |entry: EntryFacts, policy| {
            let plan = plan(
                Retrieval::Get,
                &HeaderMap::new(),
                &entry,
                policy,
                String::new,
            );
            field(&plan, CACHE_CONTROL).unwrap().to_owned()
        };
        let (open, forever) = (
            Policy::default(),
            Policy {
                immutable: true,
                private: false,
            },
        );
        let private = Policy {
            immutable: false,
            private: true,
        };
        assert_eq!(
            value(
                EntryFacts {
                    storable: false,
                    ..film()
                },
                forever
            ),
            "no-store"
        );
        assert_eq!(
            value(
                EntryFacts {
                    fresh_for: Duration::ZERO,
                    ..film()
                },
                open
            ),
            "no-cache"
        );
        assert_eq!(value(film(), forever), "max-age=31536000, immutable");
        assert_eq!(value(film(), private), "private, max-age=60");
    }

    #[test]
    fn what_no_field_can_hold_is_left_out() {
        let odd = EntryFacts {
            content_type: Some("video/mp4\r\nX: y".to_owned()),
            validators: Validators {
                last_modified: Some(LastModified::new(i64::MAX, true)),
                ..Validators::default()
            },
            ..film()
        };
        let plan = ask(Retrieval::Get, &[], &odd);
        assert_eq!(field(&plan, CONTENT_TYPE), None);
        assert_eq!(field(&plan, LAST_MODIFIED), None);
    }

    proptest! {
        #[test]
        fn fault34_the_length_field_is_the_length_of_the_body(
            value in "bytes=[-0-9, ]{0,40}",
            total_len in 0u64..200,
        ) {
            let entry = EntryFacts { total_len: Some(total_len), ..film() };
            let plan = ask(Retrieval::Get, &[(RANGE, value.as_str())], &entry);
            let promised = field(&plan, CONTENT_LENGTH).map(|text| text.parse::<u64>().unwrap());
            match &plan.body {
                BodyPlan::Empty => prop_assert_eq!(promised, Some(0)),
                BodyPlan::Whole => prop_assert_eq!(promised, Some(total_len)),
                BodyPlan::Span(range) => {
                    prop_assert_eq!(promised, Some(range.len()));
                    prop_assert!(range.end() <= total_len);
                }
                BodyPlan::Parts(parts) => prop_assert_eq!(promised, Some(parts.len())),
                BodyPlan::Text(_) => prop_assert_eq!(plan.status.as_u16(), 416),
            }
            prop_assert_eq!(plan.status.as_u16() == 200, matches!(plan.body, BodyPlan::Whole | BodyPlan::Empty));
        }
    }
}
