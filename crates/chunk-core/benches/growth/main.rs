//! How the cost of the core's operations grows with what there is of queue, coverage, segments and readers.
//!
//! ```text
//! cargo bench -p chunk-core
//! cargo bench -p chunk-core -- queue/pop
//! ```

mod coverage;
mod eviction;
mod queue;
mod scheduler;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Bencher, Criterion};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    queue::all(&mut criterion);
    coverage::all(&mut criterion);
    eviction::all(&mut criterion);
    scheduler::all(&mut criterion);
    criterion.final_summary();
}

/// From a thousand to a million; only the first where this is run as a test, to see that it runs.
fn sizes(most: u64) -> Vec<u64> {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    [1_000, 10_000, 100_000, 1_000_000]
        .into_iter()
        .filter(|&size| size <= most && (is_measured || size == 1_000))
        .collect()
}

/// The time of `step` alone, done `count` times; after every so many, `restore` makes things as they were.
fn timed<S>(
    state: &mut S,
    count: u64,
    mut step: impl FnMut(&mut S, u64),
    mut restore: impl FnMut(&mut S, u64),
) -> Duration {
    const AT_ONCE: u64 = 500;
    let mut spent = Duration::ZERO;
    let mut done = 0;
    while done < count {
        let until = count.min(done + AT_ONCE);
        let began = processor_time();
        for number in done..until {
            step(state, number);
        }
        spent += processor_time() - began;
        for number in done..until {
            restore(state, number);
        }
        done = until;
    }
    spent
}

/// The time of one step, the same or another each time.
fn each<T>(bencher: &mut Bencher<'_>, mut step: impl FnMut() -> T) {
    bencher.iter_custom(|count| {
        let began = processor_time();
        for _ in 0..count {
            black_box(step());
        }
        processor_time() - began
    });
}

/// What this thread has had of a processor: another program that runs beside it is not counted.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Numbers below `end` that have nothing to do with each other.
fn scattered(number: u64, end: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 31)) % end.max(1)
}
