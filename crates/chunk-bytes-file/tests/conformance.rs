//! The file byte store keeps the contract of the byte store port.

use std::num::NonZeroUsize;

use chunk_bytes_file::{FileByteStore, FileByteStoreOptions};
use chunk_store_memory::MemoryByteStore;
use tempfile::TempDir;

async fn fresh() -> (FileByteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (FileByteStore::open(folder.path()).unwrap(), folder)
}

/// Two open files at most, so that every rule meets files that are closed and opened again.
async fn with_few_descriptors() -> (FileByteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStoreOptions::new()
        .max_open_files(NonZeroUsize::new(2).unwrap())
        .open(folder.path())
        .unwrap();
    (store, folder)
}

mod with_the_defaults {
    use super::fresh;
    chunk_testkit::byte_store_conformance!(fresh);
}

mod with_two_descriptors {
    use super::with_few_descriptors;
    chunk_testkit::byte_store_conformance!(with_few_descriptors);
}

#[test]
fn agrees_with_the_memory_store_under_random_operations() {
    chunk_testkit::byte_store::assert_like_model(64, fresh, MemoryByteStore::new);
}

#[test]
fn agrees_with_the_memory_store_when_descriptors_are_few() {
    chunk_testkit::byte_store::assert_like_model(64, with_few_descriptors, MemoryByteStore::new);
}
