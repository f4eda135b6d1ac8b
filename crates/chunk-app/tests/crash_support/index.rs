//! What the index says, read from a copy, so that looking repairs nothing.

use std::collections::BTreeSet;
use std::path::Path;

use chunk_core::{ByteRange, RangeSet};
use chunk_ports::ChunkStore;
use chunk_store_sqlite::SqliteChunkStore;

/// What was recorded when a process ended.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// By the path of the entry without its leading `/`.
    pub(crate) ranges: Vec<(String, RangeSet)>,
    /// Which of them are pinned.
    pub(crate) pinned: BTreeSet<String>,
    /// Every generation it knows, current or not.
    pub(crate) generations: BTreeSet<u64>,
    /// How many ranges are queued.
    pub(crate) jobs: usize,
}

impl Recorded {
    pub(crate) fn of(&self, object: &str) -> RangeSet {
        let found = self.ranges.iter().find(|(name, _)| name == object);
        found.map(|(_, ranges)| ranges.clone()).unwrap_or_default()
    }

    pub(crate) fn knows(&self, object: &str) -> bool {
        self.ranges.iter().any(|(name, _)| name == object)
    }
}

/// Reads the index in `folder`, where there is one, as the process that ended left it.
pub(crate) async fn recorded(folder: &Path) -> Recorded {
    let mut recorded = Recorded::default();
    let copy = tempfile::tempdir().unwrap();
    let index = copy.path().join("index.db");
    // Not the shared memory beside it: after the last process has ended it is made anew from the log.
    for name in ["index.db", "index.db-wal", "index.db-journal"] {
        let from = folder.join(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).unwrap();
        }
    }
    if !index.exists() {
        return recorded;
    }
    let opened = SqliteChunkStore::open(&index).await.unwrap();
    assert_eq!(opened.set_aside, None, "a crash left a malformed index");
    let store = opened.store;
    for entry in store.entries().await.unwrap() {
        let name = entry.key.path().trim_start_matches('/').to_owned();
        if entry.pinned {
            recorded.pinned.insert(name.clone());
        }
        let mut ranges = RangeSet::new();
        if let Some(generation) = &entry.current {
            recorded.generations.insert(generation.id.get());
            for summary in store.segments(generation.id).await.unwrap() {
                let start = u64::from(summary.segment) * generation.segment_size;
                let total = generation.representation.total_len.unwrap();
                let covered: Vec<ByteRange> = summary.blocks.byte_ranges(start, total).collect();
                for range in covered {
                    ranges.insert(range);
                }
            }
            assert_eq!(ranges.len(), generation.recorded_bytes, "{name}");
        }
        recorded.ranges.push((name, ranges));
    }
    for generation in store.retired_generations().await.unwrap() {
        recorded.generations.insert(generation.get());
    }
    recorded.jobs = store.jobs().await.unwrap().len();
    store.close().await.unwrap();
    recorded
}
