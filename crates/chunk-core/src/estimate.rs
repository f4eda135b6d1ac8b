//! What the recent past says about the near future: rates and round trips, in integers.
//!
//! The core may be built where there is no floating point, and equal inputs must give equal outputs on
//! every machine, so fractions are fixed point with [`FRACTION_BITS`] bits.

use core::time::Duration;

mod consumption;
mod playing;
mod rate;
mod round_trip;

pub use consumption::ConsumptionRate;
pub use playing::PlayerBuffer;
pub use rate::RateEstimator;
pub use round_trip::RoundTrip;

/// Bits after the point: 1/65,536 byte a second, so that rounding stays below one byte a second over
/// the tens of thousands of samples of an hour.
const FRACTION_BITS: u32 = 16;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What comes in `time` at `rate` bytes a second, rounded down, at most 2⁶⁴ − 1.
pub(crate) fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_nanos()) / NANOS_PER_SECOND;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes a second, at most 2⁶⁴ − 1; `None` where no time passed.
fn bytes_per_second(bytes: u128, nanos: u128) -> Option<u64> {
    let rate = bytes.saturating_mul(NANOS_PER_SECOND).checked_div(nanos)?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}
