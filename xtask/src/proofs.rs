//! `cargo xtask proofs`: which test proves which requirement, and which have none.
//!
//! A test that proves requirement 13 is called `r13_…`, one for trap 7 `trap07_…`; a name may carry several ids.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::{run, tidy};

/// The owner's requirements R1 to R29.
const REQUIREMENTS: u32 = 29;
/// The traps that an earlier implementation fell into.
const TRAPS: u32 = 17;

/// What a test can prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Requirement(u32),
    Trap(u32),
}

/// Prints the tests of each id; fails when an id has none.
pub(crate) fn check() -> Result<()> {
    let mut proofs: BTreeMap<Id, Vec<String>> = all().map(|id| (id, Vec::new())).collect();
    let root = run::root();
    let mut files = tidy::text_files(&root.join("crates"))?;
    files.extend(tidy::text_files(&root.join("xtask"))?);
    for path in files {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for name in text.lines().filter_map(function) {
            for id in ids(name) {
                if let Some(tests) = proofs.get_mut(&id) {
                    tests.push(name.to_owned());
                }
            }
        }
    }
    let mut without = Vec::new();
    for (id, tests) in &proofs {
        println!("{:>7}  {}", id.name(), tests.join(", "));
        if tests.is_empty() {
            without.push(id.name());
        }
    }
    if !without.is_empty() {
        bail!("no test proves {}", without.join(", "));
    }
    println!("proofs: every requirement and every trap has its test");
    Ok(())
}

impl Id {
    fn name(self) -> String {
        match self {
            Self::Requirement(number) => format!("R{number}"),
            Self::Trap(number) => format!("trap {number}"),
        }
    }
}

fn all() -> impl Iterator<Item = Id> {
    let requirements = (1..=REQUIREMENTS).map(Id::Requirement);
    requirements.chain((1..=TRAPS).map(Id::Trap))
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let end = |c: char| !c.is_alphanumeric() && c != '_';
    line.strip_prefix("fn ")?.split(end).next()
}

/// The ids in the name of a test.
fn ids(name: &str) -> impl Iterator<Item = Id> {
    name.split('_').filter_map(|word| {
        let number = |digits: &str| {
            let is_number =
                matches!(digits.len(), 1 | 2) && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        if let Some(digits) = word.strip_prefix("trap") {
            number(digits).map(Id::Trap)
        } else {
            number(word.strip_prefix('r')?).map(Id::Requirement)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Id, function, ids};

    #[test]
    fn ids_are_words_of_a_name() {
        let found: Vec<Id> = ids("r13_trap07_one_missing_byte_is_false").collect();
        assert_eq!(found, [Id::Requirement(13), Id::Trap(7)]);
        assert_eq!(ids("range_r2d2_rank_trapdoor_r123").count(), 0);
    }

    #[test]
    fn names_come_from_functions() {
        assert_eq!(function("    async fn r01_once() {"), Some("r01_once"));
        assert_eq!(function("pub async fn r01_once<S>("), Some("r01_once"));
        assert_eq!(function("// fn r01_once()"), None);
    }
}
