//! What the index holds and how each write changes it, without locks.

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_ports::{
    ChunkStoreError, EntryRecord, GenerationRecord, JobRange, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite,
};

const NO_ENTRY: ChunkStoreError = ChunkStoreError::Missing { what: "entry" };
const NO_GENERATION: ChunkStoreError = ChunkStoreError::Missing { what: "generation" };

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Numbers given so far; a removed one is not given again.
    last_entry: u64,
    last_generation: u64,
    entries: BTreeMap<EntryId, Entry>,
    ids: BTreeMap<Arc<CacheKey>, EntryId>,
    generations: BTreeMap<GenerationId, Arc<GenerationRecord>>,
    segments: BTreeMap<(GenerationId, u32), Arc<SegmentRecord>>,
    jobs: BTreeMap<EntryId, Arc<[JobRange]>>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Arc<CacheKey>,
    pinned: bool,
    accessed_unix: i64,
    current: Option<GenerationId>,
}

impl State {
    pub(crate) fn entries(&self) -> Vec<EntryRecord> {
        self.entries
            .iter()
            .map(|(&id, entry)| self.record(id, entry))
            .collect()
    }

    pub(crate) fn entry(&self, key: &CacheKey) -> Option<EntryRecord> {
        let id = *self.ids.get(key)?;
        self.entries.get(&id).map(|entry| self.record(id, entry))
    }

    pub(crate) fn ensure_entry(&mut self, key: &CacheKey, now_unix: i64) -> EntryRecord {
        if let Some(found) = self.entry(key) {
            return found;
        }
        self.last_entry += 1;
        let id = EntryId::new(self.last_entry);
        let entry = Entry {
            key: Arc::new(key.clone()),
            pinned: false,
            accessed_unix: now_unix,
            current: None,
        };
        let record = self.record(id, &entry);
        self.ids.insert(Arc::clone(&entry.key), id);
        self.entries.insert(id, entry);
        record
    }

    pub(crate) fn begin_generation(
        &mut self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        new.check()?;
        let owner = self.entries.get_mut(&entry).ok_or(NO_ENTRY)?;
        let same_nonce = self
            .generations
            .values()
            .find(|found| found.nonce == new.nonce);
        if let Some(found) = same_nonce {
            if found.entry != entry || found.segment_size != new.segment_size {
                return Err(ChunkStoreError::refused(
                    "a nonce belongs to one generation only",
                ));
            }
            owner.current = Some(found.id);
            return Ok(GenerationRecord::clone(found));
        }
        self.last_generation += 1;
        let id = GenerationId::new(self.last_generation);
        owner.current = Some(id);
        let record = GenerationRecord {
            id,
            entry,
            representation: new.representation,
            accepts_ranges: new.accepts_ranges,
            segment_size: new.segment_size,
            nonce: new.nonce,
            freshness: new.freshness,
            recorded_bytes: 0,
        };
        self.generations.insert(id, Arc::new(record.clone()));
        Ok(record)
    }

    pub(crate) fn segments(&self, generation: GenerationId) -> Vec<SegmentSummary> {
        self.segments_of(generation)
            .map(|row| SegmentSummary {
                segment: row.segment,
                epoch: row.epoch,
                blocks: row.blocks.clone(),
                recorded_bytes: row.recorded_bytes,
                accessed_unix: row.accessed_unix,
            })
            .collect()
    }

    pub(crate) fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Option<Arc<SegmentRecord>> {
        self.segments.get(&(generation, segment)).cloned()
    }

    pub(crate) fn retired_generations(&self) -> Vec<GenerationId> {
        self.generations
            .values()
            .filter(|generation| {
                self.entries
                    .get(&generation.entry)
                    .is_none_or(|owner| owner.current != Some(generation.id))
            })
            .map(|generation| generation.id)
            .collect()
    }

    pub(crate) fn jobs(&self) -> Vec<JobRecord> {
        let mut rows: Vec<_> = self
            .jobs
            .iter()
            .filter_map(|(&entry, jobs)| Some((entry, &self.entries.get(&entry)?.key, jobs)))
            .flat_map(|(entry, key, jobs)| {
                jobs.iter().map(move |&job| JobRecord {
                    entry,
                    key: Arc::clone(key),
                    job,
                })
            })
            .collect();
        rows.sort_by_key(|row| (row.job.sequence, row.entry, row.job.range.start()));
        rows
    }

