//! The shape of the line between origin and client: delay and rates, in tokio's time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How fast and how far away an origin is. The default is neither slow nor far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Link {
    /// From a request's arrival to its answer's first byte.
    pub delay: Duration,
    /// Bytes a second over all connections together.
    pub total_rate: Option<u64>,
    /// Bytes a second on one connection.
    pub connection_rate: Option<u64>,
    /// The size of each connection's send buffer, small so that little is in flight when a client leaves.
    pub send_buffer: Option<u32>,
}

impl Link {
    /// A line without delay and limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a delay before each answer's first byte.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With a rate that all connections share.
    #[must_use]
    pub const fn total_rate(mut self, bytes_per_second: u64) -> Self {
        self.total_rate = Some(bytes_per_second);
        self
    }

    /// With a rate for each connection.
    #[must_use]
    pub const fn connection_rate(mut self, bytes_per_second: u64) -> Self {
        self.connection_rate = Some(bytes_per_second);
        self
    }

    /// With a small send buffer.
    #[must_use]
    pub const fn send_buffer(mut self, bytes: u32) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// How many bytes to send at once, so that a rate is smooth: about 5 ms worth, 1 to 64 KiB.
    pub(crate) fn piece(&self) -> usize {
        let slowest = [self.total_rate, self.connection_rate]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX);
        (slowest / 200).clamp(1024, 64 * 1024) as usize
    }
}

/// Bytes may pass at a rate; what is asked for first passes first.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    /// When the line is free again.
    free_at: Arc<Mutex<Option<Instant>>>,
}

/// The timer wakes up to a millisecond late; what that loses may be made up for.
const SLACK: Duration = Duration::from_millis(4);

impl Bucket {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            free_at: Arc::default(),
        }
    }

    /// Waits until `bytes` have passed.
    pub(crate) async fn pass(&self, bytes: usize) {
        let takes = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.rate);
        let passed = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            let passed = free_at.map_or(now, |at| at.max(earliest)) + takes;
            *free_at = Some(passed);
            passed
        };
        tokio::time::sleep_until(passed).await;
    }
}
