//! Many at once, and those who leave in the middle.

mod support;

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chunk_core::ChunkSize;
use chunk_events::BroadcastEvents;
use chunk_manager::{ChunkManager, First, Limits, OpenError, Priority, ReadError, WaitError};
use chunk_ports::{EventSource, Received};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Fault, OriginObject, When};
use proptest::prelude::*;
use support::*;
use tokio::time::{Instant, sleep};

fn whole() -> First {
    First::Span {
        start: 0,
        end: None,
    }
}

#[tokio::test(start_paused = true)]
async fn fault27_a_thousand_readers_of_one_cold_chunk_are_one_fetch() {
    let rig = setup(MIB).start().await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let manager = rig.manager.clone();
        readers.spawn(async move {
            let mut opened = manager.open(resource(FILM), whole()).await.unwrap();
            let mut read = 0;
            while let Some(bytes) = opened.reader.next(1 << 20).await.unwrap() {
                read += bytes.len() as u64;
            }
            read
        });
    }
    while let Some(read) = readers.join_next().await {
        assert_eq!(read.unwrap(), MIB);
    }
    assert_eq!(rig.world.journal().requests_of(FILM), 1);
    assert_eq!(rig.world.journal().bytes_of(FILM), MIB);
    assert_eq!(rig.manager.statistics().readers, 0);
}

#[tokio::test(start_paused = true)]
async fn fault29_whoever_waits_for_a_fetch_that_fails_is_told_at_once() {
    let rig = setup(8 * MIB).start().await;
    let opened = rig.open(0, Some(1)).await;
    let entry = opened.entry.id();
    rig.world.fault(FILM, When::Always, Fault::status(403));
    let asked = Instant::now();
    rig.manager
        .request_chunk(entry, 5, Priority::High)
        .await
        .unwrap();
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let manager = rig.manager.clone();
        waiters.spawn(async move {
            let wait = manager.wait_for_chunk(entry, 5, Duration::from_secs(600));
            let error = wait.await.unwrap_err();
            assert!(
                matches!(
                    error,
                    WaitError::Failed(OpenError::Denied { status: 403, .. })
                ),
                "{error:?}"
            );
        });
        let mut reader = opened.entry.reader(5 * MIB, None);
        waiters.spawn(async move {
            let error = reader.next(1).await.unwrap_err();
            assert!(matches!(error, ReadError::Failed(_)), "{error:?}");
        });
    }
    while let Some(waiter) = waiters.join_next().await {
        waiter.unwrap();
    }
    assert!(
        asked.elapsed() <= Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_reaches_waiters_although_other_bytes_arrive_just_then() {
    let rig = setup(64 * MIB).start().await;
    let mut front = rig.open(0, None).await;
    read_exact(&mut front.reader, 1, MIB).await;
    // The front's transfer goes on at full speed while the one at the back is refused.
    rig.world.fault(FILM, When::Always, Fault::status(403));
    for step in 0..20 {
        let mut back = front.entry.reader((30 + step) * MIB, None);
        let asked = Instant::now();
        let (error, ()) = tokio::join!(back.next(1), async {
            read_exact(&mut front.reader, 1, 1).await;
        });
        assert!(error.is_err());
        assert!(
            asked.elapsed() <= Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault30_a_fetch_outlives_the_reader_that_began_it() {
    let rig = setup(8 * MIB).start().await;
    let mut leader = rig.open(0, None).await;
    read_exact(&mut leader.reader, 1, 100_000).await;
    let mut other = rig.open(0, None).await;
    read_exact(&mut other.reader, 1, 10).await;
    drop(leader);
    assert_eq!(read_to_end(&mut other.reader, 1).await, 8 * MIB - 10);
    // Nothing, unless connections came to share the work, and then what was on the line of those that were cut for it.
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world).min(62_500);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
}

#[tokio::test(start_paused = true)]
async fn fault30_an_opener_that_leaves_hands_its_probe_over() {
    let rig = setup(2 * MIB).start().await;
    let manager = rig.manager.clone();
    let mut leaver = Box::pin(manager.open(resource(FILM), whole()));
    let first = poll_fn(|cx| Poll::Ready(leaver.as_mut().poll(cx))).await;
    assert!(first.is_pending());
    let manager = rig.manager.clone();
    let other = tokio::spawn(async move {
        let mut opened = manager.open(resource(FILM), whole()).await.unwrap();
        read_to_end(&mut opened.reader, 1).await
    });
    sleep(Duration::from_millis(10)).await;
    drop(leaver);
    assert_eq!(other.await.unwrap(), 2 * MIB);
    let twice = rig.world.journal().duplicate_bytes_of(FILM);
    let most = cost_of_cuts(&rig.world).min(62_500);
    assert!(twice <= most, "{twice} of {most} bytes came twice");
}

/// What is started, polled so often, so many milliseconds apart, and dropped.
#[derive(Clone, Debug)]
enum Act {
    Open(u16),
    OpenEnd,
    Read(u16),
    WaitChunk(u8),
    Subscribe(u16),
    Request(u8),
    Prefetch,
}

async fn give_up(work: impl Future, polls: usize, gap: u64) {
    let mut work: Pin<&mut _> = pin!(work);
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx)))
            .await
            .is_ready()
        {
            return;
        }
        sleep(Duration::from_millis(gap)).await;
    }
}

