//! A file that is damaged, of another version, busy or full.

use std::path::Path;
use std::time::Duration;

use crate::samples::{film, key, record};
use chunk_ports::{ChunkStore, ChunkStoreError, StoreWrite, TallyStore};
use chunk_store_sqlite::{OpenError, SqliteChunkStore, SqliteOptions};
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

async fn open(path: &Path) -> SqliteChunkStore {
    let opened = SqliteChunkStore::open(path).await.expect("an index");
    assert_eq!(opened.set_aside, None);
    opened.store
}

async fn by_hand(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options)
        .await
        .expect("a connection")
}

/// An index of one film with many rows, closed.
async fn filled(path: &Path, rows: u32) {
    let store = open(path).await;
    let (_, film) = film(&store, "/a", 1).await;
    let writes = (0..rows).map(|segment| record(film, segment)).collect();
    store.commit(writes).await.expect("recorded");
    store.close().await.expect("closed");
}

#[tokio::test]
async fn fault20_a_busy_file_is_unavailable_and_then_available() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let options = SqliteOptions::new(&path).busy_timeout(Duration::ZERO);
    let store = SqliteChunkStore::open_with(options)
        .await
        .expect("an index")
        .store;
    let (_, film) = film(&store, "/a", 1).await;
    let mut other = by_hand(&path).await;
    other.execute("BEGIN IMMEDIATE").await.expect("begun");

    let busy = store.commit(vec![record(film, 0)]).await.expect_err("busy");
    assert!(matches!(busy, ChunkStoreError::Unavailable(_)), "{busy:?}");
    assert!(busy.is_retryable());
    assert_eq!(store.segments(film).await.expect("reads go on").len(), 0);

    other.execute("ROLLBACK").await.expect("ended");
    store
        .commit(vec![record(film, 0)])
        .await
        .expect("free again");
    assert_eq!(store.segments(film).await.expect("segments").len(), 1);
}

#[tokio::test]
async fn fault20_a_full_index_says_so_and_works_on_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let options = SqliteOptions::new(&path).max_pages(40);
    let store = SqliteChunkStore::open_with(options)
        .await
        .expect("an index")
        .store;
    let (entry, first) = film(&store, "/a", 1).await;
    let mut kept = 0;
    let full = loop {
        let writes = (kept..kept + 100)
            .map(|segment| record(first, segment))
            .collect();
        match store.commit(writes).await {
            Ok(()) => kept += 100,
            Err(error) => break error,
        }
        assert!(kept < 100_000, "forty pages hold less");
    };
    assert!(matches!(full, ChunkStoreError::Full(_)), "{full:?}");
    let rows = store.segments(first).await.expect("segments").len();
    assert_eq!(rows, kept as usize, "the batch that failed left nothing");

    store
        .commit(vec![StoreWrite::RemoveEntry(entry)])
        .await
        .expect("room is made");
    let (_, second) = film(&store, "/b", 2).await;
    store
        .commit(vec![record(second, 0)])
        .await
        .expect("and used");
    assert_eq!(store.entries().await.expect("entries").len(), 1);
}

#[tokio::test]
async fn fault21_a_file_of_something_else_is_set_aside_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    for (number, length) in [(1, 100_000), (2, 7), (3, 512)] {
        let text = vec![b'x'; length];
        std::fs::write(&path, &text).expect("written");
        let opened = SqliteChunkStore::open(&path).await.expect("an empty index");
        let aside = opened.set_aside.expect("set aside");
        assert_eq!(
            aside,
            folder.path().join(format!("index.db.damaged-{number}"))
        );
        assert_eq!(std::fs::read(&aside).expect("still there"), text);
        assert_eq!(opened.store.entries().await.expect("entries"), []);
        film(&opened.store, "/a", 1).await;
        opened.store.close().await.expect("closed");
        let store = open(&path).await;
        assert_eq!(
            store.entries().await.expect("entries").len(),
            1,
            "no crash loop"
        );
        store.close().await.expect("closed");
    }
}

#[tokio::test]
async fn fault21_a_damaged_first_page_is_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    filled(&path, 10).await;
    let mut bytes = std::fs::read(&path).expect("bytes");
    // Behind the header, so that it still looks like a database.
    bytes[100..4096].fill(0xA5);
    std::fs::write(&path, bytes).expect("written");
    let opened = SqliteChunkStore::open(&path).await.expect("an empty index");
    assert!(opened.set_aside.is_some());
    assert_eq!(opened.store.entries().await.expect("entries"), []);
}

#[tokio::test]
async fn fault21_a_file_cut_short_is_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    filled(&path, 10).await;
    let bytes = std::fs::read(&path).expect("bytes");
    std::fs::write(&path, &bytes[..4096]).expect("written");
    let opened = SqliteChunkStore::open(&path).await.expect("an empty index");
    assert!(opened.set_aside.is_some());
    assert_eq!(opened.store.entries().await.expect("entries"), []);
}

