//! Reading from the byte store, with checks where they are due.

use std::sync::Arc;

use bytes::Bytes;
use chunk_core::scheduler::Input;
use chunk_core::{BLOCK_SIZE, ByteRange};
use chunk_ports::SegmentKey;

use crate::counters::add;
use crate::error::ReadError;
use crate::inner::Inner;
use crate::integrity::{BlockDigest, block_range};
use crate::live::Live;
use crate::segment::Place;

/// Bytes that this process wrote or has checked. `None` where the store has lost them: they are forgotten
/// then, and will be fetched again.
pub(crate) async fn read_trusted(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    key: SegmentKey,
    offset: u64,
    position: u64,
    len: usize,
) -> Result<Option<Bytes>, ReadError> {
    match inner.bytes.read(key, offset, len).await {
        Ok(Some(bytes)) if !bytes.is_empty() => Ok(Some(bytes)),
        Ok(_) => {
            forget(inner, live, position, len as u64);
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(key = %live.key, %error, "cached bytes cannot be read and are fetched again");
            forget(inner, live, position, len as u64);
            Ok(None)
        }
    }
}

/// Bytes that another process wrote: their blocks are read whole and checked first. `None` where a check
/// failed: that block alone is forgotten.
pub(crate) async fn read_checked(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    position: u64,
    max: usize,
) -> Result<Option<Bytes>, ReadError> {
    let Some((place, epoch, is_unloaded, blocks)) = what_to_check(live, position, max) else {
        forget(inner, live, position, 1);
        return Ok(None);
    };
    if is_unloaded {
        match inner.store.segment(place.generation, place.segment).await {
            Ok(Some(row)) => {
                let mut state = live.lock();
                if let Some(segment) = state.segments.get_mut(&place.segment) {
                    segment.load(&row);
                }
            }
            Ok(None) | Err(_) => {
                // Without checksums nothing can be trusted.
                forget(inner, live, position, 1);
                return Ok(None);
            }
        }
    }
    let start = u64::from(place.segment) * place.segment_size;
    let key = SegmentKey {
        generation: place.generation,
        segment: place.segment,
        epoch,
    };
    let len = usize::try_from(blocks.len()).unwrap_or(usize::MAX);
    let distrusts = live.distrusts();
    let read = inner.bytes.read(key, blocks.start() - start, len).await;
    let bytes = match read {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(key = %live.key, %error, "cached bytes cannot be read and are fetched again");
            Bytes::new()
        }
    };
    let good_end = check(inner, live, place, blocks, &bytes, distrusts);
    if good_end <= position {
        return Ok(None);
    }
    let (Ok(from), Ok(to)) = (
        usize::try_from(position - blocks.start()),
        usize::try_from(good_end - blocks.start()),
    ) else {
        return Ok(None);
    };
    let end = to.min(from.saturating_add(max)).min(bytes.len());
    Ok((from < end).then(|| bytes.slice(from..end)))
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

/// Checks `bytes`, read from `blocks`, block by block; forgets bad ones and trusts good ones. Returns where the
/// first bad block starts, or the end.
fn check(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    place: Place,
    blocks: ByteRange,
    bytes: &Bytes,
    distrusts: u64,
) -> u64 {
    let per_segment = place.segment_size / BLOCK_SIZE;
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
        if !is_good {
            add(&inner.counters.checksum_failures, 1);
            tracing::warn!(key = %live.key, block, "a cached block is damaged and is fetched again");
            forget(inner, live, range.start(), range.len());
            return range.start();
        }
        live.trust(range, distrusts);
    }
    blocks.end()
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
        live.forget(range);
        inner.note_forgotten(live, range);
        inner.tell(Input::Forgotten {
            source: live.source,
            range,
        });
        inner.dirty.mark(live);
    }
}
