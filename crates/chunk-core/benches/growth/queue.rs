//! Explicit requests, none of which continues another.

use std::hint::black_box;

use chunk_core::{ByteRange, DemandQueue, Priority};
use criterion::{BenchmarkId, Criterion};

use crate::{scattered, sizes, timed};

const CHUNK: u64 = 10 << 20;

fn chunk(index: u64) -> ByteRange {
    ByteRange::new(index * CHUNK, (index + 1) * CHUNK).expect("a chunk has bytes")
}

/// Two entries in turn, so that nothing merges.
fn place(index: u64) -> (u64, ByteRange) {
    (index % 2, chunk(index))
}

fn queue_of(size: u64) -> DemandQueue<u64> {
    let mut queue = DemandQueue::new();
    for index in 0..size {
        let (key, range) = place(index);
        queue.push(key, range, Priority::Low);
    }
    assert_eq!(queue.len() as u64, size);
    queue
}

pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    for size in sizes(1_000_000) {
        let mut queue = queue_of(size);
        group.bench_function(BenchmarkId::new("push", size), |bencher| {
            let new = |number| (number % 2, chunk(size + 1 + number % 500));
            bencher.iter_custom(|count| {
                timed(
                    &mut queue,
                    count,
                    |queue, number| {
                        let (key, range) = new(number);
                        black_box(queue.push(key, range, Priority::Low));
                    },
                    |queue, number| {
                        let (key, range) = new(number);
                        queue.cancel(key, range);
                    },
                )
            });
        });
        group.bench_function(BenchmarkId::new("pop", size), |bencher| {
            let mut taken = Vec::new();
            bencher.iter_custom(|count| {
                timed(
                    &mut (&mut queue, &mut taken),
                    count,
                    |(queue, taken), _| taken.extend(queue.pop()),
                    |(queue, taken), _| {
                        if let Some(demand) = taken.pop() {
                            queue.push(demand.key, demand.range, demand.priority);
                        }
                    },
                )
            });
        });
        let some = |number| place(scattered(number, size));
        group.bench_function(BenchmarkId::new("promote", size), |bencher| {
            bencher.iter_custom(|count| {
                timed(
                    &mut queue,
                    count,
                    |queue, number| {
                        let (key, range) = some(number);
                        black_box(queue.push(key, range, Priority::High));
                    },
                    |queue, number| {
                        let (key, range) = some(number);
                        queue.cancel(key, range);
                        queue.push(key, range, Priority::Low);
                    },
                )
            });
        });
        group.bench_function(BenchmarkId::new("cancel", size), |bencher| {
            bencher.iter_custom(|count| {
                timed(
                    &mut queue,
                    count,
                    |queue, number| {
                        let (key, range) = some(number);
                        black_box(queue.cancel(key, range));
                    },
                    |queue, number| {
                        let (key, range) = some(number);
                        queue.push(key, range, Priority::Low);
                    },
                )
            });
        });
    }
    group.finish();
}
