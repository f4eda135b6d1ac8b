//! Everything a change has to pass, in the order in which it fails fastest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::run::{cargo, run};
use crate::{isolate, structure, tidy};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 7] = [
    ("fmt", || run(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", tidy::check),
    ("arch", structure::check),
    ("clippy", clippy),
    ("test", || run(&mut cargo(["test", "--workspace"]))),
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
