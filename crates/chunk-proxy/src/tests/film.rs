//! A source with one film under every name.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{ByteRange, CacheKey, ETag, LastModified};
use chunk_manager::{First, Hints, ManagerError, OpenError, Piece, ReadError};
use chunk_ports::{Put, Resource, Window};
use rustix::net::SendFlags;
use tokio::sync::Notify;

use crate::preconditions::Validators;
use crate::respond::EntryFacts;
use crate::source::{Open, Parts, Pieces, Source};

pub(super) const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// The byte at `offset`: different from its neighbours at every distance a mistake could have.
pub(super) fn byte(offset: u64) -> u8 {
    let mixed = (offset ^ (offset >> 7)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8
}

pub(super) fn bytes(start: u64, end: u64) -> Vec<u8> {
    (start..end).map(byte).collect()
}

/// What was done to a film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Opened(First),
    /// An opening that was given up before it finished.
    OpeningDropped,
    Reading(u64, Option<u64>),
    /// A reader that went, and where it stood.
    ReaderGone(u64),
    Invalidated(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Film {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    facts: EntryFacts,
    len: u64,
    /// Bytes before this offset can be read now.
    available: u64,
    fails: Option<(u64, ReadError)>,
    refuses: Option<OpenError>,
    hangs: bool,
    /// Its bytes can be put into sockets, those before this offset.
    windows_before: Option<u64>,
    /// How many were.
    put: u64,
    journal: Vec<Event>,
    waiting: Vec<Waker>,
    readers: usize,
}

impl Film {
    pub(crate) fn new(len: u64) -> Self {
        let facts = EntryFacts {
            total_len: Some(len),
            ranges: true,
            validators: Validators {
                served: ETag::parse("\"v1\""),
                origin: ETag::parse("\"v1\""),
                last_modified: Some(LastModified::new(784_111_777, true)),
            },
            content_type: Some("video/mp4".to_owned()),
            age: Duration::from_secs(5),
            fresh_for: Duration::from_secs(60),
            storable: true,
        };
        let state = State {
            facts,
            len,
            available: u64::MAX,
            fails: None,
            refuses: None,
            hangs: false,
            windows_before: None,
            put: 0,
            journal: Vec::new(),
            waiting: Vec::new(),
            readers: 0,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    pub(super) fn with_facts(self, change: impl FnOnce(&mut EntryFacts)) -> Self {
        change(&mut self.lock().facts);
        self
    }

    /// Its length is known to nobody before its end.
    pub(super) fn endless(self) -> Self {
        self.with_facts(|facts| facts.total_len = None)
    }

    /// Only the bytes before `available` can be read until more are released.
    pub(super) fn holding_at(self, available: u64) -> Self {
        self.lock().available = available;
        self
    }

    pub(super) fn release(&self, available: u64) {
        let mut state = self.lock();
        state.available = available;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Reading fails at `offset`.
    pub(super) fn failing_at(self, offset: u64, error: ReadError) -> Self {
        self.lock().fails = Some((offset, error));
        self
    }

    pub(super) fn refusing(self, error: OpenError) -> Self {
        self.lock().refuses = Some(error);
        self
    }

    /// Opening it takes for ever.
    pub(super) fn hanging(self) -> Self {
        self.lock().hangs = true;
        self
    }

    /// Bytes before `end` are put into sockets by themselves, while windows reach beyond.
    pub(super) fn in_windows(self, end: u64) -> Self {
        self.lock().windows_before = Some(end);
        self
    }

    /// How many bytes went past memory.
    pub(super) fn put(&self) -> u64 {
        self.lock().put
    }

    pub(super) fn journal(&self) -> Vec<Event> {
        self.lock().journal.clone()
    }

    pub(super) fn readers(&self) -> usize {
        self.lock().readers
    }

    fn note(&self, event: Event) {
        self.lock().journal.push(event);
        self.shared.changed.notify_waiters();
    }

    /// Waits until `condition` holds.
    pub(super) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    pub(super) async fn until_noted(&self, event: Event) {
        self.until(|film| film.journal().contains(&event)).await;
    }

    fn reader(&self, start: u64, end: Option<u64>) -> Box<dyn Pieces> {
        self.lock().readers += 1;
        self.note(Event::Reading(start, end));
        let len = self.lock().len;
        Box::new(Reader {
            film: self.clone(),
            position: start,
            end: end.unwrap_or(len).min(len),
            is_windowless: false,
        })
    }
}

/// Notes an opening that nobody waited for.
struct Opening<'a>(Option<&'a Film>);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(film) = self.0 {
            film.note(Event::OpeningDropped);
        }
    }
}

#[async_trait]
impl Source for Film {
    async fn open(
        &self,
        _resource: Resource,
        first: First,
        _hints: Hints,
    ) -> Result<Box<dyn Open>, OpenError> {
        self.note(Event::Opened(first));
        let mut opening = Opening(Some(self));
        let hangs = self.lock().hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        opening.0 = None;
        let state = self.lock();
        if let Some(error) = &state.refuses {
            return Err(error.clone());
        }
        match (first, state.facts.total_len) {
            (First::Span { start, .. }, Some(len)) if start >= len => {
                Err(OpenError::Unsatisfiable {
                    total_len: Some(len),
                })
            }
            _ => Ok(Box::new(self.clone())),
        }
    }

    async fn invalidate(&self, key: &CacheKey) -> Result<(), ManagerError> {
        self.note(Event::Invalidated(key.path().to_owned()));
        Ok(())
    }
}

impl Open for Film {
    fn facts(&self) -> EntryFacts {
        self.lock().facts.clone()
    }

    fn read(self: Box<Self>, start: u64, end: Option<u64>) -> Box<dyn Pieces> {
        self.reader(start, end)
    }

    fn read_parts(self: Box<Self>) -> Box<dyn Parts> {
        self
    }
}

impl Parts for Film {
    fn part(&mut self, range: ByteRange) -> Box<dyn Pieces> {
        self.reader(range.start(), Some(range.end()))
    }
}

struct Reader {
    film: Film,
    position: u64,
    end: u64,
    is_windowless: bool,
}

/// A window that puts a few thousand bytes at once, and none from an offset on.
#[derive(Debug)]
struct FilmWindow {
    film: Film,
    start: u64,
    len: usize,
    absent_at: u64,
}

impl Window for FilmWindow {
    fn len(&self) -> usize {
        self.len
    }

    fn put(&self, socket: BorrowedFd<'_>, from: usize) -> io::Result<Put> {
        let start = self.start + from as u64;
        let end = (self.start + self.len as u64)
            .min(self.absent_at)
            .min(start + 7_001);
        if start >= end {
            return Ok(Put::Absent);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(socket, &bytes(start, end), flags)?;
        self.film.lock().put += sent as u64;
        Ok(Put::Some(sent))
    }
}

impl Pieces for Reader {
    fn poll_for_socket(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Piece, ReadError>>> {
        let windows_before = self.film.lock().windows_before;
        if let Some(absent_at) = windows_before
            && !self.is_windowless
            && self.position < self.end
        {
            let left = usize::try_from(self.end - self.position).unwrap();
            let window = FilmWindow {
                film: self.film.clone(),
                start: self.position,
                len: left.min(max),
                absent_at,
            };
            self.position += window.len as u64;
            return Poll::Ready(Some(Ok(Piece::Window(Box::new(window)))));
        }
        self.is_windowless = false;
        self.poll_piece(cx, max)
            .map(|piece| piece.map(|outcome| outcome.map(Piece::Bytes)))
    }

    fn unread(&mut self, count: usize) {
        self.position -= count as u64;
        self.is_windowless = true;
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Bytes, ReadError>>> {
        let mut state = self.film.lock();
        let mut end = self.end.min(self.position.saturating_add(max as u64));
        if self.position == self.end {
            return Poll::Ready(None);
        }
        if let Some((offset, error)) = &state.fails {
            if *offset == self.position {
                return Poll::Ready(Some(Err(error.clone())));
            }
            if self.position < *offset {
                end = end.min(*offset);
            }
        }
        end = end.min(state.available);
        if end <= self.position {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        let piece = bytes(self.position, end);
        self.position = end;
        Poll::Ready(Some(Ok(piece.into())))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.film.lock().readers -= 1;
        self.film.note(Event::ReaderGone(self.position));
    }
}
