//! Reading from the byte store, with checks where they are due.
//!
//! Damage is rarely one block: a file is gone, or cut, or was overwritten. What lies next to a loss is looked at
//! before the reader goes on, because what is forgotten together is fetched again with one request, and what is
//! found block by block costs a round trip each.

use std::sync::Arc;

use bytes::Bytes;
use chunk_core::scheduler::Input;
use chunk_core::{BLOCK_SIZE, ByteRange, RangeSet};
use chunk_ports::SegmentKey;

use crate::counters::add;
use crate::error::ReadError;
use crate::inner::Inner;
use crate::integrity::{BlockDigest, block_range};
use crate::live::Live;
use crate::segment::Place;

/// How much is looked at in one go beyond a bad block.
const LOOK_ON: usize = 1 << 20;

/// Bytes that this process wrote or has checked. `None` where the store has lost them: they are forgotten
/// then, with whatever else the file has lost, and will be fetched again.
pub(crate) async fn read_trusted(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    key: SegmentKey,
    offset: u64,
    position: u64,
    len: usize,
) -> Result<Option<Bytes>, ReadError> {
    match inner.bytes.read(key, offset, len).await {
        Ok(bytes) => {
            let mut bytes = bytes.unwrap_or_default();
            if bytes.len() < len {
                let end = offset + bytes.len() as u64;
                forget_cut(inner, live, key, position - offset, end).await;
                // The block in which the file ends is fetched whole, with those after it.
                let whole = (end - end % BLOCK_SIZE).saturating_sub(offset);
                bytes.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
            }
            Ok((!bytes.is_empty()).then_some(bytes))
        }
        Err(error) => {
            tracing::warn!(key = %live.key, %error, "cached bytes cannot be read and are fetched again");
            forget(inner, live, position, len as u64);
            Ok(None)
        }
    }
}

/// Bytes that another process wrote: their blocks are read whole and checked first. `None` where a check
/// failed: the bad blocks are forgotten, and no others.
pub(crate) async fn read_checked(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    position: u64,
    max: usize,
) -> Result<Option<Bytes>, ReadError> {
    let Some(found) = check_at(inner, live, position, max).await else {
        // Without a row and its checksums nothing can be trusted.
        forget(inner, live, position, 1);
        return Ok(None);
    };
    let mut suspect = found.suspect;
    while let Some(next) = suspect {
        suspect = match check_at(inner, live, next, LOOK_ON).await {
            Some(found) => found.suspect,
            None => None,
        };
    }
    if found.good_end <= position {
        return Ok(None);
    }
    let (Ok(from), Ok(to)) = (
        usize::try_from(position - found.start),
        usize::try_from(found.good_end - found.start),
    ) else {
        return Ok(None);
    };
    let end = to.min(from.saturating_add(max)).min(found.bytes.len());
    Ok((from < end).then(|| found.bytes.slice(from..end)))
}

/// What a check found.
struct Checked {
    /// Where `bytes` begin.
    start: u64,
    bytes: Bytes,
    /// Up to where they are good.
    good_end: u64,
    /// Where the next unchecked block of the segment begins, if the last of these was bad.
    suspect: Option<u64>,
}

/// Reads and checks the blocks from `position` on, as many as hold `max` bytes; trusts good ones and forgets bad
/// ones. `None` where nothing is recorded, or it cannot be told what its checksum is.
async fn check_at(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    position: u64,
    max: usize,
) -> Option<Checked> {
    let (place, epoch, is_unloaded, blocks) = what_to_check(live, position, max)?;
    if is_unloaded {
        let row = inner.store.segment(place.generation, place.segment).await;
        let row = row.ok().flatten()?;
        if let Some(segment) = live.lock().segments.get_mut(&place.segment) {
            segment.load(&row);
        }
    }
    let whole = place.range()?;
    let key = SegmentKey {
        generation: place.generation,
        segment: place.segment,
        epoch,
    };
    let len = usize::try_from(blocks.len()).ok()?;
    let offset = blocks.start() - whole.start();
    let distrusts = live.distrusts();
    let read = inner.bytes.read(key, offset, len).await;
    let nothing = Checked {
        start: blocks.start(),
        bytes: Bytes::new(),
        good_end: blocks.start(),
        suspect: None,
    };
    let bytes = match read {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(key = %live.key, %error, "cached bytes cannot be read and are fetched again");
            forget(inner, live, blocks.start(), blocks.len());
            return Some(nothing);
        }
    };
    if live.lock().epoch(place.segment) != epoch {
        // The file was given up during the read.
        return Some(nothing);
    }
    let bad = check(live, place, blocks, &bytes, distrusts);
    add(&inner.counters.checksum_failures, bad.blocks);
    for range in bad.ranges.iter() {
        tracing::warn!(
            key = %live.key,
            start = range.start(),
            len = range.len(),
            "cached blocks are damaged and are fetched again"
        );
        forget(inner, live, range.start(), range.len());
    }
    let is_cut = bytes.len() < len;
    if is_cut {
        forget_cut(inner, live, key, whole.start(), offset + bytes.len() as u64).await;
    }
    let next = blocks.end();
    let is_suspect = !is_cut
        && bad.ranges.contains(blocks.last())
        && next < whole.end()
        && !live.lock().trusted.contains(next);
    Some(Checked {
        good_end: bad
            .ranges
            .iter()
            .next()
            .map_or(blocks.end(), ByteRange::start),
        suspect: is_suspect.then_some(next),
        ..Checked { bytes, ..nothing }
    })
}

