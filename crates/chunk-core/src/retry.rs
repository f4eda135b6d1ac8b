//! When to try again.

use core::time::Duration;

use crate::Tick;

/// When a failed fetch is tried again: exponential back-off with jitter, within bounds.
///
/// With *n* the number of failures in a row (1 after the first):
///
/// ```text
/// ceiling = min(base · 2^(n−1), cap)
/// delay   = ceiling/2 + hash(seed, n) mod (ceiling/2 + 1)          without Retry-After
///         = max(delay, r + hash(seed, n) mod (r/8 + 1))            with, r = min(Retry-After, retry_after_cap)
/// ```
///
/// Half of the delay is fixed and half is jitter ("equal jitter", Brooker, *Exponential Backoff And Jitter*,
/// 2015), so that clients that failed together do not return together and none returns at once. The jitter
/// is a hash of a seed, so a trace replays. The jitter on a Retry-After (RFC 9110, 10.2.3) only adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The ceiling of the first delay.
    pub base: Duration,
    /// The ceiling of every delay of our own.
    pub cap: Duration,
    /// The longest Retry-After to honour in full; longer ones are cut to it.
    pub retry_after_cap: Duration,
    /// Attempts in a row without progress before a fetch is given up, at least 1.
    pub max_attempts: u32,
    /// How long a permanent failure (404, 403, 410) is remembered before the origin is asked again.
    pub negative_ttl: Duration,
}

/// Failures in a row of one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryState {
    failures: u32,
    seed: u64,
}

impl RetryPolicy {
    /// 250 ms doubling up to 30 s, six attempts (4 to 8 s in all: a restart of a server, yet less
    /// than a player's patience), Retry-After up to two minutes, permanent failures for 10 s.
    pub const DEFAULT: Self = Self {
        base: Duration::from_millis(250),
        cap: Duration::from_secs(30),
        retry_after_cap: Duration::from_secs(120),
        max_attempts: 6,
        negative_ttl: Duration::from_secs(10),
    };

    /// The default but for the number of attempts; 0 counts as 1.
    #[must_use]
    pub const fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The default but for the first delay and the largest one.
    #[must_use]
    pub const fn with_backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.base = base;
        self.cap = cap;
        self
    }

    /// The default but for the longest Retry-After honoured in full.
    #[must_use]
    pub const fn with_retry_after_cap(mut self, cap: Duration) -> Self {
        self.retry_after_cap = cap;
        self
    }

    /// The default but for how long permanent failures are remembered.
    #[must_use]
    pub const fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// How long to wait after the `failures`-th failure in a row (0 is read as 1).
    #[must_use]
    pub fn delay(&self, failures: u32, seed: u64, retry_after: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1).min(127);
        let ceiling = self
            .base
            .as_nanos()
            .saturating_mul(1 << doublings)
            .min(self.cap.as_nanos());
        let half = to_u64(ceiling / 2);
        let random = hash(seed, failures);
        let own = half.saturating_add(below(random, half));
        let asked = retry_after.map_or(0, |asked| {
            let asked = to_u64(asked.min(self.retry_after_cap).as_nanos());
            asked.saturating_add(below(random, asked / 8))
        });
        Duration::from_nanos(own.max(asked))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl RetryState {
    /// No failure yet. Give each piece of work a seed of its own.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { failures: 0, seed }
    }

    /// The number of failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt failed at `now`; returns when to try again, or `None` when it is time to give up.
    pub fn failed(
        &mut self,
        policy: &RetryPolicy,
        now: Tick,
        retry_after: Option<Duration>,
    ) -> Option<Tick> {
        self.failures = self.failures.saturating_add(1);
        (self.failures < policy.max_attempts)
            .then(|| now + policy.delay(self.failures, self.seed, retry_after))
    }

    /// Bytes arrived: the next failure is a first one again. A body that breaks every megabyte
    /// is slow, not dead.
    pub const fn progressed(&mut self) {
        self.failures = 0;
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): one step from a state that seed and number make.
const fn hash(seed: u64, number: u32) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `random` reduced to `0..=most`, by multiplying rather than dividing: no bias worth the name.
fn below(random: u64, most: u64) -> u64 {
    let scaled = (u128::from(random) * (u128::from(most) + 1)) >> 64;
    to_u64(scaled)
}

fn to_u64(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
