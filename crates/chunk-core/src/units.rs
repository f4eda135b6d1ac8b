//! Numbers with units, as people write them: `20Mbit/s`, `2.5MB/s`.
//!
//! Exact: what is no whole number of the smallest thing counted is refused, with what would be right.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// What is wrong with a number and its unit, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::exhaustive_enums,
    reason = "each kind of number has its own of these, and builds them"
)]
pub enum UnitError {
    /// There is no text.
    #[error("nothing is given; say for example {example}")]
    Empty {
        /// What would be right.
        example: &'static str,
    },
    /// The text begins with something else.
    #[error("`{text}` does not begin with a number; say for example {example}")]
    NoNumber {
        /// The text.
        text: String,
        /// What would be right.
        example: &'static str,
    },
    /// A count has a fraction, a unit or no digits.
    #[error("`{text}` is no whole number; say for example 4")]
    NoCount {
        /// The text.
        text: String,
    },
    /// There is a number and nothing else.
    #[error("{number} has no unit: say {number}{unit}")]
    NoUnit {
        /// The number.
        number: String,
        /// The unit that was likely meant.
        unit: &'static str,
    },
    /// There is no such unit.
    #[error("`{unit}` is no unit of {what}: say {number}{right}")]
    UnknownUnit {
        /// The number.
        number: String,
        /// What follows it.
        unit: String,
        /// What is measured.
        what: &'static str,
        /// The unit that was likely meant.
        right: String,
    },
    /// The number does not fit.
    #[error("`{text}` is more than this program can count")]
    TooLarge {
        /// The text.
        text: String,
    },
    /// The number is finer than what can be counted.
    #[error("`{text}` is not a whole number of {smallest}")]
    Fraction {
        /// The text.
        text: String,
        /// What can be counted.
        smallest: &'static str,
    },
    /// Units of a time are out of order.
    #[error("`{text}` names a unit twice or a smaller one first; say for example 1h30min")]
    Order {
        /// The text.
        text: String,
    },
}

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

impl Rate {
    const EXAMPLE: &'static str = "20Mbit/s";

    /// The bytes a second.
    #[must_use]
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let (number, unit) = split_number(text, Self::EXAMPLE)?;
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
        Ok(Self(bits / 8))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B/s", self.0)
    }
}

/// The digits (and one point) at the start, and what follows.
///
/// # Errors
/// [`UnitError::Empty`] and [`UnitError::NoNumber`], with that example of what would be right.
pub fn split_number<'a>(
    text: &'a str,
    example: &'static str,
) -> Result<(&'a str, &'a str), UnitError> {
    if text.is_empty() {
        return Err(UnitError::Empty { example });
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let digits = number.trim_matches('.');
    if digits.is_empty() || digits.len() != number.len() || number.matches('.').count() > 1 {
        return Err(UnitError::NoNumber {
            text: text.to_owned(),
            example,
        });
    }
    Ok((number, rest))
}

/// `number` × `factor` in exact decimal arithmetic; anything finer than one is an error, which names `text` and
/// what the `smallest` is.
///
/// # Errors
/// [`UnitError::Fraction`] and [`UnitError::TooLarge`].
pub fn scale(
    number: &str,
    factor: u64,
    text: &str,
    smallest: &'static str,
) -> Result<u64, UnitError> {
    let too_large = || UnitError::TooLarge {
        text: text.to_owned(),
    };
    let fraction = || UnitError::Fraction {
        text: text.to_owned(),
        smallest,
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let decimals = decimals.trim_end_matches('0');
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    let numerator: u128 = if decimals.is_empty() {
        0
    } else {
        decimals.parse().map_err(|_| fraction())?
    };
    let digits = u32::try_from(decimals.len()).map_err(|_| fraction())?;
    let denominator = 10_u128.checked_pow(digits).ok_or_else(fraction)?;
    let part = numerator
        .checked_mul(u128::from(factor))
        .ok_or_else(fraction)?;
    if part % denominator != 0 {
        return Err(fraction());
    }
    whole
        .checked_mul(u128::from(factor))
        .and_then(|value| value.checked_add(part / denominator))
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(too_large)
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
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn rates_are_read_in_bits_and_in_bytes() {
        let rate = |text: &str| text.parse::<Rate>().unwrap().bytes_per_second();
        assert_eq!(rate("20Mbit/s"), 2_500_000);
        assert_eq!(rate("2.5 MB/s"), 2_500_000);
        assert_eq!(rate("64KiB/s"), 65_536);
    }

    #[test]
    fn a_wrong_rate_is_told_with_a_right_one() {
        let error = |text: &str| text.parse::<Rate>().unwrap_err().to_string();
        assert_eq!(error("20"), "20 has no unit: say 20Mbit/s");
        assert_eq!(error("20mbit"), "`mbit` is no unit of rate: say 20Mbit/s");
        assert_eq!(error("3MBps"), "`MBps` is no unit of rate: say 3MB/s");
        assert_eq!(error(""), "nothing is given; say for example 20Mbit/s");
    }

    #[test]
    fn what_is_printed_reads_back() {
        let rate: Rate = "3KiB/s".parse().unwrap();
        assert_eq!(rate.to_string().parse(), Ok(rate));
    }
}
