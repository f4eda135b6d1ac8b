//! What a recorded chunk costs: the number stands in the crate's front page, and here it is held.

use crate::samples::{film, record};
use chunk_core::{ByteRange, Priority};
use chunk_ports::{ChunkStore, JobRange, StoreWrite, Tally, TallyStore};
use chunk_store_sqlite::{SqliteChunkStore, SqliteOptions, Statistics};

/// Begin, one look at the generation, commit.
const PER_COMMIT: u64 = 3;
/// The same of rows of a generation of which there were rows in a commit before.
const PER_NEXT_COMMIT: u64 = 2;

async fn cost(store: &SqliteChunkStore, writes: Vec<StoreWrite>) -> (u64, u64, u64) {
    // The first transaction after another kind sets its durability, once.
    store
        .commit(vec![StoreWrite::RemoveGeneration(
            chunk_core::GenerationId::new(999),
        )])
        .await
        .expect("nothing");
    let before: Statistics = store.statistics();
    store.commit(writes).await.expect("committed");
    let after = store.statistics();
    (
        after.statements - before.statements,
        after.rows - before.rows,
        after.transactions - before.transactions,
    )
}

#[tokio::test]
async fn r28_a_chunk_is_one_row_and_a_fiftieth_of_a_statement() {
    let store = SqliteChunkStore::in_memory().await.expect("an index");
    let (_, film) = film(&store, "/a", 1).await;
    let mut first = 0;
    let mut others = PER_COMMIT;
    for n in [1_u32, 2, 99, 100, 101, 250, 1_000] {
        let writes = (first..first + n)
            .map(|segment| record(film, segment))
            .collect();
        first += n;
        // For each hundred their rows, and the sum of their generation.
        let hundreds = u64::from(n).div_ceil(100);
        let expected = (2 * hundreds + others, u64::from(n) + hundreds, 1);
        assert_eq!(cost(&store, writes).await, expected, "{n} segments");
        others = PER_NEXT_COMMIT;
    }
    let rows = store.segments(film).await.expect("segments").len();
    assert_eq!(rows, first as usize, "one row a segment");
}

#[tokio::test]
async fn r28_recording_a_chunk_again_is_one_row_too() {
    let store = SqliteChunkStore::in_memory().await.expect("an index");
    let (_, film) = film(&store, "/a", 1).await;
    for others in [PER_COMMIT, PER_NEXT_COMMIT] {
        let writes = (0..10).map(|segment| record(film, segment)).collect();
        assert_eq!(cost(&store, writes).await, (2 + others, 11, 1));
    }
}

#[tokio::test]
async fn r28_touching_and_removing_are_two_statements_whatever_the_number() {
    let store = SqliteChunkStore::in_memory().await.expect("an index");
    let (entry, film) = film(&store, "/a", 1).await;
    let all: Vec<_> = (0..500).collect();
    let writes = all.iter().map(|&segment| record(film, segment)).collect();
    store.commit(writes).await.expect("recorded");
    let touch = StoreWrite::Touch {
        entry,
        generation: film,
        segments: all.clone(),
        at_unix: 7,
    };
    // The entry's row and its segments'.
    assert_eq!(cost(&store, vec![touch]).await, (2 + PER_COMMIT, 501, 1));
    let remove = StoreWrite::RemoveSegments {
        generation: film,
        segments: all,
    };
    // The sum of their generation, and their rows.
    assert_eq!(cost(&store, vec![remove]).await, (4, 501, 1));
}

#[tokio::test]
async fn r28_a_thousand_jobs_are_ten_statements() {
    let store = SqliteChunkStore::in_memory().await.expect("an index");
    let (entry, _) = film(&store, "/a", 1).await;
    let jobs = (0..1_000)
        .map(|n| JobRange {
            range: ByteRange::with_len(n * 10, 5).expect("a range"),
            priority: Priority::Low,
            sequence: n,
        })
        .collect();
    let replace = StoreWrite::ReplaceJobs { entry, jobs };
    // Begin, the removal of the former ones, ten insertions, commit.
    assert_eq!(cost(&store, vec![replace]).await, (13, 1_000, 1));
}

#[tokio::test]
async fn r28_keeping_what_was_counted_is_one_row_and_nothing_per_chunk() {
    let store = SqliteChunkStore::in_memory().await.expect("an index");
    store.keep_tally(Tally::default()).await.expect("kept");
    let before = store.statistics();
    let tally = Tally {
        hits: 1,
        ..Tally::default()
    };
    store.keep_tally(tally).await.expect("kept");
    let after = store.statistics();
    // Begin, the row, commit.
    assert_eq!(after.statements - before.statements, 3);
    assert_eq!(after.rows - before.rows, 1);
}

#[tokio::test]
async fn a_start_does_not_read_chunks() {
    let store = SqliteChunkStore::in_memory().await.expect("an index");
    let (_, film) = film(&store, "/a", 1).await;
    for first in (0..2_000).step_by(500) {
        let writes = (first..first + 500)
            .map(|segment| record(film, segment))
            .collect();
        store.commit(writes).await.expect("recorded");
    }
    let before = store.statistics();
    let entries = store.entries().await.expect("entries");
    let after = store.statistics();
    assert_eq!(after.statements - before.statements, 1);
    let recorded = entries.iter().filter_map(|entry| entry.current.as_ref());
    assert_eq!(
        recorded.map(|current| current.recorded_bytes).sum::<u64>(),
        2_000 * crate::samples::SEGMENT_SIZE
    );
}

/// What a commit leaves in the log is moved into the main file in a reader's thread, long before the writer would do it.
#[tokio::test]
async fn the_log_is_moved_while_nobody_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let options = SqliteOptions::new(&path).readers(1);
    let opened = SqliteChunkStore::open_with(options).await;
    let store = opened.expect("an index").store;
    let (_, film) = film(&store, "/a", 1).await;
    let length = || path.metadata().expect("a file").len();
    let before = length();
    for first in (0..2_000).step_by(100) {
        let writes = (first..first + 100)
            .map(|segment| record(film, segment))
            .collect();
        store.commit(writes).await.expect("recorded");
    }
    // The one reader answers when it is done with that.
    let rows = store.segments(film).await.expect("segments").len();
    assert_eq!(rows, 2_000);
    assert!(length() >= before + 100_000, "{} {before}", length());
    let log = folder.path().join("index.db-wal");
    let log = log.metadata().expect("a log").len();
    assert!(log < 4_000_000, "{log}: the writer had to do it");
}
