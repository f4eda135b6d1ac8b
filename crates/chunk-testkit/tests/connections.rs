//! Reading over several connections: how soon, and at what cost to the origin where somebody leaves early.
#![expect(
    clippy::print_stderr,
    reason = "the figures are of interest where a test is run by itself"
)]

use std::time::Duration;

use chunk_core::ChunkSize;
use chunk_core::scheduler::Config;
use chunk_testkit::simulator::{Link, Report, Simulation};

const MIB: u64 = 1 << 20;

fn chunks_of(mib: u64) -> Config {
    Config::default().with_chunk_size(ChunkSize::new(mib * MIB).unwrap())
}

/// When somebody that reads as fast as it can has read `much`, and what had been fetched by then.
fn read(config: Config, link: Link, len: u64, much: u64) -> (Duration, Report) {
    const STEP: Duration = Duration::from_millis(1);
    let mut simulation = Simulation::new(config, link, 1);
    simulation.add_copy(len);
    let mut time = Duration::ZERO;
    loop {
        time += STEP;
        let report = simulation.run(STEP);
        if report.copied >= much {
            return (time, report);
        }
        assert!(time < Duration::from_secs(60), "{report:?}");
    }
}

#[test]
fn an_origin_that_limits_each_connection_is_read_over_several() {
    for chunk in [1, 10, 64] {
        let link = Link::new(Duration::from_millis(50), 12_500_000).with_connection_rate(1_250_000);
        let (time, report) = read(chunks_of(chunk), link, 32 * MIB, 32 * MIB);
        eprintln!("32 MiB in chunks of {chunk}: {time:?}, {report:?}");
        assert!(time <= Duration::from_millis(3_250), "{time:?} {report:?}");
    }
}

#[test]
fn who_leaves_after_a_mebibyte_has_cost_a_quarter_more_at_most() {
    for chunk in [1, 10, 64] {
        for delay in [5, 20, 50, 100] {
            for rate in [625_000, 1_250_000, 2_000_000, 2_500_000, 5_000_000] {
                let link = Link::new(Duration::from_millis(delay), 1_000_000_000)
                    .with_connection_rate(rate);
                let (time, report) = read(chunks_of(chunk), link, 16 * MIB, MIB);
                let beyond = report.origin_bytes - MIB;
                eprintln!("{rate} B/s each, {delay} ms, chunks of {chunk}: {time:?}, {beyond}");
                assert!(beyond <= MIB / 4, "{beyond} beyond, {report:?}");
            }
        }
    }
}
