//! A cache with two films in it that nobody has open.
#![expect(unreachable_pub, reason = "a module of several test programs")]

use std::time::Duration;

use chunk_manager::First;
use chunk_testkit::origin::{OriginObject, verify_content};

use crate::support::*;

pub const FIRST: &str = "first.mkv";
pub const SECOND: &str = "second.mkv";
/// How long each of them is.
const LEN: u64 = 3 * MIB;

/// What `setup` makes, with both films played, recorded and closed.
pub async fn with_two_others(setup: &Setup) -> Rig {
    for name in [FIRST, SECOND] {
        setup.world.put(OriginObject::new(name, LEN));
    }
    let rig = setup.start().await;
    for name in [FIRST, SECOND] {
        play(&rig, name).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await; // why: virtual time, both are closed
    rig
}

/// Plays a film whole, and looks at each byte.
pub async fn play(rig: &Rig, name: &str) {
    let first = First::Span {
        start: 0,
        end: None,
    };
    let mut opened = rig.manager.open(resource(name), first).await.unwrap();
    let mut read = 0;
    while let Some(bytes) = opened.reader.next(200_000).await.unwrap() {
        verify_content(name, 1, read, &bytes).unwrap();
        read += bytes.len() as u64;
    }
    assert_eq!(read, LEN);
}
