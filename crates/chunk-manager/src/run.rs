//! One origin request at work: bytes come in, become readable, and are written.
//!
//! The order for every piece: readable first, then the scheduler hears of it, then it is stored. A reader
//! never waits for a disk.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::scheduler::{Input, RunId, Start};
use chunk_core::{ByteRange, ChunkGeometry, GenerationId, Representation};
use chunk_ports::{
    BodyStream, ByteStoreError, CacheEvent, Condition, FetchError, FetchOutcome, FetchRequest,
    FetchedBody, Freshness, SegmentKey, Wanted,
};
use tokio::sync::Notify;

use crate::counters::add;
use crate::driver::Command;
use crate::inner::{Inner, nonce};
use crate::integrity::RunDigest;
use crate::live::{Caching, Generation, Live, Meta};
use crate::space::Reservation;
use crate::tail::RING;

/// How many bytes are gathered before they are written: one system call each 256 KiB.
const BATCH: u64 = 256 * 1024;
/// How far ahead of readers to go where bytes cannot be kept: half of the ring, so that the other half
/// lies behind them.
pub(crate) const PASS_THROUGH_WINDOW: u64 = RING / 2;
/// How many bytes to gather while the index has not taken the representation.
const PATIENCE: u64 = 4 * BATCH;
/// How long to leave a store alone after it failed.
pub(crate) const STORE_RETRY: Duration = Duration::from_secs(5);

/// What the driver may change while a run is at work.
#[derive(Debug)]
pub(crate) struct RunControl {
    until: AtomicU64,
    end: AtomicU64,
    is_aborted: AtomicBool,
    changed: Notify,
}

impl RunControl {
    pub(crate) fn new(until: u64, end: Option<u64>) -> Self {
        Self {
            until: AtomicU64::new(until),
            end: AtomicU64::new(end.unwrap_or(u64::MAX)),
            is_aborted: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub(crate) fn allow(&self, until: u64) {
        self.until.store(until, Ordering::Release);
        self.changed.notify_one();
    }

    pub(crate) fn shorten(&self, end: u64) {
        self.end.fetch_min(end, Ordering::AcqRel);
        self.changed.notify_one();
    }

    pub(crate) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire)
    }

    /// `work`, or `None` once the run is aborted or has been made to end at `head` or before. The permit of
    /// `changed` is kept by the notify itself, so a change in between is not lost.
    async fn unless_over<T>(&self, head: u64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if self.is_aborted() || self.end() <= head {
                return None;
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                done = &mut work => return Some(done),
            }
        }
    }
}

/// A run to carry out.
#[derive(Debug)]
pub(crate) struct RunTask {
    pub(crate) inner: Arc<Inner>,
    pub(crate) live: Arc<Live>,
    pub(crate) control: Arc<RunControl>,
    pub(crate) run: RunId,
    pub(crate) start: Start,
    pub(crate) end: Option<u64>,
}

impl RunTask {
    pub(crate) async fn carry_out(self) {
        let mut writer = Writer::new(Arc::clone(&self.inner), Arc::clone(&self.live));
        let result = self.transfer(&mut writer).await;
        drop(self.inner.commands.send(Command::RunEnded {
            run: self.run,
            live: Arc::clone(&self.live),
            result,
        }));
        // The connection and the slot are free; what waits for a slow index keeps neither.
        writer.finish().await;
    }

    async fn transfer(&self, writer: &mut Writer) -> Result<(), FetchError> {
        add(&self.inner.counters.origin_requests, 1);
        let request = self.request();
        let asked = request.condition.clone();
        let Some(outcome) = self
            .control
            .unless_over(0, self.inner.fetcher.fetch(request))
            .await
        else {
            return Ok(());
        };
        let FetchOutcome::Body(fetched) = outcome? else {
            return Err(FetchError::Refused {
                reason: "an answer without bytes to a request for bytes".to_owned(),
            });
        };
        self.identify(&fetched, &asked)?;
        let total_len = fetched.representation.total_len;
        if !fetched.accepts_ranges {
            self.control.end.store(u64::MAX, Ordering::Release);
        }
        self.control.shorten(fetched.end.unwrap_or(u64::MAX));
        self.inner.tell(Input::Answered {
            run: self.run,
            start: fetched.start,
            end: fetched.end,
            total_len,
            accepts_ranges: fetched.accepts_ranges,
        });
        self.receive(fetched.body, fetched.start, total_len, writer)
            .await
    }

