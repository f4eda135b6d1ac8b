//! An hour of playback with seeks in the simulator: how long it takes, and whether it replays.
//!
//! ```text
//! cargo run --release -p chunk-testkit --example hour
//! ```
#![expect(clippy::print_stdout, reason = "an example is there to be read")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use chunk_core::scheduler::Config;
use chunk_testkit::simulator::{Link, Player, Report, Simulation};

const HOUR: Duration = Duration::from_secs(3_600);
/// What an hour may take. A release build has to keep to it.
const TARGET: Duration = Duration::from_secs(1);
/// 8 Mbit/s, in bytes.
const FILM: u64 = 1_000_000;

/// A film of two hours over a line 1.5 times as fast, 50 ms away; its viewer seeks about every half minute.
fn hour(seed: u64) -> Report {
    let link = Link::new(Duration::from_millis(50), 3 * FILM / 2);
    let mut simulation = Simulation::new(Config::default(), link, seed);
    let player = Player::new(FILM).with_seeks(Duration::from_secs(30));
    simulation.add_player(7_200 * FILM, player);
    simulation.run(HOUR)
}

fn timed(seed: u64) -> (Report, Duration) {
    let begun = Instant::now();
    (hour(seed), begun.elapsed())
}

fn main() -> ExitCode {
    let [(report, first), (again, second), (other, third)] = [1, 1, 2].map(timed);
    // What else the machine does is not the simulator's time.
    let took = first.min(second).min(third);
    // The first start is no seek.
    let seeks = report.starts.saturating_sub(1);
    let facts = report.facts;
    println!("a simulated hour of playback with {seeks} seeks: {took:.2?}, {facts} facts");
    println!(
        "the same seed: trace {:016x}, again {:016x}; another seed: {:016x}",
        report.trace, again.trace, other.trace
    );
    let is_replayed = report == again && report.trace != other.trace;
    // A debug build is there to be debugged.
    let is_in_time = took <= TARGET || cfg!(debug_assertions);
    if is_replayed && is_in_time {
        ExitCode::SUCCESS
    } else {
        println!("missed: the same trace, within {TARGET:?}");
        ExitCode::FAILURE
    }
}
