//! How fast bytes arrive.

use core::time::Duration;

use super::{FRACTION_BITS, bytes_per_second};
use crate::Tick;

/// The rate at which bytes arrive: the mean since the start, then a mean that forgets.
///
/// A sample is what arrived over at least 20 ms ([`Self::SAMPLE`]); shorter spells are added
/// up, since the kernel hands bytes over in bursts that say nothing of a rate. With *dt* a sample's time,
/// *s* its rate, *T* the time measured so far (this sample included) and *W* the window:
///
/// ```text
/// w         = min(dt / min(T, W), 1)
/// deviation = deviation + w · (|s − rate| − deviation)
/// rate      = rate + w · (s − rate)
/// ```
///
/// While T ≤ W this is exactly bytes ÷ time; after that it is an exponential mean with time constant W,
/// in which a sample counts by its time and not by being one of many. The deviation is the mean absolute
/// one, as in RFC 6298, section 2, but weighted by time.
#[derive(Clone, Debug)]
pub struct RateEstimator {
    window_nanos: u64,
    /// The end of the last sample; `None` while stopped.
    since: Option<Tick>,
    /// Bytes since then.
    pending: u64,
    /// The time measured so far, up to the window.
    measured_nanos: u64,
    /// Fixed point.
    rate: u128,
    /// Fixed point.
    deviation: u128,
}

impl RateEstimator {
    /// The shortest spell that is a sample of its own.
    pub const SAMPLE: Duration = Duration::from_millis(20);
    /// The default window. Two seconds: long against the round trips of a congested path (below 0.5 s), short against
    /// the tens of seconds that a player has buffered.
    pub const WINDOW: Duration = Duration::from_secs(2);
    /// A longer window than an hour is an hour; it also bounds the arithmetic.
    const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

    /// Nothing measured yet. `window` is clamped to between [`Self::SAMPLE`] and one hour.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        let window = window.clamp(Self::SAMPLE, Self::LONGEST_WINDOW);
        Self {
            window_nanos: nanos(window),
            since: None,
            pending: 0,
            measured_nanos: 0,
            rate: 0,
            deviation: 0,
        }
    }

    /// The clock runs from `now` on: a body has begun. Does nothing where it already runs.
    pub fn start(&mut self, now: Tick) {
        self.since.get_or_insert(now);
    }

    /// `bytes` arrived since the last record. Call it with 0 to let a stall show. Without a
    /// [`Self::start`] before it, the first record only starts the clock: its bytes took unknown time.
    pub fn record(&mut self, now: Tick, bytes: u64) {
        let Some(since) = self.since else {
            self.since = Some(now);
            return;
        };
        self.pending = self.pending.saturating_add(bytes);
        if now.since(since) >= Self::SAMPLE {
            self.sample(nanos(now.since(since)));
            self.since = Some(now);
        }
    }

    /// The clock stops at `now`: nothing is expected to arrive. The time until the next
    /// [`Self::start`] is not measured.
    pub fn stop(&mut self, now: Tick) {
        if let Some(since) = self.since.take() {
            let spell = nanos(now.since(since));
            if spell > 0 && self.pending > 0 {
                self.sample(spell);
            }
            self.pending = 0;
        }
    }

    /// Bytes a second, `None` before the first sample.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        (self.measured_nanos > 0).then(|| whole(self.rate))
    }

    /// The mean absolute deviation of the samples from the rate, in bytes a second.
    #[must_use]
    pub fn deviation(&self) -> Option<u64> {
        (self.measured_nanos > 0).then(|| whole(self.deviation))
    }

    /// How long `bytes` take at this rate; `None` while it is unknown or 0.
    #[must_use]
    pub fn time_for(&self, bytes: u64) -> Option<Duration> {
        let rate = self.rate().filter(|&rate| rate > 0)?;
        let nanos = u128::from(bytes) * super::NANOS_PER_SECOND / u128::from(rate);
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    fn sample(&mut self, spell: u64) {
        let first = self.measured_nanos == 0;
        let bytes = u128::from(core::mem::take(&mut self.pending));
        // `spell` is at least 1: callers check.
        let rate = u128::from(bytes_per_second(bytes, spell.into()).unwrap_or(0)) << FRACTION_BITS;
        self.measured_nanos = self
            .measured_nanos
            .saturating_add(spell)
            .min(self.window_nanos);
        let over = self.measured_nanos;
        let weight = spell.min(over);
        if first {
            self.rate = rate;
            return;
        }
        self.deviation = towards(self.deviation, rate.abs_diff(self.rate), weight, over);
        self.rate = towards(self.rate, rate, weight, over);
    }
}

impl Default for RateEstimator {
    fn default() -> Self {
        Self::new(Self::WINDOW)
    }
}

/// `from + (to − from) · weight / over`. Rates are below 2⁸⁰ and `weight` is at most an hour in
/// nanoseconds, below 2⁴², so the product fits 128 bits.
fn towards(from: u128, to: u128, weight: u64, over: u64) -> u128 {
    let step = from.abs_diff(to).saturating_mul(weight.into()) / u128::from(over.max(1));
    if to >= from {
        from.saturating_add(step)
    } else {
        from.saturating_sub(step)
    }
}

fn whole(fixed: u128) -> u64 {
    u64::try_from(fixed >> FRACTION_BITS).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
