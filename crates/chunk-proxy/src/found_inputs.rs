//! What must hold of any bytes that a client sends, and the inputs that the fuzzer has found worth keeping.

use std::collections::BTreeSet;

use chunk_core::{ByteRange, CacheKey, ETag, LastModified};
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderValue, Uri};

use crate::config::Mount;
use crate::framing::{Follows, check, find_end};
use crate::heads::parse;
use crate::preconditions::{Outcome, Validators, any, evaluate};
use crate::range_header::{RangeHeader, Selection};
use crate::route::{Routed, resolve};

/// The length of a file, and a `Range` field: what is selected is what is named, each byte once.
pub fn range(data: &[u8]) {
    let Some((len, value)) = data.split_first_chunk() else {
        return;
    };
    let Some(header) = RangeHeader::parse(value) else {
        return;
    };
    let specs = header.specs();
    assert!((1..=RangeHeader::MAX_RANGES).contains(&specs.len()));
    let total_len = u64::from_le_bytes(*len);
    for total_len in [total_len, total_len % 32, 0, u64::MAX] {
        let selected: Vec<ByteRange> = match header.select(total_len) {
            Selection::Unsatisfiable => Vec::new(),
            Selection::Empty => {
                assert_eq!(total_len, 0);
                Vec::new()
            }
            Selection::One(range) => vec![range],
            Selection::Several(ranges) => {
                assert!(ranges.len() > 1);
                ranges
            }
        };
        for (at, range) in selected.iter().enumerate() {
            assert!(range.end() <= total_len);
            let others = &selected[at + 1..];
            assert!(
                others
                    .iter()
                    .all(|other| range.intersection(*other).is_none())
            );
        }
        let named = specs.iter().filter_map(|spec| spec.within(total_len));
        if total_len < 32 {
            let bytes = |range: ByteRange| range.start()..range.end();
            let named: BTreeSet<u64> = named.flat_map(bytes).collect();
            let sent: BTreeSet<u64> = selected.iter().copied().flat_map(bytes).collect();
            assert_eq!(named, sent);
        } else {
            for range in named {
                let holds = |selected: &ByteRange| selected.intersection(range) == Some(range);
                assert!(selected.iter().any(holds));
            }
        }
    }
}

/// A request's head: where it ends does not depend on how it comes, and what the lane answers the gate lets through.
pub fn head(data: &[u8]) {
    let found = find_end(data, 0);
    for part in 1..8 {
        let so_far = &data[..data.len() * part / 8];
        match find_end(so_far, 0) {
            Ok(None) => {
                let from = so_far.len();
                assert_eq!(find_end(data, from), found, "after {from}");
            }
            sooner => assert_eq!(sooner, found),
        }
    }
    let Ok(Some(end)) = found else {
        return;
    };
    let Some(plain) = parse(&data[..end]) else {
        return;
    };
    assert_eq!(check(&data[..end]), Ok(Follows::NextHead));
    let headers = plain.request.headers();
    assert!(!headers.contains_key("transfer-encoding"));
    let lengths: Vec<_> = headers.get_all("content-length").iter().collect();
    assert!(lengths.len() <= 1);
    assert!(
        lengths
            .iter()
            .all(|len| len.as_bytes().iter().all(|&digit| digit == b'0'))
    );
}

/// A target: its key is as short as it can be, leads nowhere else, and names the same thing when it is asked for.
pub fn target(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else {
        return;
    };
    for mounts in [
        vec![Mount::unnamed()],
        vec![Mount::named("a"), Mount::named("b")],
    ] {
        let Ok(routed) = resolve(&mounts, &uri, &HeaderMap::new()) else {
            continue;
        };
        let Routed {
            mount, resource, ..
        } = routed;
        let path = resource.key.path();
        assert!(path.starts_with('/') && path.is_ascii());
        assert!(
            !path
                .bytes()
                .any(|byte| byte.is_ascii_control() || byte == b'#' || byte == b'?')
        );
        let is_dots = |segment: &str| matches!(segment, "." | "..");
        assert!(!path.split('/').any(is_dots), "{path}");
        let asked = resource.target.expose();
        assert_eq!(asked.split('?').next(), Some(path));
        let again = CacheKey::new(mount.name(), asked, mount.signature_parameters());
        assert_eq!(again.as_ref(), Ok(&*resource.key));
    }
}

/// Preconditions, one a line, the first byte of each saying which: without any the request goes on, and a file that
/// has what is asked for is not refused for want of it.
pub fn conditions(data: &[u8]) {
    const NAMES: [HeaderName; 5] = [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
    ];
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(16) {
        let Some((which, value)) = line.split_first() else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(&NAMES[usize::from(*which) % NAMES.len()], value);
        }
    }
    let tag = headers
        .values()
        .find_map(|value| ETag::parse(value.to_str().ok()?));
    let nothing = Validators::default();
    let something = Validators {
        served: ETag::parse("\"a\""),
        origin: tag,
        last_modified: Some(LastModified::new(784_111_777, true)),
    };
    for validators in [&nothing, &something] {
        let outcome = evaluate(&headers, validators);
        if !any(&headers) {
            assert_eq!(outcome, Outcome::Proceed);
        }
        if !headers.contains_key(IF_MATCH) && !headers.contains_key(IF_UNMODIFIED_SINCE) {
            assert_ne!(outcome, Outcome::Failed);
        }
        if !headers.contains_key(IF_NONE_MATCH) && !headers.contains_key(IF_MODIFIED_SINCE) {
            assert_ne!(outcome, Outcome::NotModified);
        }
        if !headers.contains_key(IF_RANGE) {
            assert_ne!(outcome, Outcome::ProceedWhole);
        }
    }
}

#[cfg(test)]
mod tests {
    use chunk_testkit::corpus::replay;

    #[test]
    fn fault34_ranges_that_were_found() {
        replay(include_str!("../corpus/range.txt"), super::range);
    }

    #[test]
    fn fault44_heads_that_were_found() {
        replay(include_str!("../corpus/head.txt"), super::head);
    }

    #[test]
    fn fault47_targets_that_were_found() {
        replay(include_str!("../corpus/target.txt"), super::target);
    }

    #[test]
    fn fault34_conditions_that_were_found() {
        replay(include_str!("../corpus/conditions.txt"), super::conditions);
    }
}
