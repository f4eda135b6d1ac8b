//! How long a player can go on with what it has.

use core::time::Duration;

use super::{ConsumptionRate, bytes_in};
use crate::Tick;

/// What a player holds in its own buffer, as far as its reading tells.
///
/// What it has taken less what it has played since, at the rate of its film and from the first byte on: a player
/// starts a little later, so that it holds rather more. It was full when it stopped reading although
/// bytes were there, and what it held when it did so first is what it holds whenever it does.
#[derive(Clone, Copy, Debug)]
pub struct PlayerBuffer {
    held: u64,
    /// When it held that much.
    at: Tick,
    /// Since when it takes bytes, and how many it has taken, until it pauses for the first time.
    filling: Option<(Tick, u64)>,
    /// What it took until it paused for the first time, and for how long.
    filled: Option<(u64, Duration)>,
}

impl PlayerBuffer {
    /// An empty one.
    #[must_use]
    pub const fn new(now: Tick) -> Self {
        Self {
            held: 0,
            at: now,
            filling: Some((now, 0)),
            filled: None,
        }
    }

    /// The player took `bytes` at `now`, after having left bytes unread for `idle`; its film has this rate.
    pub fn took(&mut self, now: Tick, bytes: u64, idle: Duration, rate: u64) {
        if idle >= ConsumptionRate::SHORTEST_PAUSE {
            let since = now - idle;
            if let Some((first, taken)) = self.filling.take() {
                self.filled = Some((taken, since.since(first)));
            }
            self.play_until(since, rate);
            self.held = self.capacity(rate);
        }
        self.play_until(now, rate);
        self.held = self.held.saturating_add(bytes);
        self.filling = match self.filling {
            Some((_, 0)) => Some((now, bytes)),
            Some((first, taken)) => Some((first, taken.saturating_add(bytes))),
            None => None,
        };
    }

    /// The player went elsewhere, and threw away what it had.
    pub const fn emptied(&mut self, now: Tick) {
        self.held = 0;
        self.at = now;
        self.filling = Some((now, 0));
    }

    /// When it runs dry, with `more` bytes that it is still to take.
    #[must_use]
    pub fn dry_at(&self, more: u64, rate: u64) -> Tick {
        self.at + time_for(self.held.saturating_add(more), at_most(rate))
    }

    /// What it has played by then is no longer held.
    pub fn play_until(&mut self, now: Tick, rate: u64) {
        let played = bytes_in(at_most(rate), now.since(self.at));
        self.held = self.held.saturating_sub(played);
        self.at = self.at.max(now);
    }

    fn capacity(&self, rate: u64) -> u64 {
        self.filled.map_or(0, |(bytes, time)| {
            bytes.saturating_sub(bytes_in(rate, time))
        })
    }
}

/// The rate that a film of that rate may have for a while: an eighth more. A player that is thought to hold what it
/// does not would run dry unseen; one that is kept a little fuller pauses now and then, which tells.
const fn at_most(rate: u64) -> u64 {
    const MARGIN: u64 = 8;
    rate.saturating_add(rate / MARGIN)
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
