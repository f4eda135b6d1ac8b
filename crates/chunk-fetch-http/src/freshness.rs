//! The rules of RFC 9111: from an answer's fields to a [`Verdict`]. Nothing else here knows them.

use std::time::{Duration, SystemTime};

use chunk_ports::Verdict;
use http::header::{AGE, CACHE_CONTROL, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_cache_semantics::{CacheOptions, CachePolicy};

/// A lifetime nobody promised (RFC 9111, 4.2.2) is at most a day.
const HEURISTIC_CAP: Duration = Duration::from_secs(24 * 3600);

/// Ten years: longer than any promise is worth, and what `immutable` means.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How an origin's answers may be kept, beyond what they say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    /// One person's cache, so that `private` does not forbid storing.
    pub(crate) private_cache: bool,
    /// The operator promises that the origin's files never change.
    pub(crate) immutable: bool,
}

impl Policy {
    /// The verdict on an answer with these fields that came at `now`.
    ///
    /// A part is judged as the whole it belongs to, which is what is stored in the end.
    pub(crate) fn verdict(self, fields: &HeaderMap, now: SystemTime) -> Verdict {
        let whole = as_whole(fields);
        let request = Request::new(());
        let options = CacheOptions {
            shared: !self.private_cache,
            ..CacheOptions::default()
        };
        let policy = CachePolicy::new_options(&request, &whole, now, options);
        let fresh_for = if self.immutable {
            FOR_EVER
        } else if has_explicit_lifetime(fields) {
            policy.time_to_live(now).min(FOR_EVER)
        } else {
            policy.time_to_live(now).min(HEURISTIC_CAP)
        };
        Verdict {
            storable: policy.is_storable(),
            fresh_for: Some(fresh_for),
            must_revalidate: self.must_revalidate(fields),
        }
    }

    /// Whether the answer forbids to be given out unconfirmed once it is no longer fresh (RFC 9111, 5.2.2): `s-maxage`
    /// implies `proxy-revalidate`, and both are for shared caches. `None` where it has no `Cache-Control`.
    fn must_revalidate(self, fields: &HeaderMap) -> Option<bool> {
        let forbids = |name: &str| match name {
            "no-cache" | "must-revalidate" => true,
            "proxy-revalidate" | "s-maxage" => !self.private_cache,
            _ => false,
        };
        let mut names = directives(fields).peekable();
        names.peek()?;
        // What never changes need not be confirmed, whatever the server says.
        Some(!self.immutable && names.any(|name| forbids(&name)))
    }

    /// How long a redirect with these fields may be followed without asking again, at most `most`. One that
    /// says nothing is as good as it was a moment ago.
    pub(crate) fn redirect_lifetime(
        self,
        fields: &HeaderMap,
        now: SystemTime,
        most: Duration,
    ) -> Duration {
        if !fields.contains_key(CACHE_CONTROL) && !fields.contains_key(EXPIRES) {
            return most;
        }
        let verdict = self.verdict(fields, now);
        match verdict.fresh_for {
            Some(fresh_for) if verdict.storable => fresh_for.min(most),
            _ => Duration::ZERO,
        }
    }

    /// The verdict on a 304, which need not repeat what the stored answer said: a field that it leaves out stands as it
    /// was (RFC 9111, 3.2 and 4.3.4).
    pub(crate) fn verdict_on_confirmation(
        self,
        fields: &HeaderMap,
        known_last_modified: Option<SystemTime>,
        now: SystemTime,
    ) -> Verdict {
        let mut fields = fields.clone();
        if let Some(at) = known_last_modified
            && !fields.contains_key(LAST_MODIFIED)
            && let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(at))
        {
            fields.insert(LAST_MODIFIED, value);
        }
        let verdict = self.verdict(&fields, now);
        let is_told = self.immutable
            || [CACHE_CONTROL, EXPIRES]
                .iter()
                .any(|field| fields.contains_key(field));
        // It stood with another cache for longer than is known here.
        let is_old = fields.get(AGE).is_some_and(|age| age.as_bytes() != b"0");
        let fresh_for = match verdict.fresh_for {
            told if is_told => told,
            _ if is_old => Some(Duration::ZERO),
            _ => None,
        };
        Verdict {
            fresh_for,
            ..verdict
        }
    }
}