async fn abandon(acts: Vec<(Act, usize, u64)>) {
    const LEN: u64 = 6 * MIB + 77;
    let rig = setup(LEN).start().await;
    let known = rig.open(0, Some(10)).await;
    let entry = known.entry.id();
    let mut reader = known.entry.reader(0, None);
    for (act, polls, gap) in acts {
        let at = |share: u16| LEN * u64::from(share) / 1_001;
        match act {
            Act::Open(share) => {
                let first = First::Span {
                    start: at(share),
                    end: None,
                };
                give_up(rig.manager.open(resource(FILM), first), polls, gap).await;
            }
            Act::OpenEnd => {
                let first = First::Suffix { len: 1_000 };
                give_up(rig.manager.open(resource("nothing"), first), polls, gap).await;
            }
            Act::Read(share) => {
                reader.seek_to(at(share));
                give_up(reader.next(100_000), polls, gap).await;
            }
            Act::WaitChunk(chunk) => {
                let wait = rig.manager.wait_for_chunk(
                    entry,
                    u64::from(chunk % 7),
                    Duration::from_millis(40),
                );
                give_up(wait, polls, gap).await;
            }
            Act::Subscribe(share) => {
                let (start, end) = (at(share), at(share) + 1_000);
                let mut subscription = rig
                    .manager
                    .subscribe_to_chunk(&key(FILM), start, end)
                    .await
                    .unwrap();
                let wait = subscription.wait_for_completion(Duration::from_secs(9));
                give_up(wait, polls, gap).await;
            }
            Act::Request(chunk) => {
                let request =
                    rig.manager
                        .request_chunk(entry, u64::from(chunk % 7), Priority::High);
                give_up(request, polls, gap).await;
            }
            Act::Prefetch => {
                let prefetch = rig.manager.prefetch(resource(FILM), Priority::Medium);
                give_up(prefetch, polls, gap).await;
            }
        }
    }
    drop((known, reader));
    sleep(Duration::from_secs(200)).await;
    let statistics = rig.manager.statistics();
    assert_eq!(rig.world.journal().in_flight(), 0);
    assert_eq!(statistics.active_runs, 0);
    assert_eq!(statistics.held_runs, 0);
    assert_eq!(statistics.readers, 0);
    assert_eq!(statistics.queued_ranges, 0);
    assert_eq!(statistics.memory_bytes, 0);
    // And nothing that was left behind is in the way of the next one.
    let mut again = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut again.reader, 1).await, LEN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn fault31_whatever_is_dropped_at_whatever_await_leaves_nothing(
        acts in prop::collection::vec(
            (
                prop_oneof![
                    3 => (0..1_000_u16).prop_map(Act::Open),
                    1 => Just(Act::OpenEnd),
                    4 => (0..1_000_u16).prop_map(Act::Read),
                    2 => any::<u8>().prop_map(Act::WaitChunk),
                    2 => (0..1_000_u16).prop_map(Act::Subscribe),
                    2 => any::<u8>().prop_map(Act::Request),
                    1 => Just(Act::Prefetch),
                ],
                0..6_usize,
                0..40_u64,
            ),
            1..20,
        ),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(abandon(acts));
    }
}

