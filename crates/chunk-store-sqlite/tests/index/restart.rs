//! What is there again after a restart, and what is not in the file at all.

use std::path::Path;

use crate::samples::{film, key, record};
use chunk_core::{ByteRange, Priority};
use chunk_ports::{ChunkStore, JobRange, StoreWrite};
use chunk_store_sqlite::{Durability, SqliteChunkStore, SqliteOptions};

async fn open(path: &Path) -> SqliteChunkStore {
    let opened = SqliteChunkStore::open(path).await.expect("an index");
    assert_eq!(opened.set_aside, None);
    opened.store
}

fn job(start: u64, len: u64, priority: Priority, sequence: u64) -> JobRange {
    JobRange {
        range: ByteRange::with_len(start, len).expect("a range"),
        priority,
        sequence,
    }
}

#[tokio::test]
async fn r04_availability_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let store = open(&path).await;
    let (_, film) = film(&store, "/a", 1).await;
    let writes = [0, 3, 70].map(|segment| record(film, segment)).to_vec();
    store.commit(writes).await.expect("recorded");
    let before = (
        store.entries().await.expect("entries"),
        store.segments(film).await.expect("segments"),
        store.segment(film, 70).await.expect("segment"),
    );
    assert_eq!(before.1.len(), 3);
    store.close().await.expect("closed");

    let store = open(&path).await;
    let after = (
        store.entries().await.expect("entries"),
        store.segments(film).await.expect("segments"),
        store.segment(film, 70).await.expect("segment"),
    );
    assert_eq!(after, before);
}

#[tokio::test]
async fn r04_a_store_that_was_not_closed_loses_nothing() {
    for durability in [Durability::ProcessCrash, Durability::PowerCut] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("index.db");
        let options = SqliteOptions::new(&path).durability(durability);
        let first = SqliteChunkStore::open_with(options)
            .await
            .expect("an index")
            .store;
        let (_, film) = film(&first, "/a", 1).await;
        first.commit(vec![record(film, 5)]).await.expect("recorded");
        // Still open, as a process that hangs would leave it.
        let second = open(&path).await;
        assert_eq!(second.segments(film).await.expect("segments").len(), 1);
        drop(first);
    }
}

#[tokio::test]
async fn r07_queue_rows_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let store = open(&path).await;
    let (entry, _) = film(&store, "/a", 1).await;
    let jobs = vec![
        job(0, 100, Priority::Low, 9),
        job(500, 1, Priority::Medium, 4),
        job(1_000, JobRange::TO_THE_END - 1_000, Priority::Low, 9),
    ];
    store
        .commit(vec![StoreWrite::ReplaceJobs {
            entry,
            jobs: jobs.clone(),
        }])
        .await
        .expect("queued");
    store.close().await.expect("closed");

    let store = open(&path).await;
    let found = store.jobs().await.expect("jobs");
    let seen: Vec<_> = found.iter().map(|row| row.job).collect();
    assert_eq!(seen, [jobs[1], jobs[0], jobs[2]]);
    assert!(
        found
            .iter()
            .all(|row| row.entry == entry && *row.key == key("/a"))
    );
}

#[tokio::test]
async fn ids_are_not_given_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let store = open(&path).await;
    let (entry, generation) = film(&store, "/a", 1).await;
    store
        .commit(vec![StoreWrite::RemoveEntry(entry)])
        .await
        .expect("removed");
    store.close().await.expect("closed");
    let store = open(&path).await;
    let (next_entry, next_generation) = film(&store, "/a", 2).await;
    assert!(next_entry > entry && next_generation > generation);
}

#[tokio::test]
async fn trap17_no_signature_reaches_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let store = open(&path).await;
    let signed = "/film.mkv?part=2&X-Amz-Signature=c0ffee5ecret&X-Amz-Credential=AKIAc0ffee5ecret&token=c0ffee5ecret";
    let (entry, film) = film(&store, signed, 1).await;
    let jobs = vec![job(0, 100, Priority::Low, 1)];
    store
        .commit(vec![
            record(film, 0),
            StoreWrite::ReplaceJobs { entry, jobs },
        ])
        .await
        .expect("written");
    let rotated = signed.replace("c0ffee5ecret", "0ther");
    let again = store.entry(&key(&rotated)).await.expect("entry");
    assert_eq!(
        again.map(|found| found.id),
        Some(entry),
        "a rotated token is the same entry"
    );

    // With the write-ahead log still beside it, and after everything moved into the file.
    let mut kept_seen = false;
    for closes in [true, false] {
        for file in std::fs::read_dir(folder.path()).expect("a folder") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("bytes");
            assert!(!holds(&bytes, b"c0ffee5ecret"), "a signature was written");
            kept_seen |= holds(&bytes, b"part=2");
        }
        if closes {
            store.close().await.expect("closed");
        }
    }
    assert!(kept_seen, "the search finds what is there");
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn a_closed_store_says_so_and_closes_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let store = open(&path).await;
    store.close().await.expect("closed");
    store.close().await.expect("closed again");
    let refused = store.ensure_entry(&key("/a"), 1).await.expect_err("closed");
    assert!(refused.is_retryable());
    assert!(store.entries().await.is_err());
    let left: std::collections::BTreeSet<_> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|file| file.expect("a file").file_name())
        .collect();
    let expected = ["index.db", "index.db.reserve"].map(Into::into);
    assert_eq!(left, expected.into(), "the log and its index are gone");
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    std::fs::write(&path, []).expect("an empty file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let store = open(&path).await;
    film(&store, "/a", 1).await;
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        let mode = file
            .expect("a file")
            .metadata()
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        files += 1;
    }
    assert_eq!(files, 4, "the file, its log, the log's index, the reserve");
}
