//! The cache folder and its modes.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use chunk_bytes_file::FolderLock;

use crate::failure::{Failure, Outcome};

/// The index's file.
pub(crate) const INDEX: &str = "index.db";

/// Sees to it that there is a cache, or the beginning of one: who only asks makes none.
pub(crate) fn expect(folder: &Path) -> Outcome<()> {
    let is_missing =
        |path: &Path| std::fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    // A server that is starting has the lock before it has an index.
    if is_missing(&folder.join(INDEX)) && is_missing(&folder.join(FolderLock::FILE_NAME)) {
        return Err(Failure::failed(format!(
            "there is no cache in {}; say --cache-dir DIR, or fill one with `chunkd serve` or `chunkd fetch`",
            folder.display()
        )));
    }
    Ok(())
}

/// Makes the folder, for this user alone, and checks that it can be written to.
pub(crate) fn prepare(folder: &Path) -> Outcome<()> {
    let unusable = |error: &io::Error| {
        Failure::failed(format!(
            "cannot write to the cache folder {}: {error}; choose another with --cache-dir DIR",
            folder.display()
        ))
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unusable(&error))?;
    let metadata = std::fs::metadata(folder).map_err(|error| unusable(&error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        // Closing a folder that others use too, say a whole temporary folder, would break them.
        if !is_ours(folder).map_err(|error| unusable(&error))? {
            return Err(Failure::failed(format!(
                "the folder {} is open to other users and holds other things than a cache; choose one of \
                 its own with --cache-dir DIR",
                folder.display()
            )));
        }
        let mut permissions = metadata.permissions();
        permissions.set_mode(0o700);
        std::fs::set_permissions(folder, permissions).map_err(|error| unusable(&error))?;
    }
    rustix::fs::access(
        folder,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .map_err(|error| unusable(&error.into()))
}

/// Whether the folder is empty or holds a cache.
fn is_ours(folder: &Path) -> io::Result<bool> {
    let mut empty = true;
    for item in std::fs::read_dir(folder)? {
        empty = false;
        if item?.file_name() == INDEX {
            return Ok(true);
        }
    }
    Ok(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_for_this_user_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        prepare(&folder).unwrap();
        assert_eq!(
            std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        std::fs::write(parent.path().join("file"), "").unwrap();
        std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let failure = prepare(parent.path()).unwrap_err();
        assert!(
            failure
                .message()
                .contains("holds other things than a cache")
        );
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&folder).unwrap();
        assert_eq!(
            std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let failure = prepare(&parent.path().join("file")).unwrap_err();
        assert!(
            failure
                .message()
                .contains("choose another with --cache-dir DIR")
        );
    }
}
