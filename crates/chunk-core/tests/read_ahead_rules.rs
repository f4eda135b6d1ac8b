//! Read-ahead: how far, when, and what a seek does to it.

use std::time::Duration;

use chunk_core::{ByteRange, ChunkSize, ReadAhead, ReadAheadPolicy};
use proptest::collection::vec;
use proptest::prelude::*;

const MIB: u64 = 1024 * 1024;
const CHUNK: ChunkSize = ChunkSize::DEFAULT;

/// A reader that has read on for long.
fn settled(policy: ReadAheadPolicy) -> ReadAhead {
    let mut reader = ReadAhead::new(policy, 0);
    reader.on_read(0, 1024 * MIB);
    reader
}

fn window_len(reader: &ReadAhead, rate: Option<u64>) -> u64 {
    reader
        .window(reader.position(), rate, CHUNK)
        .map_or(0, ByteRange::len)
}

#[test]
fn r02_the_window_is_seconds_of_media() {
    let reader = settled(ReadAheadPolicy::DEFAULT);
    assert_eq!(window_len(&reader, Some(1_000_000)), 30_000_000);
    assert_eq!(window_len(&reader, Some(2_000_000)), 60_000_000);
    let longer = settled(ReadAheadPolicy::DEFAULT.with_seconds(Duration::from_secs(60)));
    assert_eq!(window_len(&longer, Some(1_000_000)), 60_000_000);
}

#[test]
fn r02_the_window_is_a_number_of_chunks_while_the_rate_is_unknown() {
    let reader = settled(ReadAheadPolicy::DEFAULT.with_fallback_chunks(3));
    assert_eq!(window_len(&reader, None), 3 * CHUNK.get());
}

#[test]
fn the_largest_window_holds_at_any_rate() {
    let reader = settled(ReadAheadPolicy::DEFAULT.with_max(5 * MIB));
    assert_eq!(window_len(&reader, Some(u64::MAX)), 5 * MIB);
    assert_eq!(window_len(&reader, None), 5 * MIB);
}

#[test]
fn read_ahead_can_be_switched_off() {
    for policy in [
        ReadAheadPolicy::DEFAULT.with_seconds(Duration::ZERO),
        ReadAheadPolicy::DEFAULT.with_max(0),
    ] {
        let mut reader = settled(policy);
        assert_eq!(window_len(&reader, None), 0);
        assert_eq!(window_len(&reader, Some(1_000_000)), 0);
        assert_eq!(reader.refill(reader.position(), 0, None, CHUNK), None);
    }
}

#[test]
fn a_reader_that_reads_two_bytes_is_given_a_mebibyte_and_not_half_a_minute() {
    let mut reader = ReadAhead::new(ReadAheadPolicy::DEFAULT, 0);
    assert_eq!(window_len(&reader, Some(5_000_000)), MIB);
    reader.on_read(0, 2);
    assert_eq!(window_len(&reader, Some(5_000_000)), MIB);
}

#[test]
fn the_window_doubles_while_the_reader_reads_on() {
    let mut reader = ReadAhead::new(ReadAheadPolicy::DEFAULT, 0);
    let mut lens = Vec::new();
    for _ in 0..5 {
        let len = window_len(&reader, Some(5_000_000));
        lens.push(len / MIB);
        reader.on_read(reader.position(), len);
    }
    assert_eq!(lens, [1, 2, 6, 18, 54]);
}

#[test]
fn r02_a_seek_shuts_the_window() {
    let mut reader = settled(ReadAheadPolicy::DEFAULT);
    reader.on_seek(5_000 * MIB);
    assert_eq!(reader.position(), 5_000 * MIB);
    assert_eq!(window_len(&reader, Some(5_000_000)), MIB);
    // A read elsewhere is a seek nobody announced, backwards as well as far ahead.
    for elsewhere in [0, 9_000 * MIB] {
        let mut reader = settled(ReadAheadPolicy::DEFAULT);
        reader.on_read(elsewhere, 1);
        assert_eq!(window_len(&reader, Some(5_000_000)), MIB);
    }
}

#[test]
fn a_skip_inside_the_window_is_not_a_seek() {
    let mut reader = settled(ReadAheadPolicy::DEFAULT);
    let before = window_len(&reader, Some(5_000_000));
    reader.on_read(reader.position() + 100_000, 1_000);
    assert_eq!(window_len(&reader, Some(5_000_000)), before);
}

#[test]
fn a_refill_starts_below_half_and_goes_up_to_the_full_window() {
    let mut reader = settled(ReadAheadPolicy::DEFAULT);
    let rate = Some(1_000_000);
    let full = 30_000_000;
    let start = reader.position();
    // The reader is `read` bytes on, `ready` bytes from the start are there.
    let mut wants = |read: u64, ready: u64| {
        reader
            .refill(start + read, ready - read, rate, CHUNK)
            .map(|range| (range.start() - start, range.end() - start))
    };
    assert_eq!(wants(0, 0), Some((0, full)));
    // Reading while it fills does not move the end away.
    assert_eq!(wants(1_000, full - 1), Some((full - 1, full)));
    assert_eq!(wants(2_000, full), None);
    // Resting until less than half is left.
    assert_eq!(wants(full / 2, full), None);
    assert_eq!(wants(full / 2 + 1, full), Some((full, full / 2 + 1 + full)));
    // And again up to the end.
    assert_eq!(
        wants(full / 2 + 2, full + 100_000),
        Some((full + 100_000, full / 2 + 1 + full))
    );
    assert_eq!(wants(full, full / 2 + 1 + full), None);
}

