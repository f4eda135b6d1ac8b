//! `cargo xtask tidy`: the rules of style that no lint knows.

mod rules;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{run, workspace};

/// Folders that are not ours to judge.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// Files longer than the limit, each with the reason why it may be.
const LONG_FILES: [(&str, &str); 0] = [];

/// Fails with one line for each broken rule.
pub(crate) fn check() -> Result<()> {
    let root = run::root();
    let mut found = Vec::new();
    let files = text_files(root)?;
    for path in &files {
        let name = path.strip_prefix(root).unwrap_or(path);
        let name = name.to_string_lossy();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let may_be_long = LONG_FILES.iter().any(|(long, _)| *long == name);
        let broken = rules::broken(&name, &text);
        found.extend(
            broken
                .into_iter()
                .filter(|broken| !(may_be_long && broken.is_length()))
                .map(|broken| format!("{name}:{broken}")),
        );
    }
    for member in workspace::members()? {
        let text = fs::read_to_string(&member.front_page)?;
        if let Some(why) = rules::front_page(&text, member.is_library) {
            found.push(format!("{}: {why}", member.name));
        }
    }
    if !found.is_empty() {
        bail!(
            "{} rules of style are broken:\n  {}",
            found.len(),
            found.join("\n  ")
        );
    }
    println!("tidy: {} files are in order", files.len());
    Ok(())
}

/// Every text file below a folder that is ours to judge, in order.
pub(crate) fn text_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // A link shows a second time what is judged where it really lies.
            let kind = entry.file_type()?;
            let name = entry.file_name();
            let skipped = SKIPPED.iter().any(|skipped| name == *skipped);
            if kind.is_dir() && !skipped {
                folders.push(entry.path());
            } else if kind.is_file() && is_text(&entry.path()) {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_text(path: &Path) -> bool {
    let known = [
        "rs", "toml", "md", "sql", "sh", "yml", "yaml", "conf", "json",
    ];
    path.extension()
        .is_some_and(|extension| known.iter().any(|known| extension == *known))
        || path.ends_with(".ci/run")
}
