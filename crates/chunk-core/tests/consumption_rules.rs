//! The rate of the media as a reader's pauses show it.

use std::time::Duration;

use chunk_core::{ConsumptionRate, Tick};
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

proptest! {
    /// A player reads a burst, waits until it has played, and so on, after filling its own buffer.
    #[test]
    fn a_players_pauses_betray_the_rate_of_the_media(
        rate in 20_000..20_000_000_u64,
        buffer in 0..18 * 1024 * 1024_u64,
        bursts in vec(64 * 1024..2 * 1024 * 1024_u64, 3..40),
    ) {
        let mut reader = ConsumptionRate::default();
        reader.consumed(Tick::ZERO, buffer);
        reader.paused(Tick::ZERO);
        let mut now = SECOND;
        for burst in bursts {
            // A burst arrives in no time, and then plays.
            let playing = u128::from(burst) * u128::from(SECOND) / u128::from(rate);
            let playing = u64::try_from(playing).unwrap();
            prop_assume!((10 * MILLI..30 * SECOND).contains(&playing));
            reader.consumed(at(now), burst);
            reader.paused(at(now));
            now += playing;
        }
        reader.resumed(at(now));
        prop_assert!(within_5_percent(reader.rate().unwrap(), rate));
    }
}

/// A player in cycles of `burst` bytes, each lasting as long as it plays at `rate`.
fn play(reader: &mut ConsumptionRate, start: u64, rate: u64, burst: u64, cycles: u64) -> u64 {
    let cycle = burst * SECOND / rate;
    for index in 0..cycles {
        let now = start + index * cycle;
        reader.consumed(at(now), burst);
        reader.paused(at(now + cycle / 10));
    }
    start + cycles * cycle
}

#[test]
fn a_rate_needs_two_cycles_after_the_players_own_buffer_is_full() {
    let mut reader = ConsumptionRate::default();
    reader.consumed(Tick::ZERO, 15_000_000);
    reader.paused(at(MILLI));
    assert_eq!(reader.rate(), None);
    let now = play(&mut reader, 15 * SECOND, 1_000_000, 500_000, 2);
    assert_eq!(reader.rate(), None, "the second cycle has not ended");
    reader.consumed(at(now), 500_000);
    // The 15 MB that filled the player's own buffer are not in it.
    assert_eq!(reader.rate(), Some(1_000_000));
}

#[test]
fn the_rate_follows_the_media() {
    let mut reader = ConsumptionRate::default();
    let now = play(&mut reader, 0, 1_000_000, 500_000, 100);
    let now = play(&mut reader, now, 3_000_000, 500_000, 600);
    reader.resumed(at(now));
    assert!(within_5_percent(reader.rate().unwrap(), 3_000_000));
}

#[test]
fn a_viewers_pause_is_not_the_pace_of_the_media() {
    let mut reader = ConsumptionRate::default();
    let now = play(&mut reader, 0, 1_000_000, 500_000, 10);
    play(&mut reader, now + 3_600 * SECOND, 1_000_000, 500_000, 10);
    assert_eq!(reader.rate(), Some(1_000_000));
}

#[test]
fn waiting_for_the_origin_is_not_the_pace_of_the_media() {
    let mut reader = ConsumptionRate::default();
    let mut now = play(&mut reader, 0, 1_000_000, 500_000, 3);
    for _ in 0..10 {
        reader.consumed(at(now), 250_000);
        reader.starved(Duration::from_secs(4));
        reader.consumed(at(now + 4 * SECOND), 250_000);
        reader.paused(at(now + 4 * SECOND));
        now += 4 * SECOND + SECOND / 2;
    }
    reader.resumed(at(now));
    assert_eq!(reader.rate(), Some(1_000_000));
}

#[test]
fn a_copy_is_greedy_and_has_no_rate_of_its_own() {
    let mut reader = ConsumptionRate::default();
    let mut now = 0;
    while !reader.is_greedy() {
        assert!(now < 400 * MILLI, "20 MiB went by");
        reader.consumed(at(now), 64 * 1024);
        // What a socket's buffer takes to drain is no pause.
        reader.paused(at(now));
        now += MILLI;
    }
    assert_eq!(now / MILLI, ConsumptionRate::GREEDY_AFTER / (64 * 1024) + 1);
    assert_eq!(reader.rate(), None);
    // One real pause, and it is given another chance.
    reader.paused(at(now));
    reader.resumed(at(now + SECOND));
    assert!(!reader.is_greedy());
}

#[test]
fn a_seek_keeps_the_rate_and_measures_anew() {
    let mut reader = ConsumptionRate::default();
    let now = play(&mut reader, 0, 1_000_000, 500_000, 10);
    reader.restarted(at(now));
    assert_eq!(reader.rate(), Some(1_000_000));
    // The refill of the player's buffer is not the pace of the media.
    reader.consumed(at(now), 15_000_000);
    reader.paused(at(now));
    play(&mut reader, now + SECOND, 1_000_000, 500_000, 5);
    assert_eq!(reader.rate(), Some(1_000_000));
}
