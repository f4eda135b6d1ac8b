//! The rules of the byte store's contract, one function each.
//!
//! Each takes a fresh store and panics where the rule is broken.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use chunk_core::GenerationId;
use chunk_ports::{ByteStore, SegmentKey};
use futures_util::future::{join, join_all};

use super::content::{assert_right, bytes_at};

/// A length that is a multiple of no page, sector or block.
const ODD: usize = 10_007;

fn key(generation: u64, segment: u32, epoch: u32) -> SegmentKey {
    SegmentKey {
        generation: GenerationId::new(generation),
        segment,
        epoch,
    }
}

async fn write<S: ByteStore + ?Sized>(store: &S, key: SegmentKey, offset: u64, len: usize) {
    store
        .write(key, offset, vec![bytes_at(key, offset, len)])
        .await
        .unwrap();
}

/// Reads `len` bytes at `offset`, which all were written, whatever the number of calls a short read makes it.
async fn assert_reads_back<S: ByteStore + ?Sized>(
    store: &S,
    key: SegmentKey,
    offset: u64,
    len: usize,
) {
    let found = store
        .read(key, offset, len)
        .await
        .unwrap()
        .unwrap_or_default();
    assert_eq!(found.len(), len, "{key:?} at {offset}");
    assert_right(key, offset, &found);
}

async fn assert_nothing_at<S: ByteStore + ?Sized>(store: &S, key: SegmentKey, offset: u64) {
    assert_eq!(
        store.read(key, offset, 16).await.unwrap(),
        None,
        "{key:?} at {offset}"
    );
}

/// Reading what was never written is a miss, not an error.
pub async fn never_written_is_none<S: ByteStore + ?Sized>(store: &S) {
    assert_nothing_at(store, key(1, 0, 0), 0).await;
    write(store, key(1, 0, 0), 0, 10).await;
    for other in [key(2, 0, 0), key(1, 1, 0), key(1, 0, 1)] {
        assert_nothing_at(store, other, 0).await;
    }
}

/// An acknowledged write is seen by the next read, without a flush.
pub async fn written_bytes_read_back<S: ByteStore + ?Sized>(store: &S) {
    write(store, key(1, 0, 0), 0, ODD).await;
    assert_reads_back(store, key(1, 0, 0), 0, ODD).await;
}

/// The pieces of one write follow each other; empty ones do not count; there may be very many.
pub async fn a_write_of_many_pieces_is_one_run_of_bytes<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    // More pieces than one vectored system call takes (IOV_MAX is 1,024 on Linux).
    let mut pieces = vec![Bytes::new()];
    for index in 0..3_000 {
        pieces.push(bytes_at(key, 5 + index * 7, 7));
        if index % 100 == 0 {
            pieces.push(Bytes::new());
        }
    }
    store.write(key, 5, pieces).await.unwrap();
    assert_reads_back(store, key, 5, 21_000).await;
    assert_nothing_at(store, key, 21_005).await;
    store.write(key, 0, Vec::new()).await.unwrap();
    assert_reads_back(store, key, 5, 21_000).await;
}

/// A read that reaches past the written end is short; one that begins there finds nothing.
pub async fn a_read_past_the_end_is_short_or_none<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    write(store, key, 0, ODD).await;
    let found = store.read(key, 10_000, 1_000).await.unwrap().unwrap();
    assert_eq!(found.len(), 7);
    assert_right(key, 10_000, &found);
    let whole = store.read(key, 0, 1 << 20).await.unwrap().unwrap();
    assert_eq!(whole.len(), ODD);
    for past in [ODD as u64, 1 << 20, i64::MAX as u64, u64::MAX] {
        assert_nothing_at(store, key, past).await;
    }
}

/// Any part of what was written can be read.
pub async fn any_part_reads_back<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    write(store, key, 0, ODD).await;
    for offset in [0, 1, 4_095, 4_096, 4_097, 8_191, 10_006] {
        for len in [1, 2, 511, 4_096, ODD] {
            let len = len.min(ODD - offset);
            assert_reads_back(store, key, offset as u64, len).await;
        }
    }
}

/// Writing on after the end keeps what was there.
pub async fn an_extension_keeps_what_was_there<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    for part in 0..5 {
        write(store, key, part * 1_000, 1_000).await;
    }
    assert_reads_back(store, key, 0, 5_000).await;
}

