//! Several readers of one file: what one of them has fetched is there for the others.

use std::time::Duration;

use chunk_core::BLOCK_SIZE;
use chunk_core::scheduler::{Input, RunId, Start};

use crate::driver::{World, reader};
use crate::scenes::{KIB, MIB, NO_PAUSE, with_runs};

/// Bytes a second of the film.
const FILM: u64 = 1_000_000;
const STEP: Duration = Duration::from_millis(50);
const LEN: u64 = 7_200 * FILM;

/// Lets a second pass over a line four times as fast as the film, which each reader plays.
fn play_a_second(world: &mut World, readers: &[u64]) {
    for _ in 0..20 {
        world.pass(STEP);
        let runs: Vec<RunId> = world.requests.keys().copied().collect();
        for run in runs {
            world.answer(run);
            world.progress(run, FILM / 5);
            world.finish(run);
        }
        for &id in readers {
            world.take(id, FILM / 20, NO_PAUSE);
        }
    }
}

/// How many bytes a minute takes of as many readers, each a second behind the one before, and how many requests.
fn minute_of(count: u64, rate: Option<u64>) -> (u64, usize) {
    let mut world = with_runs(4);
    world.open(1, LEN);
    let mut readers = Vec::new();
    for second in 0..60 {
        if second < count {
            readers.push(second);
            world.read(second, 1, Start::At(0), None);
            world.input(Input::ReaderRate {
                reader: reader(second),
                rate,
            });
        }
        play_a_second(&mut world, &readers);
    }
    (world.bytes_received, world.fetches)
}

#[test]
fn r02_several_readers_of_one_file_do_not_multiply_its_read_ahead() {
    for rate in [Some(FILM), None] {
        let (alone, requests) = minute_of(1, rate);
        let (together, more) = minute_of(3, rate);
        // Video, audio and subtitles of one container read the same bytes, a little apart.
        assert!(alone >= 60 * FILM, "{alone}");
        assert!(together <= alone + MIB, "{together} instead of {alone}");
        assert!(
            more <= requests + 2,
            "{more} requests instead of {requests}"
        );
    }
}

#[test]
fn r02_an_index_probe_costs_its_blocks_and_leaves_the_front_alone() {
    let begun = || {
        let mut world = with_runs(4);
        world.open(1, LEN);
        world.read(1, 1, Start::At(0), None);
        let (reader, rate) = (reader(1), Some(FILM));
        world.input(Input::ReaderRate { reader, rate });
        world
    };
    let without = {
        let mut world = begun();
        (0..20).for_each(|_| play_a_second(&mut world, &[1]));
        world.bytes_received
    };
    let mut world = begun();
    (0..10).for_each(|_| play_a_second(&mut world, &[1]));
    let front = world.runs_of(1);
    world.read(2, 1, Start::At(LEN - 10 * KIB), None);
    (0..10).for_each(|_| play_a_second(&mut world, &[1, 2]));
    let cost = world.bytes_received - without;
    assert!(cost <= 2 * BLOCK_SIZE, "{cost} bytes for the end of a file");
    for (run, _) in front {
        assert!(world.requests.contains_key(&run), "the front was disturbed");
    }
    // The front, the probe, and what lies before the probe in its block.
    assert!(world.fetches <= 3, "{} requests", world.fetches);
}
