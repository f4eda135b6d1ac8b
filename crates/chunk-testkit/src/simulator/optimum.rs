//! What no scheduler can do better: waiting that the link forces on players.
//!
//! *Waited* is the time in which a player wants to show a picture and has none: at a start, after a seek, and
//! in a stall. The link is a fluid whose rate over time is known ([`Rates`]); a [`Session`] is what one player
//! does. Two figures for one player:
//!
//! - [`optimum`] knows the link and not the seeks to come. With one player, the earliest deadline first is the
//!   bytes in order from the playhead, over the whole link. What was played by then is the largest curve that
//!   starts when the start-up buffer is there, rises at the media's rate and stays below the bytes that have
//!   arrived. What was read ahead before stays, for a seek back into it.
//! - [`lower_bound`] knows the seeks too, and may fetch across them in any order: bytes due by some instant
//!   less what the link can have brought by then are missing, whatever the order. Only the first start
//!   has nothing before it.
//!
//! For several players, [`shared_optimum`] and [`shared_lower_bound`] add the fluid bound of the earliest
//! deadline first: schedules without waiting exist only if at every instant the bytes due by then, of all
//! players, do not exceed what the link has brought. What is missing is waited for, at best by those whose second
//! costs the most bytes, and each player waits at least as long as it would alone.
//!
//! Where the optimum is too good to be true, so that it stays one: a player goes on with the first byte after a
//! stall; a stream skips what is there already, or goes on over a short gap, without another round trip;
//! fetching for one seek never delays another player's.
//!
//! ```
//! use chunk_testkit::simulator::optimum::{Rates, Session, optimum};
//! use std::time::Duration;
//!
//! // Half a second of a film of 8 Mbit/s comes over 16 Mbit/s in a quarter of a second.
//! let rates = Rates::new(Duration::from_millis(50), 2_000_000);
//! let session = Session::new(1_000_000, 500_000, 1 << 30, Duration::ZERO, Duration::from_secs(60));
//! assert_eq!(optimum(&rates, &session), Duration::from_millis(300));
//! ```

use std::time::Duration;

use chunk_core::{ByteRange, RangeSet};

/// What a link brings over time.
#[derive(Clone, Debug)]
pub struct Rates {
    round_trip: u64,
    /// From this nanosecond on, so many bytes a second; in order, the first at 0.
    steps: Vec<(u64, u64)>,
}

/// What one player does.
#[derive(Clone, Debug)]
pub struct Session {
    rate: u64,
    start_bytes: u64,
    len: u64,
    leaves: u64,
    /// When it goes where: its start, and its seeks.
    jumps: Vec<(u64, u64)>,
    /// From when until when it wants no picture.
    pauses: Vec<(u64, u64)>,
}

/// Bytes times this: what a byte a second brings in a nanosecond is one.
const SECOND: u128 = 1_000_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Rates {
    /// A link that carries `rate` bytes a second, over which an answer takes `round_trip`.
    #[must_use]
    pub fn new(round_trip: Duration, rate: u64) -> Self {
        Self {
            round_trip: nanos(round_trip),
            steps: vec![(0, rate)],
        }
    }

    /// From `at` on it carries `rate` bytes a second; steps come in order.
    #[must_use]
    pub fn then(mut self, at: Duration, rate: u64) -> Self {
        self.steps.push((nanos(at), rate));
        self
    }

    fn at(&self, time: u64) -> u64 {
        let passed = self.steps.partition_point(|&(at, _)| at <= time);
        passed
            .checked_sub(1)
            .and_then(|last| self.steps.get(last))
            .map_or(0, |&(_, rate)| rate)
    }

    fn next_step(&self, time: u64) -> u64 {
        let passed = self.steps.partition_point(|&(at, _)| at <= time);
        self.steps.get(passed).map_or(u64::MAX, |&(at, _)| at)
    }

    /// What comes between two instants, in billionths of bytes.
    fn supply(&self, from: u64, until: u64) -> u128 {
        let mut sum = 0;
        let mut time = from;
        while time < until {
            let next = self.next_step(time).min(until);
            sum += u128::from(self.at(time)) * u128::from(next - time);
            time = next;
        }
        sum
    }
}

