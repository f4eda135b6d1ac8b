//! A commit's writes, in order, with as few statements as their kinds allow.

use std::collections::BTreeMap;

use chunk_core::{EntryId, GenerationId};
use chunk_ports::{ChunkStoreError, JobRange, NewGeneration, SegmentRecord, StoreWrite};
use sqlx::query;

use crate::connection::{Connection, Query};
use crate::options::Durability;
use crate::rows::{self, Shape};
use crate::statements::{self, ROWS_PER_STATEMENT};

pub(crate) const NO_ENTRY: ChunkStoreError = ChunkStoreError::Missing { what: "entry" };
const NO_GENERATION: ChunkStoreError = ChunkStoreError::Missing { what: "generation" };

/// More generations than are being filled at a time.
const KNOWN_SHAPES: usize = 64;

/// Applies `writes` in one transaction of its own. Afterwards [`Connection::end`] is to be told the outcome.
pub(crate) async fn apply(
    writer: &mut Connection,
    durability: Durability,
    writes: Vec<StoreWrite>,
) -> Result<(), ChunkStoreError> {
    // What a batch leaves is what it found, if it is committed.
    let known = std::mem::take(&mut writer.shapes);
    let mut batch = Batch {
        writer,
        durability,
        is_begun: false,
        known,
        shapes: BTreeMap::new(),
        segments: BTreeMap::new(),
    };
    for write in writes {
        batch.apply(write).await?;
    }
    batch.write_the_rest_and_commit().await
}

struct Batch<'a> {
    writer: &'a mut Connection,
    durability: Durability,
    /// A batch of rows begins with the first look at a generation, or with its rows, in one journey to SQLite's thread.
    is_begun: bool,
    /// Generations that former batches have looked up. Somebody else may have removed one since: then its rows, which
    /// refer to it, cannot be written. Nothing but rows may rely on it.
    known: BTreeMap<GenerationId, Shape>,
    /// Generations this batch has looked up: one statement each, however many of their rows it writes.
    shapes: BTreeMap<GenerationId, Shape>,
    /// Segments checked and not yet written: those of a generation share a statement, and none is in it twice, since
    /// the sum is moved before they are written.
    segments: BTreeMap<GenerationId, BTreeMap<u32, SegmentRecord>>,
}

