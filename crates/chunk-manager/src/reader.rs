//! A reader: bytes in order, as soon as they have arrived.

mod access;
mod traits;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use chunk_core::scheduler::{Hints, Input, ReaderId, Start};
use chunk_core::{ByteRange, Priority, Tick};
use chunk_ports::Window;
use futures_core::Stream;

use crate::checked::{read_checked, read_trusted};
use crate::counters::add;
use crate::driver::Command;
use crate::error::ReadError;
use crate::inner::Inner;
use crate::live::{Found, Live};
use crate::options::Purpose;
use crate::waiters::Token;
use crate::waiting::Look;

/// How often a reader reports where it stands: often enough for a window of a megabyte.
const REPORT_EVERY: u64 = 256 * 1024;
/// The most bytes taken from the byte store at once.
const STORE_READ: usize = 256 * 1024;
/// The most bytes in one window: a socket takes about as many at once.
const WINDOW: usize = 2 * 1024 * 1024;
/// Pauses below this are not worth telling: a socket buffer draining.
const SHORTEST_IDLE: Duration = Duration::from_millis(10);
/// A wait above this counts as a stall: two and a half frames at 25 a second.
const STALL: Duration = Duration::from_millis(100);

/// Bytes on their way to a socket.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever sends them has to know how, each way"
)]
pub enum Piece {
    /// Here they are.
    Bytes(Bytes),
    /// The byte store puts them there by itself.
    Window(Box<dyn Window>),
}

type StoreRead = Pin<Box<dyn Future<Output = Result<Option<Bytes>, ReadError>> + Send>>;

/// Reads an entry from a position on: what is cached from the cache, the rest as it arrives from the origin.
///
/// Implements tokio's `AsyncRead` and `AsyncSeek`; [`Self::next`] and [`Self::into_stream`] give bytes
/// without copying. Dropping it withdraws what nobody else wants. After an error, reading again tries
/// again; after [`ReadError::Changed`] it is in vain.
pub struct ChunkReader {
    inner: Arc<Inner>,
    live: Arc<Live>,
    id: ReaderId,
    start: Start,
    position: u64,
    /// Exclusive.
    end: Option<u64>,
    /// Whether the scheduler knows of it. A reader of bytes that are all there has nothing to ask for, and
    /// there may be many thousands of them a second.
    is_scheduled: bool,
    /// What whoever reads says of themselves.
    hints: Hints,
    /// Bytes taken from the store and not handed out yet.
    rest: Bytes,
    /// How often stored bytes had lost trust when these were taken.
    rest_since: u64,
    store_read: Option<StoreRead>,
    /// Whether a window has failed here, so that the next bytes are to be read.
    is_windowless: bool,
    token: Option<Token>,
    /// The source's failures when the present wait began.
    seen_failures: u64,
    waiting_since: Option<Tick>,
    /// Whether the timeline knows that it waits.
    is_wait_noted: bool,
    /// Whether the reader had been given bytes since it was opened or sought when the wait began: then a wait is
    /// a stall.
    is_stall: bool,
    /// Whether it has been given none yet.
    is_fresh: bool,
    /// Whether the bytes in `rest` were there when they were looked for.
    is_hit: bool,
    /// When bytes were last handed out.
    served_at: Option<Tick>,
    idle: Duration,
    reported: u64,
    seek_to: Option<u64>,
}

