//! The Unix socket in the cache folder: its address and its modes.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the cache folder.
pub(crate) const NAME: &str = "chunkd.sock";

/// An address in the kernel's structure holds 108 bytes, the last of them 0.
const LONGEST_ADDRESS: usize = 107;

/// Listens in `folder`, for this user alone. The caller holds the folder's lock, so that a socket found
/// there is one that a dead process left.
pub(crate) fn listen(folder: &Path) -> io::Result<UnixListener> {
    remove(folder)?;
    let address = Address::of(folder)?;
    let listener = UnixListener::bind(&address.path)?;
    // Until this line the folder's mode, 0700, keeps others out.
    std::fs::set_permissions(&address.path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to whoever listens in `folder`.
pub(crate) async fn connect(folder: &Path) -> io::Result<UnixStream> {
    let address = Address::of(folder)?;
    UnixStream::connect(&address.path).await
}

/// Removes the socket, if there is one.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(folder.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A way to the socket that is short enough, whatever the folder's name.
struct Address {
    path: PathBuf,
    /// Kept open while `path` goes through it.
    _folder: Option<File>,
}

impl Address {
    fn of(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        if path.as_os_str().len() <= LONGEST_ADDRESS {
            return Ok(Self {
                path,
                _folder: None,
            });
        }
        let folder = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
        Ok(Self {
            path,
            _folder: Some(folder),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn meets_in(folder: &Path) {
        let listener = listen(folder).unwrap();
        let mode = std::fs::metadata(folder.join(NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (connected, accepted) = tokio::join!(connect(folder), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        // A second one takes over what a dead process left.
        drop(listener);
        assert!(connect(folder).await.is_err());
        assert!(listen(folder).is_ok());
    }

    #[tokio::test]
    async fn both_ends_meet_and_nobody_else_may_come() {
        let folder = tempfile::tempdir().unwrap();
        meets_in(folder.path()).await;
    }

    #[tokio::test]
    async fn a_folder_with_a_long_name_has_a_socket_too() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        meets_in(&long).await;
    }
}