#[tokio::test]
async fn fault21_damage_among_the_chunks_is_met_once_and_set_aside_by_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    filled(&path, 5_000).await;
    let root: i64 = {
        let mut hand = by_hand(&path).await;
        let root =
            sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = 'cache_chunks'")
                .fetch_one(&mut hand)
                .await
                .expect("a page");
        hand.close().await.expect("closed");
        root
    };
    let mut bytes = std::fs::read(&path).expect("bytes");
    let start = (usize::try_from(root).expect("a page") - 1) * 4096;
    bytes[start..start + 4096].fill(0xA5);
    std::fs::write(&path, bytes).expect("written");

    // A start reads no chunk, so it does not see it.
    let store = open(&path).await;
    let film = store.entries().await.expect("entries")[0]
        .current
        .clone()
        .expect("current")
        .id;
    let damage = store.segments(film).await.expect_err("damaged");
    assert!(matches!(damage, ChunkStoreError::Corrupt(_)), "{damage:?}");
    assert!(!damage.is_retryable());
    store.close().await.expect("closed");

    let opened = SqliteChunkStore::open(&path).await.expect("an empty index");
    assert!(opened.set_aside.is_some());
    assert_eq!(opened.store.entries().await.expect("entries"), []);
    opened.store.close().await.expect("closed");
    open(&path).await;
}

#[tokio::test]
async fn fault21_a_suspicion_that_proves_wrong_costs_one_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    filled(&path, 10).await;
    let suspicion = folder.path().join("index.db.suspect");
    std::fs::write(&suspicion, []).expect("written");
    let store = open(&path).await;
    assert_eq!(store.entries().await.expect("entries").len(), 1);
    assert!(!suspicion.exists());
    store.check().await.expect("sound");
}

#[tokio::test]
async fn fault22_a_newer_schema_is_refused_in_one_line_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    filled(&path, 10).await;
    let mut hand = by_hand(&path).await;
    hand.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9001, 'later', TRUE, x'00', 0)",
    )
    .await
    .expect("a later version");
    hand.close().await.expect("closed");
    let before = std::fs::read(&path).expect("bytes");

    let refused = SqliteChunkStore::open(&path).await.expect_err("newer");
    assert!(
        matches!(
            refused,
            OpenError::NewerSchema {
                found: 9001,
                known: 4,
                ..
            }
        ),
        "{refused:?}"
    );
    let line = refused.to_string();
    assert!(line.contains("9001") && line.contains("up to 4"), "{line}");
    assert_eq!(line.lines().count(), 1);
    assert_eq!(std::fs::read(&path).expect("bytes"), before);
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "nothing was set aside: the file and the reserve");
}

/// An index as the version made it whose newest migration this is, with a film of which ten segments are recorded.
async fn of_version(path: &Path, newest: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for file in std::fs::read_dir(all).expect("migrations") {
        let file = file.expect("a migration");
        let name = file.file_name().into_string().expect("a name");
        let number: i64 = name[..4].parse().expect("a number");
        if number <= newest {
            std::fs::copy(file.path(), folder.path().join(name)).expect("copied");
        }
    }
    let migrations = Migrator::new(folder.path()).await.expect("migrations");
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut hand = SqliteConnection::connect_with(&options)
        .await
        .expect("a connection");
    migrations
        .run_direct(None, &mut hand, false)
        .await
        .expect("the schema");
    hand.execute(
        "INSERT INTO cache_entries (origin, path, query, partition, accessed_unix) \
         VALUES ('films', '/a', '', '', 10)",
    )
    .await
    .expect("an entry");
    hand.execute(
        "INSERT INTO cache_generations (entry_id, is_current, nonce, total_len, accepts_ranges, \
         segment_size, validated_unix, fresh_until_unix) VALUES (1, 1, 1, 1000000000, 1, 131072, 0, 0)",
    )
    .await
    .expect("a generation");
    hand.execute(
        "INSERT INTO cache_chunks SELECT 1, value, 0, value * 131072, value * 131072 + 65535, 65536, 1, \
         x'01', x'00000000' FROM json_each('[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]')",
    )
    .await
    .expect("ten segments");
    // So far it was that version that kept the sum.
    let sums = "UPDATE cache_generations SET recorded_bytes = 655360 WHERE recorded_bytes = 0";
    let kept = hand.execute(sums).await.expect("a sum").rows_affected();
    assert_eq!(kept > 0, newest > 3);
    hand.close().await.expect("closed");
}

