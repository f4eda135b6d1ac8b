//! Cases that can be worked out by hand, and the order of the figures.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, proptest};

use super::{Rates, Session, lower_bound, optimum, shared_lower_bound, shared_optimum};

const MB: u64 = 1_000_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// 50 ms away.
fn link(rate: u64) -> Rates {
    Rates::new(ms(50), rate)
}

/// 8 Mbit/s, half a second to start, for a minute.
fn film() -> Session {
    Session::new(MB, MB / 2, 1_000 * MB, ms(0), ms(60_000))
}

#[test]
fn a_link_that_is_fast_enough_costs_a_start_and_no_more() {
    assert_eq!(optimum(&link(2 * MB), &film()), ms(300));
    assert_eq!(lower_bound(&link(2 * MB), &film()), ms(300));
}

#[test]
fn a_link_of_half_the_rate_is_waited_for_half_of_the_time() {
    // 59.95 s bring 29.975 s of film.
    assert_eq!(optimum(&link(MB / 2), &film()), ms(60_000 - 29_975));
    assert_eq!(lower_bound(&link(MB / 2), &film()), ms(60_000 - 29_975));
}

#[test]
fn what_was_read_ahead_bridges_a_dead_link() {
    // By 10.05 s 20 s of film are there, 9.75 s played: 10.25 s are left for a gap of 12 s.
    let rates = link(2 * MB).then(ms(10_050), 0).then(ms(22_050), 2 * MB);
    assert_eq!(optimum(&rates, &film()), ms(300 + 1_750));
    // By 22.05 s 22.05 s of film are due and 20 s came: 2.05 s.
    assert_eq!(lower_bound(&rates, &film()), ms(2_050));
}

#[test]
fn a_seek_costs_a_start_that_one_who_knew_of_it_would_spare() {
    let session = film().seek(ms(30_000), 500 * MB);
    assert_eq!(optimum(&link(2 * MB), &session), ms(600));
    assert_eq!(lower_bound(&link(2 * MB), &session), ms(300));
}

#[test]
fn a_seek_back_into_what_is_there_costs_nothing() {
    let session = film().seek(ms(30_000), 10 * MB).seek(ms(40_000), 45 * MB);
    assert_eq!(optimum(&link(2 * MB), &session), ms(300));
}

#[test]
fn a_short_seek_ahead_is_reached_by_reading_on() {
    // At 1.05 s 2 MB are there; another 50 kB take half of a round trip, and then it starts again.
    let session = film().seek(ms(1_050), 2_050_000);
    assert_eq!(optimum(&link(2 * MB), &session), ms(300 + 25 + 250));
}

#[test]
fn the_former_stream_brings_bytes_while_the_new_one_is_awaited() {
    // 1.95 MB are there at 1.025 s, and 50 ms of the old stream make 2.05 MB: what follows needs no new byte.
    let session = film().seek(ms(1_025), 500 * MB).seek(ms(1_030), 0);
    assert_eq!(optimum(&link(2 * MB), &session), ms(300 + 5));
}

#[test]
fn a_pause_is_not_waited_for_and_fills_the_buffer() {
    // 10 of 60 s at half the rate are paused: 50 s wanted, 29.975 s came.
    let session = film().pause(ms(5_000), ms(15_000));
    assert_eq!(session.wanted(), ms(50_000));
    assert_eq!(optimum(&link(MB / 2), &session), ms(50_000 - 29_975));
}

#[test]
fn a_file_that_is_over_is_not_waited_for() {
    let session = Session::new(MB, MB / 2, 10 * MB, ms(0), ms(60_000));
    assert_eq!(optimum(&link(2 * MB), &session), ms(300));
}

#[test]
fn two_players_share_what_a_link_brings() {
    // 2 × 60 MB are due and 89.925 MB come; each alone would wait for its start.
    let sessions = [film(), film()];
    let rates = link(3 * MB / 2);
    let waited = Duration::from_micros(120_000_000 - 89_925_000);
    assert_eq!(shared_optimum(&rates, &sessions), waited);
    assert_eq!(shared_lower_bound(&rates, &sessions), waited);
    // Where there is enough for both, two starts remain.
    assert_eq!(shared_optimum(&link(4 * MB), &sessions), 2 * ms(175));
}

#[test]
fn the_player_whose_second_costs_the_most_waits_first() {
    // Of 60 + 120 MB due 119.9 MB come: 60.1 MB are missing, which the second player waits 30.05 s for.
    // But the first waits 300 ms for its start alone, which are 300 kB of them.
    let big = Session::new(2 * MB, MB, 1_000 * MB, ms(0), ms(60_000));
    let waited = shared_lower_bound(&link(2 * MB), &[film(), big]);
    assert_eq!(waited, ms(300) + Duration::from_micros(29_900_000));
}

proptest! {
    #[test]
    fn knowing_more_never_waits_longer((rates, sessions) in scene()) {
        for session in &sessions {
            prop_assert!(lower_bound(&rates, session) <= optimum(&rates, session));
            prop_assert!(optimum(&rates, session) <= session.wanted());
        }
        prop_assert!(shared_lower_bound(&rates, &sessions) <= shared_optimum(&rates, &sessions));
        let alone: Duration = sessions.iter().map(|session| optimum(&rates, session)).sum();
        prop_assert!(alone <= shared_optimum(&rates, &sessions));
    }

    #[test]
    fn more_of_a_link_never_waits_longer((rates, sessions) in scene(), more in 1..5_u64) {
        let mut faster = rates.clone();
        for (_, rate) in &mut faster.steps {
            *rate *= more;
        }
        for session in &sessions {
            prop_assert!(lower_bound(&faster, session) <= lower_bound(&rates, session));
        }
        prop_assert!(shared_lower_bound(&faster, &sessions) <= shared_lower_bound(&rates, &sessions));
    }
}

/// A link of up to four steps, and up to three players on it.
fn scene() -> impl Strategy<Value = (Rates, Vec<Session>)> {
    let steps = prop::collection::vec((1..20_000_u64, 0..4 * MB), 0..4);
    let session = (
        MB / 4..3 * MB,
        0..10_000_u64,
        any::<[u16; 4]>(),
        0..5_000_u64,
    );
    (steps, prop::collection::vec(session, 1..4)).prop_map(|(steps, sessions)| {
        let mut rates = Rates::new(ms(40), 2 * MB);
        let mut at = 0;
        for (passes, rate) in steps {
            at += passes;
            rates = rates.then(ms(at), rate);
        }
        let sessions = sessions.into_iter().map(|(rate, joins, jumps, pause)| {
            let mut session = Session::new(rate, rate / 2, 100 * rate, ms(joins), ms(60_000));
            let mut at = joins;
            for jump in jumps {
                at += 50 + u64::from(jump) / 8;
                session = session.seek(ms(at), u64::from(jump) * rate / 1_000);
            }
            session.pause(ms(20_000), ms(20_000 + pause))
        });
        (rates, sessions.collect())
    })
}
