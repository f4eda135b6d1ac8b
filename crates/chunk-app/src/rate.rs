//! Rates as people write them: `20Mbit/s`, `2.5MB/s`, `none`.

use std::fmt;
use std::str::FromStr;

use crate::units::{UnitError, scale, split_number};

/// Bytes a second, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateCap(pub(crate) Option<u64>);

/// Unit names with the bits a second each stands for.
const UNITS: &[(&str, u64)] = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
    ("B/s", 8),
    ("kB/s", 8_000),
    ("MB/s", 8_000_000),
    ("GB/s", 8_000_000_000),
    ("KiB/s", 8 << 10),
    ("MiB/s", 8 << 20),
    ("GiB/s", 8 << 30),
];

impl FromStr for RateCap {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self(None));
        }
        let (number, unit) = split_number(text, "20Mbit/s")?;
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(UnitError::NoUnit {
                number: number.to_owned(),
                unit: "Mbit/s",
            });
        }
        let factor = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, factor) = factor.ok_or_else(|| UnitError::UnknownUnit {
            number: number.to_owned(),
            unit: unit.to_owned(),
            what: "rate",
            right: nearest(unit).to_owned(),
        })?;
        let bits = scale(number, *factor, text, "bits a second")?;
        Ok(Self(Some(bits / 8)))
    }
}

impl fmt::Display for RateCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}B/s"),
            None => f.write_str("none"),
        }
    }
}

fn nearest(unit: &str) -> &'static str {
    let folded = unit.to_ascii_lowercase();
    let bare = folded.trim_end_matches("/s").trim_end_matches("ps");
    let exact = UNITS
        .iter()
        .find(|(name, _)| name.to_ascii_lowercase().trim_end_matches("/s") == bare)
        .map(|(name, _)| *name);
    exact.unwrap_or("Mbit/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_bits_and_in_bytes() {
        let rate = |text: &str| text.parse::<RateCap>().unwrap().0;
        assert_eq!(rate("20Mbit/s"), Some(2_500_000));
        assert_eq!(rate("2.5 MB/s"), Some(2_500_000));
        assert_eq!(rate("64KiB/s"), Some(65_536));
        assert_eq!(rate("none"), None);
    }

    #[test]
    fn a_wrong_rate_is_told_with_a_right_one() {
        let error = |text: &str| text.parse::<RateCap>().unwrap_err().to_string();
        assert_eq!(error("20"), "20 has no unit: say 20Mbit/s");
        assert_eq!(error("20mbit"), "`mbit` is no unit of rate: say 20Mbit/s");
        assert_eq!(error("3MBps"), "`MBps` is no unit of rate: say 3MB/s");
        assert_eq!(error(""), "nothing is given; say for example 20Mbit/s");
    }

    #[test]
    fn what_is_printed_reads_back() {
        for text in ["none", "20Mbit/s", "3KiB/s"] {
            let rate: RateCap = text.parse().unwrap();
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
