//! Which folders' names are known to be durable.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chunk_core::GenerationId;

use crate::layout::Layout;

/// The generations whose folders' names this process has made durable, so that it does it once each.
///
/// What an earlier process may have made durable is not known and is done again.
#[derive(Debug, Default)]
pub(crate) struct DurableFolders {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    durable: HashSet<GenerationId>,
    /// Counts removals: a folder removed and made anew while a flush was under way is not durable,
    /// whatever that flush did.
    removals: u64,
}

impl DurableFolders {
    /// Makes durable that the generation's folder exists.
    pub(crate) fn ensure(&self, layout: &Layout, generation: GenerationId) -> io::Result<()> {
        let seen = {
            let state = self.lock();
            if state.durable.contains(&generation) {
                return Ok(());
            }
            state.removals
        };
        layout.sync_above_generation(generation)?;
        let mut state = self.lock();
        if state.removals == seen {
            state.durable.insert(generation);
        }
        Ok(())
    }

    /// Forgets a generation whose folder is going.
    pub(crate) fn forget(&self, generation: GenerationId) {
        let mut state = self.lock();
        state.removals += 1;
        state.durable.remove(&generation);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
