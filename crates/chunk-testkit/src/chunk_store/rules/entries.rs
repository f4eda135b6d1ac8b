//! Entries and generations.

use std::collections::BTreeSet;

use chunk_core::{BLOCK_SIZE, CacheKey, EntryId};
use chunk_ports::{ChunkStore, Freshness, JobRange, StoreWrite};
use futures_util::future::join_all;

use super::{NO_ENTRY, NO_GENERATION, current, is_missing, is_refused, segments};
use crate::chunk_store::samples::{
    SEGMENT_SIZE, TOTAL_LEN, film, full_representation, generation, job, key, row,
};

rules! {
    /// Nothing is there, and asking for it is no error.
    fn a_fresh_store_is_empty(store) {
        assert_eq!(store.entries().await.expect("entries"), []);
        assert_eq!(store.entry(&key("/a")).await.expect("entry"), None);
        assert_eq!(store.jobs().await.expect("jobs"), []);
        assert_eq!(store.retired_generations().await.expect("retired"), []);
        assert_eq!(store.segments(NO_GENERATION).await.expect("segments"), []);
        assert_eq!(store.segment(NO_GENERATION, 0).await.expect("segment"), None);
        store.commit(Vec::new()).await.expect("an empty batch");
    }

    /// The second call finds what the first one made, and changes nothing of it.
    fn an_entry_is_made_once(store) {
        let made = store.ensure_entry(&key("/a"), 10).await.expect("made");
        assert_eq!(made.accessed_unix, 10);
        assert!(!made.pinned && made.current.is_none());
        assert_eq!(*made.key, key("/a"));
        let found = store.ensure_entry(&key("/a"), 99).await.expect("found");
        assert_eq!(found, made);
        assert_eq!(store.entry(&key("/a")).await.expect("entry"), Some(made.clone()));
        assert_eq!(store.entries().await.expect("entries"), [made]);
    }

    /// Origin, path, query and partition all count, to the letter.
    fn keys_that_differ_in_any_part_are_entries_of_their_own(store) {
        let keys = [
            CacheKey::from_parts("a", "/f", "", ""),
            CacheKey::from_parts("b", "/f", "", ""),
            CacheKey::from_parts("a", "/F", "", ""),
            CacheKey::from_parts("a", "/f ", "", ""),
            CacheKey::from_parts("a", "/f", "q=1", ""),
            CacheKey::from_parts("a", "/f", "q=1", "p"),
            CacheKey::from_parts("a", "/f", "", "p"),
            CacheKey::from_parts("", "/фильм'; --", "%00", ""),
        ];
        let mut ids = BTreeSet::new();
        for key in &keys {
            ids.insert(store.ensure_entry(key, 1).await.expect("made").id);
        }
        assert_eq!(ids.len(), keys.len());
        for key in &keys {
            let found = store.entry(key).await.expect("entry").expect("there");
            assert_eq!(*found.key, *key);
        }
        let listed = store.entries().await.expect("entries");
        assert!(listed.is_sorted_by_key(|entry| entry.id), "in order of id");
        assert_eq!(listed.len(), keys.len());
    }

    /// Check and insertion are one step.
    fn tasks_that_ensure_one_key_at_once_get_one_entry(store) {
        let same = key("/a");
        let made = join_all((0..16).map(|now| store.ensure_entry(&same, now))).await;
        let ids: BTreeSet<_> = made.into_iter().map(|entry| entry.expect("made").id).collect();
        assert_eq!(ids.len(), 1);
    }

    /// Validators, media type, freshness and the rest, with the values that are easily lost.
    fn every_part_of_a_generation_comes_back(store) {
        let entry = store.ensure_entry(&key("/a"), 1).await.expect("entry").id;
        for (nonce, accepts_ranges, representation) in [
            (0, true, full_representation()),
            (i64::MAX as u64, false, chunk_core::Representation::with_len(None)),
            (7, true, chunk_core::Representation::with_len(Some(0))),
            (8, true, chunk_core::Representation::with_len(Some(i64::MAX as u64))),
        ] {
            let mut new = generation(nonce, None);
            new.representation = representation;
            new.accepts_ranges = accepts_ranges;
            new.freshness = Freshness {
                validated_unix: -1,
                fresh_until_unix: i64::MAX,
                must_revalidate: accepts_ranges,
            };
            let made = store.begin_generation(entry, new.clone()).await.expect("begun");
            assert_eq!(made.entry, entry);
            assert_eq!(made.representation, new.representation);
            assert_eq!(made.accepts_ranges, accepts_ranges);
            assert_eq!(made.segment_size, SEGMENT_SIZE);
            assert_eq!(made.nonce, nonce);
            assert_eq!(made.freshness, new.freshness);
            assert_eq!(made.recorded_bytes, 0);
            let found = store.entry(&key("/a")).await.expect("entry").expect("there");
            assert_eq!(found.current, Some(made));
        }
    }

    /// Nothing can belong to what is not there.
    fn a_generation_of_a_missing_entry_is_missing(store) {
        is_missing(store.begin_generation(NO_ENTRY, generation(1, None)).await, "entry");
        let unknown = EntryId::new(u64::MAX);
        is_missing(store.begin_generation(unknown, generation(1, None)).await, "entry");
    }

    /// Only the newest is current; the others are listed until they are removed.
    fn a_new_generation_retires_the_former_one(store) {
        let (entry, first) = film(store, "/a", 1).await;
        let (_, other) = film(store, "/b", 2).await;
        store
            .commit(vec![StoreWrite::RecordSegment(row(first, 0, &[0]))])
            .await
            .expect("recorded");
        assert_eq!(store.retired_generations().await.expect("retired"), []);
        let second = store
            .begin_generation(entry, generation(3, Some(TOTAL_LEN)))
            .await
            .expect("begun")
            .id;
        assert_ne!(first, second);
        assert_eq!(current(store, second).await.recorded_bytes, 0);
        assert_eq!(current(store, other).await.id, other);
        assert_eq!(store.retired_generations().await.expect("retired"), [first]);
        assert_eq!(segments(store, first).await, [0]);
        store
            .commit(vec![StoreWrite::RemoveGeneration(first)])
            .await
            .expect("removed");
        assert_eq!(store.retired_generations().await.expect("retired"), []);
        assert_eq!(segments(store, first).await, []);
    }

    /// So that a call whose outcome is unknown can be repeated.
    fn a_repeated_nonce_gives_the_same_generation(store) {
        let entry = store.ensure_entry(&key("/a"), 1).await.expect("entry").id;
        let made = store.begin_generation(entry, generation(1, None)).await.expect("begun");
        let again = store.begin_generation(entry, generation(1, None)).await.expect("again");
        assert_eq!(again, made);
        assert_eq!(store.retired_generations().await.expect("retired"), []);
        let other = store.begin_generation(entry, generation(2, None)).await.expect("begun");
        let back = store.begin_generation(entry, generation(1, None)).await.expect("back");
        assert_eq!(back, made);
        assert_eq!(current(store, made.id).await, made);
        assert_eq!(store.retired_generations().await.expect("retired"), [other.id]);
    }

    /// A nonce is the base of entity tags, and two files must not share one.
    fn a_nonce_of_another_entry_is_refused(store) {
        let (entry, first) = film(store, "/a", 1).await;
        let other = store.ensure_entry(&key("/b"), 1).await.expect("entry").id;
        is_refused(
            store.begin_generation(other, generation(1, None)).await,
            "another entry's nonce",
        );
        let mut resized = generation(1, Some(TOTAL_LEN));
        resized.segment_size *= 2;
        is_refused(store.begin_generation(entry, resized).await, "another segment size");
        assert_eq!(current(store, first).await.id, first);
        assert_eq!(store.entry(&key("/b")).await.expect("entry").expect("there").current, None);
    }

    /// Segments hold whole blocks.
    fn odd_segment_sizes_are_refused(store) {
        let entry = store.ensure_entry(&key("/a"), 1).await.expect("entry").id;
        for size in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE + 1, 1 << 63, u64::MAX] {
            let mut new = generation(1, None);
            new.segment_size = size;
            is_refused(store.begin_generation(entry, new).await, "an odd segment size");
        }
        let found = store.entry(&key("/a")).await.expect("entry").expect("there");
        assert_eq!(found.current, None);
    }

    /// 2⁶³ − 1 is the largest number; one that wraps would come back as another.
    fn numbers_beyond_the_largest_are_refused(store) {
        const BEYOND: u64 = 1 << 63;
        let (entry, provisional) = {
            let entry = store.ensure_entry(&key("/a"), 1).await.expect("entry").id;
            let made = store.begin_generation(entry, generation(1, None)).await.expect("begun");
            (entry, made.id)
        };
        is_refused(store.begin_generation(entry, generation(BEYOND, None)).await, "a nonce");
        is_refused(store.begin_generation(entry, generation(2, Some(BEYOND))).await, "a length");
        let set = StoreWrite::SetLength { generation: provisional, total_len: BEYOND };
        is_refused(store.commit(vec![set]).await, "a length that is set");
        let jobs = StoreWrite::ReplaceJobs { entry, jobs: vec![job(0, BEYOND, 1)] };
        is_refused(store.commit(vec![jobs]).await, "a job's end");
        let jobs = StoreWrite::ReplaceJobs { entry, jobs: vec![job(0, 1, BEYOND)] };
        is_refused(store.commit(vec![jobs]).await, "a job's sequence");
        let whole = StoreWrite::ReplaceJobs {
            entry,
            jobs: vec![job(0, JobRange::TO_THE_END, i64::MAX as u64)],
        };
        store.commit(vec![whole]).await.expect("the largest of each");
        let found = store.jobs().await.expect("jobs");
        assert_eq!(found.first().map(|row| row.job), Some(job(0, JobRange::TO_THE_END, i64::MAX as u64)));
    }

    /// Numbers name files of bytes, so that one given twice would name wrong bytes.
    fn ids_are_never_given_twice(store) {
        let mut entries = BTreeSet::new();
        let mut generations = BTreeSet::new();
        for nonce in 0..5 {
            let (entry, generation) = film(store, "/a", nonce).await;
            assert!(entries.insert(entry), "{entry} was given before");
            assert!(generations.insert(generation), "{generation} was given before");
            let remove = if nonce % 2 == 0 {
                vec![StoreWrite::RemoveEntry(entry)]
            } else {
                vec![StoreWrite::RemoveGeneration(generation), StoreWrite::RemoveEntry(entry)]
            };
            store.commit(remove).await.expect("removed");
            assert_eq!(store.entries().await.expect("entries"), []);
        }
    }

    /// The same again is fine; another one is another generation.
    fn a_length_is_set_once(store) {
        let (_, known) = film(store, "/a", 1).await;
        let set = |total_len| StoreWrite::SetLength { generation: known, total_len };
        store.commit(vec![set(TOTAL_LEN)]).await.expect("the same");
        is_refused(store.commit(vec![set(TOTAL_LEN - 1)]).await, "another length");
        assert_eq!(current(store, known).await.representation.total_len, Some(TOTAL_LEN));
    }

    /// Set, and set back.
    fn a_refresh_and_a_pin_are_kept(store) {
        let (entry, film) = film(store, "/a", 1).await;
        for (pinned, fresh_until_unix) in [(true, 5_000), (false, -1)] {
            let must_revalidate = pinned;
            let freshness = Freshness { validated_unix: 4_000, fresh_until_unix, must_revalidate };
            let writes = vec![
                StoreWrite::Refresh { generation: film, freshness },
                StoreWrite::Pin { entry, pinned },
            ];
            store.commit(writes).await.expect("written");
            assert_eq!(current(store, film).await.freshness, freshness);
            let found = store.entry(&key("/a")).await.expect("entry").expect("there");
            assert_eq!(found.pinned, pinned);
        }
    }

    /// The entry is still one, with nothing to show.
    fn removing_the_current_generation_leaves_the_entry(store) {
        let (entry, film) = film(store, "/a", 1).await;
        let record = StoreWrite::RecordSegment(row(film, 0, &[0]));
        let jobs = StoreWrite::ReplaceJobs { entry, jobs: vec![job(0, 9, 1)] };
        store.commit(vec![record, jobs]).await.expect("recorded");
        store.commit(vec![StoreWrite::RemoveGeneration(film)]).await.expect("removed");
        let left = store.entry(&key("/a")).await.expect("entry").expect("there");
        assert_eq!((left.id, left.current), (entry, None));
        assert_eq!(store.segments(film).await.expect("segments"), []);
        assert_eq!(store.retired_generations().await.expect("retired"), []);
        assert_eq!(store.jobs().await.expect("jobs").len(), 1, "the wish stays");
    }

    /// Generations current and retired, rows and jobs, and nothing of its neighbour.
    fn removing_an_entry_removes_what_belongs_to_it(store) {
        let (entry, first) = film(store, "/a", 1).await;
        let (_, second) = film(store, "/a", 2).await;
        let (other, kept) = film(store, "/b", 3).await;
        let mut writes: Vec<_> = [first, second, kept]
            .map(|film| StoreWrite::RecordSegment(row(film, 0, &[0])))
            .into();
        for owner in [entry, other] {
            writes.push(StoreWrite::ReplaceJobs { entry: owner, jobs: vec![job(0, 9, 1)] });
        }
        store.commit(writes).await.expect("recorded");
        store.commit(vec![StoreWrite::RemoveEntry(entry)]).await.expect("removed");
        assert_eq!(store.entry(&key("/a")).await.expect("entry"), None);
        assert_eq!(store.retired_generations().await.expect("retired"), []);
        for gone in [first, second] {
            assert_eq!(store.segment(gone, 0).await.expect("segment"), None);
        }
        assert_eq!(segments(store, kept).await, [0]);
        let jobs = store.jobs().await.expect("jobs");
        assert!(matches!(jobs.as_slice(), [job] if job.entry == other));
    }
}
