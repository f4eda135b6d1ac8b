//! The store: which connection answers what.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use chunk_core::{CacheKey, EntryId, GenerationId};
use chunk_ports::{
    ChunkStore, ChunkStoreError, EntryRecord, GenerationRecord, JobRecord, NewGeneration,
    SegmentRecord, SegmentSummary, StoreWrite, Tally, TallyStore,
};
use sqlx::query;
use sqlx::sqlite::SqliteRow;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use crate::batch::{self, NO_ENTRY};
use crate::connection::{Connection, Counters, Query, Statistics};
use crate::error::closed;
use crate::options::Durability;
use crate::reserve::{For, Reserve};
use crate::{open, rows, statements};

/// After so many changes the log is moved into the main file: some 3 to 6 MiB of it.
const CHANGES_PER_CHECKPOINT: u64 = 2_000;

/// An index in one SQLite file, or in memory.
///
/// One connection writes; a few others read, and see what was committed before they began. No timer is
/// involved, so a runtime's paused clock disturbs nothing here (but SQLite works in threads of its own,
/// which such a clock does not wait for).
#[derive(Debug)]
pub struct SqliteChunkStore {
    /// Empty once closed, as are the readers.
    writer: Mutex<Option<Connection>>,
    readers: Box<[Arc<Mutex<Option<Connection>>>]>,
    next_reader: AtomicUsize,
    counters: Arc<Counters>,
    /// How many changes there had been when the log was last moved into the main file.
    moved: AtomicU64,
    durability: Durability,
    /// The file whose presence tells the next start to check everything.
    suspicion: Option<PathBuf>,
    reserve: std::sync::Mutex<Reserve>,
}

impl SqliteChunkStore {
    pub(crate) fn new(
        writer: Connection,
        readers: Vec<Connection>,
        counters: Arc<Counters>,
        durability: Durability,
        suspicion: Option<PathBuf>,
    ) -> Self {
        Self {
            writer: Mutex::new(Some(writer)),
            readers: readers
                .into_iter()
                .map(|reader| Arc::new(Mutex::new(Some(reader))))
                .collect(),
            next_reader: AtomicUsize::new(0),
            counters,
            moved: AtomicU64::new(0),
            durability,
            suspicion,
            reserve: std::sync::Mutex::default(),
        }
    }

    pub(crate) fn with_reserve(mut self, reserve: Reserve) -> Self {
        self.reserve = std::sync::Mutex::new(reserve);
        self
    }

    /// What was asked of SQLite since the store was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.counters.statistics()
    }

    /// Moves everything into the main file and lets go of it. Every later call fails with
    /// [`ChunkStoreError::Unavailable`]. Without it nothing is lost; the next start is a little slower.
    ///
    /// # Errors
    /// The first thing that went wrong; the file is let go of all the same.
    pub async fn close(&self) -> Result<(), ChunkStoreError> {
        let mut outcome = Ok(());
        for reader in &self.readers {
            if let Some(reader) = reader.lock().await.take() {
                outcome = outcome.and(reader.close().await);
            }
        }
        if let Some(mut writer) = self.writer.lock().await.take() {
            writer.settle().await;
            let moved = writer.fetch(query(statements::CHECKPOINT)).await;
            outcome = outcome.and(moved.map(drop)).and(writer.close().await);
        }
        outcome
    }

    /// Checks every page and index of the database, not the bytes it tells of. Cost: O(rows).
    ///
    /// # Errors
    /// [`ChunkStoreError::Corrupt`] where something is wrong; the next start then sets the file aside.
    pub async fn check(&self) -> Result<(), ChunkStoreError> {
        let checked = match self.read(query(statements::CHECK_EVERYTHING)).await {
            Ok(rows) => rows::verdict(&rows),
            Err(error) => Err(error),
        };
        self.noted(checked)
    }

    /// Moves the log into the main file from time to time, which waits for the disk: in the thread of a reader, so that
    /// neither this commit nor who opens a film meanwhile waits for it too. Where no reader is free the next commit
    /// tries again; where that goes on, the writer does it at its own limit.
    fn checkpoint_aside(&self) {
        let changes = self.counters.changes();
        let since = changes.saturating_sub(self.moved.load(Ordering::Relaxed));
        if since < CHANGES_PER_CHECKPOINT {
            return;
        }
        let mut free = self.readers.iter().rev();
        let free = free.find_map(|reader| Arc::clone(reader).try_lock_owned().ok());
        let (Some(mut reader), Ok(runtime)) = (free, Handle::try_current()) else {
            return;
        };
        self.moved.store(changes, Ordering::Relaxed);
        runtime.spawn(async move {
            if let Some(reader) = reader.as_mut() {
                // What fails, on a full disk for one, stays in the log, and is tried again.
                let _ = reader.fetch(query(statements::CHECKPOINT_ASIDE)).await;
            }
        });
    }

    async fn write(&self) -> Writing<'_> {
        let guard = self.writer.lock().await;
        let writing = Writing { store: self, guard };
        // What is lacking for removals comes before what would be added.
        writing.reserve().fill();
        writing
    }

    /// Reads on the first free reader, or waits for the one whose turn it is.
    async fn read(&self, query: Query) -> Result<Vec<SqliteRow>, ChunkStoreError> {
        let turn = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let free = self
            .readers
            .iter()
            .find_map(|reader| reader.try_lock().ok());
        let mut guard = match (free, turn.checked_rem(self.readers.len())) {
            (Some(guard), _) => guard,
            (None, Some(turn)) => match self.readers.get(turn) {
                Some(reader) => reader.lock().await,
                None => self.writer.lock().await,
            },
            (None, None) => self.writer.lock().await,
        };
        let connection = guard.as_mut().ok_or_else(closed)?;
        // The writer answers where there is no reader, and must not show a transaction that was left open.
        connection.settle().await;
        connection.fetch(query).await
    }

    async fn read_entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        let rows = self.read(by_key(statements::ENTRY_BY_KEY, key)).await?;
        rows.first().map(rows::entry).transpose()
    }

    async fn add_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        let mut writing = self.write().await;
        loop {
            // Who opens a film waits for this, and what refers to the entry is committed after it: a power cut takes
            // the entry only with all of that.
            let writer = writing.guard.as_mut().ok_or_else(closed)?;
            let add = by_key(statements::ADD_ENTRY, key).bind(now_unix);
            let outcome = writer.fetch_at_once(add, 5).await;
            let outcome = writer.end(outcome).await;
            if !writing.has_more_room_after(&outcome, For::NewFiles) {
                return rows::entry(outcome?.first().ok_or(NO_ENTRY)?);
            }
        }
    }

    /// Leaves word for the next start where the database turned out to be damaged. A start reads the
    /// entries only, and would not find damage among the chunks; so it would be met again and again.
    fn noted<T>(&self, outcome: Result<T, ChunkStoreError>) -> Result<T, ChunkStoreError> {
        if let (Err(ChunkStoreError::Corrupt(_)), Some(suspicion)) = (&outcome, &self.suspicion) {
            // If even this fails, the damage is met again, and reported again.
            let _ = open::open_private(suspicion);
        }
        outcome
    }
}

