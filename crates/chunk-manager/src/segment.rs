//! What is recorded of one segment, and what is about to be.

use std::collections::{BTreeMap, BTreeSet};

use chunk_core::{BLOCK_SIZE, BlockMap, ByteRange, EntryId, GenerationId};
use chunk_ports::{SegmentRecord, SegmentSummary};

use crate::integrity::block_range;

/// One segment of an open generation. Blocks are counted from the segment's first.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) epoch: u32,
    /// The newest epoch of which files may be about: the next one is newer still.
    pub(crate) newest: u32,
    /// Blocks in the index.
    pub(crate) blocks: BlockMap,
    /// Checksums of recorded and pending blocks, as far as they are in memory.
    pub(crate) checksums: BTreeMap<u64, u32>,
    /// Whether `checksums` lacks those the index has.
    pub(crate) is_unloaded: bool,
    /// Whole stored blocks that the index does not have yet.
    pub(crate) pending: BTreeSet<u64>,
    /// Epochs whose bytes nobody needs once the index has the present row.
    pub(crate) former: Vec<u32>,
    /// Whether the index's row has blocks that are not good any more.
    pub(crate) is_shrunk: bool,
}

impl Segment {
    /// A segment as the index has it.
    pub(crate) fn recorded(summary: SegmentSummary) -> Self {
        Self {
            epoch: summary.epoch,
            newest: summary.epoch,
            blocks: summary.blocks,
            is_unloaded: true,
            ..Self::default()
        }
    }

    /// Fills in the checksums of a row.
    pub(crate) fn load(&mut self, record: &SegmentRecord) {
        for (block, &crc) in record.blocks.iter().zip(&record.checksums) {
            if self.blocks.contains(block) {
                self.checksums.entry(block as u64).or_insert(crc);
            }
        }
        self.is_unloaded = false;
    }

    /// Forgets everything and begins a new epoch; returns the epochs whose bytes are to be removed, once the
    /// index has no row of them.
    pub(crate) fn begin_epoch(&mut self) -> Vec<u32> {
        let mut former = std::mem::take(&mut self.former);
        former.push(self.epoch);
        let epoch = self.epoch.max(self.newest).saturating_add(1);
        *self = Self {
            epoch,
            newest: epoch,
            ..Self::default()
        };
        former
    }

    /// A file that an earlier session left, with bytes that no row names: it goes once the index has this
    /// session's row.
    pub(crate) fn inherit(&mut self, epoch: u32) {
        self.newest = self.newest.max(epoch);
        self.former.push(epoch);
        self.is_shrunk = true;
        if self.blocks.is_empty() && self.epoch <= epoch {
            self.epoch = epoch.saturating_add(1);
            self.newest = self.epoch;
        }
    }

    /// Drops one block.
    pub(crate) fn forget(&mut self, block: u64) {
        self.pending.remove(&block);
        self.checksums.remove(&block);
        if let Ok(index) = usize::try_from(block)
            && self.blocks.contains(index)
        {
            self.blocks.remove(index);
            self.is_shrunk = true;
        }
    }

    /// Whether the index must be told of something.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_shrunk || !self.pending.is_empty()
    }

    /// The row that holds what is recorded and `new`; `None` where that is nothing. Blocks without a
    /// checksum are left out.
    pub(crate) fn row(
        &self,
        place: Place,
        new: &BTreeSet<u64>,
        accessed_unix: i64,
    ) -> Option<SegmentRecord> {
        let mut blocks = BlockMap::new();
        let mut checksums = Vec::new();
        let mut recorded_bytes = 0;
        let (mut start, mut end) = (u64::MAX, 0);
        let all: BTreeSet<u64> = self
            .blocks
            .iter()
            .map(|block| block as u64)
            .chain(new.iter().copied())
            .collect();
        for block in all {
            let (Some(&crc), Ok(index)) = (self.checksums.get(&block), usize::try_from(block))
            else {
                continue;
            };
            let Some(range) = place.block(block) else {
                continue;
            };
            blocks.insert(index);
            checksums.push(crc);
            recorded_bytes += range.len();
            start = start.min(range.start());
            end = end.max(range.end());
        }
        Some(SegmentRecord {
            generation: place.generation,
            segment: place.segment,
            epoch: self.epoch,
            extent: ByteRange::try_new(start, end)?,
            blocks,
            checksums,
            recorded_bytes,
            accessed_unix,
        })
    }
}

/// Which segment of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) entry: EntryId,
    pub(crate) generation: GenerationId,
    pub(crate) segment: u32,
    pub(crate) segment_size: u64,
    pub(crate) total_len: Option<u64>,
}

impl Place {
    /// The file's number of the segment's block `block`.
    pub(crate) const fn file_block(self, block: u64) -> u64 {
        self.segment as u64 * (self.segment_size / BLOCK_SIZE) + block
    }

    /// The bytes of the segment's block `block`.
    pub(crate) fn block(self, block: u64) -> Option<ByteRange> {
        block_range(self.file_block(block), self.total_len)
    }

    /// The bytes of the whole segment.
    pub(crate) fn range(self) -> Option<ByteRange> {
        let start = u64::from(self.segment).checked_mul(self.segment_size)?;
        ByteRange::try_new(
            start,
            start
                .saturating_add(self.segment_size)
                .min(self.total_len.unwrap_or(u64::MAX)),
        )
    }
}