impl Batch<'_> {
    async fn apply(&mut self, write: StoreWrite) -> Result<(), ChunkStoreError> {
        if let StoreWrite::RecordSegment(row) = write {
            return self.record_segment(row).await;
        }
        self.begin().await?;
        self.write_segments().await?;
        match write {
            StoreWrite::RemoveSegments {
                generation,
                segments,
            } => {
                let remove = query(statements::REMOVE_SEGMENTS)
                    .bind(rows::id(generation.get()))
                    .bind(rows::list(segments));
                self.writer.change_in(remove, 2).await.map(drop)
            }
            StoreWrite::RemoveGeneration(generation) => {
                self.known.remove(&generation);
                self.shapes.remove(&generation);
                let remove = query(statements::REMOVE_GENERATION).bind(rows::id(generation.get()));
                self.writer.change(remove).await.map(drop)
            }
            StoreWrite::RemoveEntry(entry) => {
                self.known.retain(|_, shape| shape.entry != entry);
                self.shapes.retain(|_, shape| shape.entry != entry);
                let remove = query(statements::REMOVE_ENTRY).bind(rows::id(entry.get()));
                self.writer.change(remove).await.map(drop)
            }
            StoreWrite::SetLength {
                generation,
                total_len,
            } => self.set_length(generation, total_len).await,
            StoreWrite::Refresh {
                generation,
                freshness,
            } => {
                let refresh = query(statements::REFRESH)
                    .bind(rows::id(generation.get()))
                    .bind(freshness.validated_unix)
                    .bind(freshness.fresh_until_unix)
                    .bind(freshness.must_revalidate);
                found(self.writer.change(refresh).await?, NO_GENERATION)
            }
            StoreWrite::Touch {
                entry,
                generation,
                segments,
                at_unix,
            } => self.touch(entry, generation, &segments, at_unix).await,
            StoreWrite::Pin { entry, pinned } => {
                let pin = query(statements::PIN_ENTRY)
                    .bind(rows::id(entry.get()))
                    .bind(pinned);
                found(self.writer.change(pin).await?, NO_ENTRY)
            }
            StoreWrite::ReplaceJobs { entry, jobs } => self.replace_jobs(entry, &jobs).await,
            _ => Err(ChunkStoreError::refused(
                "a kind of write that this index does not know",
            )),
        }
    }

    async fn record_segment(&mut self, row: SegmentRecord) -> Result<(), ChunkStoreError> {
        let generation = row.generation;
        let shape = match self.known.get(&generation) {
            Some(&known) => known,
            None => self.shape(generation).await?,
        };
        row.check(shape.segment_size, shape.total_len)?;
        let rows = self.segments.entry(generation).or_default();
        // Only when there is one more: the last statement of a batch commits as well.
        let full = if rows.len() >= ROWS_PER_STATEMENT && !rows.contains_key(&row.segment) {
            std::mem::take(rows)
        } else {
            BTreeMap::new()
        };
        rows.insert(row.segment, row);
        self.write(generation, full).await
    }

    async fn write_segments(&mut self) -> Result<(), ChunkStoreError> {
        while let Some((generation, rows)) = self.segments.pop_first() {
            self.write(generation, rows).await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), ChunkStoreError> {
        if !self.is_begun {
            self.writer.begin(self.durability).await?;
            self.is_begun = true;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        generation: GenerationId,
        rows: BTreeMap<u32, SegmentRecord>,
    ) -> Result<(), ChunkStoreError> {
        let Some(sql) = statements::record_segments(rows.len()) else {
            return Ok(());
        };
        let record = recording(sql, generation, rows)?;
        self.begin().await?;
        let written = self.writer.change_in(record, 2).await;
        written.map(drop).map_err(without_generation)
    }

    async fn write_the_rest_and_commit(mut self) -> Result<(), ChunkStoreError> {
        let last = self.segments.pop_last();
        self.write_segments().await?;
        if let Some((generation, rows)) = last {
            self.write_and_commit(generation, rows).await?;
        }
        self.known.append(&mut self.shapes);
        self.known.retain(|_, shape| shape.total_len.is_some());
        while self.known.len() > KNOWN_SHAPES {
            // The oldest films first.
            self.known.pop_first();
        }
        self.writer.shapes = self.known;
        Ok(())
    }

    async fn write_and_commit(
        &mut self,
        generation: GenerationId,
        rows: BTreeMap<u32, SegmentRecord>,
    ) -> Result<(), ChunkStoreError> {
        let count = rows.len();
        let sql = if self.is_begun {
            statements::record_segments_and_commit(count)
        } else {
            statements::record_segments_at_once(count)
        };
        let Some(sql) = sql else {
            return Ok(());
        };
        let record = recording(sql, generation, rows)?;
        // The rows, and the sum.
        let changed = count as u64 + 1;
        let written = if self.is_begun {
            self.writer.change_and_commit(record, 3, changed).await
        } else {
            let durability = self.durability;
            self.writer
                .change_at_once(durability, record, 4, changed)
                .await
        };
        written.map_err(without_generation)
    }

    async fn set_length(
        &mut self,
        generation: GenerationId,
        total_len: u64,
    ) -> Result<(), ChunkStoreError> {
        NewGeneration::check_length(total_len)?;
        let shape = self.shape(generation).await?;
        if shape.total_len.is_some_and(|known| known != total_len) {
            return Err(ChunkStoreError::refused(
                "the length of a generation is set once",
            ));
        }
        self.shapes.remove(&generation);
        let set = query(statements::SET_LENGTH)
            .bind(rows::id(generation.get()))
            .bind(rows::number(total_len)?);
        found(self.writer.change(set).await?, NO_GENERATION)
    }

    async fn touch(
        &mut self,
        entry: EntryId,
        generation: GenerationId,
        segments: &[u32],
        at_unix: i64,
    ) -> Result<(), ChunkStoreError> {
        let touch = query(statements::TOUCH_ENTRY)
            .bind(rows::id(entry.get()))
            .bind(at_unix);
        found(self.writer.change(touch).await?, NO_ENTRY)?;
        if self.shape(generation).await?.entry != entry {
            return Err(ChunkStoreError::refused(
                "a reading is noted with the entry of its generation",
            ));
        }
        if segments.is_empty() {
            return Ok(());
        }
        let touch = query(statements::TOUCH_SEGMENTS)
            .bind(rows::id(generation.get()))
            .bind(rows::list(segments.iter().copied()))
            .bind(at_unix);
        self.writer.change(touch).await.map(drop)
    }

    async fn replace_jobs(
        &mut self,
        entry: EntryId,
        jobs: &[JobRange],
    ) -> Result<(), ChunkStoreError> {
        JobRange::check_all(jobs)?;
        let remove = query(statements::REMOVE_JOBS).bind(rows::id(entry.get()));
        self.writer.change(remove).await?;
        for part in jobs.chunks(ROWS_PER_STATEMENT) {
            let Some(sql) = statements::add_jobs(part.len()) else {
                continue;
            };
            let mut add = query(sql);
            for job in part {
                add = add
                    .bind(rows::id(entry.get()))
                    .bind(rows::number(job.range.start())?)
                    .bind(rows::number(job.range.last())?)
                    .bind(job.priority.as_u8())
                    .bind(rows::number(job.sequence)?);
            }
            self.writer.change(add).await.map_err(|error| match error {
                // The foreign key says it, which saves a statement that asks.
                ChunkStoreError::Missing { .. } => NO_ENTRY,
                other => other,
            })?;
        }
        Ok(())
    }

    async fn shape(&mut self, generation: GenerationId) -> Result<Shape, ChunkStoreError> {
        if let Some(&shape) = self.shapes.get(&generation) {
            return Ok(shape);
        }
        let ask = |sql| query(sql).bind(rows::id(generation.get()));
        let rows = if self.is_begun {
            self.writer.fetch(ask(statements::SHAPE)).await?
        } else {
            let ask = ask(statements::BEGIN_WITH_SHAPE);
            let rows = self.writer.begin_with(self.durability, ask).await?;
            self.is_begun = true;
            rows
        };
        let shape = rows::shape(rows.first().ok_or(NO_GENERATION)?)?;
        self.shapes.insert(generation, shape);
        Ok(shape)
    }
}

/// The foreign key says it of a generation that was known and has gone.
fn without_generation(error: ChunkStoreError) -> ChunkStoreError {
    match error {
        ChunkStoreError::Missing { .. } => NO_GENERATION,
        other => other,
    }
}

/// What moves the sum of a generation by these rows, and writes them.
fn recording(
    sql: &'static str,
    generation: GenerationId,
    rows: BTreeMap<u32, SegmentRecord>,
) -> Result<Query, ChunkStoreError> {
    let id = rows::id(generation.get());
    let sum = rows.values().map(|row| row.recorded_bytes).sum();
    let mut record = query(sql)
        .bind(rows::number(sum)?)
        .bind(id)
        .bind(rows::list(rows.keys().copied()))
        .bind(id);
    for row in rows.into_values() {
        record = record
            .bind(id)
            .bind(row.segment)
            .bind(row.epoch)
            .bind(rows::number(row.extent.start())?)
            .bind(rows::number(row.extent.last())?)
            .bind(rows::number(row.recorded_bytes)?)
            .bind(row.accessed_unix)
            .bind(row.blocks.as_bytes().to_vec())
            .bind(rows::checksum_bytes(&row.checksums));
    }
    Ok(record)
}

/// A write that names one row has changed one row, or what it names is not there.
fn found(rows: u64, missing: ChunkStoreError) -> Result<(), ChunkStoreError> {
    if rows == 0 { Err(missing) } else { Ok(()) }
}
