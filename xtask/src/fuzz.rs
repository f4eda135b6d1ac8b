//! Made-up input for every parser that reads what others write.
//!
//! libFuzzer looks for input that leads where no other has led, with counters that a stable compiler puts in. What it
//! found worth keeping lies beside each crate's source, one input a line in hexadecimal, and `cargo test` tries it again
//! each time. The fuzzer is not part of the workspace: `fuzz/` has a lock file of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, root, run};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET …] [--seconds N] [--keep]";

/// What may be fuzzed, and where its inputs are kept.
const TARGETS: [(&str, &str); 10] = [
    ("range", "crates/chunk-proxy/corpus/range.txt"),
    ("head", "crates/chunk-proxy/corpus/head.txt"),
    ("target", "crates/chunk-proxy/corpus/target.txt"),
    ("conditions", "crates/chunk-proxy/corpus/conditions.txt"),
    (
        "content-range",
        "crates/chunk-fetch-http/corpus/content-range.txt",
    ),
    ("freshness", "crates/chunk-fetch-http/corpus/freshness.txt"),
    ("container", "crates/chunk-core/tests/corpus/container.txt"),
    ("block-map", "crates/chunk-core/tests/corpus/block-map.txt"),
    ("units", "crates/chunk-app/corpus/units.txt"),
    ("origin-url", "crates/chunk-app/corpus/origin-url.txt"),
];

/// Longer input leads nowhere that shorter input does not.
const LONGEST: usize = 512;

/// How long each is fuzzed unless told otherwise.
const SECONDS: u64 = 60;

/// Fuzzes what is named, or everything; with `--keep`, keeps the shortest inputs that lead everywhere.
pub(crate) fn main(args: &[&str]) -> Result<()> {
    let wanted = parse(args)?;
    let program = build()?;
    for (name, kept) in TARGETS {
        if wanted.names.is_empty() || wanted.names.iter().any(|wanted| wanted == name) {
            println!("==> {name}");
            fuzz(&program, name, &root().join(kept), &wanted)?;
        }
    }
    Ok(())
}

struct Wanted {
    names: Vec<String>,
    seconds: u64,
    keep: bool,
}

fn parse(args: &[&str]) -> Result<Wanted> {
    let mut wanted = Wanted {
        names: Vec::new(),
        seconds: SECONDS,
        keep: false,
    };
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        match arg {
            "--keep" => wanted.keep = true,
            "--seconds" => {
                let number = args.next().and_then(|number| number.parse().ok());
                wanted.seconds = number.context(USAGE)?;
            }
            name if TARGETS.iter().any(|(target, _)| *target == name) => {
                wanted.names.push(name.to_owned());
            }
            other => {
                let names = TARGETS.map(|(name, _)| name).join(" ");
                bail!("`{other}` is not known. {USAGE}; there are {names}");
            }
        }
    }
    Ok(wanted)
}

/// Builds the fuzzer with counters in everything but what runs at build time.
fn build() -> Result<PathBuf> {
    const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
        -Ccodegen-units=1";
    let version = String::from_utf8(output(std::process::Command::new("rustc").arg("-vV"))?)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it builds for")?;
    let folder = root().join("target/fuzz");
    // With a target named, build scripts and macros are built without the flags.
    run(cargo(["build", "--release", "--locked", "--target", host])
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS))?;
    Ok(folder.join(host).join("release/chunk-fuzz"))
}

fn fuzz(program: &Path, name: &str, kept: &Path, wanted: &Wanted) -> Result<()> {
    let folder = root().join("target/fuzz/corpus").join(name);
    let found = root().join("target/fuzz/found");
    for folder in [&folder, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let text =
        fs::read_to_string(kept).with_context(|| format!("cannot read {}", kept.display()))?;
    for (number, line) in text.lines().enumerate() {
        fs::write(folder.join(format!("kept-{number}")), from_hex(line)?)?;
    }
    let start = || {
        let mut command = std::process::Command::new(program);
        command.env("CHUNKD_FUZZ_TARGET", name).current_dir(&found);
        command
    };
    let most = format!("-max_len={LONGEST}");
    run(start()
        .args([
            &most,
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
        ])
        .arg(format!("-max_total_time={}", wanted.seconds))
        .arg(format!("-artifact_prefix={name}-"))
        .arg(&folder))
    .with_context(|| {
        format!(
            "what went wrong is in {}; once it is mended, add it to {} as `xxd -p -c 0` prints it",
            found.display(),
            kept.display()
        )
    })?;
    if wanted.keep {
        let least = root().join("target/fuzz/least").join(name);
        if least.exists() {
            fs::remove_dir_all(&least)?;
        }
        fs::create_dir_all(&least)?;
        run(start().arg("-merge=1").arg(&most).args([&least, &folder]))?;
        let mut lines = Vec::new();
        for input in fs::read_dir(&least)? {
            lines.push(to_hex(&fs::read(input?.path())?));
        }
        // What was kept for itself stays, whatever else leads there too.
        lines.extend(text.lines().map(str::to_owned));
        lines.sort_by(|a, b| a.len().cmp(&b.len()).then(a.cmp(b)));
        lines.dedup();
        fs::write(kept, lines.join("\n") + "\n")?;
        println!("{} inputs in {}", lines.len(), kept.display());
    }
    Ok(())
}

fn from_hex(line: &str) -> Result<Vec<u8>> {
    let digits = line.as_bytes().chunks(2).map(|pair| {
        let pair = str::from_utf8(pair)?;
        Ok(u8::from_str_radix(pair, 16)?)
    });
    digits
        .collect::<Result<_>>()
        .with_context(|| format!("`{line}` is not hexadecimal"))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let bytes = [0, 1, 0xab, 0xff];
        assert_eq!(from_hex(&to_hex(&bytes)).unwrap(), bytes);
        assert!(from_hex("0g").is_err());
    }

    #[test]
    fn targets_are_named_and_their_inputs_are_there() {
        let wanted = parse(&["head", "--seconds", "5", "--keep"]).unwrap();
        assert_eq!(
            (wanted.names, wanted.seconds, wanted.keep),
            (vec!["head".to_owned()], 5, true)
        );
        assert!(
            parse(&["heads"])
                .err()
                .unwrap()
                .to_string()
                .contains("origin-url")
        );
        for (name, kept) in TARGETS {
            let text = fs::read_to_string(root().join(kept)).unwrap();
            assert!(text.lines().all(|line| from_hex(line).is_ok()), "{name}");
        }
    }
}
