//! What readers are promised: right bytes whatever they do, at one round trip, and no more than they want.

mod support;

use std::future::poll_fn;
use std::io::SeekFrom;
use std::task::Poll;
use std::time::Duration;

use chunk_manager::{First, Limits};
use chunk_testkit::origin::{OriginObject, verify_content};
use futures_util::StreamExt;
use proptest::prelude::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::{Instant, sleep};

const BLOCK: u64 = 64 * 1024;

#[derive(Clone, Debug)]
enum Op {
    /// Read so many bytes with `next`.
    Next(u32),
    /// Read so many bytes with tokio's trait.
    Read(u16),
    /// Poll once and drop the future.
    PollOnce,
    /// To this share of the file, in thousandths.
    Seek(u16),
    /// Forward or back by a little.
    Skip(i32),
    /// Stop so many bytes after the position.
    SetEnd(u32),
    /// A new reader at this share of the file, in place of the old one.
    Reopen(u16),
    Pause(u16),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1..300_000_u32).prop_map(Op::Next),
        3 => (1..u16::MAX).prop_map(Op::Read),
        2 => Just(Op::PollOnce),
        2 => (0..1100_u16).prop_map(Op::Seek),
        2 => (-100_000..100_000_i32).prop_map(Op::Skip),
        1 => (0..200_000_u32).prop_map(Op::SetEnd),
        1 => (0..1000_u16).prop_map(Op::Reopen),
        2 => (0..3_000_u16).prop_map(Op::Pause),
    ];
    prop::collection::vec(op, 1..40)
}