/// A segment may be written from the middle on, its head afterwards.
pub async fn the_later_half_may_come_first<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    write(store, key, 5_000, 5_007).await;
    assert_reads_back(store, key, 5_000, 5_007).await;
    write(store, key, 0, 5_000).await;
    assert_reads_back(store, key, 0, ODD).await;
}

/// A flush succeeds and changes nothing that is read, however often it is done.
pub async fn a_flush_changes_nothing_read<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    for part in 0..3 {
        write(store, key, part * 1_000, 1_000).await;
        store.flush(key).await.unwrap();
        store.flush(key).await.unwrap();
    }
    assert_reads_back(store, key, 0, 3_000).await;
}

/// A write may be repeated, as after an unknown outcome.
pub async fn writing_the_same_again_is_harmless<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    write(store, key, 0, ODD).await;
    write(store, key, 0, ODD).await;
    write(store, key, 100, 50).await;
    assert_reads_back(store, key, 0, ODD).await;
    assert_nothing_at(store, key, ODD as u64).await;
}

/// Each of the three numbers of a name counts.
pub async fn generation_segment_and_epoch_keep_apart<S: ByteStore + ?Sized>(store: &S) {
    let keys = [
        (key(1, 0, 0), 100),
        (key(2, 0, 0), 110),
        (key(1, 1, 0), 120),
        (key(1, 0, 1), 130),
        // Names that a careless concatenation of digits would confuse.
        (key(1, 11, 1), 140),
        (key(1, 1, 11), 150),
        (key(11, 1, 1), 160),
        (key(257, 0, 0), 170),
    ];
    for (key, len) in keys {
        write(store, key, 0, len).await;
    }
    for (key, len) in keys {
        assert_reads_back(store, key, 0, len).await;
        assert_nothing_at(store, key, len as u64).await;
    }
}

/// Names reach to the ends of their types.
pub async fn the_largest_numbers_are_names_too<S: ByteStore + ?Sized>(store: &S) {
    let largest = key(u64::MAX, u32::MAX, u32::MAX);
    write(store, largest, 0, 100).await;
    write(store, key(0, 0, 0), 0, 50).await;
    assert_reads_back(store, largest, 0, 100).await;
    let mut generations = store.generations().await.unwrap();
    generations.sort();
    assert_eq!(
        generations,
        [GenerationId::new(0), GenerationId::new(u64::MAX)]
    );
}

/// Hundreds of segments are there together, more than a store may keep open.
pub async fn many_segments_keep_apart<S: ByteStore + ?Sized>(store: &S) {
    let keys: Vec<_> = (0..600).map(|n| key(n % 7, n as u32, 0)).collect();
    for key in &keys {
        write(store, *key, 0, 64).await;
    }
    for key in &keys {
        assert_reads_back(store, *key, 0, 64).await;
    }
}

/// A read that begins after a removal finds nothing, even where the segment was in use before.
pub async fn removal_takes_effect_at_once<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    write(store, key, 0, ODD).await;
    store.flush(key).await.unwrap();
    assert_reads_back(store, key, 0, ODD).await;
    store.remove(vec![key]).await.unwrap();
    assert_nothing_at(store, key, 0).await;
}

/// Other segments, epochs and generations stay.
pub async fn removal_takes_only_what_is_named<S: ByteStore + ?Sized>(store: &S) {
    let keys = [key(1, 0, 0), key(1, 0, 1), key(1, 1, 0), key(2, 0, 0)];
    for key in keys {
        write(store, key, 0, 100).await;
    }
    store.remove(vec![keys[0]]).await.unwrap();
    for key in &keys[1..] {
        assert_reads_back(store, *key, 0, 100).await;
    }
}

/// Removing twice, or what never was, is `Ok`; what is named beside it goes all the same.
pub async fn removing_what_is_not_there_is_ok<S: ByteStore + ?Sized>(store: &S) {
    let there = key(1, 0, 0);
    write(store, there, 0, 100).await;
    store
        .remove(vec![key(1, 7, 0), there, key(9, 0, 0), there])
        .await
        .unwrap();
    assert_nothing_at(store, there, 0).await;
    store.remove(vec![there]).await.unwrap();
    store.remove(Vec::new()).await.unwrap();
    store.remove_generation(GenerationId::new(1)).await.unwrap();
    store.remove_generation(GenerationId::new(5)).await.unwrap();
}

