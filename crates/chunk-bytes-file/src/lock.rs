//! One process per folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The right to use a cache folder, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    /// Holds the lock: the kernel releases it with the last descriptor.
    _file: File,
    path: PathBuf,
}

impl FolderLock {
    /// The name of the lock's file in its folder.
    pub const FILE_NAME: &str = "lock";

    /// Takes the lock of `folder`, which is made (0700) where it is missing.
    ///
    /// # Errors
    /// [`FolderLockError::Taken`] where another process has it, at once and without waiting.
    pub fn acquire(folder: impl AsRef<Path>) -> Result<Self, FolderLockError> {
        let folder = folder.as_ref();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| FolderLockError::Io {
                path: folder.to_owned(),
                source,
            })?;
        Self::acquire_file(folder.join(Self::FILE_NAME))
    }

    /// Takes the lock that the file `path` stands for. The file is made (0600) where it is missing, and
    /// stays: unlinking it would let two processes hold two locks of one name.
    ///
    /// # Errors
    /// As [`FolderLock::acquire`].
    pub fn acquire_file(path: impl Into<PathBuf>) -> Result<Self, FolderLockError> {
        let path = path.into();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path);
        let locked = file.map_err(TryLockError::Error).and_then(|file| {
            file.try_lock()?;
            Ok(file)
        });
        match locked {
            Ok(file) => Ok(Self { _file: file, path }),
            Err(TryLockError::WouldBlock) => Err(FolderLockError::Taken { path }),
            Err(TryLockError::Error(source)) => Err(FolderLockError::Io { path, source }),
        }
    }

    /// The lock's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Why a folder's lock was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderLockError {
    /// Another process has it.
    #[error("another chunkd uses this folder (it holds {})", path.display())]
    #[non_exhaustive]
    Taken {
        /// The lock's file.
        path: PathBuf,
    },
    /// The lock's file cannot be made or locked.
    #[error("cannot lock {}", path.display())]
    #[non_exhaustive]
    Io {
        /// The lock's file or its folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl FolderLockError {
    /// Whether the same call may succeed later without anything else being done.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }
}
