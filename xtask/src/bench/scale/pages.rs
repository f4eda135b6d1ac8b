//! Whether what a player asks for is in the page cache: else its disk would be measured, not its server.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::io::{ReadWriteFlags, preadv2};

/// What the page cache is looked at for.
const PAGE: u64 = 4 << 10;

/// The segments of one film.
pub(super) struct Pages {
    segments: Vec<File>,
    segment_size: u64,
}

impl Pages {
    /// Those of the film that `fill` fills into the cache at `folder`.
    pub(super) fn of(
        folder: &Path,
        segment_size: u64,
        fill: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let before = files_below(folder)?;
        fill()?;
        let mut segments = Vec::new();
        for path in files_below(folder)?.difference(&before) {
            let name = path.file_stem().and_then(|name| name.to_str());
            let (index, _epoch) = name
                .and_then(|name| name.split_once('-'))
                .with_context(|| format!("{} is not named `segment-epoch`", path.display()))?;
            segments.push((index.parse::<u32>()?, File::open(path)?));
        }
        segments.sort_unstable_by_key(|(index, _)| *index);
        if segments
            .iter()
            .zip(0..)
            .any(|((index, _), at)| *index != at)
        {
            bail!("the segments of a film that was filled are not all there");
        }
        Ok(Self {
            segments: segments.into_iter().map(|(_, file)| file).collect(),
            segment_size,
        })
    }

    /// Whether all bytes of a range that lies in one segment are there.
    pub(super) fn has(&self, start: u64, length: u64) -> bool {
        let index = usize::try_from(start / self.segment_size).unwrap_or(usize::MAX);
        let offset = start % self.segment_size;
        let Some(file) = self.segments.get(index) else {
            return false;
        };
        (0..length.div_ceil(PAGE)).all(|page| {
            let mut byte = [0];
            let into = &mut [IoSliceMut::new(&mut byte)];
            preadv2(file, into, offset + page * PAGE, ReadWriteFlags::NOWAIT) == Ok(1)
        })
    }
}

fn files_below(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What is removed meanwhile is gone.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.insert(entry.path());
        }
    }
    Ok(files)
}
