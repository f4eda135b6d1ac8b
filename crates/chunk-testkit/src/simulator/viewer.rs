//! Those who read.

use std::time::Duration;

use chunk_core::Tick;

use super::Report;
use super::random::Random;

/// How somebody watches.
#[derive(Clone, Copy, Debug)]
pub struct Player {
    rate: u64,
    buffer: Duration,
    seeks: Option<Duration>,
    pub(super) is_rate_told: bool,
}

impl Player {
    /// Plays `rate` bytes a second from a buffer of its own of ten seconds, without a seek.
    #[must_use]
    pub const fn new(rate: u64) -> Self {
        Self {
            rate,
            buffer: Duration::from_secs(10),
            seeks: None,
            is_rate_told: false,
        }
    }

    /// The same where the scheduler is told the rate, as a film's header does.
    #[must_use]
    pub const fn with_told_rate(mut self) -> Self {
        self.is_rate_told = true;
        self
    }

    pub(super) const fn rate(&self) -> u64 {
        self.rate
    }

    /// The same with another buffer of its own.
    #[must_use]
    pub const fn with_buffer(mut self, buffer: Duration) -> Self {
        self.buffer = buffer;
        self
    }

    /// The same with a seek to anywhere about every `time`.
    #[must_use]
    pub const fn with_seeks(mut self, time: Duration) -> Self {
        self.seeks = Some(time);
        self
    }
}

/// What a viewer did with what was there.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) position: u64,
    pub(super) idle: Duration,
    pub(super) waiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Since a start or a seek at this instant no picture has come.
    Starting(Tick),
    Playing,
    /// Ran dry at this instant.
    Stalled(Tick),
}

#[derive(Debug)]
pub(super) struct Viewer {
    /// `None` for a copy.
    player: Option<Player>,
    len: u64,
    position: u64,
    /// It reads no further, and stays.
    stops_at: u64,
    /// Bytes in its own buffer, in byte-nanoseconds a second.
    buffered: u128,
    state: State,
    next_seek: Option<Tick>,
    /// Since when its buffer is full.
    full_since: Option<Tick>,
    is_waiting: bool,
    pace: Pace,
    waited: Duration,
}

/// Whether its viewer wants to see a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Playing,
    Paused,
}

const SECOND: u128 = 1_000_000_000;

impl Player {
    fn bytes_in(&self, time: Duration) -> u128 {
        u128::from(self.rate) * time.as_nanos() / SECOND
    }

    fn capacity(&self) -> u128 {
        self.bytes_in(self.buffer).max(1)
    }

    /// It reads on when this much of its buffer is free: half a second, as players fill in bursts.
    fn burst(&self) -> u128 {
        self.bytes_in(Duration::from_millis(500))
            .min(self.capacity() / 2)
    }

    /// It starts, and goes on after a stall, with this much: half a second.
    fn least(&self) -> u128 {
        self.burst().max(1)
    }

    /// With how many bytes it starts, and goes on after a stall.
    #[must_use]
    pub fn start_bytes(&self) -> u64 {
        u64::try_from(self.least()).unwrap_or(u64::MAX)
    }
}

impl Viewer {
    pub(super) fn player(player: Player, len: u64, now: Tick, random: &mut Random) -> Self {
        Self {
            player: Some(player),
            len,
            position: 0,
            stops_at: u64::MAX,
            buffered: 0,
            state: State::Starting(now),
            next_seek: player.seeks.map(|time| now + random.around(time)),
            full_since: None,
            is_waiting: true,
            pace: Pace::Playing,
            waited: Duration::ZERO,
        }
    }

    pub(super) const fn copy(len: u64) -> Self {
        Self {
            player: None,
            len,
            position: 0,
            stops_at: u64::MAX,
            buffered: 0,
            state: State::Playing,
            next_seek: None,
            full_since: None,
            is_waiting: true,
            pace: Pace::Playing,
            waited: Duration::ZERO,
        }
    }