    fn request(&self) -> FetchRequest {
        let state = self.live.lock();
        FetchRequest {
            resource: state.resource.clone(),
            wanted: match self.start {
                Start::At(start) => Wanted::Span {
                    start,
                    end: self.end,
                },
                Start::FromEnd(len) => Wanted::Suffix { len: len.max(1) },
            },
            condition: state.meta.as_ref().map_or(Condition::Any, |meta| {
                Condition::Continue(meta.representation.clone())
            }),
        }
    }

    /// Says what the answer's representation is, or that it is not the one we have.
    fn identify(&self, fetched: &FetchedBody, asked: &Condition) -> Result<(), FetchError> {
        if let Condition::Continue(known) = asked {
            return if known.differs_from(&fetched.representation) {
                Err(FetchError::Changed {
                    now: Box::new(fetched.representation.clone()),
                })
            } else {
                Ok(())
            };
        }
        let now = self.inner.clock.unix_seconds();
        let fresh_for = i64::try_from(fetched.verdict.fresh_for.as_secs()).unwrap_or(i64::MAX);
        let meta = Meta {
            representation: fetched.representation.clone(),
            accepts_ranges: fetched.accepts_ranges,
            segment_size: self.inner.segment_size(),
            nonce: nonce(),
            freshness: Freshness {
                validated_unix: now,
                fresh_until_unix: now.saturating_add(fresh_for),
            },
            storable: fetched.verdict.storable,
        };
        // The origin has just spoken: no need to ask it again in this session.
        self.live.set_validated(true);
        self.live.locate(meta.clone());
        if meta.storable && self.live.lock().caching != Caching::Never {
            tokio::spawn(crate::opening::index_generation(
                Arc::clone(&self.inner),
                Arc::clone(&self.live),
                meta,
            ));
        } else {
            self.live.generation.send_replace(Generation::Unindexed);
            self.inner.tell(Input::WindowCapped {
                source: self.live.source,
                bytes: Some(PASS_THROUGH_WINDOW),
            });
        }
        self.inner.events.publish(CacheEvent::generation_started(
            Arc::clone(&self.live.key),
            fetched.representation.total_len,
        ));
        Ok(())
    }