async fn play(len: u64, ops: Vec<Op>) {
    let jumps = ops.len() as u64;
    let rig = setup(len).start().await;
    let mut opened = rig.open(0, None).await;
    let mut end = len;
    for op in ops {
        let reader = &mut opened.reader;
        let at = reader.position();
        match op {
            Op::Next(want) => match reader.next(want as usize).await.unwrap() {
                Some(bytes) => {
                    assert!(bytes.len() as u64 <= u64::from(want).min(end - at));
                    assert!(!bytes.is_empty(), "an empty piece at {at}");
                    verify_content(FILM, 1, at, &bytes).unwrap();
                    assert_eq!(reader.position(), at + bytes.len() as u64);
                }
                None => assert!(at >= end, "the end at {at} of {end}"),
            },
            Op::Read(want) => {
                let mut buffer = vec![0; want.into()];
                let read = reader.read(&mut buffer).await.unwrap();
                assert!(read > 0 || at >= end, "the end at {at} of {end}");
                assert!(read == 0 || at + read as u64 <= end, "read past the end");
                verify_content(FILM, 1, at, &buffer[..read]).unwrap();
            }
            Op::PollOnce => {
                let polled = poll_fn(|cx| Poll::Ready(reader.poll_next_bytes(cx, 1000))).await;
                if let Poll::Ready(Some(bytes)) = polled {
                    verify_content(FILM, 1, at, &bytes.unwrap()).unwrap();
                }
            }
            Op::Seek(share) => {
                let target = len * u64::from(share) / 1000;
                assert_eq!(reader.seek(SeekFrom::Start(target)).await.unwrap(), target);
            }
            Op::Skip(by) => match at.checked_add_signed(by.into()) {
                Some(to) => {
                    assert_eq!(reader.seek(SeekFrom::Current(by.into())).await.unwrap(), to)
                }
                None => assert!(reader.seek(SeekFrom::Current(by.into())).await.is_err()),
            },
            Op::SetEnd(after) => {
                reader.set_end(at + u64::from(after));
                end = len.min(at + u64::from(after));
            }
            Op::Reopen(share) => {
                opened = rig.open(len * u64::from(share) / 1000, None).await;
                end = len;
            }
            Op::Pause(millis) => sleep(Duration::from_millis(millis.into())).await,
        }
    }
    drop(opened);
    sleep(Duration::from_secs(30)).await;
    let journal = rig.world.journal();
    assert_eq!(journal.in_flight(), 0, "a transfer for nobody");
    let twice = journal.duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world).min(62_500 * jumps);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
    let statistics = rig.manager.statistics();
    assert_eq!((statistics.active_runs, statistics.readers), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_a_reader_does_every_byte_is_right_and_comes_once(
        len in 1..3_000_000_u64,
        ops in ops(),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(play(len, ops));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_the_whole_range() {
    let rig = setup(2 * MIB).start().await;
    let opened = rig.open(1_000, Some(MIB + 1)).await;
    let mut stream = opened.reader.into_stream();
    let mut at = 1_000;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.unwrap();
        verify_content(FILM, 1, at, &bytes).unwrap();
        at += bytes.len() as u64;
    }
    assert_eq!(at, MIB + 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_stops_the_origin_and_goes_on_later() {
    let mut setup = setup(100 * MIB);
    setup.chunk_size = 10 * MIB;
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    sleep(Duration::from_secs(120)).await;
    let sent = rig.world.journal().bytes_of(FILM);
    // What was read, and a window of twice that.
    assert!(sent <= 3 * MIB, "{sent} bytes for a paused reader");
    assert_eq!(
        rig.world.journal().in_flight(),
        0,
        "a connection held for ever"
    );
    read_exact(&mut opened.reader, 1, 40 * MIB).await;
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    // The run that was held too long had nothing on its way; the one that is cut for other connections, a piece.
    let most = cost_of_cuts(&rig.world).min(62_500);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
}

#[tokio::test(start_paused = true)]
async fn a_player_gets_its_read_ahead_in_seconds_and_no_more() {
    let rig = setup(200 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    let rate = MIB;
    for _ in 0..60 {
        read_exact(&mut opened.reader, 1, rate).await;
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(60)).await;
    let ahead = rig.world.journal().bytes_of(FILM) - opened.reader.position();
    assert!(ahead >= 10 * rate, "only {ahead} bytes ahead");
    // 30 s are what is configured, an eighth more is what a film may have, and a request ends with its block.
    assert!(ahead <= 30 * rate * 9 / 8 + BLOCK, "{ahead} bytes ahead");
}

#[tokio::test(start_paused = true)]
async fn fault46_two_bytes_cost_one_block() {
    let rig = setup(100 * MIB).start().await;
    let mut opened = rig.open(0, Some(2)).await;
    read_exact(&mut opened.reader, 1, 2).await;
    assert!(opened.reader.next(1).await.unwrap().is_none());
    sleep(Duration::from_secs(5)).await;
    drop(opened);
    sleep(Duration::from_secs(5)).await;
    assert!(rig.world.journal().bytes_of(FILM) <= BLOCK);
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_index_at_the_end_leaves_the_front_alone() {
    let rig = setup(50 * MIB).start().await;
    let mut front = rig.open(0, None).await;
    read_exact(&mut front.reader, 1, 512 * 1024).await;
    let mut index = rig.open(50 * MIB - 100_000, None).await;
    assert_eq!(read_to_end(&mut index.reader, 1).await, 100_000);
    drop(index);
    read_exact(&mut front.reader, 1, 4 * MIB).await;
    // However many connections share the work, nothing is broken off and begun anew.
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world).min(62_500);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
    assert!(rig.world.journal().requests_of(FILM) <= 6);
}

#[tokio::test(start_paused = true)]
async fn a_far_seek_takes_one_round_trip_and_ends_the_old_transfer() {
    let rig = setup(200 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 8 * MIB).await;
    opened.reader.seek_to(150 * MIB + 1);
    let asked = Instant::now();
    read_exact(&mut opened.reader, 1, 1).await;
    assert!(asked.elapsed() <= Duration::from_millis(60));
    sleep(Duration::from_secs(1)).await;
    let records = rig.world.journal().records_of(FILM);
    assert!(
        records[0].finished,
        "what lay ahead of the old position still comes"
    );
    // Over all connections: what was read, and what had come ahead of it on a line as fast as its reader.
    let sent = records
        .iter()
        .filter(|record| record.content_start < Some(150 * MIB))
        .map(|record| record.body_sent)
        .sum::<u64>();
    assert!(sent <= 8 * MIB + MIB, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_not_asked_for_again() {
    let rig = setup(8 * MIB).start().await;
    let mut whole = rig.open(0, None).await;
    read_exact(&mut whole.reader, 1, 1).await;
    let mut part = rig.open(200_000, Some(300_000)).await;
    assert_eq!(read_to_end(&mut part.reader, 1).await, 100_000);
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
}

#[tokio::test(start_paused = true)]
async fn four_clients_of_one_cold_range_share_a_request_and_its_first_byte() {
    let rig = setup(8 * MIB).start().await;
    let started = Instant::now();
    let client = || async {
        let mut opened = rig.open(3 * MIB, Some(4 * MIB)).await;
        read_exact(&mut opened.reader, 1, 1).await;
        let first = started.elapsed();
        assert_eq!(read_to_end(&mut opened.reader, 1).await, MIB - 1);
        first
    };
    let (a, b, c, d) = tokio::join!(client(), client(), client(), client());
    assert_eq!([a; 3], [b, c, d]);
    assert!(a <= Duration::from_millis(60), "{a:?}");
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
    assert_eq!(rig.world.journal().duplicate_bytes_of(FILM), 0);
}

#[tokio::test(start_paused = true)]
async fn fault37_a_thousand_seeks_leave_nothing_behind() {
    let rig = setup(4_000 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    for step in 0..1_000_u64 {
        // Far apart, forward and back.
        let target = (step * 2_654_435_761) % (3_990 * MIB);
        opened.reader.seek_to(target);
        let until = Instant::now() + Duration::from_millis(20);
        let read = tokio::time::timeout_at(until, opened.reader.next(4096)).await;
        if let Ok(bytes) = read {
            verify_content(FILM, 1, target, &bytes.unwrap().unwrap()).unwrap();
        }
        tokio::time::sleep_until(until).await;
    }
    assert!(rig.world.journal().max_in_flight() <= 8);
    let target = 1_234 * MIB + 5;
    opened.reader.seek_to(target);
    let asked = Instant::now();
    read_exact(&mut opened.reader, 1, 1).await;
    assert!(
        asked.elapsed() <= Duration::from_millis(60),
        "{:?}",
        asked.elapsed()
    );
    assert!(rig.world.journal().in_flight() <= 1, "stale transfers");
    drop(opened);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.world.journal().in_flight(), 0);
    let sent = rig.world.journal().bytes_of(FILM);
    assert!(
        sent <= 20 * 12_500_000 / 2,
        "{sent} bytes for seeks that read nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn the_fifth_viewer_starts_at_once() {
    let setup = setup(200 * MIB);
    for name in 0..5 {
        setup
            .world
            .put(OriginObject::new(format!("film{name}"), 200 * MIB));
    }
    let rig = setup.start().await;
    let mut viewers = tokio::task::JoinSet::new();
    for viewer in 0..4 {
        let manager = rig.manager.clone();
        viewers.spawn(async move {
            let name = format!("film{viewer}");
            let first = First::Span {
                start: 0,
                end: None,
            };
            let mut opened = manager.open(resource(&name), first).await.unwrap();
            for _ in 0..60 {
                let mut left = 500_000;
                while left > 0 {
                    let at = opened.reader.position();
                    let bytes = opened.reader.next(left).await.unwrap().unwrap();
                    verify_content(&name, 1, at, &bytes).unwrap();
                    left -= bytes.len();
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    sleep(Duration::from_secs(30)).await;
    let asked = Instant::now();
    let first = First::Span {
        start: 0,
        end: None,
    };
    let mut fifth = rig.manager.open(resource("film4"), first).await.unwrap();
    fifth.reader.next(1).await.unwrap().unwrap();
    assert!(
        asked.elapsed() <= Duration::from_millis(75),
        "{:?}",
        asked.elapsed()
    );
    while let Some(viewer) = viewers.join_next().await {
        viewer.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r05_the_limit_holds_at_every_instant() {
    let mut setup = setup(8 * MIB);
    setup.limits = Limits::default().with_max_downloads(2);
    for name in 0..8 {
        setup
            .world
            .put(OriginObject::new(format!("film{name}"), 8 * MIB));
    }
    let rig = setup.start().await;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..8 {
        let manager = rig.manager.clone();
        readers.spawn(async move {
            let first = First::Span {
                start: 0,
                end: None,
            };
            let mut opened = manager
                .open(resource(&format!("film{reader}")), first)
                .await
                .unwrap();
            let mut read = 0;
            while let Some(bytes) = opened.reader.next(1 << 20).await.unwrap() {
                read += bytes.len() as u64;
            }
            read
        });
    }
    while !readers.is_empty() {
        sleep(Duration::from_millis(1)).await;
        // Those held back and unread count for nobody.
        let active = rig.manager.statistics().active_runs;
        assert!(active <= 2, "{active} at once");
        while let Some(read) = readers.try_join_next() {
            assert_eq!(read.unwrap(), 8 * MIB);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fill_goes_on_while_a_reader_is_there_and_is_not_durable() {
    let mut setup = setup(80 * MIB);
    setup.fill = true;
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    sleep(Duration::from_secs(3)).await;
    let before = rig.world.journal().bytes_of(FILM);
    assert!(
        before > 25 * MIB,
        "{before} bytes: the rest is not being filled"
    );
    assert!(
        rig.store.jobs().await.unwrap().is_empty(),
        "fill is durable"
    );

    // Somebody who waits goes first.
    let asked = Instant::now();
    let mut other = rig.open(70 * MIB, None).await;
    read_exact(&mut other.reader, 1, 1).await;
    assert!(
        asked.elapsed() <= Duration::from_millis(75),
        "{:?}",
        asked.elapsed()
    );
    drop(other);

    // What the line brings in that time, and the piece that is on its way at the end of it.
    let most = before + 12_500 * asked.elapsed().as_millis() as u64 + 62_500;
    drop(opened);
    sleep(Duration::from_millis(200)).await;
    let sent = rig.world.journal().bytes_of(FILM);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        rig.world.journal().bytes_of(FILM),
        sent,
        "filled for nobody"
    );
    assert!(sent <= most, "{sent} bytes of {most}");
}

#[tokio::test(start_paused = true)]
async fn fill_that_ends_leaves_what_was_asked_for() {
    let mut setup = setup(20 * MIB);
    setup.fill = true;
    let rig = setup.start().await;
    let opened = rig.open(0, None).await;
    let entry = opened.entry.id();
    rig.manager
        .request_chunk(entry, 15, chunk_manager::Priority::High)
        .await
        .unwrap();
    drop(opened);
    rig.manager
        .wait_for_chunk(entry, 15, Duration::from_secs(30))
        .await
        .unwrap();
}
