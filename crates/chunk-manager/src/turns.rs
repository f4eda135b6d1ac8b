//! Turns at one entry: those who look it up share theirs, and who takes it away, or a part of it, has one alone.
//!
//! So nobody is given the number of an entry that is going away, or begins to write where bytes are being removed, and
//! nobody waits for what becomes of another entry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chunk_core::CacheKey;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The locks of the entries at which somebody has a turn, or waits for one.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Arc<CacheKey>, Weak<RwLock<()>>>>);

impl Turns {
    /// To look the entry up, beside others who do.
    pub(crate) async fn shared(&self, key: &Arc<CacheKey>) -> OwnedRwLockReadGuard<()> {
        self.lock_of(key).read_owned().await
    }

    /// To take it away, or a part of it.
    pub(crate) async fn alone(&self, key: &Arc<CacheKey>) -> OwnedRwLockWriteGuard<()> {
        self.lock_of(key).write_owned().await
    }

    fn lock_of(&self, key: &Arc<CacheKey>) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Those that nobody has go before the table grows.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(RwLock::new(()));
        locks.insert(Arc::clone(key), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key(path: &str) -> Arc<CacheKey> {
        Arc::new(CacheKey::new("films", path, &[""; 0]).expect("a key"))
    }

    #[test]
    fn a_turn_alone_is_alone_at_its_entry_and_nobody_waits_at_another() {
        let turns = Turns::default();
        let (one, other) = (key("/one"), key("/other"));
        let first = turns.shared(&one).now_or_never();
        assert!(first.is_some() && turns.shared(&one).now_or_never().is_some());
        assert!(turns.alone(&one).now_or_never().is_none());
        let alone = turns.alone(&other).now_or_never();
        assert!(alone.is_some() && turns.shared(&other).now_or_never().is_none());
        drop(first);
        assert!(turns.alone(&one).now_or_never().is_some());
        assert!(turns.shared(&other).now_or_never().is_none());
    }

    #[test]
    fn locks_that_nobody_has_are_dropped() {
        let turns = Turns::default();
        let kept = turns.alone(&key("/kept")).now_or_never();
        for number in 0..10_000 {
            assert!(
                turns
                    .alone(&key(&format!("/{number}")))
                    .now_or_never()
                    .is_some()
            );
        }
        assert!(kept.is_some() && turns.alone(&key("/kept")).now_or_never().is_none());
        assert!(turns.0.lock().unwrap_or_else(PoisonError::into_inner).len() < 100);
    }
}
