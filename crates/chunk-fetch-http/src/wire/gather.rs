//! How many bytes are worth waking up for: pure, from what was read to a number.
//!
//! A fast line brings a packet every few microseconds. To be woken for each costs several times what its bytes cost,
//! so a reader that has long been served lets the kernel gather what comes in a moment (`SO_RCVLOWAT`). The first bytes
//! of an answer and its last ones never wait, and those of a line that became slow wait [`TOO_LONG`] at most, once.

use std::time::Duration;

use tokio::time::Instant;

use super::window::SHORTEST_ROUND_TRIP;

/// How long to wait for what was to come in two milliseconds before the line counts as slow.
pub(crate) const TOO_LONG: Duration = Duration::from_millis(10);

/// Fewer bytes are read as they come: a line that brings no more than these in [`SHORTEST_ROUND_TRIP`], 130 Mbit/s,
/// wakes nobody often.
const LEAST: usize = 32 * 1024;

/// What is written to the byte store at once.
const MOST: usize = 256 * 1024;

/// With less than this to come, nothing is gathered: an answer's last bytes would not reach the mark. What the layers
/// above have read and not handed on yet counts as still to come here, and is less than half of this.
const NEAR_THE_END: u64 = 1024 * 1024;

/// What is read in bursts is averaged over at least this time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The mark of one connection: with fewer bytes than this, nobody is woken.
#[derive(Debug)]
pub(crate) struct Gather {
    mark: usize,
    interval: Option<Interval>,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    since: Instant,
    bytes: u64,
}

impl Gather {
    /// Every byte counts.
    pub(crate) const fn new() -> Self {
        Self {
            mark: 1,
            interval: None,
        }
    }

    /// Whether bytes may be there of which nobody is told.
    pub(crate) const fn is_on(&self) -> bool {
        self.mark > 1
    }

    /// `bytes` were read at `now`, of an answer of which `to_come` are still to come, through a window of so many; the
    /// mark, where it changes.
    pub(crate) fn read(
        &mut self,
        bytes: usize,
        now: Instant,
        window: usize,
        to_come: u64,
    ) -> Option<usize> {
        if to_come < NEAR_THE_END {
            self.interval = None;
            return self.change(1);
        }
        let Some(interval) = &mut self.interval else {
            // The first bytes tell nothing: it is not known how long they took.
            self.interval = Some(Interval {
                since: now,
                bytes: 0,
            });
            return None;
        };
        interval.bytes += bytes as u64;
        let elapsed = now - interval.since;
        if elapsed < SHORTEST_INTERVAL {
            return None;
        }
        let together = u128::from(interval.bytes) * SHORTEST_ROUND_TRIP.as_micros();
        let together = usize::try_from(together / elapsed.as_micros()).unwrap_or(MOST);
        self.interval = Some(Interval {
            since: now,
            bytes: 0,
        });
        // The other half of the window is for what comes until somebody has woken up.
        let mark = together.min(MOST).min(window / 2);
        if mark < LEAST {
            return self.change(1);
        }
        (mark.abs_diff(self.mark) > self.mark / 4)
            .then(|| self.change(mark))
            .flatten()
    }

    /// Nobody was woken for [`TOO_LONG`]: what there is, is wanted now.
    pub(crate) fn waited(&mut self) -> Option<usize> {
        self.interval = None;
        self.change(1)
    }

    fn change(&mut self, mark: usize) -> Option<usize> {
        let is_new = mark != self.mark;
        self.mark = mark;
        is_new.then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: u64 = 1 << 30;
    const WINDOW: usize = 4 << 20;

    /// The mark after half a second of a line with so many bytes a second.
    fn settle(bytes_per_second: usize, window: usize, to_come: u64) -> usize {
        let mut gather = Gather::new();
        let start = Instant::now();
        for n in 0..500 {
            let now = start + Duration::from_millis(n);
            gather.read(bytes_per_second / 1000, now, window, to_come);
        }
        gather.mark
    }

    #[test]
    fn what_comes_in_two_milliseconds_is_read_at_once() {
        let mark = settle(125_000_000, WINDOW, FAR);
        assert!((200_000..=MOST).contains(&mark), "{mark}");
        assert_eq!(settle(2_000_000_000, WINDOW, FAR), MOST);
    }

    #[test]
    fn a_line_that_wakes_nobody_often_gathers_nothing() {
        assert_eq!(settle(12_500_000, WINDOW, FAR), 1);
    }

    #[test]
    fn half_of_the_window_is_left_for_what_comes_meanwhile() {
        assert_eq!(settle(125_000_000, 128 * 1024, FAR), 64 * 1024);
        assert_eq!(settle(125_000_000, 32 * 1024, FAR), 1);
    }

    #[test]
    fn first_and_last_bytes_of_an_answer_wait_for_no_others() {
        assert_eq!(settle(125_000_000, WINDOW, NEAR_THE_END - 1), 1);
        let mut gather = Gather::new();
        let start = Instant::now();
        for n in 0..10 {
            let now = start + Duration::from_millis(n);
            assert_eq!(gather.read(125_000, now, WINDOW, FAR), None);
        }
        let now = start + Duration::from_millis(10);
        assert!(gather.read(125_000, now, WINDOW, FAR).is_some());
        let last = gather.read(125_000, now, WINDOW, NEAR_THE_END - 1);
        assert_eq!(last, Some(1), "before the end it is over");
    }

    #[test]
    fn a_line_that_became_slow_is_measured_anew() {
        let mut gather = Gather::new();
        let start = Instant::now();
        let mut now = start;
        while !gather.is_on() {
            now += Duration::from_millis(1);
            gather.read(125_000, now, WINDOW, FAR);
        }
        assert_eq!(gather.waited(), Some(1));
        assert_eq!(gather.read(60_000, now + TOO_LONG, WINDOW, FAR), None);
        assert!(!gather.is_on());
    }
}
