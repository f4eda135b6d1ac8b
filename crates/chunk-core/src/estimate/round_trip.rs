//! How long an origin takes to answer.

use core::time::Duration;

/// The time from a request to the first byte of its answer.
///
/// The estimate is the median of the last three, so that one slow answer (a cold cache behind the
/// origin, a lost packet) moves nothing and a change of path shows after two. The deviation is
/// the one of RFC 6298, section 2.2 and 2.3, around that median:
///
/// ```text
/// first sample:  deviation = R / 2
/// later:         deviation = 3/4 · deviation + 1/4 · |estimate before − R|
/// upper bound  = estimate + 4 · deviation
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoundTrip {
    /// Newest first.
    last: [Option<Duration>; 3],
    deviation: Duration,
}

impl RoundTrip {
    /// Nothing measured yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: [None; 3],
            deviation: Duration::ZERO,
        }
    }

    /// An answer began `sample` after its request.
    pub fn record(&mut self, sample: Duration) {
        self.deviation = match self.estimate() {
            None => sample / 2,
            Some(estimate) => {
                let error = estimate.abs_diff(sample);
                self.deviation
                    .saturating_sub(self.deviation / 4)
                    .saturating_add(error / 4)
            }
        };
        let [newest, middle, _] = self.last;
        self.last = [Some(sample), newest, middle];
    }

    /// The median of the last three samples, the mean of two, or the only one.
    #[must_use]
    pub fn estimate(&self) -> Option<Duration> {
        match self.last {
            [Some(a), Some(b), Some(c)] => Some(a.max(b).min(a.min(b).max(c))),
            [Some(a), Some(b), None] => Some(a.min(b).saturating_add(a.abs_diff(b) / 2)),
            [only, ..] => only,
        }
    }

    /// The smoothed mean deviation from the estimate.
    #[must_use]
    pub fn deviation(&self) -> Option<Duration> {
        self.estimate().map(|_| self.deviation)
    }

    /// What an answer takes at most, but for outliers: the estimate plus four deviations (RFC 6298, 2.3).
    #[must_use]
    pub fn upper_bound(&self) -> Option<Duration> {
        self.estimate()
            .map(|estimate| estimate.saturating_add(self.deviation.saturating_mul(4)))
    }
}
