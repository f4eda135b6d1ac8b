//! What no cache can beat: arrival times from delay and rate, and when a player can have played what.

use std::time::Duration;

/// A player plays its film a second at a time: a second of media begins when all of it is there and the one before has
/// been played. Start-up is the wait for the first second, a stall is a second that is not whole when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Viewing {
    /// Until the first second of media begins.
    pub(super) start: Duration,
    pub(super) stalls: u32,
    /// The time of all stalls, without the start.
    pub(super) stalled: Duration,
    /// When the second of media that was played last began.
    pub(super) last_began: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

/// How late a second may be without being a stall: a frame at 50 Hz, which no viewer and no timer tells apart.
const FRAME: Duration = Duration::from_millis(20);

impl Viewing {
    /// What a viewer sees whose seconds of media are whole at these times, counted from the request.
    pub(super) fn of(arrivals: impl IntoIterator<Item = Duration>) -> Self {
        let mut arrivals = arrivals.into_iter();
        let Some(start) = arrivals.next() else {
            return Self::default();
        };
        let mut viewing = Self {
            start,
            last_began: start,
            ..Self::default()
        };
        for arrival in arrivals {
            let due = viewing.last_began + SECOND;
            if arrival > due + FRAME {
                viewing.stalls += 1;
                viewing.stalled += arrival - due;
            }
            viewing.last_began = due.max(arrival);
        }
        viewing
    }

    /// How much of the time until `end` nothing was played, start-up included.
    pub(super) fn idle_until(
        arrivals: impl IntoIterator<Item = Duration>,
        end: Duration,
    ) -> Duration {
        let mut free_from = Duration::ZERO;
        let mut idle = Duration::ZERO;
        for arrival in arrivals {
            let begins = free_from.max(arrival).min(end);
            idle += begins.saturating_sub(free_from);
            free_from = begins + SECOND;
            if free_from >= end {
                return idle;
            }
        }
        idle + (end - free_from)
    }
}

/// When so many bytes are there, on a line that nobody else uses.
pub(super) fn transfer(delay: Duration, bytes: u64, rate: u64) -> Duration {
    delay + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate)
}

/// When the seconds of a film are whole, on a line that nobody else uses.
pub(super) fn arrivals(
    delay: Duration,
    media: u64,
    rate: u64,
) -> impl Iterator<Item = Duration> + Clone {
    (1..).map(move |second| transfer(delay, second * media, rate))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Viewing, arrivals, transfer};

    const DELAY: Duration = Duration::from_millis(50);
    const MEDIA: u64 = 1_000_000;

    fn milliseconds(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_quarter_of_a_mebibyte_takes_what_the_table_says() {
        let time = transfer(DELAY, 256 << 10, 12_500_000);
        assert_eq!(time.as_millis(), 70);
    }

    #[test]
    fn a_line_faster_than_the_film_never_stalls() {
        let viewing = Viewing::of(arrivals(DELAY, MEDIA, 1_300_000).take(20));
        assert_eq!(viewing.start.as_millis(), 819);
        assert_eq!((viewing.stalls, viewing.stalled), (0, Duration::ZERO));
        assert_eq!(viewing.last_began, viewing.start + Duration::from_secs(19));
    }

    #[test]
    fn half_a_line_stalls_before_every_second() {
        // What two readers that share a line of 10.4 Mbit/s evenly make of a film of 8 Mbit/s.
        let viewing = Viewing::of(arrivals(DELAY, MEDIA, 650_000).take(20));
        assert_eq!(viewing.stalls, 19);
        assert_eq!(viewing.stalled.as_millis(), 10_230);
    }

    #[test]
    fn a_stall_moves_what_comes_after_it() {
        let viewing = Viewing::of(milliseconds(&[500, 600, 4_000, 4_100]));
        assert_eq!(viewing.stalls, 1);
        assert_eq!(viewing.stalled, Duration::from_millis(1_500));
        assert_eq!(viewing.last_began, Duration::from_secs(5));
    }

    #[test]
    fn idle_time_counts_the_start_the_stalls_and_the_end_of_what_came() {
        let end = Duration::from_secs(5);
        let idle = |times: &[u64]| Viewing::idle_until(milliseconds(times), end).as_millis();
        assert_eq!(idle(&[]), 5_000);
        assert_eq!(idle(&[1_000]), 4_000);
        assert_eq!(idle(&[1_000, 1_100, 1_200, 1_300, 1_400]), 1_000);
        assert_eq!(idle(&[1_000, 2_500, 2_600]), 1_500 + 500);
        assert_eq!(idle(&[4_900]), 4_900);
        assert_eq!(idle(&[6_000]), 5_000);
    }
}
