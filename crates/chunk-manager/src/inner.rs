//! What every part of the manager shares.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use chunk_core::scheduler::{Input, ReaderId, SourceId};
use chunk_core::{BLOCK_SIZE, ByteRange, CacheKey, ChunkSize, EntryId, GenerationId};
use chunk_ports::{
    ByteStore, ChunkFetcher, ChunkStore, ChunkStoreError, Clock, EntryRecord, EventSink,
    GenerationRecord, Resource, SegmentSummary,
};
use tokio::sync::{OnceCell, mpsc};

use crate::counters::Counters;
use crate::driver::Command;
use crate::error::ManagerError;
use crate::jobs::JobBook;
use crate::keys::Keys;
use crate::live::{Live, Reuse};
use crate::memory::MemoryBudget;
use crate::options::Limits;
use crate::origins::Origins;
use crate::reach::Reach;
use crate::recorder::Dirty;
use crate::space::Space;
use crate::tallying::Tallying;
use crate::timeline::{Happening, Ring};
use crate::timely::LOOK_UP;
use crate::turns::Turns;

/// The live representation of each key, one at a time; the cell makes loading it happen once.
///
/// It is looked at for every request, so that its hash is a fast one; that has a seed of its own in each process, and
/// what is in here is only what is open.
pub(crate) type Registry =
    HashMap<Arc<CacheKey>, Arc<OnceCell<Arc<Live>>>, foldhash::quality::RandomState>;

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn ChunkStore>,
    pub(crate) bytes: Arc<dyn ByteStore>,
    pub(crate) fetcher: Arc<dyn ChunkFetcher>,
    pub(crate) reach: Reach,
    pub(crate) origins: Origins,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chunk_size: ChunkSize,
    pub(crate) fill: bool,
    pub(crate) limits: RwLock<Limits>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) counters: Counters,
    pub(crate) tallying: Tallying,
    pub(crate) timeline: Ring,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) space: Space,
    pub(crate) dirty: Dirty,
    /// Held by whoever flushes and records: one at a time.
    pub(crate) recording: tokio::sync::Mutex<()>,
    /// Held while rows are built and committed, and while they are removed: an older row must neither
    /// replace a newer one nor come back. Never held during a flush, which may take long. Taken after a turn at an
    /// entry, after `recording`, and before a file's `writing`.
    pub(crate) rows: tokio::sync::Mutex<()>,
    pub(crate) jobs: Mutex<JobBook>,
    pub(crate) is_closed: AtomicBool,
    registry: Mutex<Registry>,
    /// Keys whose origin is known to have another representation than the index.
    suspects: Mutex<HashSet<Arc<CacheKey>>>,
    /// Representations that are no longer their entry's current one and may have readers yet.
    superseded: Mutex<Vec<Weak<Live>>>,
    pub(crate) turns: Turns,
    /// What entries are called, for those asked for by number, and which names there are.
    pub(crate) keys: Keys,
    next_reader: AtomicU64,
    next_source: AtomicU64,
    next_volatile: AtomicU64,
}

/// A generation with its segments, and what they are good for.
type Recorded = (GenerationRecord, Reuse, Vec<SegmentSummary>);

/// What an [`Inner`] is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn ChunkStore>,
    pub(crate) bytes: Arc<dyn ByteStore>,
    pub(crate) fetcher: Arc<dyn ChunkFetcher>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chunk_size: ChunkSize,
    pub(crate) fill: bool,
    pub(crate) limits: Limits,
    pub(crate) origins: Origins,
    pub(crate) tallying: Tallying,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

