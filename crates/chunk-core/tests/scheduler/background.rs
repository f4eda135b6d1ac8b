//! Limits for what nobody waits for.

use std::time::Duration;

use chunk_core::scheduler::{Config, Input, OriginId, Start};
use chunk_core::{BLOCK_SIZE, Priority};
use proptest::prelude::*;

use crate::driver::{World, range, reader};
use crate::scenes::{KIB, MIB, NO_PAUSE, starts, with_runs};

const STEP: Duration = Duration::from_millis(5);

fn limited(rate: u64) -> World {
    World::new(Config::default().with_background_rate(Some(rate)))
}

/// Lets a fast origin serve for so long.
fn serve(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        world.pass(STEP);
        for run in world.requests.keys().copied().collect::<Vec<_>>() {
            world.answer(run);
            world.progress(run, 256 * KIB);
            world.finish(run);
        }
        world.confirm_aborts();
    }
}

#[test]
fn background_work_keeps_to_its_rate_and_uses_it() {
    for rate in [20 * KIB, 125_000, 2_500_000] {
        let mut world = limited(rate);
        world.open(1, 1_000 * MIB);
        world.request(1, range(0, 900 * MIB), Priority::Medium);
        serve(&mut world, Duration::from_secs(60));
        let (got, fair) = (world.bytes_received, 60 * rate);
        assert!(got <= fair + BLOCK_SIZE, "{got} of {fair}");
        assert!(got + 2 * BLOCK_SIZE + fair / 20 >= fair, "{got} of {fair}");
        assert!(world.fetches <= 2, "{} requests", world.fetches);
    }
}

#[test]
fn who_waits_is_not_limited() {
    let mut world = limited(10 * KIB);
    world.open(1, 1_000 * MIB);
    world.open(2, 1_000 * MIB);
    world.request(2, range(0, 8 * MIB), Priority::High);
    world.read(1, 1, Start::At(0), None);
    for _ in 0..40 {
        serve(&mut world, STEP);
        world.take(1, MIB, NO_PAUSE);
    }
    assert!(world.present_of(1) >= 4 * MIB, "{}", world.present_of(1));
    assert_eq!(world.present_of(2), 8 * MIB);
}

#[test]
fn what_becomes_urgent_is_fetched_at_once() {
    let mut world = limited(10 * KIB);
    world.open(1, 1_000 * MIB);
    world.request(1, range(0, 100 * MIB), Priority::Low);
    serve(&mut world, Duration::from_secs(10));
    assert!(world.present_of(1) <= 100 * KIB + 2 * BLOCK_SIZE);
    let fetched = world.fetches - world.stripes;
    world.request(1, range(0, 8 * MIB), Priority::Critical);
    serve(&mut world, Duration::from_millis(500));
    assert!(world.present_of(1) >= 8 * MIB);
    let fetched_now = world.fetches - world.stripes;
    assert_eq!(fetched_now, fetched, "the run that was held back goes on");
}

#[test]
fn an_origin_has_a_limit_of_its_own_and_holds_up_no_other() {
    let mut world = with_runs(2);
    world.origins = 2;
    // Even and odd numbers are of two origins.
    for id in 1..=8 {
        world.open(id, 1_000 * MIB);
    }
    world.input(Input::OriginLimited {
        origin: OriginId::new(1),
        background_rate: Some(100 * KIB),
    });
    for id in [1, 3, 5, 7, 2] {
        world.request(id, range(0, 100 * MIB), Priority::Medium);
    }
    serve(&mut world, Duration::from_secs(10));
    let slow: u64 = [1, 3, 5, 7].iter().map(|&id| world.present_of(id)).sum();
    assert!(slow <= 1_000 * KIB + 4 * BLOCK_SIZE, "{slow}");
    assert!(slow >= 800 * KIB, "{slow}");
    assert_eq!(world.present_of(2), 100 * MIB);
}

