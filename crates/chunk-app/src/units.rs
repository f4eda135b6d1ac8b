//! Sizes and durations as people write them: `10MiB`, `30s`, `1h30min`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chunk_core::units::{UnitError, scale, split_number};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// An offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(pub(crate) u64);

/// A size that may be absent: `none` or a [`Size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap(pub(crate) Option<Size>);

/// How many of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) usize);

/// Unit names with the bytes each stands for. The first spelling of a value is the one printed.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Unit names with the nanoseconds each stands for.
const SPAN_UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXAMPLE: &str = "10MiB";
        let text = text.trim();
        let (number, unit) = split_number(text, EXAMPLE)?;
        let unit = unit.trim();
        // Nothing is nothing in every unit.
        if unit.is_empty() && number == "0" {
            return Ok(Self(0));
        }
        if unit.is_empty() {
            return Err(UnitError::NoUnit {
                number: number.to_owned(),
                unit: "MiB",
            });
        }
        let factor = SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| UnitError::UnknownUnit {
                number: number.to_owned(),
                unit: unit.to_owned(),
                what: "size",
                right: nearest_size_unit(unit).to_owned(),
            })?;
        scale(number, factor, text, "bytes").map(Self)
    }
}

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| UnitError::NoCount {
                text: text.to_owned(),
            })
    }
}

/// A place in a file. A bare number can only mean bytes here.
impl FromStr for Offset {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text.trim().parse() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => text.parse().map(|Size(bytes)| Self(bytes)),
        }
    }
}

impl FromStr for Cap {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim() == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|size| Self(Some(size)))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXAMPLE: &str = "30s";
        let text = text.trim();
        let mut rest = text;
        let mut total = 0_u64;
        let mut smallest = u64::MAX;
        loop {
            let (number, after) = split_number(rest, EXAMPLE)?;
            let after = after.trim_start();
            let unit_len = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            if unit.is_empty() {
                if text == "0" {
                    return Ok(Self(Duration::ZERO));
                }
                return Err(UnitError::NoUnit {
                    number: number.to_owned(),
                    unit: "s",
                });
            }
            let factor = SPAN_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(|| UnitError::UnknownUnit {
                    number: number.to_owned(),
                    unit: unit.to_owned(),
                    what: "time",
                    right: nearest_span_unit(unit).to_owned(),
                })?;
            if factor >= smallest {
                return Err(UnitError::Order {
                    text: text.to_owned(),
                });
            }
            smallest = factor;
            total = scale(number, factor, text, "nanoseconds")?
                .checked_add(total)
                .ok_or_else(|| UnitError::TooLarge {
                    text: text.to_owned(),
                })?;
            rest = after.trim_start();
            if rest.is_empty() {
                return Ok(Self(Duration::from_nanos(total)));
            }
        }
    }
}

impl fmt::Display for Size {
    /// The exact size in the largest binary unit that divides it, so that it reads back as the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = SIZE_UNITS[..5]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(size) => size.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, nanos) in SPAN_UNITS.iter().rev() {
            let millis = nanos / 1_000_000;
            if left >= millis {
                write!(f, "{}{name}", left / millis)?;
                left %= millis;
            }
        }
        Ok(())
    }
}

/// A size for people: three figures at most, rounded down.
pub(crate) fn approximate_size(bytes: u64) -> String {
    let Some((name, factor)) = SIZE_UNITS[1..5]
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor)
    else {
        return format!("{bytes} B");
    };
    let whole = bytes / factor;
    // Below one unit, so the product stays under 10 × 2⁴⁰.
    let tenth = (bytes % factor) * 10 / factor;
    if whole >= 100 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{tenth} {name}")
    }
}

/// The unit that was most likely meant: by its first letter, else megabytes.
fn nearest_size_unit(unit: &str) -> &'static str {
    let folded = unit.to_ascii_lowercase();
    let exact = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.to_ascii_lowercase() == folded)
        .map(|(name, _)| *name);
    exact.unwrap_or(match folded.as_bytes().first() {
        Some(b'b') => "B",
        Some(b'k') => "KiB",
        Some(b'g') => "GiB",
        Some(b't') => "TiB",
        _ => "MiB",
    })
}

