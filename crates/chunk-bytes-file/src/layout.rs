//! Where the files are, and every system call that names one.
//!
//! `<root>/<xx>/<generation>/<segment>-<epoch>.seg`, where `xx` is the generation's lowest byte in
//! hexadecimal, so that no folder grows beyond what file systems list quickly. A path is made of numbers
//! only. Each step is opened relative to the one before and follows no symbolic link, so that nothing
//! planted in the folder leads out of it.

use std::ffi::CStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use chunk_core::GenerationId;
use chunk_ports::SegmentKey;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Folders are for their owner alone: what someone watches is nobody else's business.
const FOLDER_MODE: Mode = Mode::RWXU;

/// The mode of the files.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

const FOLDER_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How often a file is made again whose folder was removed, as empty, between two steps.
const MAKE_ATTEMPTS: usize = 16;

/// The folder of a byte store.
#[derive(Debug)]
pub(crate) struct Layout {
    root: OwnedFd,
}

/// A segment's file, opened.
pub(crate) enum Opened {
    /// For reading and writing.
    Writable(File),
    /// For reading: the file system, or the file, admits no writing.
    ReadOnly(File),
}

impl Layout {
    /// Opens the folder, and makes it (0700) with all above it where it is missing.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        // The root itself may be reached through a link: the operator named it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open(root, flags, Mode::empty())?,
        })
    }

    /// The segment's file, or `None` where there is none.
    pub(crate) fn open_segment(&self, key: SegmentKey) -> io::Result<Option<Opened>> {
        let Some(folder) = found(self.generation_folder(key.generation))? else {
            return Ok(None);
        };
        let name = segment_name(key);
        let open = |access: OFlags| {
            let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = found(rustix::fs::openat(&folder, &name, flags, Mode::empty()))?;
            Ok(file.map(untouched_by_reading))
        };
        match open(OFlags::RDWR) {
            Ok(file) => Ok(file.map(|file| Opened::Writable(file.into()))),
            Err(Errno::ROFS | Errno::ACCESS) => {
                Ok(open(OFlags::RDONLY)?.map(|file| Opened::ReadOnly(file.into())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The segment's file for reading and writing, made (0600) with its folders where it is missing.
    pub(crate) fn make_segment(&self, key: SegmentKey) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = segment_name(key);
        let mut attempts = 0;
        loop {
            let folder = self.make_generation_folder(key.generation);
            match folder.and_then(|folder| rustix::fs::openat(folder, &name, flags, FILE_MODE)) {
                Ok(file) => return Ok(untouched_by_reading(file).into()),
                Err(Errno::NOENT) if attempts < MAKE_ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the segment's name durable in its folder.
    pub(crate) fn sync_generation_folder(&self, generation: GenerationId) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.generation_folder(generation)?)?)
    }

    /// Makes the name of the generation's folder durable, and that of the folder it is in.
    pub(crate) fn sync_above_generation(&self, generation: GenerationId) -> io::Result<()> {
        rustix::fs::fsync(self.shard_folder(shard_of(generation))?)?;
        Ok(rustix::fs::fsync(&self.root)?)
    }

    /// Unlinks the segment's file, if it is there.
    pub(crate) fn unlink(&self, key: SegmentKey) -> io::Result<()> {
        if let Some(folder) = found(self.generation_folder(key.generation))? {
            found(rustix::fs::unlinkat(
                folder,
                segment_name(key),
                AtFlags::empty(),
            ))?;
        }
        Ok(())
    }

    /// Unlinks every file of the generation. Goes on after an error and tells the first one.
    pub(crate) fn unlink_all(&self, generation: GenerationId) -> io::Result<()> {
        let Some(folder) = found(self.generation_folder(generation))? else {
            return Ok(());
        };
        // Listed before anything is unlinked, because a listing that changes may skip names.
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            if entry.file_type() != FileType::Directory && !is_dots(entry.file_name()) {
                names.push(entry.file_name().to_owned());
            }
        }
        let mut outcome = Ok(());
        for name in names {
            let unlinked = found(rustix::fs::unlinkat(&folder, &name, AtFlags::empty()));
            outcome = outcome.and(unlinked.map(drop).map_err(io::Error::from));
        }
        outcome
    }

    /// Removes the generation's folder if it is there and empty.
    pub(crate) fn remove_folder_if_empty(&self, generation: GenerationId) -> io::Result<()> {
        let Some(shard) = found(self.shard_folder(shard_of(generation)))? else {
            return Ok(());
        };
        match rustix::fs::unlinkat(shard, generation.to_string(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The generations that have a folder. Anything else in the root is passed over.
    pub(crate) fn generations(&self) -> io::Result<Vec<GenerationId>> {
        let mut generations = Vec::new();
        for shard in 0..=u8::MAX {
            let folder = match self.shard_folder(shard) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(error.into()),
            };
            for entry in Dir::read_from(&folder)? {
                let entry = entry?;
                let Some(generation) = parse_generation(entry.file_name(), shard) else {
                    continue;
                };
                if is_folder(&folder, entry.file_name(), entry.file_type())? {
                    generations.push(generation);
                }
            }
        }
        Ok(generations)
    }

    /// The bytes that this process may still write to the file system.
    pub(crate) fn free_space(&self) -> io::Result<u64> {
        let room = rustix::fs::fstatvfs(&self.root)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn shard_folder(&self, shard: u8) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.root, shard_name(shard), FOLDER_FLAGS, Mode::empty())
    }

    fn generation_folder(&self, generation: GenerationId) -> Result<OwnedFd, Errno> {
        let shard = self.shard_folder(shard_of(generation))?;
        rustix::fs::openat(shard, generation.to_string(), FOLDER_FLAGS, Mode::empty())
    }

    fn make_generation_folder(&self, generation: GenerationId) -> Result<OwnedFd, Errno> {
        // The usual case is that it is there.
        match self.generation_folder(generation) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let shard = shard_of(generation);
        made(rustix::fs::mkdirat(
            &self.root,
            shard_name(shard),
            FOLDER_MODE,
        ))?;
        let shard = self.shard_folder(shard)?;
        let name = generation.to_string();
        made(rustix::fs::mkdirat(&shard, &name, FOLDER_MODE))?;
        rustix::fs::openat(&shard, &name, FOLDER_FLAGS, Mode::empty())
    }
}

fn segment_name(key: SegmentKey) -> String {
    format!("{}-{}.seg", key.segment, key.epoch)
}

fn shard_name(shard: u8) -> String {
    format!("{shard:02x}")
}

const fn shard_of(generation: GenerationId) -> u8 {
    generation.get().to_le_bytes()[0]
}

/// The generation whose folder in `shard` has this name.
fn parse_generation(name: &CStr, shard: u8) -> Option<GenerationId> {
    let text = name.to_str().ok()?;
    let generation = GenerationId::new(text.parse().ok()?);
    // `+7` and `007` parse too, but are not names that this crate makes.
    (generation.to_string() == text && shard_of(generation) == shard).then_some(generation)
}

/// Whether an entry is a folder and no link to one. Some file systems do not say so in the listing.
fn is_folder(parent: &OwnedFd, name: &CStr, listed: FileType) -> Result<bool, Errno> {
    if listed != FileType::Unknown {
        return Ok(listed == FileType::Directory);
    }
    let stat = found(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// The first read after a write would set the time of the last access. That takes a place in the file system's journal,
/// for which whoever serves would wait while flushes and removals fill it; and nobody asks for that time.
fn untouched_by_reading(file: OwnedFd) -> OwnedFd {
    #[cfg(target_os = "linux")]
    // Only its owner may; for all others it stays as it is.
    let _ = rustix::fs::fcntl_setfl(&file, OFlags::NOATIME);
    file
}

/// Turns "no such file" into `None`.
fn found<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Turns "exists already" into success.
fn made(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_this_crate_makes_are_generations() {
        assert_eq!(parse_generation(c"7", 7), Some(GenerationId::new(7)));
        assert_eq!(parse_generation(c"263", 7), Some(GenerationId::new(263)));
        for other in [
            c"007",
            c"+7",
            c"7 ",
            c"-7",
            c"seven",
            c"..",
            c"8",
            c"",
            c"18446744073709551623",
        ] {
            assert_eq!(parse_generation(other, 7), None, "{other:?}");
        }
    }

    #[test]
    fn fault47_names_consist_of_numbers() {
        let key = SegmentKey {
            generation: GenerationId::new(u64::MAX),
            segment: u32::MAX,
            epoch: u32::MAX,
        };
        assert_eq!(segment_name(key), "4294967295-4294967295.seg");
        assert_eq!(shard_name(shard_of(key.generation)), "ff");
    }
}
