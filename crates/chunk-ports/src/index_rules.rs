//! The rules of the index that no backend can be trusted to state in its own language: every adapter of
//! [`crate::ChunkStore`] checks a write with these before it applies it, so that all refuse the same.

use chunk_core::BLOCK_SIZE;

use crate::{ChunkStoreError, JobRange, NewGeneration, SegmentRecord};

/// The largest number the index keeps: 2⁶³ − 1, since databases have no unsigned integers.
const LARGEST: u64 = i64::MAX as u64;

impl ChunkStoreError {
    /// The error of a write that breaks `rule`.
    #[must_use]
    pub fn refused(rule: impl Into<String>) -> Self {
        Self::Refused { rule: rule.into() }
    }
}

impl NewGeneration {
    /// Whether the index may keep this.
    ///
    /// # Errors
    /// [`ChunkStoreError::Refused`] for a segment size that is not a positive multiple of the block
    /// size, and for a number beyond 2⁶³ − 1.
    pub fn check(&self) -> Result<(), ChunkStoreError> {
        if self.segment_size == 0 || !self.segment_size.is_multiple_of(BLOCK_SIZE) {
            return Err(ChunkStoreError::refused(format!(
                "a segment size of {} is not a positive multiple of {BLOCK_SIZE}",
                self.segment_size
            )));
        }
        fits("a segment size", self.segment_size)?;
        fits("a nonce", self.nonce)?;
        self.representation
            .total_len
            .map_or(Ok(()), Self::check_length)
    }

    /// Whether the index may keep this as a generation's length.
    ///
    /// # Errors
    /// [`ChunkStoreError::Refused`] beyond 2⁶³ − 1.
    pub fn check_length(total_len: u64) -> Result<(), ChunkStoreError> {
        fits("a length", total_len)
    }
}

impl SegmentRecord {
    /// Whether this may be a row of a generation with this segment size and length: its parts agree
    /// with each other, and its blocks lie inside the segment and the file.
    ///
    /// # Errors
    /// [`ChunkStoreError::Refused`] with the rule that it breaks. Nothing can be recorded of a
    /// generation of unknown length.
    pub fn check(&self, segment_size: u64, total_len: Option<u64>) -> Result<(), ChunkStoreError> {
        let total_len = total_len.ok_or_else(|| {
            ChunkStoreError::refused("nothing is recorded of a generation of unknown length")
        })?;
        if self.blocks.is_empty() {
            return Err(ChunkStoreError::refused("a segment's row has a block"));
        }
        if self.checksums.len() != self.blocks.count() {
            return Err(ChunkStoreError::refused(format!(
                "{} blocks have as many checksums, got {}",
                self.blocks.count(),
                self.checksums.len()
            )));
        }
        let start = u64::from(self.segment)
            .checked_mul(segment_size)
            .filter(|&start| start < total_len)
            .ok_or_else(|| ChunkStoreError::refused("a segment starts inside its file"))?;
        let last_block = self.blocks.iter().last().unwrap_or(0) as u64;
        let inside = last_block
            .checked_mul(BLOCK_SIZE)
            .is_some_and(|at| at < segment_size && at < total_len - start);
        if !inside {
            return Err(ChunkStoreError::refused(
                "a block starts inside its segment and its file",
            ));
        }
        let (mut first, mut end, mut bytes) = (u64::MAX, 0, 0);
        for range in self.blocks.byte_ranges(start, total_len) {
            first = first.min(range.start());
            end = range.end();
            bytes += range.len();
        }
        if (self.extent.start(), self.extent.end()) != (first, end) {
            return Err(ChunkStoreError::refused(format!(
                "the extent of these blocks is {first}..{end}, got {}",
                self.extent
            )));
        }
        if self.recorded_bytes != bytes {
            return Err(ChunkStoreError::refused(format!(
                "these blocks hold {bytes} bytes, got {}",
                self.recorded_bytes
            )));
        }
        Ok(())
    }
}

impl JobRange {
    /// Whether these may be an entry's rows in the durable queue.
    ///
    /// # Errors
    /// [`ChunkStoreError::Refused`] for jobs that overlap or are not sorted by start, for a level that
    /// is not durable, and for a number beyond 2⁶³ − 1.
    pub fn check_all(jobs: &[Self]) -> Result<(), ChunkStoreError> {
        for job in jobs {
            if !job.priority.is_durable() {
                return Err(ChunkStoreError::refused(format!(
                    "a durable job is medium or low, got {}",
                    job.priority
                )));
            }
            fits("a job's end", job.range.end())?;
            fits("a job's sequence", job.sequence)?;
        }
        match jobs
            .windows(2)
            .find(|pair| matches!(pair, [a, b] if b.range.start() < a.range.end()))
        {
            Some(_) => Err(ChunkStoreError::refused(
                "an entry's jobs are sorted by start and do not overlap",
            )),
            None => Ok(()),
        }
    }
}

fn fits(what: &str, number: u64) -> Result<(), ChunkStoreError> {
    if number > LARGEST {
        return Err(ChunkStoreError::refused(format!(
            "{what} of {number} is beyond the largest number the index keeps, {LARGEST}"
        )));
    }
    Ok(())
}
