//! The scheduler on random workloads, against what no scheduler can do better.
//!
//! `CHUNKD_SIM_SEEDS` sets how many workloads of each kind are played.
#![expect(
    clippy::print_stderr,
    reason = "the distribution is what is of interest"
)]

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{iter, thread};

use chunk_core::scheduler::Config;
use chunk_testkit::simulator::workload::{Outcome, Workload};

/// What a plain test run has time for: half a minute. `cargo xtask sim` plays a thousand.
const SEEDS: u64 = 200;

fn seeds() -> u64 {
    let told = std::env::var("CHUNKD_SIM_SEEDS").ok();
    told.and_then(|seeds| seeds.parse().ok())
        .unwrap_or(SEEDS)
        .max(1)
}

struct Played {
    seed: u64,
    workload: Workload,
    outcome: Outcome,
}

impl Played {
    /// Thousandths of the optimum.
    fn waited(&self) -> u64 {
        self.waited_of(self.outcome.optimum)
    }

    /// Thousandths of the bound that knows the seeks.
    fn waited_of_bound(&self) -> u64 {
        self.waited_of(self.outcome.lower_bound)
    }

    fn waited_of(&self, least: Duration) -> u64 {
        let least = least.as_micros().max(1);
        u64::try_from(self.outcome.waited.as_micros() * 1_000 / least).unwrap_or(u64::MAX)
    }

    fn stalled(&self) -> u64 {
        u64::try_from(self.outcome.report.stalled.as_millis()).unwrap_or(u64::MAX)
    }

    fn excess(&self) -> u64 {
        let excess = self.outcome.waited.saturating_sub(self.outcome.optimum);
        u64::try_from(excess.as_millis()).unwrap_or(u64::MAX)
    }

    /// Thousandths of what left the origin.
    const fn wasted(&self) -> u64 {
        let report = &self.outcome.report;
        report.wasted * 1_000 / (report.origin_bytes + 1)
    }

    /// Milliseconds of film for each seek and departure.
    fn wasted_a_jump(&self) -> u64 {
        self.outcome.report.wasted * 1_000 / self.workload.second_a_jump()
    }
}

