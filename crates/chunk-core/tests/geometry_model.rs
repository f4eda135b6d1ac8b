//! Chunk arithmetic and block maps against byte-by-byte models, and at the edges of 64 bits.

use std::collections::BTreeSet;

use chunk_core::{BLOCK_SIZE, BlockMap, ByteRange, ChunkGeometry, ChunkSize, GeometryError};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn geometry(chunk_size: u64, total_len: u64) -> ChunkGeometry {
    ChunkGeometry::new(ChunkSize::new(chunk_size).unwrap(), total_len).unwrap()
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

proptest! {
    #[test]
    fn r19_every_byte_is_in_the_chunk_that_says_so(size in 1..20_u64, total in 1..200_u64) {
        let geometry = geometry(size, total);
        let mut next = 0;
        for index in 0..geometry.chunk_count() {
            let chunk = geometry.chunk_range(index).unwrap();
            // Chunks follow each other without a gap; all are full but possibly the last.
            prop_assert_eq!(chunk.start(), next);
            prop_assert_eq!(geometry.chunk_size().start_of(index), Ok(chunk.start()));
            if index < geometry.last_chunk() {
                prop_assert_eq!(chunk.len(), size);
            }
            for offset in chunk.start()..chunk.end() {
                prop_assert_eq!(geometry.byte_to_chunk_index(offset), Ok(index));
            }
            next = chunk.end();
        }
        prop_assert_eq!(next, total);
        prop_assert_eq!(geometry.whole(), range(0, total));
        prop_assert_eq!(
            geometry.byte_to_chunk_index(total),
            Err(GeometryError::PastEnd { offset: total, total_len: total })
        );
        let count = geometry.chunk_count();
        prop_assert_eq!(
            geometry.chunk_range(count),
            Err(GeometryError::NoSuchChunk { index: count, last: count - 1 })
        );
    }

    #[test]
    fn r20_a_range_expands_to_exactly_the_overlapping_chunks(
        size in 1..20_u64,
        total in 1..200_u64,
        start in 0..250_u64,
        len in 1..250_u64,
    ) {
        let geometry = geometry(size, total);
        let asked = range(start, start + len);
        let chunks = |wanted: &dyn Fn(ByteRange) -> bool| -> Vec<u64> {
            (0..geometry.chunk_count())
                .filter(|&index| wanted(geometry.chunk_range(index).unwrap()))
                .collect()
        };
        prop_assert_eq!(
            geometry.chunks_overlapping(asked).collect::<Vec<_>>(),
            chunks(&|chunk| chunk.overlaps(asked))
        );
        prop_assert_eq!(
            geometry.chunks_within(asked).collect::<Vec<_>>(),
            chunks(&|chunk| asked.contains_range(chunk))
        );
        prop_assert_eq!(geometry.clip(asked), asked.intersection(geometry.whole()));
    }

    #[test]
    fn r19_no_size_offset_or_index_overflows(
        size in edge(),
        total in edge(),
        index in edge(),
        start in edge(),
        end in edge(),
    ) {
        let Ok(size) = ChunkSize::new(size) else {
            return Ok(());
        };
        let Ok(geometry) = ChunkGeometry::new(size, total) else {
            prop_assert_eq!(total, 0);
            return Ok(());
        };
        match geometry.chunk_range(index) {
            Ok(chunk) => {
                prop_assert!(index <= geometry.last_chunk() && chunk.end() <= total);
                prop_assert_eq!(geometry.byte_to_chunk_index(chunk.start()), Ok(index));
                prop_assert_eq!(geometry.byte_to_chunk_index(chunk.last()), Ok(index));
            }
            Err(error) => {
                prop_assert!(index > geometry.last_chunk());
                let overflows = index.checked_mul(size.get()).is_none();
                prop_assert_eq!(matches!(error, GeometryError::Overflow { .. }), overflows);
            }
        }
        if let Some(asked) = ByteRange::try_new(start, end) {
            let overlapping = geometry.chunks_overlapping(asked);
            let within = geometry.chunks_within(asked);
            prop_assert!(overlapping.end <= geometry.chunk_count());
            if !within.is_empty() {
                prop_assert!(overlapping.start <= within.start && within.end <= overlapping.end);
            }
        }
    }

    #[test]
    fn a_block_map_is_a_set(
        ops in vec((any::<bool>(), 0..200_usize), 0..60),
        last_len in 1..=BLOCK_SIZE,
    ) {
        let mut map = BlockMap::new();
        let mut model = BTreeSet::new();
        for (insert, block) in ops {
            if insert {
                map.insert(block);
                model.insert(block);
            } else {
                map.remove(block);
                model.remove(&block);
            }
            prop_assert_eq!(map.contains(block), insert);
        }
        prop_assert_eq!(map.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(map.count(), model.len());
        prop_assert_eq!(map.is_empty(), model.is_empty());
        prop_assert_eq!(&BlockMap::from_bytes(map.as_bytes()), &map);

        // The last of 200 blocks is short, and the segment is the file's second.
        let start = 16 * BLOCK_SIZE;
        let total = start + 199 * BLOCK_SIZE + last_len;
        let covered: u64 = map.byte_ranges(start, total).map(ByteRange::len).sum();
        let expected: u64 = model
            .iter()
            .map(|&block| if block == 199 { last_len } else { BLOCK_SIZE })
            .sum();
        prop_assert_eq!(covered, expected);
        let ranges: Vec<_> = map.byte_ranges(start, total).collect();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start()));
        for &block in &model {
            let offset = start + block as u64 * BLOCK_SIZE;
            prop_assert!(ranges.iter().any(|range| range.contains(offset)));
        }
    }

    #[test]
    fn equal_block_maps_have_equal_bytes(blocks in btree_set(0..100_usize, 0..20)) {
        let mut there = BlockMap::new();
        blocks.iter().for_each(|&block| there.insert(block));
        let mut back = there.clone();
        back.insert(500);
        back.remove(500);
        prop_assert_eq!(back.as_bytes(), there.as_bytes());
        let padded = [there.as_bytes(), &[0, 0]].concat();
        prop_assert_eq!(BlockMap::from_bytes(&padded), there);
    }
}

