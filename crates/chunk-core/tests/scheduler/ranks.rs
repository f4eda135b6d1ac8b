//! Who goes first, and who rests meanwhile.

use std::time::Duration;

use chunk_core::Priority;
use chunk_core::scheduler::{Config, Input, Start};

use crate::driver::{World, range, reader};
use crate::scenes::{KIB, MIB, NO_PAUSE, in_flight, with_runs};

/// The film's rate, bytes a second.
const FILM: u64 = 1_000_000;
/// Long enough to be told from a socket that drains.
const PAUSE: Duration = Duration::from_secs(1);

/// A player of a film of its own, whose rate is told, and which holds so many seconds of it.
pub(crate) fn player_with(world: &mut World, id: u64, seconds: u64) {
    world.open(id, 1_000 * MIB);
    world.read(id, id, Start::At(0), None);
    world.input(Input::ReaderRate {
        reader: reader(id),
        rate: Some(FILM),
    });
    bring(world, id, seconds * FILM);
}

/// The run of that file brings so many bytes, and its reader takes them.
pub(crate) fn bring(world: &mut World, id: u64, bytes: u64) {
    let until = world.present_of(id) + bytes;
    while world.present_of(id) < until {
        let (run, _) = *world.runs_of(id).last().unwrap();
        world.answer(run);
        let piece = (until - world.present_of(id)).min(64 * KIB);
        assert!(world.progress(run, piece) > 0);
        world.take(id, MIB, NO_PAUSE);
    }
}

/// Two readers of a film each, of which nobody knows whether they play. Nobody tries a second connection.
pub(crate) fn two_of_unknown_rate() -> World {
    let mut config = Config::default();
    config.steady = Duration::from_secs(3_600);
    let mut world = World::new(config);
    for id in 1..=2 {
        world.open(id, 1_000 * MIB);
        world.read(id, id, Start::At(0), None);
        bring(&mut world, id, 2 * MIB);
    }
    world
}

/// What a line of 1.3 MB/s brings both of them in 50 ms, as the one or the other takes it; returns it by their numbers.
pub(crate) fn bring_both_some(world: &mut World) -> [u64; 3] {
    let ids = in_flight(world);
    let share = 64 * KIB / ids.len() as u64;
    let mut got = [0; 3];
    for id in ids {
        got[id as usize] += bring_some(world, id, share);
    }
    world.pass(Duration::from_millis(50));
    got
}

/// Some run of that file brings up to so many bytes, and its reader takes them; returns how many.
fn bring_some(world: &mut World, id: u64, bytes: u64) -> u64 {
    let runs = world.runs_of(id);
    let came = runs.into_iter().map(|(run, _)| {
        world.answer(run);
        world.progress(run, bytes)
    });
    let came = came.into_iter().find(|&came| came > 0).unwrap_or(0);
    world.take(id, MIB, NO_PAUSE);
    came
}

#[test]
fn who_has_enough_rests_while_another_starts() {
    let mut world = with_runs(4);
    player_with(&mut world, 1, 6);
    assert_eq!(in_flight(&world), [1], "its own buffer is not full");
    player_with(&mut world, 2, 0);
    assert_eq!(in_flight(&world), [2]);
    // Two seconds of film, and a little more than is counted on.
    bring(&mut world, 2, 3 * FILM);
    assert_eq!(in_flight(&world), [1, 2]);
}

#[test]
fn who_rests_goes_on_before_it_runs_dry_without_anything_happening() {
    let mut world = with_runs(4);
    player_with(&mut world, 1, 6);
    player_with(&mut world, 2, 0);
    // Six seconds of film less half a one, and the eighth that a film may be faster for a while.
    world.pass(Duration::from_millis(4_800));
    assert_eq!(in_flight(&world), [2]);
    world.pass(Duration::from_millis(50));
    assert_eq!(in_flight(&world), [1, 2]);
}