/// Every segment of the generation goes, of any epoch, and no other.
pub async fn removing_a_generation_takes_all_its_segments<S: ByteStore + ?Sized>(store: &S) {
    let gone = [key(3, 0, 0), key(3, 0, 2), key(3, 9, 0)];
    // 259 shares its lowest byte with 3, which an adapter may group by.
    let stays = [key(2, 0, 0), key(259, 0, 0)];
    for key in gone.iter().chain(&stays) {
        write(store, *key, 0, 100).await;
    }
    store.remove_generation(GenerationId::new(3)).await.unwrap();
    for key in gone {
        assert_nothing_at(store, key, 0).await;
    }
    for key in stays {
        assert_reads_back(store, key, 0, 100).await;
    }
}

/// Exactly the generations that have a segment are listed, each once.
pub async fn generations_lists_what_is_stored<S: ByteStore + ?Sized>(store: &S) {
    assert_eq!(store.generations().await.unwrap(), []);
    for key in [key(5, 0, 0), key(5, 1, 0), key(6, 0, 0), key(261, 0, 0)] {
        write(store, key, 0, 10).await;
    }
    let listed = |mut found: Vec<GenerationId>| {
        found.sort();
        found.into_iter().map(GenerationId::get).collect::<Vec<_>>()
    };
    assert_eq!(listed(store.generations().await.unwrap()), [5, 6, 261]);
    store
        .remove_generation(GenerationId::new(261))
        .await
        .unwrap();
    store.remove(vec![key(5, 0, 0)]).await.unwrap();
    assert_eq!(listed(store.generations().await.unwrap()), [5, 6]);
    store.remove(vec![key(5, 1, 0)]).await.unwrap();
    assert_eq!(listed(store.generations().await.unwrap()), [6]);
    // A generation that was empty for a while takes segments again.
    write(store, key(5, 2, 0), 0, 10).await;
    assert_eq!(listed(store.generations().await.unwrap()), [5, 6]);
}

/// Sixteen writers, each with its own stretches of one segment, all at once.
pub async fn disjoint_writes_at_once_do_not_disturb_each_other<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    const STRETCH: usize = 1_111;
    join_all((0..16_u64).map(|writer| async move {
        for round in 0..8 {
            let offset = (round * 16 + writer) * STRETCH as u64;
            write(store, key, offset, STRETCH).await;
        }
    }))
    .await;
    assert_reads_back(store, key, 0, 16 * 8 * STRETCH).await;
}

/// A reader beside a writer never sees a byte that nobody wrote, except a hole's zeros.
pub async fn reads_beside_writes_see_whole_bytes<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    let writing = async {
        for part in 0..50 {
            write(store, key, part * 1_000, 1_000).await;
        }
    };
    let reading = async {
        for _ in 0..50 {
            if let Some(found) = store.read(key, 0, 50_000).await.unwrap() {
                let written = found.iter().position(|byte| *byte == 0);
                assert_right(key, 0, &found[..written.unwrap_or(found.len())]);
            }
        }
    };
    join(writing, reading).await;
    assert_reads_back(store, key, 0, 50_000).await;
}

/// Reads at the time of a removal give right bytes, nothing, or an error; never other content.
pub async fn a_read_beside_a_removal_sees_right_bytes_or_none<S: ByteStore + ?Sized>(store: &S) {
    for round in 0..20 {
        let key = key(1, round, 0);
        write(store, key, 0, ODD).await;
        let reads = join_all((0..4).map(|_| store.read(key, 0, ODD)));
        let (found, removed) = join(reads, store.remove(vec![key])).await;
        removed.unwrap();
        for found in found.into_iter().flatten().flatten() {
            assert_right(key, 0, &found);
        }
        assert_nothing_at(store, key, 0).await;
    }
}

/// A write that is dropped after it began leaves other bytes alone and can be done again.
pub async fn a_dropped_write_touches_only_its_own_bytes<S: ByteStore + ?Sized>(store: &S) {
    let key = key(1, 0, 0);
    write(store, key, 0, 1_000).await;
    write(store, key, 2_000, 1_000).await;
    {
        let mut dropped = pin!(store.write(key, 1_000, vec![bytes_at(key, 1_000, 1_000)]));
        let _ = dropped
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
    assert_reads_back(store, key, 0, 1_000).await;
    assert_reads_back(store, key, 2_000, 1_000).await;
    write(store, key, 1_000, 1_000).await;
    assert_reads_back(store, key, 0, 3_000).await;
}

/// The question about free space is answered, or declined, without an error; room is there in a test.
pub async fn free_space_answers<S: ByteStore + ?Sized>(store: &S) {
    let free = store.free_space().await.unwrap();
    assert_ne!(free, Some(0));
}
