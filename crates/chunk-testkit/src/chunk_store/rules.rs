//! The rules, one function each. They panic where a store breaks them.

use std::collections::BTreeSet;

pub use chunk_ports::ChunkStore;

use chunk_core::{BLOCK_SIZE, CacheKey, EntryId, GenerationId, Priority};
use chunk_ports::{ChunkStoreError, Freshness, GenerationRecord, JobRange, StoreWrite};
use futures_util::future::join_all;

use super::samples::{
    SEGMENT_SIZE, TOTAL_LEN, film, full_representation, generation, job, key, range, row,
};

/// Ids that no store has given.
const NO_ENTRY: EntryId = EntryId::new(987_654_321);
const NO_GENERATION: GenerationId = GenerationId::new(987_654_321);

fn is_missing<T: std::fmt::Debug>(outcome: Result<T, ChunkStoreError>, expected: &str) {
    match outcome {
        Err(ChunkStoreError::Missing { what }) => assert_eq!(what, expected),
        other => panic!("expected a missing {expected}, got {other:?}"),
    }
}

fn is_refused<T: std::fmt::Debug>(outcome: Result<T, ChunkStoreError>, why: &str) {
    assert!(
        matches!(outcome, Err(ChunkStoreError::Refused { .. })),
        "{why} must be refused, got {outcome:?}"
    );
}

async fn recorded<S: ChunkStore + ?Sized>(store: &S, generation: GenerationId) -> u64 {
    current(store, generation).await.recorded_bytes
}

async fn current<S: ChunkStore + ?Sized>(store: &S, generation: GenerationId) -> GenerationRecord {
    store
        .entries()
        .await
        .expect("entries")
        .into_iter()
        .filter_map(|entry| entry.current)
        .find(|current| current.id == generation)
        .expect("a current generation")
}

async fn segments<S: ChunkStore + ?Sized>(store: &S, generation: GenerationId) -> Vec<u32> {
    let rows = store.segments(generation).await.expect("segments");
    rows.iter().map(|row| row.segment).collect()
}

