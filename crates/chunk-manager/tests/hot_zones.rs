//! Films that say how fast they play and where their index is.

mod support;

use std::time::Duration;

use chunk_core::ByteRange;
use chunk_testkit::origin::OriginObject;
use support::*;

const INDEX: usize = 300_000;

fn atom(code: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len() + 8)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(code);
    out.extend_from_slice(body);
    out
}

/// An index that says how many seconds the film plays.
fn index(seconds: u32) -> Vec<u8> {
    let mut header = vec![0; 12];
    header.extend_from_slice(&1_u32.to_be_bytes());
    header.extend_from_slice(&seconds.to_be_bytes());
    let mut body = atom(b"mvhd", &header);
    body.extend(atom(b"trak", &vec![0; INDEX]));
    atom(b"moov", &body)
}

/// A film whose index lies behind `at` bytes of media, and before two megabytes of free space.
fn film(at: u64, seconds: u32) -> (OriginObject, ByteRange) {
    let mut head = atom(b"ftyp", b"isom\0\0\0\0");
    let media = u32::try_from(at - head.len() as u64).unwrap();
    head.extend_from_slice(&media.to_be_bytes());
    head.extend_from_slice(b"mdat");
    let mut tail = index(seconds);
    let range = ByteRange::with_len(at, tail.len() as u64).unwrap();
    tail.extend_from_slice(&u32::try_from(2 * MIB).unwrap().to_be_bytes());
    tail.extend_from_slice(b"free");
    let object = OriginObject::new(FILM, range.end() + 2 * MIB)
        .with_prefix(&head)
        .with_bytes(at, &tail);
    (object, range)
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await; // why: virtual time, for what goes on by itself
}

async fn read(rig: &Rig, len: u64) -> chunk_manager::Opened {
    let mut opened = rig.open(0, None).await;
    while opened.reader.position() < len {
        opened.reader.next(50_000).await.unwrap().unwrap();
    }
    opened
}

#[tokio::test(start_paused = true)]
async fn an_index_behind_the_media_is_fetched_while_nothing_else_is_wanted() {
    let (object, index) = film(60 * MIB + 77, 60);
    let setup = setup(1);
    setup.world.put(object);
    let rig = setup.start().await;
    let opened = read(&rig, 100_000).await;
    wait(10).await;
    let id = opened.entry.id();
    let has = rig
        .manager
        .has_byte_range(id, index.start(), index.end())
        .await
        .unwrap();
    assert!(has, "the player has all it needs, and the line is free");
    let sent = rig.world.journal().bytes_of(FILM);
    assert!(sent < 40 * MIB, "{sent}: the index, not the film");
}

#[tokio::test(start_paused = true)]
async fn a_rate_from_the_header_takes_the_place_of_a_guess() {
    // 250 kB a second, of which thirty seconds are fetched ahead; without a rate it would be some chunks.
    let seconds = 240;
    let mut head = atom(b"ftyp", b"isom\0\0\0\0");
    head.extend(index(seconds));
    let mut sent = Vec::new();
    for prefix in [&head[..], &[]] {
        let setup = setup(1);
        let object = OriginObject::new(FILM, 60_000_000).with_prefix(prefix);
        setup.world.put(object);
        let rig = setup.start().await;
        let _opened = read(&rig, 12_000_000).await;
        wait(10).await;
        sent.push(rig.world.journal().bytes_of(FILM));
    }
    let ahead = 7_400_000..7_600_000;
    assert!(ahead.contains(&(sent[0] - 12_000_000)), "{sent:?}");
    assert!(!ahead.contains(&(sent[1] - 12_000_000)), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn an_index_in_the_middle_outlives_what_is_around_it() {
    let (object, index) = film(4 * MIB + 77, 6);
    let mut setup = setup(1);
    setup.limits = setup
        .limits
        .with_max_size(Some(13 * MIB))
        .with_initial_buffer(2 * MIB);
    setup.world.put(object);
    for name in ["b", "c"] {
        setup.world.put(OriginObject::new(name, 5 * MIB));
    }
    let rig = setup.start().await;
    let opened = read(&rig, index.end() + 2 * MIB).await;
    let id = opened.entry.id();
    drop(opened);
    for name in ["b", "c"] {
        let first = chunk_manager::First::Span {
            start: 0,
            end: None,
        };
        let mut other = rig.manager.open(resource(name), first).await.unwrap();
        while other.reader.next(200_000).await.unwrap().is_some() {}
        wait(100).await;
    }
    let left = rig.manager.get_available_chunks(id).await.unwrap();
    assert!(left.len() < 6, "{left:?}: something had to go");
    assert!(left.contains(&4), "{left:?}: the index lies in the fifth");
}
