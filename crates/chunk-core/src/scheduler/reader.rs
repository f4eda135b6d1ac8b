//! What the scheduler knows of one reader.

use core::time::Duration;

use super::need::{LOOK, Need};
use super::source::Gone;
use super::{Config, Hints, ReaderId, Scheduler, SourceId, Start};
use crate::{BLOCK_SIZE, ByteRange, ConsumptionRate, PlayerBuffer, Priority, ReadAhead, Tick};

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: SourceId,
    /// Where it stands; `None` while it counts from an end that is unknown.
    pub(super) position: Option<u64>,
    /// The suffix it wants, until the length is known.
    pub(super) suffix: u64,
    /// Where it will stop, exclusive.
    pub(super) end: Option<u64>,
    pub(super) read_ahead: ReadAhead,
    pub(super) consumption: ConsumptionRate,
    /// What its client holds.
    pub(super) buffer: PlayerBuffer,
    pub(super) told_rate: Option<u64>,
    /// It said that all others go first.
    pub(super) yields: bool,
    /// The rate it had when it last paused as a player does, for as long as its pauses are worth speaking of.
    shown_rate: Option<u64>,
    opened_at: Tick,
    /// When it sought last, or was opened.
    pub(super) sought_at: Tick,
    /// For how long it has left bytes unread.
    paused: Duration,
    /// Bytes read since opening or the last seek.
    pub(super) since_seek: u64,
    /// When it last read, or was opened.
    read_at: Tick,
    /// Since when it waits for the byte it stands at.
    pub(super) waiting_since: Option<Tick>,
    /// When that byte came; told only with what is read next.
    come_at: Option<Tick>,
    /// When, as far as its reading tells, it has nothing of its own any more.
    pub(super) dry_at: Tick,
    /// It has been given the chance to show that it plays, since it sought.
    pub(super) is_tried: bool,
    /// The source was given up; nothing is fetched until the reader asks again.
    pub(super) has_given_up: bool,
    /// What it lacks; its urgency is its entry in the scheduler's `needs`.
    pub(super) need: Option<Need>,
}

impl Reader {
    /// A reader that has taken this many initial buffers without a pause is a copy. One is too few: at
    /// 8 Mbit/s on a line 1.3 times as fast, a player takes 43 MB before its own buffer of 10 s is full.
    const GREEDY_INITIALS: u64 = 3;

    /// A player pauses for one of so many parts of its time at least.
    const PAUSED_SHARE: u32 = 16;

    /// How long a reader that has not paused passes for the player that it seems to be: on a line 1.1 times as fast as its
    /// film, a buffer of six seconds takes as long to fill.
    const TRUST: Duration = Duration::from_secs(60);

    /// How long a reader may take to read what it waited for, and to say so.
    const MOMENT: Duration = Duration::from_millis(200);

    fn new(
        source: SourceId,
        start: Start,
        end: Option<u64>,
        hints: Hints,
        config: &Config,
        now: Tick,
    ) -> Self {
        let (position, suffix) = match start {
            Start::At(position) => (Some(position), 0),
            Start::FromEnd(len) => (None, len),
        };
        Self {
            source,
            position,
            suffix,
            end,
            read_ahead: ReadAhead::new(config.read_ahead, position.unwrap_or(0)),
            consumption: ConsumptionRate::new(
                config
                    .read_ahead
                    .initial
                    .saturating_mul(Self::GREEDY_INITIALS),
            ),
            buffer: PlayerBuffer::new(now),
            told_rate: hints.rate,
            yields: hints.yields,
            shown_rate: None,
            opened_at: now,
            sought_at: now,
            paused: Duration::ZERO,
            since_seek: 0,
            read_at: now,
            waiting_since: Some(now),
            come_at: None,
            dry_at: now,
            is_tried: false,
            has_given_up: false,
            need: None,
        }
    }

    /// The bytes a second it consumes, as told or measured; none where all others go first, because that is what a
    /// rate is for.
    pub(super) fn rate(&self) -> Option<u64> {
        if self.yields {
            return None;
        }
        self.told_rate
            .or_else(|| self.consumption.rate())
            .or(self.shown_rate)
    }

    /// Goes on as the player that `gone` was: closing a connection and opening another one is how players seek. A
    /// client that copies and comes at that moment by chance passes for a player no longer than [`Self::TRUST`].
    fn succeed(&mut self, gone: &Gone) {
        if self.shown_rate.is_none() && gone.rate.is_some() {
            self.shown_rate = gone.rate;
            self.paused = self.paused.max(Self::TRUST / Self::PAUSED_SHARE);
        }
    }

