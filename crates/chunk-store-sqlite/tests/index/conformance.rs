//! The rules of the index, kept in memory, in a file with readers, and in a file without.

use chunk_store_sqlite::{SqliteChunkStore, SqliteOptions};

async fn in_a_file(readers: usize) -> (SqliteChunkStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteOptions::new(folder.path().join("index.db")).readers(readers);
    let opened = SqliteChunkStore::open_with(options)
        .await
        .expect("an index");
    (opened.store, folder)
}

chunk_testkit::chunk_store_conformance!(
    memory,
    (SqliteChunkStore::in_memory().await.expect("an index"), ())
);
chunk_testkit::chunk_store_conformance!(file, in_a_file(3).await);
chunk_testkit::chunk_store_conformance!(file_without_readers, in_a_file(0).await);

chunk_testkit::tally_store_conformance!(
    memory_tally,
    (SqliteChunkStore::in_memory().await.expect("an index"), ())
);
chunk_testkit::tally_store_conformance!(file_tally, in_a_file(3).await);