fn nearest_span_unit(unit: &str) -> &'static str {
    let folded = unit.to_ascii_lowercase();
    match folded.as_bytes() {
        [b'm', b's', ..] | [b'm', b'i', b'l', ..] => "ms",
        [b'm', ..] => "min",
        [b'h', ..] => "h",
        [b'd', ..] => "d",
        _ => "s",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size_error(text: &str) -> String {
        text.parse::<Size>().unwrap_err().to_string()
    }

    fn span_error(text: &str) -> String {
        text.parse::<Span>().unwrap_err().to_string()
    }

    #[test]
    fn an_offset_is_a_number_of_bytes_or_a_size() {
        for (text, bytes) in [
            ("0", 0),
            ("70000", 70_000),
            ("10MiB", 10 << 20),
            ("1kB", 1000),
        ] {
            assert_eq!(text.parse(), Ok(Offset(bytes)), "{text}");
        }
        for text in ["", "-1", "10 miles", "99999999999999999999"] {
            assert!(text.parse::<Offset>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_both_families_of_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1B", 1),
            ("10MiB", 10 << 20),
            ("1.5GiB", 3 << 29),
            ("64 KiB", 65_536),
            ("50GB", 50_000_000_000),
            ("2kB", 2_000),
            (" 1TiB ", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn a_wrong_size_says_what_would_be_right() {
        assert_eq!(size_error("10"), "10 has no unit: say 10MiB");
        assert_eq!(size_error("10M"), "`M` is no unit of size: say 10MiB");
        assert_eq!(size_error("10mib"), "`mib` is no unit of size: say 10MiB");
        assert_eq!(size_error("3gigs"), "`gigs` is no unit of size: say 3GiB");
        assert_eq!(
            size_error("ten"),
            "`ten` does not begin with a number; say for example 10MiB"
        );
        assert_eq!(size_error(""), "nothing is given; say for example 10MiB");
        assert_eq!(size_error("0.5B"), "`0.5B` is not a whole number of bytes");
        assert_eq!(
            size_error("99999999TiB"),
            "`99999999TiB` is more than this program can count"
        );
    }

    #[test]
    fn spans_may_be_compound() {
        for (text, seconds) in [
            ("0", 0),
            ("30s", 30),
            ("5min", 300),
            ("1h30min", 5_400),
            ("1h 30min 5s", 5_405),
            ("1.5h", 5_400),
            ("2d", 172_800),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Span(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
    }

    #[test]
    fn a_wrong_span_says_what_would_be_right() {
        assert_eq!(span_error("30"), "30 has no unit: say 30s");
        assert_eq!(span_error("1h30"), "30 has no unit: say 30s");
        assert_eq!(span_error("5m"), "`m` is no unit of time: say 5min");
        assert_eq!(
            span_error("5 minutes"),
            "`minutes` is no unit of time: say 5min"
        );
        assert_eq!(
            span_error("30min1h"),
            "`30min1h` names a unit twice or a smaller one first; say for example 1h30min"
        );
        assert_eq!(
            span_error("soon"),
            "`soon` does not begin with a number; say for example 30s"
        );
    }

    #[test]
    fn a_cap_may_be_none() {
        assert_eq!("none".parse(), Ok(Cap(None)));
        assert_eq!("5GiB".parse(), Ok(Cap(Some(Size(5 << 30)))));
        assert!("never".parse::<Cap>().is_err());
    }

    #[test]
    fn sizes_for_people_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (10 << 20, "10.0 MiB"),
            (700 << 20, "700 MiB"),
        ] {
            assert_eq!(approximate_size(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }

        #[test]
        fn a_printed_span_reads_back(millis in 0_u64..u64::MAX / 1_000_000) {
            let span = Span(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn a_whole_number_is_scaled_exactly(number in 0_u64..1 << 20, unit in 0..SIZE_UNITS.len()) {
            let (name, factor) = SIZE_UNITS[unit];
            prop_assert_eq!(format!("{number}{name}").parse(), Ok(Size(number * factor)));
        }

        #[test]
        fn any_text_is_a_value_or_an_error_never_a_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<Span>();
            let _ = approximate_size(text.len() as u64);
        }

        #[test]
        fn a_number_without_a_unit_is_always_told_so(number in 1_u64..) {
            prop_assert_eq!(size_error(&number.to_string()), format!("{number} has no unit: say {number}MiB"));
        }
    }
}
