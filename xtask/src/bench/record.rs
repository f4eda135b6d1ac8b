//! Writes a table into `docs/benchmarks.md`, between its markers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::measure::{Figure, Row};
use super::options::Options;
use crate::run::{output, root};

/// Replaces what stands between `<!-- bench NAME -->` and `<!-- /bench NAME -->`.
pub(super) fn write(name: &str, options: &Options, rows: &[Row], program: &Path) -> Result<()> {
    let circumstances = options.circumstances(name, program)?;
    put(name, &table(&circumstances, rows))
}

/// Replaces what stands between the markers of `name` with a text that is there already.
pub(super) fn put(name: &str, text: &str) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let document = fs::read_to_string(&path).context("docs/benchmarks.md")?;
    let document = replace(&document, name, text)
        .with_context(|| format!("docs/benchmarks.md has no markers for `{name}`"))?;
    fs::write(path, document)?;
    println!("written to docs/benchmarks.md");
    Ok(())
}

fn table(circumstances: &str, rows: &[Row]) -> String {
    let mut text = format!("{circumstances}\n\n");
    text.push_str("| case | target | measured | |\n|---|---|---|---|\n");
    let join = |row: &Row, show: fn(&Figure) -> String| {
        row.figures.iter().map(show).collect::<Vec<_>>().join("; ")
    };
    for row in rows {
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            row.case,
            join(row, Figure::target),
            join(row, Figure::measured),
            if row.is_met() { "met" } else { "missed" }
        ));
    }
    text
}

/// By which command, when, with which versions and on what machine a table was measured.
pub(super) fn circumstances(name: &str, build: &str, program: &Path) -> Result<String> {
    Ok(format!(
        "`cargo xtask bench {name}`, {}; {}, {build}; {}; Linux {}, {} cores.",
        today()?,
        first_line(&mut Command::new(program))?,
        first_line(&mut Command::new("rustc"))?,
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim(),
        cores()?,
    ))
}

/// How many the machine has, not how many this process is pinned to.
fn cores() -> Result<usize> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let is_one = |line: &&str| line.starts_with("processor");
    Ok(processors.lines().filter(is_one).count())
}

fn replace(document: &str, name: &str, table: &str) -> Option<String> {
    let (open, close) = (
        format!("<!-- bench {name} -->"),
        format!("<!-- /bench {name} -->"),
    );
    let begin = document.find(&open)? + open.len();
    let end = begin + document[begin..].find(&close)?;
    Some(format!(
        "{}\n{table}{}",
        &document[..begin],
        &document[end..]
    ))
}

fn first_line(program: &mut Command) -> Result<String> {
    let text = output(program.arg("--version"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn today() -> Result<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    Ok(format!("{year}-{month:02}-{day:02}"))
}

/// The Gregorian date of a day counted from 1970-01-01 on.
///
/// Years begin in March here, so that the leap day comes last; an era is the 400 years after which dates repeat.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{civil, replace};

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_453), (2025, 12, 31));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }

    #[test]
    fn only_the_named_table_is_replaced() {
        let document = "a\n<!-- bench cold -->\nold\n<!-- /bench cold -->\nb\n";
        assert_eq!(
            replace(document, "cold", "new\n").as_deref(),
            Some("a\n<!-- bench cold -->\nnew\n<!-- /bench cold -->\nb\n")
        );
        assert_eq!(replace(document, "seek", "new\n"), None);
    }
}
