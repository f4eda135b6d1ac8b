//! What players ask most often: whether bytes are there, alone and 64 at a time, beside bytes that arrive.
//!
//! ```text
//! cargo bench -p chunk-manager
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use chunk_core::{BLOCK_SIZE, BlockMap, ByteRange, CacheKey, ETag, Representation};
use chunk_manager::{ChunkManager, Entry, First};
use chunk_ports::{
    ChunkFetcher, ChunkStore, FetchError, FetchOutcome, FetchRequest, Freshness, NewGeneration,
    Resource, SegmentRecord, StoreWrite,
};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use criterion::{BenchmarkId, Criterion};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// Every other block is missing: as many ranges as there can be.
const SEGMENT: u64 = 2 * BLOCK_SIZE;
const READERS: u64 = 64;

/// Nothing is asked of it.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl ChunkFetcher for Nobody {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchOutcome, FetchError> {
        Err(FetchError::Stalled)
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[u32] = if is_measured {
        &[1_000, 10_000, 100_000, 1_000_000]
    } else {
        &[1_000]
    };
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("has byte range");
    for &size in sizes {
        let (manager, entry) = runtime.block_on(film(size));
        group.bench_function(BenchmarkId::new("one reader", size), |bencher| {
            bencher.iter_custom(|count| ask(&entry, size, 0, count));
        });
        group.bench_function(BenchmarkId::new("64 readers", size), |bencher| {
            bencher.iter_custom(|count| {
                thread::scope(|scope| {
                    let entry = &entry;
                    let readers: Vec<_> = (0..READERS)
                        .map(|reader| {
                            let count = count.div_ceil(READERS);
                            scope.spawn(move || ask(entry, size, reader, count))
                        })
                        .collect();
                    let times = readers.into_iter().map(|reader| reader.join());
                    times.map(|time| time.expect("it is there")).sum()
                })
            });
        });
        runtime.block_on(manager.shutdown());
    }
    group.finish();
    criterion.final_summary();
}

/// Asks so often; says what that took of a processor.
fn ask(entry: &Entry, size: u32, reader: u64, count: u64) -> Duration {
    let began = processor_time();
    // Each reads on from a place of its own, as players do.
    let first = reader * u64::from(size) / READERS;
    for number in first..first + count {
        // The first one is read for the film's header, and is not there.
        let start = (1 + number % u64::from(size - 1)) * SEGMENT;
        let range = ByteRange::new(start, start + BLOCK_SIZE).expect("a block");
        assert!(black_box(entry.has_byte_range(range)));
    }
    processor_time() - began
}

/// What this thread has had of a processor: another program that runs beside it is not counted.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

async fn film(segments: u32) -> (ChunkManager, Entry) {
    let index = MemoryChunkStore::new();
    let key = Arc::new(CacheKey::new("", "/film.mkv", &[""; 0]).expect("a path"));
    let entry = index.ensure_entry(&key, 0).await.expect("an entry");
    let mut representation = Representation::with_len(Some(u64::from(segments) * SEGMENT));
    // Half of it is missing: without a name of its own nothing would be known to be of the same file.
    representation.etag = ETag::parse("\"film\"");
    let generation = NewGeneration {
        representation,
        accepts_ranges: true,
        segment_size: SEGMENT,
        nonce: 1,
        freshness: Freshness {
            validated_unix: 0,
            fresh_until_unix: i64::MAX,
            must_revalidate: false,
        },
    };
    let generation = index.begin_generation(entry.id, generation).await;
    let generation = generation.expect("a generation").id;
    let mut blocks = BlockMap::new();
    blocks.insert(0);
    let rows = (0..segments).map(|segment| {
        let start = u64::from(segment) * SEGMENT;
        StoreWrite::RecordSegment(SegmentRecord {
            generation,
            segment,
            epoch: 0,
            extent: ByteRange::new(start, start + BLOCK_SIZE).expect("a block"),
            blocks: blocks.clone(),
            checksums: vec![segment],
            recorded_bytes: BLOCK_SIZE,
            accessed_unix: 0,
        })
    });
    index.commit(rows.collect()).await.expect("there is room");
    let manager = ChunkManager::builder(
        Arc::new(index),
        Arc::new(MemoryByteStore::new()),
        Arc::new(Nobody),
    )
    .start()
    .await
    .expect("it starts");
    let first = First::Span {
        start: 0,
        end: Some(1),
    };
    let opened = manager.open(Resource::from_key(key), first).await;
    (manager, opened.expect("it is in the index").entry)
}