/// The whole blocks around `position` that are recorded, unchecked, and of one segment.
fn what_to_check(live: &Live, position: u64, max: usize) -> Option<(Place, u32, bool, ByteRange)> {
    let generation = live.generation_now()?;
    let state = live.lock();
    let meta = state.meta.as_ref()?;
    let total_len = meta.representation.total_len?;
    let segment = u32::try_from(position / meta.segment_size).ok()?;
    let place = Place {
        entry: live.entry,
        generation,
        segment,
        segment_size: meta.segment_size,
        total_len: Some(total_len),
    };
    let recorded = state.recorded.range_at(position)?;
    let start = position - position % BLOCK_SIZE;
    let end = position
        .saturating_add(max as u64)
        .checked_next_multiple_of(BLOCK_SIZE)?
        .min(place.range()?.end())
        .min(recorded.end());
    let found = state.segments.get(&segment)?;
    Some((
        place,
        found.epoch,
        found.is_unloaded,
        ByteRange::try_new(start, end)?,
    ))
}

/// Blocks that do not match their checksums.
#[derive(Default)]
struct Bad {
    ranges: RangeSet,
    blocks: u64,
}

/// Checks `bytes`, read from `blocks`, block by block, and trusts good ones.
fn check(live: &Live, place: Place, blocks: ByteRange, bytes: &Bytes, distrusts: u64) -> Bad {
    let per_segment = place.segment_size / BLOCK_SIZE;
    let mut bad = Bad::default();
    for block in blocks.start() / BLOCK_SIZE..=blocks.last() / BLOCK_SIZE {
        let Some(range) = block_range(block, place.total_len) else {
            break;
        };
        let known = live
            .lock()
            .segments
            .get(&place.segment)
            .and_then(|segment| segment.checksums.get(&(block % per_segment)).copied());
        let at = usize::try_from(range.start() - blocks.start()).unwrap_or(usize::MAX);
        let data = usize::try_from(range.len())
            .ok()
            .and_then(|len| bytes.get(at..at.checked_add(len)?));
        let is_good = match (known, data) {
            (Some(known), Some(data)) => {
                BlockDigest::of(place.entry, place.generation, block, data) == known
            }
            _ => false,
        };
        if is_good {
            live.trust(range, distrusts);
        } else {
            bad.ranges.insert(range);
            bad.blocks += 1;
        }
    }
    bad
}

/// A segment's file ends at `end`, counted from the segment's start, or is missing: forgets all that it is said to
/// hold beyond.
async fn forget_cut(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    key: SegmentKey,
    segment_start: u64,
    end: u64,
) {
    // Where nothing is at all, nothing before it is there either.
    let is_missing = matches!(inner.bytes.read(key, 0, 1).await, Ok(None));
    let end = if is_missing {
        0
    } else {
        end - end % BLOCK_SIZE
    };
    let lost: Vec<ByteRange> = {
        let state = live.lock();
        let Some(meta) = &state.meta else { return };
        let segment_end = segment_start.saturating_add(meta.segment_size);
        let Some(beyond) = ByteRange::try_new(segment_start.saturating_add(end), segment_end)
        else {
            return;
        };
        // What is in memory and not stored yet did not come from the file, and stays.
        match state.epoch(key.segment) == key.epoch {
            true => state.stored.overlapping(beyond).collect(),
            false => return,
        }
    };
    if lost.is_empty() {
        // It was evicted during the read.
        return;
    }
    tracing::warn!(key = %live.key, segment = key.segment, end, "a cached file is cut or missing; what it lacks is fetched again");
    for range in lost {
        forget_exactly(inner, live, range);
    }
    let before = segment_start.saturating_add(end);
    if let Some(before) = ByteRange::try_new(segment_start, before) {
        distrust(inner, live, before);
    }
}

/// The file may end anywhere in `range` or before it, and what is fetched again makes it long again, with zeros where
/// it was cut: what is there is checked once more before it is served, and what has no checksum yet goes.
fn distrust(inner: &Arc<Inner>, live: &Arc<Live>, range: ByteRange) {
    live.distrust(range);
    let unrecorded: Vec<ByteRange> = {
        let state = live.lock();
        let mut stored = RangeSet::new();
        stored.extend(state.stored.overlapping(range));
        for recorded in state.recorded.overlapping(range) {
            stored.remove(recorded);
        }
        stored.iter().collect()
    };
    for range in unrecorded {
        forget_exactly(inner, live, range);
    }
}

/// Forgets the whole blocks around some bytes, here and in the index.
fn forget(inner: &Arc<Inner>, live: &Arc<Live>, position: u64, len: u64) {
    let total_len = live.lock().total_len().unwrap_or(u64::MAX);
    let start = position - position % BLOCK_SIZE;
    let end = position
        .saturating_add(len.max(1))
        .checked_next_multiple_of(BLOCK_SIZE)
        .unwrap_or(u64::MAX)
        .min(total_len);
    if let Some(range) = ByteRange::try_new(start, end) {
        forget_exactly(inner, live, range);
    }
}

fn forget_exactly(inner: &Arc<Inner>, live: &Arc<Live>, range: ByteRange) {
    live.forget(range);
    inner.note_forgotten(live, range);
    inner.tell(Input::Forgotten {
        source: live.source,
        range,
    });
    inner.dirty.mark(live);
}
