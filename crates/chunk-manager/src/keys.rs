//! What the entries of the index are called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_core::{CacheKey, EntryId};

use crate::inner::Inner;

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
}

impl Inner {
    pub(crate) fn remember_key(&self, entry: EntryId, key: Arc<CacheKey>) {
        let mut both = self.keys.lock();
        both.entries.insert(Arc::clone(&key), entry);
        both.keys.insert(entry, key);
    }

    pub(crate) fn forget_key(&self, entry: EntryId) {
        let mut both = self.keys.lock();
        // Another entry may have got its name since.
        if let Some(key) = both.keys.remove(&entry)
            && both.entries.get(&key) == Some(&entry)
        {
            both.entries.remove(&key);
        }
    }

    pub(crate) fn key_of(&self, entry: EntryId) -> Option<Arc<CacheKey>> {
        self.keys.lock().keys.get(&entry).cloned()
    }

    /// Whether there is an entry of that name, as far as this process knows.
    pub(crate) fn has_key(&self, key: &CacheKey) -> bool {
        self.keys.lock().entries.contains_key(key)
    }
}