    pub(crate) fn apply(&mut self, write: StoreWrite) -> Result<(), ChunkStoreError> {
        match write {
            StoreWrite::RecordSegment(row) => self.record_segment(row),
            StoreWrite::RemoveSegments {
                generation,
                segments,
            } => {
                for segment in segments {
                    let removed = self.segments.remove(&(generation, segment));
                    self.count_recorded(generation, removed, 0);
                }
                Ok(())
            }
            StoreWrite::RemoveGeneration(generation) => {
                self.remove_generation(generation);
                Ok(())
            }
            StoreWrite::RemoveEntry(entry) => {
                self.remove_entry(entry);
                Ok(())
            }
            StoreWrite::SetLength {
                generation,
                total_len,
            } => self.set_length(generation, total_len),
            StoreWrite::Refresh {
                generation,
                freshness,
            } => {
                self.generation_mut(generation)?.freshness = freshness;
                Ok(())
            }
            StoreWrite::Touch {
                entry,
                generation,
                segments,
                at_unix,
            } => self.touch(entry, generation, &segments, at_unix),
            StoreWrite::Pin { entry, pinned } => {
                self.entries.get_mut(&entry).ok_or(NO_ENTRY)?.pinned = pinned;
                Ok(())
            }
            StoreWrite::ReplaceJobs { entry, jobs } => self.replace_jobs(entry, jobs),
            _ => Err(ChunkStoreError::refused(
                "a kind of write that this index does not know",
            )),
        }
    }

    fn record_segment(&mut self, row: SegmentRecord) -> Result<(), ChunkStoreError> {
        let owner = self.generations.get(&row.generation).ok_or(NO_GENERATION)?;
        row.check(owner.segment_size, owner.representation.total_len)?;
        let (generation, bytes) = (row.generation, row.recorded_bytes);
        let replaced = self
            .segments
            .insert((generation, row.segment), Arc::new(row));
        self.count_recorded(generation, replaced, bytes);
        Ok(())
    }

    fn remove_generation(&mut self, generation: GenerationId) {
        if let Some(removed) = self.generations.remove(&generation)
            && let Some(owner) = self.entries.get_mut(&removed.entry)
            && owner.current == Some(generation)
        {
            owner.current = None;
        }
        self.segments.retain(|&(owner, _), _| owner != generation);
    }

    fn remove_entry(&mut self, entry: EntryId) {
        if let Some(removed) = self.entries.remove(&entry) {
            self.ids.remove(&removed.key);
        }
        let generations: Vec<_> = self
            .generations
            .values()
            .filter(|generation| generation.entry == entry)
            .map(|generation| generation.id)
            .collect();
        for generation in generations {
            self.remove_generation(generation);
        }
        self.jobs.remove(&entry);
    }

    fn set_length(
        &mut self,
        generation: GenerationId,
        total_len: u64,
    ) -> Result<(), ChunkStoreError> {
        NewGeneration::check_length(total_len)?;
        let representation = &mut self.generation_mut(generation)?.representation;
        match representation.total_len {
            Some(known) if known != total_len => Err(ChunkStoreError::refused(
                "the length of a generation is set once",
            )),
            _ => {
                representation.total_len = Some(total_len);
                Ok(())
            }
        }
    }

    fn touch(
        &mut self,
        entry: EntryId,
        generation: GenerationId,
        segments: &[u32],
        at_unix: i64,
    ) -> Result<(), ChunkStoreError> {
        let owner = self.entries.get_mut(&entry).ok_or(NO_ENTRY)?;
        let touched = self.generations.get(&generation).ok_or(NO_GENERATION)?;
        if touched.entry != entry {
            return Err(ChunkStoreError::refused(
                "a reading is noted with the entry of its generation",
            ));
        }
        owner.accessed_unix = at_unix;
        for &segment in segments {
            if let Some(row) = self.segments.get_mut(&(generation, segment)) {
                Arc::make_mut(row).accessed_unix = at_unix;
            }
        }
        Ok(())
    }

    fn replace_jobs(&mut self, entry: EntryId, jobs: Vec<JobRange>) -> Result<(), ChunkStoreError> {
        JobRange::check_all(&jobs)?;
        if jobs.is_empty() {
            self.jobs.remove(&entry);
            return Ok(());
        }
        if !self.entries.contains_key(&entry) {
            return Err(NO_ENTRY);
        }
        self.jobs.insert(entry, jobs.into());
        Ok(())
    }

    fn record(&self, id: EntryId, entry: &Entry) -> EntryRecord {
        EntryRecord {
            id,
            key: Arc::clone(&entry.key),
            pinned: entry.pinned,
            accessed_unix: entry.accessed_unix,
            current: entry
                .current
                .and_then(|current| self.generations.get(&current))
                .map(|current| GenerationRecord::clone(current)),
        }
    }

    fn segments_of(
        &self,
        generation: GenerationId,
    ) -> impl Iterator<Item = &Arc<SegmentRecord>> + '_ {
        self.segments
            .range((generation, 0)..=(generation, u32::MAX))
            .map(|(_, row)| row)
    }

    fn generation_mut(
        &mut self,
        generation: GenerationId,
    ) -> Result<&mut GenerationRecord, ChunkStoreError> {
        self.generations
            .get_mut(&generation)
            .map(Arc::make_mut)
            .ok_or(NO_GENERATION)
    }

    /// `gone` is no longer a row of the generation, and `bytes` are new in it.
    fn count_recorded(
        &mut self,
        generation: GenerationId,
        gone: Option<Arc<SegmentRecord>>,
        bytes: u64,
    ) {
        let gone = gone.map_or(0, |row| row.recorded_bytes);
        if let Ok(record) = self.generation_mut(generation) {
            record.recorded_bytes = record.recorded_bytes.saturating_sub(gone) + bytes;
        }
    }
}
