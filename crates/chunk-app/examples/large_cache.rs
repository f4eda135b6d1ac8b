//! A cache folder that looks as if much had been watched: files that are cached as a whole, and what is recorded of
//! them. Says how many rows a second were recorded. With `sparse` the bytes are there as well, as files of the right
//! length without content.
//!
//! `cargo xtask bench scale` starts the program on such folders.
//!
//! ```text
//! cargo run --release -p chunk-app --example large_cache -- FOLDER FILES CHUNKS-PER-FILE rows|sparse
//! ```
#![expect(clippy::print_stdout, reason = "it talks to whoever runs it")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chunk_bytes_file::FileByteStore;
use chunk_core::{BlockMap, ByteRange, CacheKey, ETag, GenerationId, Representation};
use chunk_ports::{
    ByteStore, ChunkStore, Freshness, NewGeneration, SegmentKey, SegmentRecord, StoreWrite,
};
use chunk_store_sqlite::SqliteChunkStore;

/// Chunks of 10 MiB, in blocks of 64 KiB.
const BLOCKS: u32 = 160;
const SEGMENT: u64 = BLOCKS as u64 * 64 * 1024;
/// So many rows are committed at once.
const BATCH: usize = 100;
/// 2100-01-01: nothing here is to be asked for again.
const FRESH_UNTIL: i64 = 4_102_444_800;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, folder, files, chunks, kind] = args.as_slice() else {
        return Err("usage: large_cache FOLDER FILES CHUNKS-PER-FILE rows|sparse".into());
    };
    let (folder, files, chunks) = (Path::new(folder), files.parse()?, chunks.parse()?);
    fs::create_dir_all(folder)?;
    let index = SqliteChunkStore::open(folder.join("index.db")).await?.store;
    let bytes = FileByteStore::open(folder.join("data"))?;
    let mut spent = Duration::ZERO;
    for file in 0..files {
        let generation = begin(&index, file, chunks).await?;
        let rows = (0..chunks)
            .map(|segment| row(generation, segment))
            .collect::<Result<Vec<_>, _>>()?;
        let writes: Vec<StoreWrite> = rows.into_iter().map(StoreWrite::RecordSegment).collect();
        let began = Instant::now();
        for part in writes.chunks(BATCH) {
            index.commit(part.to_vec()).await?;
        }
        spent += began.elapsed();
        if kind == "sparse" {
            for segment in 0..chunks {
                let key = SegmentKey {
                    generation,
                    segment,
                    epoch: 0,
                };
                // The last byte makes the file as long as one that is full.
                bytes
                    .write(key, SEGMENT - 1, vec![Bytes::from_static(&[0])])
                    .await?;
            }
        }
    }
    index.close().await?;
    let rows = u64::from(chunks) * files;
    println!("{rows} rows in {} ms", spent.as_millis());
    Ok(())
}

async fn begin(
    index: &SqliteChunkStore,
    file: u64,
    chunks: u32,
) -> Result<GenerationId, Box<dyn Error>> {
    let key = CacheKey::new("", &format!("/film-{file}.mkv"), &[""; 0])?;
    let entry = index.ensure_entry(&key, 0).await?;
    let mut representation = Representation::with_len(Some(u64::from(chunks) * SEGMENT));
    // What is looked at and is not there costs its block and not the file: its name tells that it is the same one.
    representation.etag = ETag::parse(&format!("\"film-{file}\""));
    let generation = NewGeneration {
        representation,
        accepts_ranges: true,
        segment_size: SEGMENT,
        nonce: file,
        freshness: Freshness {
            validated_unix: 0,
            fresh_until_unix: FRESH_UNTIL,
            must_revalidate: false,
        },
    };
    Ok(index.begin_generation(entry.id, generation).await?.id)
}

fn row(generation: GenerationId, segment: u32) -> Result<SegmentRecord, Box<dyn Error>> {
    let start = u64::from(segment) * SEGMENT;
    let mut blocks = BlockMap::new();
    for block in 0..BLOCKS as usize {
        blocks.insert(block);
    }
    Ok(SegmentRecord {
        generation,
        segment,
        epoch: 0,
        extent: ByteRange::new(start, start + SEGMENT)?,
        blocks,
        checksums: (0..BLOCKS).map(|block| block ^ segment).collect(),
        recorded_bytes: SEGMENT,
        accessed_unix: 0,
    })
}
