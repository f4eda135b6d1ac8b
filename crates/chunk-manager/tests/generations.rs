//! Which bytes belong to one version of a file: those of two never meet.

mod support;

use std::time::Duration;

use chunk_manager::ReadError;
use chunk_ports::SegmentKey;
use chunk_testkit::origin::{OriginObject, TagKind};
use support::*;
use tokio::time::sleep;

/// Longer than an entry stays open without readers.
const UNTIL_CLOSED: Duration = Duration::from_secs(130);

/// Freshness lets bytes be given out unasked; it does not tell whose the missing ones are.
#[tokio::test(start_paused = true)]
async fn fault06_a_fresh_file_without_strong_validator_is_served_whole_or_begun_anew() {
    let fresh = || OriginObject::new(FILM, 4 * MIB).header("Cache-Control", "max-age=600");
    let weak = TagKind::Fixed("W/\"same\"".to_owned());
    let time = 1_700_000_000;
    for object in [
        fresh().without_validators(),
        fresh().tag(weak).last_modified(None),
        fresh().tag(TagKind::Absent).date(time),
    ] {
        for restart in [false, true] {
            for read in [MIB, 4 * MIB] {
                let setup = setup(0);
                setup.world.put(object.clone());
                let mut rig = setup.start().await;
                let mut opened = rig.open(0, Some(read)).await;
                assert_eq!(read_to_end(&mut opened.reader, 1).await, read);
                drop(opened);
                // The length stays, and so does what the origin says of it.
                rig.world.put(object.clone().version(2));
                if restart {
                    rig.manager.shutdown().await;
                    rig = setup.start().await;
                } else {
                    sleep(UNTIL_CLOSED).await; // why: virtual time, until the entry is closed
                }
                let kept = if read == 4 * MIB { 1 } else { 2 };
                for first in [0, 3 * MIB] {
                    let mut opened = rig.open(first, None).await;
                    let len = read_to_end(&mut opened.reader, kept).await;
                    assert_eq!(len, 4 * MIB - first, "{object:?}, restart: {restart}");
                }
            }
        }
    }
}

/// What was whole when it was taken up again may lose bytes; those of the next version do not fill the gap.
#[tokio::test(start_paused = true)]
async fn fault06_a_gap_in_a_file_without_strong_validator_ends_it() {
    let setup = setup(0);
    let object = OriginObject::new(FILM, 4 * MIB)
        .without_validators()
        .header("Cache-Control", "max-age=600");
    setup.world.put(object.clone());
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    rig.manager.shutdown().await;
    setup.world.put(object.version(2));
    let record = setup.store.entry(&key(FILM)).await.unwrap().unwrap();
    let lost = SegmentKey {
        generation: record.current.unwrap().id,
        segment: 2,
        epoch: 0,
    };
    setup.bytes.remove(vec![lost]).await.unwrap();

    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 2 * MIB).await;
    let error = opened.reader.next(1).await.unwrap_err();
    assert!(matches!(error, ReadError::Changed), "{error:?}");
    let mut opened = rig.open(0, None).await;
    assert_eq!(read_to_end(&mut opened.reader, 2).await, 4 * MIB);
}

/// The operator's word stands in for the origin's.
#[tokio::test(start_paused = true)]
async fn fault06_an_immutable_origins_bytes_are_continued_without_validators() {
    let setup = setup(0);
    let object = OriginObject::new(FILM, 4 * MIB)
        .without_validators()
        .header("Cache-Control", "max-age=600");
    setup.world.put(object);
    for read in [1, 4] {
        let rig = setup
            .start_with(|builder| builder.immutable_origin(""))
            .await;
        let mut opened = rig.open(0, Some(read * MIB)).await;
        read_to_end(&mut opened.reader, 1).await;
        drop(opened);
        rig.manager.shutdown().await;
    }
    assert_eq!(setup.world.journal().bytes_of(FILM), 4 * MIB);
}
