//! Putting a manager together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chunk_core::scheduler::Config;
use chunk_core::{ChunkSize, ReadAheadPolicy};
use chunk_ports::{
    ByteStore, CacheEvent, ChunkFetcher, ChunkStore, Clock, EventSink, Resource, TallyStore,
};
use tokio::sync::mpsc;

use crate::clock::TokioClock;
use crate::driver::Driver;
use crate::error::StartError;
use crate::inner::{Inner, Parts};
use crate::manager::ChunkManager;
use crate::options::Limits;
use crate::origins::Origins;
use crate::tallying::Tallying;
use crate::timely::Timely;
use crate::timely_bytes::TimelyBytes;

/// The parts of a [`ChunkManager`] and its settings.
#[derive(Debug)]
pub struct Builder {
    store: Arc<dyn ChunkStore>,
    bytes: Arc<dyn ByteStore>,
    fetcher: Arc<dyn ChunkFetcher>,
    events: Arc<dyn EventSink>,
    tally: Option<Arc<dyn TallyStore>>,
    clock: Option<Arc<dyn Clock>>,
    chunk_size: ChunkSize,
    limits: Limits,
    origin_rates: BTreeMap<String, u64>,
    immutable: BTreeSet<String>,
    moved: BTreeSet<String>,
    fill: bool,
    scrub: bool,
    is_resting: bool,
}

impl Builder {
    pub(crate) fn new(
        store: Arc<dyn ChunkStore>,
        bytes: Arc<dyn ByteStore>,
        fetcher: Arc<dyn ChunkFetcher>,
    ) -> Self {
        Self {
            store,
            bytes,
            fetcher,
            events: Arc::new(Unheard),
            tally: None,
            clock: None,
            chunk_size: ChunkSize::DEFAULT,
            limits: Limits::default(),
            origin_rates: BTreeMap::new(),
            immutable: BTreeSet::new(),
            moved: BTreeSet::new(),
            fill: false,
            scrub: false,
            is_resting: false,
        }
    }

    /// Where events go; nowhere by default.
    #[must_use]
    pub fn events(mut self, events: Arc<dyn EventSink>) -> Self {
        self.events = events;
        self
    }

    /// Where what is counted is kept, so that it outlives the process; nowhere by default.
    #[must_use]
    pub fn tally(mut self, tally: Arc<dyn TallyStore>) -> Self {
        self.tally = Some(tally);
        self
    }

    /// The clock; tokio's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The chunk size of the API and of what is cached from now on; 10 MiB by default. What is cached
    /// already stays valid whatever its size.
    #[must_use]
    pub const fn chunk_size(mut self, chunk_size: ChunkSize) -> Self {
        self.chunk_size = chunk_size;
        self
    }

    /// Limits, which can be changed later.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The most bytes a second to fetch in the background from the origin of that name, whatever the limit for
    /// all of them is.
    #[must_use]
    pub fn origin_background_rate(mut self, origin: impl Into<String>, rate: u64) -> Self {
        self.origin_rates.insert(origin.into(), rate);
        self
    }

    /// The files of the origin of that name never change: what is cached of one is continued although the origin
    /// says nothing by which it could be told from another.
    #[must_use]
    pub fn immutable_origin(mut self, origin: impl Into<String>) -> Self {
        self.immutable.insert(origin.into());
        self
    }

    /// The origin of that name is at another place than when the index was last used: nothing that came from the
    /// former one is used again. Pins and durable requests stand.
    #[must_use]
    pub fn moved_origin(mut self, origin: impl Into<String>) -> Self {
        self.moved.insert(origin.into());
        self
    }

    /// Whether the rest of a file is fetched at LOW while somebody reads it; off by default.
    #[must_use]
    pub const fn fill(mut self, fill: bool) -> Self {
        self.fill = fill;
        self
    }

    /// Whether every recorded block is checked once a day in the background; off by default.
    #[must_use]
    pub const fn scrub(mut self, scrub: bool) -> Self {
        self.scrub = scrub;
        self
    }

    /// A manager that does what it is asked to and nothing by itself: durable requests stay where they are, and
    /// nothing is evicted for limits that are lower than what is there. For who only looks.
    #[must_use]
    pub const fn resting(mut self) -> Self {
        self.is_resting = true;
        self
    }

