//! The durable part of what was asked for explicitly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chunk_core::{ByteRange, DemandQueue, EntryId, Priority, RangeSet};
use chunk_ports::{JobRange, JobRecord};

use crate::orders::{Rest, Terms};

/// MEDIUM and LOW requests that are not recorded yet, as they stand in the index.
///
/// A job ends when its bytes are recorded, not when they are readable: after a crash in between, they
/// are asked for again.
#[derive(Debug, Default)]
pub(crate) struct JobBook {
    queue: DemandQueue<EntryId>,
    /// What this process has recorded for jobs: where that turns out to be lost, it is a job again.
    served: DemandQueue<EntryId>,
    /// Entries for which nothing is fetched now.
    resting: BTreeMap<EntryId, Rest>,
    terms: BTreeMap<EntryId, Terms>,
    /// For those that fitted by the books and found no room: after how many changes of room, and how often.
    refused: BTreeMap<EntryId, (u64, u32)>,
    /// Those whose origin does not answer: how often in a row it has not.
    unanswered: BTreeMap<EntryId, u32>,
    /// Why jobs were withdrawn that nobody has heard of since they were taken.
    withdrawn: BTreeMap<EntryId, Arc<str>>,
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
        self.withdrawn.remove(&entry);
        !self.queue.push(entry, range, priority).is_duplicate()
    }

    /// Drops what is recorded already or cancelled; returns whether that changed anything.
    pub(crate) fn remove(&mut self, entry: EntryId, range: ByteRange) -> bool {
        self.served.cancel(entry, range);
        self.queue.cancel(entry, range) > 0
    }

    /// The bytes of `range` have been recorded; returns whether that changed anything.
    pub(crate) fn serve(&mut self, entry: EntryId, range: ByteRange) -> bool {
        for demand in self.queue.overlapping(entry, range) {
            self.served.push(entry, demand.range, demand.priority);
            self.unanswered.remove(&entry);
        }
        self.queue.satisfy(entry, range) > 0
    }

    /// What was recorded of `range` is lost; returns whether any of it is a job again.
    pub(crate) fn take_back(&mut self, entry: EntryId, range: ByteRange) -> bool {
        let lost: Vec<_> = self.served.overlapping(entry, range).collect();
        for demand in &lost {
            self.queue.push(entry, demand.range, demand.priority);
        }
        self.served.cancel(entry, range);
        !lost.is_empty()
    }

    /// The entry is going away.
    pub(crate) fn forget(&mut self, entry: EntryId) {
        self.queue.remove_key(entry);
        self.unanswered.remove(&entry);
        self.withdrawn.remove(&entry);
        self.served.remove_key(entry);
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
        for range in done.iter() {
            has_changed |= self.serve(entry, range);
        }
        if let Some(range) = past_end {
            has_changed |= self.remove(entry, range);
        }
        has_changed
    }

    /// What was `recorded` for the jobs of an entry is worth nothing to them any more: they want it again, and what
    /// a new version may have beyond `total_len`. Returns whether there are any.
    pub(crate) fn ask_again(
        &mut self,
        entry: EntryId,
        recorded: Vec<ByteRange>,
        total_len: Option<u64>,
    ) -> bool {
        let rows = self.rows(entry);
        let Some(priority) = rows.first().map(|row| row.priority) else {
            return false;
        };
        let reaches_end = rows
            .iter()
            .map(|row| row.range)
            .chain(recorded.iter().copied())
            .any(|range| Some(range.end()) == total_len);
        let rest = total_len
            .filter(|_| reaches_end)
            .and_then(|end| ByteRange::try_new(end, JobRange::TO_THE_END));
        for range in recorded.into_iter().chain(rest) {
            self.add(entry, range, priority);
        }
        true
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
        let mut seen = BTreeSet::new();
        self.queue
            .iter()
            .map(|demand| demand.key)
            .filter(|&entry| seen.insert(entry))
            .collect()
    }

    /// Whether an entry has jobs.
    pub(crate) fn has(&self, entry: EntryId) -> bool {
        self.queue.demands(entry).next().is_some()
    }

    /// Whether there are any jobs, or any that have just been withdrawn or done and whose rest is to end.
    pub(crate) fn has_any(&self) -> bool {
        !self.queue.is_empty() || !self.resting.is_empty()
    }

    /// Nothing is fetched for the entry's jobs from now on; `false` where it has none. What waits for room goes
    /// on doing so, whatever else there is.
    pub(crate) fn rest(&mut self, entry: EntryId, why: Rest) -> bool {
        let has = self.has(entry);
        if has {
            let reason = self.resting.entry(entry).or_insert(why);
            if *reason == Rest::Store {
                *reason = why;
            }
        }
        has
    }

    /// Something may be fetched for the entry's jobs again.
    pub(crate) fn lift(&mut self, entry: EntryId) {
        self.resting.remove(&entry);
    }

    /// Why nothing is fetched for the entry's jobs, if that is so.
    pub(crate) fn resting(&self, entry: EntryId) -> Option<Rest> {
        self.resting.get(&entry).copied()
    }

    /// Whether anything rests for this reason.
    pub(crate) fn rests_for(&self, why: Rest) -> bool {
        self.resting.values().any(|&rest| rest == why)
    }

    /// Forgets the rest of those that have no jobs any more; returns which ones had it.
    pub(crate) fn take_settled(&mut self) -> Vec<EntryId> {
        let mut settled = Vec::new();
        let queue = &self.queue;
        let has = |entry: EntryId| queue.demands(entry).next().is_some();
        self.terms.retain(|&entry, _| has(entry));
        self.refused.retain(|&entry, _| has(entry));
        self.unanswered.retain(|&entry, _| has(entry));
        self.resting.retain(|&entry, _| {
            let is_kept = has(entry);
            if !is_kept {
                settled.push(entry);
            }
            is_kept
        });
        settled
    }

    /// There was no room for the entry's jobs although they fitted, after so many changes of room.
    pub(crate) fn refuse(&mut self, entry: EntryId, changes: u64) {
        if self.resting.contains_key(&entry) {
            // Another of its runs was first.
            return;
        }
        let refused = self.refused.entry(entry).or_insert((changes, 0));
        if refused.0 != changes {
            *refused = (changes, 0);
        }
        refused.1 += 1;
    }

    /// Whether to try again is of no use before room changes: several runs of one order may stand in each other's
    /// way, and their end alone would bring them back for ever.
    pub(crate) fn is_refused(&self, entry: EntryId, changes: u64) -> bool {
        const TRIES: u32 = 2;
        self.refused
            .get(&entry)
            .is_some_and(|&(after, times)| after == changes && times >= TRIES)
    }

    /// One that rests only because trying again is of no use.
    pub(crate) fn any_refused(&self, changes: u64) -> Option<EntryId> {
        self.resting
            .iter()
            .filter(|&(_, &rest)| rest == Rest::Room)
            .map(|(&entry, _)| entry)
            .find(|&entry| self.is_refused(entry, changes))
    }

    /// The entry's origin has not answered its jobs once more; how often in a row, `None` where it has none.
    pub(crate) fn unanswered(&mut self, entry: EntryId) -> Option<u32> {
        if !self.has(entry) {
            return None;
        }
        let times = self.unanswered.entry(entry).or_default();
        *times = times.saturating_add(1);
        Some(*times)
    }

    /// The entry's origin has answered.
    pub(crate) fn answered(&mut self, entry: EntryId) {
        self.unanswered.remove(&entry);
    }

    /// How often in a row the entry's origin has not answered its jobs; `None` where it has.
    pub(crate) fn times_unanswered(&self, entry: EntryId) -> Option<u32> {
        self.unanswered
            .get(&entry)
            .copied()
            .filter(|_| self.has(entry))
    }

    /// Drops all jobs of the entry, which can never be done; returns whether there were any.
    pub(crate) fn withdraw(&mut self, entry: EntryId, why: Arc<str>) -> bool {
        let is_any = ByteRange::try_new(0, u64::MAX).is_some_and(|all| self.remove(entry, all));
        if is_any {
            self.withdrawn.insert(entry, why);
        }
        is_any
    }

    /// Why the entry's jobs were withdrawn, if they were.
    pub(crate) fn withdrawn(&self, entry: EntryId) -> Option<Arc<str>> {
        self.withdrawn.get(&entry).cloned()
    }

    /// The entries whose origin does not answer.
    pub(crate) fn all_unanswered(&self) -> Vec<EntryId> {
        self.unanswered.keys().copied().collect()
    }

    /// Whether the entry has jobs that go on by themselves although nothing is asked for now.
    pub(crate) fn waits(&self, entry: EntryId) -> bool {
        self.has(entry)
            && (self.resting.contains_key(&entry) || self.unanswered.contains_key(&entry))
    }

    pub(crate) fn set_terms(&mut self, entry: EntryId, terms: Terms) {
        self.terms.insert(entry, terms);
    }

    /// What the entry's jobs leave to others.
    pub(crate) fn terms(&self, entry: EntryId) -> Terms {
        self.terms.get(&entry).copied().unwrap_or_default()
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

    #[test]
    fn r07_what_was_recorded_for_a_job_and_is_lost_is_a_job_again() {
        let entry = EntryId::new(1);
        let range = |start, end| ByteRange::new(start, end).unwrap();
        let mut book = JobBook::default();
        book.add(entry, range(0, 100), Priority::Medium);
        book.serve(entry, range(0, 60));
        book.remove(entry, range(40, 50));
        assert!(book.take_back(entry, range(30, 80)));
        let rows: Vec<ByteRange> = book.rows(entry).iter().map(|row| row.range).collect();
        let rows: RangeSet = rows.into_iter().collect();
        assert_eq!(rows, RangeSet::from_iter([range(30, 40), range(50, 100)]));
        assert!(!book.take_back(entry, range(30, 80)), "once");
        book.forget(entry);
        assert!(!book.has(entry) && !book.take_back(entry, range(0, 100)));
    }
}
