//! What is ordered from an origin that does not answer is kept, and begins when it does.

mod support;

use std::time::Duration;

use chunk_manager::{ChunkManager, EntryState, First, OpenError, Priority};
use chunk_testkit::origin::{Cut, Fault, OriginObject, When};
use support::*;

const OTHER: &str = "other.mkv";

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await; // why: virtual time
}

async fn order(manager: &ChunkManager, name: &str) -> Result<(), OpenError> {
    let order = manager.prefetch(resource(name), Priority::Medium).await;
    order.map(|_| ())
}

async fn state(rig: &Rig, name: &str) -> EntryState {
    let status = rig.manager.entry_status(&key(name)).await.unwrap();
    status.unwrap().state
}

#[tokio::test(start_paused = true)]
async fn fault11_an_order_from_an_origin_that_is_gone_is_kept_and_begins_when_it_is_back() {
    let rig = setup(8 * MIB).start().await;
    rig.world.cut_line();
    order(&rig.manager, FILM).await.unwrap();
    assert_eq!(rig.store.jobs().await.unwrap().len(), 1, "durable at once");
    assert_eq!(state(&rig, FILM).await, EntryState::WaitingForOrigin);
    let before = rig.world.unconnected();
    seconds(3_600).await;
    let tries = rig.world.unconnected() - before;
    assert!((20..=360).contains(&tries), "{tries} tries in an hour");
    assert_eq!(state(&rig, FILM).await, EntryState::WaitingForOrigin);
    assert_eq!(rig.store.jobs().await.unwrap().len(), 1);

    rig.world.mend_line();
    // The longest pause, and the transfer.
    seconds(160).await;
    assert_eq!(state(&rig, FILM).await, EntryState::Complete);
    assert!(rig.store.jobs().await.unwrap().is_empty());
    assert_eq!(rig.world.journal().duplicate_bytes_of(FILM), 0);
}

#[tokio::test(start_paused = true)]
async fn fault11_an_order_from_an_origin_that_is_gone_outlives_the_process() {
    let setup = setup(8 * MIB);
    let rig = setup.start().await;
    rig.world.cut_line();
    order(&rig.manager, FILM).await.unwrap();
    rig.manager.shutdown().await;
    drop(rig);

    let rig = setup.start().await;
    seconds(600).await;
    assert_eq!(state(&rig, FILM).await, EntryState::WaitingForOrigin);
    rig.world.mend_line();
    seconds(160).await;
    assert_eq!(state(&rig, FILM).await, EntryState::Complete);
}

#[tokio::test(start_paused = true)]
async fn fault11_whoever_finds_an_origin_back_sets_all_its_orders_going() {
    let setup = setup(MIB);
    for number in 0..10 {
        setup
            .world
            .put(OriginObject::new(format!("{number}.mkv"), MIB));
    }
    let rig = setup.start().await;
    rig.world.cut_line();
    for number in 0..10 {
        order(&rig.manager, &format!("{number}.mkv")).await.unwrap();
    }
    seconds(3_601).await;
    rig.world.mend_line();
    // As a player does whom the error has told when to come again.
    let mut opened = loop {
        match rig.manager.open(resource(FILM), First::Nothing).await {
            Ok(opened) => break opened,
            Err(OpenError::Away { retry_after }) => tokio::time::sleep(retry_after).await, // why: virtual time
            Err(error) => panic!("{error}"),
        }
    };
    assert!(opened.reader.next(1).await.unwrap().is_none());
    seconds(5).await;
    for number in 0..10 {
        let state = state(&rig, &format!("{number}.mkv")).await;
        assert_eq!(state, EntryState::Complete, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault11_an_order_goes_on_by_itself_after_an_origin_was_gone_in_the_middle_of_it() {
    let rig = setup(24 * MIB).start().await;
    let how = Cut::Reset;
    rig.world
        .fault(FILM, When::Always, Fault::CutAfter { bytes: MIB, how });
    order(&rig.manager, FILM).await.unwrap();
    seconds(1).await;
    rig.world.cut_line();
    seconds(600).await;
    assert_eq!(state(&rig, FILM).await, EntryState::WaitingForOrigin);
    rig.world.mend_line();
    seconds(160).await;
    assert_eq!(state(&rig, FILM).await, EntryState::Complete);
}

#[tokio::test(start_paused = true)]
async fn fault11_an_order_is_withdrawn_when_it_turns_out_that_nothing_may_be_kept() {
    let setup = setup(8 * MIB);
    setup
        .world
        .put(OriginObject::new(OTHER, 8 * MIB).header("cache-control", "no-store"));
    let rig = setup.start().await;
    rig.world.cut_line();
    order(&rig.manager, OTHER).await.unwrap();
    rig.world.mend_line();
    seconds(160).await;
    assert!(rig.store.jobs().await.unwrap().is_empty());
    let sent = rig.world.journal().bytes_of(OTHER);
    assert!(sent <= MIB, "{sent} bytes fetched for nobody");
    assert_eq!(rig.world.journal().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn fault11_what_a_player_would_be_told_of_for_good_is_still_refused() {
    let rig = setup(MIB).start().await;
    rig.world.fault(OTHER, When::Always, Fault::status(404));
    let error = order(&rig.manager, OTHER).await.unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error:?}");
    assert!(rig.store.jobs().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn fault09_an_order_taken_blindly_for_a_file_that_is_not_there_ends_and_says_so() {
    for status in [404, 410] {
        let setup = setup(MIB);
        let rig = setup.start().await;
        rig.world.cut_line();
        order(&rig.manager, OTHER).await.unwrap();
        rig.world.fault(OTHER, When::Always, Fault::status(status));
        rig.world.mend_line();
        // The longest pause; and once more, to see that it does not come back.
        for wait in [160, 3_600] {
            seconds(wait).await;
            let told = rig
                .manager
                .entry_status(&key(OTHER))
                .await
                .unwrap()
                .unwrap();
            let EntryState::Failed(reason) = told.state else {
                panic!("{told:?} after {wait}");
            };
            assert!(reason.contains(&status.to_string()), "{reason}");
            assert_eq!(told.queued_bytes, 0);
            assert!(rig.store.jobs().await.unwrap().is_empty());
            assert_eq!(rig.world.journal().requests_of(OTHER), 1);
        }
        // It is listed until somebody has seen it.
        let mut all = rig.manager.status().await.unwrap();
        all.retain(|entry| entry.key == key(OTHER));
        assert_eq!(all.len(), 1);
        rig.manager.evict(&key(OTHER)).await.unwrap();
        assert!(
            rig.manager
                .entry_status(&key(OTHER))
                .await
                .unwrap()
                .is_none()
        );

        // And it may be ordered again, and be there.
        rig.world.put(OriginObject::new(OTHER, MIB));
        rig.world.clear_faults(OTHER);
        order(&rig.manager, OTHER).await.unwrap();
        seconds(10).await;
        assert_eq!(state(&rig, OTHER).await, EntryState::Complete);
    }
}

#[tokio::test(start_paused = true)]
async fn fault09_an_order_whose_file_was_there_outlasts_a_refusal() {
    let rig = setup(8 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    drop(opened);
    seconds(2).await;
    rig.world.fault(FILM, When::Always, Fault::status(404));
    let id = rig
        .manager
        .entry_status(&key(FILM))
        .await
        .unwrap()
        .unwrap()
        .id;
    rig.manager
        .request_chunk(id, 6, Priority::Medium)
        .await
        .unwrap();
    seconds(60).await;
    assert!(!rig.store.jobs().await.unwrap().is_empty());
}
