//! What the entries of the index are called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_core::{CacheKey, EntryId};

/// The key of each entry that is known of, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Both>);

#[derive(Debug, Default)]
struct Both {
    keys: HashMap<EntryId, Arc<CacheKey>>,
    entries: HashMap<Arc<CacheKey>, EntryId>,
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember(&self, entry: EntryId, key: Arc<CacheKey>) {
        let mut both = self.lock();
        both.entries.insert(Arc::clone(&key), entry);
        both.keys.insert(entry, key);
    }

    pub(crate) fn forget(&self, entry: EntryId) {
        let mut both = self.lock();
        // Another entry may have got its name since.
        if let Some(key) = both.keys.remove(&entry)
            && both.entries.get(&key) == Some(&entry)
        {
            both.entries.remove(&key);
        }
    }

    pub(crate) fn of(&self, entry: EntryId) -> Option<Arc<CacheKey>> {
        self.lock().keys.get(&entry).cloned()
    }

    /// Whether there is an entry of that name, as far as this process knows.
    pub(crate) fn has(&self, key: &CacheKey) -> bool {
        self.lock().entries.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_entry_has_got_stays_known() {
        let key = Arc::new(CacheKey::new("films", "/a", &[""; 0]).expect("a key"));
        let (old, new) = (EntryId::new(1), EntryId::new(2));
        let keys = Keys::default();
        assert!(!keys.has(&key));
        keys.remember(old, Arc::clone(&key));
        keys.remember(new, Arc::clone(&key));
        keys.forget(old);
        assert!(keys.has(&key) && keys.of(old).is_none());
        assert_eq!(keys.of(new), Some(Arc::clone(&key)));
        keys.forget(new);
        assert!(!keys.has(&key));
    }
}
