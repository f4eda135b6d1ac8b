//! What a fill at the rate of a line takes of a processor, checksums and commits included.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Bench;
use crate::bench::cold::check;
use crate::bench::measure::{Figure, Row};
use crate::bench::origin::{Origin, Rate};
use crate::bench::process::Process;
use crate::child::empty_folder;
use crate::http::Get;

const GIGABIT: u64 = 125_000_000;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let filled = bench.size.filled;
    empty_folder(&bench.chunkd.cache)?;
    let origin = Origin::start(filled, Duration::ZERO, Rate::Shared(GIGABIT))?;
    let serving = bench.chunkd.serve(origin.address)?;
    let process = Process {
        id: serving.guard.id(),
    };
    let get = Get {
        server: serving.address,
        path: "/film.mp4",
        range: None,
    };
    let mut answer = get.send()?;
    answer.expect(200)?;
    let (spent, began) = (process.seconds()?, Instant::now());
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < filled {
        let count = answer.read_some(&mut piece)?;
        // The beginning of each piece: this process sends all of it as well, and must keep the pace.
        check(&piece[..count.min(64)], at)?;
        at += count as u64;
    }
    let elapsed = began.elapsed();
    // A machine that is busy otherwise may not keep the rate; what a byte costs is what it would cost at that rate.
    let in_time = Duration::from_millis(filled * 1_000 / GIGABIT);
    let cores = (process.seconds()? - spent) / in_time.as_secs_f64();
    Ok(vec![Row {
        case: "filling from a line of 1 Gbit/s, for a client that reads along",
        figures: vec![
            Figure::cores("processor at that rate", cores, 0.25),
            Figure::time("whole film", elapsed, in_time * 11 / 10),
        ],
    }])
}
