//! The folder's random key, under which forwarded credentials are hashed into cache keys.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::failure::{Failure, Outcome};

const FILE: &str = "credentials.key";

/// The key kept in `folder`, made now if there is none. A key that is lost makes what was cached for one
/// person unreachable, and nothing worse.
pub(crate) fn of_folder(folder: &Path) -> Outcome<[u8; 32]> {
    let path = folder.join(FILE);
    let unusable = |error: io::Error| {
        Failure::failed(format!("cannot keep a key in {}: {error}", path.display()))
    };
    match std::fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => tracing::warn!("{} is damaged; a new key is made", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let key = random().map_err(unusable)?;
    // Written beside and renamed: half a key would be a different one.
    let beside = folder.join("credentials.key.new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&key)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    };
    write().map_err(unusable)?;
    Ok(key)
}

fn random() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    let mut filled = 0;
    while filled < key.len() {
        filled +=
            rustix::rand::getrandom(&mut key[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_and_is_the_folders_own() {
        let one = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let key = of_folder(one.path()).unwrap();
        assert_eq!(of_folder(one.path()).unwrap(), key);
        assert_ne!(of_folder(other.path()).unwrap(), key);
        let mode = std::fs::metadata(one.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(one.path().join(FILE), [0; 31]).unwrap();
        assert_ne!(of_folder(one.path()).unwrap(), key);
    }
}
