//! Everything a change has to pass, in the order in which it fails fastest.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::run::{cargo, root, run};
use crate::{bench, isolate, proofs, structure, tidy};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 9] = [
    ("fmt", || run(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", tidy::check),
    ("arch", structure::check),
    ("proofs", proofs::check),
    ("clippy", clippy),
    ("test", test),
    ("scale", rehearse_scale),
    ("doc", doc),
    ("isolate", isolate::check),
];

/// Runs every step, stops at the first that fails, and says how long each took.
pub(crate) fn check() -> Result<()> {
    let mut taken: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        println!("==> {name}");
        let started = Instant::now();
        let result = step();
        taken.push((name, started.elapsed()));
        if result.is_err() {
            report(&taken);
        }
        result.with_context(|| format!("the step `{name}` failed"))?;
    }
    report(&taken);
    println!("ci: all green");
    Ok(())
}

fn clippy() -> Result<()> {
    run(&mut cargo([
        "clippy",
        // The first step that resolves dependencies also says whether the lock file was forgotten.
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Runs the tests and prints which of them tried nothing, because something they need is not here.
fn test() -> Result<()> {
    let folder = root().join("target");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let skipped = folder.join("skipped.txt");
    fs::write(&skipped, "").with_context(|| format!("cannot write {}", skipped.display()))?;
    // All that fails is worth knowing at once.
    let result =
        run(cargo(["test", "--workspace", "--no-fail-fast"]).env("CHUNKD_SKIPPED", &skipped));
    let said = fs::read_to_string(&skipped).unwrap_or_default();
    for line in said.lines() {
        println!("skipped: {line}");
    }
    println!("ci: {} tests were skipped", said.lines().count());
    result
}

/// Nobody runs a benchmark of minutes with each change; this sees that it still would run.
fn rehearse_scale() -> Result<()> {
    bench::main(&["scale", "--rehearse", "--debug"]).map(drop)
}

fn doc() -> Result<()> {
    run(cargo(["doc", "--workspace", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

fn report(taken: &[(&str, Duration)]) {
    println!("==> seconds per step");
    for (name, time) in taken {
        println!("{name:>8} {:7.1}", time.as_secs_f64());
    }
}