    /// It has read on, or does not wait after all. It plays on while it waits, until its own buffer is empty; a pause after
    /// the byte has come is its own.
    fn waited_until(&mut self, now: Tick) {
        let until = self.come_at.take().unwrap_or(now);
        let since = self.waiting_since.take().unwrap_or(until);
        let stalled_since = self
            .rate()
            .map_or(since, |rate| since.max(self.buffer.dry_at(0, rate)));
        self.consumption.starved(until.since(stalled_since));
    }

    /// Since when it waits. A moment after its byte has come it has read it; if not, it has something to read.
    pub(super) fn waits_since(&self, now: Tick) -> Option<Tick> {
        self.waiting_since
            .filter(|_| self.come_at.is_none_or(|at| now <= at + Self::MOMENT))
    }

    /// Its first missing byte, where that is an offset.
    pub(super) const fn lacks(&self) -> Option<u64> {
        match self.need {
            Some(Need {
                at: Start::At(at), ..
            }) => Some(at),
            _ => None,
        }
    }

    /// Whether it takes whatever it gets. A player that is short does so too, but has paused before.
    pub(super) fn is_greedy(&self) -> bool {
        self.rate().is_none() && self.consumption.is_greedy()
    }

    /// Its pauses tell a player from a copy as long as they are a sixteenth of its time: a player on a line 1.1
    /// times as fast as its film pauses for an eleventh, and a copy for next to nothing.
    fn judge_pauses(&mut self, now: Tick, idle: Duration) {
        if idle >= ConsumptionRate::SHORTEST_PAUSE {
            self.paused += idle.min(ConsumptionRate::LONGEST_PAUSE);
        }
        if self.paused.saturating_mul(Self::PAUSED_SHARE) < now.since(self.opened_at) {
            self.shown_rate = None;
        } else {
            self.shown_rate = self.consumption.rate().or(self.shown_rate);
        }
    }

    /// The length has become known: a position counted from the end becomes an offset.
    pub(super) fn resolve(&mut self, total_len: u64) {
        if self.position.is_none() {
            let position = total_len.saturating_sub(self.suffix);
            self.position = Some(position);
            self.read_ahead.on_seek(position);
        }
    }
}

impl Scheduler {
    /// The rate to count with until one is known: 8 Mbit/s, a common film in high definition. The pauses that
    /// make a rate known also tell what the client's buffer holds.
    pub(super) const ASSUMED_RATE: u64 = 1_000_000;

    /// How long a connection is kept open, unread, for a reader that has gone: who closes and reopens does so
    /// within a round trip or two, and a server loses nothing by so short a wait.
    const GRACE: Duration = Duration::from_secs(1);

    pub(super) fn open_reader(
        &mut self,
        id: ReaderId,
        source_id: SourceId,
        start: Start,
        end: Option<u64>,
        hints: Hints,
    ) {
        let Some(source) = self.sources.get_mut(&source_id) else {
            return;
        };
        let mut reader = Reader::new(source_id, start, end, hints, &self.config, self.now);
        if let Some(total_len) = source.total_len {
            reader.resolve(total_len);
        }
        if let Some(gone) = source.came(id, self.now) {
            reader.succeed(&gone);
        }
        self.readers.insert(id, reader);
        self.refresh_reader(id);
    }

    pub(super) fn move_reader(
        &mut self,
        id: ReaderId,
        position: u64,
        idle: Duration,
        waiting: bool,
    ) {
        let now = self.now;
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        let from = reader.position.unwrap_or(position);
        if !idle.is_zero() {
            reader.consumption.paused(now - idle);
            reader.consumption.resumed(now);
        }
        let read = position.saturating_sub(from);
        if read > 0 {
            reader.read_at = now;
        }
        reader.read_ahead.on_read(from, read);
        reader.consumption.consumed(now, read);
        reader.judge_pauses(now, idle);
        let was_looking = reader.since_seek < LOOK;
        reader.since_seek = reader.since_seek.saturating_add(read);
        reader.position = Some(position);
        let goes_on = was_looking && reader.since_seek >= LOOK;
        let began_at = position.saturating_sub(reader.since_seek);
        let of = reader.source;
        // Saying again that it waits does not make a reader wait from now on.
        if read > 0 || !waiting {
            reader.waited_until(now);
        }
        let rate = reader.rate().unwrap_or(Self::ASSUMED_RATE);
        reader.buffer.took(now, read, idle, rate);
        reader.dry_at = reader.buffer.dry_at(0, rate);
        if waiting {
            reader.waiting_since.get_or_insert(now);
            // Reading on among the bytes that are there is not asking again.
            reader.has_given_up = false;
        }
        self.refresh_reader(id);
        if goes_on {
            self.complete_block_before(of, began_at);
        }
    }

