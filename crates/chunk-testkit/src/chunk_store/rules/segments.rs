//! Rows of segments.

use chunk_core::BLOCK_SIZE;
use chunk_ports::{ChunkStore, StoreWrite};

use super::{is_refused, recorded, segments};
use crate::chunk_store::samples::{SEGMENT_SIZE, TOTAL_LEN, film, generation, key, range, row};

rules! {
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
}