#[test]
fn who_runs_dry_soon_rests_for_whoever_has_no_picture_and_for_no_other() {
    let mut config = Config::default();
    // The origin takes its time.
    config.hedged = 0;
    let mut world = World::new(config);
    player_with(&mut world, 1, 6);
    player_with(&mut world, 2, 0);
    // It has less than two seconds, and more than half of one.
    world.pass(Duration::from_millis(4_000));
    assert_eq!(in_flight(&world), [2]);
    bring(&mut world, 2, FILM / 2);
    assert_eq!(
        in_flight(&world),
        [2],
        "that is half a second but for an eighth"
    );
    bring(&mut world, 2, FILM / 8);
    assert_eq!(in_flight(&world), [1, 2]);
    // What is asked for at once by its level is waited for as well.
    world.open(3, 1_000 * MIB);
    world.request(3, range(0, MIB), Priority::Critical);
    assert_eq!(in_flight(&world), [3]);
}

#[test]
fn of_three_stalled_players_none_starves() {
    let mut world = with_runs(1);
    for id in 1..=3 {
        player_with(&mut world, id, 0);
    }
    // A line that carries one film, for three: nobody ever has enough.
    for _ in 0..300 {
        let [id] = in_flight(&world)[..] else {
            panic!("one run at a time: {:?}", in_flight(&world));
        };
        let (run, _) = *world.runs_of(id).last().unwrap();
        world.answer(run);
        world.progress(run, 64 * KIB);
        world.take(id, MIB, NO_PAUSE);
        world.finish(run);
        world.pass(Duration::from_millis(64));
    }
    let got: Vec<u64> = (1..=3).map(|id| world.present_of(id)).collect();
    let all: u64 = got.iter().sum();
    assert!(got.iter().all(|&bytes| bytes > all / 4), "{got:?}");
}

#[test]
fn what_nobody_knows_the_rate_of_rests_for_a_player_that_runs_dry_and_gets_a_turn() {
    let mut world = with_runs(4);
    world.open(9, 1_000 * MIB);
    world.read(9, 9, Start::At(0), None);
    // Past its start it may be a copy.
    bring(&mut world, 9, 2 * MIB);
    player_with(&mut world, 1, 0);
    assert_eq!(in_flight(&world), [1]);
    world.pass(Duration::from_secs(1));
    assert_eq!(in_flight(&world), [1, 9], "lest its client give up");
    bring(&mut world, 9, 64 * KIB);
    assert_eq!(in_flight(&world), [1]);
}

#[test]
fn a_player_with_a_comfortable_reserve_rests_for_what_may_be_a_player() {
    let mut world = with_runs(4);
    player_with(&mut world, 1, 8);
    world.open(9, 1_000 * MIB);
    world.read(9, 9, Start::At(0), None);
    bring(&mut world, 9, 2 * MIB);
    assert_eq!(in_flight(&world), [9]);
    // Five seconds are left of eight.
    world.pass(Duration::from_millis(2_800));
    assert_eq!(in_flight(&world), [1, 9]);
}

#[test]
fn those_nobody_knows_the_rate_of_share_alike() {
    let mut world = with_runs(4);
    for id in 1..=2 {
        world.open(id, 1_000 * MIB);
        world.read(id, id, Start::At(0), None);
        bring(&mut world, id, 2 * MIB);
    }
    assert_eq!(in_flight(&world), [1, 2]);
    // Where there is one slot, who waits longest comes first.
    let mut world = with_runs(1);
    for id in 1..=3 {
        world.open(id, 1_000 * MIB);
        world.read(id, id, Start::At(0), None);
        bring(&mut world, id, 2 * MIB);
    }
    let mut got = [0; 4];
    // A third of the line carries a film.
    for _ in 0..300 {
        let id = in_flight(&world)[0];
        bring_some(&mut world, id, 512 * KIB);
        got[id as usize] += 1;
        world.pass(Duration::from_millis(100));
    }
    assert!(got[1..].iter().all(|&turns| turns > 80), "{got:?}");
}

#[test]
fn where_an_even_share_is_too_little_the_last_one_may_show_that_it_plays() {
    let mut world = two_of_unknown_rate();
    let take = |world: &mut World, count: u64| {
        let mut got = [0; 3];
        for _ in 0..count {
            for (sum, came) in got.iter_mut().zip(bring_both_some(world)) {
                *sum += came;
            }
        }
        got
    };
    take(&mut world, 20);
    // The last one that came has the line, but for the turns of the other.
    let got_then = take(&mut world, 100);
    assert!(got_then[2] > 2 * got_then[1], "{got_then:?}");
    // It has taken what the line brings in eleven seconds, without a pause; then the other may show that it plays.
    take(&mut world, 200);
    let got_then = take(&mut world, 100);
    assert!(got_then[1] > 2 * got_then[2], "{got_then:?}");
    // It did not either, and both have their share.
    take(&mut world, 200);
    let got_then = take(&mut world, 100);
    assert!(
        got_then[1].abs_diff(got_then[2]) < got_then[1] / 3,
        "{got_then:?}"
    );
}

