//! The schema holds the index together even against hands other than the store's.

use std::path::Path;

use chunk_ports::{ChunkStore, StoreWrite};
use chunk_store_sqlite::SqliteChunkStore;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _, SqliteConnection};

use crate::samples::{SEGMENT_SIZE, film, record};

/// A file with one entry (1), one generation (1) of it, a row for segment 3, and a job.
async fn filled(path: &Path) -> SqliteConnection {
    let store = SqliteChunkStore::open(path).await.expect("an index").store;
    let (entry, film) = film(&store, "/a", 1).await;
    let jobs = vec![chunk_ports::JobRange {
        range: chunk_core::ByteRange::new(100, 200).expect("a range"),
        priority: chunk_core::Priority::Low,
        sequence: 1,
    }];
    store
        .commit(vec![
            record(film, 3),
            StoreWrite::ReplaceJobs { entry, jobs },
        ])
        .await
        .expect("written");
    store.close().await.expect("closed");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options)
        .await
        .expect("a connection")
}

fn chunk(segment: i64, start: u64, end: u64, rest: &str) -> String {
    format!(
        "INSERT INTO cache_chunks (generation_id, segment_index, epoch, start_byte, end_byte, \
         recorded_bytes, accessed_unix, blocks, checksums) \
         VALUES (1, {segment}, 0, {start}, {end}, {rest})"
    )
}

fn queued(start: i64, end: i64, priority: i64) -> String {
    format!("INSERT INTO cache_download_queue VALUES (1, {start}, {end}, {priority}, 1)")
}

#[tokio::test]
async fn what_breaks_a_rule_does_not_enter() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut hand = filled(&folder.path().join("index.db")).await;
    let good = "10, 1, x'01', x'00000000'";
    let refused = [
        (
            "a second row for a segment",
            chunk(3, 3 * SEGMENT_SIZE, 3 * SEGMENT_SIZE + 9, good),
        ),
        ("a negative segment", chunk(-1, 0, 9, good)),
        ("an end before the start", chunk(0, 9, 8, good)),
        (
            "more bytes than its extent",
            chunk(0, 0, 9, "11, 1, x'01', x'00000000'"),
        ),
        ("no byte", chunk(0, 0, 9, "0, 1, x'01', x'00000000'")),
        ("no block", chunk(0, 0, 9, "10, 1, x'', x'00000000'")),
        ("half a checksum", chunk(0, 0, 9, "10, 1, x'01', x'0000'")),
        (
            "a text for a number",
            chunk(0, 0, 9, "'ten', 1, x'01', x'00000000'"),
        ),
        (
            "a row of no generation",
            chunk(0, 0, 9, good).replace("(1, 0", "(99, 0"),
        ),
        ("an overlap at the start", queued(50, 100, 3)),
        ("an overlap at the end", queued(199, 300, 3)),
        ("an overlap inside", queued(120, 130, 3)),
        ("an overlap around", queued(0, 1_000, 3)),
        ("a level that is not durable", queued(300, 400, 1)),
        ("a level there is not", queued(300, 400, 4)),
        ("an end before its start", queued(400, 300, 3)),
        (
            "a job of no entry",
            queued(300, 400, 3).replace("(1, ", "(99, "),
        ),
        (
            "a job that grows",
            "UPDATE cache_download_queue SET end_byte = 900".to_owned(),
        ),
        (
            "a key twice",
            "INSERT INTO cache_entries (origin, path, query, partition, accessed_unix) \
            VALUES ('films', '/a', '', '', 1)"
                .to_owned(),
        ),
        (
            "two current generations",
            "INSERT INTO cache_generations (entry_id, is_current, nonce, \
            accepts_ranges, segment_size, validated_unix, fresh_until_unix) \
            VALUES (1, 1, 2, 1, 65536, 0, 0)"
                .to_owned(),
        ),
        (
            "half a time",
            "UPDATE cache_generations SET last_modified_unix = 1".to_owned(),
        ),
        (
            "more recorded than there is",
            "UPDATE cache_generations SET total_len = 1".to_owned(),
        ),
    ];
    for (why, sql) in refused {
        let outcome = hand.execute(AssertSqlSafe(sql)).await;
        assert!(outcome.is_err(), "{why} was accepted");
    }
    for sql in [chunk(0, 0, 9, good), queued(0, 99, 3), queued(200, 300, 2)] {
        hand.execute(AssertSqlSafe(sql.clone()))
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// What another program, or a later version of this one, finds.
#[tokio::test]
async fn a_chunks_row_is_written_as_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut hand = filled(&folder.path().join("index.db")).await;
    let row = sqlx::query("SELECT * FROM cache_chunks")
        .fetch_one(&mut hand)
        .await
        .expect("a row");
    let number = |name: &str| row.get::<i64, _>(name);
    let start = 3 * i64::try_from(SEGMENT_SIZE).expect("a size");
    assert_eq!(number("segment_index"), 3);
    assert_eq!(number("start_byte"), start);
    let length = i64::try_from(SEGMENT_SIZE).expect("a size");
    assert_eq!(number("end_byte"), start + length - 1, "inclusive");
    assert_eq!(number("recorded_bytes"), length);
    assert_eq!(row.get::<&[u8], _>("blocks"), [0b11]);
    assert_eq!(
        row.get::<&[u8], _>("checksums"),
        [3, 0, 0, 0, 0xFC, 0xFF, 0xFF, 0xFF],
        "little-endian"
    );
    let job = sqlx::query("SELECT * FROM cache_download_queue")
        .fetch_one(&mut hand)
        .await
        .expect("a row");
    assert_eq!(
        ["start_byte", "end_byte", "priority"].map(|name| job.get::<i64, _>(name)),
        [100, 199, 3]
    );
}

#[tokio::test]
async fn every_table_is_strict() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut hand = filled(&folder.path().join("index.db")).await;
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "SELECT name, strict FROM pragma_table_list WHERE name LIKE 'cache_%' ORDER BY name",
    )
    .fetch_all(&mut hand)
    .await
    .expect("tables");
    let names: Vec<_> = tables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "cache_chunks",
            "cache_download_queue",
            "cache_entries",
            "cache_generations",
            "cache_tally"
        ]
    );
    assert!(tables.iter().all(|&(_, strict)| strict));
}
