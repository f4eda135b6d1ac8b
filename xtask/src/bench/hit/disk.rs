//! What the disk itself takes, under the same load: nobody who waits for it can be faster.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::Advice;

use super::SERVER_CORE;
use crate::bench::process::pin;
use crate::random::Random;

/// A reader has as many times at hand as a fast disk gives it in a turn.
const EXPECTED: usize = 1 << 14;

/// Reads pieces of `files` at random, so many at once, for so long; how long each took. Their pages must have been
/// dropped.
pub(super) fn read(
    files: &[PathBuf],
    at_once: usize,
    piece: u64,
    turn: Duration,
    seed: u64,
) -> Result<Vec<Duration>> {
    let files: Vec<(File, u64)> = files
        .iter()
        .map(|path| {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            // So that the kernel reads no more than is asked for.
            rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
            let pieces = file.metadata()?.len() / piece;
            Ok((file, pieces))
        })
        .collect::<Result<_>>()?;
    if files.is_empty() || files.iter().any(|(_, pieces)| *pieces == 0) {
        bail!("there is nothing to read");
    }
    let is_over = AtomicBool::new(false);
    let one = |number: usize| -> Result<Vec<Duration>> {
        // Where the servers would be.
        pin(SERVER_CORE)?;
        let mut random = Random::new(seed * 1_000 + number as u64);
        let mut bytes = vec![0; usize::try_from(piece)?];
        let mut times = Vec::with_capacity(EXPECTED);
        loop {
            let (file, pieces) = &files[usize::try_from(random.below(files.len() as u64))?];
            let at = random.below(*pieces) * piece;
            let began = Instant::now();
            file.read_exact_at(&mut bytes, at)?;
            times.push(began.elapsed());
            if is_over.load(Ordering::Relaxed) {
                return Ok(times);
            }
        }
    };
    std::thread::scope(|scope| {
        let one = &one;
        let readers: Vec<_> = (0..at_once)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        // why: what happens in this time is what is measured.
        std::thread::sleep(turn);
        is_over.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for reader in readers {
            match reader.join() {
                Ok(read) => times.extend(read?),
                Err(_) => bail!("a reader has failed"),
            }
        }
        Ok(times)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_read_is_timed_and_nothing_is_nothing_to_read() {
        let path = std::env::temp_dir().join(format!("xtask-disk-{}", std::process::id()));
        std::fs::write(&path, [7; 10_000]).expect("a file");
        let moment = Duration::from_millis(1);
        let read = |files: &[PathBuf], piece| read(files, 2, piece, moment, 0);
        let times = read(std::slice::from_ref(&path), 4_096);
        let too_short = read(std::slice::from_ref(&path), 10_001);
        std::fs::remove_file(&path).expect("the file");
        assert!(!times.expect("times").is_empty());
        assert!(too_short.is_err());
        assert!(read(&[], 4_096).is_err());
    }
}
