//! What a player holds, against players whose buffers are known.

use std::time::Duration;

use chunk_core::{PlayerBuffer, Tick};
use proptest::prelude::*;

const RATE: u64 = 900_000;
/// What a film of that rate may need for a while.
const FASTEST: u64 = 1_012_500;
const NO_PAUSE: Duration = Duration::ZERO;

fn at(seconds: u64) -> Tick {
    Tick::from_millis(seconds * 1_000)
}

#[test]
fn it_runs_dry_when_what_it_took_is_played() {
    let mut buffer = PlayerBuffer::new(at(0));
    buffer.took(at(1), 4 * FASTEST, NO_PAUSE, RATE);
    assert_eq!(buffer.dry_at(0, RATE), at(5));
    assert_eq!(
        buffer.dry_at(2 * FASTEST, RATE),
        at(7),
        "with what is ready"
    );
    buffer.took(at(2), FASTEST, NO_PAUSE, RATE);
    assert_eq!(buffer.dry_at(0, RATE), at(6));
}

#[test]
fn time_that_passes_does_not_move_the_instant() {
    let mut buffer = PlayerBuffer::new(at(0));
    buffer.took(at(0), 4 * FASTEST, NO_PAUSE, RATE);
    buffer.play_until(at(3), RATE);
    assert_eq!(buffer.dry_at(0, RATE), at(4));
}

#[test]
fn an_empty_one_owes_nothing() {
    let mut buffer = PlayerBuffer::new(at(0));
    buffer.took(at(0), FASTEST, NO_PAUSE, RATE);
    buffer.took(at(60), FASTEST, NO_PAUSE, RATE);
    assert_eq!(buffer.dry_at(0, RATE), at(61));
}

#[test]
fn one_that_pauses_is_as_full_as_when_it_first_did() {
    let mut buffer = PlayerBuffer::new(at(0));
    buffer.took(at(0), 10 * FASTEST, NO_PAUSE, RATE);
    // Full until then; and so it was when it stopped reading for the second time, an hour later.
    buffer.took(at(1), FASTEST, Duration::from_secs(1), RATE);
    assert_eq!(buffer.dry_at(0, RATE), at(11));
    buffer.took(at(3_602), 0, Duration::from_secs(2), RATE);
    assert_eq!(buffer.dry_at(0, RATE), at(3_610));
}

#[test]
fn a_film_that_is_faster_than_its_rate_leaves_no_buffer_that_nobody_has() {
    let mut buffer = PlayerBuffer::new(at(0));
    buffer.took(at(0), 10 * FASTEST, NO_PAUSE, RATE);
    for second in 1..=600 {
        buffer.took(
            at(second),
            3 * FASTEST / 2,
            Duration::from_millis(500),
            RATE,
        );
    }
    let dry_at = buffer.dry_at(0, RATE);
    assert!(dry_at <= at(612), "{dry_at:?}");
}

#[test]
fn a_seek_throws_it_away() {
    let mut buffer = PlayerBuffer::new(at(0));
    buffer.took(at(0), 10 * FASTEST, NO_PAUSE, RATE);
    buffer.emptied(at(1));
    assert_eq!(buffer.dry_at(FASTEST, RATE), at(2));
}

proptest! {
    /// A player of a constant rate starts with the first byte, holds `capacity` at most and reads whenever there is
    /// room for a second of film.
    #[test]
    fn a_player_never_holds_less_than_is_thought(
        capacity in 2..30_u64,
        supply in prop::collection::vec(0..4 * RATE, 1..300),
    ) {
        let capacity = capacity * RATE;
        let mut buffer = PlayerBuffer::new(at(0));
        let (mut held, mut ready, mut full_since) = (0, 0_u64, None);
        for (second, brought) in supply.into_iter().enumerate() {
            let now = at(second as u64);
            held = u64::saturating_sub(held, RATE);
            ready += brought;
            if full_since.is_none() || held + RATE <= capacity {
                let taken = ready.min(capacity - held);
                if taken > 0 {
                    let idle = full_since.take().map_or(NO_PAUSE, |since| now.since(since));
                    buffer.took(now, taken, idle, RATE);
                    ready -= taken;
                    held += taken;
                }
                if held == capacity {
                    full_since = Some(now);
                }
            }
            let really = now + Duration::from_millis(held * 1_000 / RATE);
            // What it takes in one go it takes at the end of a second here: one of them either way.
            prop_assert!(buffer.dry_at(0, RATE) <= really + Duration::from_secs(1));
        }
    }
}
