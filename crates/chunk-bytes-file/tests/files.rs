//! What the store makes of its folder, and what it makes of a folder that others changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chunk_bytes_file::FileByteStore;
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
use chunk_testkit::byte_store::content::{assert_right, bytes_at};

const LEN: usize = 10_000;

const KEY: SegmentKey = SegmentKey {
    generation: GenerationId::new(0x1_02),
    segment: 3,
    epoch: 4,
};

/// Where [`KEY`] lies below the root.
const PLACE: &str = "02/258/3-4.seg";

async fn write(store: &FileByteStore, key: SegmentKey) {
    store
        .write(key, 0, vec![bytes_at(key, 0, LEN)])
        .await
        .unwrap();
}

async fn read(store: &FileByteStore, key: SegmentKey) -> Option<Bytes> {
    store.read(key, 0, LEN).await.unwrap()
}

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn folders_and_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/er");
    let store = FileByteStore::open(&root).unwrap();
    write(&store, KEY).await;
    assert!(root.join(PLACE).is_file());
    let found = all_below(folder.path());
    assert_eq!(found.len(), 5, "{found:?}");
    for path in found {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
}

#[tokio::test]
async fn what_was_written_is_there_when_the_folder_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    store.flush(KEY).await.unwrap();
    drop(store);
    let store = FileByteStore::open(folder.path()).unwrap();
    assert_eq!(store.generations().await.unwrap(), [KEY.generation]);
    assert_right(KEY, 0, &read(&store, KEY).await.unwrap());
    assert_eq!(store.open_files(), 1);
}

#[tokio::test]
async fn removal_leaves_no_file_and_no_folder_of_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    let other = SegmentKey { epoch: 5, ..KEY };
    write(&store, KEY).await;
    write(&store, other).await;
    store.remove(vec![KEY]).await.unwrap();
    assert!(!folder.path().join(PLACE).exists());
    assert!(folder.path().join("02/258/3-5.seg").exists());
    store.remove(vec![other]).await.unwrap();
    assert!(!folder.path().join("02/258").exists());
    write(&store, KEY).await;
    store.remove_generation(KEY.generation).await.unwrap();
    assert!(!folder.path().join("02/258").exists());
    assert_eq!(store.open_files(), 0);
}

#[tokio::test]
async fn fault18_a_deleted_file_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    fs::remove_file(folder.path().join(PLACE)).unwrap();
    // Whoever has it open may go on reading it; the bytes are the right ones.
    if let Some(found) = read(&store, KEY).await {
        assert_right(KEY, 0, &found);
    }
    let store = FileByteStore::open(folder.path()).unwrap();
    assert_eq!(read(&store, KEY).await, None);
    // And it can be written again.
    write(&store, KEY).await;
    assert_eq!(read(&store, KEY).await.unwrap().len(), LEN);
}

#[tokio::test]
async fn fault18_a_deleted_folder_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    fs::remove_dir_all(folder.path().join("02")).unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    assert_eq!(read(&store, KEY).await, None);
    assert_eq!(store.generations().await.unwrap(), []);
    store.remove(vec![KEY]).await.unwrap();
    store.remove_generation(KEY.generation).await.unwrap();
    write(&store, KEY).await;
    store.flush(KEY).await.unwrap();
    assert_eq!(read(&store, KEY).await.unwrap().len(), LEN);
}

#[tokio::test]
async fn fault18_a_truncated_file_gives_a_short_read_then_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join(PLACE))
        .unwrap();
    file.set_len(4_097).unwrap();
    let short = read(&store, KEY).await.unwrap();
    assert_eq!(short.len(), 4_097);
    assert_right(KEY, 0, &short);
    assert_eq!(store.read(KEY, 4_097, 10).await.unwrap(), None);
    file.set_len(0).unwrap();
    assert_eq!(read(&store, KEY).await, None);
}

