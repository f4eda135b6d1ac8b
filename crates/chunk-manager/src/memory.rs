//! One budget for all payload bytes held in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// How much memory there is for what cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A ring for each reader.
    Enough,
    /// Less than that.
    Short,
}

/// How many payload bytes are in memory, against how many may be. Reaching the limit is back-pressure:
/// runs stop reading until something has been stored or dropped.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: AtomicU64,
    used: AtomicU64,
    freed: Notify,
}

impl Default for MemoryBudget {
    /// Without limit.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
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

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// So many bytes more are in memory.
    pub(crate) fn taken(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes less are in memory.
    pub(crate) fn freed(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// How many bytes are in memory.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more may come in.
    pub(crate) fn has_room(&self) -> bool {
        self.used() < self.limit.load(Ordering::Relaxed)
    }

    /// Whether so little is left that nothing should stay in memory for convenience.
    pub(crate) fn is_tight(&self) -> bool {
        self.used() >= self.limit.load(Ordering::Relaxed) / 2
    }

    /// Bytes may be dropped now that might not before.
    pub(crate) fn may_be_freed(&self) {
        self.freed.notify_waiters();
    }

    /// Waits until there is room for more, after each change asking `make` for some.
    pub(crate) async fn room(&self, make: impl Fn()) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.has_room() {
                return;
            }
            make();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}
