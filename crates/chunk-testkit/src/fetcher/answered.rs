//! What a right adapter makes of an answer's head.

use std::time::Duration;

use chunk_core::{ETag, LastModified, Representation};
use chunk_ports::{
    Condition, FetchError, FetchRequest, FetchedBody, RangeSupport, RefusalFields, Secret, Verdict,
    Wanted,
};
use futures_util::stream;

use crate::origin::{Answer, Framing, OriginObject};

pub(super) enum Answered {
    NotModified(Verdict),
    /// With an empty body, to be put in its place.
    Body(FetchedBody),
}

pub(super) fn interpret(
    request: &FetchRequest,
    answer: &Answer,
    object: Option<&OriginObject>,
) -> Result<Answered, FetchError> {
    if answer.nothing {
        return Err(FetchError::Unreachable("no answer".into()));
    }
    let total = object.map(|object| object.len);
    let media_expected = object
        .and_then(|object| object.content_type.as_deref())
        .is_some_and(|media_type| media_type.starts_with("video/"));
    match answer.status {
        200 => whole(request, answer, media_expected),
        206 => part(request, answer, media_expected),
        304 => Ok(Answered::NotModified(verdict_on_confirmation(answer))),
        401 | 403 | 407 => Err(FetchError::Denied {
            status: answer.status,
            told: told(answer),
        }),
        404 | 410 => Err(FetchError::NotFound {
            status: answer.status,
        }),
        416 => Err(FetchError::Unsatisfiable { total_len: total }),
        408 | 425 | 429 | 500..=599 => Err(FetchError::Busy {
            status: answer.status,
            retry_after: told(answer).retry_after,
        }),
        400..=499 => Err(FetchError::Rejected {
            status: answer.status,
            told: told(answer),
        }),
        status => Err(refused(&format!("status {status}"))),
    }
}

fn told(answer: &Answer) -> RefusalFields {
    RefusalFields {
        retry_after: field(answer, "retry-after")
            .and_then(|value| value.parse().ok())
            .map(Duration::from_secs),
        allow: field(answer, "allow").map(str::to_owned),
        challenge: field(answer, "www-authenticate").map(Secret::new),
    }
}

fn whole(
    request: &FetchRequest,
    answer: &Answer,
    media_expected: bool,
) -> Result<Answered, FetchError> {
    let length = match answer.framing {
        Framing::Length(len) => Some(len),
        _ => None,
    };
    let now = representation(answer, length);
    check(request, answer, &now, media_expected)?;
    let says_ranges = field(answer, "accept-ranges") == Some("bytes");
    let ranges = match request.wanted {
        Wanted::Span { start: 0, .. } if says_ranges && length.is_some() => RangeSupport::Claimed,
        _ => RangeSupport::Ignored,
    };
    Ok(body(answer, now, 0, length, ranges))
}

fn part(
    request: &FetchRequest,
    answer: &Answer,
    media_expected: bool,
) -> Result<Answered, FetchError> {
    let (start, end, total) = field(answer, "content-range")
        .and_then(content_range)
        .ok_or_else(|| refused("no usable Content-Range"))?;
    let total = match request.wanted {
        // As many as were asked for of the last bytes end where the file ends.
        Wanted::Suffix { len } if end - start == len && start > 0 => total.or(Some(end)),
        _ => total,
    };
    let fits = match request.wanted {
        Wanted::Span {
            start: asked,
            end: until,
        } => start == asked && until.is_none_or(|until| end <= until),
        Wanted::Suffix { len } => Some(end) == total && end - start <= len,
    };
    if !fits {
        return Err(refused("another range than asked for"));
    }
    let now = representation(answer, total);
    check(request, answer, &now, media_expected)?;
    Ok(body(answer, now, start, Some(end), RangeSupport::Served))
}

fn check(
    request: &FetchRequest,
    answer: &Answer,
    now: &Representation,
    media_expected: bool,
) -> Result<(), FetchError> {
    if field(answer, "content-encoding").is_some() {
        return Err(refused("a content coding nobody asked for"));
    }
    let is = |known: &Representation, beginning: &str| {
        let media_type = known.content_type.as_deref();
        media_type.is_some_and(|media_type| media_type.starts_with(beginning))
    };
    if is(now, "multipart/byteranges") {
        return Err(refused("several parts for one range"));
    }
    let changed = || FetchError::Changed {
        now: Box::new(now.clone()),
    };
    match &request.condition {
        Condition::Continue(known) | Condition::IfChanged(known)
            if is(now, "text/html") && !is(known, "text/html") =>
        {
            Err(changed())
        }
        // The range was ignored, or there is another version: only the right name tells.
        Condition::Continue(known) if answer.status == 200 && !known.is_named_by(now) => {
            Err(changed())
        }
        Condition::Continue(known) if !known.is_continued_by(now) => Err(changed()),
        Condition::Any if is(now, "text/html") && media_expected => {
            Err(refused("a page in HTML in place of the file"))
        }
        _ => Ok(()),
    }
}

fn body(
    answer: &Answer,
    representation: Representation,
    start: u64,
    end: Option<u64>,
    ranges: RangeSupport,
) -> Answered {
    Answered::Body(FetchedBody {
        representation,
        start,
        end,
        ranges,
        verdict: verdict(answer),
        body: Box::pin(stream::empty()),
    })
}

fn representation(answer: &Answer, total: Option<u64>) -> Representation {
    let date = |name| field(answer, name).and_then(|value| httpdate::parse_http_date(value).ok());
    let unix = |time: std::time::SystemTime| {
        let since = time
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    let answered = date("date").map(unix);
    let mut known = Representation::with_len(total);
    known.etag = field(answer, "etag").and_then(ETag::parse);
    known.last_modified = date("last-modified")
        .map(unix)
        .map(|at| LastModified::new(at, answered.is_some_and(|date| date > at)));
    known.content_type = field(answer, "content-type").map(Into::into);
    known
}

/// What a 304 does not say stands as it was said before.
fn verdict_on_confirmation(answer: &Answer) -> Verdict {
    let is_told = field(answer, "cache-control").is_some();
    let verdict = verdict(answer);
    Verdict {
        fresh_for: verdict.fresh_for.filter(|_| is_told),
        ..verdict
    }
}

fn verdict(answer: &Answer) -> Verdict {
    let control = field(answer, "cache-control").unwrap_or_default();
    let max_age = control
        .split(',')
        .find_map(|directive| directive.trim().strip_prefix("max-age="))
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0);
    let forbids_stale = [
        "no-cache",
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage",
    ];
    Verdict {
        storable: !control.contains("no-store") && !control.contains("private"),
        fresh_for: Some(Duration::from_secs(max_age)),
        must_revalidate: field(answer, "cache-control")
            .map(|control| forbids_stale.iter().any(|name| control.contains(name))),
    }
}

/// Start, end (exclusive) and total of `bytes a-b/n`, or `bytes a-b/*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let fits = first <= last && total.is_none_or(|total| last < total);
    fits.then_some((first, last + 1, total))
}

fn field<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer
        .headers
        .iter()
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn refused(reason: &str) -> FetchError {
    FetchError::Refused {
        reason: reason.to_owned(),
    }
}
