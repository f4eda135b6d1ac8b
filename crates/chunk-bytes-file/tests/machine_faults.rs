//! Faults that only the machine can make: a full disk, a read-only one, a flush that fails.
//!
//! Each test starts this binary again inside what makes the fault: a mount namespace of its own with a
//! tiny file system, which vanishes with the process, or a tracer that fails a system call. Where the
//! machine forbids that, the test says so and passes; the same rules are also held by unit tests that need
//! no such thing.
#![cfg(target_os = "linux")]

use std::fs::OpenOptions;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use chunk_bytes_file::{FileByteStore, FileByteStoreOptions};
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
use chunk_testkit::byte_store::content::{assert_right, bytes_at};
use tempfile::TempDir;

/// Tells a child process where to work.
const FOLDER: &str = "CHUNK_TEST_FAULT_FOLDER";

const KEY: SegmentKey = SegmentKey {
    generation: GenerationId::new(1),
    segment: 0,
    epoch: 0,
};

/// The folder of a child process; `None` where the test was started without its parent.
fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

async fn write(store: &FileByteStore, key: SegmentKey, len: usize) -> Result<(), ByteStoreError> {
    store.write(key, 0, vec![bytes_at(key, 0, len)]).await
}

/// Runs `child`, one of this binary's ignored tests, by `program` with `args` before it. `works` is a command that
/// shows whether the machine allows it. Gives the child's folder, or `None` where it could not run.
fn run(child: &str, works: &[&str], program: &str, args: &[&str]) -> Option<TempDir> {
    let allowed = Command::new(works[0]).args(&works[1..]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        let note = format!(
            "{child}: skipped, because `{}` fails here\n",
            works.join(" ")
        );
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        // What a test that passes prints is not shown; what is in this file is, at the end of a run.
        if let Some(path) = std::env::var_os("CHUNKD_SKIPPED") {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.unwrap().write_all(note.as_bytes()).unwrap();
        }
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(args)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{child}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Some(folder)
}

/// Runs `child` in a mount namespace where the folder is a file system of 512 KiB.
fn on_a_tiny_disk(child: &str) {
    const MOUNT: &str = "mount -t tmpfs -o size=512k,mode=0700 none \"$CHUNK_TEST_FAULT_FOLDER\" && exec \"$0\" \"$@\"";
    let _folder = run(
        child,
        &["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"],
        "unshare",
        &["-rm", "sh", "-c", MOUNT],
    );
}

fn remount(folder: &Path, how: &str) {
    let status = Command::new("mount")
        .args(["-o", how])
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn fault15_a_full_disk() {
    on_a_tiny_disk("child_full_disk");
}

#[tokio::test]
#[ignore = "started by fault15_a_full_disk"]
async fn child_full_disk() {
    let Some(folder) = folder() else { return };
    let store = FileByteStore::open(&folder).unwrap();
    write(&store, KEY, 100_000).await.unwrap();
    assert!(store.free_space().await.unwrap().unwrap() <= 512 * 1024 - 100_000);

    let other = SegmentKey { segment: 1, ..KEY };
    let full = write(&store, other, 1_000_000).await.unwrap_err();
    assert!(matches!(full, ByteStoreError::Full(_)), "{full:?}");
    // What was there before is untouched, and making room helps.
    let found = store.read(KEY, 0, 100_000).await.unwrap().unwrap();
    assert_right(KEY, 0, &found);
    assert_eq!(found.len(), 100_000);
    store.remove(vec![other]).await.unwrap();
    let third = SegmentKey { segment: 2, ..KEY };
    write(&store, third, 200_000).await.unwrap();
    store.flush(third).await.unwrap();
}

#[test]
fn fault19_a_disk_that_turns_read_only() {
    on_a_tiny_disk("child_read_only");
}

#[tokio::test]
#[ignore = "started by fault19_a_disk_that_turns_read_only"]
async fn child_read_only() {
    let Some(folder) = folder() else { return };
    let store = FileByteStore::open(&folder).unwrap();
    write(&store, KEY, 1_000).await.unwrap();
    drop(store);
    remount(&folder, "remount,ro");

    let store = FileByteStore::open(&folder).unwrap();
    let found = store.read(KEY, 0, 1_000).await.unwrap().unwrap();
    assert_right(KEY, 0, &found);
    let refused = write(&store, SegmentKey { segment: 1, ..KEY }, 10).await;
    assert!(refused.unwrap_err().is_retryable());
    assert!(write(&store, KEY, 10).await.is_err());
    assert!(store.remove(vec![KEY]).await.is_err());

    remount(&folder, "remount,rw");
    write(&store, KEY, 2_000).await.unwrap();
    let found = store.read(KEY, 0, 2_000).await.unwrap().unwrap();
    assert_eq!(found.len(), 2_000);
}

#[test]
fn a_file_system_that_always_waits_is_read_all_the_same() {
    on_a_tiny_disk("child_reads_on_tmpfs");
}

#[tokio::test]
#[ignore = "started by a_file_system_that_always_waits_is_read_all_the_same"]
async fn child_reads_on_tmpfs() {
    let Some(folder) = folder() else { return };
    let store = FileByteStore::open(&folder).unwrap();
    write(&store, KEY, 100_000).await.unwrap();
    for offset in [0, 1, 99_999] {
        for _ in 0..3 {
            let found = store.read(KEY, offset, 70_000).await.unwrap().unwrap();
            assert_eq!(found.len(), 70_000.min(100_000 - offset as usize));
            assert_right(KEY, offset, &found);
        }
    }
    assert_eq!(store.read(KEY, 100_000, 1).await.unwrap(), None);
}

/// Fails the first flush of a file, and no other: what a kernel does that reports a lost page once.
#[test]
fn fault16_a_failed_flush_is_final() {
    let inject = [
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=1",
    ];
    let works: Vec<_> = ["strace"]
        .into_iter()
        .chain(inject)
        .chain(["true"])
        .collect();
    run("child_failed_flush", &works, "strace", &inject);
}

#[test]
#[ignore = "started by fault16_a_failed_flush_is_final"]
fn child_failed_flush() {
    let Some(folder) = folder() else { return };
    // The tracer counts calls per thread, so that there must be one thread to flush on.
    tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap()
        .block_on(failed_flush(&folder));
}

async fn failed_flush(folder: &Path) {
    let store = FileByteStoreOptions::new()
        .max_open_files(NonZeroUsize::MIN)
        .open(folder)
        .unwrap();
    write(&store, KEY, 1_000).await.unwrap();
    let corrupt =
        |outcome: Result<(), ByteStoreError>| matches!(outcome, Err(ByteStoreError::Corrupt(_)));
    assert!(corrupt(store.flush(KEY).await), "the injected error");
    assert!(corrupt(store.flush(KEY).await), "the kernel says Ok by now");

    // Another file takes the only descriptor; the segment's own is opened anew.
    let fresh = SegmentKey { epoch: 1, ..KEY };
    write(&store, fresh, 1_000).await.unwrap();
    store.flush(fresh).await.unwrap();
    write(&store, KEY, 1_000).await.unwrap();
    assert!(corrupt(store.flush(KEY).await), "after it was opened anew");
    assert_eq!(
        store.read(fresh, 0, 3).await.unwrap(),
        Some(Bytes::copy_from_slice(&bytes_at(fresh, 0, 3)))
    );
}

/// Which files and folders a flush makes durable, as the kernel sees it: a segment's bytes, then the names
/// that lead to it, each once.
#[test]
fn fault25_a_flush_makes_the_name_durable_too() {
    const TRACE: &str = "exec strace -f -qq -y -e trace=fsync,fdatasync \
        -o \"$CHUNK_TEST_FAULT_FOLDER/trace\" \"$0\" \"$@\"";
    let works = ["strace", "-qq", "-y", "-o", "/dev/null", "true"];
    let Some(folder) = run("child_flushes", &works, "sh", &["-c", TRACE]) else {
        return;
    };
    let root = folder.path().join("root");
    let trace = std::fs::read_to_string(folder.path().join("trace")).unwrap();
    let synced: Vec<_> = trace
        .lines()
        .filter_map(|line| {
            let (_, call) = line.split_once("sync(")?;
            let (_, path) = call.split_once('<')?;
            let (path, _) = path.split_once('>')?;
            let below = Path::new(path).strip_prefix(&root).unwrap();
            Some(below.to_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        // The first segment of a generation: its bytes, its folder's names, its own.
        &["01/1/0-0.seg", "01", "", "01/1"][..],
        // The same once more.
        &["01/1/0-0.seg"],
        // The second segment.
        &["01/1/1-0.seg", "01/1"],
        // Another generation.
        &["02/2/0-0.seg", "02", "", "02/2"],
    ]
    .concat();
    assert_eq!(synced, expected);
}

#[tokio::test]
#[ignore = "started by fault25_a_flush_makes_the_name_durable_too"]
async fn child_flushes() {
    let Some(folder) = folder() else { return };
    let store = FileByteStore::open(folder.join("root")).unwrap();
    let second = SegmentKey { segment: 1, ..KEY };
    let other = SegmentKey {
        generation: GenerationId::new(2),
        ..KEY
    };
    for key in [KEY, KEY, second, other] {
        write(&store, key, 10).await.unwrap();
        store.flush(key).await.unwrap();
    }
}
