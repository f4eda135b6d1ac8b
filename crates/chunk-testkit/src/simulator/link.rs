//! The line to the origin.

use std::collections::BTreeMap;
use std::time::Duration;

use chunk_core::Tick;
use chunk_core::scheduler::{Input, RunId, SourceId};

/// What a line is like.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    round_trip: Duration,
    rate: u64,
    connection_rate: u64,
}

impl Link {
    /// A line over which an answer takes `round_trip` and which carries `rate` bytes a second in all.
    #[must_use]
    pub const fn new(round_trip: Duration, rate: u64) -> Self {
        Self {
            round_trip,
            rate,
            connection_rate: u64::MAX,
        }
    }

    /// The same where no single connection gets more than `rate` bytes a second.
    #[must_use]
    pub const fn with_connection_rate(mut self, rate: u64) -> Self {
        self.connection_rate = rate;
        self
    }
}

#[derive(Debug)]
struct Connection {
    source: SourceId,
    /// Up to where it was read.
    head: u64,
    /// Up to where bytes have come: what is between lies in a window.
    tail: u64,
    end: u64,
    until: u64,
    /// When the answer comes; `None` once it has.
    answer_at: Option<Tick>,
    /// Byte-nanoseconds a second that have not made a whole delivery yet.
    credit: u128,
    /// The longest piece.
    most: u64,
}

/// The line at work.
#[derive(Debug)]
pub(super) struct Line {
    link: Link,
    connections: BTreeMap<RunId, Connection>,
}

/// Bytes arrive in pieces of this size: what a driver reads from a socket at once.
const PIECE: u64 = 64 * 1024;
/// A slow connection has less waiting when its turn comes: what it brings in 8 ms.
const PIECES_A_SECOND: u64 = 128;
const LEAST_PIECE: u64 = 4 * 1024;
const SECOND: u128 = 1_000_000_000;
/// What comes over a connection that is not read: what a window begins with, and half as much that its origin has written
/// already.
const WINDOW: u64 = 96 * 1024;

impl Connection {
    /// The size of the next piece, 0 while nothing comes.
    fn piece(&self) -> u64 {
        self.rest().min(self.most)
    }

    fn rest(&self) -> u64 {
        if self.answer_at.is_some() {
            return 0;
        }
        let room = self.head.saturating_add(WINDOW).max(self.until);
        room.min(self.end).saturating_sub(self.tail)
    }

    /// What can be read now.
    fn ready(&self) -> u64 {
        let allowed = self.until.min(self.end);
        self.tail.min(allowed).saturating_sub(self.head)
    }

    fn read(&mut self, run: RunId) -> Option<Input> {
        let bytes = self.ready();
        self.head += bytes;
        (bytes > 0).then_some(Input::Progressed { run, bytes })
    }
}

impl Line {
    pub(super) const fn new(link: Link) -> Self {
        Self {
            link,
            connections: BTreeMap::new(),
        }
    }

    pub(super) const fn set_rate(&mut self, rate: u64) {
        self.link.rate = rate;
    }

    pub(super) fn open(
        &mut self,
        now: Tick,
        run: RunId,
        source: SourceId,
        head: u64,
        end: u64,
        until: u64,
    ) {
        self.connections.insert(
            run,
            Connection {
                source,
                head,
                tail: head,
                end,
                until,
                answer_at: Some(now + self.link.round_trip),
                credit: 0,
                most: (self.link.connection_rate.min(self.link.rate) / PIECES_A_SECOND)
                    .clamp(LEAST_PIECE, PIECE),
            },
        );
    }

    pub(super) fn allow(&mut self, run: RunId, until: u64) {
        if let Some(connection) = self.connections.get_mut(&run) {
            connection.until = until;
        }
    }

    pub(super) fn shorten(&mut self, run: RunId, end: u64) {
        if let Some(connection) = self.connections.get_mut(&run) {
            connection.end = connection.end.min(end);
        }
    }

    /// What was in the window is kept. Returns it, and how many bytes were on the wire in vain.
    pub(super) fn close(&mut self, run: RunId) -> (Option<Input>, u64) {
        let share = u128::from(self.share());
        let Some(mut connection) = self.connections.remove(&run) else {
            return (None, 0);
        };
        let on_the_wire = share * self.link.round_trip.as_nanos() / SECOND;
        let left = connection.end.saturating_sub(connection.tail);
        let in_vain = match connection.piece() {
            0 => 0,
            _ => u64::try_from(on_the_wire).unwrap_or(u64::MAX).min(left),
        };
        connection.until = connection.end;
        (connection.read(run), in_vain)
    }

    pub(super) fn next_event(&self, now: Tick) -> Option<Tick> {
        let share = u128::from(self.share().max(1));
        self.connections
            .values()
            .filter_map(|connection| {
                let missing = (u128::from(connection.piece()) * SECOND)
                    .saturating_sub(connection.credit)
                    .div_ceil(share);
                match (connection.answer_at, connection.piece()) {
                    (Some(at), _) => Some(at),
                    (None, _) if connection.ready() > 0 => Some(now),
                    (None, 0) => None,
                    _ => Some(now + Duration::from_nanos(u64::try_from(missing).ok()?)),
                }
            })
            .min()
    }

    /// `passed` has passed until `now`; returns what has come.
    pub(super) fn pass(
        &mut self,
        now: Tick,
        passed: Duration,
        lengths: &BTreeMap<SourceId, u64>,
    ) -> Vec<Input> {
        let gained = u128::from(self.share()) * passed.as_nanos();
        let mut inputs = Vec::new();
        for (&run, connection) in &mut self.connections {
            let piece = connection.piece();
            if piece > 0 {
                connection.credit += gained;
                if connection.credit >= u128::from(piece) * SECOND {
                    connection.credit -= u128::from(piece) * SECOND;
                    connection.tail += piece;
                }
            }
            inputs.extend(connection.read(run));
            if connection.answer_at.is_some_and(|at| at <= now) {
                connection.answer_at = None;
                inputs.push(Input::Answered {
                    run,
                    start: connection.head,
                    end: Some(connection.end),
                    total_len: lengths.get(&connection.source).copied(),
                    accepts_ranges: true,
                });
            }
            if connection.answer_at.is_none() && connection.head >= connection.end {
                inputs.push(Input::Finished { run });
            }
        }
        self.connections.retain(|_, connection| {
            connection.answer_at.is_some() || connection.head < connection.end
        });
        inputs
    }

    /// Bytes a second for each connection over which anything comes.
    fn share(&self) -> u64 {
        let reading = self.connections.values().filter(|found| found.piece() > 0);
        let reading = reading.count() as u64;
        (self.link.rate / reading.max(1)).min(self.link.connection_rate)
    }
}
