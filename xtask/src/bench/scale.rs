//! `cargo xtask bench scale`: what grows with files, chunks and readers, and with time.
//!
//! Memory, descriptors and processor time are what the kernel says of the process (`/proc`).

mod client;
mod evict;
mod fill;
mod pages;
mod readers;
mod size;
mod soak;
mod start;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::size::Size;
use super::measure::Row;
use super::options::{self, Options};
use super::record;
use crate::child::empty_folder;
use crate::chunkd::{self, Chunkd};

const USAGE: &str =
    "usage: cargo xtask bench scale [--only TEXT] [--soak DURATION] [--debug | --chunkd PROGRAM] \
[--no-record] [--rehearse]
  --only       the parts whose name contains this, of: start, readers, busy, fill, evict, soak;
               docs/benchmarks.md stays as it is
  --soak       how long the last part works, 60s unless told; in seconds or minutes (10m)
  --rehearse   all parts with next to nothing, in seconds, to see that they work; their figures mean
               nothing and are not judged";

/// Everything that the parts may use.
struct Bench {
    chunkd: Chunkd,
    soak: Duration,
    size: Size,
}

type Part = fn(&Bench) -> Result<Vec<Row>>;

const PARTS: [(&str, Part); 6] = [
    ("start", start::measure),
    ("readers", readers::parked),
    ("busy", readers::busy),
    ("fill", fill::measure),
    ("evict", evict::measure),
    ("soak", soak::measure),
];

/// Runs the table; the exit code is 1 when a target is missed.
pub(super) fn main(args: &[&str]) -> Result<ExitCode> {
    let mut common = Options::new();
    let (mut only, mut soak, mut size) = ("", Duration::from_secs(60), Size::FULL);
    let mut args = args.iter();
    let usage = || format!("{USAGE}\n{}", options::USAGE);
    while let Some(arg) = args.next() {
        if common.take(arg, &mut args)? {
            continue;
        }
        let mut value = || args.next().copied().with_context(usage);
        match *arg {
            "--only" => {
                only = value()?;
                common.is_recorded = false;
            }
            "--rehearse" => {
                (soak, size) = (Size::REHEARSED_SOAK, Size::REHEARSED);
                common.is_recorded = false;
            }
            "--soak" => soak = duration(value()?).context("--soak takes 90s or 10m")?,
            _ => bail!(usage()),
        }
    }
    let program = common.program()?;
    // Of this run alone: somebody may be measuring something else.
    let folder = chunkd::target_folder()?.join(format!("bench-scale-{}", std::process::id()));
    empty_folder(&folder)?;
    let bench = Bench {
        chunkd: Chunkd::new(&program, &folder),
        soak,
        size,
    };
    let outcome = run(&bench, only);
    std::fs::remove_dir_all(&folder)?;
    let rows = outcome?;
    if common.is_recorded {
        record::write("scale", &common, &rows, &program)?;
    }
    Ok(if size.is_judged {
        super::verdict("scale", &rows)
    } else {
        ExitCode::SUCCESS
    })
}

fn run(bench: &Bench, only: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, part) in PARTS {
        if !name.contains(only) {
            continue;
        }
        let found = part(bench).with_context(|| format!("the part `{name}`"))?;
        for row in &found {
            if bench.size.is_judged {
                println!("{row}");
            } else {
                println!("rehearsed {}", row.case);
            }
        }
        rows.extend(found);
    }
    Ok(rows)
}

/// `90s`, `10m` or a number of seconds.
fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    Ok(Duration::from_secs(number.parse::<u64>()? * unit))
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("10m").expect("minutes").as_secs(), 600);
        assert_eq!(duration("90s").expect("seconds").as_secs(), 90);
        assert_eq!(duration("5").expect("a number").as_secs(), 5);
        assert!(duration("ten").is_err());
    }
}
