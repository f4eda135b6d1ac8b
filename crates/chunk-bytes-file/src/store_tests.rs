//! Faults that can be made by giving the store a file that is none.

use std::fs::File;

use super::*;

const KEY: SegmentKey = SegmentKey {
    generation: GenerationId::new(1),
    segment: 0,
    epoch: 0,
};

fn store(most: usize) -> (FileByteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStoreOptions::new()
        .max_open_files(NonZeroUsize::new(most).unwrap())
        .open(folder.path())
        .unwrap();
    (store, folder)
}

/// Puts a device in the place of the segment's file.
fn plant(store: &FileByteStore, key: SegmentKey, device: &str) {
    let file = File::options().read(true).write(true).open(device).unwrap();
    let descriptors = &store.shared.descriptors;
    descriptors.forget(&[key]);
    let planted = descriptors.insert(Segment::new(key, file), descriptors.mark());
    assert!(planted.is_some());
}

fn text() -> Vec<Bytes> {
    vec![Bytes::from_static(b"text")]
}

/// Where the file system keeps such times at all.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn reading_leaves_the_time_of_the_last_access_alone() {
    use std::time::{Duration, SystemTime};

    let (store, folder) = store(4);
    store.write(KEY, 0, text()).await.unwrap();
    let file = File::options()
        .write(true)
        .open(folder.path().join("01/1/0-0.seg"))
        .unwrap();
    let accessed = || file.metadata().unwrap().accessed().unwrap();
    // Longer ago than the last write, which has the kernel set it at the next read.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = std::fs::FileTimes::new().set_accessed(long_ago);
    file.set_times(times).unwrap();
    assert_eq!(accessed(), long_ago);
    let read = store.read(KEY, 0, 4).await.unwrap().unwrap();
    assert_eq!(&read[..], b"text");
    assert_eq!(accessed(), long_ago);
}

#[tokio::test]
async fn fault15_a_write_without_room_is_full() {
    let (store, _folder) = store(4);
    plant(&store, KEY, "/dev/full");
    let full = store.write(KEY, 0, text()).await.unwrap_err();
    assert!(matches!(full, ByteStoreError::Full(_)), "{full:?}");
}

#[tokio::test]
async fn fault16_a_failed_flush_is_final_across_descriptors() {
    let (store, _folder) = store(4);
    store.write(KEY, 0, text()).await.unwrap();
    // The null device cannot be flushed.
    plant(&store, KEY, "/dev/null");
    assert!(store.flush(KEY).await.is_err());
    // Back to the real file, which could.
    store.shared.descriptors.forget(&[KEY]);
    let again = store.flush(KEY).await.unwrap_err();
    assert!(matches!(again, ByteStoreError::Corrupt(_)), "{again:?}");
    assert!(!again.is_retryable());
    // Only that segment: a new epoch of it is as good as any.
    let fresh = SegmentKey { epoch: 1, ..KEY };
    store.write(fresh, 0, text()).await.unwrap();
    store.flush(fresh).await.unwrap();
}

#[tokio::test]
async fn fault16_of_two_flushes_at_once_both_fail() {
    let (store, _folder) = store(4);
    plant(&store, KEY, "/dev/null");
    let (first, second) = futures_util::future::join(store.flush(KEY), store.flush(KEY)).await;
    assert!(first.is_err() && second.is_err());
}

#[tokio::test]
async fn fault16_a_flush_that_fails_on_closing_is_told_by_the_next() {
    let (store, _folder) = store(1);
    plant(&store, KEY, "/dev/null");
    store.write(KEY, 0, text()).await.unwrap();
    // Opening another segment closes the first, whose bytes were never flushed.
    let other = SegmentKey { segment: 1, ..KEY };
    store.write(other, 0, text()).await.unwrap();
    assert_eq!(store.open_files(), 1);
    let told = store.flush(KEY).await.unwrap_err();
    assert!(matches!(told, ByteStoreError::Corrupt(_)), "{told:?}");
    store.flush(other).await.unwrap();
}

#[tokio::test]
async fn fault32_whoever_has_a_segment_reads_on_after_its_removal() {
    let (store, _folder) = store(1);
    store.write(KEY, 0, text()).await.unwrap();
    let held = store.shared.find(KEY).unwrap().unwrap();
    store.remove(vec![KEY]).await.unwrap();
    assert_eq!(held.read(0, 10, Vec::new()).unwrap(), b"text");
    assert_eq!(store.read(KEY, 0, 10).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_opened_before_a_removal_is_not_kept_after_it() {
    let (store, folder) = store(4);
    store.write(KEY, 0, text()).await.unwrap();
    let descriptors = &store.shared.descriptors;
    let mark = descriptors.mark();
    let file = File::open(folder.path().join("01/1/0-0.seg")).unwrap();
    store.remove(vec![KEY]).await.unwrap();
    assert!(descriptors.insert(Segment::new(KEY, file), mark).is_none());
    assert_eq!(store.read(KEY, 0, 10).await.unwrap(), None);
}

#[tokio::test]
async fn the_least_recently_used_file_is_closed_and_one_in_use_is_not() {
    let (store, _folder) = store(2);
    let keys: Vec<_> = (0..4)
        .map(|segment| SegmentKey { segment, ..KEY })
        .collect();
    for key in &keys[..2] {
        store.write(*key, 0, text()).await.unwrap();
        store.flush(*key).await.unwrap();
    }
    let used = store.shared.find(keys[0]).unwrap();
    store.write(keys[2], 0, text()).await.unwrap();
    let open = |key| store.shared.descriptors.find(key).is_some();
    assert!(open(keys[0]) && !open(keys[1]) && open(keys[2]));
    store.flush(keys[2]).await.unwrap();
    drop(used);
    // Asked in this order, 0 was used before 2.
    assert!(open(keys[2]) && open(keys[0]) && open(keys[2]));
    store.write(keys[3], 0, text()).await.unwrap();
    assert!(open(keys[2]) && open(keys[3]) && !open(keys[0]));
}
