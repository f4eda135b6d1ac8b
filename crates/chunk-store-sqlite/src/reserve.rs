//! Room on the disk that is kept for removals: without it a full disk could never be made emptier.
//!
//! Removing rows appends to SQLite's log. Where others have taken the last of the disk, the rows of what is
//! to be evicted could not be removed, hence neither its bytes. So a file lies beside the index that holds
//! nothing but room, and is cut when a removal finds none.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::open::{beside, open_private};

const SUFFIX: &str = ".reserve";

/// What is given up at a time. One removal takes some pages; others may take what it was given before it
/// does.
const PORTION: u64 = PORTION_LEN as u64;
const PORTION_LEN: usize = 128 * 1024;

/// The least that is kept, for removals one by one.
const LEAST: u64 = 8 * PORTION;

/// What the room is given up for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For {
    Removals,
    /// What a file that is new has to be known by before its bytes have others evicted. Only the upper half is
    /// for that: the lower one is for evicting them.
    NewFiles,
}

/// The room that is kept for an index; none for one in memory.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    index: Option<PathBuf>,
    held: u64,
    wanted: u64,
}

impl Reserve {
    /// Finds what an earlier run has left. Nothing is made yet, for the index itself comes first.
    pub(crate) fn find(index: Option<PathBuf>) -> Self {
        let found = index
            .as_ref()
            .map_or(0, |index| len(&beside(index, SUFFIX)));
        Self {
            index,
            held: found / PORTION * PORTION,
            wanted: 0,
        }
    }

    /// Takes what is lacking, as far as there is room.
    pub(crate) fn fill(&mut self) {
        let Some(index) = &self.index else {
            return;
        };
        // A transaction appends each page once at most: so much that everything can go in one.
        let pages = len(index).max(len(&beside(index, "-wal")));
        self.wanted = LEAST + pages.div_ceil(PORTION) * PORTION;
        if self.held < self.wanted {
            // Fails on a full disk; it is tried again with each write.
            let _ = self.try_fill();
        }
    }

    fn try_fill(&mut self) -> io::Result<()> {
        let Some(mut file) = self.file()? else {
            return Ok(());
        };
        // What a kill has left half written.
        file.set_len(self.held)?;
        let mut noise = Noise(self.held | 1);
        let mut portion = vec![0; PORTION_LEN];
        while self.held < self.wanted {
            noise.write(&mut portion);
            if let Err(error) = file.write_all(&portion) {
                file.set_len(self.held)?;
                return Err(error);
            }
            self.held += PORTION;
        }
        Ok(())
    }

    /// Gives a part of the room back to the disk; `false` where there is none to give for this.
    pub(crate) fn give(&mut self, purpose: For) -> bool {
        let kept = match purpose {
            For::Removals => 0,
            For::NewFiles => self.wanted / 2,
        };
        if self.held <= kept {
            return false;
        }
        let left = self.held - PORTION;
        match self.file() {
            Ok(Some(file)) if file.set_len(left).is_ok() => {
                self.held = left;
                true
            }
            _ => false,
        }
    }

    fn file(&self) -> io::Result<Option<File>> {
        self.index
            .as_deref()
            .map(|index| open_private(&beside(index, SUFFIX)))
            .transpose()
    }
}

fn len(path: &Path) -> u64 {
    path.symlink_metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map_or(0, |file| file.len())
}

/// Bytes that no file system can make smaller or leave out: they are to take up room.
struct Noise(u64);

impl Noise {
    fn write(&mut self, buffer: &mut [u8]) {
        let (words, _) = buffer.as_chunks_mut();
        for word in words {
            // Marsaglia's xorshift.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *word = self.0.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_found_so_by_the_next_run_and_taken_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let index = folder.path().join("index.db");
        let path = folder.path().join("index.db.reserve");
        let mut reserve = Reserve::find(Some(index.clone()));
        assert!(!reserve.give(For::Removals), "nothing is held yet");
        reserve.fill();
        assert_eq!(len(&path), LEAST);
        assert!(reserve.give(For::Removals));
        assert_eq!(len(&path), LEAST - PORTION);

        let mut next = Reserve::find(Some(index.clone()));
        assert!(next.give(For::Removals));
        assert_eq!(len(&path), LEAST - 2 * PORTION);
        // A kill in the middle of a portion.
        let file = open_private(&path).expect("a file");
        file.set_len(LEAST - PORTION / 2).expect("cut");
        let mut next = Reserve::find(Some(index.clone()));
        next.fill();
        assert_eq!(len(&path), LEAST);
        // It grows with the index.
        let file = open_private(&index).expect("a file");
        file.set_len(10 * PORTION + 1).expect("a length");
        next.fill();
        assert_eq!(len(&path), LEAST + 11 * PORTION);
    }

    #[test]
    fn new_files_leave_half_of_it_to_removals() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut reserve = Reserve::find(Some(folder.path().join("index.db")));
        reserve.fill();
        let mut given = [0, 0];
        while reserve.give(For::NewFiles) {
            given[0] += PORTION;
        }
        while reserve.give(For::Removals) {
            given[1] += PORTION;
        }
        assert_eq!(given, [LEAST / 2, LEAST / 2]);
    }

    #[test]
    fn noise_has_no_holes() {
        let mut portion = vec![0; PORTION_LEN];
        Noise(1).write(&mut portion);
        let blocks: std::collections::BTreeSet<_> = portion.chunks(4096).collect();
        assert_eq!(blocks.len(), PORTION_LEN / 4096, "a block came twice");
        assert!(
            blocks
                .iter()
                .all(|block| block.iter().any(|&byte| byte > 0))
        );
    }
}
