//! Every statement of the store, so that one test can hold them all against the schema.

use std::sync::LazyLock;

/// Rows in the largest multi-row statement. Nine columns a row stay far below SQLite's 32,766
/// parameters, and beyond a hundred rows the cost of a statement no longer shows.
pub(crate) const ROWS_PER_STATEMENT: usize = 100;

macro_rules! entry_query {
    ($rest:literal) => {
        concat!(
            "SELECT e.entry_id, e.origin, e.path, e.query, e.partition, e.pinned, e.accessed_unix, \
             g.generation_id, g.nonce, g.total_len, g.etag, g.last_modified_unix, \
             g.last_modified_strong, g.content_type, g.accepts_ranges, g.segment_size, \
             g.validated_unix, g.fresh_until_unix, g.must_revalidate, g.recorded_bytes \
             FROM cache_entries AS e LEFT JOIN cache_generations AS g \
             ON g.entry_id = e.entry_id AND g.is_current = 1 ",
            $rest
        )
    };
}

// Pragmas of this kind take effect while they are compiled: run them without the statement cache.
macro_rules! sync_at_checkpoints {
    () => {
        "PRAGMA synchronous = NORMAL"
    };
}

macro_rules! entry_by_key {
    () => {
        entry_query!("WHERE e.origin = ?1 AND e.path = ?2 AND e.query = ?3 AND e.partition = ?4")
    };
}

macro_rules! shape_query {
    () => {
        "SELECT entry_id, segment_size, total_len FROM cache_generations WHERE generation_id = ?1"
    };
}

macro_rules! statements {
    ($($name:ident = $sql:expr;)+) => {
        $(pub(crate) const $name: &str = $sql;)+

        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($name),+];
    };
}

