//! What the scheduler makes of hours of playback.
#![expect(
    clippy::print_stderr,
    reason = "the figures are of interest where a test is run by itself"
)]

use std::time::Duration;

use chunk_core::scheduler::Config;
use chunk_core::{ByteRange, RangeSet};
use chunk_testkit::simulator::{Link, Player, Report, Simulation};

const HOUR: Duration = Duration::from_secs(3_600);
/// 8 Mbit/s, in bytes.
const FILM: u64 = 1_000_000;
/// Two hours of it.
const LEN: u64 = 7_200 * FILM;
const NEAR: Duration = Duration::from_millis(50);

fn hour_with_seeks(seed: u64) -> Report {
    let link = Link::new(NEAR, 3 * FILM / 2);
    let mut simulation = Simulation::new(Config::default(), link, seed);
    simulation.add_player(LEN, Player::new(FILM).with_seeks(Duration::from_secs(120)));
    simulation.run(HOUR)
}

#[test]
fn an_hour_of_playback_with_seeks_never_stalls_and_replays() {
    let report = hour_with_seeks(1);
    eprintln!("{report:?}");
    assert_eq!(report.stalls, 0, "{report:?}");
    assert!(report.starts > 20, "{report:?}");
    // Half a second of film at 1.5 times its rate, a round trip, and what a seek has to wait for.
    assert!(
        report.slowest_start < Duration::from_millis(600),
        "{report:?}"
    );
    assert_eq!(report, hour_with_seeks(1));
    assert_ne!(report.trace, hour_with_seeks(2).trace);
}

#[test]
fn seeks_cost_what_was_read_ahead_and_no_more() {
    let report = hour_with_seeks(3);
    // Each seek throws away at most the window and what was on the wire.
    let window = 31 * FILM;
    assert!(report.wasted < report.starts * window, "{report:?}");
    let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, 4 * FILM), 3);
    simulation.add_player(LEN, Player::new(FILM));
    let steady = simulation.run(HOUR);
    eprintln!("{steady:?}");
    assert!(steady.wasted < 2 * window, "{steady:?}");
    assert_eq!((steady.stalls, steady.starts), (0, 1));
}

/// A player that needs 8 Mbit/s and a copy that takes all it gets share 10.4 Mbit/s.
fn player_and_copy(buffer: Duration, is_copy_first: bool) -> Report {
    let link = Link::new(NEAR, 1_300_000);
    let mut simulation = Simulation::new(Config::default(), link, 1);
    let player = Player::new(FILM).with_buffer(buffer);
    if is_copy_first {
        simulation.add_copy(LEN);
        simulation.run(Duration::from_secs(60));
        simulation.add_player(LEN, player);
    } else {
        simulation.add_player(LEN, player);
        simulation.run(Duration::from_secs(60));
        simulation.add_copy(LEN);
    }
    simulation.run(HOUR / 4)
}

#[test]
fn a_steady_player_beside_a_greedy_copy() {
    for buffer in [1, 3, 10] {
        for is_copy_first in [false, true] {
            let report = player_and_copy(Duration::from_secs(buffer), is_copy_first);
            eprintln!("buffer {buffer} s, copy first: {is_copy_first}: {report:?}");
            assert_eq!(report.stalls, 0, "{report:?}");
            // What the player leaves goes to the copy.
            assert!(report.copied > 225 * FILM, "{report:?}");
        }
    }
}

#[test]
fn a_player_that_comes_shortly_after_a_copy_shows_that_it_plays() {
    // Neither is known to play when the player comes; half of the line would starve it.
    for (earlier, buffer) in [(500, 2), (1_000, 2), (3_000, 2), (1_000, 1)] {
        let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, 1_300_000), 1);
        simulation.add_copy(LEN);
        simulation.run(Duration::from_millis(earlier));
        let player = Player::new(FILM).with_buffer(Duration::from_secs(buffer));
        simulation.add_player(LEN, player);
        let report = simulation.run(Duration::from_secs(60));
        eprintln!("{earlier} ms later, {buffer} s: {report:?}");
        assert_eq!(report.stalls, 0, "{report:?}");
        assert!(report.slowest_start < Duration::from_secs(2), "{report:?}");
        // The copy has what the player leaves, but for what fills the player's window.
        assert!(report.copied > 3 * FILM, "{report:?}");
    }
}

