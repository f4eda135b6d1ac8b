//! Coverage of which every other chunk is missing: as many ranges as there can be.

use std::hint::black_box;

use chunk_core::{ByteRange, RangeSet};
use criterion::{BenchmarkId, Criterion};

use crate::{each, scattered, sizes, timed};

const CHUNK: u64 = 10 << 20;

fn chunk(index: u64) -> ByteRange {
    ByteRange::new(2 * index * CHUNK, (2 * index + 1) * CHUNK).expect("a chunk has bytes")
}

pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coverage");
    for size in sizes(1_000_000) {
        let mut set: RangeSet = (0..size).map(chunk).collect();
        let mut number = 0;
        group.bench_function(BenchmarkId::new("contains range", size), |bencher| {
            each(bencher, || {
                number += 1;
                let range = chunk(scattered(number, size));
                black_box(set.contains_range(range))
            });
        });
        group.bench_function(BenchmarkId::new("insert", size), |bencher| {
            let new = |number| {
                let start = (2 * scattered(number, size) + 1) * CHUNK + CHUNK / 2;
                ByteRange::new(start, start + 1).expect("a byte")
            };
            bencher.iter_custom(|count| {
                timed(
                    &mut set,
                    count,
                    |set, number| {
                        black_box(set.insert(new(number)));
                    },
                    |set, number| {
                        set.remove(new(number));
                    },
                )
            });
        });
    }
    group.finish();
}
