//! What the proxy counts: plain numbers that whoever wants metrics reads now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

/// Upper bounds of the first-byte histogram, in milliseconds; the last bucket has none.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];

/// What a proxy has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStatistics {
    /// Answers by the first digit of their status: index 0 is 1xx, index 4 is 5xx.
    pub answers: [u64; 5],
    /// Body bytes handed to sockets.
    pub bytes_sent: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections ever accepted.
    pub accepted: u64,
    /// Answers that the client left before their end.
    pub abandoned: u64,
    /// Answers that were cut because their bytes could not be had.
    pub broken: u64,
    /// From a request's head to the first byte of its body.
    pub first_byte: LatencyHistogram,
}

/// How long something took, by buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencyHistogram {
    /// Each bucket's upper bound and how many took at most that and more than the bound before. The last
    /// bound is [`Duration::MAX`].
    pub buckets: Vec<(Duration, u64)>,
    /// All of them together.
    pub sum: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    answers: [AtomicU64; 5],
    bytes_sent: AtomicU64,
    connections: AtomicU64,
    accepted: AtomicU64,
    abandoned: AtomicU64,
    broken: AtomicU64,
    first_byte: [AtomicU64; BOUNDS_MS.len() + 1],
    first_byte_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.fetch_add(1, Relaxed);
        }
    }

    fn first_byte_after(&self, elapsed: Duration) {
        let bucket = BOUNDS_MS.partition_point(|&bound| Duration::from_millis(bound) < elapsed);
        self.first_byte[bucket].fetch_add(1, Relaxed);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.first_byte_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> ProxyStatistics {
        let bounds = BOUNDS_MS.iter().copied().map(Duration::from_millis);
        let counts = self.first_byte.iter().map(|counter| counter.load(Relaxed));
        ProxyStatistics {
            answers: std::array::from_fn(|class| self.answers[class].load(Relaxed)),
            bytes_sent: self.bytes_sent.load(Relaxed),
            connections: self.connections.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            abandoned: self.abandoned.load(Relaxed),
            broken: self.broken.load(Relaxed),
            first_byte: LatencyHistogram {
                buckets: bounds.chain([Duration::MAX]).zip(counts).collect(),
                sum: Duration::from_micros(self.first_byte_micros.load(Relaxed)),
            },
        }
    }
}

/// One open connection, counted for as long as it lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Counters>);

impl OpenConnection {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        counters.accepted.fetch_add(1, Relaxed);
        counters.connections.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Watches one body. The default one counts nothing.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counting: Option<(Arc<Counters>, Instant)>,
    /// Set where the body breaks and its framing cannot tell the client so.
    must_reset: Option<Arc<AtomicBool>>,
    begun: bool,
    ended: bool,
}

impl Meter {
    pub(crate) const fn new(
        counters: Arc<Counters>,
        asked: Instant,
        must_reset: Option<Arc<AtomicBool>>,
    ) -> Self {
        Self {
            counting: Some((counters, asked)),
            must_reset,
            begun: false,
            ended: false,
        }
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        let Some((counters, asked)) = &self.counting else {
            return;
        };
        if !self.begun {
            self.begun = true;
            counters.first_byte_after(asked.elapsed());
        }
        counters.bytes_sent.fetch_add(bytes, Relaxed);
    }

    /// So many of them were not sent after all.
    pub(crate) fn unsent(&self, bytes: u64) {
        if let Some((counters, _)) = &self.counting {
            counters.bytes_sent.fetch_sub(bytes, Relaxed);
        }
    }

    pub(crate) const fn finished(&mut self) {
        self.ended = true;
    }

    pub(crate) fn broken(&mut self) {
        self.ended = true;
        if let Some(must_reset) = &self.must_reset {
            must_reset.store(true, Relaxed);
        }
        if let Some((counters, _)) = &self.counting {
            counters.broken.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some((counters, _)) = &self.counting
            && !self.ended
        {
            counters.abandoned.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lands_in_the_bucket_that_bounds_it() {
        let counters = Counters::default();
        for (micros, bucket) in [
            (0, 0),
            (1_000, 0),
            (1_001, 1),
            (60_000, 6),
            (11_000_000, 12),
        ] {
            let before = counters.snapshot().first_byte.buckets[bucket].1;
            counters.first_byte_after(Duration::from_micros(micros));
            assert_eq!(
                counters.snapshot().first_byte.buckets[bucket].1,
                before + 1,
                "{micros}"
            );
        }
        assert_eq!(
            counters.snapshot().first_byte.sum,
            Duration::from_micros(11_062_001)
        );
    }

    #[test]
    fn answers_are_counted_by_class() {
        let counters = Counters::default();
        for status in [200, 206, 304, 416, 502] {
            counters.answered(StatusCode::from_u16(status).unwrap());
        }
        assert_eq!(counters.snapshot().answers, [0, 2, 1, 1, 1]);
    }
}
