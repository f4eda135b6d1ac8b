//! `cargo xtask bench playback`: chunkd and the caches of others between players and a line of known limits.
//!
//! Everybody gets the same line, the same origin and the same clients, in one run, with an empty cache each time. The
//! limit is what delay and rate allow; no cache can be below it.

mod bucket;
mod content;
mod link;
mod peers;
mod physics;
mod player;
mod request;
mod subject;
mod table;
mod workload;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, bail};

use self::subject::{Kind, Subject};
use self::table::{Column, Verdicts};
use self::workload::{Case, Others, Runs, Stage};
use super::cold::joined;
use super::options::{self, load_average, named};
use super::record;
use crate::child::empty_folder;
use crate::chunkd;

const USAGE: &str = "usage: cargo xtask bench playback [--only NAME] [--peers NAME,NAME | none] [--runs N] \
[--debug | --chunkd PROGRAM] [--no-record]
  --only       the workloads whose name begins so; docs/benchmarks.md stays as it is
  --peers      of direct, nginx, varnish, rclone: those to measure as well; all that are installed unless told
  --runs       how often each workload runs, 3 unless told";

struct Options<'a> {
    only: &'a str,
    peers: Vec<Kind>,
    runs: u64,
    common: options::Options,
}

/// Runs the table; the exit code is 1 when a target is missed.
pub(super) fn main(args: &[&str]) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    let program = options.common.program()?;
    let mut subjects = vec![Subject::chunkd(&program)];
    for kind in &options.peers {
        match Subject::find(*kind) {
            Some(subject) => subjects.push(subject),
            None => println!("{} is not installed and is left out", kind.name()),
        }
    }
    // Of this run alone: somebody may be measuring something else.
    let folder = format!("bench-playback-{}", std::process::id());
    let folder = chunkd::target_folder()?.join(folder);
    empty_folder(&folder)?;

    // The direct client is what the second line is compared with, so it has a column in any case.
    let mut names: Vec<&str> = subjects.iter().map(|subject| subject.kind.name()).collect();
    if !names.contains(&Kind::Direct.name()) {
        names.push(Kind::Direct.name());
    }
    let load_before = load_average();
    let mut text = table::heading(&names);
    print!("{text}");
    let mut verdicts = Verdicts::default();
    for case in workload::all() {
        if !case.workload.name.starts_with(options.only) {
            continue;
        }
        let columns = measure(&case, &subjects, options.runs, &folder)?;
        let (lines, judged) = table::lines(&case.workload, &columns, &names);
        print!("{lines}");
        text.push_str(&lines);
        verdicts.met += judged.met;
        verdicts.missed += judged.missed;
    }
    std::fs::remove_dir_all(&folder)?;
    if options.common.is_recorded {
        let others: Vec<String> = subjects[1..].iter().map(Subject::version).collect();
        let text = format!(
            "{}\nMedians over {} runs; load average {load_before} before, {} after. Beside it: {}.\n{}\n\n{text}",
            options.common.circumstances("playback", &program)?,
            options.runs,
            load_average(),
            others.join("; "),
            peers::CONFIGURATIONS
        );
        record::put("playback", &text)?;
    }
    let all = verdicts.met + verdicts.missed;
    println!("bench playback: {} of {all} targets met", verdicts.met);
    Ok(if verdicts.missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl<'a> Options<'a> {
    fn parse(args: &[&'a str]) -> Result<Self> {
        let mut options = Options {
            only: "",
            peers: Kind::OTHERS.into(),
            runs: 3,
            common: options::Options::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if options.common.take(arg, &mut args)? {
                continue;
            }
            let mut value = || args.next().copied().with_context(usage);
            match *arg {
                "--only" => {
                    options.only = value()?;
                    options.common.is_recorded = false;
                }
                "--peers" => options.peers = named(value()?, Kind::by_name).with_context(usage)?,
                "--runs" => options.runs = value()?.parse().context("--runs takes a number")?,
                _ => bail!(usage()),
            }
        }
        if options.runs == 0 {
            bail!("--runs takes at least 1");
        }
        if workload::all()
            .iter()
            .all(|case| !case.workload.name.starts_with(options.only))
        {
            bail!(
                "no workload is called `{}`; there are: {}",
                options.only,
                all_names()
            );
        }
        Ok(options)
    }
}

fn all_names() -> String {
    let names: Vec<String> = workload::all()
        .into_iter()
        .map(|case| case.workload.name)
        .collect();
    names.join(", ")
}

fn usage() -> String {
    format!("{USAGE}\n{}", options::USAGE)
}

/// Runs one workload with everybody who takes part; chunkd comes first.
fn measure(case: &Case, subjects: &[Subject], runs: u64, folder: &Path) -> Result<Vec<Column>> {
    let mut subjects: Vec<Subject> = match case.others {
        Others::None | Others::Direct => subjects[..1].to_vec(),
        Others::Asked => subjects.to_vec(),
    };
    if case.others == Others::Direct {
        subjects.extend(Subject::find(Kind::Direct));
    }
    let at_once = match case.runs {
        Runs::OneByOne => 1,
        Runs::AtOnce => subjects.len() * usize::try_from(runs)?,
    };
    let ready = Barrier::new(at_once);
    let column = |subject: &Subject| {
        let name = subject.kind.name();
        let folder = folder.join(&case.workload.name).join(name);
        let samples = all_runs(case, subject, runs, &folder, &ready);
        let samples = samples.map_err(|error| format!("{error:#}"));
        if let Err(error) = &samples {
            println!("{name} fails at `{}`: {error}", case.workload.name);
        }
        Column { name, samples }
    };
    match case.runs {
        Runs::OneByOne => Ok(subjects.iter().map(column).collect()),
        Runs::AtOnce => thread::scope(|scope| {
            let running: Vec<_> = subjects
                .iter()
                .map(|subject| scope.spawn(|| column(subject)))
                .collect();
            running
                .into_iter()
                .map(|running| joined(running.join()))
                .collect()
        }),
    }
}

/// The samples of all runs, figure by figure.
fn all_runs(
    case: &Case,
    subject: &Subject,
    runs: u64,
    folder: &Path,
    ready: &Barrier,
) -> Result<Vec<Vec<f64>>> {
    let one = |number: u64| {
        let stage = Stage {
            subject,
            folder: folder.join(number.to_string()),
            number,
            line: case.line,
            chunk_size: case.chunk_size,
            ready,
        };
        let samples = (case.run)(&stage)?;
        // Whole films lie there, once per run.
        if stage.folder.exists() {
            empty_folder(&stage.folder)?;
        }
        Ok(samples)
    };
    let results: Vec<Result<Vec<Vec<f64>>>> = match case.runs {
        Runs::OneByOne => (0..runs).map(one).collect(),
        Runs::AtOnce => thread::scope(|scope| {
            let running: Vec<_> = (0..runs)
                .map(|number| scope.spawn(move || one(number)))
                .collect();
            running
                .into_iter()
                .map(|running| joined(running.join())?)
                .collect()
        }),
    };
    let mut all: Vec<Vec<f64>> = Vec::new();
    for result in results {
        for (number, samples) in result?.into_iter().enumerate() {
            match all.get_mut(number) {
                Some(known) => known.extend(samples),
                None => all.push(samples),
            }
        }
    }
    Ok(all)
}