/// The same where the line is another one every second, now and then no faster than the film.
#[test]
fn a_player_beside_a_copy_shows_that_it_plays_on_a_line_that_changes() {
    for seed in 0..20_u64 {
        let mut draw = seed;
        let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, FILM), 1);
        simulation.add_copy(LEN);
        simulation.run(Duration::from_secs(1));
        let player = Player::new(FILM).with_buffer(Duration::from_millis(2_500));
        simulation.add_player(LEN, player);
        let mut report = Report::default();
        for _ in 0..60 {
            // Knuth's generator.
            draw = draw
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            simulation.set_rate(FILM + (draw >> 33) % (FILM * 6 / 10));
            report = simulation.run(Duration::from_secs(1));
        }
        assert_eq!(report.stalls, 0, "{seed}: {report:?}");
    }
}

/// The first 24 seconds of the benchmark's second line, on which a player and its system hold so much between them.
#[test]
fn a_player_whose_system_holds_a_second_of_film_shows_that_it_plays_on_a_line_that_changes() {
    const RATES: [u64; 24] = [
        1_193_506, 1_404_756, 1_068_473, 1_352_932, 1_586_365, 1_109_652, 1_067_375, 1_038_485,
        1_377_100, 1_318_037, 1_218_541, 1_030_565, 1_048_876, 1_134_751, 1_129_740, 1_538_254,
        1_510_968, 1_482_291, 1_355_067, 1_036_073, 1_096_130, 1_265_447, 1_200_328, 1_055_785,
    ];
    for millis in [2_000, 2_400, 2_800, 3_200, 3_400] {
        let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, RATES[0]), 1);
        simulation.add_copy(LEN);
        simulation.run(Duration::from_secs(1));
        let player = Player::new(FILM).with_buffer(Duration::from_millis(millis));
        simulation.add_player(LEN, player);
        let mut report = Report::default();
        for rate in &RATES[1..] {
            simulation.set_rate(*rate);
            report = simulation.run(Duration::from_secs(1));
        }
        assert_eq!(report.stalls, 0, "{millis} ms: {report:?}");
    }
}

/// How long a player stands still beside somebody who comes that much later, on 10.4 Mbit/s; its rate is shown by pauses.
fn stalled_by_who_comes(later: u64, come: impl FnOnce(&mut Simulation)) -> Report {
    let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, 1_300_000), 1);
    simulation.add_player(LEN, Player::new(FILM).with_buffer(Duration::from_secs(2)));
    simulation.run(Duration::from_millis(later));
    come(&mut simulation);
    simulation.run(Duration::from_secs(60))
}

#[test]
fn a_copy_that_comes_shortly_after_a_player_costs_it_little() {
    for later in [500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000] {
        let report = stalled_by_who_comes(later, |simulation| {
            simulation.add_copy(LEN);
        });
        eprintln!("{later} ms later: {report:?}");
        // Who plays cannot be told from who copies before its buffer is full and it has paused more than once, after
        // eleven seconds of this line; each has the chance to show it. Then it is known for good.
        assert!(report.stalls <= 3, "{report:?}");
        assert!(report.stalled < Duration::from_secs(15), "{report:?}");
    }
}

#[test]
fn a_small_film_beside_a_player_costs_it_little() {
    for later in [0, 500, 3_000, 6_000] {
        let report = stalled_by_who_comes(later, |simulation| {
            let small = Player::new(FILM / 10).with_buffer(Duration::from_secs(2));
            simulation.add_player(LEN / 10, small);
        });
        eprintln!("{later} ms later: {report:?}");
        assert!(report.stalled < Duration::from_secs(1), "{report:?}");
    }
}

