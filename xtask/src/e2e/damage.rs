//! A byte that changes on the disk is found, and costs one block at the origin.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::commands::Commands;
use super::playback::whole_file;

/// What is checked, and therefore refetched, as one piece.
const BLOCK: u64 = 64 << 10;

/// Damages the one film that is cached, while nobody serves it, then lets `verify --repair` and a player find out.
pub(super) fn found_and_refetched(commands: &Commands<'_>) -> Result<String> {
    let chunkd = commands.chunkd;
    let before = chunkd.call(&["verify"])?;
    if !before.status.success() {
        bail!("the cache is damaged already");
    }
    flip_a_byte(&largest_file(&chunkd.cache)?)?;
    let damaged = chunkd.call(&["verify"])?;
    if damaged.status.success() {
        bail!("verify did not find the damage");
    }
    chunkd.call(&["verify", "--repair"])?;
    if !chunkd.call(&["verify"])?.status.success() {
        bail!("after --repair there is still damage");
    }
    let sent_before = commands.origin.sent()?;
    let serving = chunkd.serve(commands.origin.address)?;
    let film = commands.film;
    let path = format!("/{}", film.name);
    whole_file(commands.curl, serving.address, &path, film)?;
    let sent = commands.origin.sent_since(sent_before)?;
    if sent.bytes == 0 || sent.bytes > BLOCK {
        bail!(
            "{} bytes came again for one bad block of {BLOCK}",
            sent.bytes
        );
    }
    Ok(format!("found, repaired, {} bytes came again", sent.bytes))
}

/// Cached bytes are by far the largest files of a cache, whatever its layout.
fn largest_file(folder: &Path) -> Result<PathBuf> {
    let mut largest = None;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                largest = largest.max(Some((metadata.len(), entry.path())));
            }
        }
    }
    largest.map(|(_, path)| path).context("the cache is empty")
}

fn flip_a_byte(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&[byte[0] ^ 1], middle)?;
    Ok(())
}