macro_rules! rules {
    ($($(#[$doc:meta])+ fn $name:ident($store:ident) $body:block)+) => {
        $(
            $(#[$doc])+
            pub async fn $name<S: ChunkStore + ?Sized>($store: &S) $body
        )+
    };
}

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
            new.freshness = Freshness { validated_unix: -1, fresh_until_unix: i64::MAX };
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

    /// Every field, checksums in their order.
    fn a_recorded_segment_comes_back_whole(store) {
        let (_, film) = film(store, "/a", 1).await;
        let mut written = row(film, 2, &[0, 1, 3]);
        written.epoch = u32::MAX;
        written.accessed_unix = -7;
        store
            .commit(vec![StoreWrite::RecordSegment(written.clone())])
            .await
            .expect("recorded");
        assert_eq!(store.segment(film, 2).await.expect("segment"), Some(written.clone()));
        assert_eq!(store.segment(film, 1).await.expect("segment"), None);
        assert_eq!(store.segment(film, u32::MAX).await.expect("segment"), None);
        let summaries = store.segments(film).await.expect("segments");
        let summary = summaries.first().expect("one");
        assert_eq!(
            (summary.segment, summary.epoch, &summary.blocks, summary.recorded_bytes, summary.accessed_unix),
            (2, u32::MAX, &written.blocks, 3 * BLOCK_SIZE, -7)
        );
        assert_eq!(summaries.len(), 1);
    }

    /// The row is a value, not a difference.
    fn recording_twice_changes_nothing(store) {
        let (_, film) = film(store, "/a", 1).await;
        for _ in 0..3 {
            let write = StoreWrite::RecordSegment(row(film, 0, &[0, 1]));
            store.commit(vec![write.clone(), write]).await.expect("recorded");
            assert_eq!(recorded(store, film).await, 2 * BLOCK_SIZE);
            assert_eq!(segments(store, film).await, [0]);
        }
    }

    /// Whatever the order of writing.
    fn summaries_are_in_order_of_segment(store) {
        let (_, film) = film(store, "/a", 1).await;
        let order = [7, 0, 9, 3];
        let writes = order.map(|segment| StoreWrite::RecordSegment(row(film, segment, &[0])));
        store.commit(writes.to_vec()).await.expect("recorded");
        assert_eq!(segments(store, film).await, [0, 3, 7, 9]);
    }

    /// The sum that a start reads instead of the rows.
    fn recorded_bytes_follow_every_change(store) {
        let (_, film) = film(store, "/a", 1).await;
        let steps = [
            (StoreWrite::RecordSegment(row(film, 0, &[0, 1, 2, 3])), 4 * BLOCK_SIZE),
            (StoreWrite::RecordSegment(row(film, 1, &[2])), 5 * BLOCK_SIZE),
            (StoreWrite::RecordSegment(row(film, 0, &[0, 3])), 3 * BLOCK_SIZE),
            (StoreWrite::RecordSegment(row(film, 9, &[1])), 3 * BLOCK_SIZE + 100),
            (
                StoreWrite::RemoveSegments { generation: film, segments: vec![1, 5, 1] },
                2 * BLOCK_SIZE + 100,
            ),
            (
                StoreWrite::RemoveSegments { generation: film, segments: vec![0, 9] },
                0,
            ),
        ];
        for (write, expected) in steps {
            store.commit(vec![write]).await.expect("written");
            assert_eq!(recorded(store, film).await, expected);
        }
    }

    /// A last block of a hundred bytes counts a hundred bytes, and is there.
    fn trap07_the_short_last_chunk_is_recorded_like_any_other(store) {
        let (_, film) = film(store, "/a", 1).await;
        let last = row(film, 9, &[0, 1]);
        assert_eq!(last.extent.end(), TOTAL_LEN);
        let writes = (0..9)
            .map(|segment| row(film, segment, &[0, 1, 2, 3]))
            .chain([last.clone()])
            .map(StoreWrite::RecordSegment);
        store.commit(writes.collect()).await.expect("recorded");
        assert_eq!(recorded(store, film).await, TOTAL_LEN);
        assert_eq!(store.segment(film, 9).await.expect("segment"), Some(last));
    }

    /// One bad block costs one block, in its own row, and nothing beside it.
    fn trap09_fewer_blocks_forget_exactly_the_missing_ones(store) {
        let (_, film) = film(store, "/a", 1).await;
        let all: Vec<_> = (0..9).map(|segment| row(film, segment, &[0, 1, 2, 3])).collect();
        let writes = all.iter().cloned().map(StoreWrite::RecordSegment);
        store.commit(writes.collect()).await.expect("recorded");
        let mended = row(film, 4, &[0, 1, 3]);
        store
            .commit(vec![StoreWrite::RecordSegment(mended.clone())])
            .await
            .expect("mended");
        for row in all {
            let expected = if row.segment == 4 { mended.clone() } else { row };
            let found = store.segment(film, expected.segment).await.expect("segment");
            assert_eq!(found, Some(expected));
        }
        assert_eq!(recorded(store, film).await, 35 * BLOCK_SIZE);
    }

    /// A row whose parts disagree would make wrong bytes look right.
    fn malformed_segments_are_refused(store) {
        let (_, film) = film(store, "/a", 1).await;
        let good = row(film, 1, &[1, 2]);
        let with = |change: &dyn Fn(&mut chunk_ports::SegmentRecord)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed
        };
        let bad = [
            ("no block", with(&|row| row.blocks = chunk_core::BlockMap::new())),
            ("a checksum too few", with(&|row| row.checksums.truncate(1))),
            ("a checksum too many", with(&|row| row.checksums.push(0))),
            ("another sum", with(&|row| row.recorded_bytes += 1)),
            ("an extent that starts early", with(&|row| row.extent = range(SEGMENT_SIZE, row.extent.end()))),
            ("an extent that ends late", with(&|row| row.extent = range(row.extent.start(), row.extent.end() + 1))),
            ("another segment's extent", with(&|row| row.segment = 2)),
            ("a segment past the end", row(film, 10, &[0])),
            ("a segment far past the end", with(&|row| row.segment = u32::MAX)),
            ("a block past the segment's end", row(film, 1, &[4])),
            ("a block past the file's end", row(film, 9, &[2])),
        ];
        for (why, row) in bad {
            is_refused(store.commit(vec![StoreWrite::RecordSegment(row)]).await, why);
        }
        assert_eq!(store.segments(film).await.expect("segments"), []);
        store.commit(vec![StoreWrite::RecordSegment(good)]).await.expect("the good one");
    }

    /// Until its length is known nobody can tell which block is the last.
    fn nothing_is_recorded_of_a_provisional_generation(store) {
        let entry = store.ensure_entry(&key("/a"), 1).await.expect("entry").id;
        let made = store.begin_generation(entry, generation(1, None)).await.expect("begun");
        let record = StoreWrite::RecordSegment(row(made.id, 9, &[1]));
        is_refused(store.commit(vec![record.clone()]).await, "a row without a length");
        let set = StoreWrite::SetLength { generation: made.id, total_len: TOTAL_LEN };
        store.commit(vec![set, record]).await.expect("length first, then the row");
        assert_eq!(recorded(store, made.id).await, 100);
    }

    /// The same again is fine; another one is another generation.
    fn a_length_is_set_once(store) {
        let (_, known) = film(store, "/a", 1).await;
        let set = |total_len| StoreWrite::SetLength { generation: known, total_len };
        store.commit(vec![set(TOTAL_LEN)]).await.expect("the same");
        is_refused(store.commit(vec![set(TOTAL_LEN - 1)]).await, "another length");
        assert_eq!(current(store, known).await.representation.total_len, Some(TOTAL_LEN));
    }

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

    /// Exactly the rows that are named.
    fn removing_segments_leaves_the_others(store) {
        let (_, first) = film(store, "/a", 1).await;
        let (_, second) = film(store, "/b", 2).await;
        let writes = [first, second].into_iter().flat_map(|film| {
            (0..5).map(move |segment| StoreWrite::RecordSegment(row(film, segment, &[0])))
        });
        store.commit(writes.collect()).await.expect("recorded");
        let remove = StoreWrite::RemoveSegments { generation: first, segments: vec![4, 1] };
        let nothing = StoreWrite::RemoveSegments { generation: second, segments: Vec::new() };
        store.commit(vec![remove, nothing]).await.expect("removed");
        assert_eq!(segments(store, first).await, [0, 2, 3]);
        assert_eq!(segments(store, second).await, [0, 1, 2, 3, 4]);
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

    /// Set, and set back.
    fn a_refresh_and_a_pin_are_kept(store) {
        let (entry, film) = film(store, "/a", 1).await;
        for (pinned, fresh_until_unix) in [(true, 5_000), (false, -1)] {
            let freshness = Freshness { validated_unix: 4_000, fresh_until_unix };
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

    /// Segments without a row are left out, and the last reading stands though the clock went back.
    fn a_touch_reaches_rows_and_entry_and_nothing_else(store) {
        let (entry, film_a) = film(store, "/a", 1).await;
        let (_, film_b) = film(store, "/b", 2).await;
        let writes = [film_a, film_b].into_iter().flat_map(|film| {
            (0..3).map(move |segment| StoreWrite::RecordSegment(row(film, segment, &[0])))
        });
        store.commit(writes.collect()).await.expect("recorded");
        for at_unix in [900, 800] {
            let touch = StoreWrite::Touch {
                entry,
                generation: film_a,
                segments: vec![0, 2, 8],
                at_unix,
            };
            store.commit(vec![touch]).await.expect("touched");
            let times: Vec<_> = store
                .segments(film_a)
                .await
                .expect("segments")
                .iter()
                .map(|row| row.accessed_unix)
                .collect();
            assert_eq!(times, [at_unix, 50, at_unix]);
            let found = store.entry(&key("/a")).await.expect("entry").expect("there");
            assert_eq!(found.accessed_unix, at_unix);
        }
        let other = store.segments(film_b).await.expect("segments");
        assert!(other.iter().all(|row| row.accessed_unix == 50));
        let entry_alone = StoreWrite::Touch {
            entry,
            generation: film_a,
            segments: Vec::new(),
            at_unix: 901,
        };
        store.commit(vec![entry_alone]).await.expect("touched");
        let found = store.entry(&key("/a")).await.expect("entry").expect("there");
        assert_eq!(found.accessed_unix, 901);
    }

    /// It would make the one look read when the other was.
    fn a_touch_of_another_entrys_generation_is_refused(store) {
        let (_, film_a) = film(store, "/a", 1).await;
        let (other, _) = film(store, "/b", 2).await;
        let touch = StoreWrite::Touch {
            entry: other,
            generation: film_a,
            segments: Vec::new(),
            at_unix: 900,
        };
        is_refused(store.commit(vec![touch]).await, "a touch across entries");
        let found = store.entry(&key("/b")).await.expect("entry").expect("there");
        assert_eq!(found.accessed_unix, 10);
    }

    /// After an unknown outcome the caller repeats the batch, and that is always right.
    fn fault23_a_repeated_batch_changes_nothing(store) {
        let (entry, film_a) = film(store, "/a", 1).await;
        let (gone, retired) = film(store, "/b", 2).await;
        let freshness = Freshness { validated_unix: 7, fresh_until_unix: 8 };
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
