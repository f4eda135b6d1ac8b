//! The `Range` field (RFC 9110, 14.1 and 14.2).
//!
//! Written here because the parsers at hand cannot tell "no byte of the file" (416) from "not a range"
//! (ignored, 200), and refuse lists that the grammar allows.

use chunk_core::ByteRange;
use http::HeaderMap;
use http::header::RANGE;

/// One member of a `Range` field, before the length of the file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the grammar has these two forms")]
pub enum RangeSpec {
    /// `first-last` or `first-`. Both are clamped to 2⁶⁴ − 1.
    Span {
        /// The first position.
        first: u64,
        /// The last position, inclusive as it was written; `None` for "to the end".
        last: Option<u64>,
    },
    /// `-len`: the last `len` bytes.
    Suffix {
        /// How many bytes, possibly 0.
        len: u64,
    },
}

/// A `Range` field worth looking at: unit `bytes`, between one and [`RangeHeader::MAX_RANGES`] members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeHeader {
    specs: Vec<RangeSpec>,
}

/// What a [`RangeHeader`] means for a file of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each is another answer")]
pub enum Selection {
    /// No member has a byte in the file: 416.
    Unsatisfiable,
    /// The whole of an empty file, which no `Content-Range` can name: 200.
    Empty,
    /// One range: 206.
    One(ByteRange),
    /// Two or more that do not overlap, in the order asked: 206 in several parts.
    Several(Vec<ByteRange>),
}

impl RangeHeader {
    /// With more members than this the field is ignored. No player asks for more than two.
    pub const MAX_RANGES: usize = 8;

    /// The field with this value, or `None` where it is to be ignored: another unit, anything that the
    /// grammar does not allow, a last position before the first, too many members.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (unit, set) = value.split_at(value.iter().position(|&byte| byte == b'=')?);
        if !unit.trim_ascii_start().eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let mut specs = Vec::new();
        for member in set[1..].split(|&byte| byte == b',') {
            let member = trim_blanks(member);
            // RFC 9110, 5.6.1.2: a recipient accepts empty list members.
            if member.is_empty() {
                continue;
            }
            if specs.len() == Self::MAX_RANGES {
                return None;
            }
            specs.push(parse_member(member)?);
        }
        (!specs.is_empty()).then_some(Self { specs })
    }

    /// The field of a request, or `None` where there is none or it is to be ignored. The field is not a
    /// list across lines, so two lines of it mean nothing.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(RANGE).iter();
        let value = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// The members, in the order asked; at least one.
    #[must_use]
    pub fn specs(&self) -> &[RangeSpec] {
        &self.specs
    }

    /// What the field means for a file of `total_len` bytes. Ranges that overlap become one, at the
    /// place of the earliest, so that no byte is ever sent twice.
    #[must_use]
    pub fn select(&self, total_len: u64) -> Selection {
        if total_len == 0 {
            // RFC 9110, 14.1.2: a suffix that is not 0 is satisfiable even then.
            let suffix = |spec: &RangeSpec| matches!(spec, RangeSpec::Suffix { len } if *len > 0);
            return if self.specs.iter().any(suffix) {
                Selection::Empty
            } else {
                Selection::Unsatisfiable
            };
        }
        let mut chosen: Vec<ByteRange> = Vec::new();
        for range in self.specs.iter().filter_map(|spec| spec.within(total_len)) {
            coalesce(&mut chosen, range);
        }
        match chosen.as_slice() {
            [] => Selection::Unsatisfiable,
            [one] => Selection::One(*one),
            _ => Selection::Several(chosen),
        }
    }
}

impl RangeSpec {
    /// The bytes of a file of `total_len` bytes that the member names, if any.
    #[must_use]
    pub fn within(self, total_len: u64) -> Option<ByteRange> {
        match self {
            Self::Span { first, last } => {
                let end = last.map_or(total_len, |last| last.saturating_add(1).min(total_len));
                ByteRange::try_new(first, end)
            }
            Self::Suffix { len } => ByteRange::try_new(total_len.saturating_sub(len), total_len),
        }
    }
}

/// Adds `range`, merged with all it overlaps, where the first of those stood.
fn coalesce(chosen: &mut Vec<ByteRange>, mut range: ByteRange) {
    let mut place = None;
    let mut index = 0;
    while index < chosen.len() {
        let other = chosen[index];
        if other.overlaps(range) {
            // Two that overlap cover one stretch, which can overlap ones already passed by.
            let (start, end) = (
                other.start().min(range.start()),
                other.end().max(range.end()),
            );
            if let Some(union) = ByteRange::try_new(start, end) {
                range = union;
            }
            chosen.remove(index);
            place = Some(place.map_or(index, |earlier: usize| earlier.min(index)));
            index = 0;
        } else {
            index += 1;
        }
    }
    chosen.insert(place.unwrap_or(chosen.len()), range);
}

