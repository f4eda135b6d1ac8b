//! Estimators against what they estimate.

use std::time::Duration;

use chunk_core::{ConsumptionRate, RateEstimator, RoundTrip, Tick};
use proptest::collection::vec;
use proptest::prelude::*;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

fn at(nanos: u64) -> Tick {
    Tick::from_nanos(nanos)
}

/// Whether `value` is within a part in twenty of `wanted`.
fn within_5_percent(value: u64, wanted: u64) -> bool {
    u128::from(value.abs_diff(wanted)) * 20 <= u128::from(wanted)
}

/// The bytes of a stream of `rate` bytes a second in its first `nanos` nanoseconds.
fn bytes_by(rate: u64, nanos: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(nanos) / u128::from(SECOND)).unwrap()
}

proptest! {
    #[test]
    fn a_constant_stream_is_estimated_within_5_percent(
        rate in 10_000..2_000_000_000_u64,
        start in 0..u64::MAX / 2,
        gaps in vec(1..400 * MILLI, 20..200),
    ) {
        let mut estimator = RateEstimator::default();
        estimator.start(at(start));
        let (mut now, mut seen) = (0, 0);
        for gap in gaps {
            now += gap;
            let bytes = bytes_by(rate, now);
            estimator.record(at(start + now), bytes - seen);
            seen = bytes;
        }
        estimator.stop(at(start + now));
        let got = estimator.rate().unwrap();
        prop_assert!(within_5_percent(got, rate), "{got} for {rate}");
        let deviation = estimator.deviation().unwrap();
        prop_assert!(within_5_percent(rate + deviation, rate), "deviation {deviation} of {rate}");
    }

    /// While all samples fit the window the estimate is the plain mean.
    #[test]
    fn inside_the_window_the_rate_is_bytes_over_time(
        samples in vec((20 * MILLI..SECOND, 0..100_000_000_u64), 1..30),
    ) {
        let mut estimator = RateEstimator::new(Duration::from_secs(3600));
        estimator.start(Tick::ZERO);
        let (mut now, mut total) = (0, 0_u64);
        for (gap, bytes) in samples {
            now += gap;
            total += bytes;
            estimator.record(at(now), bytes);
        }
        let mean = u64::try_from(u128::from(total) * u128::from(SECOND) / u128::from(now)).unwrap();
        prop_assert!(estimator.rate().unwrap().abs_diff(mean) <= 2);
    }

    /// A mean, however weighted, lies between the least and the largest of what it is a mean of.
    #[test]
    fn the_rate_stays_between_its_samples(
        samples in vec((20 * MILLI..10 * SECOND, 0..1_u64 << 40), 1..60),
    ) {
        let mut estimator = RateEstimator::default();
        estimator.start(Tick::ZERO);
        let (mut now, mut least, mut most) = (0, u64::MAX, 0);
        for (gap, bytes) in samples {
            now += gap;
            let sample = u64::try_from(u128::from(bytes) * u128::from(SECOND) / u128::from(gap)).unwrap();
            least = least.min(sample);
            most = most.max(sample);
            estimator.record(at(now), bytes);
            let rate = estimator.rate().unwrap();
            // One byte a second for what the fixed point cuts off.
            prop_assert!(least <= rate + 1 && rate <= most, "{least} <= {rate} <= {most}");
            prop_assert!(estimator.deviation().unwrap() <= most - least + 1);
        }
    }

    /// After three windows at a new rate less than a tenth of the old one is left (e⁻³ is a twentieth).
    #[test]
    fn a_change_of_rate_shows_within_three_windows(
        before in 10_000..1_000_000_000_u64,
        after in 10_000..1_000_000_000_u64,
    ) {
        let mut estimator = RateEstimator::default();
        estimator.start(Tick::ZERO);
        let mut now = 0;
        for (rate, steps) in [(before, 100), (after, 60)] {
            for _ in 0..steps {
                now += 100 * MILLI;
                estimator.record(at(now), rate / 10);
            }
        }
        let left = estimator.rate().unwrap().abs_diff(after);
        prop_assert!(left <= before.abs_diff(after) / 10 + 20, "{left} left");
    }

    #[test]
    fn no_clock_and_no_count_upsets_an_estimator(
        steps in vec((any::<u64>(), any::<u64>(), 0..7_u8), 0..60),
        window in any::<u64>(),
    ) {
        let mut rate = RateEstimator::new(Duration::from_nanos(window));
        let mut reader = ConsumptionRate::new(window);
        let mut trip = RoundTrip::new();
        for (time, bytes, what) in steps {
            let now = at(time);
            match what {
                0 => rate.start(now),
                1 => rate.stop(now),
                2 => reader.paused(now),
                3 => reader.resumed(now),
                4 => reader.restarted(now),
                5 => reader.starved(Duration::from_secs(bytes)),
                _ => {}
            }
            rate.record(now, bytes);
            reader.consumed(now, bytes);
            trip.record(Duration::from_secs(bytes));
            prop_assert!(trip.upper_bound() >= trip.estimate());
            prop_assert_eq!(rate.rate().is_some(), rate.deviation().is_some());
            let is_known = rate.rate().is_some_and(|rate| rate > 0);
            prop_assert_eq!(rate.time_for(bytes).is_some(), is_known);
            prop_assert!(reader.rate().is_none() || !reader.is_greedy());
        }
    }

    #[test]
    fn a_round_trip_is_the_median_of_the_last_three(samples in vec(0..10_000_u64, 3..30)) {
        let mut trip = RoundTrip::new();
        for (index, &sample) in samples.iter().enumerate() {
            trip.record(Duration::from_millis(sample));
            if let Some(first) = index.checked_sub(2) {
                let mut last: Vec<_> = samples[first..=index].to_vec();
                last.sort_unstable();
                prop_assert_eq!(trip.estimate(), Some(Duration::from_millis(last[1])));
            }
        }
        let most = *samples.iter().max().unwrap();
        prop_assert!(trip.deviation().unwrap() <= Duration::from_millis(most));
    }

}

