//! Opening what is open and there already, without waiting for anything.
//!
//! What [`Inner::open`] finds out may take the index, the origin and a timer. Of an entry that others are reading there
//! is nothing to find out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chunk_core::scheduler::{Hints, Start};
use chunk_ports::Resource;

use crate::entry::{Entry, Opened};
use crate::inner::Inner;
use crate::options::Purpose;
use crate::reader::ChunkReader;

impl Inner {
    /// [`Self::open`] for playing what is there, where nothing has to be waited for. `None` says nothing of why.
    pub(crate) fn open_now(
        self: &Arc<Self>,
        resource: &Resource,
        start: u64,
        end: Option<u64>,
        hints: Hints,
    ) -> Option<Opened> {
        // Whoever opens a file to fill it has to be heard of.
        if self.fill || self.is_closed.load(Ordering::Acquire) {
            return None;
        }
        let live = self.live_now(&resource.key)?;
        {
            let state = live.lock();
            let meta = state.meta.as_ref()?;
            let is_settled = live.is_validated()
                && meta.storable
                && !state.is_given_up()
                && !state.is_closed
                && state.resource.is_asked_for_like(resource);
            if !is_settled || !state.readable.contains(start) {
                return None;
            }
        }
        if self.jobs().has(live.entry) {
            // They may have waited for somebody to ask.
            return None;
        }
        let (inner, start) = (Arc::clone(self), Start::At(start));
        let purpose = Purpose::Play(hints);
        let reader = ChunkReader::open(inner, Arc::clone(&live), start, end, purpose);
        if live.is_leaving() {
            return None;
        }
        Some(Opened {
            entry: Entry::new(Arc::clone(self), live),
            reader,
        })
    }
}
