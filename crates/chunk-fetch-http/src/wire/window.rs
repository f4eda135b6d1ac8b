//! How much an origin may send ahead of the reader: pure, from what was read to a size.
//!
//! What the receive buffer admits is lost when a transfer is dropped, and takes the line from others when
//! it stops reading. What it does not admit caps the rate at one window a round trip. Twice what is read in
//! a round trip is what a sender needs that doubles its rate each round trip (RFC 5681, slow start).

use std::time::Duration;

use tokio::time::Instant;

/// The window a connection begins with. No sender fills it before its third round trip (RFC 6928: ten
/// segments, then twenty), by when it has grown.
pub(crate) const INITIAL: usize = 64 * 1024;

/// The largest window: 670 Mbit/s at 50 ms.
pub(crate) const LARGEST: usize = 4 * 1024 * 1024;

/// Shorter round trips than this are as good as none: a reader's task is not woken faster under load, nor for what comes
/// in less.
pub(super) const SHORTEST_ROUND_TRIP: Duration = Duration::from_millis(2);

/// A round trip measured while a handshake waited for a lost packet is no round trip.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(500);

/// A round trip that is longer than this many of the shortest is thinking, not distance.
const MOST_INFLATED: u32 = 4;

/// What is read in bursts is averaged over at least this time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The window of one connection. It never shrinks: a connection that needed it once will need it again,
/// and it is dropped with the connection.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    size: usize,
    /// Bytes a second when it last grew.
    rate: u128,
    interval: Option<Interval>,
}

/// How far away the peer is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrip {
    /// At its best.
    pub(crate) shortest: Duration,
    /// At present: with queues, which may be of our own making, and with the origin's thinking.
    pub(crate) present: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    since: Instant,
    bytes: u64,
}

impl ReceiveWindow {
    pub(crate) const fn new() -> Self {
        Self {
            size: INITIAL,
            rate: 0,
            interval: None,
        }
    }

    /// Bytes that the peer may send ahead.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// `bytes` were read at `now`; the size to grow to, where the window may be what holds the sender
    /// back. `round_trip` is asked for at most once an interval.
    pub(crate) fn read(
        &mut self,
        bytes: usize,
        now: Instant,
        round_trip: impl FnOnce() -> RoundTrip,
    ) -> Option<usize> {
        let Some(interval) = &mut self.interval else {
            // The first bytes tell nothing: it is not known how long they took.
            self.interval = Some(Interval {
                since: now,
                bytes: 0,
            });
            return None;
        };
        interval.bytes += bytes as u64;
        if self.size >= LARGEST || interval.bytes < self.size as u64 / 2 {
            // Twice this little is no more than the window, however short the round trip was.
            if now - interval.since > LONGEST_ROUND_TRIP {
                self.interval = None;
            }
            return None;
        }
        let elapsed = now - interval.since;
        if elapsed < SHORTEST_INTERVAL {
            return None;
        }
        let round_trip = round_trip();
        let shortest = round_trip
            .shortest
            .clamp(SHORTEST_ROUND_TRIP, LONGEST_ROUND_TRIP);
        if elapsed < shortest {
            return None;
        }
        let rate = u128::from(interval.bytes) * 1_000_000 / elapsed.as_micros();
        self.interval = Some(Interval {
            since: now,
            bytes: 0,
        });
        let needed = self.needed(rate, shortest, round_trip.present)?;
        self.size = needed;
        self.rate = rate;
        Some(needed)
    }