#[tokio::test]
async fn fault22_a_file_of_any_earlier_version_is_brought_up_to_date_and_loses_nothing() {
    for version in 1..=4 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("index.db");
        of_version(&path, version).await;
        let store = open(&path).await;
        let current = async || {
            let entries = store.entries().await.expect("entries");
            entries[0].current.clone().expect("current")
        };
        let film = current().await;
        assert!(!film.freshness.must_revalidate);
        assert_eq!(store.segments(film.id).await.expect("rows").len(), 10);
        let nothing = chunk_ports::Tally::default();
        assert_eq!(store.tally().await.expect("a tally"), nothing);

        // The sum goes on from what it was: it is moved once by each write, whoever moved it before.
        let block = chunk_core::BLOCK_SIZE;
        assert_eq!(film.recorded_bytes, 10 * block, "version {version}");
        let again = vec![record(film.id, 3), record(film.id, 70)];
        store.commit(again).await.expect("recorded");
        assert_eq!(current().await.recorded_bytes, 13 * block);
        let remove = StoreWrite::RemoveSegments {
            generation: film.id,
            segments: vec![0, 3, 50],
        };
        store.commit(vec![remove]).await.expect("removed");
        assert_eq!(current().await.recorded_bytes, 10 * block);
    }
}

#[tokio::test]
async fn fault22_a_file_before_the_first_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    // A kill between the list of versions and the first of them leaves this.
    let mut hand = SqliteConnection::connect_with(
        &SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true),
    )
    .await
    .expect("a connection");
    hand.execute(
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
         checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
    )
    .await
    .expect("a list without versions");
    hand.close().await.expect("closed");
    let store = open(&path).await;
    film(&store, "/a", 1).await;
    store.close().await.expect("closed");
    let store = open(&path).await;
    assert_eq!(store.entries().await.expect("entries").len(), 1);
}

#[tokio::test]
async fn fault26_two_stores_on_one_file_wait_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let (one, two) = (open(&path).await, open(&path).await);
    let (_, film_a) = film(&one, "/a", 1).await;
    let (_, film_b) = film(&two, "/b", 2).await;
    for segment in 0..20 {
        let (first, second) = tokio::join!(
            one.commit(vec![record(film_a, segment)]),
            two.commit(vec![record(film_b, segment)])
        );
        first.expect("written");
        second.expect("written");
    }
    for store in [&one, &two] {
        for film in [film_a, film_b] {
            assert_eq!(store.segments(film).await.expect("segments").len(), 20);
        }
        store.check().await.expect("sound");
    }
}

/// What a store knows of a generation does not outlast it, whoever removed it.
#[tokio::test]
async fn fault26_rows_of_what_another_store_removed_are_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let (one, two) = (open(&path).await, open(&path).await);
    let (entry, old) = film(&one, "/a", 1).await;
    one.commit(vec![record(old, 0)]).await.expect("recorded");
    let remove = StoreWrite::RemoveEntry(entry);
    two.commit(vec![remove]).await.expect("removed");
    let large = (0..250).map(|segment| record(old, segment)).collect();
    for writes in [vec![record(old, 1)], vec![record(old, 1)], large] {
        let missing = one.commit(writes).await.expect_err("gone");
        let generation = ChunkStoreError::Missing { what: "generation" };
        assert_eq!(missing.to_string(), generation.to_string());
    }
    let (_, new) = film(&one, "/a", 2).await;
    one.commit(vec![record(new, 0), record(new, 0)])
        .await
        .expect("recorded");
    let entry = two.entry(&key("/a")).await.expect("read").expect("there");
    let recorded = entry.current.expect("current").recorded_bytes;
    assert_eq!(recorded, crate::samples::SEGMENT_SIZE, "once");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none").join("index.db");
    let error = SqliteChunkStore::open(&path).await.expect_err("no folder");
    assert!(matches!(error, OpenError::File { .. }), "{error:?}");
    assert!(error.to_string().contains("none"));
}

#[tokio::test]
async fn a_commit_dropped_at_any_point_is_whole_or_nothing_and_blocks_nobody() {
    use std::future::{Future as _, poll_fn};
    use std::task::Poll;

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let options = SqliteOptions::new(&path).readers(0);
    let store = SqliteChunkStore::open_with(options)
        .await
        .expect("an index")
        .store;
    let (_, film) = film(&store, "/a", 1).await;
    let mut finished = false;
    let mut polls = 0_u32;
    while !finished {
        polls += 1;
        let first = polls * 1_000;
        let writes = (first..first + 950)
            .map(|segment| record(film, segment))
            .collect();
        let mut commit = Box::pin(store.commit(writes));
        let mut left = polls;
        // Dropped after so many polls, hence at each await in turn.
        finished = poll_fn(|context| {
            if let Poll::Ready(outcome) = commit.as_mut().poll(context) {
                outcome.expect("committed");
                return Poll::Ready(true);
            }
            left -= 1;
            if left == 0 {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await;
        drop(commit);
        let rows = store.segments(film).await.expect("segments");
        let of_this = rows.iter().filter(|row| row.segment >= first).count();
        assert!(of_this == 0 || of_this == 950, "{of_this} rows of 950");
        assert!(!finished || of_this == 950);
        store
            .ensure_entry(&key(&format!("/{polls}")), 1)
            .await
            .expect("not blocked");
    }
    assert!(polls > 3, "a commit awaits several times, not {polls}");
}
