//! Why something does not go on, as the scheduler says it.

use std::time::Duration;

use chunk_core::scheduler::{Action, Claim, Config, Failure, Halt, Input, RunId, Start};
use chunk_core::{Priority, Tick};

use crate::driver::{World, range, reader, source};
use crate::ranks::{bring, bring_both_some, player_with, two_of_unknown_rate};
use crate::scenes::{MIB, NO_PAUSE, in_flight, with_runs};

/// What the last plan said of the reader of that number.
fn halt_of(world: &World, id: u64) -> Option<Halt> {
    let mut put_back = world.scheduler.put_back().iter();
    put_back
        .find(|one| one.reader == Some(reader(id)))
        .map(|one| one.halt)
}

/// The runs that were ended since the last fact.
fn ended(world: &World) -> Vec<RunId> {
    let ended = world.last.iter().filter_map(|action| match action {
        Action::Abort { run } => Some(*run),
        _ => None,
    });
    ended.collect()
}

/// A reader of a file of its own that has taken more than a player does without a pause.
fn copy(world: &mut World, id: u64) {
    world.open(id, 1_000 * MIB);
    world.read(id, id, Start::At(0), None);
    bring(world, id, 62 * MIB);
}

#[test]
fn a_copy_is_told_for_which_player_it_rests_and_so_is_its_run() {
    let mut world = with_runs(4);
    copy(&mut world, 9);
    let (run, _) = world.runs_of(9)[0];
    assert_eq!(world.scheduler.why_halted(run), None);
    player_with(&mut world, 1, 0);
    assert_eq!(in_flight(&world), [1]);
    let halt = halt_of(&world, 9).unwrap();
    let rival = halt.rival().unwrap();
    assert!(matches!(halt, Halt::Rests { .. }), "{halt:?}");
    assert_eq!(
        (rival.source, rival.reader, rival.at, rival.level),
        (source(1), Some(reader(1)), Some(0), Priority::Critical)
    );
    let Claim::Player { dry_at } = rival.claim else {
        panic!("{rival:?}")
    };
    assert!(dry_at <= world.now);
    let why = world.scheduler.why_halted(run).unwrap();
    assert!(why.is_like(&halt), "{why:?}");
    // So is whoever asks about a byte that the copy has not come to.
    let ahead = world.scheduler.why_put_back(source(9), 63 * MIB).unwrap();
    assert!(ahead.halt.is_like(&halt), "{ahead:?}");
    assert_eq!(ahead.reader, Some(reader(9)));
    assert_eq!(world.scheduler.why_put_back(source(9), 900 * MIB), None);
    // It has enough, and the copy its turn.
    world.confirm_aborts();
    bring(&mut world, 1, 12 * MIB);
    assert_eq!((in_flight(&world), halt_of(&world, 9)), (vec![1, 9], None));
}

#[test]
fn who_finds_no_slot_is_told_who_has_the_last() {
    let mut world = with_runs(2);
    for id in 1..=3 {
        world.open(id, 1_000 * MIB);
        world.read(id, id, Start::At(0), None);
        world.pass(Duration::from_millis(1));
    }
    let halt = halt_of(&world, 3).unwrap();
    let Halt::Full { slots: 2, last } = halt else {
        panic!("{halt:?}")
    };
    assert_eq!(
        (last.reader, last.claim),
        (Some(reader(2)), Claim::Starting)
    );
    assert_eq!((halt_of(&world, 1), halt_of(&world, 2)), (None, None));
}

#[test]
fn who_has_to_rest_for_a_trial_is_told_for_whose() {
    let mut world = two_of_unknown_rate();
    // A line that is too slow for two films.
    let mut halt = None;
    for _ in 0..120 {
        bring_both_some(&mut world);
        halt = halt.or(halt_of(&world, 1));
    }
    let halt = halt.unwrap();
    let rival = halt.rival().unwrap();
    assert_eq!((rival.reader, rival.claim), (Some(reader(2)), Claim::Trial));
    let Halt::Rests { until, .. } = halt else {
        panic!("{halt:?}")
    };
    assert!(until < Tick::NEVER, "it has its turn");
}

#[test]
fn a_request_is_told_what_it_waits_for() {
    let mut world = with_runs(1);
    player_with(&mut world, 1, 1);
    world.open(2, 1_000 * MIB);
    world.request(2, range(0, MIB), Priority::Low);
    world.request(2, range(8 * MIB, 9 * MIB), Priority::Low);
    world.request(2, range(16 * MIB, 17 * MIB), Priority::Low);
    let why = |world: &World, offset| world.scheduler.why_put_back(source(2), offset);
    for offset in [0, MIB - 1, 8 * MIB, 16 * MIB] {
        let one = why(&world, offset).unwrap();
        let rival = one.halt.rival().unwrap();
        assert_eq!((one.reader, rival.reader), (None, Some(reader(1))));
        assert!(matches!(one.halt, Halt::Rests { .. }), "{one:?}");
    }
    assert_eq!(why(&world, 2 * MIB), None, "nobody wants it");
    world.leave(1);
    world.confirm_aborts();
    assert_eq!(why(&world, 0).unwrap().halt, Halt::Quiet);
    world.pass(Duration::from_millis(201));
    assert_eq!(why(&world, 0), None, "it is being fetched");
    let config = world.config.with_metered(true);
    world.input(Input::LimitsChanged { config });
    assert_eq!(why(&world, MIB / 2).unwrap().halt, Halt::Metered);
    world.input(Input::OrdersSuspended { source: source(2) });
    assert_eq!(why(&world, MIB / 2).unwrap().halt, Halt::NoRoom);
}

#[test]
fn a_request_beyond_its_rate_says_so() {
    let mut world = World::new(Config::default().with_background_rate(Some(1_000)));
    world.open(2, 1_000 * MIB);
    world.request(2, range(0, MIB), Priority::Medium);
    let (run, _) = world.runs_of(2)[0];
    world.answer(run);
    world.progress(run, MIB);
    let one = world.scheduler.why_put_back(source(2), MIB / 2).unwrap();
    assert_eq!(one.halt, Halt::Throttled);
    assert_eq!(world.scheduler.why_halted(run), Some(Halt::Throttled));
}

#[test]
fn a_source_that_failed_tells_when_it_is_tried_again() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let (run, _) = world.runs_of(1)[0];
    world.fail(run, Failure::Transient { retry_after: None });
    let Some(Halt::Failed(until)) = halt_of(&world, 1) else {
        panic!("{:?}", halt_of(&world, 1))
    };
    assert!(until > Tick::ZERO);
    assert_eq!(world.scheduler.poll_timeout(), Some(until));
}

#[test]
fn a_run_that_nobody_needs_says_whether_somebody_will() {
    let mut world = with_runs(4);
    player_with(&mut world, 1, 8);
    let (run, _) = world.runs_of(1)[0];
    world.progress(run, 100 * MIB);
    assert_eq!(world.scheduler.why_halted(run), Some(Halt::Enough));
    assert_eq!(halt_of(&world, 1), None);
    world.seek(1, 700 * MIB);
    assert!(ended(&world).contains(&run));
    assert_eq!(world.scheduler.why_halted(run), Some(Halt::Unwanted));
    world.take(1, MIB, NO_PAUSE);
}
