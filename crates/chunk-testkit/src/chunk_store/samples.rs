//! Keys, generations and rows to try an index with.

use chunk_core::{
    BLOCK_SIZE, BlockMap, ByteRange, CacheKey, ETag, EntryId, GenerationId, LastModified, Priority,
    Representation,
};
use chunk_ports::{ChunkStore, Freshness, JobRange, NewGeneration, SegmentRecord};

/// Four blocks a segment.
pub(crate) const SEGMENT_SIZE: u64 = 4 * BLOCK_SIZE;

/// Ten segments, the last of one block and a hundred bytes.
pub(crate) const TOTAL_LEN: u64 = 9 * SEGMENT_SIZE + BLOCK_SIZE + 100;

pub(crate) fn key(path: &str) -> CacheKey {
    CacheKey::from_parts("films", path, "", "")
}

pub(crate) fn generation(nonce: u64, total_len: Option<u64>) -> NewGeneration {
    let mut representation = Representation::with_len(total_len);
    representation.etag = ETag::parse("\"v1\"");
    NewGeneration {
        representation,
        accepts_ranges: true,
        segment_size: SEGMENT_SIZE,
        nonce,
        freshness: Freshness {
            validated_unix: 1_000,
            fresh_until_unix: 2_000,
            must_revalidate: false,
        },
    }
}

pub(crate) fn full_representation() -> Representation {
    let mut representation = Representation::with_len(Some(TOTAL_LEN));
    representation.etag = ETag::parse("W/\"weak\"");
    representation.last_modified = Some(LastModified::new(-5, true));
    representation.content_type = Some("video/x-matroska".into());
    representation
}

/// The row of `segment` with these blocks recorded, consistent in every part.
pub(crate) fn row(generation: GenerationId, segment: u32, blocks: &[usize]) -> SegmentRecord {
    let mut map = BlockMap::new();
    for &block in blocks {
        map.insert(block);
    }
    let start = u64::from(segment) * SEGMENT_SIZE;
    let ranges: Vec<_> = map.byte_ranges(start, TOTAL_LEN).collect();
    let first = ranges.first().map_or(start, |range| range.start());
    let end = ranges.last().map_or(start + 1, |range| range.end());
    SegmentRecord {
        generation,
        segment,
        epoch: 0,
        extent: range(first, end),
        checksums: map
            .iter()
            // The largest, so that a sign or a byte order that is lost shows.
            .map(|block| u32::MAX - (segment * 100 + block as u32))
            .collect(),
        recorded_bytes: ranges.iter().map(|range| range.len()).sum(),
        blocks: map,
        accessed_unix: 50,
    }
}

pub(crate) fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).expect("a range of the samples")
}

pub(crate) fn job(start: u64, end: u64, sequence: u64) -> JobRange {
    JobRange {
        range: range(start, end),
        priority: Priority::Medium,
        sequence,
    }
}

/// An entry with a current generation of [`TOTAL_LEN`] bytes.
pub(crate) async fn film<S: ChunkStore + ?Sized>(
    store: &S,
    path: &str,
    nonce: u64,
) -> (EntryId, GenerationId) {
    let entry = store
        .ensure_entry(&key(path), 10)
        .await
        .expect("an entry")
        .id;
    let generation = store
        .begin_generation(entry, generation(nonce, Some(TOTAL_LEN)))
        .await
        .expect("a generation")
        .id;
    (entry, generation)
}