impl Session {
    /// Plays `rate` bytes a second of a file of `len` bytes from its beginning, once `start_bytes` are there;
    /// from `joins` until `leaves`.
    #[must_use]
    pub fn new(rate: u64, start_bytes: u64, len: u64, joins: Duration, leaves: Duration) -> Self {
        Self {
            rate: rate.max(1),
            start_bytes,
            len,
            leaves: nanos(leaves),
            jumps: vec![(nanos(joins), 0)],
            pauses: Vec::new(),
        }
    }

    /// The same with a seek; seeks come in order.
    #[must_use]
    pub fn seek(mut self, at: Duration, position: u64) -> Self {
        self.jumps.push((nanos(at), position.min(self.len)));
        self
    }

    /// The same with a pause; pauses come in order and do not touch.
    #[must_use]
    pub fn pause(mut self, from: Duration, until: Duration) -> Self {
        self.pauses.push((nanos(from), nanos(until)));
        self
    }

    /// For how long it wants a picture.
    #[must_use]
    pub fn wanted(&self) -> Duration {
        Duration::from_nanos(self.wants(self.joins(), self.leaves))
    }

    fn joins(&self) -> u64 {
        self.jumps.first().map_or(self.leaves, |&(at, _)| at)
    }

    /// The nanoseconds of `from..until` in which it wants a picture.
    fn wants(&self, from: u64, until: u64) -> u64 {
        let paused: u64 = self
            .pauses
            .iter()
            .map(|&(start, end)| end.min(until).saturating_sub(start.max(from)))
            .sum();
        until.saturating_sub(from).saturating_sub(paused)
    }

    fn is_paused(&self, time: u64) -> bool {
        self.pauses
            .iter()
            .any(|&(start, end)| (start..end).contains(&time))
    }

    /// When the next pause begins or ends.
    fn next_change(&self, time: u64) -> u64 {
        self.pauses
            .iter()
            .flat_map(|&(start, end)| [start, end])
            .find(|&at| at > time)
            .unwrap_or(u64::MAX)
    }

    /// From when until when it plays from where.
    fn segments(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let ends = self.jumps.iter().skip(1).map(|&(at, _)| at);
        self.jumps
            .iter()
            .zip(ends.chain([self.leaves]))
            .map(|(&(from, position), until)| (from, until.min(self.leaves), position))
    }
}

/// The least time that a player alone on a link waits where its seeks are not known in advance.
#[must_use]
pub fn optimum(rates: &Rates, session: &Session) -> Duration {
    let mut stream = Stream {
        rates,
        present: RangeSet::new(),
        // There is no former stream.
        head: session.len,
        part: 0,
    };
    let unplayed: u128 = session
        .segments()
        .map(|(from, until, position)| segment(&mut stream, session, from, until, position))
        .sum();
    let waited = unplayed / u128::from(session.rate);
    Duration::from_nanos(u64::try_from(waited).unwrap_or(u64::MAX))
}

/// The least time that a player alone on a link waits even where its seeks are known in advance.
#[must_use]
pub fn lower_bound(rates: &Rates, session: &Session) -> Duration {
    let missing = missing(rates, std::slice::from_ref(session));
    let missing = u64::try_from(missing / u128::from(session.rate)).unwrap_or(u64::MAX);
    first_start(rates, session).max(Duration::from_nanos(missing))
}

/// The least time that players on one link wait in all, where their seeks are not known in advance. Each has
/// a file of its own.
#[must_use]
pub fn shared_optimum(rates: &Rates, sessions: &[Session]) -> Duration {
    shared(rates, sessions, optimum)
}

/// The same where all is known in advance.
#[must_use]
pub fn shared_lower_bound(rates: &Rates, sessions: &[Session]) -> Duration {
    shared(rates, sessions, lower_bound)
}