/// What the last one that came has when the other one's trial begins; if so, it pauses once before.
fn trial_ends_at(has_paused: bool) -> u64 {
    let mut world = two_of_unknown_rate();
    for _ in 0..100 {
        bring_both_some(&mut world);
    }
    if has_paused {
        world.take(2, 0, PAUSE);
    }
    for _ in 0..1_000 {
        let before = world.present_of(2);
        // The other one has more than its turn.
        let got = (0..60).map(|_| bring_both_some(&mut world)[1]).sum::<u64>();
        if got > 2 * MIB {
            return before;
        }
    }
    panic!("it has the line for ever");
}

#[test]
fn who_has_paused_in_its_trial_has_longer_to_pause_again() {
    let (once, never) = (trial_ends_at(true), trial_ends_at(false));
    // Half of what the line brings in eleven seconds.
    assert!(once > never + 6 * MIB, "{once} {never}");
    assert!(once < never + 9 * MIB, "{once} {never}");
}

#[test]
fn a_player_that_leaves_unread_what_is_there_has_been_paused() {
    // That nothing comes for so long is no reason to ask again.
    let mut config = Config::default();
    config.hedged = 0;
    let mut world = World::new(config);
    player_with(&mut world, 1, 3);
    let (run, _) = world.runs_of(1)[0];
    // Three seconds of film later it has nothing of its own, and two seconds of film are there for it.
    world.progress(run, 2 * FILM);
    world.pass(Duration::from_secs(5));
    player_with(&mut world, 2, 1);
    assert_eq!(in_flight(&world), [2]);
    bring(&mut world, 2, 3 * FILM);
    assert_eq!(in_flight(&world), [2]);
    // It reads on, and plays.
    world.confirm_aborts();
    world.take(1, 2 * FILM, PAUSE);
    world.pass(Duration::from_secs(5));
    assert_eq!(in_flight(&world), [1, 2]);
}

#[test]
fn a_player_that_paused_holds_what_it_held_then() {
    let mut world = with_runs(4);
    // It takes ten seconds of film at once and pauses: its buffer holds as much.
    player_with(&mut world, 1, 10);
    let run = world.runs_of(1)[0].0;
    world.progress(run, MIB);
    world.take(1, 0, PAUSE);
    // Its viewer pauses for a minute, which looks like playing on; but it was full until it read again.
    world.pass(Duration::from_secs(60));
    world.take(1, MIB, PAUSE);
    player_with(&mut world, 2, 0);
    assert_eq!(in_flight(&world), [2]);
}

#[test]
fn whose_viewer_pauses_in_a_trial_leaves_it_to_others() {
    let mut config = Config::default();
    config.steady = Duration::from_secs(3_600);
    let mut world = World::new(config);
    for id in 1..=3 {
        world.open(id, 1_000 * MIB);
        world.read(id, id, Start::At(0), None);
        bring(&mut world, id, 2 * MIB);
    }
    // What each of them gets; the last one that came takes nothing while its viewer pauses.
    let got = |world: &mut World, times: u32, pauses: bool| {
        let mut got = [0; 4];
        for _ in 0..times {
            let ids = in_flight(world);
            let share = 64 * KIB / ids.len().max(1) as u64;
            for id in ids {
                let before = world.present_of(id);
                if let Some((run, _)) = world.runs_of(id).first().copied() {
                    world.answer(run);
                    world.progress(run, share);
                }
                if !(pauses && id == 3) {
                    world.take(id, MIB, NO_PAUSE);
                }
                got[id as usize] += world.present_of(id) - before;
            }
            world.pass(Duration::from_millis(50));
        }
        got
    };
    let first = got(&mut world, 40, false);
    assert!(first[3] > 2 * first[1].max(first[2]), "{first:?}");
    // Its window fills, and for half a minute its viewer may come back.
    got(&mut world, 700, true);
    let then = got(&mut world, 60, true);
    assert!(then[2] > 2 * then[1], "{then:?}");
}
