//! What is secret reaches the origin and nothing else.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_manager::{First, Priority};
use chunk_ports::{CacheEvent, EventSource, EventSubscription, Received, Resource, Secret};
use chunk_testkit::origin::{Fault, OriginObject, When};
use support::*;

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
async fn trap17_a_signed_target_reaches_the_origin_and_nothing_else() {
    const TOKEN: &str = "s3cr3t-token";
    let mut setup = setup(2 * MIB);
    setup.world.put(OriginObject::new(FILM, 2 * MIB));
    let store = Arc::new(chunk_store_memory::MemoryChunkStore::new());
    setup.store = Arc::clone(&store) as _;
    let rig = setup.start().await;
    let mut events = rig.events.subscribe();
    let signed = |token: &str| {
        Resource::new(key(FILM), Secret::new(format!("/{FILM}?sig={token}")))
            .with_authorization(Secret::new(token))
    };
    let first = First::Span {
        start: 0,
        end: None,
    };
    let mut opened = rig.manager.open(signed(TOKEN), first).await.unwrap();
    read_exact(&mut opened.reader, 1, 1_000).await;
    rig.manager
        .prefetch(signed(TOKEN), Priority::Low)
        .await
        .unwrap();
    assert!(rig.world.journal().records()[0].target.contains(TOKEN));
    settle().await;
    let failed = {
        rig.world
            .fault("gone.mkv", When::Always, Fault::status(403));
        let target = Secret::new(format!("/gone.mkv?sig={TOKEN}"));
        let denied = rig
            .manager
            .open(Resource::new(key("gone.mkv"), target), first)
            .await;
        format!("{denied:?} {}", denied.as_ref().unwrap_err())
    };
    let seen = format!(
        "{store:?} {:?} {:?} {:?} {opened:?} {:?} {failed}",
        rig.manager.status().await.unwrap(),
        rig.manager.statistics(),
        rig.manager,
        drain(&mut events).await,
    );
    assert!(seen.contains(FILM), "the key itself is not secret");
    assert!(!seen.contains(TOKEN));

    // Another token is the same entry: nothing is fetched twice.
    drop(opened);
    let sent = rig.world.journal().bytes_of(FILM);
    let mut again = rig.manager.open(signed("another"), first).await.unwrap();
    assert_eq!(read_to_end(&mut again.reader, 1).await, 2 * MIB);
    assert_eq!(rig.world.journal().bytes_of(FILM), sent);
    assert_eq!(rig.manager.status().await.unwrap().len(), 2);
}
