//! What nobody waits for keeps to its limits.

mod support;

use std::time::Duration;

use chunk_manager::{Limits, Priority};
use support::*;

const RATE: u64 = MIB;

/// What has come of a film that was asked for in advance, after so many seconds.
async fn precached(limits: Limits, seconds: u64) -> u64 {
    let mut setup = setup(64 * MIB);
    setup.limits = limits;
    let rig = setup.start().await;
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await; // why: virtual time, in which it comes
    rig.manager.statistics().bytes_from_origin
}

#[tokio::test(start_paused = true)]
async fn background_work_keeps_to_its_rate() {
    let limits = Limits::default().with_background_rate(Some(RATE));
    let got = precached(limits, 10).await;
    assert!(got <= 10 * RATE + MIB / 2, "{got}");
    assert!(got >= 9 * RATE, "{got}");
    assert!(precached(Limits::default(), 10).await >= 64 * MIB);
}

#[tokio::test(start_paused = true)]
async fn on_a_metered_line_nothing_is_fetched_in_advance_until_it_is_none_any_more() {
    let mut setup = setup(8 * MIB);
    setup.limits = Limits::default().with_metered(true);
    let rig = setup.start().await;
    let mut opened = rig.open(0, Some(1000)).await;
    read_exact(&mut opened.reader, 1, 1000).await;
    let before = rig.manager.statistics().bytes_from_origin;
    rig.manager
        .prefetch(resource(FILM), Priority::Low)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await; // why: virtual time, in which nothing comes
    let rested = rig.manager.statistics().bytes_from_origin;
    assert!(rested <= before + MIB, "{rested}");
    rig.manager.set_limits(Limits::default());
    tokio::time::sleep(Duration::from_secs(60)).await; // why: virtual time, in which the rest comes
    let all = rig.manager.statistics().bytes_from_origin;
    assert!(all >= 8 * MIB, "{all}");
}