impl std::fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkReader")
            .field("key", &self.live.key)
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl ChunkReader {
    pub(crate) fn open(
        inner: Arc<Inner>,
        live: Arc<Live>,
        start: Start,
        end: Option<u64>,
        purpose: Purpose,
    ) -> Self {
        let id = inner.new_reader();
        let position = match start {
            Start::At(position) => position,
            Start::FromEnd(len) => live
                .lock()
                .total_len()
                .map_or(u64::MAX, |total| total.saturating_sub(len)),
        };
        let seen_failures = live.failures();
        let hints = match purpose {
            Purpose::Play(hints) => {
                live.reader_came(id, position);
                hints
            }
            Purpose::Order => {
                live.orderer_came();
                Hints::default()
            }
        };
        inner.share_rings_of(&live);
        add(&inner.counters.readers, 1);
        let mut reader = Self {
            inner,
            live,
            id,
            start,
            position,
            end,
            is_scheduled: false,
            hints,
            rest: Bytes::new(),
            rest_since: 0,
            store_read: None,
            is_windowless: false,
            token: None,
            seen_failures,
            waiting_since: None,
            is_wait_noted: false,
            is_stall: false,
            is_fresh: true,
            is_hit: false,
            served_at: None,
            idle: Duration::ZERO,
            reported: position,
            seek_to: None,
        };
        // Filling goes on for as long as the scheduler knows of a reader.
        if reader.inner.fill || !reader.has_all() {
            reader.schedule();
        }
        reader
    }

    /// Whether everything that it may still read is there.
    fn has_all(&self) -> bool {
        let state = self.live.lock();
        let end = match (self.end, state.total_len()) {
            (Some(end), Some(total_len)) => end.min(total_len),
            (_, None) => return false,
            (None, Some(total_len)) => total_len,
        };
        ByteRange::try_new(self.position, end)
            .is_none_or(|range| state.readable.contains_range(range))
    }

    /// Makes the reader known to the scheduler, if it is not yet.
    fn schedule(&mut self) {
        if std::mem::replace(&mut self.is_scheduled, true) {
            return;
        }
        self.live.reader_is_scheduled();
        self.inner.tell(Input::ReaderOpened {
            reader: self.id,
            source: self.live.source,
            start: self.start,
            end: self.end,
            hints: self.hints,
        });
    }

    /// The length is known now: a position counted from the end becomes an offset.
    pub(crate) fn located(&mut self) {
        if let Start::FromEnd(len) = self.start
            && let Some(total_len) = self.live.lock().total_len()
        {
            self.start = Start::At(total_len.saturating_sub(len));
            self.position = total_len.saturating_sub(len);
            self.reported = self.position;
        }
    }

    /// The reader waits to learn what the entry is.
    pub(crate) fn awaits_answer(&mut self) {
        self.begin_wait(self.inner.clock.now());
    }

    fn begin_wait(&mut self, now: Tick) {
        self.is_wait_noted = true;
        let (key, offset) = (&self.live.key, self.position);
        self.inner
            .timeline
            .begin_wait(now, key, self.id, offset, self.is_fresh);
    }

    fn end_wait(&mut self, is_served: bool) {
        if std::mem::take(&mut self.is_wait_noted) {
            let now = self.inner.clock.now();
            self.inner.timeline.end_wait(now, self.id, is_served);
        }
    }

    /// The source's failures before the reader was made known.
    pub(crate) const fn seen_failures(&self) -> u64 {
        self.seen_failures
    }

    /// The offset of the next byte.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Reading will stop at `end`, exclusive.
    pub fn set_end(&mut self, end: u64) {
        if self.end.replace(end) == Some(end) {
            return;
        }
        self.rest
            .truncate(usize::try_from(end.saturating_sub(self.position)).unwrap_or(usize::MAX));
        if !self.is_scheduled {
            if !self.has_all() {
                self.start = Start::At(self.position);
                self.schedule();
            }
            return;
        }
        self.inner.tell(Input::ReaderBounded {
            reader: self.id,
            end: Some(end),
        });
    }

    /// Tells how many bytes a second the media plays at, where the caller knows; measured otherwise.
    pub fn set_rate(&mut self, bytes_per_second: u64) {
        self.hints.rate = Some(bytes_per_second);
        if self.is_scheduled {
            self.inner.tell(Input::ReaderRate {
                reader: self.id,
                rate: self.hints.rate,
            });
        }
    }

    /// What whoever reads says of themselves.
    #[must_use]
    pub const fn hints(&self) -> Hints {
        self.hints
    }

    /// Goes on at `position`. What was being fetched ahead of the former position is no longer wanted.
    pub fn seek_to(&mut self, position: u64) {
        if position == self.position {
            return;
        }
        let skipped = position
            .checked_sub(self.position)
            .and_then(|skipped| usize::try_from(skipped).ok())
            .filter(|&skipped| skipped <= self.rest.len());
        match skipped {
            Some(skipped) => self.rest.advance(skipped),
            None => self.rest = Bytes::new(),
        }
        self.store_read = None;
        self.stop_waiting();
        self.position = position;
        self.reported = position;
        self.served_at = None;
        self.is_fresh = true;
        self.idle = Duration::ZERO;
        self.note_position();
        self.inner.make_way();
        if self.is_scheduled {
            self.inner.tell(Input::ReaderSought {
                reader: self.id,
                position,
            });
        } else if !self.has_all() {
            self.start = Start::At(position);
            self.schedule();
        }
    }

    /// The next bytes: at least one and at most `max`, `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`] where the bytes cannot be had.
    pub async fn next(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        std::future::poll_fn(|cx| self.poll_next_bytes(cx, max))
            .await
            .transpose()
    }

    /// [`Self::next`] as a poll function.
    pub fn poll_next_bytes(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Bytes, ReadError>>> {
        if max == 0 {
            return Poll::Ready(Some(Ok(Bytes::new())));
        }
        loop {
            if !self.rest.is_empty() && self.rest_since != self.live.distrusts() {
                // A check has found stored bytes bad since; it may be these.
                self.rest = Bytes::new();
            }
            if !self.rest.is_empty() {
                let bytes = self.rest.split_to(self.rest.len().min(max));
                return Poll::Ready(Some(Ok(self.hand_out(bytes))));
            }
            if let Some(read) = &mut self.store_read {
                let outcome = ready!(read.as_mut().poll(cx));
                self.store_read = None;
                match outcome {
                    Ok(Some(mut bytes)) => {
                        // The end may have moved while the store was at it.
                        let room = self.room().unwrap_or(0);
                        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                        self.rest = bytes;
                    }
                    // The bytes turned out to be bad or gone; they are missing now.
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                continue;
            }
            let Some(room) = self.room() else {
                return Poll::Ready(None);
            };
            match ready!(self.poll_find(cx, room, STORE_READ)) {
                Ok(found) => self.take_up(found, room),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// [`Self::poll_next_bytes`] for a socket: where the byte store can put the bytes there by itself, they
    /// do not pass through memory. What it then cannot put there is to be given back to [`Self::unread`].
    pub fn poll_next_piece(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Piece, ReadError>>> {
        if max > 0 && self.rest.is_empty() && self.store_read.is_none() && !self.is_windowless {
            let Some(room) = self.room() else {
                return Poll::Ready(None);
            };
            let room = room.min(max as u64);
            match ready!(self.poll_find(cx, room, WINDOW)) {
                Ok(Found::Stored { key, offset, len }) => {
                    if let Some(window) = self.inner.bytes.window(key, offset, len) {
                        self.note_handed_out(window.len() as u64);
                        return Poll::Ready(Some(Ok(Piece::Window(window))));
                    }
                    self.take_up(Found::Stored { key, offset, len }, room);
                }
                Ok(found) => self.take_up(found, room),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let polled = ready!(self.poll_next_bytes(cx, max));
        self.is_windowless = false;
        Poll::Ready(polled.map(|outcome| outcome.map(Piece::Bytes)))
    }

    /// The last `count` bytes of the last window could not be put into the socket; they come again, by way of
    /// memory.
    pub fn unread(&mut self, count: usize) {
        self.seek_to(self.position.saturating_sub(count as u64));
        self.is_windowless = true;
    }

    /// The bytes as a stream, in pieces of at most 256 KiB.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + Unpin {
        traits::ByteStream(self)
    }

    /// How many bytes may still be read, as far as is known; `None` at the end.
    fn room(&self) -> Option<u64> {
        let file_end = self.live.lock().total_len().unwrap_or(u64::MAX);
        let end = self.end.unwrap_or(u64::MAX).min(file_end);
        end.checked_sub(self.position).filter(|&room| room > 0)
    }

    /// Looks for the byte at the position; registers for it where it is missing, under the same lock.
    fn poll_find(
        &mut self,
        cx: &mut Context<'_>,
        room: u64,
        most: usize,
    ) -> Poll<Result<Found, ReadError>> {
        let max = usize::try_from(room).unwrap_or(usize::MAX).min(most);
        // Before the look at what is trusted, and before the read.
        self.rest_since = self.live.distrusts();
        let live = Arc::clone(&self.live);
        let (position, is_waiting) = (self.position, self.waiting_since.is_some());
        let seen = &mut self.seen_failures;
        let mut brought_at = None;
        let look = live.poll_for(&mut self.token, cx.waker(), |state, token| {
            // Under the lock: what is stored is found by the number it was stored under.
            let found = state.find(position, max, live.generation_now());
            if !matches!(found, Found::Missing) {
                brought_at = state.waiters.brought_at(token);
                return Look::Done(Ok(found));
            }
            if !is_waiting {
                // What failed before this wait is tried again for it.
                *seen = state.failures();
            }
            match state.hopeless(*seen) {
                Some(error) => Look::Done(Err(error)),
                None => Look::Await {
                    offset: position,
                    requested_from: None,
                },
            }
        });
        let found = match look {
            Poll::Ready(Ok(found)) => found,
            Poll::Ready(Err(error)) => {
                self.waiting_since = None;
                self.end_wait(false);
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {
                self.note_missing();
                return Poll::Pending;
            }
        };
        self.note_found(brought_at);
        Poll::Ready(Ok(found))
    }

    /// Makes what was found the next bytes, or begins to read it.
    fn take_up(&mut self, found: Found, room: u64) {
        let max = usize::try_from(room).unwrap_or(usize::MAX).min(STORE_READ);
        let (inner, live) = (Arc::clone(&self.inner), Arc::clone(&self.live));
        let position = self.position;
        match found {
            Found::Bytes(bytes) => self.rest = bytes,
            Found::Stored { key, offset, len } => {
                let len = len.min(STORE_READ);
                self.store_read = Some(Box::pin(async move {
                    read_trusted(&inner, &live, key, offset, position, len).await
                }));
            }
            Found::Unchecked | Found::Missing => {
                self.store_read = Some(Box::pin(async move {
                    read_checked(&inner, &live, position, max).await
                }));
            }
        }
    }

    fn note_missing(&mut self) {
        if self.waiting_since.is_some() {
            return;
        }
        let now = self.inner.clock.now();
        self.waiting_since = Some(now);
        self.is_stall = self.served_at.take().is_some();
        self.begin_wait(now);
        add(&self.inner.counters.misses, 1);
        self.report(true);
    }

    fn note_found(&mut self, brought_at: Option<Priority>) {
        self.end_wait(true);
        self.is_fresh = false;
        self.is_hit = self.waiting_since.is_none();
        if let Some(since) = self.waiting_since.take() {
            let waited = self.inner.clock.now().since(since);
            if std::mem::take(&mut self.is_stall) && waited > STALL {
                self.inner.counters.stalled(waited, brought_at);
            }
            add(&self.inner.counters.first_byte_count, 1);
            add(
                &self.inner.counters.first_byte_nanos,
                u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX),
            );
            self.live.lock().waiters.remove(&mut self.token);
        } else {
            add(&self.inner.counters.hits, 1);
            // The bytes were there; the time since the last ones were handed out was the caller's.
            if let Some(served_at) = self.served_at {
                let idle = self.inner.clock.now().since(served_at);
                if idle >= SHORTEST_IDLE {
                    self.idle += idle;
                }
            }
        }
    }

    fn hand_out(&mut self, bytes: Bytes) -> Bytes {
        self.note_handed_out(bytes.len() as u64);
        bytes
    }

    fn note_handed_out(&mut self, len: u64) {
        self.position += len;
        self.served_at = Some(self.inner.clock.now());
        add(&self.inner.counters.bytes_served, len);
        if self.is_hit {
            add(&self.inner.counters.bytes_served_from_cache, len);
        }
        if self.position - self.reported >= REPORT_EVERY || !self.idle.is_zero() {
            self.report(false);
        }
    }

    fn report(&mut self, waiting: bool) {
        self.reported = self.position;
        self.note_position();
        let idle = std::mem::take(&mut self.idle);
        if !self.is_scheduled {
            if !waiting {
                return;
            }
            // What was there has gone.
            self.start = Start::At(self.position);
            self.schedule();
        }
        self.inner.tell(Input::ReaderMoved {
            reader: self.id,
            position: self.position,
            idle,
            waiting,
        });
    }

    fn stop_waiting(&mut self) {
        self.waiting_since = None;
        self.end_wait(false);
        self.live.lock().waiters.remove(&mut self.token);
    }
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        self.end_wait(false);
        if self.position > self.reported {
            // Too little to have been told before, as is all that some players ask for at once.
            self.note_access(self.position - 1);
        }
        let (live, now) = (&self.live, self.inner.clock.now());
        let is_last = live.reader_went(self.id, self.token.take(), now);
        self.inner
            .counters
            .readers
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if self.is_scheduled || is_last && live.is_end_of_interest() {
            drop(self.inner.commands.send(Command::ReaderGone {
                live: Arc::clone(live),
                reader: self.id,
            }));
            return;
        }
        if is_last {
            // When it was last read.
            self.inner.dirty.mark(live);
        }
        self.inner.make_way();
    }
}
