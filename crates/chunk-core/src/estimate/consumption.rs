//! How fast a reader uses up what it reads.

use core::time::Duration;

use super::bytes_per_second;
use crate::Tick;

/// The rate of the media as a reader's pauses betray it.
///
/// A player that has filled its own buffer reads in bursts and leaves its socket blocked in between, for as
/// long as the burst plays. A *cycle* is a burst and the pause after it, and over whole cycles bytes ÷ time is
/// the media's rate. A reader that never pauses (a copy) has no rate but the network's, and none is given.
///
/// - A pause counts from 10 ms on ([`Self::SHORTEST_PAUSE`]): shorter ones are a socket buffer draining.
/// - The first cycle is left out: it fills the player's own buffer.
/// - A cycle with a pause above 30 s ([`Self::LONGEST_PAUSE`]) is left out: that was the viewer's pause.
/// - Time in which the reader waited for us is taken off ([`Self::starved`]).
/// - The sums are halved whenever they span more than 20 s ([`Self::SPAN`]), so the rate follows the media.
#[derive(Clone, Debug)]
pub struct ConsumptionRate {
    greedy_after: u64,
    /// The start of the running cycle, `None` before the first byte.
    cycle_start: Option<Tick>,
    cycle_bytes: u64,
    /// Time in this cycle that was not the reader's.
    cycle_starved: Duration,
    /// Whether the running cycle fills the reader's own buffer.
    is_filling: bool,
    paused_at: Option<Tick>,
    /// Bytes since the last pause that counted.
    unpaused_bytes: u64,
    cycles: u32,
    sum_bytes: u128,
    sum_nanos: u128,
}

impl ConsumptionRate {
    /// Pauses below this are not the reader's pace.
    pub const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
    /// Pauses above this are not the media's.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    /// The span of cycles that the rate rests on: between half of this and all of it.
    pub const SPAN: Duration = Duration::from_secs(20);
    /// Cycles needed before there is a rate: one could be chance.
    pub const FEWEST_CYCLES: u32 = 2;
    /// The default for [`Self::new`]: 20 MiB, the initial buffer.
    pub const GREEDY_AFTER: u64 = 20 * 1024 * 1024;

    /// Nothing measured yet; a reader that takes more than `greedy_after` bytes without a pause is greedy.
    #[must_use]
    pub const fn new(greedy_after: u64) -> Self {
        Self {
            greedy_after,
            cycle_start: None,
            cycle_bytes: 0,
            cycle_starved: Duration::ZERO,
            is_filling: true,
            paused_at: None,
            unpaused_bytes: 0,
            cycles: 0,
            sum_bytes: 0,
            sum_nanos: 0,
        }
    }

    /// The reader took `bytes` at `now`. Ends a pause.
    pub fn consumed(&mut self, now: Tick, bytes: u64) {
        self.resumed(now);
        self.cycle_start.get_or_insert(now);
        self.cycle_bytes = self.cycle_bytes.saturating_add(bytes);
        self.unpaused_bytes = self.unpaused_bytes.saturating_add(bytes);
    }

    /// From `now` on the reader takes nothing although bytes are there for it.
    pub fn paused(&mut self, now: Tick) {
        if self.cycle_start.is_some() {
            self.paused_at.get_or_insert(now);
        }
    }

    /// The reader takes bytes again.
    pub fn resumed(&mut self, now: Tick) {
        let Some(paused_at) = self.paused_at.take() else {
            return;
        };
        let pause = now.since(paused_at);
        if pause < Self::SHORTEST_PAUSE {
            return;
        }
        self.unpaused_bytes = 0;
        let was_filling = core::mem::replace(&mut self.is_filling, false);
        let bytes = core::mem::take(&mut self.cycle_bytes);
        let starved = core::mem::take(&mut self.cycle_starved);
        let Some(start) = self.cycle_start.replace(now) else {
            return;
        };
        if !was_filling && pause <= Self::LONGEST_PAUSE {
            self.add_cycle(bytes, now.since(start).saturating_sub(starved));
        }
    }

    /// The reader waited for `time` because its bytes were not there: neither its pace nor a pause.
    pub fn starved(&mut self, time: Duration) {
        self.cycle_starved = self.cycle_starved.saturating_add(time);
    }

    /// The reader seeked at `now`: it fills its buffer anew, while the rate of the media stays what it was.
    pub fn restarted(&mut self, now: Tick) {
        self.cycle_start = Some(now);
        self.cycle_bytes = 0;
        self.cycle_starved = Duration::ZERO;
        self.is_filling = true;
        self.paused_at = None;
        self.unpaused_bytes = 0;
    }

    /// The media's rate in bytes a second, once pauses have shown it.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        if self.cycles < Self::FEWEST_CYCLES || self.is_greedy() {
            return None;
        }
        bytes_per_second(self.sum_bytes, self.sum_nanos)
    }

    /// Whether the reader has paused since it began or sought last: it may turn out to be a player.
    #[must_use]
    pub const fn has_paused(&self) -> bool {
        self.cycle_start.is_some() && !self.is_filling
    }

    /// Whether the reader has taken so much without a pause that it is a copy rather than a player.
    #[must_use]
    pub const fn is_greedy(&self) -> bool {
        self.unpaused_bytes > self.greedy_after
    }

    fn add_cycle(&mut self, bytes: u64, time: Duration) {
        self.cycles = self.cycles.saturating_add(1);
        self.sum_bytes = self.sum_bytes.saturating_add(bytes.into());
        self.sum_nanos = self.sum_nanos.saturating_add(time.as_nanos());
        if self.sum_nanos > Self::SPAN.as_nanos() {
            self.sum_bytes /= 2;
            self.sum_nanos /= 2;
        }
    }
}

impl Default for ConsumptionRate {
    fn default() -> Self {
        Self::new(Self::GREEDY_AFTER)
    }
}
