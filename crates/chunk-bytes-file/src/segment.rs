//! One segment's open file.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chunk_ports::{ByteStoreError, SegmentKey};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::error::{cut, failed};
#[cfg(target_os = "linux")]
use crate::looks::{CELL, Looks};

/// The most bytes read without leaving the calling task. Out of the page cache 64 KiB take 5 µs here and
/// 20 µs by way of the blocking pool, 256 KiB 16 µs and 33 µs (medians on two cores); above that the way
/// matters less, and the copying would hold up the other tasks of its thread.
const INLINE_MOST: usize = 256 * 1024;

/// What is longer is left to the kernel, which reads on by itself then, and further than one would tell it to: told of
/// half a mebibyte at a time, ranges of 8 MiB out of no page cache took twice the processor time.
#[cfg(target_os = "linux")]
const SMALL: u64 = 2 * CELL;

/// A segment's open file. Whoever holds it goes on reading the same bytes after the file was unlinked.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) key: SegmentKey,
    file: File,
    /// Up to where this process has written, since the file was opened or found to be shorter by a read.
    written_end: AtomicU64,
    /// Whether a write has ended since the last flush began.
    unflushed: AtomicBool,
    /// Whether the file's name was made durable since it was opened.
    named: AtomicBool,
    /// Whether the file system said that it cannot read without waiting, so that it is not asked again.
    always_waits: AtomicBool,
    #[cfg(target_os = "linux")]
    looks: Looks,
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
    pub(crate) fn new(key: SegmentKey, file: File) -> Self {
        Self {
            key,
            file,
            written_end: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            named: AtomicBool::new(false),
            always_waits: AtomicBool::new(false),
            #[cfg(target_os = "linux")]
            looks: Looks::new(),
            flushing: Mutex::new(()),
        }
    }

    /// Writes all of `data` at `offset`.
    ///
    /// Not to a file that somebody has cut meanwhile: writing would make it long again, with zeros where bytes were,
    /// and who reads those would not be told.
    pub(crate) fn write(&self, offset: u64, data: &[Bytes]) -> Result<(), ByteStoreError> {
        let written_end = self.written_end.load(Ordering::Acquire);
        if self.file.metadata().map_err(failed)?.len() < written_end {
            return Err(cut());
        }
        self.write_anyhow(offset, data).map_err(failed)?;
        let len: usize = data.iter().map(Bytes::len).sum();
        let end = offset.saturating_add(len as u64);
        self.written_end.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    fn write_anyhow(&self, offset: u64, data: &[Bytes]) -> io::Result<()> {
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
        if len > INLINE_MOST || self.always_waits.load(Ordering::Relaxed) {
            return Cached::Beginning(Vec::new());
        }
        let cached = page_cache::read(&self.file, offset, len).unwrap_or_else(|_always_waits| {
            self.always_waits.store(true, Ordering::Relaxed);
            Cached::Beginning(Vec::new())
        });
        if matches!(cached, Cached::PastTheEnd) {
            self.tell_end();
        }
        cached
    }

    /// A read tells its caller that the file ends before what was asked for.
    fn tell_end(&self) {
        if let Ok(metadata) = self.file.metadata() {
            self.written_end.fetch_min(metadata.len(), Ordering::AcqRel);
        }
    }

    /// Whether the bytes from `start` to `end` are in the page cache, as far as a look at each [`CELL`]'s beginning
    /// and at the last of them tells, or told a moment ago.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_cached(&self, start: u64, end: u64) -> bool {
        let now = self.looks.now();
        let mut is_wanted = end.saturating_sub(start) > SMALL;
        let mut at = start;
        while at < end {
            let cell = at / CELL;
            let next = (cell + 1).saturating_mul(CELL);
            let last = next.min(end) - 1;
            if !self.looks.has(cell, now) {
                if !std::mem::replace(&mut is_wanted, true) {
                    self.want(at, end);
                }
                let is_end = last + 1 == end && last > at;
                if !self.is_resident(at) || is_end && !self.is_resident(last) {
                    return false;
                }
                if at.is_multiple_of(CELL) && next <= end {
                    self.looks.note(cell, now);
                }
            }
            at = next;
        }
        true
    }

    /// Tells the kernel to read what is missing of a small range, and waits for none of it.
    ///
    /// A look at a page that is missing has the kernel read that one, and whoever reads then has it read the others:
    /// two requests to the disk for one range.
    #[cfg(target_os = "linux")]
    fn want(&self, start: u64, end: u64) {
        let len = NonZeroU64::new(end.saturating_sub(start));
        if i64::try_from(start).is_ok() && len.is_some() {
            // What it does not read is read by whoever waits for it.
            let _ = rustix::fs::fadvise(&self.file, start, len, rustix::fs::Advice::WillNeed);
        }
    }

    /// Whether the page of the byte at `offset` is in the page cache, and the file reaches there.
    #[cfg(target_os = "linux")]
    fn is_resident(&self, offset: u64) -> bool {
        if i64::try_from(offset).is_err() {
            // To `preadv2` an offset of all ones is the current position.
            return false;
        }
        let read = rustix::io::preadv2(
            &self.file,
            &mut [io::IoSliceMut::new(&mut [0])],
            offset,
            rustix::io::ReadWriteFlags::NOWAIT,
        );
        read == Ok(1)
    }

    /// Puts up to `len` bytes at `offset` into a socket; none where the file ends.
    #[cfg(target_os = "linux")]
    pub(crate) fn send(
        &self,
        socket: std::os::fd::BorrowedFd<'_>,
        mut offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        Ok(rustix::fs::sendfile(
            socket,
            &self.file,
            Some(&mut offset),
            len,
        )?)
    }

    /// Reads until there are `len` bytes or the file ends. `have` holds those read before.
    pub(crate) fn read(&self, offset: u64, len: usize, mut have: Vec<u8>) -> io::Result<Vec<u8>> {
        let size = self.file.metadata()?.len();
        // Room for what is there and no more: the length asked for may be anything.
        let there = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = len.min(there);
        while have.len() < wanted {
            have.reserve_exact(wanted - have.len());
            let at = offset + have.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut have), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given more room than asked for.
        have.truncate(len);
        if have.len() < len {
            self.tell_end();
        }
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
    use std::os::unix::fs::FileExt;

    for piece in data {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// The file system cannot read without waiting.
struct AlwaysWaits;

#[cfg(target_os = "linux")]
mod page_cache {
    use std::fs::File;
    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags};

    use super::{AlwaysWaits, Cached};

    pub(super) fn read(file: &File, offset: u64, len: usize) -> Result<Cached, AlwaysWaits> {
        let mut buffer = vec![0; len];
        let read = rustix::io::preadv2(
            file,
            &mut [IoSliceMut::new(&mut buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Ok(0) => Ok(Cached::PastTheEnd),
            Ok(count) if count == len => Ok(Cached::All(buffer)),
            Ok(count) => {
                buffer.truncate(count);
                Ok(Cached::Beginning(buffer))
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(AlwaysWaits),
            // Not in the page cache; or an error that is real, which comes again where it can be told.
            Err(_) => Ok(Cached::Beginning(Vec::new())),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod page_cache {
    use std::fs::File;

    use super::{AlwaysWaits, Cached};

    pub(super) fn read(_file: &File, _offset: u64, _len: usize) -> Result<Cached, AlwaysWaits> {
        Err(AlwaysWaits)
    }
}
