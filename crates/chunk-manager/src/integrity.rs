//! Checksums of blocks.

use chunk_core::{BLOCK_SIZE, ByteRange, EntryId, GenerationId};

/// The CRC32C of one block: over where it belongs (entry, generation, index), then its bytes, then its
/// length. A block that turns up in another place, or cut short, does not match.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockDigest {
    crc: u32,
    len: u64,
}

impl BlockDigest {
    pub(crate) fn new(entry: EntryId, generation: GenerationId, block: u64) -> Self {
        let mut crc = 0;
        for part in [entry.get(), generation.get(), block] {
            crc = crc32c::crc32c_append(crc, &part.to_le_bytes());
        }
        Self { crc, len: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.len += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> u32 {
        crc32c::crc32c_append(self.crc, &self.len.to_le_bytes())
    }

    pub(crate) fn of(entry: EntryId, generation: GenerationId, block: u64, bytes: &[u8]) -> u32 {
        let mut digest = Self::new(entry, generation, block);
        digest.update(bytes);
        digest.finish()
    }
}

/// Digests a run of bytes block by block as they pass; only blocks seen from their first byte to their
/// last yield a checksum.
#[derive(Debug)]
pub(crate) struct RunDigest {
    entry: EntryId,
    generation: GenerationId,
    next: u64,
    current: Option<BlockDigest>,
}

impl RunDigest {
    pub(crate) const fn new(entry: EntryId, generation: GenerationId) -> Self {
        Self {
            entry,
            generation,
            next: u64::MAX,
            current: None,
        }
    }

    /// Takes in `bytes` at `offset` and hands each finished block's index and checksum to `found`. The
    /// file's last block is finished where `total_len` says the file ends.
    pub(crate) fn update(
        &mut self,
        offset: u64,
        bytes: &[u8],
        total_len: Option<u64>,
        mut found: impl FnMut(u64, u32),
    ) {
        if offset != self.next {
            self.current = None;
        }
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let block = at / BLOCK_SIZE;
            if at.is_multiple_of(BLOCK_SIZE) {
                self.current = Some(BlockDigest::new(self.entry, self.generation, block));
            }
            let block_end = block_range(block, total_len).map_or(at + 1, ByteRange::end);
            let len = usize::try_from(block_end.saturating_sub(at))
                .unwrap_or(usize::MAX)
                .clamp(1, rest.len());
            let (now, later) = rest.split_at(len);
            if let Some(digest) = &mut self.current {
                digest.update(now);
            }
            at += len as u64;
            rest = later;
            if at == block_end
                && let Some(digest) = self.current.take()
            {
                found(block, digest.finish());
            }
        }
        self.next = at;
    }
}

/// The bytes of block `block`, clipped to the file's end.
pub(crate) fn block_range(block: u64, total_len: Option<u64>) -> Option<ByteRange> {
    let start = block.checked_mul(BLOCK_SIZE)?;
    ByteRange::try_new(
        start,
        start
            .saturating_add(BLOCK_SIZE)
            .min(total_len.unwrap_or(u64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: EntryId = EntryId::new(1);
    const GENERATION: GenerationId = GenerationId::new(2);

    fn digest_in_pieces(data: &[u8], piece: usize) -> Vec<(u64, u32)> {
        let mut digest = RunDigest::new(ENTRY, GENERATION);
        let mut found = Vec::new();
        for (index, part) in data.chunks(piece).enumerate() {
            digest.update(
                (index * piece) as u64,
                part,
                Some(data.len() as u64),
                |block, crc| found.push((block, crc)),
            );
        }
        found
    }

    #[test]
    fn pieces_do_not_matter_and_the_short_last_block_counts() {
        let data: Vec<u8> = (0..150_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let whole = digest_in_pieces(&data, data.len());
        assert_eq!(whole.len(), 3);
        for piece in [1_000, 65_536, 65_537, 99_999] {
            assert_eq!(digest_in_pieces(&data, piece), whole);
        }
        assert_eq!(
            whole[2].1,
            BlockDigest::of(ENTRY, GENERATION, 2, &data[131_072..])
        );
    }

    #[test]
    fn fault18_a_block_in_another_place_does_not_match() {
        let data = [0_u8; 100];
        let here = BlockDigest::of(ENTRY, GENERATION, 0, &data);
        assert_ne!(here, BlockDigest::of(ENTRY, GENERATION, 1, &data));
        assert_ne!(here, BlockDigest::of(ENTRY, GenerationId::new(3), 0, &data));
        assert_ne!(here, BlockDigest::of(EntryId::new(9), GENERATION, 0, &data));
        assert_ne!(here, BlockDigest::of(ENTRY, GENERATION, 0, &data[..99]));
    }

    #[test]
    fn a_jump_starts_over() {
        let mut digest = RunDigest::new(ENTRY, GENERATION);
        let mut found = Vec::new();
        digest.update(0, &[1; 1_000], Some(1 << 20), |block, crc| {
            found.push((block, crc))
        });
        digest.update(2_000, &[1; 64_000], Some(1 << 20), |block, crc| {
            found.push((block, crc));
        });
        assert!(found.is_empty(), "a block with a hole has no checksum");
    }
}
