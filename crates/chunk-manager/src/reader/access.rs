//! What eviction has to know of a reader: where it stands, and what it has read.

use super::ChunkReader;

impl ChunkReader {
    /// Where the reader stands is what eviction must leave alone.
    pub(super) fn note_position(&self) {
        let mut state = self.live.lock();
        state.positions.insert(self.id, self.position);
        drop(state);
        self.note_access(self.position);
    }

    /// The segment of the byte at `offset` has been used just now.
    pub(super) fn note_access(&self, offset: u64) {
        let now = self.inner.clock.unix_seconds();
        let mut state = self.live.lock();
        state.accessed_unix = state.accessed_unix.max(now);
        if let Some(meta) = &state.meta
            && let Ok(segment) = u32::try_from(offset / meta.segment_size)
        {
            if state.touched.insert(segment, now) == Some(now) {
                // Seconds are what eviction goes by.
                return;
            }
            drop(state);
            if let Some(generation) = self.live.generation_now() {
                self.inner
                    .space
                    .touch(self.live.entry, generation, segment, now);
            }
        }
    }
}
