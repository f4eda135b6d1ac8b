//! Players that seek by closing a connection and opening another one.

use std::time::Duration;

use chunk_core::scheduler::{RunId, Start};

use crate::driver::World;
use crate::ranks::player_with;
use crate::scenes::{KIB, MIB, NO_PAUSE, in_flight, player, with_runs};

/// Each run of a file brings a little; returns how much that was.
fn come(world: &mut World, of: u64) -> u64 {
    let runs = world.runs_of(of);
    let came = runs.into_iter().map(|(run, _)| {
        world.answer(run);
        let came = world.progress(run, 64 * KIB);
        if world.requests[&run].head == world.requests[&run].end {
            world.finish(run);
        }
        came
    });
    came.sum()
}

/// The runs of a file bring so many bytes, and one of its readers takes them.
fn bring(world: &mut World, reader: u64, of: u64, bytes: u64) {
    let until = world.present_of(of) + bytes;
    while world.present_of(of) < until {
        assert!(come(world, of) > 0);
        world.take(reader, MIB, NO_PAUSE);
    }
}

/// A player, and the run that brings its film.
fn playing() -> (World, RunId) {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    player(&mut world, 1, 1);
    let (run, _) = world.runs_of(1)[0];
    (world, run)
}

#[test]
fn who_comes_back_elsewhere_has_the_line_to_itself() {
    let (mut world, run) = playing();
    world.leave(1);
    assert!(world.requests[&run].is_held, "it may come back to here");
    world.read(2, 1, Start::At(500 * MIB), None);
    assert!(world.requests[&run].is_aborted);
}

#[test]
fn who_opens_before_it_closes_has_the_line_to_itself_too() {
    let (mut world, run) = playing();
    world.pass(Duration::from_millis(1));
    world.read(2, 1, Start::At(500 * MIB), None);
    assert!(!world.requests[&run].is_aborted);
    world.leave(1);
    assert!(world.requests[&run].is_aborted);
}

#[test]
fn who_reads_on_after_another_has_come_is_not_that_one() {
    let (mut world, run) = playing();
    world.pass(Duration::from_millis(1));
    world.read(2, 1, Start::At(500 * MIB), None);
    world.pass(Duration::from_millis(1));
    world.answer(run);
    world.progress(run, 64 * KIB);
    assert!(world.take(1, MIB, NO_PAUSE) > 0);
    world.leave(1);
    assert!(!world.requests[&run].is_aborted, "it may come back");
}

#[test]
fn who_came_long_before_another_leaves_is_not_that_one() {
    let (mut world, run) = playing();
    world.pass(Duration::from_millis(1));
    world.read(2, 1, Start::At(500 * MIB), None);
    world.pass(Duration::from_secs(2));
    world.leave(1);
    assert!(!world.requests[&run].is_aborted, "it may come back");
}

/// Film 1's player seeks by a new connection and gets six seconds of its film; then somebody begins another one.
fn seek_and_rival(world: &mut World, comes_first: bool) {
    player_with(world, 1, 3);
    world.pass(Duration::from_millis(1));
    if !comes_first {
        world.leave(1);
    }
    world.read(2, 1, Start::At(500 * MIB), None);
    if comes_first {
        world.leave(1);
    }
    bring(world, 2, 1, 6_000_000);
    world.open(3, 1_000 * MIB);
    world.read(3, 3, Start::At(0), None);
}

#[test]
fn who_comes_back_elsewhere_is_known_to_play() {
    for comes_first in [false, true] {
        let mut world = with_runs(4);
        seek_and_rival(&mut world, comes_first);
        assert_eq!(in_flight(&world), [3], "it has enough for now");
    }
}
