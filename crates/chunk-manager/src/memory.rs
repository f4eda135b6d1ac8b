//! One budget for all payload bytes held in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// How many payload bytes are in memory, against how many may be. Reaching the limit is back-pressure:
/// runs stop reading until something has been stored or dropped.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: AtomicU64,
    used: AtomicU64,
    freed: Notify,
}

impl MemoryBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }

    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Accounts for a change of what one representation holds, from `before` to `after` bytes.
    pub(crate) fn changed(&self, before: u64, after: u64) {
        if after >= before {
            self.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }

    /// Whether so little is left that nothing should stay in memory for convenience.
    pub(crate) fn is_tight(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed) / 2
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.used.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed) {
                return;
            }
            freed.await;
        }
    }
}