#[test]
fn a_stall_shows_when_it_is_recorded_and_idle_time_does_not() {
    let mut stalled = RateEstimator::default();
    stalled.start(Tick::ZERO);
    stalled.record(at(SECOND), 1_000_000);
    let mut idle = stalled.clone();
    assert_eq!(stalled.rate(), Some(1_000_000));
    stalled.record(at(2 * SECOND), 0);
    assert_eq!(stalled.rate(), Some(500_000));

    idle.stop(at(SECOND));
    idle.start(at(1_000 * SECOND));
    idle.record(at(1_001 * SECOND), 1_000_000);
    assert_eq!(idle.rate(), Some(1_000_000));
    assert_eq!(idle.time_for(2_000_000), Some(Duration::from_secs(2)));
}

#[test]
fn the_deviation_is_the_formulas() {
    let mut estimator = RateEstimator::new(Duration::from_secs(60));
    estimator.start(Tick::ZERO);
    estimator.record(at(SECOND), 1_000_000);
    assert_eq!(estimator.deviation(), Some(0));
    // The second sample has half of the weight: 2 MB/s away from what was, so 1 MB/s.
    estimator.record(at(2 * SECOND), 3_000_000);
    assert_eq!(estimator.deviation(), Some(1_000_000));
    assert_eq!(estimator.rate(), Some(2_000_000));
}

#[test]
fn the_time_from_the_last_byte_to_the_stop_is_idle() {
    let mut estimator = RateEstimator::default();
    estimator.start(Tick::ZERO);
    estimator.record(at(SECOND), 1_000_000);
    estimator.stop(at(2 * SECOND));
    assert_eq!(estimator.rate(), Some(1_000_000));
}

#[test]
fn bytes_that_took_no_time_are_not_put_down_to_the_next_answer() {
    let mut estimator = RateEstimator::default();
    estimator.start(at(SECOND));
    estimator.record(at(SECOND), 1_000_000);
    estimator.stop(at(SECOND));
    assert_eq!(estimator.rate(), None);
    estimator.start(at(2 * SECOND));
    estimator.record(at(3 * SECOND), 7_000);
    assert_eq!(estimator.rate(), Some(7_000));
}

#[test]
fn a_short_answer_still_counts() {
    let mut estimator = RateEstimator::default();
    estimator.start(Tick::ZERO);
    estimator.record(at(MILLI), 1_000);
    assert_eq!(estimator.rate(), None, "one millisecond is no sample yet");
    estimator.stop(at(MILLI));
    assert_eq!(estimator.rate(), Some(1_000_000));
}

#[test]
fn the_first_record_of_a_stopped_clock_only_starts_it() {
    let mut estimator = RateEstimator::default();
    estimator.record(at(SECOND), u64::MAX);
    assert_eq!(estimator.rate(), None);
    estimator.record(at(2 * SECOND), 7_000);
    assert_eq!(estimator.rate(), Some(7_000));
}

#[test]
fn one_slow_answer_does_not_move_the_round_trip() {
    let mut trip = RoundTrip::new();
    assert_eq!((trip.estimate(), trip.upper_bound()), (None, None));
    trip.record(Duration::from_millis(40));
    // RFC 6298, 2.2: half the sample, so 40 + 4 · 20.
    assert_eq!(trip.upper_bound(), Some(Duration::from_millis(120)));
    trip.record(Duration::from_millis(50));
    assert_eq!(trip.estimate(), Some(Duration::from_millis(45)));
    // RFC 6298, 2.3: three quarters of 20 and a quarter of 10.
    assert_eq!(trip.deviation(), Some(Duration::from_micros(17_500)));
    trip.record(Duration::from_secs(9));
    assert_eq!(trip.estimate(), Some(Duration::from_millis(50)));
}