/// Any number, small ones and those at the end of 64 bits more often.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        any::<u64>(),
        u64::MAX - 3..=u64::MAX,
        1..1_u64 << 30
    ]
}

#[test]
fn r12_trap07_short_last_chunk_is_a_chunk() {
    let geometry = geometry(10, 25);
    assert_eq!(geometry.chunk_count(), 3);
    assert_eq!(geometry.chunk_range(2), Ok(range(20, 25)));
    // Its own five bytes are all it takes, however far the range goes on.
    assert_eq!(geometry.chunks_within(range(20, 25)), 2..3);
    assert_eq!(geometry.chunks_within(range(20, 30)), 2..3);
    assert_eq!(geometry.chunks_within(range(20, 24)), 2..2);
}

#[test]
fn r19_a_file_of_whole_chunks_has_no_empty_last_one() {
    let geometry = geometry(10, 20);
    assert_eq!(geometry.chunk_count(), 2);
    assert!(geometry.chunk_range(2).is_err());
}

#[test]
fn r19_size_zero_is_a_typed_error() {
    assert_eq!(ChunkSize::new(0), Err(GeometryError::ZeroChunkSize));
    assert_eq!(
        ChunkGeometry::new(ChunkSize::DEFAULT, 0),
        Err(GeometryError::EmptyFile)
    );
}

#[test]
fn r09_the_default_chunk_is_10_mib() {
    assert_eq!(ChunkSize::default().get(), 10 * 1024 * 1024);
}

#[test]
fn r19_the_largest_file_in_the_smallest_chunks() {
    let geometry = geometry(1, u64::MAX);
    assert_eq!(geometry.chunk_count(), u64::MAX);
    assert_eq!(
        geometry.chunk_range(u64::MAX - 1),
        Ok(range(u64::MAX - 1, u64::MAX))
    );
    assert!(geometry.chunk_range(u64::MAX).is_err());
}

#[test]
fn blocks_past_the_end_of_the_file_cover_nothing() {
    let map = BlockMap::from_bytes(&[0b1000_0001]);
    let ranges: Vec<_> = map.byte_ranges(0, 100).collect();
    assert_eq!(ranges, [range(0, 100)]);
}