#[async_trait]
impl ChunkStore for SqliteChunkStore {
    async fn entries(&self) -> Result<Vec<EntryRecord>, ChunkStoreError> {
        let rows = self.read(query(statements::ENTRIES)).await;
        self.noted(rows.and_then(|rows| rows.iter().map(rows::entry).collect()))
    }

    async fn entry(&self, key: &CacheKey) -> Result<Option<EntryRecord>, ChunkStoreError> {
        self.noted(self.read_entry(key).await)
    }

    async fn ensure_entry(
        &self,
        key: &CacheKey,
        now_unix: i64,
    ) -> Result<EntryRecord, ChunkStoreError> {
        self.noted(self.add_entry(key, now_unix).await)
    }

    async fn begin_generation(
        &self,
        entry: EntryId,
        new: NewGeneration,
    ) -> Result<GenerationRecord, ChunkStoreError> {
        new.check()?;
        let mut writing = self.write().await;
        loop {
            let writer = writing.begin(Durability::PowerCut).await?;
            let outcome = begin_generation(writer, entry, new.clone()).await;
            let outcome = writer.end(outcome).await;
            if !writing.has_more_room_after(&outcome, For::NewFiles) {
                return self.noted(outcome);
            }
        }
    }

    async fn segments(
        &self,
        generation: GenerationId,
    ) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
        let ask = query(statements::SEGMENTS).bind(rows::id(generation.get()));
        let rows = self.read(ask).await;
        self.noted(rows.and_then(|rows| {
            let summaries = rows.first().map(rows::summaries).transpose()?;
            Ok(summaries.unwrap_or_default())
        }))
    }

    async fn segment(
        &self,
        generation: GenerationId,
        segment: u32,
    ) -> Result<Option<SegmentRecord>, ChunkStoreError> {
        let ask = query(statements::SEGMENT)
            .bind(rows::id(generation.get()))
            .bind(segment);
        let rows = self.read(ask).await;
        self.noted(rows.and_then(|rows| rows.first().map(rows::segment).transpose()))
    }

    async fn retired_generations(&self) -> Result<Vec<GenerationId>, ChunkStoreError> {
        let rows = self.read(query(statements::RETIRED)).await;
        self.noted(rows.and_then(|rows| {
            rows.iter()
                .map(|row| rows::unsigned(row, "generation_id").map(GenerationId::new))
                .collect()
        }))
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, ChunkStoreError> {
        let rows = self.read(query(statements::JOBS)).await;
        self.noted(rows.and_then(|rows| rows.iter().map(rows::job).collect()))
    }

    async fn commit(&self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let is_removal = writes.iter().all(only_removes);
        let mut writing = self.write().await;
        let outcome = if is_removal {
            loop {
                let outcome = writing.apply(writes.clone()).await;
                if !writing.has_more_room_after(&outcome, For::Removals) {
                    break outcome;
                }
            }
        } else {
            writing.apply(writes).await
        };
        drop(writing);
        self.checkpoint_aside();
        self.noted(outcome)
    }
}