/// The answer as a 200: the library knows nothing of parts.
fn as_whole(fields: &HeaderMap) -> Response<()> {
    let mut whole = Response::new(());
    *whole.headers_mut() = fields.clone();
    // RFC 9111, 5.2: in any case. The library knows them in lower case.
    if let http::header::Entry::Occupied(mut lines) = whole.headers_mut().entry(CACHE_CONTROL) {
        for line in lines.iter_mut() {
            if let Ok(lower) = HeaderValue::from_bytes(&line.as_bytes().to_ascii_lowercase()) {
                *line = lower;
            }
        }
    }
    // The library adds to the age without checking.
    let absurd = fields
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|age| age > FOR_EVER.as_secs());
    if absurd {
        let capped = HeaderValue::from(FOR_EVER.as_secs());
        whole.headers_mut().insert(AGE, capped);
    }
    whole
}

fn has_explicit_lifetime(fields: &HeaderMap) -> bool {
    let is_promise = |name: String| matches!(name.as_str(), "max-age" | "s-maxage");
    fields.contains_key(EXPIRES) || directives(fields).any(is_promise)
}

/// The names of the directives in `Cache-Control`. A comma within a quoted argument also ends one: no argument that is
/// in use has any, and at worst more is forbidden than was meant.
fn directives(fields: &HeaderMap) -> impl Iterator<Item = String> {
    fields
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|directive| {
            let name = directive.split(|&byte| byte == b'=').next()?;
            let name = std::str::from_utf8(name.trim_ascii()).ok()?;
            Some(name.to_ascii_lowercase())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn at(unix: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
    }

    fn verdict(policy: Policy, fields: &[(&'static str, &str)]) -> (bool, u64) {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let verdict = policy.verdict(&map, at(1_700_000_000));
        let fresh_for = verdict.fresh_for.unwrap();
        (verdict.storable, fresh_for.as_secs())
    }

    #[test]
    fn explicit_lifetimes_count_for_a_shared_cache() {
        let shared = Policy::default();
        for (fields, expected) in [
            (vec![("cache-control", "max-age=60")], (true, 60)),
            (
                vec![("cache-control", "max-age=60, s-maxage=90")],
                (true, 90),
            ),
            (
                vec![("cache-control", "max-age=60"), ("age", "20")],
                (true, 40),
            ),
            (
                vec![("cache-control", "max-age=60"), ("age", "90")],
                (true, 0),
            ),
            (vec![("cache-control", "no-store")], (false, 0)),
            (vec![("cache-control", "no-store, max-age=60")], (false, 0)),
            (vec![("cache-control", "private, max-age=60")], (false, 0)),
            (vec![("cache-control", "no-cache, max-age=60")], (true, 0)),
            (
                vec![("cache-control", "max-age=60"), ("vary", "*")],
                (true, 0),
            ),
            (
                vec![
                    ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
                    ("expires", "Tue, 14 Nov 2023 23:13:20 GMT"),
                ],
                (true, 3600),
            ),
            (vec![("expires", "0")], (true, 0)),
            (vec![("pragma", "no-cache")], (true, 0)),
            (vec![], (true, 0)),
        ] {
            assert_eq!(verdict(shared, &fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_forbids_stale_answers_is_found_among_the_directives() {
        let told = |policy: Policy, lines: &[&str]| {
            let mut map = HeaderMap::new();
            for line in lines {
                map.append("cache-control", HeaderValue::from_str(line).unwrap());
            }
            policy.verdict(&map, at(1_700_000_000)).must_revalidate
        };
        let shared = Policy::default();
        let private = Policy {
            private_cache: true,
            immutable: false,
        };
        for (lines, for_shared, for_private) in [
            (vec![], None, None),
            (vec!["max-age=60"], Some(false), Some(false)),
            (
                vec!["public, Must-Revalidate ,max-age=60"],
                Some(true),
                Some(true),
            ),
            (vec!["max-age=60", "no-cache"], Some(true), Some(true)),
            (vec!["no-cache=\"set-cookie\""], Some(true), Some(true)),
            (vec!["proxy-revalidate"], Some(true), Some(false)),
            (vec!["s-maxage=60"], Some(true), Some(false)),
            (vec!["x-no-cache, no-cached"], Some(false), Some(false)),
        ] {
            assert_eq!(told(shared, &lines), for_shared, "{lines:?}");
            assert_eq!(told(private, &lines), for_private, "{lines:?}");
        }
        let immutable = Policy {
            private_cache: false,
            immutable: true,
        };
        assert_eq!(told(immutable, &["no-cache"]), Some(false));
    }

    #[test]
    fn a_private_cache_keeps_what_is_private() {
        let private = Policy {
            private_cache: true,
            immutable: false,
        };
        let fields = [("cache-control", "private, max-age=60, s-maxage=0")];
        assert_eq!(verdict(private, &fields), (true, 60));
    }

    #[test]
    fn heuristics_are_a_tenth_of_the_age_and_at_most_a_day() {
        let date = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");
        let shared = Policy::default();
        let hours = [date, ("last-modified", "Tue, 14 Nov 2023 12:13:20 GMT")];
        assert_eq!(verdict(shared, &hours), (true, 3600));
        let years = [date, ("last-modified", "Tue, 14 Nov 2017 12:13:20 GMT")];
        assert_eq!(verdict(shared, &years), (true, DAY));
    }

    #[test]
    fn immutable_origins_are_fresh_for_years_but_no_store_stands() {
        let immutable = Policy {
            private_cache: false,
            immutable: true,
        };
        let (storable, fresh) = verdict(immutable, &[("cache-control", "max-age=1")]);
        assert!(storable && fresh > 365 * DAY);
        assert!(!verdict(immutable, &[("cache-control", "no-store")]).0);
    }

    #[test]
    fn fault40_absurd_ages_and_lifetimes_do_not_overflow() {
        let max = u64::MAX.to_string();
        let shared = Policy::default();
        let fields = [("age", max.as_str()), ("cache-control", "max-age=60")];
        assert_eq!(verdict(shared, &fields), (true, 0));
        let lifetime = format!("max-age={max}");
        let (storable, fresh) = verdict(shared, &[("cache-control", &lifetime)]);
        assert!(storable && fresh == FOR_EVER.as_secs());
    }

    #[test]
    fn directives_count_in_any_case() {
        let shared = Policy::default();
        for (control, expected) in [
            ("No-Store", (false, 0)),
            ("NO-STORE", (false, 0)),
            ("Private", (false, 0)),
            ("Max-Age=600", (true, 600)),
            ("Public, S-MaxAge=60, MAX-AGE=1", (true, 60)),
        ] {
            let told = verdict(shared, &[("cache-control", control)]);
            assert_eq!((told.0, told.1 * u64::from(told.0)), expected, "{control}");
        }
    }

    fn confirmed(policy: Policy, fields: &[(&'static str, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let known = Some(at(1_700_000_000 - 36_000));
        policy.verdict_on_confirmation(&map, known, at(1_700_000_000))
    }

    #[test]
    fn a_confirmation_that_says_nothing_of_caching_leaves_what_was_said() {
        let shared = Policy::default();
        let date = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");
        for fields in [&[][..], &[date], &[date, ("etag", "\"a\"")]] {
            let verdict = confirmed(shared, fields);
            assert_eq!((verdict.fresh_for, verdict.must_revalidate), (None, None));
            assert!(verdict.storable);
        }
        let immutable = Policy {
            private_cache: false,
            immutable: true,
        };
        assert_eq!(confirmed(immutable, &[date]).fresh_for, Some(FOR_EVER));
    }

    #[test]
    fn a_confirmation_that_has_a_time_or_an_age_says_something() {
        let shared = Policy::default();
        let date = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");
        for (field, seconds) in [
            (("expires", "Tue, 14 Nov 2023 22:14:20 GMT"), 60),
            (("expires", "Tue, 14 Nov 2023 22:00:00 GMT"), 0),
            (("expires", "0"), 0),
            (("age", "700"), 0),
        ] {
            let verdict = confirmed(shared, &[date, field]);
            assert_eq!(
                verdict.fresh_for,
                Some(Duration::from_secs(seconds)),
                "{field:?}"
            );
        }
        assert_eq!(confirmed(shared, &[date, ("age", "0")]).fresh_for, None);
    }

    #[test]
    fn a_confirmation_that_says_something_takes_the_known_time_where_it_names_none() {
        let shared = Policy::default();
        let date = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");
        for (control, seconds) in [("public", 3600), ("max-age=60", 60), ("no-cache", 0)] {
            let verdict = confirmed(shared, &[date, ("cache-control", control)]);
            let expected = Some(Duration::from_secs(seconds));
            assert_eq!(verdict.fresh_for, expected, "{control}");
        }
        assert!(!confirmed(shared, &[("cache-control", "no-store")]).storable);
    }
}