    /// Somebody who looks at `bytes` bytes from `position` on, as fast as they come, and leaves the rest unread.
    pub(super) const fn look(len: u64, position: u64, bytes: u64) -> Self {
        let mut viewer = Self::copy(len);
        viewer.position = position;
        viewer.stops_at = position.saturating_add(bytes);
        viewer
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// When something changes by itself.
    pub(super) fn next_event(&self, now: Tick) -> Option<Tick> {
        let player = self.player?;
        let buffered = self.buffered / SECOND;
        let target = if self.full_since.is_some() {
            player.capacity() - player.burst()
        } else {
            0
        };
        let drains = (self.is_playing() && buffered > target).then(|| {
            let bytes = self.buffered - target * SECOND;
            let nanos = bytes.div_ceil(u128::from(player.rate.max(1)));
            now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        self.next_seek.into_iter().chain(drains).min()
    }

    /// Plays for `time`, which nothing interrupts.
    pub(super) fn play(&mut self, time: Duration, report: &mut Report) {
        let Some(player) = self.player else {
            return;
        };
        if self.is_playing() {
            let wanted = u128::from(player.rate) * time.as_nanos();
            self.buffered = self.buffered.saturating_sub(wanted);
            report.played += time;
        } else if self.pace == Pace::Playing {
            self.waited += time;
        }
    }

    fn is_playing(&self) -> bool {
        self.state == State::Playing && self.pace == Pace::Playing
    }

    /// How long there was no picture where there should have been one.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) const fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Seeks where it is time; returns where to. At the end it starts over.
    pub(super) fn seek_if_due(&mut self, now: Tick, random: &mut Random) -> Option<u64> {
        let player = self.player?;
        let is_over = self.position >= self.len && self.buffered < SECOND;
        let is_due = self.next_seek.is_some_and(|at| at <= now);
        if !is_over && !is_due {
            return None;
        }
        let to = if is_over { 0 } else { random.below(self.len) };
        self.next_seek = player.seeks.map(|time| now + random.around(time));
        self.jump(now, to);
        Some(to)
    }

    /// Throws its buffer away and starts again from there.
    pub(super) fn jump(&mut self, now: Tick, position: u64) {
        self.position = position.min(self.len);
        self.buffered = 0;
        self.state = State::Starting(now);
        self.full_since = None;
        self.is_waiting = true;
    }

    /// Reads what it has room for; `None` where nothing changed.
    pub(super) fn read(&mut self, now: Tick, there: u64, report: &mut Report) -> Option<Moved> {
        let room = match self.player {
            None => self.stops_at.saturating_sub(self.position),
            Some(player) => {
                let free = player.capacity().saturating_sub(self.buffered / SECOND);
                let is_resting = self.full_since.is_some() && free < player.burst();
                if is_resting {
                    0
                } else {
                    u64::try_from(free).unwrap_or(u64::MAX)
                }
            }
        };
        let taken = there.min(room).min(self.len.saturating_sub(self.position));
        self.position += taken;
        if self.player.is_some() {
            self.buffered += u128::from(taken) * SECOND;
        } else {
            report.copied += taken;
        }
        self.watch(now, report);
        let was_waiting = self.is_waiting;
        self.is_waiting = room > taken && self.position < self.len;
        if taken == 0 && self.is_waiting == was_waiting {
            return None;
        }
        let idle = if taken > 0 {
            self.full_since
                .take()
                .map_or(Duration::ZERO, |since| now.since(since))
        } else {
            Duration::ZERO
        };
        if taken > 0 && taken == room {
            self.full_since = Some(now);
        }
        Some(Moved {
            position: self.position,
            idle,
            waiting: self.is_waiting,
        })
    }

    /// Starts and stops the picture.
    fn watch(&mut self, now: Tick, report: &mut Report) {
        let Some(player) = self.player else {
            return;
        };
        let buffered = self.buffered / SECOND;
        let can_play = buffered >= player.least() || self.position >= self.len;
        match self.state {
            State::Playing if buffered == 0 && self.position < self.len => {
                report.stalls += 1;
                self.state = State::Stalled(now);
            }
            State::Starting(since) if can_play => {
                let time = now.since(since);
                report.starts += 1;
                report.starting += time;
                report.slowest_start = report.slowest_start.max(time);
                self.state = State::Playing;
            }
            State::Stalled(since) if can_play => {
                report.stalled += now.since(since);
                self.state = State::Playing;
            }
            _ => {}
        }
    }
}
