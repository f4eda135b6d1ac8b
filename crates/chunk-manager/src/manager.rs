//! The manager's handle.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::scheduler::Input;
use chunk_core::{
    BLOCK_SIZE, ByteRange, CacheKey, ChunkGeometry, EntryId, GeometryError, Priority,
};
use chunk_ports::{
    ByteStore, CacheEvent, ChunkFetcher, ChunkStore, ChunkStoreError, JobRange, Resource,
};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::builder::{Builder, scheduler_config};
use crate::driver::Command;
use crate::error::{ManagerError, OpenError, WaitError};
use crate::inner::Inner;
use crate::live::Live;
use crate::options::{First, Limits, Purpose};
use crate::status::Statistics;
use crate::subscription::ChunkSubscription;
use crate::timeline::Happening;
use crate::timely::TRANSACTION;
use crate::waiters::Told;
use crate::writer::Writer;

/// Coordinates a chunk cache. Cheap to clone; see the [crate's front page](crate).
#[derive(Clone, Debug)]
pub struct ChunkManager {
    pub(crate) inner: Arc<Inner>,
    recorder: AbortHandle,
    /// Dropped with the last handle; the manager's own tasks have none.
    _alive: Option<Arc<Alive>>,
}

/// Ends the manager's tasks where nobody has called [`ChunkManager::shutdown`].
#[derive(Debug)]
pub(crate) struct Alive {
    inner: Arc<Inner>,
    helpers: Vec<AbortHandle>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        for helper in &self.helpers {
            helper.abort();
        }
        if !self.inner.is_closed.swap(true, Ordering::AcqRel) {
            // Nobody waits for the answer: the driver records what has arrived.
            let (done, _) = oneshot::channel();
            drop(self.inner.commands.send(Command::Shutdown { done }));
            self.inner.dirty.wake();
            self.inner.space.change();
        }
    }
}

impl ChunkManager {
    /// A manager over these adapters.
    #[must_use]
    pub fn builder(
        store: Arc<dyn ChunkStore>,
        bytes: Arc<dyn ByteStore>,
        fetcher: Arc<dyn ChunkFetcher>,
    ) -> Builder {
        Builder::new(store, bytes, fetcher)
    }

    pub(crate) const fn new(inner: Arc<Inner>, recorder: AbortHandle) -> Self {
        Self {
            inner,
            recorder,
            _alive: None,
        }
    }

    /// The handle to give out: with the last copy of it, everything ends.
    pub(crate) fn alive(self, helpers: Vec<AbortHandle>) -> Self {
        let alive = Alive {
            inner: Arc::clone(&self.inner),
            helpers,
        };
        Self {
            _alive: Some(Arc::new(alive)),
            ..self
        }
    }

    /// The chunk size in bytes.
    #[must_use]
    pub fn chunk_size(&self) -> u64 {
        self.inner.chunk_size.get()
    }

    /// The index of the chunk that holds byte `offset` of a file of `total_len` bytes.
    ///
    /// # Errors
    /// [`GeometryError::EmptyFile`] or [`GeometryError::PastEnd`].
    pub fn byte_to_chunk_index(&self, offset: u64, total_len: u64) -> Result<u64, GeometryError> {
        self.geometry(total_len)?.byte_to_chunk_index(offset)
    }

    /// The first byte of chunk `index` of a file of `total_len` bytes.
    ///
    /// # Errors
    /// [`GeometryError`] where there is no such chunk.
    pub fn chunk_start_byte(&self, index: u64, total_len: u64) -> Result<u64, GeometryError> {
        Ok(self.geometry(total_len)?.chunk_range(index)?.start())
    }

    /// The last byte, inclusive, of chunk `index` of a file of `total_len` bytes; the last chunk may be
    /// short.
    ///
    /// # Errors
    /// [`GeometryError`] where there is no such chunk.
    pub fn chunk_end_byte(&self, index: u64, total_len: u64) -> Result<u64, GeometryError> {
        Ok(self.geometry(total_len)?.chunk_range(index)?.last())
    }

    /// Whether every byte of chunk `index` can be read now.
    ///
    /// # Errors
    /// [`ManagerError`]; an entry whose length is unknown has no chunks.
    pub async fn has_chunk(&self, entry: EntryId, index: u64) -> Result<bool, ManagerError> {
        let live = self.live_by_id(entry).await?;
        let chunk = self.geometry_of(&live)?.chunk_range(index)?;
        Ok(live.has(chunk))
    }

