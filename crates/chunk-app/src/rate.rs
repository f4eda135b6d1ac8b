//! Limits of rate as people write them: `20Mbit/s`, `2.5MB/s`, `none`.

use std::fmt;
use std::str::FromStr;

use chunk_core::units::{Rate, UnitError};

/// Bytes a second, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateCap(pub(crate) Option<u64>);

impl FromStr for RateCap {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim() == "none" {
            return Ok(Self(None));
        }
        let rate: Rate = text.parse()?;
        Ok(Self(Some(rate.bytes_per_second())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        for text in ["none", "20Mbit/s", "3KiB/s"] {
            let rate: RateCap = text.parse().unwrap();
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
