//! How fast an origin sends.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A sleep ends late; time lost up to this much is made up for, so that the rate is what it says.
const MADE_UP_FOR: Duration = Duration::from_millis(5);

/// Bytes per second, by slots of time that are handed out one after the other.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Arc<Mutex<Instant>>,
}

impl Pace {
    /// A pace that all clones share.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            free_at: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// A pace of the same rate that is shared with nobody.
    pub(super) fn apart(&self) -> Self {
        Self::new(self.bytes_per_second)
    }

    /// Returns when the bytes have gone over the line.
    pub(super) fn send(&self, bytes: usize) {
        let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        let due = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // A line that was idle for longer starts afresh: it cannot have saved anything up.
            let is_continued = *free_at + MADE_UP_FOR >= now;
            let begins = if is_continued { *free_at } else { now };
            *free_at = begins + Duration::from_nanos(nanoseconds);
            *free_at
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
