//! Counters that any task may raise.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chunk_core::Priority;
use chunk_core::scheduler::Role;

use crate::status::{LevelStatistics, Statistics};

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) store_failing: AtomicBool,
            pub(crate) levels: Levels,
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Statistics {
                Statistics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    store_failing: self.store_failing.load(Ordering::Relaxed),
                    levels: Priority::ALL.map(|level| self.levels.of(level).snapshot()),
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
    stripes,
    hedges,
    hedge_bytes_wasted,
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
    stalls,
    stall_nanos,
);

impl Counters {
    /// A reader that was being served has waited for so long, for a byte that a run of that level brought.
    pub(crate) fn stalled(&self, waited: Duration, level: Option<Priority>) {
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        add(&self.stalls, 1);
        add(&self.stall_nanos, nanos);
        if let Some(level) = level.map(|level| self.levels.of(level)) {
            add(&level.stalls, 1);
            add(&level.stall_nanos, nanos);
        }
    }

    /// A run has been started.
    pub(crate) fn asked(&self, role: Role) {
        match role {
            Role::Main => {}
            Role::Stripe => add(&self.stripes, 1),
            Role::Hedge(_) => add(&self.hedges, 1),
        }
    }
}

/// What is counted for each level on its own.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    critical: Level,
    high: Level,
    medium: Level,
    low: Level,
}

#[derive(Debug, Default)]
pub(crate) struct Level {
    pub(crate) first_byte_count: AtomicU64,
    pub(crate) first_byte_nanos: AtomicU64,
    pub(crate) bytes_from_origin: AtomicU64,
    pub(crate) bytes_wasted: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stall_nanos: AtomicU64,
}

impl Levels {
    pub(crate) const fn of(&self, level: Priority) -> &Level {
        match level {
            Priority::Critical => &self.critical,
            Priority::High => &self.high,
            Priority::Medium => &self.medium,
            Priority::Low => &self.low,
        }
    }
}

impl Level {
    fn snapshot(&self) -> LevelStatistics {
        LevelStatistics {
            first_byte_count: self.first_byte_count.load(Ordering::Relaxed),
            first_byte_nanos: self.first_byte_nanos.load(Ordering::Relaxed),
            bytes_from_origin: self.bytes_from_origin.load(Ordering::Relaxed),
            bytes_wasted: self.bytes_wasted.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            stall_nanos: self.stall_nanos.load(Ordering::Relaxed),
        }
    }
}

/// Raises a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Sets a gauge.
pub(crate) fn set(gauge: &AtomicU64, to: u64) {
    gauge.store(to, Ordering::Relaxed);
}