/// Otherwise the file would be as long as before, with zeros in it that nobody is told of.
#[tokio::test]
async fn fault18_what_was_cut_is_not_written_over_before_somebody_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join(PLACE))
        .unwrap();
    file.set_len(4_097).unwrap();
    let end = LEN as u64;
    let piece = || vec![Bytes::from_static(b"piece")];
    let told = store.write(KEY, end, piece()).await.unwrap_err();
    assert!(matches!(told, ByteStoreError::Corrupt(_)), "{told:?}");
    assert_eq!(file.metadata().unwrap().len(), 4_097);
    // A reader that has been told knows what it has to write again.
    assert_eq!(store.read(KEY, 5_000, 10).await.unwrap(), None);
    store.write(KEY, 4_097, piece()).await.unwrap();
    assert_eq!(store.read(KEY, 4_097, 10).await.unwrap().unwrap(), "piece");
}

#[tokio::test]
async fn a_read_of_any_length_takes_memory_for_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    let found = store.read(KEY, 1, usize::MAX).await.unwrap().unwrap();
    assert_eq!(found.len(), LEN - 1);
}

#[tokio::test]
async fn a_write_beyond_what_files_can_have_is_an_error_not_a_wrong_byte() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    for offset in [i64::MAX as u64, 1 << 63, u64::MAX] {
        let refused = store
            .write(KEY, offset, vec![Bytes::from_static(b"wrong")])
            .await;
        assert!(refused.is_err(), "at {offset}");
    }
    assert_right(KEY, 0, &read(&store, KEY).await.unwrap());
}

/// Puts a link to `secret` (or the folder it is in) at each step of the path in turn.
#[tokio::test]
async fn fault47_a_planted_link_is_not_followed() {
    for step in ["02", "02/258", PLACE] {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        let root = folder.path().join("root");
        let secret = outside.join(Path::new(PLACE).strip_prefix(step).unwrap_or(Path::new("")));
        let secret = if step == PLACE { outside } else { secret };
        fs::create_dir_all(secret.parent().unwrap()).unwrap();
        fs::write(&secret, b"secret").unwrap();

        let link = root.join(step);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let above = secret
            .ancestors()
            .nth(Path::new(PLACE).iter().count() - Path::new(step).iter().count())
            .unwrap();
        symlink(above, &link).unwrap();
        assert_eq!(fs::read(root.join(PLACE)).unwrap(), b"secret", "{step}");

        let store = FileByteStore::open(&root).unwrap();
        assert!(store.read(KEY, 0, 6).await.is_err(), "{step}");
        let written = store.write(KEY, 0, vec![Bytes::from_static(b"mine")]);
        assert!(written.await.is_err(), "{step}");
        if step != PLACE {
            assert_eq!(store.generations().await.unwrap(), [], "{step}");
        }
        // Removal may fail or take the link away; what it leads to stays.
        let _ = store.remove(vec![KEY]).await;
        let _ = store.remove_generation(KEY.generation).await;
        assert_eq!(fs::read(&secret).unwrap(), b"secret", "{step}");
    }
}

#[tokio::test]
async fn foreign_names_in_the_folder_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    write(&store, KEY).await;
    for foreign in ["index", "zz/1", "02/notes", "02/0258", "02/3", "03"] {
        fs::create_dir_all(folder.path().join(foreign)).unwrap();
    }
    fs::write(folder.path().join("lock"), b"").unwrap();
    fs::write(folder.path().join("02/514"), b"a file").unwrap();
    fs::write(folder.path().join("04"), b"a file").unwrap();
    assert_eq!(store.generations().await.unwrap(), [KEY.generation]);
    store.remove_generation(KEY.generation).await.unwrap();
    assert_eq!(store.generations().await.unwrap(), []);
    assert!(folder.path().join("02/notes").exists());
}

#[tokio::test]
async fn free_space_is_what_the_file_system_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    assert!(store.free_space().await.unwrap().unwrap() > 0);
}

#[tokio::test]
async fn debug_shows_the_folder_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    let shown = format!("{store:?}");
    assert!(shown.contains("open_files: 0"), "{shown}");
}
