//! `cargo xtask isolate`: every crate builds alone, with any one of its features, and packages with all it needs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, run};
use crate::workspace::{Member, members};

/// Checks each crate on its own, so that none lives on features that a neighbour switches on.
pub(crate) fn check() -> Result<()> {
    let members = members()?;
    for member in &members {
        builds_alone(member)?;
        packages_whole(member)?;
        println!("isolate: {} stands alone", member.name);
    }
    let core = members
        .iter()
        .find(|member| member.name == "chunk-core")
        .context("the workspace has no chunk-core")?;
    let offences = standard_library_in(&core.folder.join("src"), &core.front_page)?;
    if !offences.is_empty() {
        bail!(
            "chunk-core must live without std:\n  {}",
            offences.join("\n  ")
        );
    }
    println!("isolate: chunk-core does without the standard library");
    Ok(())
}

fn builds_alone(member: &Member) -> Result<()> {
    let base = ["check", "--quiet", "--package", &member.name];
    run(cargo(base).arg("--no-default-features"))?;
    run(&mut cargo(base))?;
    // Its tests too: `cargo test --package X` must not need what a neighbour's tests switch on.
    run(cargo(base).arg("--all-targets"))?;
    for feature in member.features.iter().filter(|name| *name != "default") {
        run(cargo(base).args(["--no-default-features", "--features", feature]))?;
    }
    Ok(())
}

/// A symlinked folder is followed when a crate is packaged; this makes sure that nothing in it is left out.
fn packages_whole(member: &Member) -> Result<()> {
    let list = output(&mut cargo([
        "package",
        "--list",
        "--allow-dirty",
        "--offline",
        "--package",
        &member.name,
    ]))?;
    let list = String::from_utf8(list).context("a packaged file has a name that is not UTF-8")?;
    let packaged: Vec<&str> = list.lines().collect();
    for expected in linked_files(&member.folder)? {
        if !packaged.contains(&expected.as_str()) {
            bail!("{} would be packaged without {expected}", member.name);
        }
    }
    Ok(())
}

/// The files in symlinked folders directly below a crate, relative to the crate.
fn linked_files(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() || !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name();
        let before = files.len();
        for file in fs::read_dir(entry.path())? {
            let file = file?.file_name();
            files.push(format!("{}/{}", name.display(), file.display()));
        }
        if files.len() == before {
            bail!("the linked folder {} is empty", entry.path().display());
        }
    }
    Ok(files)
}

/// Lines of a `no_std` crate that reach for the standard library outside of its tests.
fn standard_library_in(folder: &Path, front_page: &Path) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    if !fs::read_to_string(front_page)?.contains("#![no_std]") {
        offences.push(format!("{} lacks #![no_std]", front_page.display()));
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                offences.extend(
                    uses_of_std(&text)
                        .into_iter()
                        .map(|number| format!("{}:{number} uses std", path.display())),
                );
            }
        }
    }
    Ok(offences)
}

/// Line numbers that name `std` outside of comments and before the tests, which may use it.
fn uses_of_std(text: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .filter(|(_, line)| {
            let code = line.trim_start();
            !code.starts_with("//") && (code.contains("std::") || code.contains("extern crate std"))
        })
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::uses_of_std;

    #[test]
    fn std_is_seen_outside_of_comments_and_tests() {
        let text = "// std::fs\nuse std::fs;\nuse core::fmt;\nextern crate std;\n#[cfg(test)]\nuse std::vec;\n";
        assert_eq!(uses_of_std(text), [2, 4]);
    }
}
