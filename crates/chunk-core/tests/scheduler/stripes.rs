//! The rules about connections besides those of the slots.

use std::time::Duration;

use chunk_core::scheduler::{Config, Failure, Input, RunId, Start};
use chunk_core::{BLOCK_SIZE, Priority};

use crate::driver::{World, range, reader};
use crate::scenes::{KIB, MIB, NO_PAUSE, player, starts, with_runs};

const STEP: Duration = Duration::from_millis(5);

/// Lets `steps` of 5 ms pass, in each of which connections bring `each` bytes and no more than `all` together.
/// A request is answered after 10 steps.
pub(crate) fn flow(world: &mut World, steps: usize, each: u64, all: u64) {
    for _ in 0..steps {
        world.pass(STEP);
        let now = world.now;
        let due: Vec<RunId> = world
            .requests
            .keys()
            .copied()
            .filter(|run| world.asked_at(*run) + 10 * STEP <= now)
            .collect();
        let reading = due
            .iter()
            .filter(|run| world.requests[run].may_read())
            .count()
            .max(1) as u64;
        for run in due {
            world.answer(run);
            world.progress(run, each.min(all / reading));
            world.finish(run);
        }
        world.confirm_aborts();
        let readers: Vec<u64> = world.readers.keys().map(|reader| reader.get()).collect();
        for id in readers {
            world.take(id, 64 * MIB, NO_PAUSE);
        }
    }
}

#[test]
fn more_connections_where_each_is_limited() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    assert!(
        world.scheduler.stripes_in_flight() >= 8,
        "{} stripes",
        world.scheduler.stripes_in_flight()
    );
    assert_eq!(world.scheduler.active_runs(), 1, "they take no slots");
    assert!(world.requests.len() <= 13, "slots keep connections");
}

#[test]
fn one_connection_where_it_fills_the_line() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    // Ten seconds: trying costs a few requests, for what little may be read ahead so early.
    let mut most = 0;
    let mut with_stripes = 0;
    for _ in 0..200 {
        flow(&mut world, 10, 60 * KIB, 60 * KIB);
        most = most.max(world.scheduler.stripes_in_flight());
        with_stripes += usize::from(world.scheduler.stripes_in_flight() > 0);
    }
    assert!(most <= 3, "{most} stripes at once");
    assert!((1..10).contains(&with_stripes), "{with_stripes} of 200");
    assert!(world.fetches <= 5, "{} requests", world.fetches);
}

/// Or whoever comes after as many viewers who pause would wait until one of their connections is let go.
#[test]
fn held_connections_of_other_files_make_room_for_who_waits() {
    let mut world = with_runs(4);
    let most = Config::default().max_connections as u64;
    // Odd files have one origin, and even ones another.
    for id in (1..).step_by(2).take(3 * most as usize) {
        world.open(id, 100 * MIB);
        player(&mut world, id, id);
        assert!(world.present_of(id) >= 8 * MIB, "viewer {id} gets nothing");
    }
    assert_eq!(
        world.requests.len() as u64,
        most,
        "as many as may be are held"
    );
    let held = world.requests.values().filter(|run| run.is_held).count() as u64;
    assert!(held >= most - 4, "{held}");
}

#[test]
fn pieces_are_whole_blocks() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(12_345), None);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    assert!(world.stripes > 0);
    for start in &starts(&world)[1..] {
        let Start::At(start) = start else {
            panic!("{start:?}")
        };
        assert_eq!(start % BLOCK_SIZE, 0);
    }
}

#[test]
fn stripes_end_with_the_reader_they_are_for() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    assert!(world.requests.len() > 1);
    world.leave(1);
    world.confirm_aborts();
    // But for blocks that are all but whole.
    for run in world.requests.values() {
        assert!(run.end - run.head <= BLOCK_SIZE / 4, "{run:?}");
    }
}

#[test]
fn a_seek_gives_up_the_stripes_and_waits_for_none() {
    let mut world = with_runs(1);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    assert!(world.requests.len() > 1);
    world.seek(1, 700 * MIB + 5);
    assert!(world.requests.values().all(|run| run.is_aborted));
    let run = world
        .requests
        .iter()
        .find(|(id, _)| !world.scheduler.is_stripe(**id));
    // The one slot is free once its run has ended, whatever the stripes do.
    let run = *run.expect("the slot's run").0;
    world.finish(run);
    assert_eq!(starts(&world).last(), Some(&Start::At(700 * MIB + 5)));
    let fresh = world.requests.values().filter(|run| !run.is_aborted);
    assert_eq!(fresh.count(), 1, "one request until it is answered");
}

#[test]
fn explicit_requests_get_no_more_than_they_ask_for() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.request(1, range(MIB, 9 * MIB), Priority::Medium);
    flow(&mut world, 2_000, 6 * KIB, 60 * KIB);
    assert!(world.stripes > 0);
    assert_eq!((world.bytes_received, world.requests.len()), (8 * MIB, 0));
}

