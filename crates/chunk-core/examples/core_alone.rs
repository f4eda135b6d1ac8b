//! The core by itself: no async, no clock, no I/O. What is there, what is missing, and what goes first.
//!
//! ```text
//! cargo run -p chunk-core --example core_alone
//! ```
#![expect(clippy::print_stdout, reason = "an example is there to be read")]

use std::error::Error;

use chunk_core::{
    ByteRange, ChunkGeometry, ChunkSize, DemandQueue, Priority, RangeSet, ReadAhead,
    ReadAheadPolicy,
};

const MIB: u64 = 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    // A film of 95 MiB in chunks of 10 MiB: ten chunks, the last one short.
    let film = ChunkGeometry::new(ChunkSize::new(10 * MIB)?, 95 * MIB)?;
    println!(
        "{} chunks, the last is {}",
        film.chunk_count(),
        film.chunk_range(9)?
    );

    // Coverage is a set of bytes. Chunks are derived from it, and only whole ones count.
    let mut present = RangeSet::new();
    present.insert(ByteRange::new(0, 25 * MIB)?);
    present.insert(ByteRange::new(90 * MIB, 95 * MIB)?);
    let chunks: Vec<_> = present
        .iter()
        .flat_map(|range| film.chunks_within(range))
        .collect();
    println!("present: {present:?}, that is the chunks {chunks:?}");

    // The whole film is asked for, for later: only what is missing is queued.
    let mut queue = DemandQueue::new();
    for gap in present.gaps(film.whole()) {
        queue.push("film", gap, Priority::Medium);
    }
    // The viewer jumps to 60 MiB, in the middle of what is queued already: those bytes move to the front.
    let seek = ByteRange::with_len(60 * MIB, MIB)?;
    let pushed = queue.push("film", seek, Priority::Critical);
    println!(
        "the seek adds {} bytes and promotes {}",
        pushed.added, pushed.promoted
    );
    for demand in queue.iter() {
        println!("  {} {:?} of {}", demand.priority, demand.range, demand.key);
    }

    // Half of the seek arrives; the queue shrinks by exactly that.
    let arrived = ByteRange::with_len(60 * MIB, MIB / 2)?;
    queue.satisfy("film", arrived);
    present.insert(arrived);
    println!("next: {:?}", queue.peek().map(|demand| demand.range));

    // In front of a reader a window opens as it reads on, up to 30 seconds at 8 Mbit/s.
    let mut reader = ReadAhead::new(ReadAheadPolicy::DEFAULT, 60 * MIB);
    for _ in 0..6 {
        let window = reader.window(reader.position(), Some(1_000_000), film.chunk_size());
        let Some(window) = window.and_then(|window| film.clip(window)) else {
            break;
        };
        println!("window {:?}, {} KiB", window, window.len() / 1024);
        reader.on_read(window.start(), window.len());
    }
    Ok(())
}
