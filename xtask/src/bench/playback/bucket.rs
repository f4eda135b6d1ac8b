//! The capacity of a line, handed out in slots of time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::random::mix;

/// A line that was idle for less than this goes on where it stood: sleeps end late, and that is not the line's fault.
const LATE: Duration = Duration::from_millis(5);

/// The same for a sender that would have gone on at once, had the processor let it.
const LATE_WITHOUT_PAUSE: Duration = Duration::from_millis(40);

/// How many bytes a second a line takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capacity {
    /// Always the same.
    Steady(u64),
    /// Another one every second between two bounds, by a seed.
    Changing { seed: u64, low: u64, high: u64 },
}

impl Capacity {
    /// Bytes per second, so long after the beginning.
    pub(super) fn at(self, elapsed: Duration) -> u64 {
        match self {
            Self::Steady(rate) => rate,
            Self::Changing { seed, low, high } => {
                low + mix(seed.wrapping_add(elapsed.as_secs())) % (high - low + 1)
            }
        }
    }
}

/// What came before the bytes that are to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Bytes of the same answer, and its client took them at once.
    Bytes,
    /// Nothing, or a client that did not read.
    Pause,
}

/// A line; all clones share it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    capacity: Capacity,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    free_at: Instant,
}

impl Bucket {
    pub(super) fn new(capacity: Capacity) -> Self {
        let now = Instant::now();
        let state = State {
            began: now,
            free_at: now,
        };
        Self {
            capacity,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Counts time from now on: a changing rate begins again.
    pub(super) fn begin(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .began = Instant::now();
    }

    /// Takes the next slot for so many bytes and says when it ends: when they have gone over the line.
    pub(super) fn reserve(&self, bytes: usize, before: Before) -> Instant {
        self.reserve_at(bytes, before, Instant::now())
    }

    fn reserve_at(&self, bytes: usize, before: Before, now: Instant) -> Instant {
        let late = match before {
            Before::Bytes => LATE_WITHOUT_PAUSE,
            Before::Pause => LATE,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A line that was idle for longer starts afresh: it cannot have saved anything up.
        let begins = if state.free_at + late >= now {
            state.free_at
        } else {
            now
        };
        let rate = self
            .capacity
            .at(begins.saturating_duration_since(state.began));
        let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
        state.free_at = begins + Duration::from_nanos(nanoseconds);
        state.free_at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Before, Bucket, Capacity, Instant};

    #[test]
    fn bytes_follow_each_other_at_the_rate() {
        let bucket = Bucket::new(Capacity::Steady(1_000));
        let now = Instant::now();
        let first = bucket.reserve_at(100, Before::Pause, now);
        let second = bucket.reserve_at(50, Before::Pause, now);
        assert_eq!(second - first, Duration::from_millis(50));
    }

    #[test]
    fn a_late_sender_is_made_up_for_and_an_idle_line_is_not() {
        let bucket = Bucket::new(Capacity::Steady(1_000));
        let end = bucket.reserve_at(100, Before::Pause, Instant::now());
        let late = end + Duration::from_millis(30);
        assert_eq!(
            bucket.reserve_at(1, Before::Bytes, late),
            end + Duration::from_millis(1)
        );
        let idle = late + Duration::from_millis(30);
        assert_eq!(
            bucket.reserve_at(1, Before::Pause, idle),
            idle + Duration::from_millis(1)
        );
    }

    #[test]
    fn a_changing_rate_keeps_to_its_bounds_and_its_seed() {
        let capacity = Capacity::Changing {
            seed: 7,
            low: 10,
            high: 20,
        };
        let rates: Vec<u64> = (0..50)
            .map(|second| capacity.at(Duration::from_secs(second)))
            .collect();
        assert!(rates.iter().all(|rate| (10..=20).contains(rate)));
        assert!(rates.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(
            capacity.at(Duration::from_millis(3_999)),
            capacity.at(Duration::from_secs(3))
        );
    }
}
