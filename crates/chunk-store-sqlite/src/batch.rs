//! A commit's writes, in order, with as few statements as their kinds allow.

use std::collections::BTreeMap;

use chunk_core::{EntryId, GenerationId};
use chunk_ports::{ChunkStoreError, JobRange, NewGeneration, SegmentRecord, StoreWrite};
use sqlx::query;

use crate::connection::Connection;
use crate::rows::{self, Shape};
use crate::statements::{self, ROWS_PER_STATEMENT};

pub(crate) const NO_ENTRY: ChunkStoreError = ChunkStoreError::Missing { what: "entry" };
const NO_GENERATION: ChunkStoreError = ChunkStoreError::Missing { what: "generation" };

/// Applies `writes` inside the transaction that `writer` has begun.
pub(crate) async fn apply(
    writer: &mut Connection,
    writes: Vec<StoreWrite>,
) -> Result<(), ChunkStoreError> {
    let mut batch = Batch {
        writer,
        shapes: BTreeMap::new(),
        segments: Vec::new(),
    };
    for write in writes {
        batch.apply(write).await?;
    }
    batch.flush_segments().await
}

struct Batch<'a> {
    writer: &'a mut Connection,
    /// Generations this batch has looked up: one statement each, however many of their rows it writes.
    shapes: BTreeMap<GenerationId, Shape>,
    /// Segments checked and not yet written: consecutive ones share a statement.
    segments: Vec<SegmentRecord>,
}

impl Batch<'_> {
    async fn apply(&mut self, write: StoreWrite) -> Result<(), ChunkStoreError> {
        if let StoreWrite::RecordSegment(row) = write {
            return self.record_segment(row).await;
        }
        self.flush_segments().await?;
        match write {
            StoreWrite::RemoveSegments {
                generation,
                segments,
            } => {
                let remove = query(statements::REMOVE_SEGMENTS)
                    .bind(rows::id(generation.get()))
                    .bind(rows::list(&segments));
                self.writer.change(remove).await.map(drop)
            }
            StoreWrite::RemoveGeneration(generation) => {
                self.shapes.remove(&generation);
                let remove = query(statements::REMOVE_GENERATION).bind(rows::id(generation.get()));
                self.writer.change(remove).await.map(drop)
            }
            StoreWrite::RemoveEntry(entry) => {
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
        let shape = self.shape(row.generation).await?;
        row.check(shape.segment_size, shape.total_len)?;
        self.segments.push(row);
        if self.segments.len() >= ROWS_PER_STATEMENT {
            self.flush_segments().await?;
        }
        Ok(())
    }

    async fn flush_segments(&mut self) -> Result<(), ChunkStoreError> {
        let Some(sql) = statements::record_segments(self.segments.len()) else {
            return Ok(());
        };
        let mut record = query(sql);
        for row in self.segments.drain(..) {
            record = record
                .bind(rows::id(row.generation.get()))
                .bind(row.segment)
                .bind(row.epoch)
                .bind(rows::number(row.extent.start())?)
                .bind(rows::number(row.extent.last())?)
                .bind(rows::number(row.recorded_bytes)?)
                .bind(row.accessed_unix)
                .bind(row.blocks.as_bytes().to_vec())
                .bind(rows::checksum_bytes(&row.checksums));
        }
        self.writer.change(record).await.map(drop)
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
            .bind(rows::list(segments))
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
        let ask = query(statements::SHAPE).bind(rows::id(generation.get()));
        let rows = self.writer.fetch(ask).await?;
        let shape = rows::shape(rows.first().ok_or(NO_GENERATION)?)?;
        self.shapes.insert(generation, shape);
        Ok(shape)
    }
}

/// A write that names one row has changed one row, or what it names is not there.
fn found(rows: u64, missing: ChunkStoreError) -> Result<(), ChunkStoreError> {
    if rows == 0 { Err(missing) } else { Ok(()) }
}
