//! The crash model tests itself: a model that never loses anything would prove nothing.

use super::*;
use crate::byte_store::content::{byte_at, bytes_at, first_wrong};

const KEY: SegmentKey = SegmentKey {
    generation: GenerationId::new(1),
    segment: 0,
    epoch: 0,
};

const LEN: usize = 16 * PAGE + 100;

async fn fresh() -> (CrashByteStore, ()) {
    (CrashByteStore::new(), ())
}

mod conformance {
    use super::fresh;
    crate::byte_store_conformance!(fresh);
}

async fn write(store: &CrashByteStore, key: SegmentKey, offset: u64, len: usize) {
    store
        .write(key, offset, vec![bytes_at(key, offset, len)])
        .await
        .unwrap();
}

async fn whole(store: &CrashByteStore, key: SegmentKey) -> Option<Bytes> {
    store.read(key, 0, LEN * 2).await.unwrap()
}

#[tokio::test]
async fn fault25_what_was_flushed_stays_in_every_crash() {
    let store = CrashByteStore::new();
    write(&store, KEY, 0, LEN).await;
    store.flush(KEY).await.unwrap();
    // The page that the flushed bytes end in is written again, and so is dirty.
    write(&store, KEY, LEN as u64, 10_000).await;
    for seed in 0..200 {
        let left = whole(&store.crash(seed), KEY).await.unwrap();
        assert!(left.len() >= LEN, "seed {seed}");
        assert_eq!(first_wrong(KEY, 0, &left[..LEN]), None, "seed {seed}");
    }
}

#[tokio::test]
async fn fault25_unflushed_pages_are_lost_kept_and_torn() {
    let store = CrashByteStore::new();
    write(&store, KEY, 0, LEN).await;
    let (mut lost, mut kept, mut torn, mut gone, mut short) = (0, 0, 0, 0, 0);
    let (mut later_survives, mut zeros_only) = (0, 0);
    for seed in 0..200 {
        let Some(left) = whole(&store.crash(seed), KEY).await else {
            gone += 1;
            continue;
        };
        short += usize::from(left.len() < LEN);
        let mut first_page_lost = false;
        let mut any_kept = false;
        for (index, page) in left.chunks_exact(PAGE).enumerate() {
            let right = page
                .iter()
                .zip((index * PAGE) as u64..)
                .filter(|(byte, at)| **byte == byte_at(KEY.generation, KEY.segment, *at))
                .count();
            match right {
                0 => lost += 1,
                PAGE => kept += 1,
                _ => {
                    assert_eq!(right % SECTOR, 0, "sectors are whole, seed {seed}");
                    torn += 1;
                }
            }
            any_kept |= right > 0;
            first_page_lost |= index == 0 && right == 0;
            later_survives += usize::from(index > 0 && right == PAGE && first_page_lost);
        }
        zeros_only += usize::from(!any_kept && !left.is_empty());
    }
    for (what, count) in [
        ("lost", lost),
        ("kept", kept),
        ("torn", torn),
        ("gone", gone),
        ("short", short),
        ("later survives", later_survives),
    ] {
        assert!(count > 10, "{what}: {count}");
    }
    assert!(zeros_only < 100, "not everything is lost: {zeros_only}");
}

#[tokio::test]
async fn equal_seeds_leave_the_same_and_the_store_goes_on() {
    let store = CrashByteStore::new();
    write(&store, KEY, 0, LEN).await;
    let mut outcomes = BTreeSet::new();
    for seed in 0..20 {
        let once = whole(&store.crash(seed), KEY).await;
        assert_eq!(once, whole(&store.crash(seed), KEY).await, "seed {seed}");
        outcomes.insert(once);
    }
    assert!(outcomes.len() > 5, "seeds differ");
    assert_eq!(whole(&store, KEY).await.unwrap().len(), LEN);
    assert_eq!(store.unflushed_pages(), 17);
    store.flush(KEY).await.unwrap();
    assert_eq!(store.unflushed_pages(), 0);
}

#[tokio::test]
async fn overwritten_bytes_are_old_or_new_by_sector() {
    let store = CrashByteStore::new();
    store
        .write(KEY, 0, vec![Bytes::from(vec![b'o'; 2 * PAGE])])
        .await
        .unwrap();
    store.flush(KEY).await.unwrap();
    store
        .write(KEY, 0, vec![Bytes::from(vec![b'n'; 2 * PAGE])])
        .await
        .unwrap();
    let mut mixed = 0;
    for seed in 0..50 {
        let left = whole(&store.crash(seed), KEY).await.unwrap();
        for sector in left.chunks(SECTOR) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
            assert!(matches!(sector[0], b'o' | b'n'));
        }
        mixed += usize::from(left.contains(&b'o') && left.contains(&b'n'));
    }
    assert!(mixed > 10, "{mixed}");
}

#[tokio::test]
async fn a_removal_may_be_undone_by_a_crash() {
    let store = CrashByteStore::new();
    let other = SegmentKey { segment: 1, ..KEY };
    for key in [KEY, other] {
        write(&store, key, 0, LEN).await;
        store.flush(key).await.unwrap();
    }
    store.remove(vec![KEY]).await.unwrap();
    let (mut back, mut gone) = (0, 0);
    for seed in 0..50 {
        let after = store.crash(seed);
        assert_eq!(whole(&after, other).await.unwrap().len(), LEN);
        match whole(&after, KEY).await {
            Some(left) => {
                assert_eq!(first_wrong(KEY, 0, &left), None);
                back += 1;
            }
            None => gone += 1,
        }
    }
    assert!(back > 5 && gone > 5, "{back} back, {gone} gone");
}
