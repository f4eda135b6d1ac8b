//! Blocks: the unit of checksums and of what is recorded.

use alloc::vec;
use alloc::vec::Vec;

use crate::ByteRange;

/// Bytes per block: 64 KiB. Blocks are aligned to the file, not to a chunk; only the file's last block
/// may be short. 64 KiB is the smallest read a disk does at full rate, and costs 4 bytes of checksum.
pub const BLOCK_SIZE: u64 = 64 * 1024;

/// The end of the block that ends at or after `offset`.
pub(crate) fn block_end(offset: u64) -> u64 {
    offset
        .checked_next_multiple_of(BLOCK_SIZE)
        .unwrap_or(u64::MAX)
}

/// Which blocks of one segment are recorded: a bitmap, one bit a block, lowest bit first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockMap {
    bits: Vec<u8>,
}

impl BlockMap {
    /// No block.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: Vec::new() }
    }

    /// The map whose bytes a store kept.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }

    /// The map as bytes for a store, without trailing zeros.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Marks block `index`, counted from the segment's first.
    pub fn insert(&mut self, index: usize) {
        let byte = index / 8;
        if byte >= self.bits.len() {
            self.bits.extend(vec![0; byte + 1 - self.bits.len()]);
        }
        if let Some(bits) = self.bits.get_mut(byte) {
            *bits |= 1 << (index % 8);
        }
    }

    /// Unmarks block `index`.
    pub fn remove(&mut self, index: usize) {
        if let Some(bits) = self.bits.get_mut(index / 8) {
            *bits &= !(1 << (index % 8));
        }
        self.trim();
    }

    /// Whether block `index` is marked.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.bits
            .get(index / 8)
            .is_some_and(|bits| bits & (1 << (index % 8)) != 0)
    }

    /// The number of marked blocks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bits
            .iter()
            .map(|bits| bits.count_ones() as usize)
            .sum()
    }

    /// Whether no block is marked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// The marked blocks, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter().enumerate().flat_map(|(byte, &bits)| {
            (0..8)
                .filter(move |bit| bits & (1 << bit) != 0)
                .map(move |bit| byte * 8 + bit)
        })
    }

    /// The bytes the marked blocks cover, for a segment whose first byte is `segment_start` (a
    /// multiple of [`BLOCK_SIZE`]) in a file of `total_len` bytes. Adjacent blocks are one range.
    pub fn byte_ranges(
        &self,
        segment_start: u64,
        total_len: u64,
    ) -> impl Iterator<Item = ByteRange> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let first = self.first_from(from, true)?;
            let next = self.first_from(first, false).unwrap_or(self.bits.len() * 8);
            from = next;
            let at = |block: usize| segment_start.saturating_add(block as u64 * BLOCK_SIZE);
            ByteRange::try_new(at(first), at(next).min(total_len))
        })
    }

    /// The first block from `from` on that is marked, or is not. Eight at a time where all are alike: most maps have
    /// long runs.
    fn first_from(&self, from: usize, is_marked: bool) -> Option<usize> {
        let unlike = if is_marked { 0 } else { u8::MAX };
        let is_found = |bits: u8, bit: usize| (bits & (1 << bit) != 0) == is_marked;
        let mut index = from;
        while let Some(&bits) = self.bits.get(index / 8) {
            let bit = index % 8;
            if bit == 0 && bits == unlike {
                index += 8;
            } else if is_found(bits, bit) {
                return Some(index);
            } else {
                index += 1;
            }
        }
        None
    }

    fn trim(&mut self) {
        while self.bits.last() == Some(&0) {
            self.bits.pop();
        }
    }
}

impl From<Vec<u8>> for BlockMap {
    /// [`Self::from_bytes`] of bytes that nobody else needs.
    fn from(bits: Vec<u8>) -> Self {
        let mut map = Self { bits };
        map.trim();
        map
    }
}
