//! What one fact costs the scheduler, its plan and its actions included.

use std::time::Duration;

use chunk_core::scheduler::{
    Action, Config, Hints, Input, OriginId, ReaderId, RunId, Scheduler, SourceId, Start,
};
use chunk_core::{ByteRange, Priority, RangeSet, ReadAheadPolicy, Tick};
use criterion::{BenchmarkId, Criterion};

use crate::{each, scattered, sizes};

const MIB: u64 = 1 << 20;
const FILM: u64 = 1 << 44;
const PLAYER: ReaderId = ReaderId::new(0);

/// A scheduler whose every order is carried out at once.
struct World {
    scheduler: Scheduler,
    now: Tick,
    /// The runs that are being read, and where they stand.
    runs: Vec<RunId>,
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            now: Tick::ZERO,
            runs: Vec::new(),
        }
    }

    fn open(&mut self, source: u64, present: RangeSet) {
        self.tell(Input::SourceOpened {
            source: SourceId::new(source),
            origin: OriginId::new(1),
            total_len: Some(FILM),
            accepts_ranges: true,
            present,
        });
    }

    fn reader(&mut self, reader: ReaderId, source: u64, at: u64) {
        self.tell(Input::ReaderOpened {
            reader,
            source: SourceId::new(source),
            start: Start::At(at),
            end: None,
            hints: Hints::default(),
        });
    }

    fn tell(&mut self, input: Input) {
        self.now = self.now + Duration::from_millis(1);
        self.scheduler.handle(self.now, input);
    }

    /// A fact, and all that follows from it.
    fn step(&mut self, input: Input) {
        self.tell(input);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Fetch { run, start, .. } => {
                    let Start::At(start) = start else { continue };
                    self.runs.push(run);
                    self.scheduler.handle(
                        self.now,
                        Input::Answered {
                            run,
                            start,
                            end: Some(FILM),
                            total_len: Some(FILM),
                            accepts_ranges: true,
                        },
                    );
                }
                Action::Abort { run } => {
                    self.runs.retain(|open| *open != run);
                    self.scheduler.handle(self.now, Input::Finished { run });
                }
                _ => {}
            }
        }
        std::hint::black_box(self.scheduler.poll_timeout());
    }

    /// The next bytes of the run that came first.
    fn progress(&mut self) {
        if let Some(&run) = self.runs.first() {
            self.step(Input::Progressed { run, bytes: 16 });
        }
    }
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).expect("it has bytes")
}

pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    for size in sizes(1_000_000) {
        group.bench_function(BenchmarkId::new("seek, chunks queued", size), |bencher| {
            let mut world = queued(size);
            let mut number = 0;
            each(bencher, || {
                number += 1;
                seek(&mut world, number);
            });
        });
    }
    for gibibytes in [1, 16, 256] {
        let name = BenchmarkId::new("seek, GiB read ahead", gibibytes);
        group.bench_function(name, |bencher| {
            let policy = ReadAheadPolicy::DEFAULT
                .with_max(gibibytes << 30)
                .with_fallback_chunks(1 << 20);
            let mut world = World::new(Config::default().with_read_ahead(policy));
            world.open(1, RangeSet::new());
            world.reader(PLAYER, 1, 0);
            let mut number = 0;
            each(bencher, || {
                number += 1;
                seek(&mut world, number);
            });
        });
    }
    for size in sizes(10_000) {
        let name = BenchmarkId::new("bytes arrive, readers that have enough", size);
        group.bench_function(name, |bencher| {
            let mut world = World::new(Config::default());
            world.open(1, [range(0, FILM / 2)].into_iter().collect());
            world.open(2, RangeSet::new());
            for reader in 1..=size {
                world.reader(ReaderId::new(reader), 1, reader * MIB);
            }
            world.reader(PLAYER, 1, FILM / 2);
            world.act();
            each(bencher, || world.progress());
        });
        let name = BenchmarkId::new("bytes arrive, readers that wait", size);
        group.bench_function(name, |bencher| {
            let mut world = World::new(Config::default());
            world.open(1, RangeSet::new());
            for reader in 1..=size {
                world.reader(ReaderId::new(reader), 1, reader << 30);
            }
            world.act();
            each(bencher, || world.progress());
        });
        let name = BenchmarkId::new("bytes arrive, files open", size);
        group.bench_function(name, |bencher| {
            let mut world = World::new(Config::default());
            for source in 1..=size {
                world.open(source, RangeSet::new());
            }
            world.reader(PLAYER, 1, 0);
            world.act();
            each(bencher, || world.progress());
        });
    }
    group.finish();
}

/// So many chunks are queued, none of which continues the one queued before it, and a player is about.
fn queued(size: u64) -> World {
    let mut world = World::new(Config::default());
    for source in [1, 2] {
        world.open(source, RangeSet::new());
    }
    world.reader(PLAYER, 1, 0);
    for index in 0..size {
        world.tell(Input::Requested {
            source: SourceId::new(1 + index % 2),
            range: range(index / 2 * MIB, (index / 2 + 1) * MIB),
            priority: Priority::Low,
        });
    }
    world.act();
    world
}

fn seek(world: &mut World, number: u64) {
    world.step(Input::ReaderSought {
        reader: PLAYER,
        position: scattered(number, FILM / 2),
    });
}
