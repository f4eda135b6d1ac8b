//! What the manager answers: availability, geometry, waits, subscriptions, events.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_core::{EntryId, GeometryError};
use chunk_manager::{ChunkManager, First, ManagerError, OpenError, Priority, WaitError};
use chunk_ports::{
    ByteStore, CacheEvent, ChunkFetcher, ChunkStore, EventSource, EventSubscription, Received,
};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Fault, OriginObject, When};
use support::*;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(3_600);

async fn known(rig: &Rig) -> EntryId {
    rig.manager
        .open(resource(FILM), First::Nothing)
        .await
        .unwrap()
        .entry
        .id()
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, one group commit and more
}

/// The events that have been published so far.
async fn drain(events: &mut Box<dyn EventSubscription>) -> Vec<CacheEvent> {
    let mut all = Vec::new();
    while let Ok(received) = tokio::time::timeout(Duration::from_millis(1), events.recv()).await {
        match received {
            Received::Event(event) => all.push(event),
            other => panic!("{other:?}"),
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn r04_r06_r24_availability_survives_a_restart_and_asks_no_origin() {
    let setup = setup(6 * MIB + 5);
    let rig = setup.start().await;
    let entry = known(&rig).await;
    for chunk in [1, 2, 6] {
        rig.manager
            .request_chunk(entry, chunk, Priority::High)
            .await
            .unwrap();
        rig.manager
            .wait_for_chunk(entry, chunk, LONG)
            .await
            .unwrap();
    }
    let mut part = rig.open(4 * MIB, Some(4 * MIB + 70_000)).await;
    read_to_end(&mut part.reader, 1).await;
    drop(part);
    rig.manager.shutdown().await;

    rig.world.remove(FILM);
    rig.world.journal().clear();
    let rig = setup.start().await;
    let entry = rig.manager.status().await.unwrap()[0].id;
    assert_eq!(
        rig.manager.get_available_chunks(entry).await.unwrap(),
        [1, 2, 6]
    );
    for (chunk, is_there) in [(0, false), (1, true), (2, true), (4, false), (6, true)] {
        let has = rig.manager.has_chunk(entry, chunk).await.unwrap();
        assert_eq!(has, is_there, "chunk {chunk}");
        if is_there {
            rig.manager
                .wait_for_chunk(entry, chunk, Duration::ZERO)
                .await
                .unwrap();
        }
    }
    let has = |start, end| rig.manager.has_byte_range(entry, start, end);
    assert!(has(4 * MIB, 4 * MIB + 65_536).await.unwrap());
    assert!(!has(4 * MIB, 5 * MIB).await.unwrap());
    assert_eq!(rig.world.journal().requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn r13_one_missing_byte_is_false() {
    let rig = setup(8 * MIB).start().await;
    let entry = known(&rig).await;
    for chunk in [2, 3, 4] {
        rig.manager
            .request_chunk(entry, chunk, Priority::High)
            .await
            .unwrap();
        rig.manager
            .wait_for_chunk(entry, chunk, LONG)
            .await
            .unwrap();
    }
    let has = |start, end| rig.manager.has_byte_range(entry, start, end);
    assert!(has(2 * MIB, 5 * MIB).await.unwrap());
    assert!(has(2 * MIB + 1, 5 * MIB - 1).await.unwrap());
    assert!(!has(2 * MIB - 1, 5 * MIB).await.unwrap());
    assert!(!has(2 * MIB, 5 * MIB + 1).await.unwrap());
    assert!(has(5, 5).await.is_err(), "an empty range is no range");
    assert!(has(6, 5).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn r09_another_chunk_size_leaves_everything_valid() {
    let mut setup = setup(7 * MIB + 1);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;
    let asked = rig.world.journal().bytes_of(FILM);
    for chunk_size in [4 * MIB, 100_000, 1, 64 * MIB] {
        setup.chunk_size = chunk_size;
        let rig = setup.start().await;
        assert_eq!(rig.manager.chunk_size(), chunk_size);
        let mut opened = rig.open(0, None).await;
        let entry = opened.entry.id();
        let last = (7 * MIB) / chunk_size;
        assert!(rig.manager.has_chunk(entry, last).await.unwrap());
        assert!(rig.manager.has_chunk(entry, last + 1).await.is_err());
        if chunk_size > 1 {
            let chunks = rig.manager.get_available_chunks(entry).await.unwrap();
            assert_eq!(chunks, (0..=last).collect::<Vec<_>>());
        }
        assert_eq!(read_to_end(&mut opened.reader, 1).await, 7 * MIB + 1);
        drop(opened);
        rig.manager.shutdown().await;
    }
    // Reopening confirms with a conditional request, which carries no bytes.
    assert_eq!(setup.world.journal().bytes_of(FILM), asked);
}

#[tokio::test(start_paused = true)]
async fn r12_trap07_the_short_last_chunk_is_a_chunk_like_any_other() {
    let rig = setup(2 * MIB + 1).start().await;
    let entry = known(&rig).await;
    let mut events = rig.events.subscribe();
    rig.manager
        .request_chunk(entry, 2, Priority::Low)
        .await
        .unwrap();
    rig.manager.wait_for_chunk(entry, 2, LONG).await.unwrap();
    assert!(rig.manager.has_chunk(entry, 2).await.unwrap());
    assert!(!rig.manager.has_chunk(entry, 1).await.unwrap());
    settle().await;
    let key = key(FILM);
    let status = rig.manager.entry_status(&key).await.unwrap().unwrap();
    assert_eq!(
        status.recorded_bytes, 1,
        "neither complete nor counted twice"
    );
    let completed: Vec<_> = drain(&mut events)
        .await
        .into_iter()
        .filter_map(|event| match event {
            CacheEvent::ChunkCompleted {
                start_byte,
                end_byte,
                ..
            } => Some((start_byte, end_byte)),
            CacheEvent::EntryCompleted { .. } => panic!("complete too early"),
            _ => None,
        })
        .collect();
    assert_eq!(completed, [(2 * MIB, 2 * MIB)]);
    assert!(rig.store.jobs().await.unwrap().is_empty());

    let sent = rig.world.journal().bytes_of(FILM);
    let mut again = rig.open(2 * MIB, None).await;
    assert_eq!(read_to_end(&mut again.reader, 1).await, 1);
    assert_eq!(rig.world.journal().bytes_of(FILM), sent);
}

#[tokio::test(start_paused = true)]
async fn r15_chunk_completed_comes_once_its_bytes_are_readable_with_inclusive_ends() {
    let rig = setup(3 * MIB + 10).start().await;
    let mut events = rig.events.subscribe();
    let mut opened = rig.open(0, None).await;
    let entry = opened.entry.id();
    let reading = tokio::spawn(async move { read_to_end(&mut opened.reader, 1).await });
    let mut completed = Vec::new();
    while completed.len() < 4 {
        let Received::Event(event) = events.recv().await else {
            panic!("lagged")
        };
        if let CacheEvent::ChunkCompleted {
            cache_key,
            start_byte,
            end_byte,
            ..
        } = event
        {
            assert_eq!(cache_key, key(FILM));
            let is_there = rig
                .manager
                .has_byte_range(entry, start_byte, end_byte + 1)
                .await
                .unwrap();
            assert!(is_there, "{start_byte}-{end_byte}");
            completed.push((start_byte, end_byte));
        }
    }
    let expected: Vec<_> = (0..4)
        .map(|chunk| (chunk * MIB, ((chunk + 1) * MIB).min(3 * MIB + 10) - 1))
        .collect();
    // Two requests may be under way, so that a later chunk may be whole before an earlier one.
    completed.sort_unstable();
    assert_eq!(completed, expected);
    reading.await.unwrap();
    settle().await;
    let later: Vec<_> = drain(&mut events).await;
    assert!(
        matches!(later.as_slice(), [CacheEvent::EntryCompleted { .. }]),
        "{later:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn r16_r17_r23_a_wait_ends_in_the_instant_the_last_byte_arrives() {
    let rig = setup(16 * MIB).start().await;
    // Before anything is known of the file, and past its end.
    let mut early = rig
        .manager
        .subscribe_to_chunk(&key(FILM), 15 * MIB + 12_345, 200 * MIB)
        .await
        .unwrap();
    let early = tokio::spawn(async move {
        let outcome = early.wait_for_completion(LONG).await;
        (outcome, Instant::now())
    });
    tokio::task::yield_now().await;
    let entry = known(&rig).await;
    rig.manager
        .request_chunks_for_range(entry, 3 * MIB, 16 * MIB, Priority::High)
        .await
        .unwrap();
    let mut waits = Vec::new();
    for (start, end) in [
        (3 * MIB, 3 * MIB + 1),
        (4 * MIB - 1, 4 * MIB + 1),
        (3 * MIB + 5, 9 * MIB + 7),
        (15 * MIB, 16 * MIB),
    ] {
        let mut subscription = rig
            .manager
            .subscribe_to_chunk(&key(FILM), start, end)
            .await
            .unwrap();
        assert_eq!(subscription.range().start(), start);
        let manager = rig.manager.clone();
        waits.push(tokio::spawn(async move {
            subscription.wait_for_completion(LONG).await.unwrap();
            let woken = Instant::now();
            assert!(manager.has_byte_range(entry, start, end).await.unwrap());
            (end, woken)
        }));
    }
    // What polls in steps of a millisecond sees each range no earlier, and at most one step later.
    for wait in waits {
        let (end, woken) = wait.await.unwrap();
        let mut late = rig
            .manager
            .subscribe_to_chunk(&key(FILM), end - 1, end)
            .await
            .unwrap();
        late.wait_for_completion(Duration::ZERO).await.unwrap();
        assert!(Instant::now() - woken < Duration::from_millis(1));
    }
    let (outcome, woken) = early.await.unwrap();
    outcome.unwrap();
    assert!(Instant::now() - woken < Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn r17_a_wake_up_equals_the_arrival() {
    let rig = setup(4 * MIB).start().await;
    let entry = known(&rig).await;
    rig.manager.shutdown().await;
    let mut setup = setup(4 * MIB);
    // No bandwidth limit: everything arrives one round trip after it was asked for.
    setup.link = chunk_testkit::origin::Link::new().delay(Duration::from_millis(50));
    setup.store = Arc::clone(&rig.store);
    setup.bytes = Arc::clone(&rig.bytes);
    let rig = setup.start().await;
    let asked = Instant::now();
    rig.manager
        .request_chunk(entry, 2, Priority::Critical)
        .await
        .unwrap();
    rig.manager.wait_for_chunk(entry, 2, LONG).await.unwrap();
    let waited = asked.elapsed();
    assert!(
        (50..=52).contains(&waited.as_millis()),
        "one round trip and no more: {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn r18_a_timeout_has_its_own_error_and_a_permanent_failure_comes_at_once() {
    let rig = setup(8 * MIB).start().await;
    let entry = known(&rig).await;
    let began = Instant::now();
    let outcome = rig
        .manager
        .wait_for_chunk(entry, 3, Duration::from_millis(1_500))
        .await;
    assert!(matches!(outcome, Err(WaitError::Timeout)), "{outcome:?}");
    assert_eq!(began.elapsed().as_millis(), 1_500);

    rig.world.fault(FILM, When::Always, Fault::status(404));
    let asked = Instant::now();
    rig.manager
        .request_chunk(entry, 3, Priority::High)
        .await
        .unwrap();
    let outcome = rig.manager.wait_for_chunk(entry, 3, LONG).await;
    assert!(
        matches!(
            outcome,
            Err(WaitError::Failed(OpenError::NotFound { status: 404 }))
        ),
        "{outcome:?}"
    );
    assert!(asked.elapsed() < Duration::from_millis(60));

    // Nothing was asked for since: who begins to wait now hears of it as well.
    let began = Instant::now();
    let outcome = rig.manager.wait_for_chunk(entry, 3, LONG).await;
    assert!(matches!(outcome, Err(WaitError::Failed(_))), "{outcome:?}");
    assert!(began.elapsed().is_zero());

    // A new request has its own outcome.
    rig.world.clear_faults(FILM);
    rig.manager
        .request_chunk(entry, 3, Priority::High)
        .await
        .unwrap();
    rig.manager.wait_for_chunk(entry, 3, LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r19_geometry_is_clipped_and_its_errors_are_typed() {
    let rig = setup(MIB).start().await;
    let manager = &rig.manager;
    assert_eq!(
        manager.byte_to_chunk_index(2 * MIB, 2 * MIB + 5).unwrap(),
        2
    );
    assert_eq!(manager.chunk_start_byte(2, 2 * MIB + 5).unwrap(), 2 * MIB);
    assert_eq!(manager.chunk_end_byte(2, 2 * MIB + 5).unwrap(), 2 * MIB + 4);
    assert_eq!(manager.chunk_end_byte(1, 2 * MIB + 5).unwrap(), 2 * MIB - 1);
    assert!(matches!(
        manager.byte_to_chunk_index(0, 0),
        Err(GeometryError::EmptyFile)
    ));
    assert!(matches!(
        manager.byte_to_chunk_index(10, 10),
        Err(GeometryError::PastEnd { .. })
    ));
    assert!(manager.chunk_start_byte(1, MIB).is_err());
    assert!(manager.chunk_end_byte(u64::MAX, u64::MAX).is_err());
    assert_eq!(
        manager
            .chunk_end_byte((u64::MAX - 1) / MIB, u64::MAX)
            .unwrap(),
        u64::MAX - 1
    );

    let entry = known(&rig).await;
    let missing = manager.has_chunk(entry, 1).await;
    assert!(matches!(missing, Err(ManagerError::Geometry(_))));
    let nobody = manager.has_chunk(EntryId::new(999), 0).await;
    assert!(matches!(nobody, Err(ManagerError::NoSuchEntry)));
}

#[tokio::test(start_paused = true)]
async fn r22_entries_do_not_mix_in_the_queue() {
    let mut setup = setup(64 * MIB);
    setup.world.put(OriginObject::new("other.mkv", 64 * MIB));
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let film = known(&rig).await;
    let other = rig
        .manager
        .open(resource("other.mkv"), First::Nothing)
        .await
        .unwrap()
        .entry
        .id();
    for chunk in [1, 10, 20, 30] {
        for entry in [film, other] {
            rig.manager
                .request_chunk(entry, chunk, Priority::Medium)
                .await
                .unwrap();
        }
    }
    rig.manager.cancel_requests(film, &[10, 20]).await.unwrap();
    let queued = |name: &str| {
        let key = key(name);
        let manager = rig.manager.clone();
        async move {
            manager
                .entry_status(&key)
                .await
                .unwrap()
                .unwrap()
                .queued_bytes
        }
    };
    assert_eq!(queued(FILM).await, 2 * MIB);
    assert_eq!(queued("other.mkv").await, 4 * MIB);
    for chunk in [10, 20, 30] {
        rig.manager
            .wait_for_chunk(other, chunk, LONG)
            .await
            .unwrap();
    }
    rig.manager.wait_for_chunk(film, 30, LONG).await.unwrap();
    assert_eq!(
        rig.manager.get_available_chunks(film).await.unwrap(),
        [1, 30]
    );
}

#[tokio::test(start_paused = true)]
async fn r27_a_program_needs_no_more_than_the_ports() {
    async fn through_ports(
        store: Arc<dyn ChunkStore>,
        bytes: Arc<dyn ByteStore>,
        fetcher: Arc<dyn ChunkFetcher>,
    ) -> bool {
        let manager = ChunkManager::builder(store, bytes, fetcher)
            .start()
            .await
            .unwrap();
        let entry = manager
            .open(resource(FILM), First::Nothing)
            .await
            .unwrap()
            .entry
            .id();
        manager
            .request_chunk(entry, 0, Priority::Critical)
            .await
            .unwrap();
        manager.wait_for_chunk(entry, 0, LONG).await.unwrap();
        manager.has_chunk(entry, 0).await.unwrap()
    }
    let setup = setup(MIB);
    let fetcher = ScriptedFetcher::new(setup.world.clone(), link());
    assert!(through_ports(setup.store, setup.bytes, Arc::new(fetcher)).await);
}
