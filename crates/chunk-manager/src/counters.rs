//! Counters that any task may raise.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::status::Statistics;

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) store_failing: AtomicBool,
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Statistics {
                Statistics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    store_failing: self.store_failing.load(Ordering::Relaxed),
                }
            }
        }
    };
}

counters!(
    bytes_served,
    bytes_served_from_cache,
    bytes_from_origin,
    bytes_wasted,
    hits,
    misses,
    origin_requests,
    retries,
    active_runs,
    held_runs,
    queued_ranges,
    readers,
    first_byte_count,
    first_byte_nanos,
    memory_bytes,
    stored_bytes,
    evicted_bytes,
    checksum_failures,
    commits,
);

/// Raises a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Sets a gauge.
pub(crate) fn set(gauge: &AtomicU64, to: u64) {
    gauge.store(to, Ordering::Relaxed);
}