/// Somebody looks at 64 KiB near the end of a film and leaves the connection open; what is there for it in the
/// buffers between counts as read.
const LOOK: u64 = 192 * 1024;

#[test]
fn a_look_at_the_end_of_a_film_costs_about_what_was_looked_at() {
    let before_end = |bytes: u64| LEN - bytes;
    for from in [700_000, 3_000_000, 12_000_000] {
        let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, 1_300_000), 1);
        simulation.add_look(LEN, before_end(from), LOOK);
        let report = simulation.run(Duration::from_secs(60));
        eprintln!("{from} before the end: {report:?}");
        assert!(report.origin_bytes < LOOK + 3 * 64 * 1024, "{report:?}");
    }
}

#[test]
fn a_look_at_the_end_of_a_film_stops_nobody() {
    for is_told in [true, false] {
        for later in [1_000, 3_000, 5_000, 20_000] {
            let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, 1_300_000), 1);
            let player = Player::new(FILM).with_buffer(Duration::from_secs(1));
            simulation.add_player(
                LEN,
                if is_told {
                    player.with_told_rate()
                } else {
                    player
                },
            );
            simulation.run(Duration::from_millis(later));
            simulation.add_look(LEN, LEN - 3_000_000, LOOK);
            let report = simulation.run(Duration::from_secs(60));
            eprintln!("{is_told} {later} ms later: {report:?}");
            assert_eq!(report.stalls, 0, "{report:?}");
        }
    }
}

#[test]
fn a_metered_line_has_its_window_ready_and_no_more_over_several_connections_either() {
    const TAKEN: u64 = 16 << 20;
    let link = Link::new(NEAR, 10 * FILM).with_connection_rate(FILM);
    let cost = |is_metered| {
        let config = Config::default().with_metered(is_metered);
        let mut simulation = Simulation::new(config, link, 1);
        simulation.add_look(LEN, 0, TAKEN);
        let report = simulation.run(Duration::from_secs(60));
        eprintln!("metered: {is_metered}: {report:?}");
        assert_eq!(report.copied, TAKEN, "{report:?}");
        assert!(report.requests > 4, "several connections: {report:?}");
        report.wasted
    };
    // What is ready, and what the windows of the connections hold.
    let window = 1024 * 1024;
    assert!(cost(true) < window + window / 2);
    assert!(
        cost(false) > 3 * window,
        "the line gains from several connections"
    );
}

#[test]
fn five_players_share_four_runs() {
    let link = Link::new(NEAR, 8 * FILM);
    let mut simulation = Simulation::new(Config::default(), link, 1);
    for _ in 0..5 {
        simulation.add_player(LEN, Player::new(FILM));
    }
    let report = simulation.run(HOUR);
    eprintln!("{report:?}");
    assert_eq!(report.stalls, 0, "{report:?}");
    assert!(report.slowest_start < Duration::from_secs(2), "{report:?}");
}

/// How long a copy of 32 MiB takes, and what it took to get there.
fn seconds_for_32_mib(link: Link) -> (Duration, Report) {
    seconds_for_the_rest_of_32_mib(link, RangeSet::new())
}

/// The same where some of it is there already.
fn seconds_for_the_rest_of_32_mib(link: Link, present: RangeSet) -> (Duration, Report) {
    const LEN: u64 = 32 << 20;
    const STEP: Duration = Duration::from_millis(1);
    let mut simulation = Simulation::new(Config::default(), link, 1);
    simulation.add_copy_of_the_rest(LEN, present);
    let mut time = Duration::ZERO;
    loop {
        time += STEP;
        let report = simulation.run(STEP);
        if report.copied >= LEN {
            return (time, report);
        }
        assert!(time < Duration::from_secs(60), "{report:?}");
    }
}

