//! The history of a byte, as `why` tells it.

mod support;

use std::time::Duration;

use bytes::Bytes;
use chunk_manager::{Cause, Claim, First, Halt, Happening, Part, Priority, Timeline, Whereabouts};
use chunk_ports::{Resource, Secret};
use chunk_testkit::origin::{Fault, Link, OriginObject, When, content};
use support::*;

const COPY: &str = "copy.mkv";

async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, one group commit and more
}

async fn why(rig: &Rig, offset: u64) -> Timeline {
    rig.manager.why(&key(FILM), offset).await.unwrap()
}

fn names(timeline: &Timeline) -> Vec<&'static str> {
    let moments = timeline.moments.iter();
    moments.map(|moment| moment.what.name()).collect()
}

/// The first moment of a kind, and when.
fn find<'a>(timeline: &'a Timeline, name: &str) -> (Duration, &'a Happening) {
    let mut moments = timeline.moments.iter();
    moments
        .find(|moment| moment.what.name() == name)
        .map(|moment| (moment.at, &moment.what))
        .unwrap_or_else(|| panic!("no {name} in\n{timeline}"))
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_a_reader_waited_for_tells_its_whole_way() {
    let rig = setup(4 * MIB).start().await;
    let nothing = why(&rig, 0).await;
    assert_eq!(nothing.place, Whereabouts::Unknown);
    assert!(nothing.moments.is_empty() && !nothing.expired);

    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1000).await;
    settle().await;
    let timeline = why(&rig, 500).await;
    assert_eq!(timeline.place, Whereabouts::Verified, "{timeline}");
    assert!(!timeline.expired);
    let mut sorted = timeline.moments.clone();
    sorted.sort_by_key(|moment| moment.at);
    assert_eq!(sorted, timeline.moments, "oldest first");
    let (_, asked) = find(&timeline, "awaited");
    let Happening::Awaited { reader, offset: 0 } = *asked else {
        panic!("{timeline}")
    };
    let (started, what) = find(&timeline, "started");
    assert!(
        matches!(
            what,
            Happening::Started {
                start: Some(0),
                level: Priority::Critical,
                cause: Cause::Reader { reader: for_whom, position: 0 },
                ..
            } if *for_whom == reader
        ),
        "{timeline}"
    );
    // The origin is 50 ms away.
    let (at, what) = find(&timeline, "answered");
    let Happening::Answered { after, .. } = *what else {
        panic!("{timeline}")
    };
    assert!(after >= Duration::from_millis(50), "{timeline}");
    assert_eq!(at, started + after);
    find(&timeline, "first_byte");
    let (_, what) = find(&timeline, "served");
    assert!(
        matches!(what, Happening::Served { waited, .. } if *waited >= Duration::from_millis(50)),
        "{timeline}"
    );
    let (_, what) = find(&timeline, "recorded");
    assert!(matches!(what, Happening::Recorded { range } if range.contains(500)));
    // What is told of another block's byte leaves this reader's wait out.
    assert!(!names(&why(&rig, 3 * MIB).await).contains(&"awaited"));
    let past = why(&rig, 4 * MIB).await.place;
    assert_eq!(past, Whereabouts::PastEnd { total_len: 4 * MIB });
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_goes_on_is_told_with_the_run_that_is_to_end_it() {
    let rig = setup(4 * MIB).start().await;
    rig.world
        .fault(FILM, When::Next, Fault::StallAfter { bytes: MIB });
    let mut opened = rig.open(0, None).await;
    let reading = tokio::spawn(async move {
        read_exact(&mut opened.reader, 1, 2 * MIB).await;
        opened
    });
    tokio::time::sleep(Duration::from_millis(500)).await; // why: virtual time, the origin stands still
    let timeline = why(&rig, MIB).await;
    let last = timeline.moments.last().unwrap();
    assert!(
        matches!(last.what, Happening::Awaited { offset, .. } if offset == MIB),
        "{timeline}"
    );
    assert!(
        matches!(timeline.place, Whereabouts::Coming { head, held: false, .. } if head == MIB),
        "{timeline}"
    );
    rig.world.release();
    reading.await.unwrap();
    // A reader that was being served and waited this long has stalled.
    let statistics = rig.manager.statistics();
    assert_eq!(statistics.stalls, 1);
    assert!(statistics.stall_nanos > 300_000_000);
    // The run that it waited for was asked for a reader that had nothing yet.
    let of_levels = statistics
        .levels
        .map(|level| (level.stalls, level.stall_nanos));
    assert_eq!(
        of_levels,
        [(1, statistics.stall_nanos), (0, 0), (0, 0), (0, 0)]
    );
    let timeline = why(&rig, MIB).await;
    assert!(names(&timeline).contains(&"served"), "{timeline}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_seek_pre_empts_names_the_one_that_took_its_place() {
    let mut setup = setup(64 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1000).await;
    // Before the run at the former place can have come to anything that is worth its while.
    opened.reader.seek_to(40 * MIB);
    read_exact(&mut opened.reader, 1, 1000).await;
    let sought = why(&rig, 40 * MIB).await;
    let critical = sought.moments.iter().find_map(|moment| match moment.what {
        Happening::Started {
            run,
            start: Some(start),
            level: Priority::Critical,
            ..
        } if start == 40 * MIB => Some(run),
        _ => None,
    });
    let critical = critical.unwrap_or_else(|| panic!("{sought}"));
    let former = why(&rig, 30 * MIB).await;
    let names_it = former.moments.iter().any(|moment| match moment.what {
        Happening::Stopped {
            by: Some((by, _)), ..
        }
        | Happening::MadeRoom { by, .. } => by == critical,
        _ => false,
    });
    assert!(names_it, "run {critical} is not named:\n{former}");
}

/// Takes whatever it gets.
async fn copy(rig: &Rig) -> tokio::task::JoinHandle<()> {
    let span = First::Span {
        start: 0,
        end: None,
    };
    let mut opened = rig.manager.open(resource(COPY), span).await.unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = opened.reader.next(1 << 20).await {} })
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_waits_is_told_for_whom_and_so_is_its_run() {
    let mut setup = setup(64 * MIB);
    setup.world.put(OriginObject::new(COPY, 400 * MIB));
    // A line of 10.4 Mbit/s, once the copy is known for one.
    setup.link = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(1_300_000);
    let rig = setup.start().await;
    let copying = copy(&rig).await;
    tokio::time::sleep(Duration::from_secs(60)).await; // why: virtual time, more than a player takes without a pause
    let mut opened = rig.open(0, None).await;
    opened.reader.set_rate(1_000_000);
    let playing = tokio::spawn(async move {
        for _ in 0..30 {
            read_exact(&mut opened.reader, 1, 500_000).await;
            tokio::time::sleep(Duration::from_millis(500)).await; // why: virtual time, playing
        }
    });
    tokio::time::sleep(Duration::from_secs(2)).await; // why: virtual time, the film has just begun
    let position = {
        let status = rig.manager.status().await.unwrap();
        let entry = status.into_iter().find(|entry| entry.key == key(COPY));
        entry.unwrap().readable_bytes
    };
    let timeline = rig.manager.why(&key(COPY), position).await.unwrap();
    let told = timeline.to_string();
    let (_, what) = find(&timeline, "put_back");
    let Happening::PutBack { why, .. } = what else {
        panic!("{told}")
    };
    assert!(matches!(why.halt, Halt::Rests { .. }), "{told}");
    assert_eq!(why.key, Some(key(FILM)), "{told}");
    // Its run had all but finished a block, which it goes on to; else it is stopped.
    let its_run = timeline
        .moments
        .iter()
        .find_map(|moment| match &moment.what {
            Happening::Stopped { why, .. } | Happening::Shortened { why, .. } => why.as_ref(),
            _ => None,
        });
    assert_eq!(its_run.unwrap().key, Some(key(FILM)), "{told}");
    let why = timeline.why.as_ref().unwrap();
    assert!(matches!(why.halt, Halt::Rests { .. }), "{told}");
    let rival = why.halt.rival().unwrap();
    assert!(matches!(rival.claim, Claim::Player { .. }), "{told}");
    let last = told.lines().last().unwrap();
    assert!(
        last.contains(": missing; reader ") && last.contains(" of /film.mkv at byte "),
        "{told}"
    );
    let (_, limit) = last.split_once(" goes first, for ").unwrap();
    let (limit, _) = limit.split_once(" ms more at most").unwrap();
    let limit: u64 = limit.parse().unwrap();
    assert!((1..=5_000).contains(&limit), "{told}");
    // It is served in the end, and the history says what it waited for.
    playing.await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await; // why: virtual time, the film is over
    let timeline = rig.manager.why(&key(COPY), position).await.unwrap();
    let events = names(&timeline);
    let at = |name| events.iter().position(|event| *event == name);
    assert!(
        at("awaited") < at("put_back") && at("put_back") < at("served"),
        "{timeline}"
    );
    assert_eq!(timeline.why, None);
    copying.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_slot_is_told_who_has_it() {
    let mut setup = setup(64 * MIB);
    setup.limits = setup.limits.with_max_downloads(1);
    setup.world.put(OriginObject::new(COPY, 400 * MIB));
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, MIB).await;
    let _copying = copy(&rig).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // why: virtual time, the copy is past its start
    let entry = opened.entry.id();
    rig.manager
        .request_chunk(entry, 50, Priority::Medium)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await; // why: virtual time, the queue has been looked at
    let timeline = why(&rig, 50 * MIB).await;
    let why = timeline
        .why
        .as_ref()
        .unwrap_or_else(|| panic!("{timeline}"));
    assert_eq!(why.key, Some(key(COPY)), "{timeline}");
    assert!(
        matches!(why.halt, Halt::Full { slots: 1, .. }),
        "{timeline}"
    );
    let last = timeline.to_string();
    assert!(last.contains("the only slot has reader "), "{timeline}");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_the_queue_is_told_with_its_level() {
    let rig = setup(8 * MIB).start().await;
    let mut opened = rig.open(0, Some(MIB)).await;
    read_to_end(&mut opened.reader, 1).await;
    rig.world.fault(FILM, When::Always, Fault::status(503));
    let entry = opened.entry.id();
    rig.manager
        .request_chunk(entry, 6, Priority::Low)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await; // why: virtual time, tried and put off
    let timeline = why(&rig, 6 * MIB).await;
    let (_, what) = find(&timeline, "requested");
    assert!(
        matches!(what, Happening::Requested { range, level: Priority::Low } if range.start() == 6 * MIB),
        "{timeline}"
    );
    assert!(
        matches!(
            timeline.place,
            Whereabouts::Queued {
                level: Priority::Low,
                ..
            } | Whereabouts::Coming { .. }
        ),
        "{timeline}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_tells_its_reason_and_when_it_is_tried_again() {
    const TOKEN: &str = "s3cr3t-token";
    let rig = setup(MIB).start().await;
    rig.world.fault(FILM, When::Next, Fault::status(503));
    let signed = Resource::new(key(FILM), Secret::new(format!("/{FILM}?sig={TOKEN}")));
    let first = First::Span {
        start: 0,
        end: None,
    };
    let mut opened = rig.manager.open(signed, first).await.unwrap();
    read_exact(&mut opened.reader, 1, 1000).await;
    let timeline = why(&rig, 0).await;
    let (failed, what) = find(&timeline, "failed");
    let Happening::Failed {
        reason,
        retry_in: Some(retry_in),
        run,
        ..
    } = what
    else {
        panic!("{timeline}")
    };
    assert!(reason.contains("503"), "{timeline}");
    let again = timeline.moments.iter().find(
        |moment| matches!(moment.what, Happening::Started { run: later, .. } if later > *run),
    );
    // A timer goes by whole milliseconds.
    let late = again.unwrap().at - (failed + *retry_in);
    assert!(late <= Duration::from_millis(1), "{timeline}");
    assert!(!format!("{timeline:?} {timeline}").contains(TOKEN));
}

#[tokio::test(start_paused = true)]
async fn beyond_what_is_remembered_the_answer_is_expired() {
    let rig = setup(MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    settle().await;
    assert!(!why(&rig, 0).await.expired);
    // 5,000 facts about another file.
    let piece = Bytes::from(content(FILM, 1, 0, 1));
    for _ in 0..5_000 {
        let id = opened.entry.id();
        rig.manager
            .complete_range(id, MIB - 1, piece.clone())
            .await
            .unwrap();
    }
    let timeline = why(&rig, 0).await;
    assert!(timeline.expired, "{timeline}");
    assert_eq!(timeline.place, Whereabouts::Verified);
    assert!(timeline.remembered_from > Duration::ZERO);
    assert!(timeline.to_string().contains("expired"), "{timeline}");
    assert!(!why(&rig, MIB - 1).await.expired);
}

#[tokio::test(start_paused = true)]
async fn removal_is_told_and_a_new_manager_knows_only_where_the_byte_is() {
    let setup = setup(MIB);
    let rig = setup.start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    settle().await;
    rig.manager.shutdown().await;

    let rig = setup.start().await;
    let timeline = why(&rig, 5).await;
    assert_eq!(timeline.place, Whereabouts::Recorded);
    assert!(timeline.moments.is_empty() && !timeline.expired);
    rig.manager.evict(&key(FILM)).await.unwrap();
    let timeline = why(&rig, 5).await;
    assert_eq!(timeline.place, Whereabouts::Unknown);
    assert_eq!(names(&timeline), ["evicted"]);
}

#[tokio::test(start_paused = true)]
async fn what_went_to_make_room_says_so() {
    let rig = setup(4 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_to_end(&mut opened.reader, 1).await;
    drop(opened);
    settle().await;
    let smaller = chunk_manager::Limits::default().with_max_size(Some(2 * MIB));
    rig.manager.set_limits(smaller);
    settle().await;
    let mut gone = Vec::new();
    for chunk in 0..4 {
        let timeline = why(&rig, chunk * MIB + 7).await;
        let is_evicted = names(&timeline).last() == Some(&"evicted");
        assert_eq!(
            is_evicted,
            timeline.place == Whereabouts::Missing,
            "{timeline}"
        );
        gone.extend(is_evicted.then_some(chunk));
    }
    assert!(gone.len() >= 2 && gone.len() < 4, "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn steady_playback_takes_little_of_what_can_be_remembered() {
    let rig = setup(64 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    opened.reader.set_rate(MIB);
    for _ in 0..64 {
        read_exact(&mut opened.reader, 1, MIB).await;
        tokio::time::sleep(Duration::from_secs(1)).await; // why: virtual time, playing
    }
    let all: usize = why(&rig, 63 * MIB).await.moments.len();
    assert!(all < 300, "{all} facts for a minute of playback");
    let statistics = rig.manager.statistics();
    assert_eq!(statistics.stalls, 0);
    let bytes: u64 = statistics.levels.iter().map(|l| l.bytes_from_origin).sum();
    assert_eq!(bytes, statistics.bytes_from_origin);
    let first = statistics.levels[0];
    assert!(first.first_byte_count >= 1);
    assert!(first.first_byte_nanos >= 50_000_000 * first.first_byte_count);
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_asked_for_anew_and_told_so() {
    let rig = setup(64 * MIB).start().await;
    let mut opened = rig.open(0, None).await;
    read_exact(&mut opened.reader, 1, 1000).await;
    let stall = Fault::StallAfter { bytes: 0 };
    rig.world.fault(FILM, When::Next, stall);
    // A seek whose answer does not come.
    opened.reader.seek_to(32 * MIB);
    read_exact(&mut opened.reader, 1, 1000).await;
    let timeline = why(&rig, 32 * MIB).await;
    let parts: Vec<Part> = timeline
        .moments
        .iter()
        .filter_map(|moment| match moment.what {
            Happening::Started { part, .. } => Some(part),
            _ => None,
        })
        .collect();
    assert!(
        matches!(parts[..], [.., Part::Main, Part::Hedge { .. }]),
        "{timeline}"
    );
    assert!(timeline.to_string().contains(" is late"), "{timeline}");
    let statistics = rig.manager.statistics();
    assert_eq!((statistics.hedges, statistics.hedge_bytes_wasted), (1, 0));
    rig.world.release();
}
