//! What an open film's own header tells: how fast it plays, and where its index is.
//!
//! Read off the readers' path, from bytes that came for their sake. The rate goes to the scheduler for readers
//! that were not told one; the index is kept as long as head and tail, and fetched while nothing else is
//! wanted and somebody watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_core::scheduler::{Input, ReaderId, SourceId, Start};
use chunk_core::{BLOCK_SIZE, ByteRange, Container, Priority, RangeSet, Tick};

use crate::checked::{read_checked, read_trusted};
use crate::driver::{Command, Driver};
use crate::inner::Inner;
use crate::live::{Found, Live};
use crate::run::RunControl;

/// A reader that is so far ahead of its film has all it needs for now, be it a copy or a player with a large
/// buffer of its own: the rate is no reason to hurry then, and what is measured holds. Two of the smallest
/// buffers that players have by default, and twenty seconds at 8 Mbit/s.
const AMPLE: u64 = 20 * 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct HotZones {
    films: BTreeMap<SourceId, Film>,
    readers: BTreeMap<ReaderId, Viewer>,
}

#[derive(Debug, Default)]
struct Film {
    container: Option<Container>,
    is_being_read: bool,
    /// There is nothing more to learn.
    is_known: bool,
    /// Hot ranges that nobody has asked for yet.
    unasked: Vec<ByteRange>,
    has_asked: bool,
}

#[derive(Debug)]
struct Viewer {
    source: SourceId,
    /// Where and when it began to read on without a jump.
    from: u64,
    since: Tick,
    is_told: bool,
    /// Its rate came from whoever opened it.
    is_told_otherwise: bool,
}

impl HotZones {
    /// Takes note of a fact; gives back what follows from it for the reader it is about.
    pub(crate) fn note(&mut self, now: Tick, input: &Input) -> Option<Input> {
        match *input {
            Input::ReaderOpened {
                reader,
                source,
                start,
                hints,
                ..
            } => {
                let from = match start {
                    Start::At(position) => position,
                    Start::FromEnd(_) => 0,
                };
                let viewer = Viewer {
                    source,
                    from,
                    since: now,
                    is_told: false,
                    is_told_otherwise: hints.rate.is_some(),
                };
                self.readers.insert(reader, viewer);
                self.pace(now, reader, from)
            }
            Input::ReaderSought { reader, position } => {
                let viewer = self.readers.get_mut(&reader)?;
                viewer.from = position;
                viewer.since = now;
                self.pace(now, reader, position)
            }
            Input::ReaderMoved {
                reader, position, ..
            } => self.pace(now, reader, position),
            Input::ReaderRate { reader, rate } => {
                self.readers.get_mut(&reader)?.is_told_otherwise = rate.is_some();
                None
            }
            Input::ReaderGone { reader } => {
                self.readers.remove(&reader);
                None
            }
            Input::SourceOpened { source, .. } => {
                self.films.insert(source, Film::default());
                None
            }
            Input::SourceFailed { source } => {
                self.films.remove(&source);
                None
            }
            Input::SourceClosed { source } => {
                self.films.remove(&source);
                self.readers.retain(|_, viewer| viewer.source != source);
                None
            }
            _ => None,
        }
    }

    /// Tells a reader's rate, or takes it back where it is far ahead of what it plays.
    fn pace(&mut self, now: Tick, reader: ReaderId, position: u64) -> Option<Input> {
        let viewer = self.readers.get_mut(&reader)?;
        let film = self.films.get(&viewer.source)?;
        let rate = film.container.as_ref()?.rate()?;
        let played = u128::from(rate) * now.since(viewer.since).as_millis() / 1_000;
        let lead = u128::from(position.saturating_sub(viewer.from)).saturating_sub(played);
        // Taken back at once, and told again at half of it, so that it does not change with each piece.
        let limit = if viewer.is_told { AMPLE } else { AMPLE / 2 };
        let is_due = lead <= u128::from(limit);
        if viewer.is_told_otherwise || viewer.is_told == is_due {
            return None;
        }
        viewer.is_told = is_due;
        Some(Input::ReaderRate {
            reader,
            rate: is_due.then_some(rate),
        })
    }

    /// Has a look at what would tell more, if it can be read by now.
    pub(crate) fn look(&mut self, inner: &Arc<Inner>, live: &Arc<Live>) {
        let Some(film) = self.films.get_mut(&live.source) else {
            return;
        };
        if film.is_being_read || film.is_known {
            return;
        }
        let (range, total_len) = {
            let state = live.lock();
            let Some(total_len) = state.total_len() else {
                return;
            };
            let range = match &film.container {
                Some(container) => container.needs(),
                None => ByteRange::try_new(0, BLOCK_SIZE.min(total_len)),
            };
            let Some(range) = range else {
                film.is_known = true;
                return;
            };
            if !state.readable.contains_range(range) {
                return;
            }
            (range, total_len)
        };
        film.is_being_read = true;
        let known = film.container.clone();
        let (inner, live) = (Arc::clone(inner), Arc::clone(live));
        tokio::spawn(async move {
            let container = match (peek(&inner, &live, range).await, known) {
                (None, known) => known,
                (Some(bytes), None) => Container::probe(&bytes, total_len),
                (Some(bytes), Some(mut known)) => {
                    known.read_on(&bytes);
                    Some(known)
                }
            };
            drop(inner.commands.send(Command::Probed { live, container }));
        });
    }

