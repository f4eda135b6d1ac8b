//! What a commit is.

use chunk_core::{BLOCK_SIZE, EntryId, GenerationId};
use chunk_ports::{ChunkStore, Freshness, StoreWrite};
use futures_util::future::join_all;

use super::{NO_ENTRY, NO_GENERATION, is_missing, recorded, segments};
use crate::chunk_store::samples::{
    SEGMENT_SIZE, TOTAL_LEN, film, generation, job, key, range, row,
};

rules! {
    /// A write that changed no row has not been done, and says so.
    fn trap15_a_write_to_what_is_not_there_is_missing(store) {
        let (entry, generation) = film(store, "/a", 1).await;
        let freshness = Freshness::default();
        let touch = |entry, generation| StoreWrite::Touch {
            entry,
            generation,
            segments: vec![0],
            at_unix: 1,
        };
        let writes = [
            (StoreWrite::RecordSegment(row(NO_GENERATION, 0, &[0])), "generation"),
            (StoreWrite::SetLength { generation: NO_GENERATION, total_len: 1 }, "generation"),
            (StoreWrite::Refresh { generation: NO_GENERATION, freshness }, "generation"),
            (touch(entry, NO_GENERATION), "generation"),
            (touch(NO_ENTRY, generation), "entry"),
            (StoreWrite::Pin { entry: NO_ENTRY, pinned: true }, "entry"),
            (StoreWrite::ReplaceJobs { entry: NO_ENTRY, jobs: vec![job(0, 1, 1)] }, "entry"),
        ];
        for (write, what) in writes {
            is_missing(store.commit(vec![write]).await, what);
        }
        let after = store.entry(&key("/a")).await.expect("entry").expect("there");
        assert_eq!(after.accessed_unix, 10, "the refused touches left no trace");
    }

    /// Removal says what shall be, and it is.
    fn removing_what_is_not_there_is_fine(store) {
        let writes = vec![
            StoreWrite::RemoveSegments { generation: NO_GENERATION, segments: vec![0, 1] },
            StoreWrite::RemoveGeneration(NO_GENERATION),
            StoreWrite::RemoveEntry(NO_ENTRY),
            StoreWrite::RemoveGeneration(GenerationId::new(u64::MAX)),
            StoreWrite::RemoveEntry(EntryId::new(u64::MAX)),
        ];
        store.commit(writes).await.expect("nothing to remove");
    }

    /// After an unknown outcome the caller repeats the batch, and that is always right.
    fn fault23_a_repeated_batch_changes_nothing(store) {
        let (entry, film_a) = film(store, "/a", 1).await;
        let (gone, retired) = film(store, "/b", 2).await;
        let freshness = Freshness { validated_unix: 7, fresh_until_unix: 8, must_revalidate: true };
        let batch = vec![
            StoreWrite::RecordSegment(row(film_a, 0, &[0, 1])),
            StoreWrite::RecordSegment(row(film_a, 1, &[0])),
            StoreWrite::RemoveSegments { generation: film_a, segments: vec![1] },
            StoreWrite::SetLength { generation: film_a, total_len: TOTAL_LEN },
            StoreWrite::Refresh { generation: film_a, freshness },
            StoreWrite::Touch { entry, generation: film_a, segments: vec![0], at_unix: 70 },
            StoreWrite::Pin { entry, pinned: true },
            StoreWrite::ReplaceJobs { entry, jobs: vec![job(0, 5, 1), job(5, 9, 1)] },
            StoreWrite::RemoveGeneration(retired),
            StoreWrite::RemoveEntry(gone),
        ];
        store.commit(batch.clone()).await.expect("once");
        let once = (
            store.entries().await.expect("entries"),
            store.segment(film_a, 0).await.expect("segment"),
            store.jobs().await.expect("jobs"),
        );
        store.commit(batch).await.expect("again");
        let again = (
            store.entries().await.expect("entries"),
            store.segment(film_a, 0).await.expect("segment"),
            store.jobs().await.expect("jobs"),
        );
        assert_eq!(once, again);
    }

    /// A failure anywhere undoes what stood before it.
    fn a_batch_is_all_or_nothing(store) {
        let (entry, film) = film(store, "/a", 1).await;
        store
            .commit(vec![StoreWrite::RecordSegment(row(film, 0, &[0]))])
            .await
            .expect("recorded");
        let before = store.entries().await.expect("entries");
        let mut bad_row = row(film, 2, &[0]);
        bad_row.checksums.clear();
        for bad in [
            StoreWrite::Pin { entry: NO_ENTRY, pinned: true },
            StoreWrite::RecordSegment(bad_row),
            StoreWrite::ReplaceJobs { entry: NO_ENTRY, jobs: vec![job(0, 1, 1)] },
        ] {
            let batch = vec![
                StoreWrite::RecordSegment(row(film, 1, &[0])),
                StoreWrite::RemoveSegments { generation: film, segments: vec![0] },
                StoreWrite::Pin { entry, pinned: true },
                StoreWrite::ReplaceJobs { entry, jobs: vec![job(0, 1, 1)] },
                bad,
                StoreWrite::RecordSegment(row(film, 3, &[0])),
            ];
            assert!(store.commit(batch).await.is_err());
            assert_eq!(store.entries().await.expect("entries"), before);
            assert_eq!(segments(store, film).await, [0]);
            assert_eq!(store.jobs().await.expect("jobs"), []);
        }
        store
            .commit(vec![StoreWrite::RecordSegment(row(film, 1, &[0]))])
            .await
            .expect("a failed batch is no obstacle to the next");
    }

    /// Each write sees the ones before it.
    fn a_batch_is_applied_in_order(store) {
        let (entry, film) = film(store, "/a", 1).await;
        let batch = vec![
            StoreWrite::RecordSegment(row(film, 0, &[0])),
            StoreWrite::RecordSegment(row(film, 0, &[1])),
            StoreWrite::RecordSegment(row(film, 1, &[0])),
            StoreWrite::RemoveSegments { generation: film, segments: vec![1] },
            StoreWrite::Touch { entry, generation: film, segments: vec![0, 1, 2], at_unix: 77 },
            StoreWrite::RecordSegment(row(film, 2, &[0])),
        ];
        store.commit(batch).await.expect("written");
        let rows = store.segments(film).await.expect("segments");
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.segment, row.blocks.iter().collect::<Vec<_>>(), row.accessed_unix))
            .collect();
        assert_eq!(seen, [(0, vec![1], 77), (2, vec![0], 50)]);
        // A store that looked the generation up for the first row must not trust that for the second.
        for removal in [StoreWrite::RemoveGeneration(film), StoreWrite::RemoveEntry(entry)] {
            let batch = vec![
                StoreWrite::RecordSegment(row(film, 0, &[0])),
                removal,
                StoreWrite::RecordSegment(row(film, 0, &[0])),
            ];
            is_missing(store.commit(batch).await, "generation");
        }
        assert_eq!(segments(store, film).await, [0, 2]);
        let batch = vec![
            StoreWrite::RemoveEntry(entry),
            StoreWrite::Pin { entry, pinned: true },
        ];
        is_missing(store.commit(batch).await, "entry");
    }

    /// Whatever number of rows an adapter puts into one statement.
    fn a_large_batch_is_one_batch(store) {
        let entry = store.ensure_entry(&key("/large"), 1).await.expect("entry").id;
        let total_len = 1_000 * SEGMENT_SIZE;
        let film = store
            .begin_generation(entry, generation(1, Some(total_len)))
            .await
            .expect("begun")
            .id;
        let large = |segment: u32| {
            let start = u64::from(segment) * SEGMENT_SIZE;
            let mut large = row(film, 0, &[0]);
            large.segment = segment;
            large.extent = range(start, start + BLOCK_SIZE);
            StoreWrite::RecordSegment(large)
        };
        let jobs: Vec<_> = (0..321).map(|n| job(n * 10, n * 10 + 10, n)).collect();
        let mut batch: Vec<_> = (0..321).map(large).collect();
        batch.push(StoreWrite::ReplaceJobs { entry, jobs: jobs.clone() });
        store.commit(batch).await.expect("written");
        assert_eq!(segments(store, film).await, (0..321).collect::<Vec<_>>());
        assert_eq!(recorded(store, film).await, 321 * BLOCK_SIZE);
        let found: Vec<_> = store.jobs().await.expect("jobs").iter().map(|row| row.job).collect();
        assert_eq!(found, jobs);
        let mut batch: Vec<_> = (400..650).map(large).collect();
        batch.push(StoreWrite::Pin { entry: NO_ENTRY, pinned: true });
        is_missing(store.commit(batch).await, "entry");
        assert_eq!(segments(store, film).await.len(), 321);
    }

    /// None is lost, and readers meet only whole batches.
    fn commits_at_once_all_take_effect(store) {
        let (_, film) = film(store, "/a", 1).await;
        let write = async |segment: u32| {
            let batch = vec![
                StoreWrite::RecordSegment(row(film, segment, &[0])),
                StoreWrite::RecordSegment(row(film, segment + 1, &[0])),
            ];
            store.commit(batch).await.expect("written");
            let seen = segments(store, film).await;
            assert!(seen.contains(&segment), "a write that returned is seen");
            assert_eq!(seen.len() % 2, 0, "batches are whole");
        };
        join_all([0, 2, 4, 6, 8].map(write)).await;
        assert_eq!(segments(store, film).await, (0..10).collect::<Vec<_>>());
        assert_eq!(recorded(store, film).await, 10 * BLOCK_SIZE);
    }
}
