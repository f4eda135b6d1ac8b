//! What all tables can be told.

use std::path::{Path, PathBuf};
use std::slice::Iter;

use anyhow::{Context, Result};

use super::record;
use crate::chunkd::{self, Profile};

/// The usage of these options, for the end of a table's own.
pub(super) const USAGE: &str = "  --debug      a debug build of chunkd instead of a release build
  --chunkd     a program that is there already
  --no-record  leaves docs/benchmarks.md as it is";

/// Which program is measured, and whether the table goes into the document.
#[derive(Debug)]
pub(super) struct Options {
    program: Option<PathBuf>,
    profile: Profile,
    pub(super) is_recorded: bool,
}

impl Options {
    /// A release build, recorded.
    pub(super) const fn new() -> Self {
        Self {
            program: None,
            profile: Profile::Release,
            is_recorded: true,
        }
    }

    /// Takes one argument, and its value from those that follow; `false` where it is none of these options.
    pub(super) fn take(&mut self, argument: &str, rest: &mut Iter<'_, &str>) -> Result<bool> {
        match argument {
            "--debug" => self.profile = Profile::Debug,
            "--chunkd" => {
                let program = rest.next().context("--chunkd takes a program")?;
                self.program = Some(std::path::absolute(program)?);
            }
            "--no-record" => self.is_recorded = false,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The program to measure, built where none was given.
    pub(super) fn program(&self) -> Result<PathBuf> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => chunkd::build(self.profile),
        }
    }

    /// By which command, when, with which versions and on what machine a table was measured.
    pub(super) fn circumstances(&self, name: &str, program: &Path) -> Result<String> {
        let build = match (&self.program, self.profile) {
            (Some(_), _) => "a given program",
            (None, Profile::Debug) => "debug build",
            (None, Profile::Release) => "release build",
        };
        record::circumstances(name, build, program)
    }
}

/// The kinds that a list of names stands for, or none.
pub(super) fn named<K>(list: &str, by_name: impl Fn(&str) -> Option<K>) -> Result<Vec<K>> {
    if list == "none" {
        return Ok(Vec::new());
    }
    list.split(',')
        .map(|name| by_name(name).with_context(|| format!("no peer is called `{name}`")))
        .collect()
}

/// How busy the machine is, the measurement included: figures of a busy machine are worse than chunkd is.
pub(super) fn load_average() -> String {
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Options, named};

    #[test]
    fn an_option_takes_its_value_and_leaves_the_others() {
        let arguments = ["--chunkd", "/bin/true", "--rounds", "--no-record"];
        let mut options = Options::new();
        let mut rest = arguments.iter();
        let mut left = Vec::new();
        while let Some(argument) = rest.next() {
            if !options.take(argument, &mut rest).expect("a value") {
                left.push(*argument);
            }
        }
        assert_eq!(left, ["--rounds"]);
        assert!(!options.is_recorded);
        assert_eq!(
            options.program().expect("given").to_str(),
            Some("/bin/true")
        );
        assert!(options.take("--chunkd", &mut [].iter()).is_err());
    }

    #[test]
    fn a_list_of_names_is_known_or_refused() {
        let by_name = |name: &str| (name == "a").then_some(1);
        assert_eq!(named("a,a", by_name).expect("known"), [1, 1]);
        assert!(named("none", by_name).expect("known").is_empty());
        assert!(named("a,b", by_name).is_err());
    }
}
