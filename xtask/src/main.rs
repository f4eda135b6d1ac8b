//! The repository's own chores. They need nothing but cargo, and the network only as far as the loopback.
//!
//! ```text
//! cargo xtask ci         the next four, with clippy, tests and documentation
//! cargo xtask arch       the crates' arrows, held against docs/ARCHITECTURE.md
//! cargo xtask tidy       the rules of style that no lint knows
//! cargo xtask isolate    every crate builds and packages alone
//! cargo xtask proofs     which test proves which requirement
//! cargo xtask sim        the scheduler on random workloads, against the least waiting that is possible
//! cargo xtask explore    property tests with seeds that nobody has tried yet
//! cargo xtask fuzz       made-up input for every parser that reads what others write
//! cargo xtask e2e        chunkd between nginx and real players
//! cargo xtask bench      cold | seek | playback | hit | scale: figures against their targets
//! ```
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "chores talk to the terminal"
)]

mod arch;
mod bench;
mod child;
mod chunkd;
mod ci;
mod e2e;
mod explore;
mod fuzz;
mod http;
mod isolate;
mod proofs;
mod random;
mod run;
mod sim;
mod structure;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str =
    "usage: cargo xtask arch | tidy | isolate | proofs | ci | sim | explore | fuzz | e2e | bench";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["arch"] => structure::check()?,
        ["tidy"] => tidy::check()?,
        ["proofs"] => proofs::check()?,
        ["isolate"] => isolate::check()?,
        ["ci"] => ci::check()?,
        ["sim", rest @ ..] => sim::main(rest)?,
        ["explore", rest @ ..] => explore::main(rest)?,
        ["fuzz", rest @ ..] => fuzz::main(rest)?,
        ["e2e", rest @ ..] => return e2e::main(rest),
        ["bench", rest @ ..] => return bench::main(rest),
        _ => bail!("{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}
