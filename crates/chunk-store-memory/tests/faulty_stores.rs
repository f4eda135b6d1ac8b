//! The testkit's faulty decorators, around the stores in memory: transparent until told to fail.

use bytes::Bytes;
use chunk_core::{CacheKey, GenerationId};
use chunk_ports::{ByteStore, ChunkStore, SegmentKey, StoreWrite};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::faulty::{
    ByteStoreMethod, ChunkStoreMethod, Fault, FaultyByteStore, FaultyChunkStore,
};

chunk_testkit::chunk_store_conformance!(
    index_without_faults,
    (FaultyChunkStore::new(MemoryChunkStore::new()), ())
);

#[tokio::test]
async fn fault23_repeating_a_commit_of_unknown_outcome_changes_nothing() {
    let store = FaultyChunkStore::new(MemoryChunkStore::new());
    let key = CacheKey::new("", "/film.mkv", &[""; 0]).unwrap();
    let entry = store.ensure_entry(&key, 1).await.unwrap();
    let pin = vec![StoreWrite::Pin {
        entry: entry.id,
        pinned: true,
    }];
    store
        .faults()
        .fail_next(ChunkStoreMethod::Commit, Fault::AppliedButUnavailable);
    assert!(store.commit(pin.clone()).await.is_err());
    let once = store.entries().await.unwrap();
    assert!(once[0].pinned, "it was applied");
    store.commit(pin).await.unwrap();
    assert_eq!(store.entries().await.unwrap(), once);
}

/// The same faults by seed hit the same calls, so that a failing run can be repeated.
#[tokio::test]
async fn equal_seeds_leave_equal_stores() {
    let key = SegmentKey {
        generation: GenerationId::new(1),
        segment: 0,
        epoch: 0,
    };
    let mut left = Vec::new();
    for seed in [5, 5, 6] {
        let store = FaultyByteStore::new(MemoryByteStore::new());
        store
            .faults()
            .fail_by_seed(seed, 3, &[Fault::Full, Fault::AppliedButUnavailable]);
        let mut outcomes = Vec::new();
        for offset in 0..60 {
            let byte = vec![Bytes::from_static(b"x")];
            outcomes.push(store.write(key, offset, byte).await.is_ok());
        }
        assert_eq!(store.faults().calls(ByteStoreMethod::Write), 60);
        left.push((outcomes, store.inner().used()));
    }
    assert_eq!(left[0], left[1]);
    assert_ne!(left[0], left[2]);
    assert!(left[0].1 < 60, "some were refused");
    let succeeded = left[0].0.iter().filter(|ok| **ok).count() as u64;
    assert!(left[0].1 > succeeded, "some were applied and yet failed");
}
