//! What is late is asked for anew.

use std::time::Duration;

use chunk_core::scheduler::{Action, Input, Role, RunId, Start};

use crate::driver::{World, range, reader};
use crate::ranks::{bring, player_with};
use crate::scenes::{KIB, MIB, NO_PAUSE, with_runs};

const ANSWER: Duration = Duration::from_millis(50);

/// A reader at a file that nothing is there of, and its run; an answer takes 50 ms as far as is known.
fn reader_that_waits() -> (World, RunId) {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    let (run, _) = world.runs_of(1)[0];
    world.pass(ANSWER);
    world.answer(run);
    world.progress(run, 64 * KIB);
    world.take(1, MIB, NO_PAUSE);
    world.seek(1, 50 * MIB);
    world.confirm_aborts();
    let (run, _) = world.runs_of(1)[0];
    (world, run)
}

/// The hedge of a run, where there is one.
pub(crate) fn hedge_of(world: &World, of: RunId) -> Option<RunId> {
    world.log.iter().find_map(|action| match action {
        Action::Fetch { run, role, .. } if *role == Role::Hedge(of) => Some(*run),
        _ => None,
    })
}

#[test]
fn r14_a_late_answer_is_asked_for_again_once() {
    let (mut world, late) = reader_that_waits();
    // The first answer's deviation is half of it: 50 + 4 · 25 + 100 ms.
    world.pass(Duration::from_millis(249));
    assert_eq!(hedge_of(&world, late), None);
    world.pass(Duration::from_millis(1));
    let hedge = hedge_of(&world, late).expect("a hedge");
    assert_eq!(world.requests[&hedge].head, 50 * MIB);
    assert_eq!(world.scheduler.active_runs(), 1, "it takes no slot");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.hedges, 1);
}

#[test]
fn the_first_to_bring_a_byte_goes_on_and_the_other_ends() {
    for does_hedge_win in [true, false] {
        let (mut world, late) = reader_that_waits();
        world.pass(Duration::from_millis(250));
        let hedge = hedge_of(&world, late).expect("a hedge");
        let (winner, loser) = if does_hedge_win {
            (hedge, late)
        } else {
            (late, hedge)
        };
        world.answer(winner);
        world.progress(winner, 64 * KIB);
        assert!(world.requests[&loser].is_aborted);
        assert!(!world.requests[&winner].is_aborted);
        world.finish(loser);
        // It is an ordinary run from now on.
        assert!(!world.scheduler.is_hedge(winner));
        assert_eq!(world.scheduler.active_runs(), 1);
        world.take(1, MIB, NO_PAUSE);
        world.progress(winner, MIB);
        assert_eq!(world.present_of(1), 64 * KIB + 64 * KIB + MIB);
        assert_eq!(world.runs_of(1).len(), 1);
    }
}

#[test]
fn a_body_that_stands_still_is_asked_for_anew_where_it_stands() {
    let (mut world, run) = reader_that_waits();
    world.pass(ANSWER);
    world.answer(run);
    world.progress(run, 10 * KIB);
    world.take(1, MIB, NO_PAUSE);
    world.pass(Duration::from_millis(499));
    assert_eq!(world.hedges, 0);
    world.pass(Duration::from_millis(1));
    let hedge = hedge_of(&world, run).expect("a hedge");
    assert_eq!(world.requests[&hedge].head, 50 * MIB + 10 * KIB);
}

#[test]
fn r14_a_body_that_stands_still_is_asked_for_anew_when_its_player_comes_to_its_end() {
    let mut world = with_runs(4);
    player_with(&mut world, 1, 6);
    let (run, _) = world.runs_of(1)[0];
    // Six seconds of film are five and a third of one that is an eighth faster, and two are what is urgent.
    world.pass(Duration::from_millis(3_300));
    assert_eq!(hedge_of(&world, run), None);
    world.pass(Duration::from_millis(100));
    assert!(hedge_of(&world, run).is_some());
}

#[test]
fn r14_who_waits_for_a_second_is_not_left_waiting_because_nobody_knows_its_rate() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    bring(&mut world, 1, 2 * MIB);
    let (run, _) = world.runs_of(1)[0];
    world.pass(Duration::from_millis(990));
    assert_eq!(hedge_of(&world, run), None);
    world.pass(Duration::from_millis(10));
    assert!(hedge_of(&world, run).is_some());
}

#[test]
fn what_nobody_waits_for_is_not_hedged() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    world.input(Input::ReaderRate {
        reader: reader(1),
        rate: Some(10 * KIB),
    });
    let (run, _) = world.runs_of(1)[0];
    world.pass(ANSWER);
    world.answer(run);
    // A minute of film, and then nothing more.
    world.progress(run, 600 * KIB);
    world.pass(Duration::from_secs(10));
    assert_eq!((world.fetches, world.hedges), (1, 0));
}

#[test]
fn one_request_in_twenty_is_a_hedge_at_most() {
    let mut world = with_runs(4);
    world.open(1, 10_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let (run, _) = world.runs_of(1)[0];
    world.pass(ANSWER);
    world.answer(run);
    world.progress(run, 64 * KIB);
    for seek in 1..100 {
        world.seek(1, seek * 100 * MIB);
        world.confirm_aborts();
        let (mut run, _) = world.runs_of(1)[0];
        world.pass(ANSWER);
        if seek % 4 == 0 {
            // This answer does not come, and the one to the hedge does, if there is one.
            world.pass(Duration::from_secs(1));
            run = hedge_of(&world, run).unwrap_or(run);
        }
        world.answer(run);
        world.progress(run, 64 * KIB);
        world.confirm_aborts();
    }
    assert!((4..=6).contains(&world.hedges), "{}", world.hedges);
}

#[test]
fn a_hedge_ends_with_what_it_is_for() {
    let (mut world, late) = reader_that_waits();
    world.pass(Duration::from_millis(250));
    let hedge = hedge_of(&world, late).expect("a hedge");
    world.leave(1);
    assert!(world.requests[&late].is_aborted && world.requests[&hedge].is_aborted);
    world.confirm_aborts();
    assert!(world.requests.is_empty());
}

#[test]
fn where_one_of_the_two_fails_the_other_goes_on() {
    for does_hedge_fail in [true, false] {
        let (mut world, late) = reader_that_waits();
        world.pass(Duration::from_millis(250));
        let hedge = hedge_of(&world, late).expect("a hedge");
        let (failing, other) = if does_hedge_fail {
            (hedge, late)
        } else {
            (late, hedge)
        };
        world.requests.remove(&failing);
        world.input(Input::Failed {
            run: failing,
            failure: chunk_core::scheduler::Failure::Permanent,
        });
        assert!(
            world
                .last
                .iter()
                .all(|action| !matches!(action, Action::GaveUp { .. }))
        );
        world.answer(other);
        world.progress(other, 64 * KIB);
        assert_eq!(world.take(1, MIB, NO_PAUSE), 64 * KIB);
        assert_eq!(world.scheduler.active_runs(), 1);
    }
}

#[test]
fn bytes_that_come_otherwise_end_both() {
    let (mut world, late) = reader_that_waits();
    world.pass(Duration::from_millis(250));
    let hedge = hedge_of(&world, late).expect("a hedge");
    world.supply(1, range(50 * MIB + MIB, 50 * MIB + 2 * MIB));
    assert_eq!(world.requests[&late].end, 51 * MIB);
    assert_eq!(world.requests[&hedge].end, 51 * MIB);
}
