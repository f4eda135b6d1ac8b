//! `cargo xtask bench cold | seek | playback | hit | scale`: chunkd, measured against its targets.
//!
//! The origin runs inside this process, in user space, with an exact delay and rate and a count of what it sent; it
//! needs no privileges and no settings of the system.

mod cold;
mod hit;
mod measure;
mod options;
mod origin;
mod pace;
mod peers;
mod playback;
mod process;
mod record;
mod scale;
mod seek;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use self::measure::Row;
use self::options::Options;
use crate::child::empty_folder;
use crate::chunkd::{self, Chunkd};

const USAGE: &str = "usage: cargo xtask bench cold | seek | playback | hit | scale [--debug | --chunkd PROGRAM] [--no-record]";

/// Runs one table; the exit code is 1 when a target is missed.
pub(crate) fn main(args: &[&str]) -> Result<ExitCode> {
    let usage = || format!("{USAGE}\n{}", options::USAGE);
    let (name, rest) = args.split_first().with_context(usage)?;
    let table: fn(&Chunkd) -> Result<Vec<Row>> = match *name {
        "playback" => return playback::main(rest),
        "hit" => return hit::main(rest),
        "scale" => return scale::main(rest),
        "cold" => cold::measure,
        "seek" => seek::measure,
        _ => bail!(usage()),
    };
    let mut options = Options::new();
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        if !options.take(arg, &mut rest)? {
            bail!(usage());
        }
    }
    let program = options.program()?;
    let work = chunkd::target_folder()?.join("bench");
    empty_folder(&work)?;
    let chunkd = Chunkd::new(&program, &work);
    let rows = table(&chunkd)?;
    for row in &rows {
        println!("{row}");
    }
    if options.is_recorded {
        record::write(name, &options, &rows, &program)?;
    }
    Ok(verdict(name, &rows))
}

/// Says how many targets were met; the exit code is 1 when one is missed.
fn verdict(name: &str, rows: &[Row]) -> ExitCode {
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    println!(
        "bench {name}: {} of {} targets met",
        rows.len() - missed,
        rows.len()
    );
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