#[tokio::test(start_paused = true)]
async fn fault32_a_reader_finishes_with_right_bytes_while_its_file_is_evicted() {
    let rig = setup(12 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    sleep(Duration::from_secs(2)).await;
    let mut reader = opened.entry.reader(0, None);
    drop(opened);
    let mut read = 0;
    for step in 0.. {
        let at = reader.position();
        let Some(bytes) = reader.next(50_000).await.unwrap() else {
            break;
        };
        chunk_testkit::origin::verify_content(FILM, 1, at, &bytes).unwrap();
        read += bytes.len() as u64;
        // The cap goes up and down, so that room is made again and again.
        let cap = if step % 2 == 0 { 2 * MIB } else { 50 * MIB };
        rig.manager.set_limits(
            Limits::default()
                .with_max_size(Some(cap))
                .with_initial_buffer(MIB),
        );
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(read, 12 * MIB);
}

#[tokio::test(start_paused = true)]
async fn fault33_a_slow_subscriber_is_told_and_holds_nobody_up() {
    let setup = setup(20 * MIB);
    let events = Arc::new(BroadcastEvents::new(NonZeroUsize::new(4).unwrap()));
    let manager = ChunkManager::builder(
        Arc::clone(&setup.store),
        Arc::clone(&setup.bytes),
        Arc::new(ScriptedFetcher::new(
            setup.world.clone(),
            setup.link.clone(),
        )),
    )
    .events(Arc::clone(&events) as _)
    .chunk_size(ChunkSize::new(MIB).unwrap())
    .start()
    .await
    .unwrap();
    let mut subscription = events.subscribe();
    let mut opened = manager.open(resource(FILM), whole()).await.unwrap();
    read_to_end(&mut opened.reader, 1).await;
    assert!(matches!(subscription.recv().await, Received::Lagged(_)));
    let chunks = manager
        .get_available_chunks(opened.entry.id())
        .await
        .unwrap();
    assert_eq!(chunks.len(), 20, "the state is there to be read again");
}

#[tokio::test(start_paused = true)]
async fn fault39_a_long_run_of_films_leaves_memory_flat() {
    let setup = setup(MIB);
    for name in 0..100 {
        setup
            .world
            .put(OriginObject::new(format!("film{name}"), MIB));
    }
    let rig = setup.start().await;
    for name in 0..100 {
        let mut opened = rig
            .manager
            .open(resource(&format!("film{name}")), whole())
            .await
            .unwrap();
        while opened.reader.next(1 << 20).await.unwrap().is_some() {}
        drop(opened);
        sleep(Duration::from_secs(5)).await;
        let memory = rig.manager.statistics().memory_bytes;
        // A film is open for a minute after its last reader, and one is opened each 5 s.
        assert!(memory <= 13 * MIB, "{memory} bytes after film {name}");
    }
    sleep(Duration::from_secs(130)).await;
    assert_eq!(rig.manager.statistics().memory_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_everybody_who_waits() {
    let rig = setup(8 * MIB).start().await;
    rig.world
        .fault(FILM, When::Always, Fault::StallAfter { bytes: 1_000 });
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1_000).await;
    let entry = opened.entry.id();
    let manager = rig.manager.clone();
    let waiter = tokio::spawn(async move {
        manager
            .wait_for_chunk(entry, 3, Duration::from_secs(600))
            .await
    });
    let manager = rig.manager.clone();
    let opener = tokio::spawn(async move { manager.open(resource("other"), whole()).await });
    sleep(Duration::from_millis(10)).await;
    let asked = Instant::now();
    let (read, ()) = tokio::join!(opened.reader.next(1), rig.manager.shutdown());
    assert!(matches!(read, Err(ReadError::Closed)), "{read:?}");
    assert!(waiter.await.unwrap().is_err());
    assert!(opener.await.unwrap().is_err());
    assert!(rig.manager.open(resource(FILM), whole()).await.is_err());
    assert!(
        asked.elapsed() <= Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(rig.world.journal().in_flight(), 0);
}
