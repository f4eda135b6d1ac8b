//! One origin request at work: bytes come in, become readable, and are written.
//!
//! The order for every piece: readable first, then the scheduler hears of it, then it is stored. A reader
//! never waits for a disk.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use chunk_core::scheduler::{Input, RunId, Start};
use chunk_core::{ByteRange, ChunkGeometry};
use chunk_ports::{
    BodyStream, CacheEvent, Condition, FetchError, FetchOutcome, FetchRequest, FetchedBody,
    Freshness, Wanted,
};
use tokio::sync::{Notify, oneshot};

use crate::counters::add;
use crate::driver::Command;
use crate::error::OpenError;
use crate::inner::{Inner, nonce};
use crate::live::{Caching, Generation, Live, Meta, Reuse};
use crate::timeline::RunAccount;
use crate::writer::{BATCH, Writer};

/// What the driver may change while a run is at work.
#[derive(Debug)]
pub(crate) struct RunControl {
    until: AtomicU64,
    end: AtomicU64,
    is_aborted: AtomicBool,
    changed: Notify,
    pub(crate) account: RunAccount,
}

impl RunControl {
    pub(crate) fn new(until: u64, end: Option<u64>, account: RunAccount) -> Self {
        Self {
            until: AtomicU64::new(until),
            end: AtomicU64::new(end.unwrap_or(u64::MAX)),
            is_aborted: AtomicBool::new(false),
            changed: Notify::new(),
            account,
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

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    pub(crate) fn is_aborted(&self) -> bool {
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

/// The end of a run, told when it is dropped: a fetcher that panics must not keep a slot for ever.
struct End<'a> {
    task: &'a RunTask,
    result: Result<(), FetchError>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let task = self.task;
        drop(task.inner.commands.send(Command::RunEnded {
            run: task.run,
            live: Arc::clone(&task.live),
            result: std::mem::replace(&mut self.result, Ok(())),
        }));
    }
}

impl RunTask {
    pub(crate) async fn carry_out(self) {
        let mut writer = Writer::new(Arc::clone(&self.inner), Arc::clone(&self.live));
        let mut end = End {
            task: &self,
            result: Err(FetchError::Interrupted("its task ended".into())),
        };
        end.result = self.transfer(&mut writer).await;
        drop(end);
        // The connection and the slot are free; what waits for a slow index keeps neither.
        writer.finish().await;
    }

    async fn transfer(&self, writer: &mut Writer) -> Result<(), FetchError> {
        if self.is_put_off(writer).await {
            return Ok(());
        }
        if self.live.is_cut_short() {
            // Whatever the origin has now, it cannot be known to be the same.
            return Err(FetchError::Changed {
                now: Box::default(),
            });
        }
        add(&self.inner.counters.origin_requests, 1);
        let request = self.request();
        let asked = request.condition.clone();
        let Some(outcome) = self.control.unless_over(0, self.inner.ask(request)).await else {
            return Ok(());
        };
        let fetched = match outcome {
            Ok(FetchOutcome::Body(fetched)) => fetched,
            Ok(_) => {
                return Err(FetchError::Refused {
                    reason: "an answer without bytes to a request for bytes".to_owned(),
                });
            }
            Err(FetchError::Unsatisfiable {
                total_len: Some(total_len),
            }) if self.live.lock().ends_at(total_len) => {
                // Parts that leave the total open end nowhere by themselves; this is their end.
                return self.ended(total_len, None);
            }
            Err(error) => return Err(error),
        };
        let accepts_ranges = self.accepts_ranges(&fetched);
        self.identify(&fetched, &asked, accepts_ranges)?;
        self.learn_ranges(&fetched, accepts_ranges)?;
        let total_len = fetched.representation.total_len;
        if !accepts_ranges {
            self.control.end.store(u64::MAX, Ordering::Release);
        }
        self.control.shorten(fetched.end.unwrap_or(u64::MAX));
        self.control.account.answered(
            &self.inner.timeline,
            self.inner.clock.now(),
            fetched.start,
            self.control.end(),
        );
        self.inner.tell(Input::Answered {
            run: self.run,
            start: fetched.start,
            end: fetched.end,
            total_len,
            accepts_ranges,
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

    /// Makes room for what comes next, and asks whether to go on where an order is all that it would be for and
    /// it could not be kept.
    async fn prepare(&self, writer: &mut Writer, head: u64, total_len: Option<u64>) {
        let end = self.control.end().min(total_len.unwrap_or(u64::MAX));
        let Some(why) = writer.prepare(end.saturating_sub(head)).await else {
            return;
        };
        if self.inner.jobs().has(self.live.entry) {
            self.inner.rest_order(&self.live, why);
            self.decided().await;
        }
    }

    /// Waits until the scheduler has heard of an order's rest, and has ended the run if nobody else wants it.
    async fn decided(&self) {
        let (done, decided) = oneshot::channel();
        drop(self.inner.commands.send(Command::Rested { done }));
        // The driver is gone only where everything ends.
        let _ = decided.await;
    }

    /// Whether an order is all that the run is for, and rests.
    async fn is_put_off(&self, writer: &mut Writer) -> bool {
        let Start::At(start) = self.start else {
            return false;
        };
        if !self.control.account.level.is_durable() || self.live.is_played() {
            return false;
        }
        self.inner.weigh_orders();
        let total_len = self.live.lock().total_len();
        let decide = async {
            if self.inner.jobs().resting(self.live.entry).is_some() {
                self.decided().await;
            } else {
                self.prepare(writer, start, total_len).await;
            }
        };
        self.control.unless_over(start, decide).await.is_none()
    }

    /// Says what the answer's representation is, or that it is not the one we have.
    fn identify(
        &self,
        fetched: &FetchedBody,
        asked: &Condition,
        accepts_ranges: bool,
    ) -> Result<(), FetchError> {
        if let Condition::Continue(known) = asked {
            return if known.is_continued_by(&fetched.representation) {
                Ok(())
            } else {
                Err(FetchError::Changed {
                    now: Box::new(fetched.representation.clone()),
                })
            };
        }
        let now = self.inner.clock.unix_seconds();
        let meta = Meta {
            representation: fetched.representation.clone(),
            // An empty file has no range that a server could refuse.
            accepts_ranges: accepts_ranges || fetched.representation.total_len == Some(0),
            segment_size: self.inner.segment_size(),
            nonce: nonce(),
            freshness: Freshness::of(&fetched.verdict, now),
            storable: fetched.verdict.storable,
            reuse: Reuse::Continued,
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
            if !meta.storable {
                self.inner.withdraw(&self.live, &OpenError::NotStorable);
                self.inner.keep_nothing(&self.live);
            }
            self.inner.cap_window(&self.live);
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
            if head >= self.control.end() {
                return Ok(());
            }
            if self.control.is_aborted() {
                self.take_what_is_there(&mut body, head, writer).await;
                return Ok(());
            }
            if head >= self.control.until() {
                // Held: the connection stays open and unread.
                self.control.account.held(self.inner.clock.now());
                self.control.changed.notified().await;
                continue;
            }
            self.control
                .account
                .reads(&self.inner.timeline, || self.inner.clock.now());
            if !self.inner.memory.has_room() {
                // What this run has gathered must not be what it waits for.
                writer.write_now().await;
            }
            let prepare = self.prepare(writer, head, total_len);
            let is_prepared = self.control.unless_over(head, prepare).await.is_some();
            if !is_prepared || head >= self.control.until() {
                continue;
            }
            let next = self
                .control
                .unless_over(head, poll_fn(|cx| body.as_mut().poll_next(cx)))
                .await;
            let first = match next {
                None => continue,
                Some(None) => return self.ended(head, total_len),
                Some(Some(piece)) => piece?,
            };
            let enough = self.control.end().min(self.control.until());
            let enough = enough.min(head.saturating_add(BATCH));
            let (arrived, end) = self.gather(&mut body, head, Some(first), enough, writer);
            self.report(head, arrived, head == start);
            head += arrived;
            writer.write_blocks().await;
            match end {
                None => {}
                Some(Ok(())) => return self.ended(head, total_len),
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// What has come already is kept, for nothing that was received is thrown away: a connection that was held has a
    /// window full of it. It is over all the same, and nobody waits for more.
    async fn take_what_is_there(&self, body: &mut BodyStream, head: u64, writer: &mut Writer) {
        let is_there = self.live.lock().readable.contains(head);
        if is_there || self.control.account.has_competed() {
            return;
        }
        let enough = self
            .control
            .end()
            .min(head.saturating_add(writer.reserved()));
        let (arrived, _) = self.gather(body, head, None, enough, writer);
        self.report(head, arrived, false);
        writer.write_blocks().await;
    }

    /// Accepts `first` and whatever else is there up to `enough`, so that all of it goes into one batch. Returns how many
    /// bytes that was, and how the body ended, if it did.
    fn gather(
        &self,
        body: &mut BodyStream,
        head: u64,
        first: Option<Bytes>,
        enough: u64,
        writer: &mut Writer,
    ) -> (u64, Option<Result<(), FetchError>>) {
        let mut arrived = first.map_or(0, |piece| self.accept(head, piece, writer));
        while head + arrived < enough.min(self.control.end()) {
            match poll_at_once(body) {
                Poll::Ready(Some(Ok(piece))) => {
                    arrived += self.accept(head + arrived, piece, writer);
                }
                Poll::Ready(Some(Err(error))) => return (arrived, Some(Err(error))),
                Poll::Ready(None) => return (arrived, Some(Ok(()))),
                Poll::Pending => break,
            }
        }
        (arrived, None)
    }

    /// Says that bytes have come.
    fn report(&self, from: u64, arrived: u64, is_first: bool) {
        let Ok(range) = ByteRange::with_len(from, arrived) else {
            return;
        };
        let now = self.inner.clock.now();
        self.live.arrived(now, arrived);
        self.control.account.arrived(
            (&self.inner.timeline, &self.inner.counters),
            now,
            range.end(),
            is_first,
        );
        drop(self.inner.commands.send(Command::Progressed {
            run: self.run,
            live: Arc::clone(&self.live),
            range,
        }));
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
        let level = counters.levels.of(self.control.account.level);
        add(&level.bytes_from_origin, len);
        let room = self.control.end().saturating_sub(at).min(len);
        let mine = piece.slice(..usize::try_from(room).unwrap_or(piece.len()));
        let fresh = self
            .live
            .publish(at, &mine, Some(self.control.account.level));
        add(&counters.bytes_wasted, len - fresh);
        add(&level.bytes_wasted, len - fresh);
        if self.control.account.has_competed() {
            add(&counters.hedge_bytes_wasted, len - fresh);
        }
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

/// One look at a stream, of which nobody is told when there is more.
fn poll_at_once(body: &mut BodyStream) -> Poll<Option<Result<Bytes, FetchError>>> {
    let mut deaf = Context::from_waker(Waker::noop());
    body.as_mut().poll_next(&mut deaf)
}