    /// A reader that began within a block has gone on to play: the head of that block is worth having, since only whole
    /// blocks are recorded. After a scrub that would be a block for each place that was passed.
    fn complete_block_before(&mut self, id: SourceId, at: u64) {
        let Some(source) = self.sources.get(&id) else {
            return;
        };
        if !source.accepts_ranges || source.window_cap.is_some() {
            return;
        }
        if let Some(head) = ByteRange::try_new(at - at % BLOCK_SIZE, at) {
            for gap in source.present.gaps(head) {
                self.backfill.push(id, gap, Priority::Low);
            }
        }
    }

    pub(super) fn seek_reader(&mut self, id: ReaderId, position: u64) {
        let now = self.now;
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        reader.read_ahead.on_seek(position);
        reader.consumption.restarted(now);
        reader.buffer.emptied(now);
        reader.sought_at = now;
        reader.since_seek = 0;
        reader.is_tried = false;
        reader.position = Some(position);
        reader.has_given_up = false;
        reader.waiting_since = Some(now);
        reader.come_at = None;
        reader.dry_at = now;
        self.refresh_reader(id);
    }

    pub(super) fn close_reader(&mut self, id: ReaderId) {
        let Some(reader) = self.readers.remove(&id) else {
            return;
        };
        if let Some(need) = reader.need {
            self.needs.remove(&(need.urgency, id));
        }
        let Some(source) = self.sources.get_mut(&reader.source) else {
            return;
        };
        source.readers.remove(&id);
        if let Some(at) = reader.lacks() {
            source.lacks.remove(&(at, id));
        }
        let Some(position) = reader.position else {
            return;
        };
        let a_moment_ago = self.now - Self::GRACE;
        let gone = Gone {
            position,
            until: self.now + Self::GRACE,
            rate: reader.rate(),
        };
        if let Some(successor) = source.successor_of(reader.read_at, a_moment_ago) {
            // Some open the new connection before they close the old one.
            if let Some(successor) = self.readers.get_mut(&successor) {
                successor.succeed(&gone);
            }
            self.refresh_source(reader.source);
        } else {
            source.remember(gone);
            self.expectant.insert(reader.source);
        }
    }

    /// Works out anew what a reader needs.
    pub(super) fn refresh_reader(&mut self, id: ReaderId) {
        self.note_coming(id);
        let need = self.need_of(id);
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        let (old, new) = (
            reader.need.map(|need| need.urgency),
            need.map(|need| need.urgency),
        );
        let lacked = reader.lacks();
        reader.need = need;
        let lacks = reader.lacks();
        if lacked != lacks
            && let Some(source) = self.sources.get_mut(&reader.source)
        {
            if let Some(at) = lacked {
                source.lacks.remove(&(at, id));
            }
            source.lacks.extend(lacks.map(|at| (at, id)));
        }
        if old != new {
            if let Some(old) = old {
                self.needs.remove(&(old, id));
            }
            if let Some(new) = new {
                self.needs.insert((new, id));
            }
        }
    }

    /// Notes when the byte has come that a reader waits for.
    fn note_coming(&mut self, id: ReaderId) {
        let now = self.now;
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        let is_there = reader.position.is_some_and(|position| {
            let source = self.sources.get(&reader.source);
            source.is_some_and(|source| source.present.contains(position))
        });
        if !is_there {
            reader.come_at = None;
        } else if reader.waiting_since.is_some() && reader.come_at.is_none() {
            reader.come_at = Some(now);
            reader.dry_at = reader.dry_at.max(now);
        }
    }

    /// Works out anew what every reader of a source needs.
    pub(super) fn refresh_source(&mut self, id: SourceId) {
        let readers: alloc::vec::Vec<ReaderId> = match self.sources.get(&id) {
            Some(source) => source.readers.iter().copied().collect(),
            None => return,
        };
        for reader in readers {
            self.refresh_reader(reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_seems_to_be_a_player_that_left_has_a_minute_to_pause() {
        let start = Tick::ZERO + Duration::from_secs(9);
        let config = Config::default();
        let of = SourceId::new(1);
        let mut reader = Reader::new(of, Start::At(0), None, Hints::default(), &config, start);
        let mut gone = Gone {
            position: 0,
            until: start,
            rate: None,
        };
        reader.succeed(&gone);
        reader.judge_pauses(start, Duration::ZERO);
        assert_eq!(reader.rate(), None);
        gone.rate = Some(1_000_000);
        reader.succeed(&gone);
        reader.judge_pauses(start + Reader::TRUST, Duration::ZERO);
        assert_eq!(reader.rate(), gone.rate);
        let later = start + Reader::TRUST + Duration::from_nanos(1);
        reader.judge_pauses(later, Duration::ZERO);
        assert_eq!(reader.rate(), None);
    }
}
