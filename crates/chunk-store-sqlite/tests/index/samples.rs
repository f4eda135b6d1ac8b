//! A film of many segments, and its rows.

use chunk_core::{
    BLOCK_SIZE, BlockMap, ByteRange, CacheKey, EntryId, GenerationId, Representation,
};
use chunk_ports::{ChunkStore, Freshness, NewGeneration, SegmentRecord, StoreWrite};

/// Two blocks a segment.
pub(crate) const SEGMENT_SIZE: u64 = 2 * BLOCK_SIZE;

/// Room for this many segments.
pub(crate) const SEGMENTS: u32 = 100_000;

pub(crate) fn key(path: &str) -> CacheKey {
    CacheKey::new("films", path, chunk_core::DEFAULT_SIGNATURE_PARAMETERS).expect("a key")
}

pub(crate) async fn film<S: ChunkStore>(
    store: &S,
    path: &str,
    nonce: u64,
) -> (EntryId, GenerationId) {
    let entry = store
        .ensure_entry(&key(path), 10)
        .await
        .expect("an entry")
        .id;
    let new = NewGeneration {
        representation: Representation::with_len(Some(u64::from(SEGMENTS) * SEGMENT_SIZE)),
        accepts_ranges: true,
        segment_size: SEGMENT_SIZE,
        nonce,
        freshness: Freshness::default(),
    };
    let generation = store
        .begin_generation(entry, new)
        .await
        .expect("a generation");
    (entry, generation.id)
}

pub(crate) fn record(generation: GenerationId, segment: u32) -> StoreWrite {
    let start = u64::from(segment) * SEGMENT_SIZE;
    StoreWrite::RecordSegment(SegmentRecord {
        generation,
        segment,
        epoch: 0,
        extent: ByteRange::with_len(start, SEGMENT_SIZE).expect("a range"),
        blocks: BlockMap::from_bytes(&[0b11]),
        checksums: vec![segment, !segment],
        recorded_bytes: SEGMENT_SIZE,
        accessed_unix: 1,
    })
}
