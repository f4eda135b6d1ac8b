//! How fast rows are recorded, by how many there are already.
//!
//! ```text
//! cargo bench -p chunk-store-sqlite
//! ```

use std::time::{Duration, Instant};

use chunk_core::{BlockMap, ByteRange, CacheKey, GenerationId, Representation};
use chunk_ports::{ChunkStore, Freshness, NewGeneration, SegmentRecord, StoreWrite};
use chunk_store_sqlite::SqliteChunkStore;
use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::runtime::Runtime;

/// Chunks of 10 MiB, in blocks of 64 KiB.
const BLOCKS: u32 = 160;
const SEGMENT: u64 = BLOCKS as u64 * 64 * 1024;
/// Rows of one file, and of one commit.
const PER_FILE: u32 = 1_000;
const BATCH: u32 = 100;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(10);
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[u32] = if is_measured {
        &[1_000, 10_000, 100_000, 1_000_000]
    } else {
        &[1_000]
    };
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("recording");
    group.throughput(Throughput::Elements(BATCH.into()));
    for &size in sizes {
        let folder = tempfile::tempdir().expect("a folder");
        let store = runtime
            .block_on(SqliteChunkStore::open(folder.path().join("index.db")))
            .expect("an index")
            .store;
        let mut file = 0;
        while file * PER_FILE < size {
            runtime.block_on(record_file(&store, file));
            file += 1;
        }
        group.bench_function(BenchmarkId::new("100 rows, rows there", size), |bencher| {
            bencher.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                let mut done = 0;
                while done < count {
                    let batches = u32::try_from(count - done).unwrap_or(u32::MAX);
                    let (batches, took) = runtime.block_on(async {
                        let generation = begin(&store, file).await;
                        record(&store, generation, batches.min(PER_FILE / BATCH)).await
                    });
                    file += 1;
                    spent += took;
                    done += u64::from(batches);
                }
                spent
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

async fn record_file(store: &SqliteChunkStore, file: u32) {
    let generation = begin(store, file).await;
    record(store, generation, PER_FILE / BATCH).await;
}

/// Commits so many batches; how many, and how long they took.
async fn record(
    store: &SqliteChunkStore,
    generation: GenerationId,
    batches: u32,
) -> (u32, Duration) {
    let mut spent = Duration::ZERO;
    for batch in 0..batches {
        let rows = batch * BATCH..(batch + 1) * BATCH;
        let writes = rows
            .map(|segment| StoreWrite::RecordSegment(row(generation, segment)))
            .collect();
        let began = Instant::now();
        store.commit(writes).await.expect("there is room");
        spent += began.elapsed();
    }
    (batches, spent)
}

async fn begin(store: &SqliteChunkStore, file: u32) -> GenerationId {
    let key = CacheKey::new("", &format!("/film-{file}.mkv"), &[""; 0]).expect("a path");
    let entry = store.ensure_entry(&key, 0).await.expect("an entry");
    let generation = NewGeneration {
        representation: Representation::with_len(Some(u64::from(PER_FILE) * SEGMENT)),
        accepts_ranges: true,
        segment_size: SEGMENT,
        nonce: file.into(),
        freshness: Freshness {
            validated_unix: 0,
            fresh_until_unix: i64::MAX,
            must_revalidate: false,
        },
    };
    store
        .begin_generation(entry.id, generation)
        .await
        .expect("a generation")
        .id
}

fn row(generation: GenerationId, segment: u32) -> SegmentRecord {
    let start = u64::from(segment) * SEGMENT;
    let mut blocks = BlockMap::new();
    for block in 0..BLOCKS as usize {
        blocks.insert(block);
    }
    SegmentRecord {
        generation,
        segment,
        epoch: 0,
        extent: ByteRange::new(start, start + SEGMENT).expect("a segment has bytes"),
        blocks,
        checksums: (0..BLOCKS).map(|block| block ^ segment).collect(),
        recorded_bytes: SEGMENT,
        accessed_unix: 0,
    }
}