statements! {
    BEGIN = "BEGIN IMMEDIATE";
    COMMIT = "COMMIT";
    // Two statements in one journey to SQLite's thread.
    BEGIN_WITH_SHAPE = concat!("BEGIN IMMEDIATE; ", shape_query!());
    ROLLBACK = "ROLLBACK";
    SYNC_AT_CHECKPOINTS = sync_at_checkpoints!();
    SYNC_AT_COMMITS = "PRAGMA synchronous = FULL";
    CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)";
    CHECKPOINT_ASIDE = "PRAGMA wal_checkpoint(PASSIVE)";
    CHECK_EVERYTHING = "PRAGMA integrity_check(1)";

    HAS_SCHEMA = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";

    ENTRIES = entry_query!("ORDER BY e.entry_id");
    ENTRY_BY_KEY = entry_by_key!();
    ENTRY_EXISTS = "SELECT 1 FROM cache_entries WHERE entry_id = ?1";
    // Five statements in one journey to SQLite's thread, because whoever opens a new film waits for it.
    ADD_ENTRY = concat!(
        sync_at_checkpoints!(),
        "; BEGIN IMMEDIATE; \
         INSERT INTO cache_entries (origin, path, query, partition, accessed_unix) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING; ",
        entry_by_key!(),
        "; COMMIT"
    );
    PIN_ENTRY = "UPDATE cache_entries SET pinned = ?2 WHERE entry_id = ?1";
    TOUCH_ENTRY = "UPDATE cache_entries SET accessed_unix = ?2 WHERE entry_id = ?1";
    REMOVE_ENTRY = "DELETE FROM cache_entries WHERE entry_id = ?1";

    GENERATION_BY_NONCE = "SELECT entry_id, generation_id, nonce, total_len, etag, \
        last_modified_unix, last_modified_strong, content_type, accepts_ranges, segment_size, \
        validated_unix, fresh_until_unix, must_revalidate, recorded_bytes FROM cache_generations \
        WHERE nonce = ?1";
    SHAPE = shape_query!();
    RETIRED = "SELECT generation_id FROM cache_generations WHERE is_current = 0 \
        ORDER BY generation_id";
    RETIRE_CURRENT = "UPDATE cache_generations SET is_current = 0 \
        WHERE entry_id = ?1 AND is_current = 1";
    MAKE_CURRENT = "UPDATE cache_generations SET is_current = 1 WHERE generation_id = ?1";
    ADD_GENERATION = "INSERT INTO cache_generations (entry_id, is_current, nonce, total_len, etag, \
        last_modified_unix, last_modified_strong, content_type, accepts_ranges, segment_size, \
        validated_unix, fresh_until_unix, must_revalidate) \
        VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) RETURNING generation_id";
    SET_LENGTH = "UPDATE cache_generations SET total_len = ?2 WHERE generation_id = ?1";
    REFRESH = "UPDATE cache_generations SET validated_unix = ?2, fresh_until_unix = ?3, \
        must_revalidate = ?4 WHERE generation_id = ?1";
    REMOVE_GENERATION = "DELETE FROM cache_generations WHERE generation_id = ?1";

    // Columns as lists, all of one length and in one order: SQLite works in a thread of its own, and each row that it
    // hands over costs several times what reading it does. Nothing promises which order that is.
    SEGMENTS = "SELECT group_concat(segment_index, ' ') AS segment_indices, \
        group_concat(epoch, ' ') AS epochs, group_concat(hex(blocks), ' ') AS blocks, \
        group_concat(recorded_bytes, ' ') AS recorded_bytes, \
        group_concat(accessed_unix, ' ') AS accessed_unix \
        FROM cache_chunks WHERE generation_id = ?1";
    SEGMENT = "SELECT generation_id, segment_index, epoch, start_byte, end_byte, blocks, checksums, \
        recorded_bytes, accessed_unix FROM cache_chunks \
        WHERE generation_id = ?1 AND segment_index = ?2";
    // A list of any length is one parameter, which keeps the number of statements constant.
    TOUCH_SEGMENTS = "UPDATE cache_chunks SET accessed_unix = ?3 \
        WHERE generation_id = ?1 AND segment_index IN (SELECT value FROM json_each(?2))";
    // The sum goes before the rows do: afterwards nothing tells what they had.
    REMOVE_SEGMENTS = "UPDATE cache_generations SET recorded_bytes = recorded_bytes - \
        (SELECT coalesce(sum(recorded_bytes), 0) FROM cache_chunks \
        WHERE generation_id = ?1 AND segment_index IN (SELECT value FROM json_each(?2))) \
        WHERE generation_id = ?1; \
        DELETE FROM cache_chunks \
        WHERE generation_id = ?1 AND segment_index IN (SELECT value FROM json_each(?2))";

    JOBS = "SELECT e.entry_id, e.origin, e.path, e.query, e.partition, q.start_byte, q.end_byte, \
        q.priority, q.sequence FROM cache_download_queue AS q \
        JOIN cache_entries AS e ON e.entry_id = q.entry_id \
        ORDER BY q.sequence, q.entry_id, q.start_byte";
    TALLY = "SELECT bytes_served, bytes_served_from_cache, bytes_from_origin, bytes_wasted, hits, misses, \
        origin_requests, evicted_bytes, checksum_failures FROM cache_tally";
    KEEP_TALLY = "INSERT OR REPLACE INTO cache_tally (tally_id, bytes_served, bytes_served_from_cache, \
        bytes_from_origin, bytes_wasted, hits, misses, origin_requests, evicted_bytes, checksum_failures) \
        VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

    REMOVE_JOBS = "DELETE FROM cache_download_queue WHERE entry_id = ?1";
}

/// Asks for the newest migration that was applied; its table exists only where [`HAS_SCHEMA`] says so.
pub(crate) const SCHEMA_VERSION: &str = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";