    async fn receive(
        &self,
        mut body: BodyStream,
        start: u64,
        total_len: Option<u64>,
        writer: &mut Writer,
    ) -> Result<(), FetchError> {
        let mut head = start;
        loop {
            if head >= self.control.end() || self.control.is_aborted() {
                return Ok(());
            }
            if head >= self.control.until() {
                // Held: the connection stays open and unread.
                self.control.changed.notified().await;
                continue;
            }
            let prepared = self.control.unless_over(head, writer.prepare()).await;
            if prepared.is_none() {
                return Ok(());
            }
            let next = self
                .control
                .unless_over(head, poll_fn(|cx| body.as_mut().poll_next(cx)))
                .await;
            let mut piece = match next {
                None => return Ok(()),
                Some(None) => return self.ended(head, total_len),
                Some(Some(piece)) => piece?,
            };
            let mut arrived = 0;
            let mut failure = None;
            loop {
                arrived += self.accept(head + arrived, piece, writer);
                if arrived >= BATCH
                    || head + arrived >= self.control.end().min(self.control.until())
                {
                    break;
                }
                // Whatever else is there already goes into the same batch.
                match poll_once(&mut body).await {
                    Poll::Ready(Some(Ok(more))) => piece = more,
                    Poll::Ready(Some(Err(error))) => {
                        failure = Some(Err(error));
                        break;
                    }
                    Poll::Ready(None) => {
                        failure = Some(Ok(()));
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            head += arrived;
            self.live.arrived(self.inner.clock.now(), arrived);
            self.inner.tell(Input::Progressed {
                run: self.run,
                bytes: arrived,
            });
            writer.write_all().await;
            match failure {
                None => {}
                Some(Ok(())) => return self.ended(head, total_len),
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// The body has ended by itself: where the length was unknown, it is known now.
    fn ended(&self, head: u64, total_len: Option<u64>) -> Result<(), FetchError> {
        if total_len.is_none() {
            drop(self.inner.commands.send(Command::LengthLearned {
                live: Arc::clone(&self.live),
                total_len: head,
            }));
        }
        Ok(())
    }

    /// Makes a piece readable; returns how many bytes of it belong to this run.
    fn accept(&self, at: u64, piece: Bytes, writer: &mut Writer) -> u64 {
        let counters = &self.inner.counters;
        let len = piece.len() as u64;
        add(&counters.bytes_from_origin, len);
        let room = self.control.end().saturating_sub(at).min(len);
        let mine = piece.slice(..usize::try_from(room).unwrap_or(piece.len()));
        let fresh = self.live.publish(at, &mine);
        add(&counters.bytes_wasted, len - fresh);
        if fresh > 0 {
            self.inner.announce(&self.live, at, mine.len() as u64);
        }
        writer.push(at, mine);
        room
    }
}

impl Inner {
    /// Publishes the chunks that have just become whole.
    pub(crate) fn announce(&self, live: &Live, start: u64, len: u64) {
        let Ok(range) = ByteRange::with_len(start, len) else {
            return;
        };
        let mut whole = Vec::new();
        {
            let state = live.lock();
            let total_len = state.total_len().unwrap_or(u64::MAX);
            let Ok(geometry) = ChunkGeometry::new(self.chunk_size, total_len) else {
                return;
            };
            for index in geometry.chunks_overlapping(range) {
                if let Ok(chunk) = geometry.chunk_range(index)
                    && state.readable.contains_range(chunk)
                {
                    whole.push(chunk);
                }
            }
        }
        for chunk in whole {
            self.events
                .publish(CacheEvent::chunk_completed(Arc::clone(&live.key), chunk));
        }
    }
}

/// Writes what a run has received, and notes checksums on the way.
pub(crate) struct Writer {
    inner: Arc<Inner>,
    live: Arc<Live>,
    reservation: Reservation,
    digest: Option<RunDigest>,
    batch: Vec<(u64, Bytes)>,
    batch_len: u64,
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>, live: Arc<Live>) -> Self {
        Self {
            reservation: Reservation::none(Arc::clone(&inner)),
            inner,
            live,
            digest: None,
            batch: Vec::new(),
            batch_len: 0,
        }
    }

    /// Sees to it that the next batch has room, on disk and in memory, before it is asked for.
    pub(crate) async fn prepare(&mut self) {
        if self.is_caching()
            && self.reservation.bytes() < BATCH
            && !self.reservation.extend(4 * BATCH).await
            && !self.reservation.extend(BATCH).await
        {
            self.pass_through("there is no room");
        }
        while !self.inner.memory.has_room() {
            self.inner.make_memory(&self.live);
            if !self.inner.memory.has_room() {
                // What is left is being written.
                self.inner.memory.room().await;
            }
        }
    }

    pub(crate) fn push(&mut self, at: u64, bytes: Bytes) {
        self.batch_len += bytes.len() as u64;
        self.batch.push((at, bytes));
    }

    /// Writes the batch. What cannot be stored stays in memory only, as a ring.
    ///
    /// While the index has not answered yet, the batch grows: no reader waits for the index.
    pub(crate) async fn write_all(&mut self) {
        if self.is_caching() && *self.live.generation.borrow() == Generation::Pending {
            if self.batch_len < PATIENCE {
                return;
            }
            self.pass_through("the index does not answer");
        }
        self.write().await;
    }

    /// Writes what is left, once the index has answered.
    pub(crate) async fn finish(&mut self) {
        if !self.batch.is_empty() && self.is_caching() {
            self.live.generation().await;
        }
        self.write().await;
    }

    async fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_len = 0;
        let generation = if self.is_caching() {
            self.live.generation_now()
        } else {
            None
        };
        let Some(generation) = generation else {
            if self.is_caching() {
                self.inner.index_again(&self.live);
            }
            self.leave(&batch);
            return;
        };
        let was_failing = matches!(self.live.lock().caching, Caching::Failing { .. });
        if self.store(generation, batch).await && was_failing {
            // The store works again: what it refused is offered once more.
            let left = self.live.lock().tail.take_left();
            self.store(generation, left).await;
        }
    }

    /// Writes `batch`; returns whether all of it could be stored.
    async fn store(&mut self, generation: GenerationId, batch: Vec<(u64, Bytes)>) -> bool {
        let (entry, segment_size, total_len) = {
            let state = self.live.lock();
            let Some(meta) = &state.meta else {
                return false;
            };
            (
                self.live.entry,
                meta.segment_size,
                meta.representation.total_len,
            )
        };
        let digest = self
            .digest
            .get_or_insert_with(|| RunDigest::new(entry, generation));
        let mut checksums = Vec::new();
        for (at, bytes) in &batch {
            digest.update(*at, bytes, total_len, |block, crc| {
                checksums.push((block, crc));
            });
        }
        let mut failed = Vec::new();
        for part in split(batch, segment_size) {
            let range = part.range;
            if !self.write_part(generation, part).await {
                failed.push(range);
            }
        }
        self.note_checksums(checksums, segment_size);
        self.inner.dirty.mark(&self.live);
        if failed.is_empty() {
            return true;
        }
        for range in failed {
            self.live.lock().tail.leave(range);
        }
        self.inner.trim_ring(&self.live, RING);
        false
    }

    /// The batch stays in memory only.
    fn leave(&self, batch: &[(u64, Bytes)]) {
        {
            let mut state = self.live.lock();
            for (at, bytes) in batch {
                if let Ok(range) = ByteRange::with_len(*at, bytes.len() as u64) {
                    state.tail.leave(range);
                }
            }
        }
        self.inner.trim_ring(&self.live, RING);
    }

    async fn write_part(&mut self, generation: GenerationId, part: Part) -> bool {
        let live = Arc::clone(&self.live);
        let _writing = live.writing.read().await;
        if live.lock().is_removed {
            return false;
        }
        let epoch = live.lock().epoch(part.segment);
        let key = SegmentKey {
            generation,
            segment: part.segment,
            epoch,
        };
        match self.inner.bytes.write(key, part.offset, part.pieces).await {
            Ok(()) => {
                self.inner
                    .counters
                    .store_failing
                    .store(false, Ordering::Relaxed);
                let was_failing = matches!(self.live.lock().caching, Caching::Failing { .. });
                let new = {
                    let state = self.live.lock();
                    part.range.len() - state.stored.covered_len(part.range)
                };
                let keep = !self.inner.memory.is_tight();
                let stored = self.live.stored(part.range, part.segment, epoch, keep);
                if stored == Some(true) {
                    self.inner.tell(Input::Supplied {
                        source: self.live.source,
                        range: part.range,
                    });
                }
                if stored.is_some() {
                    self.reservation
                        .spend(&self.live, generation, part.segment, new);
                }
                if was_failing {
                    self.inner.tell(Input::WindowCapped {
                        source: self.live.source,
                        bytes: None,
                    });
                }
                true
            }
            Err(error) => {
                if let ByteStoreError::Corrupt(_) = &error {
                    crate::recorder::abandon_segment(&self.inner, &self.live, part.segment);
                }
                tracing::warn!(key = %self.live.key, %error, "bytes cannot be stored and are passed through");
                self.pass_through("the byte store failed");
                false
            }
        }
    }

    /// Remembers checksums of blocks that passed whole.
    fn note_checksums(&self, checksums: Vec<(u64, u32)>, segment_size: u64) {
        let per_segment = segment_size / chunk_core::BLOCK_SIZE;
        let mut state = self.live.lock();
        for (block, crc) in checksums {
            if let Ok(segment) = u32::try_from(block / per_segment) {
                let segment = state.segments.entry(segment).or_default();
                if segment.pending.contains(&(block % per_segment)) {
                    segment.checksums.insert(block % per_segment, crc);
                }
            }
        }
    }

    fn is_caching(&self) -> bool {
        match self.live.lock().caching {
            Caching::On => true,
            Caching::Never => false,
            Caching::Failing { retry_at } => self.inner.clock.now() >= retry_at,
        }
    }

    fn pass_through(&self, reason: &str) {
        let mut state = self.live.lock();
        if state.caching != Caching::Never {
            if state.caching == Caching::On {
                tracing::warn!(key = %self.live.key, reason, "bytes are passed through without being kept");
            }
            state.caching = Caching::Failing {
                retry_at: self.inner.clock.now() + STORE_RETRY,
            };
        }
        drop(state);
        self.inner
            .counters
            .store_failing
            .store(true, Ordering::Relaxed);
        self.inner.tell(Input::WindowCapped {
            source: self.live.source,
            bytes: Some(PASS_THROUGH_WINDOW),
        });
    }
}

impl Inner {
    /// Makes the index know a representation that it could not take before.
    fn index_again(self: &Arc<Self>, live: &Arc<Live>) {
        let Some(meta) = live.lock().meta.clone() else {
            return;
        };
        let is_ours = live.generation.send_if_modified(|generation| {
            let is_unindexed = *generation == Generation::Unindexed;
            if is_unindexed {
                *generation = Generation::Pending;
            }
            is_unindexed
        });
        if is_ours {
            tokio::spawn(crate::opening::index_generation(
                Arc::clone(self),
                Arc::clone(live),
                meta,
            ));
        }
    }

    fn trim_ring(&self, live: &Live, allowance: u64) {
        for range in live.trim_ring(allowance).iter() {
            self.tell(Input::Forgotten {
                source: live.source,
                range,
            });
        }
    }

    /// Drops what need not be in memory, so that `live` can go on: first what is stored, then what other
    /// representations hold that cannot be stored, since it can be fetched again.
    fn make_memory(&self, live: &Arc<Live>) {
        let lives = self.lives();
        for other in &lives {
            other.trim_stored();
        }
        for other in &lives {
            if self.memory.has_room() {
                return;
            }
            if !Arc::ptr_eq(other, live) {
                self.trim_ring(other, 0);
            }
        }
        if !self.memory.has_room() {
            self.trim_ring(live, BATCH);
        }
    }
}

/// Adjacent bytes of one segment.
struct Part {
    segment: u32,
    offset: u64,
    range: ByteRange,
    pieces: Vec<Bytes>,
}

/// Cuts a batch at segment boundaries and at holes.
fn split(batch: Vec<(u64, Bytes)>, segment_size: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (mut at, mut bytes) in batch {
        while !bytes.is_empty() {
            let (index, offset) = (at / segment_size, at % segment_size);
            let Ok(segment) = u32::try_from(index) else {
                break;
            };
            let len = usize::try_from(segment_size - offset)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let piece = bytes.split_to(len);
            let Some(range) = ByteRange::try_new(at, at.saturating_add(len as u64)) else {
                break;
            };
            at = range.end();
            match parts.last_mut() {
                Some(part) if part.segment == segment && part.range.end() == range.start() => {
                    part.pieces.push(piece);
                    if let Some(grown) = ByteRange::try_new(part.range.start(), range.end()) {
                        part.range = grown;
                    }
                }
                _ => parts.push(Part {
                    segment,
                    offset,
                    range,
                    pieces: vec![piece],
                }),
            }
        }
    }
    parts
}

/// One look at a stream, without waiting.
async fn poll_once(body: &mut BodyStream) -> Poll<Option<Result<Bytes, FetchError>>> {
    poll_fn(|cx| Poll::Ready(body.as_mut().poll_next(cx))).await
}

/// Whether the origin's new answer looks like a login or error page in place of a media file.
pub(crate) fn is_page_for_media(known: &Representation, now: &Representation) -> bool {
    let is_html = |representation: &Representation| {
        representation.content_type.as_deref().is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/html")
        })
    };
    is_html(now) && !is_html(known)
}