#[test]
fn a_limit_can_be_lifted_while_something_is_held_back_by_it() {
    let mut world = limited(KIB);
    world.open(1, 1_000 * MIB);
    world.request(1, range(0, 20 * MIB), Priority::Low);
    serve(&mut world, Duration::from_secs(5));
    assert!(world.present_of(1) < MIB);
    world.input(Input::LimitsChanged {
        config: Config::default(),
    });
    serve(&mut world, Duration::from_secs(5));
    assert_eq!(world.present_of(1), 20 * MIB);
}

#[test]
fn on_a_metered_line_the_background_rests_and_little_is_read_ahead() {
    let mut world = World::new(Config::default().with_metered(true));
    world.open(1, 1_000 * MIB);
    world.open(2, 1_000 * MIB);
    world.request(2, range(0, 8 * MIB), Priority::Medium);
    world.request(2, range(20 * MIB, 28 * MIB), Priority::Low);
    world.read(1, 1, Start::At(0), None);
    world.input(Input::ReaderRate {
        reader: reader(1),
        rate: Some(MIB),
    });
    for _ in 0..200 {
        serve(&mut world, 20 * STEP);
        world.take(1, MIB / 10, NO_PAUSE);
    }
    // 20 s of film, and ten more.
    let ahead = world.present_of(1) - 20 * MIB;
    assert!(
        (4 * MIB..=10 * MIB + BLOCK_SIZE).contains(&ahead),
        "{ahead}"
    );
    assert_eq!(world.present_of(2), 0);
    world.request(2, range(0, MIB), Priority::High);
    serve(&mut world, Duration::from_secs(1));
    assert_eq!(world.present_of(2), MIB);
}

#[test]
fn the_heads_of_cut_blocks_are_completed_but_on_a_metered_line() {
    for is_metered in [false, true] {
        let mut world = World::new(Config::default().with_metered(is_metered));
        world.open(1, 10 * MIB);
        let start = Start::At(BLOCK_SIZE + 1_000);
        world.read(1, 1, start, None);
        for _ in 0..100 {
            serve(&mut world, 20 * STEP);
            world.take(1, MIB, NO_PAUSE);
        }
        let is_completed = starts(&world).contains(&Start::At(BLOCK_SIZE));
        assert_eq!(is_completed, !is_metered);
    }
}

proptest! {
    #[test]
    fn whatever_the_origin_does_no_more_than_the_rate_comes_in_the_background(
        rate in 1_000..5_000_000u64,
        origin_rate in prop::option::of(1_000..5_000_000u64),
        requests in prop::collection::vec((0..2u64, 0..64u64, 1..64u64, any::<bool>()), 1..12),
        steps in prop::collection::vec((0..300u64, 0..6usize, 1..400_000u64), 1..200),
    ) {
        let mut world = limited(rate);
        world.origins = 2;
        for id in 0..2 {
            world.open(id, 8 * MIB);
        }
        world.input(Input::OriginLimited { origin: OriginId::new(1), background_rate: origin_rate });
        for (id, at, len, is_low) in requests {
            let level = if is_low { Priority::Low } else { Priority::Medium };
            world.request(id, range(at * BLOCK_SIZE, (at + len) * BLOCK_SIZE), level);
        }
        let runs = world.config.max_runs as u64;
        let burst = |rate: u64| runs * (rate / 4).max(2 * BLOCK_SIZE);
        let start = world.now;
        for (millis, index, bytes) in steps {
            world.pass(Duration::from_millis(millis));
            if let Some(run) = world.requests.keys().copied().nth(index) {
                world.answer(run);
                world.progress(run, bytes);
                world.finish(run);
            }
            world.confirm_aborts();
            let passed = u64::try_from(world.now.since(start).as_millis()).unwrap() + 1;
            prop_assert!(world.bytes_received <= rate * passed / 1_000 + burst(rate));
            if let Some(rate) = origin_rate {
                prop_assert!(world.present_of(1) <= rate * passed / 1_000 + burst(rate));
            }
        }
        world.settle();
        prop_assert!(world.scheduler.queue().is_empty());
    }
}