/// `RECORD_SEGMENTS[n - 1]` is a transaction that writes `n` rows of a generation, whatever was there. Before it does, it
/// moves the generation's sum by what they have more than those that they replace.
static RECORD_SEGMENTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    multi_row(
        "BEGIN IMMEDIATE; UPDATE cache_generations SET recorded_bytes = recorded_bytes + ? - \
         (SELECT coalesce(sum(recorded_bytes), 0) FROM cache_chunks \
         WHERE generation_id = ? AND segment_index IN (SELECT value FROM json_each(?))) \
         WHERE generation_id = ?; \
         INSERT INTO cache_chunks (generation_id, segment_index, epoch, start_byte, end_byte, \
         recorded_bytes, accessed_unix, blocks, checksums) VALUES ",
        "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        " ON CONFLICT (generation_id, segment_index) DO UPDATE SET epoch = excluded.epoch, \
         start_byte = excluded.start_byte, end_byte = excluded.end_byte, \
         recorded_bytes = excluded.recorded_bytes, accessed_unix = excluded.accessed_unix, \
         blocks = excluded.blocks, checksums = excluded.checksums; COMMIT",
    )
});

const AFTER_BEGIN: &str = "BEGIN IMMEDIATE; ";
const THEN_COMMIT: &str = "; COMMIT";

/// `ADD_JOBS[n - 1]` adds `n` rows.
static ADD_JOBS: LazyLock<Vec<String>> = LazyLock::new(|| {
    multi_row(
        "INSERT INTO cache_download_queue (entry_id, start_byte, end_byte, priority, sequence) \
         VALUES ",
        "(?, ?, ?, ?, ?)",
        "",
    )
});

/// The transaction that records `rows` segments of a generation, four statements; `None` for 0 and above
/// [`ROWS_PER_STATEMENT`].
pub(crate) fn record_segments_at_once(rows: usize) -> Option<&'static str> {
    of_rows(&RECORD_SEGMENTS, rows)
}

/// The same in a transaction that has begun.
pub(crate) fn record_segments_and_commit(rows: usize) -> Option<&'static str> {
    record_segments_at_once(rows)?.strip_prefix(AFTER_BEGIN)
}

/// The same in a transaction that goes on.
pub(crate) fn record_segments(rows: usize) -> Option<&'static str> {
    record_segments_and_commit(rows)?.strip_suffix(THEN_COMMIT)
}

/// The statement that adds `rows` jobs; `None` for 0 and above [`ROWS_PER_STATEMENT`].
pub(crate) fn add_jobs(rows: usize) -> Option<&'static str> {
    of_rows(&ADD_JOBS, rows)
}

fn of_rows(statements: &'static LazyLock<Vec<String>>, rows: usize) -> Option<&'static str> {
    statements.get(rows.checked_sub(1)?).map(String::as_str)
}

fn multi_row(head: &str, row: &str, tail: &str) -> Vec<String> {
    (1..=ROWS_PER_STATEMENT)
        .map(|rows| format!("{head}{}{tail}", vec![row; rows].join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use sqlx::{Executor as _, SqlSafeStr as _};

    use super::*;
    use crate::open::MIGRATIONS;

    /// The queries are texts that no compiler has read.
    #[tokio::test]
    async fn every_statement_fits_the_schema() {
        let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(":memory:")
            .await
            .expect("a database in memory");
        MIGRATIONS
            .run_direct(None, &mut connection, false)
            .await
            .expect("the schema");
        let multi_row = (1..=ROWS_PER_STATEMENT)
            .flat_map(|rows| [record_segments(rows), add_jobs(rows)])
            .map(|sql| sql.expect("a statement for every number of rows"));
        let all = ALL.iter().copied().chain([SCHEMA_VERSION]).chain(multi_row);
        for sql in all {
            if let Err(error) = connection.prepare(sql.into_sql_str()).await {
                panic!("{sql}: {error}");
            }
        }
    }

    #[test]
    fn there_is_no_statement_for_no_row_or_too_many() {
        assert_eq!(record_segments(0), None);
        assert_eq!(record_segments(ROWS_PER_STATEMENT + 1), None);
        assert_eq!(
            add_jobs(2).map(|sql| sql.matches("(?, ?, ?, ?, ?)").count()),
            Some(2)
        );
    }
}