    /// What a look has told; gives back what the scheduler should hear.
    pub(crate) fn probed(
        &mut self,
        now: Tick,
        inner: &Inner,
        live: &Live,
        container: Option<Container>,
    ) -> Vec<Input> {
        let Some(film) = self.films.get_mut(&live.source) else {
            return Vec::new();
        };
        film.is_being_read = false;
        film.is_known = container.as_ref() == film.container.as_ref();
        let hot = container
            .as_ref()
            .map_or(Vec::new(), |found| found.hot().to_vec());
        film.unasked.clone_from(&hot);
        film.container = container;
        if !hot.is_empty() {
            live.lock().hot = hot;
            inner.space.mark_hot(live, inner.clock.unix_seconds());
        }
        let readers: Vec<(ReaderId, u64)> = live
            .lock()
            .positions
            .iter()
            .map(|(&reader, &position)| (reader, position))
            .collect();
        readers
            .into_iter()
            .filter_map(|(reader, position)| self.pace(now, reader, position))
            .collect()
    }

    pub(crate) fn has_unasked(&self) -> bool {
        self.films.values().any(|film| !film.unasked.is_empty())
    }

    /// Hot ranges of films that somebody watches, once each.
    pub(crate) fn take_unasked(&mut self) -> Vec<(SourceId, ByteRange)> {
        let mut taken = Vec::new();
        for viewer in self.readers.values() {
            if let Some(film) = self.films.get_mut(&viewer.source) {
                film.has_asked |= !film.unasked.is_empty();
                let source = viewer.source;
                taken.extend(film.unasked.drain(..).map(|range| (source, range)));
            }
        }
        taken
    }

    pub(crate) fn has_asked(&self, source: SourceId) -> bool {
        self.films.get(&source).is_some_and(|film| film.has_asked)
    }
}

impl Driver {
    pub(crate) fn probed(&mut self, live: &Arc<Live>, container: Option<Container>) {
        let now = self.inner.clock.now();
        for input in self.hot_zones.probed(now, &self.inner, live, container) {
            self.scheduler.handle(now, input);
        }
        self.hot_zones.look(&self.inner, live);
    }

    /// Asks for the indexes of films that are being watched, while nothing urgent is on its way.
    pub(crate) fn fetch_hot_zones(&mut self) {
        let is_busy = |run: &Arc<RunControl>| {
            let account = &run.account;
            matches!(account.level, Priority::Critical | Priority::High)
                && account.held_since().is_none()
        };
        if !self.hot_zones.has_unasked() || self.runs.values().any(is_busy) {
            return;
        }
        for (source, range) in self.hot_zones.take_unasked() {
            self.handle(Input::Requested {
                source,
                range,
                priority: Priority::Low,
            });
        }
    }

    /// Background fill ends with its reader; what somebody asked for goes on.
    pub(crate) fn end_fill(&mut self, live: &Live) {
        let asked: RangeSet = self
            .inner
            .jobs()
            .rows(live.entry)
            .into_iter()
            .map(|job| job.range)
            .collect();
        let fill: Vec<ByteRange> = self
            .scheduler
            .queue()
            .demands(live.source)
            .filter(|demand| demand.priority == Priority::Low)
            .flat_map(|demand| asked.gaps(demand.range).collect::<Vec<_>>())
            .collect();
        for range in fill {
            self.handle(Input::Cancelled {
                source: live.source,
                range,
            });
        }
    }
}

/// The bytes of `range`, as many of them as can be had without asking the origin.
async fn peek(inner: &Arc<Inner>, live: &Arc<Live>, range: ByteRange) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(rest) = range.from(range.start() + bytes.len() as u64) {
        let at = rest.start();
        let max = usize::try_from(rest.len()).ok()?;
        let found = live.lock().find(at, max, live.generation_now());
        let piece = match found {
            Found::Bytes(piece) => Some(piece),
            Found::Stored { key, offset, len } => {
                read_trusted(inner, live, key, offset, at, len).await.ok()?
            }
            Found::Unchecked => read_checked(inner, live, at, max).await.ok()?,
            Found::Missing => None,
        };
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            break;
        };
        bytes.extend_from_slice(&piece);
    }
    (!bytes.is_empty()).then_some(bytes)
}
