//! The choice of what goes next.

use std::hint::black_box;

use chunk_core::{EvictionIndex, Place};
use criterion::{BenchmarkId, Criterion};

use crate::{each, scattered, sizes};

pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("eviction");
    for size in sizes(1_000_000) {
        let mut index = EvictionIndex::default();
        for key in 0..size {
            index.insert(key, 10 << 20, Place::Middle, key.cast_signed());
        }
        let mut now = size.cast_signed();
        group.bench_function(BenchmarkId::new("next victim", size), |bencher| {
            each(bencher, || black_box(index.victims(1).next()));
        });
        group.bench_function(BenchmarkId::new("evict and add", size), |bencher| {
            each(bencher, || {
                now += 1;
                let victim = index.victims(1).next().expect("nothing is pinned");
                index.remove(victim.key);
                index.insert(victim.key, 10 << 20, Place::Middle, now);
            });
        });
        group.bench_function(BenchmarkId::new("touch", size), |bencher| {
            each(bencher, || {
                now += 1;
                black_box(index.touch(scattered(now.unsigned_abs(), size), now))
            });
        });
    }
    group.finish();
}
