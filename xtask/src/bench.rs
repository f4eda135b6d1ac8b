//! `cargo xtask bench cold | seek | playback | hit`: chunkd, measured against its targets.
//!
//! The origin runs inside this process, in user space, with an exact delay and rate and a count of what it sent; it
//! needs no privileges and no settings of the system.

mod cold;
mod hit;
mod measure;
mod origin;
mod pace;
mod playback;
mod record;
mod seek;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use self::measure::Row;
use crate::child::empty_folder;
use crate::chunkd::{self, Chunkd, Profile};

const USAGE: &str =
    "usage: cargo xtask bench cold | seek | playback | hit [--debug | --chunkd PROGRAM] [--no-record]
  --debug      a debug build of chunkd instead of a release build
  --chunkd     a program that is there already
  --no-record  leaves docs/benchmarks.md as it is";

/// Runs one table; the exit code is 1 when a target is missed.
pub(crate) fn main(args: &[&str]) -> Result<ExitCode> {
    let (name, rest) = args.split_first().context(USAGE)?;
    let table: fn(&Chunkd) -> Result<Vec<Row>> = match *name {
        "playback" => return playback::main(rest),
        "hit" => return hit::main(rest),
        "cold" => cold::measure,
        "seek" => seek::measure,
        _ => bail!("{USAGE}"),
    };
    let mut program: Option<PathBuf> = None;
    let mut profile = Profile::Release;
    let mut recorded = true;
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--debug" => profile = Profile::Debug,
            "--chunkd" => program = Some(std::path::absolute(rest.next().context(USAGE)?)?),
            "--no-record" => recorded = false,
            _ => bail!("{USAGE}"),
        }
    }
    let build = match (&program, profile) {
        (Some(_), _) => "a given program",
        (None, Profile::Debug) => "debug build",
        (None, Profile::Release) => "release build",
    };
    let program = match program {
        Some(program) => program,
        None => chunkd::build(profile)?,
    };
    let work = chunkd::target_folder()?.join("bench");
    empty_folder(&work)?;
    let chunkd = Chunkd::new(&program, &work);
    let rows = table(&chunkd)?;
    for row in &rows {
        println!("{row}");
    }
    if recorded {
        record::write(name, build, &rows, &chunkd)?;
    }
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    println!(
        "bench {name}: {} of {} targets met",
        rows.len() - missed,
        rows.len()
    );
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