#[test]
fn a_player_that_has_enough_gets_no_stripes() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    // A third of what a connection brings.
    world.input(Input::ReaderRate {
        reader: reader(1),
        rate: Some(400 * KIB),
    });
    for _ in 0..600 {
        world.pass(STEP);
        for run in world.requests.keys().copied().collect::<Vec<_>>() {
            world.answer(run);
            world.progress(run, 6 * KIB);
            world.finish(run);
        }
        world.take(1, 2 * KIB, NO_PAUSE);
        // Two seconds of film and what came meanwhile.
        if world.present_of(1) > 2 * MIB + 256 * KIB {
            assert_eq!(world.scheduler.stripes_in_flight(), 0);
        }
    }
    assert!(world.present_of(1) > 2 * MIB + 512 * KIB);
}

#[test]
fn a_refused_stripe_is_no_failure_of_the_source() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    while world.stripes == 0 {
        flow(&mut world, 1, 6 * KIB, 60 * KIB);
    }
    let stripe = world.requests.keys().copied().last().expect("a stripe");
    assert!(world.scheduler.is_stripe(stripe));
    let retry_after = Some(Duration::from_secs(400));
    world.fail(stripe, Failure::Transient { retry_after });
    let fetched = world.fetches;
    flow(&mut world, 1_000, 6 * KIB, 60 * KIB);
    // One request took the place of what was cut off for it, and no further one was tried.
    assert!(world.fetches <= fetched + 2, "{} requests", world.fetches);
    assert_eq!(world.scheduler.stripes_in_flight(), 0);
    assert!(world.present_of(1) >= 1_000 * 6 * KIB);
}

#[test]
fn the_next_run_is_asked_for_a_round_trip_before_the_last_ends() {
    let mut config = Config::default().with_max_runs(1);
    // Without a trial.
    config.steady = Duration::from_secs(3_600);
    let mut world = World::new(config);
    world.open(1, 1_000 * MIB);
    world.supply(1, range(4 * MIB, 5 * MIB));
    world.read(1, 1, Start::At(0), None);
    // 60 KiB in 5 ms: 600 KiB arrive in the 50 ms that an answer takes.
    let mut asked_with_left = None;
    for _ in 0..400 {
        let present = world.present_of(1) - MIB;
        flow(&mut world, 1, 60 * KIB, 60 * KIB);
        if asked_with_left.is_none() && starts(&world).last() == Some(&Start::At(5 * MIB)) {
            asked_with_left = Some(4 * MIB - present);
        }
    }
    let left = asked_with_left.expect("the run after the island");
    assert!((540 * KIB..=800 * KIB).contains(&left), "{left} bytes left");
    assert_eq!(world.most_in_flight, 1);
}

#[test]
fn little_is_read_ahead_for_who_has_read_little() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let mut stripes = 0;
    while world.present_of(1) < MIB {
        flow(&mut world, 1, 6 * KIB, 600 * KIB);
        stripes = stripes.max(world.scheduler.stripes_in_flight());
        let Start::At(position) = world.readers[&reader(1)].1 else {
            panic!("it has a place")
        };
        let ahead = world.present_of(1) - position;
        assert!(ahead <= 256 * KIB, "{ahead} before a reader at {position}");
    }
    assert!(stripes > 0, "nothing was tried");
}

#[test]
fn what_one_connection_brings_within_a_second_is_one_request() {
    let mut world = with_runs(4);
    // 1.2 MB a second, and little more than that.
    world.open(1, 1_300 * KIB);
    world.read(1, 1, Start::At(0), None);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    assert_eq!((world.fetches, world.present_of(1)), (1, 1_300 * KIB));
}

#[test]
fn a_line_that_one_connection_fills_again_is_left_to_one() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    assert!(world.scheduler.stripes_in_flight() >= 8);
    // Twenty seconds, in which the failed trial for more is forgotten and half as many are tried.
    flow(&mut world, 4_000, 60 * KIB, 60 * KIB);
    let fetched = world.fetches;
    flow(&mut world, 400, 60 * KIB, 60 * KIB);
    assert_eq!(world.scheduler.stripes_in_flight(), 0);
    assert!(world.fetches <= fetched + 3, "{}", world.fetches - fetched);
}

#[test]
fn a_seek_is_no_time_for_a_trial_on_a_line_that_is_known_to_be_full() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    // So slow that a start takes longer than finding out.
    flow(&mut world, 400, 2 * KIB, 2 * KIB);
    assert!(world.stripes > 0, "nothing was tried");
    let tried = world.stripes;
    // For longer than a failed trial is remembered.
    for step in 1..=15 {
        world.seek(1, step * 50 * MIB);
        flow(&mut world, 200, 2 * KIB, 2 * KIB);
    }
    assert_eq!(world.stripes, tried);
    // Who reads on has the line tried again.
    flow(&mut world, 1_000, 2 * KIB, 2 * KIB);
    assert!(world.stripes > tried);
}
