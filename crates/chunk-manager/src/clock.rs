//! The clock of a tokio runtime.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chunk_core::Tick;
use chunk_ports::Clock;
use tokio::time::Instant;

/// Tokio's clock: virtual where a test has paused it. Ticks count from its creation.
#[derive(Debug)]
pub struct TokioClock {
    start: Instant,
}

impl TokioClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn now(&self) -> Tick {
        Tick::ZERO + self.start.elapsed()
    }

    async fn sleep_until(&self, deadline: Tick) {
        match self.start.checked_add(deadline.since(Tick::ZERO)) {
            Some(instant) => tokio::time::sleep_until(instant).await,
            None => std::future::pending().await,
        }
    }

    fn unix_seconds(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
            })
    }
}