#[async_trait]
impl TallyStore for SqliteChunkStore {
    async fn tally(&self) -> Result<Tally, ChunkStoreError> {
        let rows = self.read(query(statements::TALLY)).await;
        self.noted(rows.and_then(|rows| {
            let tally = rows.first().map(rows::tally).transpose()?;
            Ok(tally.unwrap_or_default())
        }))
    }

    async fn keep_tally(&self, tally: Tally) -> Result<(), ChunkStoreError> {
        let mut writing = self.write().await;
        let writer = writing.begin(Durability::ProcessCrash).await?;
        let outcome = writer.change(rows::keep_tally(&tally)).await.map(drop);
        self.noted(writer.end(outcome).await)
    }
}

/// Whether a write can only make the index smaller.
fn only_removes(write: &StoreWrite) -> bool {
    match write {
        StoreWrite::RemoveSegments { .. }
        | StoreWrite::RemoveGeneration(_)
        | StoreWrite::RemoveEntry(_) => true,
        StoreWrite::ReplaceJobs { jobs, .. } => jobs.is_empty(),
        _ => false,
    }
}

/// The right to write, for as long as this lives.
struct Writing<'a> {
    store: &'a SqliteChunkStore,
    guard: MutexGuard<'a, Option<Connection>>,
}

impl Writing<'_> {
    /// Begins a transaction that survives `durability`, or what the store was opened with, if that is more.
    async fn begin(&mut self, durability: Durability) -> Result<&mut Connection, ChunkStoreError> {
        let durability = match self.store.durability {
            Durability::ProcessCrash => durability,
            Durability::PowerCut => Durability::PowerCut,
        };
        let writer = self.guard.as_mut().ok_or_else(closed)?;
        writer.begin(durability).await?;
        Ok(writer)
    }

    /// Applies writes in a transaction that survives what the store was opened with.
    async fn apply(&mut self, writes: Vec<StoreWrite>) -> Result<(), ChunkStoreError> {
        let writer = self.guard.as_mut().ok_or_else(closed)?;
        let outcome = batch::apply(writer, self.store.durability, writes).await;
        writer.end(outcome).await
    }

    /// Whether it is worth doing again: the disk was full, and a part of the reserve has been given up. Each
    /// time there is more room, for others may take it first.
    fn has_more_room_after<T>(&self, outcome: &Result<T, ChunkStoreError>, purpose: For) -> bool {
        matches!(outcome, Err(ChunkStoreError::Full(_))) && self.reserve().give(purpose)
    }

    /// Locked only by who writes: nobody else takes back what was given up before it is used.
    fn reserve(&self) -> std::sync::MutexGuard<'_, Reserve> {
        self.store
            .reserve
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn begin_generation(
    writer: &mut Connection,
    entry: EntryId,
    new: NewGeneration,
) -> Result<GenerationRecord, ChunkStoreError> {
    let owner = rows::id(entry.get());
    let ask = query(statements::ENTRY_EXISTS).bind(owner);
    if writer.fetch(ask).await?.is_empty() {
        return Err(NO_ENTRY);
    }
    let nonce = rows::number(new.nonce)?;
    let rows = writer
        .fetch(query(statements::GENERATION_BY_NONCE).bind(nonce))
        .await?;
    let known = rows.first().map(rows::generation).transpose()?;
    writer
        .change(query(statements::RETIRE_CURRENT).bind(owner))
        .await?;
    if let Some(known) = known {
        if known.entry != entry || known.segment_size != new.segment_size {
            return Err(ChunkStoreError::refused(
                "a nonce belongs to one generation only",
            ));
        }
        writer
            .change(query(statements::MAKE_CURRENT).bind(rows::id(known.id.get())))
            .await?;
        return Ok(known);
    }
    let representation = &new.representation;
    let add = query(statements::ADD_GENERATION)
        .bind(owner)
        .bind(nonce)
        .bind(representation.total_len.map(rows::number).transpose()?)
        .bind(
            representation
                .etag
                .as_ref()
                .map(|tag| tag.as_str().to_owned()),
        )
        .bind(representation.last_modified.map(|time| time.unix_seconds))
        .bind(representation.last_modified.map(|time| time.is_strong))
        .bind(representation.content_type.as_deref().map(str::to_owned))
        .bind(new.accepts_ranges)
        .bind(rows::number(new.segment_size)?)
        .bind(new.freshness.validated_unix)
        .bind(new.freshness.fresh_until_unix)
        .bind(new.freshness.must_revalidate);
    let rows = writer.fetch(add).await?;
    let added = rows.first().ok_or(NO_ENTRY)?;
    Ok(GenerationRecord {
        id: GenerationId::new(rows::unsigned(added, "generation_id")?),
        entry,
        representation: new.representation,
        accepts_ranges: new.accepts_ranges,
        segment_size: new.segment_size,
        nonce: new.nonce,
        freshness: new.freshness,
        recorded_bytes: 0,
    })
}

fn by_key(sql: &'static str, key: &CacheKey) -> Query {
    query(sql)
        .bind(key.origin().to_owned())
        .bind(key.path().to_owned())
        .bind(key.query().to_owned())
        .bind(key.partition().to_owned())
}
