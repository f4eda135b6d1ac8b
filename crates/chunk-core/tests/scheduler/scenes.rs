//! Scenes that several rules begin with.

use std::time::Duration;

use chunk_core::scheduler::{Action, Config, Input, Start};

use crate::driver::{World, range, reader};

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
pub(crate) const CHUNK: u64 = 10 * MIB;
pub(crate) const NO_PAUSE: Duration = Duration::ZERO;

pub(crate) fn chunk(index: u64) -> chunk_core::ByteRange {
    range(index * CHUNK, (index + 1) * CHUNK)
}

pub(crate) fn with_runs(runs: usize) -> World {
    World::new(Config::default().with_max_runs(runs))
}

/// A reader that has had its start-up, and pauses, as a player does: its window is not critical.
pub(crate) fn player(world: &mut World, id: u64, of: u64) {
    world.read(id, of, Start::At(0), None);
    // Where there are as many connections as may be, one of another file makes room.
    world.confirm_aborts();
    world.input(Input::ReaderRate {
        reader: reader(id),
        rate: Some(1_000_000),
    });
    for _ in 0..400 {
        let Some((run, _)) = world.runs_of(of).first().copied() else {
            break;
        };
        world.answer(run);
        world.progress(run, 64 * KIB);
        world.take(id, 32 * KIB, NO_PAUSE);
        if world.present_of(of) >= 8 * MIB {
            break;
        }
    }
}

/// The files with a run in flight, aborted ones and hedges not counted.
pub(crate) fn in_flight(world: &World) -> Vec<u64> {
    let mut files: Vec<u64> = world
        .requests
        .values()
        .filter(|run| run.is_in_flight() && !run.is_aborted && run.hedges.is_none())
        .map(|run| run.source.get())
        .collect();
    files.sort_unstable();
    files
}

pub(crate) fn starts(world: &World) -> Vec<Start> {
    world
        .log
        .iter()
        .filter_map(|action| match action {
            Action::Fetch { start, .. } => Some(*start),
            _ => None,
        })
        .collect()
}
