//! Whether an origin serves ranges, as its answers show it, and where a file ends whose length they do not tell.

mod support;

use std::time::Duration;

use chunk_manager::{OpenError, Priority, ReadError};
use chunk_testkit::origin::{Fault, OriginObject, When};
use support::*;
use tokio::time::{Instant, sleep};

/// Longer than an entry stays open without readers.
const UNTIL_CLOSED: Duration = Duration::from_secs(130);

#[tokio::test(start_paused = true)]
async fn fault01_a_200_far_inside_a_file_is_tried_again_then_told_and_never_read_to_the_end() {
    const LEN: u64 = 256 * MIB;
    const FAR: u64 = 200 * MIB + 7;
    for ignored in [1, 100] {
        let rig = setup(LEN).start().await;
        let mut opened = rig.open(0, Some(1)).await;
        read_exact(&mut opened.reader, 1, 1).await;
        let when = if ignored == 1 {
            When::Nth(2)
        } else {
            When::From(2)
        };
        rig.world.fault(FILM, when, Fault::IgnoreRange);
        let asked = Instant::now();
        let mut far = rig.open(FAR, Some(FAR + 100)).await;
        if ignored == 1 {
            // A whim of one of the origin's machines costs a round trip and a pause.
            read_exact(&mut far.reader, 1, 100).await;
            assert!(far.entry.accepts_ranges());
        } else {
            let error = far.reader.next(1).await.unwrap_err();
            assert!(
                matches!(error, ReadError::Failed(OpenError::Refused { .. })),
                "{error:?}"
            );
            // Who asks next is told that there are no ranges, and gets what there is from the start.
            assert!(!far.entry.accepts_ranges());
            let mut whole = rig.open(0, Some(8 * MIB)).await;
            assert_eq!(read_to_end(&mut whole.reader, 1).await, 8 * MIB);
        }
        assert!(asked.elapsed() < Duration::from_secs(5));
        let bytes = rig.world.journal().bytes_of(FILM);
        assert!(
            bytes < 32 * MIB,
            "{bytes} bytes for {ignored} refused ranges"
        );

        // What the origin serves again is found out by the next request.
        rig.world.clear_faults(FILM);
        sleep(Duration::from_secs(2)).await;
        drop(
            rig.open(20 * MIB, Some(20 * MIB + 1))
                .await
                .reader
                .next(1)
                .await,
        );
        assert!(far.entry.accepts_ranges());
    }
}

#[tokio::test(start_paused = true)]
async fn fault01_an_order_is_filled_from_the_first_byte_where_ranges_have_ended() {
    let mut setup = setup(40 * MIB);
    // Nobody who watches would wait for 30 MiB at this rate.
    setup.link = link().total_rate(1_000_000);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(30 * MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened.reader);
    rig.world
        .put(OriginObject::new(FILM, 40 * MIB).without_ranges());
    let (entry, wait) = (opened.entry.id(), Duration::from_secs(60));
    rig.manager
        .request_chunks_for_range(entry, 0, 40 * MIB, Priority::Medium)
        .await
        .unwrap();
    rig.manager.wait_for_chunk(entry, 39, wait).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_200_to_a_request_for_everything_leaves_ranges_to_be_asked_for() {
    let rig = setup(64 * MIB).start().await;
    rig.world.fault(FILM, When::Nth(1), Fault::IgnoreRange);
    let mut start = rig.open(0, None).await;
    read_exact(&mut start.reader, 1, 1).await;
    assert!(start.entry.accepts_ranges());
    let asked = Instant::now();
    let mut far = rig.open(60 * MIB, None).await;
    read_exact(&mut far.reader, 1, 1).await;
    assert!(
        asked.elapsed() < Duration::from_millis(300),
        "{:?}",
        asked.elapsed()
    );
    // The same of one that is known to serve ranges, and then answers so.
    drop((start, far));
    sleep(UNTIL_CLOSED).await;
    rig.world.fault(FILM, When::Always, Fault::IgnoreRange);
    let mut again = rig.open(0, None).await;
    again.reader.next(1).await.unwrap();
    assert!(again.entry.accepts_ranges());
}

#[tokio::test(start_paused = true)]
async fn parts_that_leave_the_total_open_end_where_a_416_says_so_and_are_kept() {
    let len = 3 * MIB + 5;
    let setup = setup(len);
    setup.world.fault(FILM, When::Always, Fault::NoTotal);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    assert_eq!(opened.entry.total_len(), None);
    assert_eq!(read_to_end(&mut opened.reader, 1).await, len);
    assert_eq!(opened.entry.total_len(), Some(len));
    drop(opened);
    rig.manager.shutdown().await;

    let again = setup.start().await;
    let mut opened = again.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 1).await, len);
    assert_eq!(again.world.journal().bytes_of(FILM), len);
}
