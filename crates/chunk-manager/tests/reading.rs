//! Readers: bytes as they arrive, from any position, once per byte.

mod support;

use chunk_manager::First;
use support::*;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_file_is_read_whole_and_fetched_once() {
    let rig = setup(3 * MIB + 17).start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(opened.entry.total_len(), Some(3 * MIB + 17));
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 3 * MIB + 17);
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
    let mut again = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut again.reader, 1).await, 3 * MIB + 17);
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
}

#[tokio::test(start_paused = true)]
async fn r29_a_seek_costs_one_round_trip_whatever_the_chunk_size() {
    for chunk_size in [MIB, 10 * MIB, 64 * MIB] {
        let mut setup = setup(200 * MIB);
        setup.chunk_size = chunk_size;
        let rig = setup.start().await;
        let mut opened = rig.open(0, None).await;
        read_exact(&mut opened.reader, 1, 3 * MIB).await;
        for target in [150 * MIB + 12_345, 77 * MIB + 1, 10 * MIB - 100] {
            let asked = Instant::now();
            opened
                .reader
                .seek(std::io::SeekFrom::Start(target))
                .await
                .unwrap();
            let mut first = [0; 1];
            opened.reader.read_exact(&mut first).await.unwrap();
            let waited = asked.elapsed();
            assert!(
                waited.as_millis() <= 60,
                "first byte at {target} took {waited:?} with chunks of {chunk_size}"
            );
            read_exact(&mut opened.reader, 1, 256 * 1024 - 1).await;
            let waited = asked.elapsed();
            assert!(
                waited.as_millis() <= 85,
                "256 KiB at {target} took {waited:?} with chunks of {chunk_size}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn thirty_two_readers_of_one_cold_range_are_one_origin_copy() {
    let rig = setup(8 * MIB).start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let manager = rig.manager.clone();
        tasks.spawn(async move {
            let mut opened = manager
                .open(
                    resource(FILM),
                    First::Span {
                        start: 0,
                        end: None,
                    },
                )
                .await
                .unwrap();
            read_to_end(&mut opened.reader, 1).await
        });
    }
    while let Some(read) = tasks.join_next().await {
        assert_eq!(read.unwrap(), 8 * MIB);
    }
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
    assert_eq!(rig.world.journal().bytes_of(FILM), 8 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_suffix_of_a_cold_file_costs_one_block_at_most() {
    let rig = setup(16 * MIB).start().await;
    let mut opened = rig
        .manager
        .open(resource(FILM), First::Suffix { len: 1_000 })
        .await
        .unwrap();
    assert_eq!(opened.reader.position(), 16 * MIB - 1_000);
    assert_eq!(read_to_end(&mut opened.reader, 1).await, 1_000);
    drop(opened);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await; // why: virtual time, to let back-fill happen
    assert!(rig.world.journal().bytes_of(FILM) <= 64 * 1024);
}

#[tokio::test(start_paused = true)]
async fn trap14_a_reader_that_goes_away_stops_the_transfer() {
    let rig = setup(64 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    drop(opened);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await; // why: virtual time, nothing more may come
    let sent = rig.world.journal().bytes_of(FILM);
    assert!(sent <= MIB + 512 * 1024, "{sent} bytes for one MiB");
}
