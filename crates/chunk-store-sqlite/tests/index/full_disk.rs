//! A disk that others have filled to its last byte: rows go all the same.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chunk_core::{BlockMap, ByteRange, GenerationId, Representation};
use chunk_ports::{
    ChunkStore, ChunkStoreError, Freshness, NewGeneration, SegmentRecord, StoreWrite,
};
use chunk_store_sqlite::SqliteChunkStore;

use crate::samples::{film, key, record};

const FOLDER: &str = "CHUNK_TEST_FULL_FOLDER";

const LARGE_SEGMENT: u64 = 160 * chunk_core::BLOCK_SIZE;

/// Runs the test `child` where its folder is a file system of 32 MiB, if this process may mount one.
fn on_a_small_disk(child: &str) {
    let may = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !may.is_ok_and(|ended| ended.status.success()) {
        let note = format!("{child}: skipped, because this process may not mount\n");
        std::io::stderr()
            .write_all(note.as_bytes())
            .expect("written");
        // What a test that passes prints is not shown; what is in this file is, at the end of a run.
        if let Some(path) = std::env::var_os("CHUNKD_SKIPPED") {
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("a file");
            file.write_all(note.as_bytes()).expect("written");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!("mount -t tmpfs -o size=32m none \"${FOLDER}\" && exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{child}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Fills the disk to its last byte.
fn fill(folder: &Path) {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(folder.join("others"))
        .expect("a file");
    while file.write_all(&[7; 4096]).is_ok() {}
}

/// An index with a film of so many rows, on a disk that is full.
async fn full(rows: u32) -> Option<(PathBuf, SqliteChunkStore)> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let store = open(&folder).await;
    let (_, film) = film(&store, "/a", 1).await;
    for first in (0..rows).step_by(1_000) {
        let writes = (first..rows.min(first + 1_000))
            .map(|segment| record(film, segment))
            .collect();
        store.commit(writes).await.expect("recorded");
    }
    fill(&folder);
    Some((folder, store))
}

async fn open(folder: &Path) -> SqliteChunkStore {
    let opened = SqliteChunkStore::open(folder.join("index.db"))
        .await
        .expect("an index");
    assert_eq!(opened.set_aside, None);
    opened.store
}

/// Records until the index refuses it; the log may have had some room left.
async fn record_until_full(store: &SqliteChunkStore, folder: &Path) {
    let film = current(store).await;
    for segment in 50_000..60_000 {
        fill(folder);
        match store.commit(vec![record(film, segment)]).await {
            Ok(()) => {}
            Err(ChunkStoreError::Full(_)) => return,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the disk is never full");
}

async fn current(store: &SqliteChunkStore) -> GenerationId {
    let entry = store.entry(&key("/a")).await.expect("read").expect("there");
    entry.current.expect("current").id
}

#[test]
fn fault15_on_a_full_disk_rows_can_be_removed() {
    on_a_small_disk("full_disk::child_removes");
}

#[tokio::test]
#[ignore = "started by fault15_on_a_full_disk_rows_can_be_removed"]
async fn child_removes() {
    let Some((folder, store)) = full(200).await else {
        return;
    };
    record_until_full(&store, &folder).await;
    let film = current(&store).await;
    for segment in 0..6 {
        let remove = StoreWrite::RemoveSegments {
            generation: film,
            segments: vec![segment],
        };
        store.commit(vec![remove]).await.expect("removed");
        let row = store.segment(film, segment).await.expect("read");
        assert_eq!(row, None);
        // What was given up and not used, others take.
        fill(&folder);
    }
    // What is added does not live on the reserve, and there is room for it when there is room.
    record_until_full(&store, &folder).await;
    std::fs::remove_file(folder.join("others")).expect("removed");
    store
        .commit(vec![record(film, 0)])
        .await
        .expect("room again");
    store.check().await.expect("sound");
    let reserve = folder.join("index.db.reserve");
    let held = reserve.metadata().expect("a reserve").len();
    assert!(held >= 1024 * 1024, "{held}: it is not whole again");
}

#[test]
fn fault15_on_a_full_disk_the_largest_film_can_be_removed_at_once() {
    on_a_small_disk("full_disk::child_removes_large");
}

/// A segment of 10 MiB, whole.
fn large_row(generation: GenerationId, segment: u32) -> StoreWrite {
    StoreWrite::RecordSegment(SegmentRecord {
        generation,
        segment,
        epoch: 0,
        extent: ByteRange::with_len(u64::from(segment) * LARGE_SEGMENT, LARGE_SEGMENT)
            .expect("a range"),
        blocks: BlockMap::from_bytes(&[0xff; 20]),
        checksums: vec![segment; 160],
        recorded_bytes: LARGE_SEGMENT,
        accessed_unix: 1,
    })
}

#[tokio::test]
#[ignore = "started by fault15_on_a_full_disk_the_largest_film_can_be_removed_at_once"]
async fn child_removes_large() {
    let Some((folder, store)) = full(200).await else {
        return;
    };
    std::fs::remove_file(folder.join("others")).expect("removed");
    let entry = store.ensure_entry(&key("/large"), 1).await.expect("made");
    let new = NewGeneration {
        representation: Representation::with_len(Some(5_000 * LARGE_SEGMENT)),
        accepts_ranges: true,
        segment_size: LARGE_SEGMENT,
        nonce: 7,
        freshness: Freshness::default(),
    };
    let large = store.begin_generation(entry.id, new).await.expect("made");
    for first in (0..5_000).step_by(500) {
        let rows = first..first + 500;
        let writes = rows.map(|segment| large_row(large.id, segment)).collect();
        store.commit(writes).await.expect("recorded");
    }
    record_until_full(&store, &folder).await;
    store
        .commit(vec![StoreWrite::RemoveEntry(entry.id)])
        .await
        .expect("removed");
    assert_eq!(store.entries().await.expect("entries").len(), 1);
    store.check().await.expect("sound");
}

#[test]
fn fault15_a_start_on_a_full_disk_can_remove_as_well() {
    on_a_small_disk("full_disk::child_starts");
}

#[tokio::test]
#[ignore = "started by fault15_a_start_on_a_full_disk_can_remove_as_well"]
async fn child_starts() {
    let Some((folder, store)) = full(200).await else {
        return;
    };
    // Without its log, which a start has to make anew.
    std::fs::remove_file(folder.join("others")).expect("removed");
    store.close().await.expect("closed");
    fill(&folder);

    let store = open(&folder).await;
    let (_, second) = film(&store, "/b", 2).await;
    assert_eq!(store.segments(second).await.expect("read"), []);
    record_until_full(&store, &folder).await;
    let entry = store.entry(&key("/a")).await.expect("read").expect("there");
    store
        .commit(vec![StoreWrite::RemoveEntry(entry.id)])
        .await
        .expect("removed");
    assert_eq!(store.entries().await.expect("entries").len(), 1);
}