#[test]
fn a_seek_to_where_enough_is_ready_asks_for_nothing() {
    let mut reader = settled(ReadAheadPolicy::DEFAULT);
    assert!(reader.refill(reader.position(), 0, None, CHUNK).is_some());
    reader.on_seek(0);
    assert_eq!(
        reader.refill(0, ReadAhead::FIRST_WINDOW / 2, None, CHUNK),
        None
    );
    assert!(
        reader
            .refill(0, ReadAhead::FIRST_WINDOW / 2 - 1, None, CHUNK)
            .is_some()
    );
}

#[test]
fn a_window_that_shrinks_ends_the_refill_early() {
    let mut reader = settled(ReadAheadPolicy::DEFAULT);
    let at = reader.position();
    assert!(reader.refill(at, 0, Some(2_000_000), CHUNK).is_some());
    let rest = reader.refill(at, 20_000_000, Some(1_000_000), CHUNK);
    assert_eq!(rest, ByteRange::try_new(at + 20_000_000, at + 30_000_000));
}

#[test]
fn the_start_is_urgent_for_two_seconds_or_20_mib() {
    let mut reader = ReadAhead::new(ReadAheadPolicy::DEFAULT, 0);
    assert_eq!(reader.startup_left(None), 20 * MIB);
    assert_eq!(reader.startup_left(Some(1_000_000)), 2_000_000);
    assert_eq!(reader.startup_left(Some(u64::MAX)), 20 * MIB);
    reader.on_read(0, 1_500_000);
    assert_eq!(reader.startup_left(Some(1_000_000)), 500_000);
    reader.on_read(1_500_000, 1_500_000);
    assert_eq!(reader.startup_left(Some(1_000_000)), 0);
    // A seek is a start.
    reader.on_seek(0);
    assert_eq!(reader.startup_left(Some(1_000_000)), 2_000_000);
    let less = ReadAhead::new(ReadAheadPolicy::DEFAULT.with_initial(7), 0);
    assert_eq!(less.startup_left(None), 7);
}

#[test]
fn limits_change_while_it_reads() {
    let mut reader = settled(ReadAheadPolicy::DEFAULT);
    reader.set_policy(ReadAheadPolicy::DEFAULT.with_max(MIB));
    assert_eq!(reader.policy().max, MIB);
    assert_eq!(window_len(&reader, None), MIB);
}

proptest! {
    /// A reader that reads on is served by few, long requests, none of which asks for a byte twice.
    #[test]
    fn sequential_reading_asks_for_each_byte_once(
        reads in vec(1..2 * MIB, 1..200),
        rate in prop::option::of(100_000..10_000_000_u64),
    ) {
        let mut reader = ReadAhead::new(ReadAheadPolicy::DEFAULT, 0);
        let (mut position, mut fetched, mut requests) = (0, 0, 0_u64);
        for read in reads {
            if let Some(wanted) = reader.refill(position, fetched - position, rate, CHUNK) {
                prop_assert_eq!(wanted.start(), fetched);
                prop_assert!(wanted.end() - position <= ReadAheadPolicy::DEFAULT.max);
                fetched = wanted.end();
                requests += 1;
            }
            let read = read.min(fetched - position);
            prop_assert!(read > 0, "the reader is never left with nothing");
            reader.on_read(position, read);
            position += read;
        }
        // Each request is for half of a window at least. While the window opens, a request brings the
        // end to three times the position, and the next is due at half of that: one per factor 3/2.
        let full = ReadAheadPolicy::DEFAULT.full_window(rate, CHUNK);
        let opening = 2 * u64::from(full.div_ceil(MIB).ilog2()) + 3;
        prop_assert!(requests <= opening + 2 * position / full + 1, "{requests}");
    }

    #[test]
    fn nothing_overflows(
        steps in vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..40),
        rate in any::<Option<u64>>(),
        seconds in any::<u64>(),
        limits in any::<(u64, u64)>(),
        chunk_size in 1..=u64::MAX,
    ) {
        let policy = ReadAheadPolicy::DEFAULT
            .with_seconds(Duration::from_secs(seconds))
            .with_max(limits.0)
            .with_fallback_chunks(limits.1);
        let chunk_size = ChunkSize::new(chunk_size).unwrap();
        let mut reader = ReadAhead::new(policy, 0);
        for (position, bytes, seek) in steps {
            if seek {
                reader.on_seek(position);
            } else {
                reader.on_read(position, bytes);
            }
            if let Some(window) = reader.window(position, rate, chunk_size) {
                prop_assert!(window.len() <= policy.max && window.start() == position);
            }
            if let Some(wanted) = reader.refill(position, bytes, rate, chunk_size) {
                prop_assert_eq!(wanted.start(), position.saturating_add(bytes));
            }
        }
    }
}