/// Says nothing of what it holds: handles that callers may print lead here, and from here one would come to
/// every payload in memory and to whatever an adapter prints of itself.
impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("chunk_size", &self.chunk_size)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            memory: Arc::new(MemoryBudget::new(parts.limits.memory)),
            space: Space::new(&parts.limits),
            timeline: Ring::new(parts.clock.now()),
            store: parts.store,
            bytes: parts.bytes,
            fetcher: parts.fetcher,
            reach: Reach::default(),
            origins: parts.origins,
            events: parts.events,
            clock: parts.clock,
            chunk_size: parts.chunk_size,
            fill: parts.fill,
            limits: RwLock::new(parts.limits),
            commands: parts.commands,
            counters: Counters::default(),
            tallying: parts.tallying,
            dirty: Dirty::default(),
            recording: tokio::sync::Mutex::new(()),
            rows: tokio::sync::Mutex::new(()),
            jobs: Mutex::new(JobBook::default()),
            is_closed: AtomicBool::new(false),
            registry: Mutex::default(),
            suspects: Mutex::new(HashSet::new()),
            superseded: Mutex::new(Vec::new()),
            turns: Turns::default(),
            keys: Keys::default(),
            next_reader: AtomicU64::new(1),
            next_source: AtomicU64::new(1),
            next_volatile: AtomicU64::new(0),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Hands a fact to the driver. After shutdown it is dropped, because nothing acts on it any more.
    pub(crate) fn tell(&self, input: Input) {
        drop(self.commands.send(Command::Input(input)));
    }

    /// Remembers that bytes count as missing because they could not be trusted.
    pub(crate) fn note_forgotten(&self, live: &Live, range: ByteRange) {
        let now = self.clock.now();
        self.timeline
            .note(now, &live.key, range, Happening::Forgotten);
    }

    pub(crate) fn check_open(&self) -> Result<(), ManagerError> {
        if self.is_closed.load(Ordering::Acquire) {
            Err(ManagerError::Closed)
        } else {
            Ok(())
        }
    }

    pub(crate) fn new_reader(&self) -> ReaderId {
        ReaderId::new(self.next_reader.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn new_source(&self) -> SourceId {
        SourceId::new(self.next_source.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for an entry that the index could not be asked about: above all that an index gives.
    pub(crate) fn volatile_entry(&self) -> EntryId {
        EntryId::new(u64::MAX - self.next_volatile.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the index has never heard of the entry.
    pub(crate) const fn is_volatile(entry: EntryId) -> bool {
        entry.get() > i64::MAX as u64
    }

    /// Bytes per segment of a generation that begins now: the chunk size in whole blocks.
    pub(crate) fn segment_size(&self) -> u64 {
        self.chunk_size
            .get()
            .checked_next_multiple_of(BLOCK_SIZE)
            .unwrap_or(BLOCK_SIZE)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn suspects(&self) -> MutexGuard<'_, HashSet<Arc<CacheKey>>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn jobs(&self) -> MutexGuard<'_, JobBook> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every representation that is open now.
    pub(crate) fn lives(&self) -> Vec<Arc<Live>> {
        self.registry()
            .values()
            .filter_map(|cell| cell.get().cloned())
            .collect()
    }

    /// The open representation of `key`, if there is one.
    pub(crate) fn live_now(&self, key: &CacheKey) -> Option<Arc<Live>> {
        self.registry().get(key)?.get().cloned()
    }

    /// Removes `live` from the registry, if it is the one registered.
    pub(crate) fn unregister(&self, live: &Arc<Live>) {
        let mut registry = self.registry();
        if is_registered(&registry, live) {
            registry.remove(&live.key);
        }
    }

    /// Takes `live` out of the registry if nobody but registry and driver holds it.
    pub(crate) fn release(&self, live: &Arc<Live>) -> bool {
        /// The registry's, the driver's, and that of the caller.
        const OURS: usize = 3;
        let mut registry = self.registry();
        let Some(cell) = registry.get(&live.key) else {
            return true;
        };
        if Arc::strong_count(cell) > 1 || Arc::strong_count(live) > OURS {
            return false;
        }
        registry.remove(&live.key);
        true
    }

    /// The next one to open this entry starts over from the origin's answer. Changes nothing the second
    /// time: by then another representation may be open, of which nothing is suspected.
    pub(crate) fn start_over(&self, live: &Arc<Live>) {
        let mut registry = self.registry();
        if is_registered(&registry, live) {
            // Suspected first: whoever finds the registry empty loads what the index has.
            self.suspects().insert(Arc::clone(&live.key));
            // Those who read it go on with what is cached of it.
            self.superseded().push(Arc::downgrade(live));
            registry.remove(&live.key);
        }
    }

    fn superseded(&self) -> MutexGuard<'_, Vec<Weak<Live>>> {
        self.superseded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody reads a former representation of an entry.
    pub(crate) fn is_former_read(&self, entry: EntryId) -> bool {
        self.superseded()
            .iter()
            .filter_map(Weak::upgrade)
            .any(|live| live.entry == entry && live.reader_count() > 0)
    }

    /// Every representation that is open, those included that are no longer their entry's current one.
    pub(crate) fn all_lives(&self) -> Vec<Arc<Live>> {
        let mut lives = self.lives();
        lives.extend(self.superseded().iter().filter_map(Weak::upgrade));
        lives
    }

    /// The same, and those that are closed and of which something is still to be recorded.
    pub(crate) fn known_lives(&self) -> Vec<Arc<Live>> {
        let mut lives = self.all_lives();
        lives.extend(self.dirty.lives());
        lives
    }

    /// The generations that somebody reads or may read.
    pub(crate) fn generations_in_use(&self) -> Vec<GenerationId> {
        let mut in_use: Vec<GenerationId> = self
            .lives()
            .iter()
            .filter_map(|live| live.generation_now())
            .collect();
        self.superseded().retain(|live| {
            let live = live.upgrade();
            in_use.extend(
                live.iter()
                    .filter(|live| live.reader_count() > 0)
                    .filter_map(|live| live.generation_now()),
            );
            // Without readers it may still have a write under way.
            live.is_some()
        });
        in_use
    }

    /// The open representation of a key; loads what the index has of it. Asks no origin.
    pub(crate) async fn live(
        self: &Arc<Self>,
        resource: &Resource,
    ) -> Result<Arc<Live>, ManagerError> {
        self.check_open()?;
        if let Some(live) = self.live_now(&resource.key) {
            return Ok(live);
        }
        // Until it is registered: the entry does not go away, and nothing that its rows name is removed meanwhile.
        let patience = self.clock.now() + LOOK_UP;
        let present = tokio::select! {
            biased;
            present = self.turns.shared(&resource.key) => Some(present),
            // It is going away, and waits for an index that hangs.
            () = self.clock.sleep_until(patience) => None,
        };
        let cell = Arc::clone(
            self.registry()
                .entry(Arc::clone(&resource.key))
                .or_default(),
        );
        let live = cell
            .get_or_init(|| self.load(resource, present.is_some()))
            .await;
        Ok(Arc::clone(live))
    }

    async fn load(self: &Arc<Self>, resource: &Resource, may_ask: bool) -> Arc<Live> {
        let now = self.clock.unix_seconds();
        let source = self.new_source();
        // The rows of its last session first.
        let may_ask = may_ask
            && (!self.dirty.concerns(&resource.key) || {
                let inner = Arc::clone(self);
                // On its own: what it took out of the marks it also has to bring to an end.
                let recorded = tokio::spawn(async move { inner.record().await });
                let patience = self.clock.now() + LOOK_UP;
                tokio::select! {
                    biased;
                    _ = recorded => true,
                    () = self.clock.sleep_until(patience) => false,
                }
            });
        let recorded = if may_ask {
            self.recorded(resource, now).await
        } else {
            Err(ChunkStoreError::Unavailable("it does not answer".into()))
        };
        let mut has_left = false;
        let live = match recorded {
            Ok((record, current)) => {
                self.keys.remember(record.id, Arc::clone(&record.key));
                let live = Live::new(
                    source,
                    record.id,
                    resource.clone(),
                    record.pinned,
                    record.accessed_unix,
                    Arc::clone(&self.memory),
                );
                self.suspects().remove(&record.key);
                if let Some((current, reuse, segments)) = current {
                    self.space
                        .opened(record.id, &current, &segments, record.pinned);
                    live.adopt(&current, reuse, segments);
                    has_left = live.inherit(&self.space.files(current.id));
                }
                live
            }
            Err(error) => {
                tracing::warn!(key = %resource.key, %error, "the index cannot be asked; bytes are passed through");
                self.counters.store_failing.store(true, Ordering::Relaxed);
                let entry = self.volatile_entry();
                self.keys.remember(entry, Arc::clone(&resource.key));
                let live = Live::new(
                    source,
                    entry,
                    resource.clone(),
                    false,
                    now,
                    Arc::clone(&self.memory),
                );
                live.lock().caching = crate::live::Caching::Never;
                live
            }
        };
        let live = Arc::new(live);
        if has_left {
            self.dirty.mark(&live);
        }
        let (total_len, accepts_ranges, present) = {
            let state = live.lock();
            (
                state.total_len(),
                state.meta.as_ref().is_none_or(|meta| meta.accepts_ranges),
                state.readable.to_set(),
            )
        };
        let opened = self.commands.send(Command::Opened {
            live: Arc::clone(&live),
            input: Input::SourceOpened {
                source,
                origin: self.origins.id(live.key.origin()),
                total_len,
                accepts_ranges,
                present,
            },
        });
        if opened.is_err() {
            // Shut down meanwhile: nobody would ever tell those who wait.
            live.close();
        }
        live
    }

    /// What the index has of an entry: its record, and the generation that may be used again.
    async fn recorded(
        &self,
        resource: &Resource,
        now: i64,
    ) -> Result<(EntryRecord, Option<Recorded>), ChunkStoreError> {
        // Of a film that nobody has opened before there is nothing to look up first.
        let known = match self.keys.has(&resource.key) {
            true => self.store.entry(&resource.key).await?,
            false => None,
        };
        let mut record = match known {
            Some(record) => record,
            None => self.store.ensure_entry(&resource.key, now).await?,
        };
        let is_suspect = self.suspects().contains(&record.key);
        let current = record
            .current
            .take()
            .filter(|_| !is_suspect)
            .and_then(|current| Some((self.reuse(&record.key, &current, now)?, current)));
        // A generation that cannot be looked up now is not to be replaced by an empty one.
        let recorded = match current {
            Some((reuse, current)) => {
                let segments = self.store.segments(current.id).await?;
                Some((current, reuse, segments))
            }
            None => None,
        };
        Ok((record, recorded))
    }

    /// How a generation may be used again after its entry was closed, if it may.
    fn reuse(&self, key: &CacheKey, generation: &GenerationRecord, now_unix: i64) -> Option<Reuse> {
        let total_len = generation.representation.total_len?;
        if generation.representation.is_reusable() || self.origins.is_immutable(key.origin()) {
            return Some(Reuse::Continued);
        }
        // The origin has promised that it is the file for now, and nothing is left to be fetched of it.
        let is_whole = generation.recorded_bytes >= total_len;
        (is_whole && generation.freshness.is_fresh(now_unix)).then_some(Reuse::AsItIs)
    }
}

fn is_registered(registry: &Registry, live: &Arc<Live>) -> bool {
    registry
        .get(&live.key)
        .and_then(|cell| cell.get())
        .is_some_and(|found| Arc::ptr_eq(found, live))
}

/// A number that no other generation has, below 2⁶³: from the seed that the standard library keys its
/// hash maps with, which comes from the operating system.
pub(crate) fn nonce() -> u64 {
    RandomState::new().build_hasher().finish() >> 1
}
