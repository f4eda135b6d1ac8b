//! What is like a request before, and what is not.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{Mount, ProxyConfig};
use crate::heads::{Plain, parse};
use crate::observe::Counters;
use crate::range_header::{RangeHeader, RangeSpec};
use crate::tests::film::Film;

const FIELDS: &str = "Host: localhost\r\nUser-Agent: a player\r\n";

fn answerer() -> Answerer {
    Answerer {
        source: Arc::new(Film::new(1000)),
        forward: None,
        config: ProxyConfig::new(vec![Mount::unnamed()]),
        counters: Arc::new(Counters::default()),
    }
}

fn ask(range: &str, rest: &str) -> String {
    format!("GET /f HTTP/1.1\r\n{FIELDS}Range: bytes={range}\r\n{rest}\r\n")
}

/// What a connection has learned of `heads`.
fn after(heads: &[&str]) -> Memory {
    let mut memory = Memory::default();
    let answerer = answerer();
    for head in heads {
        if let Some(Plain { request, .. }) = parse(head.as_bytes()) {
            let (parts, _) = request.into_parts();
            memory.learn(head.as_bytes(), || answerer.standing(&parts, None));
        }
    }
    memory
}

fn span(first: u64, last: Option<u64>) -> Option<Span> {
    Some(Span { first, last })
}

#[test]
fn a_head_that_differs_in_its_numbers_alone_is_found() {
    let memory = after(&[&ask("0-9", "")]);
    for (range, found) in [
        ("0-9", span(0, Some(9))),
        ("5-", span(5, None)),
        (
            "123456789-999999999999999999",
            span(123_456_789, Some(999_999_999_999_999_999)),
        ),
        ("007-008", span(7, Some(8))),
    ] {
        let head = ask(range, "");
        let like = memory.find(head.as_bytes()).expect(range);
        assert_eq!((like.end, like.span), (head.len(), found), "{range}");
        // What comes behind it is another request.
        let both = [head.as_bytes(), b"GET"].concat();
        assert_eq!(memory.find(&both), Some(like));
        assert_eq!(memory.find(&head.as_bytes()[..head.len() - 1]), None);
    }
}

#[test]
fn fault34_whatever_else_differs_is_not_like_it() {
    let memory = after(&[&ask("0-9", "")]);
    for range in [
        "",
        "-",
        "-5",
        "9-5",
        "0-9,20-29",
        "0-9 ",
        " 0-9",
        "0 - 9",
        "+0-9",
        "0--9",
        "0-9-",
        "1000000000000000000-",
        "0-1000000000000000000",
        "0-9\r\nRange: bytes=1-2",
    ] {
        let head = ask(range, "");
        assert_eq!(memory.find(head.as_bytes()), None, "{range:?}");
    }
    let head = ask("0-9", "If-Range: \"x\"\r\n");
    assert_eq!(memory.find(head.as_bytes()), None);
    for (from, to) in [("GET", "HEAD"), ("/f", "/g"), ("localhost", "elsewhere")] {
        let head = ask("0-9", "").replace(from, to);
        assert_eq!(memory.find(head.as_bytes()), None, "{head}");
    }
}

#[test]
fn only_what_is_certain_to_be_a_range_of_a_file_is_remembered() {
    let get = |rest: &str| format!("GET /f HTTP/1.1\r\n{FIELDS}{rest}\r\n");
    for head in [
        get(""),
        get("Range: bytes=0-\r\n"),
        get("RANGE:bytes=3-4\r\n"),
        get("Range:\t Bytes=3-4\r\n"),
    ] {
        assert!(after(&[&head]).find(head.as_bytes()).is_some(), "{head}");
    }
    for head in [
        get("Range: bytes=-5\r\n"),
        get("Range: bytes=0-1,4-5\r\n"),
        get("Range: bytes=0-1 \r\n"),
        get("Range: pages=0-1\r\n"),
        get("Range: bytes=5-1\r\n"),
        get("Range: bytes=0-1\r\nRange: bytes=0-1\r\n"),
        get("If-None-Match: \"a\"\r\n"),
        get("If-Range: \"a\"\r\nRange: bytes=0-1\r\n"),
        get("").replace("localhost", "elsewhere.example"),
        get("").replace("GET", "HEAD"),
        get(&format!("A: {}\r\n", "a".repeat(MOST_BYTES))),
    ] {
        assert!(after(&[&head]).find(head.as_bytes()).is_none(), "{head}");
    }
}

#[test]
fn few_heads_are_remembered_and_the_oldest_goes_first() {
    let head = |file: u32| ask("0-9", "").replace("/f", &format!("/{file}"));
    let heads: Vec<String> = (0..6).map(head).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let memory = after(&heads);
    let found = heads
        .iter()
        .filter(|head| memory.find(head.as_bytes()).is_some())
        .count();
    assert_eq!(found, MOST);
    assert!(memory.find(heads[5].as_bytes()).is_some());
    assert!(memory.find(heads[0].as_bytes()).is_none());
    let long = ask("0-9", &format!("A: {}\r\n", "a".repeat(MOST_BYTES - 200)));
    let memory = after(&[heads[0], heads[1], &long]);
    assert!(memory.find(long.as_bytes()).is_some());
    assert!(
        memory.find(heads[0].as_bytes()).is_none(),
        "there is room for one such head only"
    );
}

#[test]
fn fault48_what_is_remembered_is_not_printed() {
    let head = ask("0-9", "Authorization: Bearer hunter2\r\n");
    let memory = after(&[&head]);
    assert!(memory.find(head.as_bytes()).is_some());
    assert_eq!(format!("{memory:?}"), "Memory { .. }");
}

proptest! {
    /// Whatever is taken to be like a head before, the parser reads as that head with the range that was found.
    #[test]
    fn fault34_what_is_found_like_a_head_is_that_head_with_the_range_found(
        learned in "[0-9]{1,3}-[0-9]{0,3}",
        asked in prop_oneof!["[0-9]{1,20}-[0-9]{0,20}", "[-0-9, \r\n:=a-z]{0,12}"],
        name in prop_oneof![Just("Range"), Just("range"), Just("rAnge")],
        before: bool,
        rest in prop_oneof![Just(""), Just("\r\n"), Just("Range: bytes=1-2\r\n"), Just("A: b\r\n")],
    ) {
        let head = |range: &str, rest: &str| {
            let other = "X-Range: bytes=7-8\r\n";
            let (first, last) = if before { (other, "") } else { ("", other) };
            format!("GET /f HTTP/1.1\r\nHost: localhost\r\n{first}{name}: bytes={range}\r\n{last}{rest}\r\n")
        };
        let memory = after(&[&head(&learned, "")]);
        let asked = head(&asked, rest);
        let Some(like) = memory.find(asked.as_bytes()) else {
            return Ok(());
        };
        let plain = parse(&asked.as_bytes()[..like.end]);
        prop_assert!(plain.is_some(), "{:?} is no head", asked);
        let (parts, _) = plain.unwrap().request.into_parts();
        let specs = RangeHeader::of(&parts.headers).map(|range| range.specs().to_vec());
        let Span { first, last } = like.span.unwrap();
        prop_assert_eq!(specs, Some(vec![RangeSpec::Span { first, last }]));
        let (known, _) = parse(head(&learned, "").as_bytes()).unwrap().request.into_parts();
        let others = |mut headers: HeaderMap| {
            headers.remove(RANGE);
            headers
        };
        prop_assert_eq!(others(parts.headers), others(known.headers));
        prop_assert_eq!((parts.uri, parts.method), (known.uri, known.method));
    }
}