#[test]
fn an_origin_that_limits_each_connection_is_read_over_several() {
    let link = Link::new(NEAR, 12_500_000).with_connection_rate(1_250_000);
    let (time, report) = seconds_for_32_mib(link);
    eprintln!("10 of 100 Mbit/s a connection: {time:?}, {report:?}");
    assert!(time <= Duration::from_millis(3_300), "{time:?} {report:?}");
}

#[test]
fn one_connection_that_fills_the_line_is_not_held_up_by_trying() {
    let (time, report) = seconds_for_32_mib(Link::new(NEAR, 12_500_000));
    eprintln!("100 Mbit/s shared: {time:?}, {report:?}");
    assert!(time <= Duration::from_millis(2_780), "{time:?} {report:?}");
}

#[test]
fn islands_that_are_there_cost_no_round_trips() {
    const MIB: u64 = 1 << 20;
    let island = |index: u64| ByteRange::new(index * 4 * MIB, index * 4 * MIB + MIB).unwrap();
    let present: RangeSet = (1..8).map(island).collect();
    let (time, report) = seconds_for_the_rest_of_32_mib(Link::new(NEAR, 12_500_000), present);
    eprintln!("seven islands at 100 Mbit/s: {time:?}, {report:?}");
    // 25 MiB take 2.1 s, and the first answer 50 ms; without foresight it would be another 350 ms.
    assert!(time <= Duration::from_millis(2_180), "{time:?} {report:?}");
}

/// Lines that one connection fills: trying finds nothing, and leaves nothing behind.
#[test]
fn where_more_connections_bring_nothing_one_is_kept() {
    const STEP: Duration = Duration::from_millis(100);
    for (megabits, away) in [10, 12, 16, 24, 50, 100]
        .into_iter()
        .flat_map(|megabits| [20, 50, 150].map(|away| (megabits, away)))
    {
        for copies in [false, true] {
            let link = Link::new(Duration::from_millis(away), megabits * 125_000);
            let mut simulation = Simulation::new(Config::default(), link, 1);
            if copies {
                simulation.add_copy(LEN);
            } else {
                simulation.add_player(LEN, Player::new(FILM));
            }
            let before = simulation.run(Duration::from_secs(5)).requests;
            let mut several = Duration::ZERO;
            let mut after = before;
            for _ in 0..550 {
                after = simulation.run(STEP).requests;
                if simulation.connections() > 1 {
                    several += STEP;
                }
            }
            let what = format!("{megabits} Mbit/s, {away} ms away, a copy: {copies}");
            // Three trials, 10, 20 and 40 s apart.
            assert!(after - before <= 8, "{what}: {} requests", after - before);
            assert!(several < Duration::from_secs(3), "{what}: {several:?}");
        }
    }
}

/// Nobody knows that they need no more than half of the line each, and each has a trial while it fills its buffer: the other
/// one has a turn every five seconds. With turns every two it would be 6.6 s at worst; then the trial of a film of 8 Mbit/s
/// beside a copy shows nothing on a line of 10.4.
#[test]
fn films_for_which_an_even_share_is_enough_do_not_stop_each_other_for_long() {
    for (buffer, most) in [(2, 0), (10, 7_200), (20, 9_500)] {
        for later in [1, 2, 5, 10] {
            for beside_copy in [false, true] {
                let rate = if beside_copy { 5 } else { 3 } * FILM / 2;
                let mut simulation = Simulation::new(Config::default(), Link::new(NEAR, rate), 1);
                let player = Player::new(FILM / 2).with_buffer(Duration::from_secs(buffer));
                simulation.add_player(LEN, player);
                simulation.run(Duration::from_secs(later));
                simulation.add_player(LEN, player);
                if beside_copy {
                    simulation.add_copy(LEN);
                }
                let report = simulation.run(Duration::from_secs(60));
                eprintln!("{buffer} s, {later} s later, copy {beside_copy}: {report:?}");
                assert!(report.stalled <= Duration::from_millis(most), "{report:?}");
            }
        }
    }
}