fn parse_member(member: &[u8]) -> Option<RangeSpec> {
    let dash = member.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&member[..dash], &member[dash + 1..]);
    if first.is_empty() {
        return Some(RangeSpec::Suffix {
            len: Decimal::parse(last)?.value(),
        });
    }
    let first = Decimal::parse(first)?;
    if last.is_empty() {
        return Some(RangeSpec::Span {
            first: first.value(),
            last: None,
        });
    }
    let last = Decimal::parse(last)?;
    (first <= last).then(|| RangeSpec::Span {
        first: first.value(),
        last: Some(last.value()),
    })
}

/// Optional white space (RFC 9110, 5.6.3) is blanks and tabs only.
fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A decimal number of any length: its digits without leading zeros, so that two numbers beyond 2⁶⁴
/// still compare as numbers (by length, then by digits, which is the derived order).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Decimal<'a> {
    len: usize,
    digits: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = text.iter().take_while(|&&byte| byte == b'0').count();
        let digits = &text[zeros..];
        Some(Self {
            len: digits.len(),
            digits,
        })
    }

    /// The number, 2⁶⁴ − 1 where it is larger.
    fn value(&self) -> u64 {
        self.digits.iter().fold(0u64, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn one(start: u64, last: u64) -> Option<Selection> {
        Some(Selection::One(
            ByteRange::from_inclusive(start, last).unwrap(),
        ))
    }

    fn select(value: &str, total_len: u64) -> Option<Selection> {
        Some(RangeHeader::parse(value.as_bytes())?.select(total_len))
    }

    #[test]
    fn fault34_each_form_selects_its_bytes() {
        assert_eq!(select("bytes=0-1", 1000), one(0, 1));
        assert_eq!(select("bytes=10-", 1000), one(10, 999));
        assert_eq!(select("bytes=-10", 1000), one(990, 999));
        assert_eq!(select("bytes=999-999", 1000), one(999, 999));
        assert_eq!(
            select("bytes=0-5000", 1000),
            one(0, 999),
            "the last position is clamped"
        );
        assert_eq!(
            select("bytes=-5000", 1000),
            one(0, 999),
            "a long suffix is the whole file"
        );
        assert_eq!(select("BYTES=0-1", 1000), one(0, 1), "units have no case");
        assert_eq!(select("bytes=007-0010", 1000), one(7, 10));
    }

    #[test]
    fn trap12_a_suffix_is_not_the_whole_file() {
        assert_eq!(select("bytes=-500", 1000), one(500, 999));
    }

    #[test]
    fn trap12_past_the_end_is_unsatisfiable_and_does_not_underflow() {
        assert_eq!(
            select("bytes=5000-6000", 1000),
            Some(Selection::Unsatisfiable)
        );
        assert_eq!(select("bytes=1000-", 1000), Some(Selection::Unsatisfiable));
        assert_eq!(select("bytes=-0", 1000), Some(Selection::Unsatisfiable));
        assert_eq!(
            select("bytes=5000-,0-0", 1000),
            one(0, 0),
            "one good member is enough"
        );
    }

    #[test]
    fn fault34_what_is_not_a_range_is_ignored() {
        for odd in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes= , ",
            "bytes=-",
            "bytes=a-b",
            "bytes=9-5",
            "bytes=0-1,9-5",
            "bytes=0-1;2-3",
            "bytes=0--1",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1.5-2",
            "bytes=0 - 1",
            "bytes=0-\u{a0}1",
            "bytes =0-1",
            "items=0-1",
            "seconds=1-2",
            "bytes:0-1",
            "bytes=0x0-0x1",
            "bytes=0-1-2",
            "bytes=99999999999999999999-99999999999999999998",
        ] {
            assert_eq!(RangeHeader::parse(odd.as_bytes()), None, "{odd:?}");
        }
        assert_eq!(RangeHeader::parse(b"bytes=\xff-1"), None);
    }

    #[test]
    fn fault34_white_space_and_empty_members_as_the_grammar_allows() {
        let both = Some(Selection::Several(vec![range(0, 1), range(4, 6)]));
        for allowed in [
            "bytes=0-0,4-5",
            "bytes=0-0 ,\t4-5",
            "bytes=,,0-0,,4-5,",
            "bytes=0-0, ,4-5 ",
        ] {
            assert_eq!(select(allowed, 10), both, "{allowed:?}");
        }
    }

    #[test]
    fn fault35_numbers_beyond_64_bits_are_clamped() {
        assert_eq!(select("bytes=0-99999999999999999999", 1000), one(0, 999));
        assert_eq!(
            select("bytes=18446744073709551615-", 1000),
            Some(Selection::Unsatisfiable)
        );
        assert_eq!(
            select("bytes=99999999999999999998-99999999999999999999", 1000),
            Some(Selection::Unsatisfiable)
        );
        assert_eq!(select("bytes=-99999999999999999999", 1000), one(0, 999));
        assert_eq!(
            select("bytes=0-18446744073709551615", u64::MAX),
            Some(Selection::One(range(0, u64::MAX)))
        );
    }

    #[test]
    fn fault35_many_ranges_are_ignored_and_eight_are_not() {
        let list = |count: u64| {
            let members: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 2, n * 2)).collect();
            format!("bytes={}", members.join(","))
        };
        assert!(
            matches!(select(&list(8), 1000), Some(Selection::Several(parts)) if parts.len() == 8)
        );
        assert_eq!(RangeHeader::parse(list(9).as_bytes()), None);
        assert_eq!(RangeHeader::parse(list(1300).as_bytes()), None);
    }

    #[test]
    fn fault35_overlapping_ranges_become_one_at_the_first_place() {
        assert_eq!(select("bytes=0-,0-,0-", 1000), one(0, 999));
        assert_eq!(
            select("bytes=50-59,0-9,55-69", 1000),
            Some(Selection::Several(vec![range(50, 70), range(0, 10)]))
        );
        // The third joins the first two, which did not touch each other.
        assert_eq!(
            select("bytes=0-9,20-29,90-99,5-25", 1000),
            Some(Selection::Several(vec![range(0, 30), range(90, 100)]))
        );
        // Side by side is not overlapping.
        assert_eq!(
            select("bytes=0-9,10-19", 1000),
            Some(Selection::Several(vec![range(0, 10), range(10, 20)]))
        );
    }

    #[test]
    fn an_empty_file_has_no_first_byte_but_a_suffix() {
        assert_eq!(select("bytes=0-", 0), Some(Selection::Unsatisfiable));
        assert_eq!(select("bytes=-0", 0), Some(Selection::Unsatisfiable));
        assert_eq!(select("bytes=-5", 0), Some(Selection::Empty));
    }

    #[test]
    fn two_lines_of_the_field_mean_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(RANGE, "bytes=0-1".parse().unwrap());
        assert!(RangeHeader::of(&headers).is_some());
        headers.append(RANGE, "bytes=2-3".parse().unwrap());
        assert_eq!(RangeHeader::of(&headers), None);
    }

    fn spec() -> impl Strategy<Value = RangeSpec> {
        let number = prop_oneof![0u64..40, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()];
        prop_oneof![
            (number.clone(), number.clone()).prop_map(|(a, b)| RangeSpec::Span {
                first: a.min(b),
                last: Some(a.max(b)),
            }),
            number
                .clone()
                .prop_map(|first| RangeSpec::Span { first, last: None }),
            number.prop_map(|len| RangeSpec::Suffix { len }),
        ]
    }

    fn written(specs: &[RangeSpec]) -> String {
        let members: Vec<String> = specs
            .iter()
            .map(|spec| match spec {
                RangeSpec::Span {
                    first,
                    last: Some(last),
                } => format!("{first}-{last}"),
                RangeSpec::Span { first, last: None } => format!("{first}-"),
                RangeSpec::Suffix { len } => format!("-{len}"),
            })
            .collect();
        format!("bytes={}", members.join(","))
    }

    /// Byte by byte, as the RFC describes it.
    fn named(spec: &RangeSpec, offset: u64, total_len: u64) -> bool {
        match *spec {
            RangeSpec::Span { first, last } => {
                first <= offset && last.is_none_or(|last| offset <= last)
            }
            RangeSpec::Suffix { len } => total_len - offset <= len,
        }
    }

    proptest! {
        #[test]
        fn fault34_any_bytes_parse_without_panic(value: Vec<u8>, total_len: u64) {
            if let Some(header) = RangeHeader::parse(&value) {
                let _ = header.select(total_len);
            }
        }

        #[test]
        fn fault34_almost_ranges_parse_without_panic(value in "bytes=[-0-9, \t]{0,60}", total_len in 0u64..50) {
            if let Some(header) = RangeHeader::parse(value.as_bytes()) {
                let _ = header.select(total_len);
            }
        }

        #[test]
        fn what_is_written_is_what_is_parsed(specs in proptest::collection::vec(spec(), 1..=8)) {
            let header = RangeHeader::parse(written(&specs).as_bytes()).unwrap();
            prop_assert_eq!(header.specs(), &specs[..]);
        }

        #[test]
        fn fault35_exactly_the_named_bytes_are_selected_each_once(
            specs in proptest::collection::vec(spec(), 1..=8),
            total_len in 1u64..60,
        ) {
            let chosen = match RangeHeader::parse(written(&specs).as_bytes()).unwrap().select(total_len) {
                Selection::Unsatisfiable | Selection::Empty => vec![],
                Selection::One(one) => vec![one],
                Selection::Several(several) => {
                    prop_assert!(several.len() >= 2);
                    several
                }
            };
            for offset in 0..total_len {
                let times = chosen.iter().filter(|range| range.contains(offset)).count();
                let wanted = specs.iter().any(|spec| named(spec, offset, total_len));
                prop_assert_eq!(times, usize::from(wanted), "offset {}", offset);
            }
            prop_assert!(chosen.iter().all(|range| range.end() <= total_len));
        }
    }
}
