//! Property tests with seeds that nobody has tried yet.
//!
//! `cargo test` draws its cases from one seed, so that the same tree gives the same answer everywhere
//! (`.cargo/config.toml`). What has not been looked at is looked at here, for as long as one likes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, run};

const USAGE: &str = "usage: cargo xtask explore COUNT|FROM..TO [arguments of `cargo test`]";

/// Runs `cargo test` once with each seed; stops at the first that fails and names it.
pub(crate) fn main(args: &[&str]) -> Result<()> {
    let [seeds, rest @ ..] = args else {
        bail!("{USAGE}");
    };
    for seed in parse(seeds)? {
        println!("==> seed {seed}");
        run(cargo(["test"])
            .args(rest)
            .env("PROPTEST_RNG_SEED", seed.to_string()))
        .with_context(|| format!("with PROPTEST_RNG_SEED={seed}"))?;
    }
    Ok(())
}

/// So many from the time of day on, or just those that are named.
fn parse(seeds: &str) -> Result<std::ops::Range<u64>> {
    let number = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("`{text}` is not a number. {USAGE}"))
    };
    if let Some((from, to)) = seeds.split_once("..") {
        return Ok(number(from)?..number(to)?);
    }
    let from = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    Ok(from..from.saturating_add(number(seeds)?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn seeds_are_named_or_counted() {
        assert_eq!(parse("3..7").unwrap(), 3..7);
        let fresh = parse("5").unwrap();
        assert_eq!(fresh.end - fresh.start, 5);
        assert!(parse("x").unwrap_err().to_string().contains("`x`"));
        assert!(parse("1..x").unwrap_err().to_string().contains("`x`"));
    }
}