    /// Starts the manager inside the present tokio runtime: reads entry summaries, removes what nothing
    /// refers to any more, and takes durable requests up again. Takes time in proportion to the number
    /// of entries, not of chunks.
    ///
    /// # Errors
    /// [`StartError`] where a store cannot be read.
    pub async fn start(self) -> Result<ChunkManager, StartError> {
        let (commands, received) = mpsc::unbounded_channel();
        let config = scheduler_config(&self.limits, self.chunk_size);
        let (origins, told) = Origins::new(self.immutable, self.origin_rates);
        let clock = self.clock.unwrap_or_else(|| Arc::new(TokioClock::new()));
        let inner = Arc::new(Inner::new(Parts {
            store: Arc::new(Timely::new(self.store, Arc::clone(&clock))),
            bytes: Arc::new(TimelyBytes::new(self.bytes, Arc::clone(&clock))),
            fetcher: self.fetcher,
            events: self.events,
            clock,
            chunk_size: self.chunk_size,
            fill: self.fill,
            limits: self.limits,
            origins,
            tallying: Tallying::new(self.tally.clone()),
            commands,
        }));
        for input in told {
            inner.tell(input);
        }
        recover(&inner, &self.moved).await?;
        inner.recall_tally().await;
        let driver = Driver::new(Arc::clone(&inner), config, received);
        tokio::spawn(driver.drive());
        let recorder = tokio::spawn(Arc::clone(&inner).keep_recording());
        if !self.is_resting {
            tokio::spawn(Arc::clone(&inner).keep_orders());
            resume(&inner).await;
            // The cap may have been lowered since the last start.
            inner.evict_excess().await;
        }
        let mut helpers = Vec::new();
        if self.tally.is_some() {
            helpers.push(tokio::spawn(Arc::clone(&inner).keep_tallying()).abort_handle());
        }
        let manager = ChunkManager::new(inner, recorder.abort_handle());
        if self.scrub {
            helpers.push(tokio::spawn(manager.clone().keep_scrubbing()).abort_handle());
        }
        Ok(manager.alive(helpers))
    }
}

/// What the scheduler is to do under `limits`.
pub(crate) fn scheduler_config(limits: &Limits, chunk_size: ChunkSize) -> Config {
    let read_ahead = ReadAheadPolicy::DEFAULT
        .with_seconds(limits.read_ahead)
        .with_initial(limits.initial_buffer);
    Config::default()
        .with_max_runs(limits.max_downloads)
        .with_max_connections(limits.max_connections)
        .with_chunk_size(chunk_size)
        .with_read_ahead(read_ahead)
        .with_background_rate(limits.background_rate)
        .with_metered(limits.metered)
}

/// Reads summaries and removes orphans: bytes without rows, rows of retired generations, and what came from
/// where an origin in `moved` was before.
async fn recover(inner: &Arc<Inner>, moved: &BTreeSet<String>) -> Result<(), StartError> {
    let mut entries = inner.store.entries().await?;
    let jobs = inner.store.jobs().await?;
    inner.jobs().restore(jobs);
    for entry in &mut entries {
        if moved.contains(entry.key.origin()) {
            inner.begin_anew(entry).await?;
        }
    }
    let mut known = BTreeSet::new();
    for entry in &entries {
        inner.keys.remember(entry.id, Arc::clone(&entry.key));
        known.extend(entry.current.as_ref().map(|current| current.id));
        inner.space.found(entry);
    }
    for generation in inner.store.retired_generations().await? {
        inner
            .store
            .commit(vec![chunk_ports::StoreWrite::RemoveGeneration(generation)])
            .await?;
    }
    for generation in inner.bytes.generations().await? {
        if !known.contains(&generation) {
            inner.bytes.remove_generation(generation).await?;
        }
    }
    // Their sequence begins anew, so all are written anew: old numbers would come after new ones.
    for entry in inner.jobs().entries() {
        inner.dirty.mark_jobs(entry);
    }
    // A process that was killed may have left entries of which nothing was ever known.
    let unused: Vec<chunk_ports::StoreWrite> = entries
        .iter()
        .filter(|entry| entry.current.is_none() && !entry.pinned)
        .filter(|entry| inner.jobs().rows(entry.id).is_empty())
        .map(|entry| chunk_ports::StoreWrite::RemoveEntry(entry.id))
        .collect();
    if !unused.is_empty() {
        inner.store.commit(unused).await?;
    }
    Ok(())
}

/// Takes up durable requests where they stood.
async fn resume(inner: &Arc<Inner>) {
    let entries = inner.jobs().entries();
    for entry in entries {
        let Some(key) = inner.keys.of(entry) else {
            continue;
        };
        if let Ok(live) = inner.live(&Resource::from_key(key)).await {
            inner.resume_jobs(&live);
        }
    }
}

/// An event sink for those who want no events.
#[derive(Debug)]
struct Unheard;

impl EventSink for Unheard {
    fn publish(&self, _event: CacheEvent) {}
}
