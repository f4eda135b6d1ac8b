//! What is kept of what cannot be stored: a ring of bytes around each reader, in memory.
//!
//! ```text
//! ring     = min(4 MiB, ⅔ of the memory ÷ readers of what cannot be stored), at least 512 KiB
//! window   = ½ ring before the reader, which is how far a run reads ahead of it
//! kept     = ¼ ring behind the reader and ¾ before it up to the first hole, and all between two readers
//!            that are within a ring of each other, or 1½ where there is no hole between them
//! ```
//!
//! Who comes to be within a ring of somebody else reads what that one's run brings; whoever is further behind has a run
//! and a ring of its own. So readers cost a copy each at most, wherever they are.

use std::sync::Arc;

use chunk_core::scheduler::Input;

use crate::inner::Inner;
use crate::live::Live;
use crate::memory::Memory;
use crate::tail::RING;
use crate::writer::BATCH;

/// The smallest ring: a window of one batch. Where even that is too much, runs wait for memory.
const LEAST: u64 = 2 * BATCH;

impl Inner {
    /// Bytes of `live` cannot be kept from now on.
    pub(crate) fn cap_window(&self, live: &Live) {
        self.share_rings();
        self.tell(Input::WindowCapped {
            source: live.source,
            bytes: Some(live.ring() / 2),
        });
    }

    /// A reader of `live` has come or gone: where bytes cannot be kept, others have less memory by that, or more.
    pub(crate) fn share_rings_of(&self, live: &Live) {
        if live.passes_to().is_some() {
            self.share_rings();
        }
    }

    fn share_rings(&self) {
        let lives = self.all_lives();
        let passing = || {
            lives
                .iter()
                .filter_map(|live| Some((live, live.passes_to()?)))
        };
        let readers: usize = passing().map(|(_, readers)| readers).sum();
        let all = self.memory.limit() / 3 * 2;
        let ring = (all / (readers as u64).max(1)).clamp(LEAST, RING);
        for (live, _) in passing() {
            if live.set_ring(ring) {
                self.tell(Input::WindowCapped {
                    source: live.source,
                    bytes: Some(ring / 2),
                });
            }
        }
    }

    /// Forgets what cannot be stored of `live` and no reader is near.
    pub(crate) fn trim_rings(&self, live: &Live) {
        self.trim_ring(live, live.ring(), Memory::Enough);
    }

    fn trim_ring(&self, live: &Live, allowance: u64, memory: Memory) {
        for range in live.trim_ring(allowance, memory).iter() {
            self.tell(Input::Forgotten {
                source: live.source,
                range,
            });
        }
    }

    /// Drops what need not be in memory, so that `live` can go on: first what is stored and what no reader is near,
    /// then what other representations hold that cannot be stored, since it can be fetched again.
    pub(crate) fn make_memory(&self, live: &Arc<Live>) {
        let lives = self.all_lives();
        for other in &lives {
            other.trim_stored();
        }
        for other in &lives {
            if self.memory.has_room() {
                return;
            }
            self.trim_ring(other, 0, Memory::Enough);
        }
        for other in &lives {
            if self.memory.has_room() {
                return;
            }
            if !Arc::ptr_eq(other, live) {
                self.trim_ring(other, 0, Memory::Short);
            }
        }
        if !self.memory.has_room() {
            self.trim_ring(live, BATCH, Memory::Short);
        }
    }
}
