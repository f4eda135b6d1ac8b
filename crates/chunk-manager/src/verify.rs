//! Checking what is recorded against its checksums: all at once on request, and slowly in the background.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_core::scheduler::Input;
use chunk_core::{ByteRange, GenerationId};
use chunk_ports::{EntryRecord, GenerationRecord, SegmentKey, SegmentRecord, StoreWrite};

use crate::counters::add;
use crate::error::ManagerError;
use crate::integrity::BlockDigest;
use crate::manager::ChunkManager;
use crate::segment::Place;
use crate::status::{BadBlock, VerifyReport};

/// The pause between two segments of the scrub: 10 MiB every two seconds is a small part of what any disk
/// reads, and goes through 50 GiB in under three hours.
const SEGMENT_PAUSE: Duration = Duration::from_secs(2);
/// The pause between two rounds of the scrub, and before the first.
const ROUND_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

impl ChunkManager {
    /// Checks every recorded block against its checksum; with `repair`, forgets the bad ones, so that they
    /// are fetched again when they are next wanted. Without, they stay recorded until they are next wanted, and
    /// are not served either.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn verify(&self, repair: bool) -> Result<VerifyReport, ManagerError> {
        // What is about to be recorded is checked as well.
        self.inner.record().await;
        let mut report = VerifyReport {
            repaired: repair,
            ..VerifyReport::default()
        };
        for record in self.inner.store.entries().await? {
            report.entries += 1;
            let Some(current) = &record.current else {
                continue;
            };
            for summary in self.inner.store.segments(current.id).await? {
                self.verify_segment(&record, current, summary.segment, repair, &mut report)
                    .await?;
            }
        }
        Ok(report)
    }

    /// Checks one segment; one that is not recorded any more has nothing to check.
    async fn verify_segment(
        &self,
        entry: &EntryRecord,
        current: &GenerationRecord,
        segment: u32,
        repair: bool,
        report: &mut VerifyReport,
    ) -> Result<(), ManagerError> {
        let row = self.inner.store.segment(current.id, segment).await?;
        let Some(row) = row else { return Ok(()) };
        let place = Place {
            entry: entry.id,
            generation: current.id,
            segment: row.segment,
            segment_size: current.segment_size,
            total_len: current.representation.total_len,
        };
        let mut bad = Vec::new();
        for (index, &crc) in row.blocks.iter().zip(&row.checksums) {
            let block = index as u64;
            report.blocks += 1;
            if self.is_good(place, &row, block, crc, report).await {
                continue;
            }
            // It may have been evicted, or written anew, since the row was read.
            let now = self.inner.store.segment(current.id, row.segment).await?;
            if now.is_none_or(|now| now.epoch != row.epoch || !now.blocks.contains(index)) {
                continue;
            }
            add(&self.inner.counters.checksum_failures, 1);
            if let Some(range) = place.block(block) {
                self.distrust(current.id, range);
                report
                    .bad
                    .push(BadBlock::new(Arc::clone(&entry.key), range));
                bad.push((block, range));
            }
        }
        if repair && !bad.is_empty() {
            self.forget_blocks(entry, place, row, &bad).await?;
        }
        Ok(())
    }

    /// Whether or not it is to be repaired, nobody is served what is known to be bad: the next read of the block
    /// checks it and fetches it again.
    fn distrust(&self, generation: GenerationId, range: ByteRange) {
        for live in self.inner.all_lives() {
            if live.generation_now() == Some(generation) {
                live.distrust(range);
            }
        }
    }

    async fn is_good(
        &self,
        place: Place,
        row: &SegmentRecord,
        block: u64,
        crc: u32,
        report: &mut VerifyReport,
    ) -> bool {
        let (Some(range), Some(segment)) = (place.block(block), place.range()) else {
            return false;
        };
        let Ok(len) = usize::try_from(range.len()) else {
            return false;
        };
        report.bytes += range.len();
        let key = SegmentKey {
            generation: row.generation,
            segment: row.segment,
            epoch: row.epoch,
        };
        match self
            .inner
            .bytes
            .read(key, range.start() - segment.start(), len)
            .await
        {
            Ok(Some(bytes)) if bytes.len() == len => {
                BlockDigest::of(
                    place.entry,
                    place.generation,
                    place.file_block(block),
                    &bytes,
                ) == crc
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Exactly the bad blocks go; their neighbours stay.
    async fn forget_blocks(
        &self,
        entry: &EntryRecord,
        place: Place,
        row: SegmentRecord,
        bad: &[(u64, ByteRange)],
    ) -> Result<(), ManagerError> {
        // Nobody opens it by rows that are about to change.
        let settled = self.inner.turns.alone(&entry.key).await;
        let live = self.inner.live_of(place.generation);
        if let Some(live) = live.or_else(|| self.inner.closed_live_of(place.generation)) {
            for &(_, range) in bad {
                live.forget(range);
                self.inner.note_forgotten(&live, range);
                self.inner.tell(Input::Forgotten {
                    source: live.source,
                    range,
                });
            }
            self.inner.dirty.mark(&live);
            // Whoever opens it from here on has that recorded first.
            drop(settled);
            self.inner.record().await;
            return Ok(());
        }
        let _alone = self.inner.rows.lock().await;
        // It may have been evicted, or written anew, since it was checked.
        let now = self.inner.store.segment(place.generation, place.segment);
        let Some(row) = now.await?.filter(|now| now.epoch == row.epoch) else {
            return Ok(());
        };
        let accessed_unix = row.accessed_unix;
        let mut segment = crate::segment::Segment {
            epoch: row.epoch,
            blocks: row.blocks.clone(),
            ..Default::default()
        };
        segment.load(&row);
        for &(block, _) in bad {
            segment.forget(block);
        }
        let write = match segment.row(place, &BTreeSet::new(), accessed_unix) {
            Some(record) => StoreWrite::RecordSegment(record),
            None => StoreWrite::RemoveSegments {
                generation: place.generation,
                segments: vec![place.segment],
            },
        };
        self.inner.commit_now(vec![write]).await?;
        Ok(())
    }

    /// Checks every recorded segment in turn, for as long as the manager lives, and forgets what is bad: damage
    /// that nobody has read yet is found while its origin may still be there.
    pub(crate) async fn keep_scrubbing(self) {
        loop {
            self.pause(ROUND_PAUSE).await;
            match self.scrub_round().await {
                Ok(report) => tracing::info!(
                    blocks = report.blocks,
                    bad = report.bad.len(),
                    "every recorded block has been checked"
                ),
                Err(ManagerError::Closed) => return,
                Err(error) => tracing::warn!(%error, "the background check stopped early"),
            }
        }
    }

    async fn scrub_round(&self) -> Result<VerifyReport, ManagerError> {
        let mut report = VerifyReport {
            repaired: true,
            ..VerifyReport::default()
        };
        for record in self.inner.store.entries().await? {
            report.entries += 1;
            let Some(current) = &record.current else {
                continue;
            };
            for summary in self.inner.store.segments(current.id).await? {
                self.pause(SEGMENT_PAUSE).await;
                self.inner.check_open()?;
                self.verify_segment(&record, current, summary.segment, true, &mut report)
                    .await?;
            }
        }
        Ok(report)
    }

    async fn pause(&self, time: Duration) {
        let clock = &self.inner.clock;
        clock.sleep_until(clock.now() + time).await;
    }
}
