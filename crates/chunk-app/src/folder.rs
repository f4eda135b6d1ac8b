//! The cache folder: its modes, and the record of the origins it was served for.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use chunk_bytes_file::FolderLock;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::origin::{Mounts, Origin};
use crate::origin_url::OriginUrl;

/// The index's file.
pub(crate) const INDEX: &str = "index.db";

const RECORD: &str = "origins.json";

/// The record: names and URLs, neither headers nor credentials.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    origins: Vec<RecordedOrigin>,
    /// Those that were served earlier under names not in use now. Their entries are still there.
    #[serde(default)]
    former: Vec<RecordedOrigin>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedOrigin {
    name: String,
    url: String,
    /// What a query's identity leaves out, so that a later command names the same entries and keeps no more.
    #[serde(default)]
    signature_parameters: Option<Vec<String>>,
    #[serde(default)]
    hides_queries: bool,
}

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

/// The origins that the folder was last served for. A record that cannot be read is none.
pub(crate) fn recorded_mounts(folder: &Path) -> Mounts {
    let origins = read(folder)
        .origins
        .iter()
        .filter_map(|recorded| {
            let url = OriginUrl::parse(&recorded.url).ok()?;
            let mut origin = Origin::plain(&recorded.name, url);
            if let Some(parameters) = &recorded.signature_parameters {
                origin.signature_parameters.clone_from(parameters);
            }
            origin.hides_queries = recorded.hides_queries;
            Some(origin)
        })
        .collect();
    Mounts::new(origins).unwrap_or_default()
}

/// The names in `mounts` that stood for another URL until now.
pub(crate) fn moved_origins(folder: &Path, mounts: &Mounts) -> Vec<String> {
    let record = read(folder);
    mounts
        .iter()
        .filter(|origin| {
            record
                .all()
                .any(|known| known.name == origin.name && known.url != origin.url.to_string())
        })
        .map(|origin| origin.name.clone())
        .collect()
}

/// Records the origins, so that later commands know them without flags. Named ones join those recorded
/// earlier; a change between one unnamed origin and named ones replaces them, but what was recorded stays
/// known to [`moved_origins`], since its entries stay too.
pub(crate) fn record_mounts(folder: &Path, mounts: &Mounts) -> io::Result<()> {
    let known = read(folder);
    let stays = |known: &&RecordedOrigin| {
        !known.name.is_empty()
            && mounts
                .iter()
                .all(|origin| !origin.name.is_empty() && origin.name != known.name)
    };
    let mut origins: Vec<_> = known.origins.iter().filter(stays).cloned().collect();
    origins.extend(mounts.iter().map(|origin| RecordedOrigin {
        name: origin.name.clone(),
        url: origin.url.to_string(),
        signature_parameters: Some(origin.signature_parameters.clone()),
        hides_queries: origin.hides_queries,
    }));
    let in_use = |former: &&RecordedOrigin| origins.iter().any(|now| now.name == former.name);
    let former = known.all().filter(|former| !in_use(former)).cloned();
    let record = Record {
        former: former.collect(),
        origins,
    };
    if record == known {
        return Ok(());
    }
    let json = serde_json::to_vec_pretty(&record)?;
    // Written beside and renamed, so that a crash leaves the old record or the new one.
    let beside = folder.join("origins.json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&json)?;
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(RECORD))
}

impl Record {
    fn all(&self) -> impl Iterator<Item = &RecordedOrigin> {
        self.origins.iter().chain(&self.former)
    }
}

fn read(folder: &Path) -> Record {
    std::fs::read(folder.join(RECORD))
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(origins: &[(&str, &str)]) -> Mounts {
        let origins = origins
            .iter()
            .map(|(name, url)| Origin::plain(name, OriginUrl::parse(url).unwrap()));
        Mounts::new(origins.collect()).unwrap()
    }

    #[test]
    fn mounts_are_known_later_without_credentials() {
        let folder = tempfile::tempdir().unwrap();
        record_mounts(
            folder.path(),
            &mounts(&[("a", "https://u:hunter2@h/x/"), ("b", "http://i/")]),
        )
        .unwrap();
        let file = folder.path().join(RECORD);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("hunter2"));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let known = recorded_mounts(folder.path());
        let urls: Vec<_> = known.iter().map(|origin| origin.url.to_string()).collect();
        assert_eq!(urls, ["https://h/x/", "http://i/"]);
    }

    #[test]
    fn fault45_a_name_that_stands_for_another_server_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        record_mounts(folder.path(), &mounts(&[("", "http://one/")])).unwrap();
        assert!(moved_origins(folder.path(), &mounts(&[("", "http://one")])).is_empty());
        assert_eq!(
            moved_origins(folder.path(), &mounts(&[("", "http://two/")])),
            [""]
        );
        assert!(moved_origins(folder.path(), &mounts(&[("a", "http://two/")])).is_empty());
        // A time under other names does not make it forgotten.
        record_mounts(folder.path(), &mounts(&[("a", "http://two/")])).unwrap();
        assert_eq!(
            moved_origins(folder.path(), &mounts(&[("", "http://two/")])),
            [""]
        );
        record_mounts(folder.path(), &mounts(&[("b", "http://b/")])).unwrap();
        let names = |mounts: Mounts| -> Vec<String> { mounts.iter().map(Origin::mount).collect() };
        assert_eq!(names(recorded_mounts(folder.path())), ["/a/", "/b/"]);
        record_mounts(folder.path(), &mounts(&[("", "http://one/")])).unwrap();
        assert_eq!(names(recorded_mounts(folder.path())), ["/"]);
        assert_eq!(
            moved_origins(folder.path(), &mounts(&[("b", "http://c/")])),
            ["b"]
        );
    }

    #[test]
    fn a_damaged_record_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(RECORD), "{").unwrap();
        assert!(recorded_mounts(folder.path()).is_empty());
    }

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
