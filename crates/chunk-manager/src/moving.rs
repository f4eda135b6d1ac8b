//! A name of an origin that stands for another place than before.
//!
//! A validator tells the versions of one resource apart and says nothing of another resource (RFC 9110, 8.8.3), so
//! nothing that came from the former place is compared with, or continued by, what the new one has.

use chunk_core::ByteRange;
use chunk_ports::{ChunkStoreError, EntryRecord, StoreWrite};

use crate::inner::Inner;

impl Inner {
    /// Gives up what is cached of an entry, before anything is opened. A pin and durable requests stand: what was
    /// recorded for them is asked for again. The bytes go with those that nothing refers to.
    pub(crate) async fn begin_anew(&self, entry: &mut EntryRecord) -> Result<(), ChunkStoreError> {
        let Some(current) = entry.current.take() else {
            return Ok(());
        };
        let total_len = current.representation.total_len;
        let recorded: Vec<ByteRange> = self
            .store
            .segments(current.id)
            .await?
            .into_iter()
            .flat_map(|summary| {
                let segment_start = u64::from(summary.segment) * current.segment_size;
                summary
                    .blocks
                    .byte_ranges(segment_start, total_len.unwrap_or(u64::MAX))
                    .collect::<Vec<_>>()
            })
            .collect();
        // In one step, so that no crash leaves an order for less than was ordered.
        let mut writes = vec![StoreWrite::RemoveGeneration(current.id)];
        {
            let mut jobs = self.jobs();
            if jobs.ask_again(entry.id, recorded, total_len) {
                writes.push(StoreWrite::ReplaceJobs {
                    entry: entry.id,
                    jobs: jobs.rows(entry.id),
                });
            }
        }
        self.store.commit(writes).await
    }
}
