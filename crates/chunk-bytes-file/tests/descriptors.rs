//! The store's appetite for descriptors. Both tests concern the whole process, so that one waits for the
//! other, and they have this binary to themselves.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use chunk_bytes_file::{FileByteStore, FileByteStoreOptions};
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
use chunk_testkit::byte_store::content::{assert_right, bytes_at};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

const MOST: usize = 16;

/// Runs one test at a time, its runtime included, because that has descriptors of its own.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(test);
}

fn store() -> (FileByteStore, TempDir) {
    // In memory where the system has such a folder: thousands of flushes need no disk to be counted.
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let store = FileByteStoreOptions::new()
        .max_open_files(NonZeroUsize::new(MOST).unwrap())
        .open(folder.path())
        .unwrap();
    (store, folder)
}

fn key(number: u64) -> SegmentKey {
    SegmentKey {
        generation: GenerationId::new(number % 50),
        segment: number as u32,
        epoch: 0,
    }
}

async fn write(store: &FileByteStore, key: SegmentKey) -> Result<(), ByteStoreError> {
    store.write(key, 0, vec![bytes_at(key, 0, 100)]).await
}

/// The descriptors of this process, where the system lists them.
fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

#[test]
fn fault39_descriptors_stay_flat_over_thousands_of_segments() {
    alone(stay_flat());
}

async fn stay_flat() {
    let (store, _folder) = store();
    let before = descriptors();
    for number in 0..2_000 {
        write(&store, key(number)).await.unwrap();
        let earlier = key(number / 2);
        let found = store.read(earlier, 0, 100).await.unwrap().unwrap();
        assert_right(earlier, 0, &found);
        assert!(store.open_files() <= MOST, "{}", store.open_files());
    }
    // Many at once may have half as many more open for a moment, and give them back.
    let most = AtomicUsize::new(0);
    join_all((0..200).map(async |number| {
        let read = store.read(key(number), 0, 100).await;
        most.fetch_max(store.open_files(), Ordering::Relaxed);
        read
    }))
    .await;
    assert!(most.into_inner() <= MOST + MOST / 2);
    store.read(key(500), 0, 100).await.unwrap();
    assert!(store.open_files() <= MOST, "{}", store.open_files());
    if let (Some(before), Some(after)) = (before, descriptors()) {
        assert!(after <= before + MOST, "{before} before, {after} after");
    }
    let all = (0..2_000).map(key).collect();
    store.remove(all).await.unwrap();
    assert_eq!(store.open_files(), 0);
    assert_eq!(descriptors(), before);
}

#[test]
fn fault19_without_descriptors_the_store_is_unavailable_and_recovers() {
    alone(recovers());
}

async fn recovers() {
    let (store, folder) = store();
    for number in 0..3 {
        write(&store, key(number)).await.unwrap();
    }
    // Of this one, only 2 is open; 0 would have to be opened.
    let reopened = FileByteStore::open(folder.path()).unwrap();
    assert!(reopened.read(key(2), 0, 100).await.unwrap().is_some());

    let limit = getrlimit(Resource::Nofile);
    let none_left = Rlimit {
        // Descriptors already open stay usable; every number for a new one is beyond the limit.
        current: Some(0),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    let open = reopened.read(key(2), 0, 100).await;
    let closed = reopened.read(key(0), 0, 100).await;
    let written = write(&reopened, key(7)).await;
    let listed = reopened.generations().await;
    setrlimit(Resource::Nofile, limit).unwrap();

    assert_right(key(2), 0, &open.unwrap().unwrap());
    for error in [
        closed.unwrap_err(),
        written.unwrap_err(),
        listed.unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error:?}");
    }
    let found = reopened.read(key(0), 0, 100).await.unwrap().unwrap();
    assert_right(key(0), 0, &found);
    write(&reopened, key(7)).await.unwrap();
}