    /// The size to grow to at `rate`.
    fn needed(&self, rate: u128, shortest: Duration, present: Duration) -> Option<usize> {
        let twice_in = |time: Duration| {
            let bytes = 2 * rate * time.as_micros() / 1_000_000;
            usize::try_from(bytes).unwrap_or(LARGEST).min(LARGEST)
        };
        let certain = twice_in(shortest);
        if certain > self.size {
            return Some(certain);
        }
        // Where the round trip is longer by now, the window may be too small for it; or the queue is made
        // of what the window let through. Growing tells, by the rate.
        let possible = twice_in(present.min(shortest * MOST_INFLATED)).min(self.size * 2);
        let gained = rate > self.rate + self.rate / 8;
        (possible > self.size && gained).then_some(possible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always(round_trip: Duration) -> RoundTrip {
        RoundTrip {
            shortest: round_trip,
            present: round_trip,
        }
    }

    /// The window's size after two seconds of a line with a rate, whose shortest round trip was this, and
    /// whose round trip with `queued` bytes before it is what `present` says.
    fn settle_with(
        shortest: Duration,
        bytes_per_second: u64,
        present: impl Fn(usize) -> Duration,
    ) -> usize {
        let mut window = ReceiveWindow::new();
        let start = Instant::now();
        let mut at = Duration::ZERO;
        while at < Duration::from_secs(2) {
            // A window a round trip at most, in pieces of a millisecond.
            let step = Duration::from_millis(1);
            let by_line = u128::from(bytes_per_second) / 1000;
            let round_trip = present(window.size);
            let by_window = window.size as u128 * step.as_micros() / round_trip.as_micros();
            let bytes = usize::try_from(by_line.min(by_window)).unwrap();
            at += step;
            window.read(bytes, start + at, || RoundTrip {
                shortest,
                present: round_trip,
            });
        }
        window.size
    }

    fn settle(round_trip: Duration, bytes_per_second: u64) -> usize {
        settle_with(round_trip, bytes_per_second, |_| round_trip)
    }

    #[test]
    fn a_round_trip_that_became_longer_does_not_cap_the_rate() {
        let (once, now) = (Duration::from_millis(20), Duration::from_millis(70));
        let rate = 100_000_000 / 8;
        let held = usize::try_from(rate).unwrap() * 70 / 1000;
        let size = settle_with(once, rate, |_| now);
        assert!(size >= held, "{size}");
    }

    #[test]
    fn a_queue_of_its_own_making_does_not_make_it_grow_for_ever() {
        let far = Duration::from_millis(50);
        let rate = 100_000_000 / 8;
        let held = usize::try_from(rate / 20).unwrap();
        // All that the line does not hold is queued before it.
        let size = settle_with(far, rate, |window| {
            far + Duration::from_secs(window.saturating_sub(held) as u64) / 12_500_000
        });
        assert!(size >= held * 19 / 10, "{size}");
        assert!(size <= held * 45 / 10, "{size}");
    }

    #[test]
    fn a_window_grows_to_twice_what_the_line_holds_and_no_further() {
        let far = Duration::from_millis(50);
        for megabits in [20, 100, 300] {
            let rate = megabits * 1_000_000 / 8;
            let held = usize::try_from(rate / 20).unwrap();
            let size = settle(far, rate);
            assert!(size >= held * 19 / 10, "{megabits}: {size}");
            assert!(size <= held * 21 / 10, "{megabits}: {size}");
        }
        assert_eq!(settle(far, 1_000_000_000), LARGEST);
    }

    #[test]
    fn a_near_or_a_slow_origin_leaves_it_small() {
        let near = Duration::from_micros(50);
        assert_eq!(settle(near, 100_000_000 / 8), INITIAL);
        assert_eq!(settle(Duration::from_millis(50), 1_000_000 / 8), INITIAL);
        assert!(settle(near, 1_000_000_000 / 8) < 600_000);
    }

    #[test]
    fn a_reader_that_paused_does_not_seem_fast_afterwards() {
        let mut window = ReceiveWindow::new();
        let start = Instant::now();
        let far = Duration::from_millis(50);
        assert_eq!(window.read(INITIAL, start, || always(far)), None);
        // All that a full buffer held, after a minute, at once.
        let later = start + Duration::from_secs(60);
        assert_eq!(window.read(INITIAL, later, || always(far)), None);
        assert_eq!(window.size, INITIAL);
    }

    #[test]
    fn the_round_trip_is_asked_for_only_where_it_can_matter() {
        let mut window = ReceiveWindow::new();
        let start = Instant::now();
        for n in 0..1000 {
            let now = start + Duration::from_millis(n);
            let size = window.read(8, now, || panic!("nothing to decide"));
            assert_eq!(size, None);
        }
    }
}
