//! The durable queue.

use chunk_core::Priority;
use chunk_ports::{ChunkStore, JobRange, StoreWrite};

use super::{NO_ENTRY, is_refused};
use crate::chunk_store::samples::{film, job, key};

rules! {
    /// Across entries, by sequence; ties by entry and start.
    fn r07_jobs_come_back_in_order_of_arrival(store) {
        let (first, _) = film(store, "/a", 1).await;
        let (second, _) = film(store, "/b", 2).await;
        let low = JobRange { priority: Priority::Low, ..job(40, 50, 2) };
        let writes = vec![
            StoreWrite::ReplaceJobs { entry: second, jobs: vec![job(0, 10, 3), job(10, 20, 1), low] },
            StoreWrite::ReplaceJobs { entry: first, jobs: vec![job(0, 10, 3), job(10, 11, 3)] },
        ];
        store.commit(writes).await.expect("queued");
        let found = store.jobs().await.expect("jobs");
        let seen: Vec<_> = found.iter().map(|row| (row.entry, row.job)).collect();
        assert_eq!(seen, [
            (second, job(10, 20, 1)),
            (second, low),
            (first, job(0, 10, 3)),
            (first, job(10, 11, 3)),
            (second, job(0, 10, 3)),
        ]);
        for row in found {
            let expected = if row.entry == first { "/a" } else { "/b" };
            assert_eq!(*row.key, key(expected));
        }
    }

    /// Not merged with them, not added to them.
    fn jobs_replace_all_the_entry_had(store) {
        let (entry, _) = film(store, "/a", 1).await;
        let (other, _) = film(store, "/b", 2).await;
        let replace = |entry, jobs: &[JobRange]| StoreWrite::ReplaceJobs { entry, jobs: jobs.to_vec() };
        store
            .commit(vec![replace(entry, &[job(0, 10, 1), job(20, 30, 1)]), replace(other, &[job(0, 5, 2)])])
            .await
            .expect("queued");
        store.commit(vec![replace(entry, &[job(5, 25, 3)])]).await.expect("replaced");
        let jobs = |found: Vec<chunk_ports::JobRecord>| {
            found.into_iter().map(|row| (row.entry, row.job)).collect::<Vec<_>>()
        };
        assert_eq!(
            jobs(store.jobs().await.expect("jobs")),
            [(other, job(0, 5, 2)), (entry, job(5, 25, 3))]
        );
        store.commit(vec![replace(entry, &[])]).await.expect("done");
        assert_eq!(jobs(store.jobs().await.expect("jobs")), [(other, job(0, 5, 2))]);
    }

    /// A byte that is wanted twice would be fetched twice.
    fn jobs_that_overlap_are_refused(store) {
        let (entry, _) = film(store, "/a", 1).await;
        for jobs in [
            vec![job(0, 10, 1), job(9, 20, 2)],
            vec![job(0, 10, 1), job(0, 10, 1)],
            vec![job(0, 100, 1), job(20, 30, 2)],
            vec![job(50, 60, 1), job(0, 10, 2)],
        ] {
            let write = StoreWrite::ReplaceJobs { entry, jobs };
            is_refused(store.commit(vec![write]).await, "an overlap");
        }
        assert_eq!(store.jobs().await.expect("jobs"), []);
        let touching = StoreWrite::ReplaceJobs { entry, jobs: vec![job(0, 10, 1), job(10, 20, 2)] };
        store.commit(vec![touching]).await.expect("touching is no overlap");
    }

    /// Playback is not resumed after a restart.
    fn jobs_of_a_level_that_is_not_durable_are_refused(store) {
        let (entry, _) = film(store, "/a", 1).await;
        for priority in [Priority::Critical, Priority::High] {
            let jobs = vec![JobRange { priority, ..job(0, 10, 1) }];
            let write = StoreWrite::ReplaceJobs { entry, jobs };
            is_refused(store.commit(vec![write]).await, "a playback level");
        }
        assert_eq!(store.jobs().await.expect("jobs"), []);
    }

    /// That is a removal of what is not there.
    fn no_jobs_for_a_missing_entry_are_fine(store) {
        let write = StoreWrite::ReplaceJobs { entry: NO_ENTRY, jobs: Vec::new() };
        store.commit(vec![write]).await.expect("nothing to remove");
    }
}