fn shared(
    rates: &Rates,
    sessions: &[Session],
    alone: fn(&Rates, &Session) -> Duration,
) -> Duration {
    let mut missing = missing(rates, sessions);
    let mut waited = 0;
    let mut willing: Vec<(u64, u64)> = Vec::new();
    for session in sessions {
        let least = nanos(alone(rates, session));
        waited += least;
        missing = missing.saturating_sub(u128::from(session.rate) * u128::from(least));
        willing.push((session.rate, nanos(session.wanted()).saturating_sub(least)));
    }
    // Whose second costs the most bytes waits first.
    willing.sort_unstable_by(|one, other| other.cmp(one));
    for (rate, at_most) in willing {
        let needed = u64::try_from(missing / u128::from(rate)).unwrap_or(u64::MAX);
        let waits = needed.min(at_most);
        waited += waits;
        missing -= u128::from(rate) * u128::from(waits);
        if waits == needed {
            break;
        }
    }
    Duration::from_nanos(waited)
}

/// What the first start of a player costs: the best that can be had before its first seek.
fn first_start(rates: &Rates, session: &Session) -> Duration {
    let mut first = session.clone();
    let end = session.jumps.get(1).map_or(u64::MAX, |&(at, _)| at);
    first.leaves = first.leaves.min(end);
    first.jumps.truncate(1);
    optimum(rates, &first)
}

/// The most billionths of bytes that at some instant are due without waiting, each byte once, and cannot have come.
fn missing(rates: &Rates, sessions: &[Session]) -> u128 {
    let Some(opens) = sessions.iter().map(Session::joins).min() else {
        return 0;
    };
    let first = opens.saturating_add(rates.round_trip);
    let mut instants: Vec<u64> = rates.steps.iter().map(|&(at, _)| at).collect();
    for session in sessions {
        instants.extend(session.jumps.iter().map(|&(at, _)| at));
        instants.extend(session.pauses.iter().flat_map(|&(start, end)| [start, end]));
        instants.push(session.leaves);
    }
    instants
        .into_iter()
        .map(|instant| {
            let due: u128 = sessions
                .iter()
                .map(|session| u128::from(due(session, instant)) * SECOND)
                .sum();
            due.saturating_sub(rates.supply(first, instant))
        })
        .max()
        .unwrap_or(0)
}

/// The bytes that a player without waiting has played by then, each once and whole ones only.
fn due(session: &Session, instant: u64) -> u64 {
    let mut played = RangeSet::new();
    for (from, until, position) in session.segments() {
        let time = session.wants(from, until.min(instant));
        let bytes = u128::from(session.rate) * u128::from(time) / SECOND;
        let end = position.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if let Some(range) = ByteRange::try_new(position, end.min(session.len)) {
            played.insert(range);
        }
    }
    played.len()
}

/// The one stream of the optimum.
#[derive(Debug)]
struct Stream<'a> {
    rates: &'a Rates,
    present: RangeSet,
    head: u64,
    /// Billionths of the byte at the head that are there.
    part: u128,
}

