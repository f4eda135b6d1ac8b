//! `cargo xtask arch`: holds the workspace against its architecture document.

use anyhow::{Context, Error, Result, bail};

use crate::arch::{Rules, packages};
use crate::{run, workspace};

/// Fails with one line for each arrow that `docs/ARCHITECTURE.md` does not allow.
pub(crate) fn check() -> Result<()> {
    let path = run::root().join("docs/ARCHITECTURE.md");
    let document = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let rules = Rules::parse(&document).map_err(Error::msg)?;
    let members = packages(&workspace::metadata()?).map_err(Error::msg)?;
    let violations = rules.violations(&members);
    if !violations.is_empty() {
        bail!(
            "the architecture is violated:\n  {}",
            violations.join("\n  ")
        );
    }
    println!("arch: {} crates keep to their arrows", members.len());
    Ok(())
}
