//! The `Content-Range` field (RFC 9110, 14.4), parsed without I/O and without panics.

use chunk_core::ByteRange;

/// What a `Content-Range` field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the grammar has two forms")]
pub enum ContentRange {
    /// `bytes first-last/total`, with `*` for a total that is not known.
    Part {
        /// The bytes of the part.
        range: ByteRange,
        /// The complete length.
        total_len: Option<u64>,
    },
    /// `bytes */total`: the range asked for is not there.
    Unsatisfied {
        /// The complete length.
        total_len: u64,
    },
}

impl ContentRange {
    /// The meaning of `text`; `None` where it is malformed, in another unit, reversed, or reaches
    /// beyond its own total.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        let (unit, rest) = text.split_once(' ')?;
        // Range units are case-insensitive (RFC 9110, 14.1).
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim_start_matches(' ').split_once('/')?;
        if range == "*" {
            let total_len = number(total)?;
            return Some(Self::Unsatisfied { total_len });
        }
        let total_len = match total {
            "*" => None,
            digits => Some(number(digits)?),
        };
        let (first, last) = range.split_once('-')?;
        let range = ByteRange::from_inclusive(number(first)?, number(last)?).ok()?;
        if total_len.is_some_and(|total| range.end() > total) {
            return None;
        }
        Some(Self::Part { range, total_len })
    }

    /// The file's length, as a part in answer to a request for its last `len` bytes tells it.
    ///
    /// A part may leave the total open. Where it has as many bytes as were asked for, it ends where the file ends. With
    /// fewer it may be some of them, and from the first byte on it may be what a server makes of a suffix that it takes
    /// for a position: then only the whole tells.
    pub(crate) const fn total_by_suffix(self, len: u64) -> Option<u64> {
        match self {
            Self::Part {
                range,
                total_len: None,
            } if range.len() == len && range.start() > 0 => Some(range.end()),
            Self::Part { total_len, .. } => total_len,
            Self::Unsatisfied { total_len } => Some(total_len),
        }
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_the_grammar() {
        let part = |start, end, total_len| {
            let range = ByteRange::new(start, end).unwrap();
            Some(ContentRange::Part { range, total_len })
        };
        let unsatisfied = |total_len| Some(ContentRange::Unsatisfied { total_len });
        for (text, expected) in [
            ("bytes 0-0/1", part(0, 1, Some(1))),
            ("Bytes 5-9/10", part(5, 10, Some(10))),
            ("bytes 5-9/*", part(5, 10, None)),
            ("bytes */10", unsatisfied(10)),
            ("bytes */0", unsatisfied(0)),
            ("bytes */*", None),
            ("bytes 9-5/10", None),
            ("bytes 0-10/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-18446744073709551614/18446744073709551615", {
                part(0, u64::MAX, Some(u64::MAX))
            }),
            ("bytes 0-99999999999999999999/*", None),
            ("bytes +1-2/3", None),
            ("bytes 0-1", None),
            ("bytes=0-1/2", None),
            ("bytes 0/2", None),
            ("bytes -1/2", None),
            ("seconds 0-1/2", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_suffix_tells_the_total_where_it_can_be_nothing_else() {
        for (text, total) in [
            ("bytes 90-99/*", Some(100)),
            ("bytes 91-99/*", None),
            ("bytes 89-99/*", None),
            ("bytes 0-9/*", None),
            ("bytes 0-4/*", None),
            ("bytes 0-4/5", Some(5)),
            ("bytes 90-99/200", Some(200)),
        ] {
            let said = ContentRange::parse(text).unwrap();
            assert_eq!(said.total_by_suffix(10), total, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_part_that_exists_is_read_back(start: u64, len in 1..=u64::MAX, more: Option<u64>) {
            prop_assume!(start.checked_add(len).is_some());
            let range = ByteRange::with_len(start, len).unwrap();
            let total_len = more.map(|more| range.end().saturating_add(more));
            let total = total_len.map_or("*".to_owned(), |total| total.to_string());
            let text = format!("bytes {}-{}/{total}", range.start(), range.last());
            prop_assert_eq!(
                ContentRange::parse(&text),
                Some(ContentRange::Part { range, total_len })
            );
        }

        #[test]
        fn no_text_breaks_it_and_no_part_exceeds_its_total(text in "(bytes )?[-*/0-9 ]{0,30}|\\PC{0,40}") {
            if let Some(ContentRange::Part { range, total_len: Some(total) }) = ContentRange::parse(&text) {
                prop_assert!(range.end() <= total);
            }
        }
    }
}