impl Stream<'_> {
    /// Skips what is there.
    fn skip(&mut self) {
        let there = self.present.contiguous_from(self.head);
        if there > 0 {
            self.head += there;
            self.part = 0;
        }
    }

    /// How many billionths of bytes until the file ends or something is there already.
    fn room(&self, len: u64) -> u128 {
        let gap = ByteRange::try_new(self.head, len)
            .and_then(|rest| self.present.first_gap(rest))
            .map_or(0, ByteRange::len);
        (u128::from(gap) * SECOND).saturating_sub(self.part)
    }

    /// Takes in what the link brings, up to the next thing that is there.
    fn take(&mut self, brought: u128, len: u64) {
        let all = self.part + brought.min(self.room(len));
        let bytes = u64::try_from(all / SECOND).unwrap_or(0);
        if let Some(range) = ByteRange::try_new(self.head, self.head + bytes) {
            self.present.insert(range);
        }
        self.head += bytes;
        self.part = all % SECOND;
        self.skip();
    }

    /// Streams on from `from` until `until`, across whatever is there.
    fn flow(&mut self, from: u64, until: u64, len: u64) {
        let mut time = from;
        while time < until && self.room(len) > 0 {
            let (rate, room) = (self.rates.at(time), self.room(len));
            let next = self.rates.next_step(time).min(until);
            let next = next.min(time.saturating_add(nanos_for(room, rate)));
            self.take(u128::from(rate) * u128::from(next - time), len);
            time = next;
        }
    }

    /// Turns to `position` at `now`, where the former stream flows until the new one comes; returns when that is.
    fn turn(&mut self, now: u64, until: u64, position: u64, len: u64) -> u64 {
        let there = self.present.contiguous_from(position);
        if there > 0 || position >= len {
            self.go_to(position);
            return now;
        }
        let answered = now.saturating_add(self.rates.round_trip);
        let before = self
            .present
            .iter()
            .map(ByteRange::end)
            .take_while(|&end| end <= position)
            .last();
        let gap = before.map_or(u128::MAX, |end| u128::from(position - end) * SECOND);
        if gap <= self.rates.supply(now, answered) {
            // A stream that stood there is sooner than a new one.
            let comes = after(self.rates, now, gap).min(answered);
            if let Some(range) = before.and_then(|end| ByteRange::try_new(end, position))
                && comes <= until
            {
                self.present.insert(range);
            }
            self.go_to(position);
            return comes;
        }
        self.flow(now, answered.min(until), len);
        self.go_to(position);
        answered
    }

    fn go_to(&mut self, position: u64) {
        self.head = position;
        self.part = 0;
        self.skip();
    }
}

/// The nanoseconds in which a rate brings that much, rounded up.
fn nanos_for(amount: u128, rate: u64) -> u64 {
    match rate {
        0 => u64::MAX,
        _ => u64::try_from(amount.div_ceil(u128::from(rate))).unwrap_or(u64::MAX),
    }
}

/// When that much has come since `from`.
fn after(rates: &Rates, from: u64, amount: u128) -> u64 {
    let (mut time, mut left) = (from, amount);
    while left > 0 {
        let (rate, next) = (rates.at(time), rates.next_step(time));
        let ready = time.saturating_add(nanos_for(left, rate));
        if ready <= next {
            return ready;
        }
        left -= u128::from(rate) * u128::from(next - time);
        time = next;
    }
    time
}

/// Plays from one jump to the next; returns the billionths of bytes that it wanted and did not play.
fn segment(
    stream: &mut Stream<'_>,
    session: &Session,
    from: u64,
    until: u64,
    position: u64,
) -> u128 {
    let len = session.len;
    let comes = stream.turn(from, until, position, len);
    let file = u128::from(len - position) * SECOND;
    let least = (u128::from(session.start_bytes) * SECOND).min(file);
    let rate = u128::from(session.rate);
    let (mut time, mut played, mut has_started) = (from, 0_u128, false);
    let mut unplayed = 0;
    // At the end of the file nothing more is wanted.
    while time < until && played < file {
        let arrived = u128::from(stream.head - position) * SECOND + stream.part;
        has_started |= arrived >= least;
        let room = stream.room(len);
        let brings = if time < comes || room == 0 {
            0
        } else {
            stream.rates.at(time)
        };
        let mut next = until
            .min(stream.rates.next_step(time))
            .min(session.next_change(time));
        if time < comes {
            next = next.min(comes);
        }
        if has_started {
            next = next.min(time.saturating_add(nanos_for(file - played, session.rate)));
        }
        next = next.min(time.saturating_add(nanos_for(room, brings).max(1)));
        if !has_started {
            next = next.min(time.saturating_add(nanos_for(least - arrived, brings).max(1)));
        }
        let passed = u128::from(next - time);
        let brought = (u128::from(brings) * passed).min(room);
        if !session.is_paused(time) {
            // Between two events both curves are straight, so their lesser end is what can have been played.
            let wanted = played + rate * passed;
            if has_started {
                played = wanted.min(arrived + brought);
            }
            unplayed += wanted.min(file) - played;
        }
        stream.take(brought, len);
        time = next;
    }
    unplayed
}

#[cfg(test)]
mod brute;
#[cfg(test)]
mod tests;
