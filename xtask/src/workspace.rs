//! What cargo says about the workspace.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{cargo, output};

/// A member with what the chores need to know of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) features: Vec<String>,
    /// The root source file of the library, or of the program where there is no library.
    pub(crate) front_page: PathBuf,
    pub(crate) is_library: bool,
}

/// `cargo metadata` without the dependencies' own, which needs no network and no lock file.
pub(crate) fn metadata() -> Result<Value> {
    let json = output(&mut cargo([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--offline",
    ]))?;
    serde_json::from_slice(&json).context("cargo metadata is not JSON")
}

/// Every member of the workspace.
pub(crate) fn members() -> Result<Vec<Member>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    packages.iter().map(member).collect()
}

fn member(package: &Value) -> Result<Member> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let name = text(&package["name"]).context("a package without a name")?;
    let manifest = text(&package["manifest_path"]).context("a package without a manifest")?;
    let features = package["features"]
        .as_object()
        .map(|features| features.keys().cloned().collect())
        .unwrap_or_default();
    let targets = package["targets"].as_array().context("no targets")?;
    let of_kind = |kind: &str| {
        targets
            .iter()
            .find(|target| target["kind"][0] == kind)
            .and_then(|target| text(&target["src_path"]))
    };
    let library = of_kind("lib");
    let is_library = library.is_some();
    let front_page = library
        .or_else(|| of_kind("bin"))
        .with_context(|| format!("{name} has neither a library nor a program"))?;
    let mut folder = PathBuf::from(manifest);
    folder.pop();
    Ok(Member {
        name,
        folder,
        features,
        front_page: front_page.into(),
        is_library,
    })
}
