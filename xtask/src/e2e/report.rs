//! One line for each check.

use anyhow::Result;

/// Counts what went well and what did not.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// Runs one check and prints its line; a check returns its figures.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<String>) {
        match check() {
            Ok(figures) => {
                self.passed += 1;
                println!("ok {name}: {figures}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }

    /// Says how it went; `true` when nothing failed.
    pub(crate) fn close(self) -> bool {
        println!("e2e: {} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}