/// Median, 90th and 99th percentile and maximum.
#[derive(Clone, Copy)]
struct Spread {
    median: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Spread {
    fn of(played: &[Played], figure: fn(&Played) -> u64) -> Self {
        let mut figures: Vec<u64> = played.iter().map(figure).collect();
        figures.sort_unstable();
        let at = |percent: usize| figures[(figures.len() - 1) * percent / 100];
        Self {
            median: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        }
    }

    fn report(self, what: &str) {
        eprintln!(
            "  {what:<28} median {:>6}  p90 {:>6}  p99 {:>6}  max {:>6}",
            self.median, self.p90, self.p99, self.max
        );
    }
}

/// Plays the workloads of the seeds up to `last`, on all processors; returns them by their seeds.
fn play_all(last: u64, make: fn(u64) -> Workload) -> Vec<Played> {
    let next = AtomicU64::new(1);
    let take = || {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        (seed <= last).then_some(seed)
    };
    let one = |seed| {
        let workload = make(seed);
        let outcome = workload.play(Config::default());
        Played {
            seed,
            workload,
            outcome,
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut played: Vec<Played> = thread::scope(|scope| {
        let players: Vec<_> = (0..processors)
            .map(|_| scope.spawn(|| iter::from_fn(take).map(one).collect::<Vec<Played>>()))
            .collect();
        let played = players.into_iter().map(|player| player.join());
        played
            .flat_map(|played| played.expect("a workload is played to its end"))
            .collect()
    });
    played.sort_by_key(|one| one.seed);
    played
}

fn play(name: &str, make: fn(u64) -> Workload) -> Vec<Played> {
    let mut played = play_all(seeds(), make);
    eprintln!("{name}: {} workloads", played.len());
    Spread::of(&played, Played::waited).report("waited, ‰ of the optimum");
    Spread::of(&played, Played::waited_of_bound).report("waited, ‰ of the bound");
    Spread::of(&played, Played::excess).report("waited beyond the optimum, ms");
    Spread::of(&played, Played::stalled).report("stalled, ms");
    Spread::of(&played, Played::wasted).report("wasted, ‰ of what came");
    Spread::of(&played, Played::wasted_a_jump).report("wasted, ms of film a jump");
    let (waited, optimum, bound) = played.iter().fold(
        (Duration::ZERO, Duration::ZERO, Duration::ZERO),
        |sum, one| {
            (
                sum.0 + one.outcome.waited,
                sum.1 + one.outcome.optimum,
                sum.2 + one.outcome.lower_bound,
            )
        },
    );
    eprintln!(
        "  in all: waited {waited:.1?}, optimum {optimum:.1?}, bound that knows the seeks {bound:.1?}"
    );
    played.sort_by_key(|one| std::cmp::Reverse(one.excess()));
    eprintln!("  worst:");
    for one in played.iter().take(8) {
        eprintln!(
            "    {}: {:.2?} of {:.2?} ({:.2?}), {} stalls {:.2?}, {} starts {:.2?}; {}",
            one.seed,
            one.outcome.waited,
            one.outcome.optimum,
            one.outcome.lower_bound,
            one.outcome.report.stalls,
            one.outcome.report.stalled,
            one.outcome.report.starts,
            one.outcome.report.starting,
            one.workload,
        );
    }
    played
}

fn no_better_than_possible(played: &[Played]) {
    for one in played {
        let outcome = &one.outcome;
        let seed = one.seed;
        assert!(
            outcome.lower_bound <= outcome.optimum,
            "{seed}: {outcome:?}"
        );
        assert!(outcome.optimum <= outcome.waited, "{seed}: {outcome:?}");
    }
}

/// Thousandths of the optimum, of all workloads together.
fn in_all(played: &[Played]) -> u64 {
    let sum = |figure: fn(&Outcome) -> Duration| -> u128 {
        played
            .iter()
            .map(|one| figure(&one.outcome).as_micros())
            .sum()
    };
    let least = sum(|outcome| outcome.optimum).max(1);
    u64::try_from(sum(|outcome| outcome.waited) * 1_000 / least).unwrap_or(u64::MAX)
}

/// Nobody tells the scheduler a rate: it has to be shown by pauses, and a player on a line that others share may
/// never come to one. The bars are a little above what was measured with 200, 400 and 1,000 workloads: at most 1,276,
/// 4,080 and 2,254 ‰ of the optimum, 196 ‰ of waste. They keep it from getting worse.
#[test]
fn random_workloads() {
    let played = play("random", Workload::random);
    no_better_than_possible(&played);
    let alone = |one: &&Played| one.workload.players() == 1;
    let worst = played.iter().filter(alone).map(Played::excess).max();
    eprintln!("  one player: at worst {worst:?} ms beyond the optimum");
    let bars = (1_350, 4_200, 2_350, 200);
    let (waited, all) = (Spread::of(&played, Played::waited), in_all(&played));
    assert!(waited.median <= bars.0, "{}", waited.median);
    assert!(waited.p90 <= bars.1, "{}", waited.p90);
    assert!(all <= bars.2, "{all}");
    let wasted = Spread::of(&played, Played::wasted);
    assert!(wasted.median <= bars.3, "{}", wasted.median);
}

/// The same films, each with its rate in its header, as nearly all have. Measured were at most 1,195 and 1,868 ‰ of the
/// optimum, and 1,412 in all. Most players alone wait at most 1,150; several that are short at once share what
/// the optimum gives to each of them alone.
#[test]
fn random_workloads_of_known_rates() {
    let played = play("random, rates told", |seed| {
        Workload::random(seed).with_told_rates()
    });
    no_better_than_possible(&played);
    let waited = Spread::of(&played, Played::waited);
    let bars = (1_200, 1_950, 1_450);
    assert!(waited.median <= bars.0, "{}", waited.median);
    assert!(waited.p90 <= bars.1, "{}", waited.p90);
    assert!(in_all(&played) <= bars.2, "{}", in_all(&played));
}

/// The bar is the target; measured were 1,036 ‰ at most with 1,000 workloads. Waste was 11 ‰.
#[test]
fn a_player_that_seeks_on_a_link_it_fills() {
    let played = play("tight", Workload::tight);
    no_better_than_possible(&played);
    let waited = Spread::of(&played, Played::waited);
    assert!(waited.max <= 1_100, "{}", waited.max);
    let wasted = Spread::of(&played, Played::wasted);
    assert!(wasted.p90 <= 20, "{}", wasted.p90);
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in [1, 2, 3] {
        let outcome = Workload::random(seed).play(Config::default());
        assert_eq!(outcome, Workload::random(seed).play(Config::default()));
        let other = Workload::random(seed + 1).play(Config::default());
        assert_ne!(outcome.report.trace, other.report.trace);
    }
}

/// Whether its line is contested was once judged by what came over it, which was nothing because of that judgement: the
/// plan went round at one instant.
#[test]
fn a_plan_that_once_went_round_in_circles_comes_to_an_end() {
    let outcome = Workload::random(154).play(Config::default());
    assert!(outcome.waited >= outcome.optimum, "{outcome:?}");
}
