//! The workloads: each says what it measures, against which limit, and how.

mod beside;
mod crowd;
mod seek;
mod sequential;
mod tight;
mod touch;

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Duration;

use anyhow::Result;

use super::bucket::Capacity;
use super::link::{Link, Shape};
use super::subject::{Serving, Subject};
use super::table::{Figure, Workload};
use crate::random::Random;

const DELAY: Duration = Duration::from_millis(50);
const MBIT: u64 = 1_000_000 / 8;

/// A workload and what it takes to run it.
pub(super) struct Case {
    pub(super) workload: Workload,
    pub(super) run: fn(&Stage) -> Result<Vec<Vec<f64>>>,
    pub(super) line: Shape,
    pub(super) chunk_size: &'static str,
    pub(super) others: Others,
    pub(super) runs: Runs,
}

/// Who takes part beside chunkd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Asked,
    /// The direct client, whether asked for or not: it is what chunkd is compared with.
    Direct,
    /// The workload asks for what the others do not have, or they were measured in a neighbouring one.
    None,
}

/// How the runs follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    OneByOne,
    /// Those of all subjects: for lines so slow that many of them do not disturb each other on one machine.
    AtOnce,
}

/// One run: a line, an origin and a cache of its own, with nothing in it.
pub(super) struct Stage<'a> {
    pub(super) subject: &'a Subject,
    pub(super) folder: PathBuf,
    pub(super) number: u64,
    pub(super) line: Shape,
    pub(super) chunk_size: &'static str,
    /// For those that run beside it.
    pub(super) ready: &'a Barrier,
}

impl Stage<'_> {
    /// Starts the origin and the cache in front of it, and waits for those that are measured at the same time: some
    /// caches take all of a processor to start.
    fn begin(&self, length: u64, names: &[String]) -> Result<(Link, Serving)> {
        let started = self.start(length, names);
        self.ready.wait();
        let (link, serving) = started?;
        link.begin();
        Ok((link, serving))
    }

    fn start(&self, length: u64, names: &[String]) -> Result<(Link, Serving)> {
        let link = Link::start(self.line, length, names)?;
        let serving = self
            .subject
            .serve(link.address, &self.folder, self.chunk_size)?;
        Ok((link, serving))
    }
}

/// The whole table, in its order.
pub(super) fn all() -> Vec<Case> {
    let mut cases = seek::cases();
    cases.extend(of_any_chunk_size());
    for size in ["1MiB", "64MiB"] {
        let others = of_any_chunk_size().into_iter();
        cases.extend(others.map(|case| case.with_chunks_of(size)));
    }
    cases.extend([seek::changing(), touch::changing(), crowd::changing()]);
    cases.push(sequential::changing());
    cases.extend(beside::changing());
    cases.push(tight::changing());
    cases
}

/// What has targets that hold for every chunk size, but for seeks.
fn of_any_chunk_size() -> Vec<Case> {
    let mut cases = vec![touch::case(), crowd::case()];
    cases.extend(sequential::cases());
    cases.extend(beside::cases());
    cases.push(tight::case());
    cases
}

impl Case {
    /// The same for chunkd alone, with chunks of another size.
    fn with_chunks_of(mut self, size: &'static str) -> Self {
        let workload = &mut self.workload;
        workload.name = format!("{}-{size}", workload.name);
        workload.title = format!("chunks of {size}: {}", workload.title);
        Self {
            chunk_size: size,
            others: Others::None,
            ..self
        }
    }

    /// The same on a line whose rate changes, where nobody knows the limit: what a direct client gets in the same run
    /// is what chunkd is compared with.
    fn on_second_line(mut self, line: Shape, figures: Vec<Figure>) -> Self {
        let workload = &mut self.workload;
        workload.name = format!("line2-{}", workload.name);
        workload.title = format!("second line: {}", workload.title);
        workload.figures = figures;
        Self {
            line,
            others: Others::Direct,
            ..self
        }
    }
}

/// The length of a place to seek to. No place is visited twice, so that nobody's luck is measured: what is read or read
/// ahead at one ends before the next.
const PLACE: u64 = 16 << 20;

/// All places of a film in an order that depends on nothing but the seed.
fn places(seed: u64, count: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut left: Vec<u64> = (0..count).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let next = random.below(left.len() as u64);
        order.push(left.swap_remove(next as usize));
    }
    order
}

/// 50 ms away, with so many bytes a second in all; connecting costs nothing.
const fn steady(rate: u64) -> Shape {
    Shape {
        delay: DELAY,
        connecting: Duration::ZERO,
        capacity: Capacity::Steady(rate),
        each: None,
    }
}

/// The line of another shape: connecting costs a round trip, and every second has a rate of its own.
const CHANGING: Shape = changing(40 * MBIT, 160 * MBIT);

const fn changing(low: u64, high: u64) -> Shape {
    Shape {
        delay: DELAY,
        connecting: DELAY,
        capacity: Capacity::Changing { seed: 1, low, high },
        each: None,
    }
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn every_place_is_visited_once() {
        let mut order = places(1, 16);
        assert_ne!(order, places(2, 16));
        assert_eq!(order, places(1, 16));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..16));
    }
}
