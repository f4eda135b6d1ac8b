//! What files of one origin have in common, and what files of two have not.

use std::time::Duration;

use chunk_core::scheduler::{Input, Start};

use crate::driver::{World, reader};
use crate::hedges::hedge_of;
use crate::ranks::{bring, player_with};
use crate::scenes::{KIB, MIB, NO_PAUSE, in_flight, with_runs};
use crate::stripes::flow;

/// Files of even numbers come from one origin, those of odd numbers from another.
fn two_origins() -> World {
    let mut world = with_runs(4);
    world.origins = 2;
    world
}

/// Somebody who reads a file from the start.
fn read(world: &mut World, id: u64) {
    world.open(id, 1_000 * MIB);
    world.read(id, id, Start::At(0), None);
}

#[test]
fn a_second_file_of_an_origin_is_read_over_as_many_connections_once_it_comes() {
    for (next, is_known) in [(3, true), (2, false)] {
        let mut world = two_origins();
        read(&mut world, 1);
        flow(&mut world, 300, 6 * KIB, 60 * KIB);
        assert!(world.scheduler.stripes_in_flight() >= 8);
        world.leave(1);
        flow(&mut world, 1, 6 * KIB, 60 * KIB);
        let stripes = world.stripes;
        read(&mut world, next);
        // An answer takes 10 steps; in eight more a run's own rate shows, and nothing about another connection.
        flow(&mut world, 18, 6 * KIB, 60 * KIB);
        assert_eq!(world.stripes > stripes, is_known, "file {next}");
    }
}

#[test]
fn who_looks_at_a_second_file_costs_a_quarter_of_a_mebibyte_more_at_most() {
    let mut world = two_origins();
    read(&mut world, 1);
    flow(&mut world, 300, 6 * KIB, 60 * KIB);
    world.leave(1);
    flow(&mut world, 1, 6 * KIB, 60 * KIB);
    let before = world.bytes_received;
    read(&mut world, 3);
    let position = loop {
        flow(&mut world, 1, 6 * KIB, 60 * KIB);
        match world.readers[&reader(3)].1 {
            Start::At(position) if position >= MIB => break position,
            _ => {}
        }
    };
    let beyond = world.bytes_received - before - position;
    assert!(beyond <= 256 * KIB, "{beyond} beyond {position}");
}

#[test]
fn r14_the_first_answer_of_a_file_is_late_where_its_origin_is_known_to_be_quick() {
    for (next, is_known) in [(3, true), (2, false)] {
        let mut world = two_origins();
        read(&mut world, 1);
        let (run, _) = world.runs_of(1)[0];
        world.pass(Duration::from_millis(50));
        world.answer(run);
        bring(&mut world, 1, 2 * MIB);
        read(&mut world, next);
        let (run, _) = world.runs_of(next)[0];
        world.pass(Duration::from_millis(249));
        assert_eq!(hedge_of(&world, run), None);
        world.pass(Duration::from_millis(1));
        assert_eq!(hedge_of(&world, run).is_some(), is_known, "file {next}");
    }
}

#[test]
fn who_has_enough_rests_for_who_starts_at_its_own_origin() {
    let mut world = two_origins();
    player_with(&mut world, 1, 6);
    player_with(&mut world, 2, 6);
    assert_eq!(in_flight(&world), [1, 2]);
    player_with(&mut world, 3, 0);
    assert_eq!(in_flight(&world), [2, 3]);
}

/// A copy of file 2, and a player of file 1 that has had two seconds and still no byte.
fn copy_and_dry_player() -> World {
    let mut world = two_origins();
    player_with(&mut world, 1, 0);
    read(&mut world, 2);
    bring(&mut world, 2, 61 * MIB);
    assert_eq!(in_flight(&world), [1, 2], "it may have only begun");
    world.pass(Duration::from_secs(2));
    bring(&mut world, 2, 64 * KIB);
    // A copy's run is ended and not held.
    world.confirm_aborts();
    world
}

/// Every connection of a file brings something, and its reader takes it.
fn read_on(world: &mut World, id: u64) {
    for (run, _) in world.runs_of(id) {
        world.answer(run);
        world.progress(run, 64 * KIB);
        world.finish(run);
    }
    assert!(world.take(id, MIB, NO_PAUSE) > 0);
}

#[test]
fn r05_copies_of_another_origin_rest_for_a_player_that_runs_dry_until_it_has_enough() {
    let mut world = copy_and_dry_player();
    assert_eq!(in_flight(&world), [1]);
    bring(&mut world, 1, 5_000_000);
    assert_eq!(in_flight(&world), [1], "five seconds are not ten");
    bring(&mut world, 1, 10_000_000);
    assert_eq!(in_flight(&world), [1, 2]);
}

#[test]
fn copies_of_another_origin_go_on_where_resting_was_of_no_use() {
    let mut world = copy_and_dry_player();
    assert_eq!(in_flight(&world), [1]);
    world.pass(Duration::from_secs(5));
    for _ in 0..100 {
        assert!(in_flight(&world).contains(&2));
        read_on(&mut world, 2);
        world.pass(Duration::from_millis(100));
    }
    // It is found out anew after a while: lines change.
    world.pass(Duration::from_secs(300));
    read_on(&mut world, 2);
    assert!(!in_flight(&world).contains(&2));
}

#[test]
fn the_background_rests_for_players_of_any_origin() {
    let mut world = two_origins();
    world.open(2, 100 * MIB);
    world.request(2, crate::scenes::chunk(0), chunk_core::Priority::Medium);
    assert_eq!(in_flight(&world), [2]);
    player_with(&mut world, 1, 0);
    assert_eq!(in_flight(&world), [1]);
    world.take(1, 0, NO_PAUSE);
    world.input(Input::TimedOut);
    assert_eq!(in_flight(&world), [1]);
}