    /// Whether every byte from `start` up to, not including, `end` can be read now.
    ///
    /// # Errors
    /// [`ManagerError`], among others where the two are not a range.
    pub async fn has_byte_range(
        &self,
        entry: EntryId,
        start: u64,
        end: u64,
    ) -> Result<bool, ManagerError> {
        let range = ByteRange::new(start, end)?;
        let live = self.live_by_id(entry).await?;
        Ok(live.has(range))
    }

    /// The chunks of which every byte can be read now, in order.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn get_available_chunks(&self, entry: EntryId) -> Result<Vec<u64>, ManagerError> {
        let live = self.live_by_id(entry).await?;
        let Ok(geometry) = self.geometry_of(&live) else {
            return Ok(Vec::new());
        };
        let state = live.lock();
        Ok(state
            .readable
            .iter()
            .flat_map(|range| geometry.chunks_within(range))
            .collect())
    }

    /// Asks for a chunk. Any number of requests for it are one download; a higher level promotes it, a lower one
    /// changes nothing. MEDIUM and LOW requests survive a restart.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn request_chunk(
        &self,
        entry: EntryId,
        index: u64,
        priority: Priority,
    ) -> Result<(), ManagerError> {
        let live = self.live_by_id(entry).await?;
        let chunk = self.geometry_of(&live)?.chunk_range(index)?;
        self.request(&live, chunk, priority);
        Ok(())
    }

    /// Asks for the chunks that overlap the bytes from `start` up to, not including, `end`; returns which
    /// ones these are, clipped to the file's end.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn request_chunks_for_range(
        &self,
        entry: EntryId,
        start: u64,
        end: u64,
        priority: Priority,
    ) -> Result<Vec<u64>, ManagerError> {
        let range = ByteRange::new(start, end)?;
        let live = self.live_by_id(entry).await?;
        let geometry = self.geometry_of(&live)?;
        let chunks = geometry.chunks_overlapping(range);
        if chunks.is_empty() {
            return Ok(Vec::new());
        }
        let first = geometry.chunk_range(chunks.start)?;
        let last = geometry.chunk_range(chunks.end - 1)?;
        self.request(&live, ByteRange::new(first.start(), last.end())?, priority);
        Ok(chunks.collect())
    }

    /// Withdraws explicit requests for chunks: those who wait for them are told, and what is in flight for nobody
    /// is stopped. A live reader's need is not affected.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn cancel_requests(
        &self,
        entry: EntryId,
        chunks: &[u64],
    ) -> Result<(), ManagerError> {
        let live = self.live_by_id(entry).await?;
        let geometry = self.geometry_of(&live)?;
        let ranges: Vec<ByteRange> = chunks
            .iter()
            .map(|&index| geometry.chunk_range(index))
            .collect::<Result<_, _>>()?;
        for range in ranges {
            self.withdraw(&live, range);
        }
        Ok(())
    }

    /// Waits until every byte of a chunk can be read. Creates no demand.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] after `timeout`; a failure or a cancel is reported at once.
    pub async fn wait_for_chunk(
        &self,
        entry: EntryId,
        index: u64,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let live = self.live_by_id(entry).await?;
        let chunk = self
            .geometry_of(&live)?
            .chunk_range(index)
            .map_err(ManagerError::from)?;
        ChunkSubscription::new(Arc::clone(&self.inner), live, chunk)
            .wait_for_completion(timeout)
            .await
    }

    /// A subscription to the bytes from `start` up to, not including, `end` of the entry `key`. Creates
    /// no demand.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn subscribe_to_chunk(
        &self,
        key: &CacheKey,
        start: u64,
        end: u64,
    ) -> Result<ChunkSubscription, ManagerError> {
        let range = ByteRange::new(start, end)?;
        let live = self
            .inner
            .live(&Resource::from_key(Arc::new(key.clone())))
            .await?;
        Ok(ChunkSubscription::new(Arc::clone(&self.inner), live, range))
    }

    /// Takes in bytes that somebody else has downloaded, from `start` on. They are readable when this
    /// returns, and recorded like all others.
    ///
    /// # Errors
    /// [`ManagerError`]; an entry whose length is unknown takes none.
    pub async fn complete_range(
        &self,
        entry: EntryId,
        start: u64,
        data: Bytes,
    ) -> Result<(), ManagerError> {
        let live = self.live_by_id(entry).await?;
        let geometry = self.geometry_of(&live)?;
        let range = ByteRange::with_len(start, data.len() as u64)?;
        if range.end() > geometry.total_len() {
            return Err(GeometryError::PastEnd {
                offset: range.last(),
                total_len: geometry.total_len(),
            }
            .into());
        }
        live.publish(start, &data, None);
        let now = self.inner.clock.now();
        self.inner
            .timeline
            .note(now, &live.key, range, Happening::Supplied);
        self.inner.tell(Input::Supplied {
            source: live.source,
            range,
        });
        self.inner.announce(&live, start, range.len());
        let mut writer = Writer::new(Arc::clone(&self.inner), live);
        writer.prepare(range.len()).await;
        writer.push(start, data);
        writer.finish().await;
        Ok(())
    }

    /// Takes in that a download by somebody else has failed: those who wait for these bytes are told at
    /// once.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn fail_range(
        &self,
        entry: EntryId,
        start: u64,
        end: u64,
        reason: &str,
    ) -> Result<(), ManagerError> {
        let range = ByteRange::new(start, end)?;
        let live = self.live_by_id(entry).await?;
        if self.inner.jobs().remove(entry, range) {
            self.inner.dirty.mark_jobs(entry);
            self.inner.space.change();
        }
        // First, so that they hear of the failure and not of the withdrawal.
        live.tell_waits(
            range,
            &Told::Failed(OpenError::Refused {
                reason: reason.to_owned(),
            }),
        );
        self.inner.tell(Input::Cancelled {
            source: live.source,
            range,
        });
        self.inner.events.publish(CacheEvent::range_failed(
            Arc::clone(&live.key),
            range,
            reason.into(),
        ));
        Ok(())
    }

    /// Asks for a whole file durably, at MEDIUM or LOW. Returns once its size is known, or is known to be
    /// unknown, and the job is in the index.
    ///
    /// Where the origin does not answer, the order is kept all the same, and begins when it does; until then the
    /// entry's state is [`EntryState::WaitingForOrigin`](crate::EntryState::WaitingForOrigin).
    ///
    /// A file that can never be there in whole is refused, and orders for it that wait are withdrawn.
    ///
    /// # Errors
    /// [`OpenError`], among others [`OpenError::NotStorable`] and [`OpenError::TooLarge`].
    pub async fn prefetch(
        &self,
        resource: Resource,
        priority: Priority,
    ) -> Result<EntryId, OpenError> {
        self.inner.check_open()?;
        // Only what it is: its bytes come with the order.
        let opened = match self
            .inner
            .open(resource.clone(), First::Nothing, Purpose::Order)
            .await
        {
            Err(error) if error.may_pass() => return self.order(&resource, priority, error).await,
            opened => opened?,
        };
        let entry = opened.entry.id();
        if Inner::is_volatile(entry) {
            // The order would be gone with the last reader. The index says why it cannot take it, unless it
            // has just become able to: then it can be asked again.
            let key = opened.entry.key();
            let now = self.inner.clock.unix_seconds();
            let known = self.inner.store.ensure_entry(key, now).await;
            let error = known.err().unwrap_or_else(|| {
                ChunkStoreError::Unavailable("it did not know the file when that was opened".into())
            });
            return Err(ManagerError::from(error).into());
        }
        let end = opened.entry.total_len().unwrap_or(JobRange::TO_THE_END);
        if let Some(whole) = ByteRange::try_new(0, end)
            && let Some(live) = self.inner.live_now(opened.entry.key())
        {
            let missing: Vec<ByteRange> = live.lock().recorded.gaps(whole).collect();
            if !missing.is_empty()
                && let Err(error) = self.can_be_whole(&live)
            {
                drop(opened);
                self.withdraw(&live, ByteRange::new(0, u64::MAX).unwrap_or(whole));
                self.inner.record().await;
                return Err(error);
            }
            for gap in missing {
                self.request(&live, gap, priority);
            }
            // The job is durable before anybody is told that it is.
            self.inner.record().await;
        }
        Ok(entry)
    }

    /// Counters and gauges.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        crate::counters::set(&self.inner.counters.memory_bytes, self.inner.memory.used());
        crate::counters::set(&self.inner.counters.stored_bytes, self.inner.space.used());
        self.inner.counters.snapshot()
    }

    /// Changes limits while the manager runs. What is above a lower cap is evicted.
    pub fn set_limits(&self, limits: Limits) {
        self.inner.memory.set_limit(limits.memory);
        self.inner.space.set_limits(&limits);
        let config = scheduler_config(&limits, self.inner.chunk_size);
        *self
            .inner
            .limits
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = limits;
        self.inner.tell(Input::LimitsChanged { config });
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.evict_excess().await });
    }

    /// Stops fetching, records what has arrived, and ends. Readers that wait get
    /// [`ReadError::Closed`](crate::ReadError::Closed).
    pub async fn shutdown(&self) {
        if self.inner.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.inner.space.change();
        let (done, finished) = oneshot::channel();
        if self.inner.commands.send(Command::Shutdown { done }).is_ok() {
            drop(finished.await);
        }
        // Twice: what failed the first time for want of a checksum is whole the second time. A group that
        // the recorder has begun is waited for, because what it took out of the marks is not in them.
        let record = async {
            if !self.inner.record().await {
                self.inner.record().await;
            }
            self.inner.keep_tally().await;
            // An eviction that has begun comes to its end.
            drop(self.inner.space.evicting.acquire().await);
        };
        // An index that hangs keeps nobody here for ever: what it has not taken is fetched again.
        let patience = self.inner.clock.now() + 2 * TRANSACTION;
        tokio::select! {
            biased;
            () = record => {}
            () = self.inner.clock.sleep_until(patience) => {
                tracing::warn!("the index does not answer; what it has not taken is lost");
            }
        }
        self.recorder.abort();
    }

    fn geometry(&self, total_len: u64) -> Result<ChunkGeometry, GeometryError> {
        ChunkGeometry::new(self.inner.chunk_size, total_len)
    }

    fn geometry_of(&self, live: &Live) -> Result<ChunkGeometry, ManagerError> {
        let total_len = live
            .lock()
            .total_len()
            .ok_or(ManagerError::LengthUnknown(live.entry))?;
        Ok(self.geometry(total_len)?)
    }

    /// The open representation of an entry; loaded from the index where it is not open.
    pub(crate) async fn live_by_id(&self, entry: EntryId) -> Result<Arc<Live>, ManagerError> {
        self.inner.check_open()?;
        let key = self.inner.keys.of(entry).ok_or(ManagerError::NoSuchEntry)?;
        if let Some(live) = self.inner.live_now(&key) {
            return Ok(live);
        }
        self.inner.live(&Resource::from_key(key)).await
    }

    fn withdraw(&self, live: &Live, range: ByteRange) {
        if self.inner.jobs().remove(live.entry, range) {
            self.inner.dirty.mark_jobs(live.entry);
            self.inner.space.change();
        }
        self.inner.tell(Input::Cancelled {
            source: live.source,
            range,
        });
    }

    /// Whether every byte of the file can be kept at once.
    fn can_be_whole(&self, live: &Live) -> Result<(), OpenError> {
        let is_storable = live.lock().meta.as_ref().is_none_or(|meta| meta.storable);
        if !is_storable {
            return Err(OpenError::NotStorable);
        }
        match self.inner.never_fits(live) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Takes an order for a file of which the origin tells nothing at present, because of `error`.
    async fn order(
        &self,
        resource: &Resource,
        priority: Priority,
        error: OpenError,
    ) -> Result<EntryId, OpenError> {
        let live = self.inner.live(resource).await?;
        let has_row = live.entry.get() <= i64::MAX as u64;
        let end = live.lock().total_len().unwrap_or(JobRange::TO_THE_END);
        let Some(whole) = ByteRange::try_new(0, end).filter(|_| has_row && priority.is_durable())
        else {
            // Nothing would remember it.
            return Err(error);
        };
        let missing: Vec<ByteRange> = live.lock().recorded.gaps(whole).collect();
        for gap in missing {
            self.inner.jobs().add(live.entry, gap, priority);
        }
        self.inner.dirty.mark_jobs(live.entry);
        self.inner.order_unanswered(&live, &error);
        // The job is durable before anybody is told that it is.
        self.inner.record().await;
        Ok(live.entry)
    }

    fn request(&self, live: &Live, range: ByteRange, priority: Priority) {
        live.asked_again();
        let mut range = range;
        if priority.is_durable() {
            // Only whole blocks are recorded, and a durable request ends when its bytes are.
            range = whole_blocks(range, live.lock().total_len()).unwrap_or(range);
            let unrecorded: Vec<ByteRange> = live.lock().recorded.gaps(range).collect();
            let mut is_new = false;
            for gap in unrecorded {
                is_new |= self.inner.jobs().add(live.entry, gap, priority);
            }
            if is_new {
                self.inner.dirty.mark_jobs(live.entry);
                self.inner.space.change();
            }
        }
        let now = self.inner.clock.now();
        let what = Happening::Requested {
            range,
            level: priority,
        };
        self.inner.timeline.note(now, &live.key, range, what);
        self.inner.tell(Input::Requested {
            source: live.source,
            range,
            priority,
        });
    }
}

/// The blocks that a range touches.
fn whole_blocks(range: ByteRange, total_len: Option<u64>) -> Option<ByteRange> {
    let end = range
        .end()
        .checked_next_multiple_of(BLOCK_SIZE)
        .unwrap_or(u64::MAX)
        .min(total_len.unwrap_or(JobRange::TO_THE_END));
    ByteRange::try_new(range.start() - range.start() % BLOCK_SIZE, end)
}
