//! Readers that said that all others go first.

use std::time::Duration;

use chunk_core::scheduler::{Config, Hints, Input, OriginId, Start};
use chunk_core::{BLOCK_SIZE, Priority};

use crate::driver::{World, reader};
use crate::ranks::player_with;
use crate::scenes::{KIB, MIB, NO_PAUSE, in_flight, with_runs};

const SECOND: Duration = Duration::from_secs(1);

/// Reads a file of its own from its beginning, and yields.
fn yielding(world: &mut World, id: u64) {
    world.open(id, 1_000 * MIB);
    let hints = Hints::default().with_yielding(true);
    world.read_as(id, id, Start::At(0), None, hints);
}

/// A copy that has shown to be one.
fn copy(world: &mut World, id: u64) {
    world.open(id, 1_000 * MIB);
    world.read(id, id, Start::At(0), None);
    for _ in 0..100 {
        let run = world.runs_of(id)[0].0;
        world.answer(run);
        world.progress(run, MIB);
        world.take(id, MIB, NO_PAUSE);
    }
}

/// Some run brings so much of that file, and its reader takes it.
fn bring(world: &mut World, id: u64, bytes: u64) {
    let run = world.runs_of(id)[0].0;
    world.answer(run);
    assert!(world.progress(run, bytes) > 0);
    world.take(id, bytes, NO_PAUSE);
}

#[test]
fn alone_it_is_served_like_any_other() {
    let mut world = with_runs(4);
    yielding(&mut world, 1);
    assert_eq!(in_flight(&world), [1]);
    for _ in 0..100 {
        bring(&mut world, 1, MIB);
    }
    assert_eq!(world.fetches - world.stripes, 1);
}

#[test]
fn it_yields_to_whoever_reads_whatever_they_are() {
    let others: [fn(&mut World); 3] = [
        |world| player_with(world, 1, 1),
        // Of unknown rate, in its first MiB and after it.
        |world| {
            world.open(1, 1_000 * MIB);
            world.read(1, 1, Start::At(0), None);
        },
        |world| copy(world, 1),
    ];
    for other in others {
        let mut world = with_runs(4);
        yielding(&mut world, 2);
        bring(&mut world, 2, MIB);
        assert_eq!(in_flight(&world), [2]);
        other(&mut world);
        assert_eq!(in_flight(&world), [1]);
        world.leave(1);
        world.confirm_aborts();
        // The moment in which nothing is begun in the background.
        world.pass(SECOND);
        assert_eq!(in_flight(&world), [2], "the line is its own again");
    }
}

#[test]
fn it_uses_what_others_leave() {
    let mut world = with_runs(4);
    yielding(&mut world, 2);
    copy(&mut world, 1);
    assert_eq!(in_flight(&world), [1]);
    // All that the copy may have ahead: it takes nothing more, and its line is free.
    for _ in 0..200 {
        for (run, _) in world.runs_of(1) {
            world.progress(run, MIB);
        }
        world.confirm_aborts();
        world.pass(SECOND / 100);
    }
    assert_eq!(in_flight(&world), [2]);
}

#[test]
fn it_has_a_turn_before_its_client_gives_up() {
    let mut world = with_runs(4);
    player_with(&mut world, 1, 0);
    yielding(&mut world, 2);
    world.pass(19 * SECOND);
    assert_eq!(in_flight(&world), [1]);
    world.pass(SECOND);
    assert_eq!(in_flight(&world), [1, 2]);
    bring(&mut world, 2, 64 * KIB);
    assert_eq!(in_flight(&world), [1], "and with that the turn is over");
}

#[test]
fn a_rate_makes_it_no_player() {
    let mut world = with_runs(4);
    yielding(&mut world, 1);
    let (rate, id) = (Some(1_000_000), reader(1));
    world.input(Input::ReaderRate { reader: id, rate });
    world.open(2, 1_000 * MIB);
    world.read(2, 2, Start::At(0), None);
    assert_eq!(in_flight(&world), [2]);
}

#[test]
fn what_was_ordered_goes_after_it() {
    let mut world = with_runs(1);
    world.open(2, 1_000 * MIB);
    world.request(2, crate::driver::range(0, 8 * MIB), Priority::Medium);
    assert_eq!(in_flight(&world), [2]);
    yielding(&mut world, 1);
    world.confirm_aborts();
    assert_eq!(in_flight(&world), [1]);
}

#[test]
fn it_keeps_to_the_rate_of_the_background_and_a_metered_line_does_not_stop_it() {
    const RATE: u64 = 100 * KIB;
    let config = Config::default().with_metered(true);
    let mut world = World::new(config.with_background_rate(Some(RATE)));
    yielding(&mut world, 1);
    world.input(Input::OriginLimited {
        origin: OriginId::new(1),
        background_rate: None,
    });
    for _ in 0..1_000 {
        world.pass(SECOND / 100);
        for (run, _) in world.runs_of(1) {
            world.answer(run);
            world.progress(run, MIB);
        }
        world.take(1, MIB, NO_PAUSE);
    }
    let (got, fair) = (world.present_of(1), 10 * RATE);
    assert!(got <= fair + 2 * BLOCK_SIZE, "{got} of {fair}");
    assert!(got + 2 * BLOCK_SIZE >= fair, "{got} of {fair}");
}
