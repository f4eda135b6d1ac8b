//! Who reads an open representation, and what their coming and going means to others.
//!
//! Of readers of bytes that are all there nobody has to hear: the scheduler does not know of them, and there may be many
//! thousands a second. The driver hears of the end of such a one only where something follows from it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use chunk_core::Tick;
use chunk_core::scheduler::ReaderId;

use super::{Caching, Live};
use crate::waiters::Token;

#[derive(Debug, Default)]
pub(super) struct Readers {
    count: AtomicUsize,
    /// Whether the entry is being removed, so that nobody may begin to read it.
    is_leaving: AtomicBool,
    /// Whether the scheduler has heard of a reader, and the driver has not yet seen it without any.
    is_scheduled: AtomicBool,
    /// When one of them left, in nanoseconds of the clock.
    left_at: AtomicU64,
}

impl Live {
    /// Lets nobody begin to read it from now on, for good; `false`, and nothing happens, where somebody reads it.
    ///
    /// Whoever begins to read is counted first and looks at [`Self::is_leaving`] then; this is announced first and looks
    /// at the count then. In one order of all four, so that not both can miss the other.
    pub(crate) fn leave(&self) -> bool {
        self.readers.is_leaving.store(true, Ordering::SeqCst);
        let is_read = self.readers.count.load(Ordering::SeqCst) > 0;
        if is_read {
            self.readers.is_leaving.store(false, Ordering::SeqCst);
        }
        !is_read
    }

    /// Whether its bytes are about to go; of interest to a reader that has just come.
    pub(crate) fn is_leaving(&self) -> bool {
        self.readers.is_leaving.load(Ordering::SeqCst)
    }

    pub(crate) fn reader_count(&self) -> usize {
        self.readers.count.load(Ordering::SeqCst)
    }

    pub(crate) fn reader_came(&self, reader: ReaderId, position: u64) {
        self.readers.count.fetch_add(1, Ordering::SeqCst);
        self.lock().positions.insert(reader, position);
    }

    /// Somebody has opened it to order it, and reads none of it.
    pub(crate) fn orderer_came(&self) {
        self.readers.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether somebody reads it.
    pub(crate) fn is_played(&self) -> bool {
        !self.lock().positions.is_empty()
    }

    /// Returns whether it was the last one.
    pub(crate) fn reader_went(
        &self,
        reader: ReaderId,
        mut token: Option<Token>,
        now: Tick,
    ) -> bool {
        let mut state = self.lock();
        state.positions.remove(&reader);
        state.waiters.remove(&mut token);
        drop(state);
        // Before it is no longer counted: whoever counts none sees when that was so.
        self.readers
            .left_at
            .store(now.as_nanos(), Ordering::Release);
        self.readers.count.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// When a reader last left; the start of the clock where none has.
    pub(crate) fn left_at(&self) -> Tick {
        Tick::from_nanos(self.readers.left_at.load(Ordering::Acquire))
    }

    /// The scheduler hears of a reader, so that the driver has to hear when there are none.
    pub(crate) fn reader_is_scheduled(&self) {
        self.readers.is_scheduled.store(true, Ordering::SeqCst);
    }

    /// Whether something follows for the driver from there being no readers; for the last one that has left.
    ///
    /// The count comes first and what is looked at here second, and the driver does it the other way round: not both
    /// can miss the other.
    pub(crate) fn is_end_of_interest(&self) -> bool {
        if self.readers.is_scheduled.load(Ordering::SeqCst) {
            return true;
        }
        let state = self.lock();
        state.is_superseded || state.caching != Caching::On || state.meta.is_none()
    }

    /// The driver has heard that a reader is gone: returns whether there are none, and hears of the next end again if
    /// not.
    pub(crate) fn take_end(&self) -> bool {
        let was_scheduled = self.readers.is_scheduled.swap(false, Ordering::SeqCst);
        let is_read = self.reader_count() > 0;
        if is_read && was_scheduled {
            self.reader_is_scheduled();
        }
        !is_read
    }
}
