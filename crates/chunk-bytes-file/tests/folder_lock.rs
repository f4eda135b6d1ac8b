//! One process per cache folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};

use chunk_bytes_file::{FolderLock, FolderLockError};

/// Tells the child process which folder to lock.
const FOLDER: &str = "CHUNK_TEST_LOCK_FOLDER";

/// The other process of the tests below: it takes the lock, says so, and holds it until its input ends.
#[test]
#[ignore = "the other process of fault26_*, which start it"]
fn the_other_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let _lock = FolderLock::acquire(folder).unwrap();
    // Standard output belongs to the test harness.
    std::io::stderr().write_all(b"locked\n").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Starts the other process and waits until it has the lock.
fn other_process(folder: &std::path::Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    assert!(said.lines().any(|line| line.unwrap() == "locked"));
    child
}

#[test]
fn fault26_a_second_process_is_refused_until_the_first_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = other_process(folder.path());
    let refused = FolderLock::acquire(folder.path()).unwrap_err();
    assert!(
        matches!(refused, FolderLockError::Taken { .. }),
        "{refused:?}"
    );
    assert!(
        refused
            .to_string()
            .starts_with("another chunkd uses this folder"),
        "{refused}"
    );
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    FolderLock::acquire(folder.path()).unwrap();
}

#[test]
fn fault26_a_killed_process_leaves_no_lock_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = other_process(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    FolderLock::acquire(folder.path()).unwrap();
}

#[test]
fn fault26_the_lock_holds_within_a_process_too_and_ends_with_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let lock = FolderLock::acquire(folder.path()).unwrap();
    assert!(
        FolderLock::acquire(folder.path())
            .unwrap_err()
            .is_retryable()
    );
    let other = folder.path().join("other");
    FolderLock::acquire_file(&other).unwrap();
    drop(lock);
    FolderLock::acquire(folder.path()).unwrap();
}

#[test]
fn the_lock_file_is_its_owners_alone_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lock = FolderLock::acquire(folder.path().join("new")).unwrap();
    let path = lock.path().to_owned();
    drop(lock);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let above = std::fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(above.permissions().mode() & 0o7777, 0o700);
}

#[test]
fn fault47_a_planted_link_is_not_locked() {
    let folder = tempfile::tempdir().unwrap();
    symlink("elsewhere", folder.path().join(FolderLock::FILE_NAME)).unwrap();
    let refused = FolderLock::acquire(folder.path()).unwrap_err();
    assert!(matches!(refused, FolderLockError::Io { .. }), "{refused:?}");
    assert!(!folder.path().join("elsewhere").exists());
}
