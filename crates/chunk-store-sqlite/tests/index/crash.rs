//! A process that is killed while it commits: what it was told is done, is done.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::samples::{film, key, record};
use chunk_core::{ByteRange, Priority};
use chunk_ports::{ChunkStore, JobRange, StoreWrite};
use chunk_store_sqlite::SqliteChunkStore;

/// Names the index; present in the child only.
const INDEX: &str = "CRASH_TEST_INDEX";

/// Rows per commit. More than one statement's worth, so that a kill can fall between two.
const ROWS: u32 = 130;

/// One commit: rows, and a queue that names the commit.
fn batch(
    film: chunk_core::GenerationId,
    entry: chunk_core::EntryId,
    commit: u32,
) -> Vec<StoreWrite> {
    let first = commit * ROWS;
    let job = JobRange {
        range: ByteRange::with_len(0, u64::from(commit) + 1).expect("a range"),
        priority: Priority::Low,
        sequence: u64::from(commit),
    };
    let mut writes: Vec<_> = (first..first + ROWS)
        .map(|segment| record(film, segment))
        .collect();
    writes.push(StoreWrite::ReplaceJobs {
        entry,
        jobs: vec![job],
    });
    writes
}

/// The child. Without the variable it is a test that has nothing to do.
#[tokio::test]
async fn child_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(INDEX).map(PathBuf::from) else {
        return;
    };
    say("opening");
    let store = SqliteChunkStore::open(path).await.expect("an index").store;
    let (entry, film) = film(&store, "/a", 1).await;
    let done = store.segments(film).await.expect("segments").len();
    let first = u32::try_from(done).expect("a count") / ROWS;
    for commit in first..crate::samples::SEGMENTS / ROWS {
        store
            .commit(batch(film, entry, commit))
            .await
            .expect("committed");
        say(&format!("ack {commit}"));
    }
}

/// Tells the parent, past the test harness, which begins lines of its own and does not end them.
fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{line}")
        .and_then(|()| out.flush())
        .expect("a parent that listens");
}

fn spawn(path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "--exact",
            "crash::child_commits_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INDEX, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

/// Waits for `acks` more acknowledgements, kills the child, and gives the last one it sent.
fn kill_after(mut child: Child, acks: usize) -> u32 {
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut acknowledged = out.lines().map_while(Result::ok).filter_map(|line| {
        line.strip_prefix("ack ")
            .and_then(|number| number.parse::<u32>().ok())
    });
    let counted = acknowledged
        .by_ref()
        .take(acks)
        .last()
        .expect("an acknowledgement");
    child.kill().expect("killed");
    // What it still wrote into the pipe before it died was promised as well.
    let last = acknowledged.last().unwrap_or(counted);
    child.wait().expect("gone");
    last
}

#[tokio::test]
async fn fault24_kill_nine_keeps_every_acknowledged_commit_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    // Fixed counts: few and many, so that kills fall before and after checkpoints of the log.
    for acks in [1, 2, 7, 31, 64] {
        let last = kill_after(spawn(&path), acks);

        let opened = SqliteChunkStore::open(&path).await.expect("an index");
        assert_eq!(opened.set_aside, None);
        let store = opened.store;
        let entry = store
            .entry(&key("/a"))
            .await
            .expect("entry")
            .expect("there");
        let film = entry.current.expect("current");
        let rows = store.segments(film.id).await.expect("segments");
        let count = u32::try_from(rows.len()).expect("a count");
        assert_eq!(count % ROWS, 0, "commits are whole");
        let commits = count / ROWS;
        assert!(
            commits > last,
            "{commits} commits are there, {last} was acknowledged"
        );
        assert!(
            rows.iter()
                .zip(0..)
                .all(|(row, segment)| row.segment == segment)
        );
        assert_eq!(
            film.recorded_bytes,
            u64::from(count) * crate::samples::SEGMENT_SIZE
        );
        let jobs = store.jobs().await.expect("jobs");
        let sequences: Vec<_> = jobs.iter().map(|row| row.job.sequence).collect();
        assert_eq!(
            sequences,
            [u64::from(commits - 1)],
            "of the same commit as the rows"
        );
        store.check().await.expect("sound");
        store.close().await.expect("closed");
    }
}

#[tokio::test]
async fn fault24_kill_nine_while_the_schema_is_made_leaves_an_index_that_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..6 {
        let path = folder.path().join(format!("{round}.db"));
        let mut child = spawn(&path);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let opening = lines.any(|line| line.expect("a line") == "opening");
        assert!(opening, "the child got as far as opening");
        child.kill().expect("killed");
        child.wait().expect("gone");

        let opened = SqliteChunkStore::open(&path).await.expect("an index");
        assert_eq!(opened.set_aside, None);
        let (_, film) = film(&opened.store, "/b", 2).await;
        opened
            .store
            .commit(vec![record(film, 0)])
            .await
            .expect("recorded");
        opened.store.check().await.expect("sound");
        opened.store.close().await.expect("closed");
    }
}
