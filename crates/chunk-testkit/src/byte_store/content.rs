//! Bytes that know where they belong.

use bytes::Bytes;
use chunk_core::GenerationId;
use chunk_ports::SegmentKey;

/// The byte at `offset` of segment `segment` of `generation`. Never 0, so that a hole that reads as zeros
/// is never taken for content; the epoch does not count, because a new epoch holds the same bytes.
#[must_use]
pub const fn byte_at(generation: GenerationId, segment: u32, offset: u64) -> u8 {
    // One step of a splitmix generator over the place: neighbouring bytes, segments and generations
    // have nothing in common, so that bytes from the wrong place do not pass.
    let mut mixed = generation
        .get()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((segment as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(offset.wrapping_mul(0x8cb9_2ba7_2f3d_8dd7));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 33) as u8 % 255 + 1
}

/// The `len` bytes at `offset` of the segment `key` names.
#[must_use]
pub fn bytes_at(key: SegmentKey, offset: u64, len: usize) -> Bytes {
    (offset..)
        .take(len)
        .map(|offset| byte_at(key.generation, key.segment, offset))
        .collect()
}

/// Where `found`, read at `offset` of `key`, first differs from what belongs there.
#[must_use]
pub fn first_wrong(key: SegmentKey, offset: u64, found: &[u8]) -> Option<u64> {
    (offset..)
        .zip(found)
        .find(|(offset, byte)| byte_at(key.generation, key.segment, *offset) != **byte)
        .map(|(offset, _)| offset)
}

/// Panics with the place where `found`, read at `offset` of `key`, is wrong.
///
/// # Panics
/// Where a byte is not the one that belongs there.
#[track_caller]
pub fn assert_right(key: SegmentKey, offset: u64, found: &[u8]) {
    assert_eq!(
        first_wrong(key, offset, found),
        None,
        "wrong byte in {key:?}, read at {offset}, {} bytes long",
        found.len()
    );
}
