//! The durable part of what was asked for explicitly.

use chunk_core::{ByteRange, DemandQueue, EntryId, Priority, RangeSet};
use chunk_ports::{JobRange, JobRecord};

/// MEDIUM and LOW requests that are not recorded yet, as they stand in the index.
///
/// A job ends when its bytes are recorded, not when they are readable: after a crash in between, they
/// are asked for again.
#[derive(Debug, Default)]
pub(crate) struct JobBook {
    queue: DemandQueue<EntryId>,
}

impl JobBook {
    /// Takes over what the index has, in order of arrival.
    pub(crate) fn restore(&mut self, mut jobs: Vec<JobRecord>) {
        jobs.sort_by_key(|record| record.job.sequence);
        for record in jobs {
            self.queue
                .push(record.entry, record.job.range, record.job.priority);
        }
    }

    /// Adds a job; returns whether that changed anything.
    pub(crate) fn add(&mut self, entry: EntryId, range: ByteRange, priority: Priority) -> bool {
        !self.queue.push(entry, range, priority).is_duplicate()
    }

    /// Drops what is recorded or cancelled; returns whether that changed anything.
    pub(crate) fn remove(&mut self, entry: EntryId, range: ByteRange) -> bool {
        self.queue.cancel(entry, range) > 0
    }

    /// Drops what is recorded, and what lies past the file's end: no byte of that will ever come.
    /// Returns whether that changed anything.
    pub(crate) fn settle(
        &mut self,
        entry: EntryId,
        done: &RangeSet,
        total_len: Option<u64>,
    ) -> bool {
        let past_end = total_len.and_then(|len| ByteRange::try_new(len, u64::MAX));
        let mut has_changed = false;
        for range in done.iter().chain(past_end) {
            has_changed |= self.remove(entry, range);
        }
        has_changed
    }

    /// The entry's rows in the index.
    pub(crate) fn rows(&self, entry: EntryId) -> Vec<JobRange> {
        self.rows_without(entry, &RangeSet::new())
    }

    /// The entry's rows once the bytes of `done` are recorded.
    pub(crate) fn rows_without(&self, entry: EntryId, done: &RangeSet) -> Vec<JobRange> {
        let mut rows: Vec<JobRange> = self
            .queue
            .demands(entry)
            .flat_map(|demand| {
                done.gaps(demand.range).map(move |range| JobRange {
                    range,
                    priority: demand.priority,
                    sequence: demand.sequence,
                })
            })
            .collect();
        rows.sort_by_key(|row| row.range.start());
        rows
    }

    /// The entries that have jobs, in order of their most urgent one.
    pub(crate) fn entries(&self) -> Vec<EntryId> {
        let mut entries = Vec::new();
        for demand in self.queue.iter() {
            if !entries.contains(&demand.key) {
                entries.push(demand.key);
            }
        }
        entries
    }

    /// The bytes of an entry still to be recorded for its jobs.
    pub(crate) fn bytes(&self, entry: EntryId) -> u64 {
        self.queue
            .demands(entry)
            .map(|demand| demand.range.len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r07_rows_shrink_as_bytes_are_recorded_and_never_overlap() {
        let entry = EntryId::new(1);
        let range = |start, end| ByteRange::new(start, end).unwrap();
        let mut book = JobBook::default();
        assert!(book.add(entry, range(0, 100), Priority::Low));
        assert!(book.add(entry, range(50, 80), Priority::Medium));
        assert!(
            !book.add(entry, range(60, 70), Priority::Low),
            "a duplicate"
        );
        assert!(book.remove(entry, range(0, 10)));

        let rows = book.rows(entry);
        assert!(
            rows.windows(2)
                .all(|pair| pair[0].range.end() <= pair[1].range.start())
        );
        assert_eq!(rows.iter().map(|row| row.range.len()).sum::<u64>(), 90);
        let left = book.rows_without(entry, &RangeSet::from_iter([range(20, 90)]));
        assert_eq!(left.iter().map(|row| row.range.len()).sum::<u64>(), 20);
        assert!(book.remove(entry, range(0, 100)));
        assert!(book.rows(entry).is_empty() && book.entries().is_empty());
    }
}
