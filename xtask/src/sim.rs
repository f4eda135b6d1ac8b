//! `cargo xtask sim [--seeds N]`: the scheduler on random workloads, against the least waiting that is possible.
//!
//! First an hour of playback with seeks, which has to take less than a second and to replay. The test that plays the
//! workloads asserts its bars on the few that a test run has time for; here it plays many, in a release build, and
//! shows how they went.

use anyhow::{Context, Result, bail};

use crate::run::{cargo, run};

const USAGE: &str = "usage: cargo xtask sim [--seeds N]";

/// How many workloads of each kind are played where nobody says otherwise.
const SEEDS: u64 = 1_000;

/// Fails where a bar or the hour's time is missed.
pub(crate) fn main(args: &[&str]) -> Result<()> {
    let seeds = match args {
        [] => SEEDS,
        ["--seeds", number] => number.parse().context(USAGE)?,
        _ => bail!("{USAGE}"),
    };
    let hour = ["run", "--quiet", "--release", "--package", "chunk-testkit"];
    run(cargo(hour).args(["--example", "hour"]))?;
    let test = ["test", "--release", "--package", "chunk-testkit"];
    // One at a time, so that their reports do not mix.
    let options = ["--", "--nocapture", "--test-threads", "1"];
    run(cargo(test)
        .args(["--test", "optimum"])
        .args(options)
        .env("CHUNKD_SIM_SEEDS", seeds.to_string()))
}
