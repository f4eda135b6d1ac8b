//! One segment's open file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chunk_ports::SegmentKey;

/// The most bytes read without leaving the calling task. Copying 256 KiB takes some tens of
/// microseconds; more would hold up the other tasks of its thread.
const INLINE_MOST: usize = 256 * 1024;

/// A segment's open file. Whoever holds it goes on reading the same bytes after the file was unlinked.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) key: SegmentKey,
    file: File,
    /// Whether a write has ended since the last flush began.
    unflushed: AtomicBool,
    /// Whether the file's name was made durable since it was opened.
    named: AtomicBool,
    /// Held while flushing: the kernel tells of a lost page once per descriptor, so that of two flushes
    /// at the same time one would wrongly succeed.
    flushing: Mutex<()>,
}

/// What the page cache had.
pub(crate) enum Cached {
    /// All that was asked for.
    All(Vec<u8>),
    /// The file ends before the first byte asked for.
    PastTheEnd,
    /// This beginning, perhaps empty; the rest takes a disk, or the file ends.
    Beginning(Vec<u8>),
}

impl Segment {
    pub(crate) const fn new(key: SegmentKey, file: File) -> Self {
        Self {
            key,
            file,
            unflushed: AtomicBool::new(false),
            named: AtomicBool::new(false),
            flushing: Mutex::new(()),
        }
    }

    /// Writes all of `data` at `offset`.
    pub(crate) fn write(&self, offset: u64, data: &[Bytes]) -> io::Result<()> {
        let outcome = write_all_at(&self.file, offset, data);
        // After the bytes, failed or not: a flush that clears this earlier covers what it cleared it for.
        self.unflushed.store(true, Ordering::SeqCst);
        outcome
    }

    /// Reads what needs no disk, without waiting for anything.
    pub(crate) fn read_cached(&self, offset: u64, len: usize) -> Cached {
        if i64::try_from(offset).is_err() {
            // No file reaches there; and to `preadv2` an offset of all ones is the current position.
            return Cached::PastTheEnd;
        }
        if len > INLINE_MOST {
            return Cached::Beginning(Vec::new());
        }
        page_cache::read(&self.file, offset, len)
    }

    /// Reads until there are `len` bytes or the file ends. `have` holds those read before.
    pub(crate) fn read(&self, offset: u64, len: usize, mut have: Vec<u8>) -> io::Result<Vec<u8>> {
        let size = self.file.metadata()?.len();
        // Room for what is there and no more: the length asked for may be anything.
        let there = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut filled = have.len();
        have.resize(len.min(there).max(filled), 0);
        while filled < have.len() {
            match self
                .file
                .read_at(&mut have[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        have.truncate(filled);
        Ok(have)
    }

    /// Takes the turn to flush.
    pub(crate) fn flush_turn(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the bytes durable. The caller has the turn and treats an error as final.
    pub(crate) fn sync_bytes(&self, _turn: &MutexGuard<'_, ()>) -> io::Result<()> {
        self.unflushed.store(false, Ordering::SeqCst);
        self.file.sync_data()
    }

    pub(crate) fn has_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::SeqCst)
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::SeqCst)
    }

    pub(crate) fn set_named(&self) {
        self.named.store(true, Ordering::SeqCst);
    }
}

#[cfg(target_os = "linux")]
fn write_all_at(file: &File, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
    use std::io::IoSlice;

    use rustix::io::Errno;

    /// `IOV_MAX`: the most pieces one call takes.
    const PIECES: usize = 1024;

    let mut pieces: Vec<_> = data
        .iter()
        .filter(|piece| !piece.is_empty())
        .map(|piece| IoSlice::new(piece))
        .collect();
    let mut rest = pieces.as_mut_slice();
    while !rest.is_empty() {
        let now = rest.len().min(PIECES);
        match rustix::io::pwritev(file, &rest[..now], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut rest, count);
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn write_all_at(file: &File, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
    for piece in data {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
mod page_cache {
    use std::fs::File;
    use std::io::IoSliceMut;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::io::{Errno, ReadWriteFlags};

    use super::Cached;

    /// Whether some file system here said that it cannot read without waiting. The cache lies on one
    /// file system, so that asking again for every read would be a system call for nothing.
    static UNSUPPORTED: AtomicBool = AtomicBool::new(false);

    pub(super) fn read(file: &File, offset: u64, len: usize) -> Cached {
        if UNSUPPORTED.load(Ordering::Relaxed) {
            return Cached::Beginning(Vec::new());
        }
        let mut buffer = vec![0; len];
        let read = rustix::io::preadv2(
            file,
            &mut [IoSliceMut::new(&mut buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Ok(0) => Cached::PastTheEnd,
            Ok(count) if count == len => Cached::All(buffer),
            Ok(count) => {
                buffer.truncate(count);
                Cached::Beginning(buffer)
            }
            Err(error) => {
                if matches!(error, Errno::OPNOTSUPP | Errno::NOSYS) {
                    UNSUPPORTED.store(true, Ordering::Relaxed);
                }
                // An error that is real comes again where it can be told.
                Cached::Beginning(Vec::new())
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod page_cache {
    use std::fs::File;

    use super::Cached;

    pub(super) fn read(_file: &File, _offset: u64, _len: usize) -> Cached {
        Cached::Beginning(Vec::new())
    }
}
