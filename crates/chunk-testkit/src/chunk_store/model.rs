//! A model test: random operations on two stores, which must give equal answers after each.
//!
//! One of them is the store under test, the other a reference (the strict store in memory). Their ids
//! need not be equal: a store may leave numbers out.

use chunk_core::{
    BLOCK_SIZE, ByteRange, CacheKey, EntryId, GenerationId, Priority, Representation,
};
use chunk_ports::{
    ChunkStore, ChunkStoreError, EntryRecord, Freshness, GenerationRecord, JobRange, NewGeneration,
    StoreWrite,
};
use proptest::prelude::*;

use super::samples::{SEGMENT_SIZE, TOTAL_LEN, full_representation, key, row};

/// One call on both stores. Entries and generations are named by the order in which they were made,
/// counted around; a name before the first one stands for an id that was never given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Op {
    /// `ensure_entry` with one of a few keys.
    Ensure {
        /// Which key.
        key: u8,
        /// The time.
        now_unix: i64,
    },
    /// `begin_generation`.
    Begin {
        /// Of which entry.
        entry: u8,
        /// The nonce: one of a few, so that some are repeated.
        nonce: u8,
        /// Whether the length is known.
        has_length: bool,
        /// Segments of twice the size, for some.
        is_wide: bool,
    },
    /// `commit`.
    Commit(Vec<Write>),
}

/// One write of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Write {
    /// Records a segment, or one that is malformed where `flaw` is not 0.
    Record {
        /// Of which generation.
        generation: u8,
        /// Which segment.
        segment: u8,
        /// The recorded blocks, a bit each.
        blocks: u8,
        /// What is wrong with it.
        flaw: u8,
    },
    /// Removes segments.
    RemoveSegments(u8, Vec<u8>),
    /// Removes a generation.
    RemoveGeneration(u8),
    /// Removes an entry.
    RemoveEntry(u8),
    /// Sets a length: the usual one, or another.
    SetLength(u8, bool),
    /// Refreshes a generation.
    Refresh(u8, i64),
    /// Touches segments of a generation with an entry that may be another's.
    Touch(u8, u8, Vec<u8>, i64),
    /// Pins or unpins.
    Pin(u8, bool),
    /// Replaces jobs; starts, lengths and sequences of the new ones, as they come.
    ReplaceJobs(u8, Vec<(u8, u8, u8)>),
}

/// Random operations, up to `length` of them.
pub fn ops(length: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..=length)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..4_u8, 0..100_i64).prop_map(|(key, now_unix)| Op::Ensure { key, now_unix }),
        3 => (0..5_u8, 0..12_u8, prop::bool::weighted(0.8), prop::bool::weighted(0.1)).prop_map(
            |(entry, nonce, has_length, is_wide)| Op::Begin { entry, nonce, has_length, is_wide }
        ),
        6 => prop::collection::vec(write(), 0..6).prop_map(Op::Commit),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let segments = || prop::collection::vec(0..11_u8, 0..4);
    let flaw = prop_oneof![12 => Just(0), 1 => 1..6_u8];
    prop_oneof![
        8 => (0..8_u8, 0..10_u8, 1..16_u8, flaw).prop_map(|(generation, segment, blocks, flaw)| {
            Write::Record { generation, segment, blocks, flaw }
        }),
        2 => (0..8_u8, segments()).prop_map(|(of, which)| Write::RemoveSegments(of, which)),
        1 => (0..8_u8).prop_map(Write::RemoveGeneration),
        1 => (0..5_u8).prop_map(Write::RemoveEntry),
        1 => (0..8_u8, prop::bool::weighted(0.8)).prop_map(|(of, usual)| Write::SetLength(of, usual)),
        1 => (0..8_u8, 0..100_i64).prop_map(|(of, until)| Write::Refresh(of, until)),
        2 => (0..5_u8, 0..8_u8, segments(), 0..100_i64)
            .prop_map(|(entry, of, which, at)| Write::Touch(entry, of, which, at)),
        1 => (0..5_u8, any::<bool>()).prop_map(|(entry, pinned)| Write::Pin(entry, pinned)),
        2 => (0..5_u8, prop::collection::vec((0..20_u8, 1..20_u8, 0..9_u8), 0..4))
            .prop_map(|(entry, jobs)| Write::ReplaceJobs(entry, jobs)),
    ]
}

/// Runs `ops` on both stores, which must be empty, and compares every answer and everything that can
/// be read after each.
///
/// # Panics
/// Where the two differ.
pub async fn compare(actual: &dyn ChunkStore, model: &dyn ChunkStore, ops: &[Op]) {
    let mut actual = Side::new(actual);
    let mut model = Side::new(model);
    for (step, op) in ops.iter().enumerate() {
        let answers = (actual.run(op).await, model.run(op).await);
        assert_eq!(answers.0, answers.1, "the answer of step {step}, {op:?}");
        let views = (actual.view().await, model.view().await);
        assert_eq!(views.0, views.1, "what is seen after step {step}, {op:?}");
    }
}

/// A store with the ids it gave, in order: an id's place in the list is its name.
struct Side<'a> {
    store: &'a dyn ChunkStore,
    entries: Vec<EntryId>,
    generations: Vec<GenerationId>,
}

impl<'a> Side<'a> {
    const fn new(store: &'a dyn ChunkStore) -> Self {
        Self {
            store,
            entries: Vec::new(),
            generations: Vec::new(),
        }
    }

    async fn run(&mut self, op: &Op) -> String {
        match op {
            Op::Ensure { key, now_unix } => {
                let made = self.store.ensure_entry(&key_of(*key), *now_unix).await;
                if let Ok(made) = &made
                    && !self.entries.contains(&made.id)
                {
                    self.entries.push(made.id);
                }
                self.told(made.map(|made| self.entry_view(made)))
            }
            Op::Begin {
                entry,
                nonce,
                has_length,
                is_wide,
            } => {
                let new = new_generation(*nonce, *has_length, *is_wide);
                let begun = self.store.begin_generation(self.entry(*entry), new).await;
                if let Ok(begun) = &begun
                    && !self.generations.contains(&begun.id)
                {
                    self.generations.push(begun.id);
                }
                self.told(begun.map(|begun| self.generation_view(begun)))
            }
            Op::Commit(writes) => {
                let writes = writes.iter().map(|write| self.write(write)).collect();
                self.told(self.store.commit(writes).await)
            }
        }
    }

    /// Everything that can be read, with names in place of ids.
    async fn view(&self) -> Vec<String> {
        let mut view = Vec::new();
        let entries = self.store.entries().await.expect("entries");
        view.extend(
            entries
                .into_iter()
                .map(|entry| self.told(Ok(self.entry_view(entry)))),
        );
        for key in 0..4 {
            let entry = self.store.entry(&key_of(key)).await;
            view.push(self.told(entry.map(|entry| entry.map(|entry| self.entry_view(entry)))));
        }
        for (name, &generation) in self.generations.iter().enumerate() {
            let summaries = self.store.segments(generation).await.expect("segments");
            for summary in &summaries {
                let row = self.store.segment(generation, summary.segment).await;
                let row = row.expect("segment").expect("a row that was listed");
                let row = (
                    row.segment,
                    row.epoch,
                    row.extent,
                    row.checksums,
                    row.recorded_bytes,
                );
                view.push(format!("{name}: {summary:?} {row:?}"));
            }
        }
        let retired = self.store.retired_generations().await.expect("retired");
        view.extend(
            retired
                .iter()
                .map(|&id| format!("retired {:?}", self.generation_name(id))),
        );
        let jobs = self.store.jobs().await.expect("jobs");
        view.extend(jobs.iter().map(|row| {
            format!(
                "{:?} {:?} {:?}",
                self.entry_name(row.entry),
                row.key.path(),
                row.job
            )
        }));
        view
    }

    fn write(&self, write: &Write) -> StoreWrite {
        let numbers = |segments: &[u8]| segments.iter().copied().map(u32::from).collect();
        match write {
            Write::Record {
                generation,
                segment,
                blocks,
                flaw,
            } => {
                let blocks: Vec<_> = (0..8).filter(|bit| blocks >> bit & 1 == 1).collect();
                let mut row = row(self.generation(*generation), u32::from(*segment), &blocks);
                match flaw {
                    0 => {}
                    1 => row.checksums.push(1),
                    2 => row.recorded_bytes += 1,
                    3 => row.segment += 1,
                    4 => row.segment = u32::MAX,
                    _ => row.extent = ByteRange::new(0, 1).expect("a range"),
                }
                StoreWrite::RecordSegment(row)
            }
            Write::RemoveSegments(generation, segments) => StoreWrite::RemoveSegments {
                generation: self.generation(*generation),
                segments: numbers(segments),
            },
            Write::RemoveGeneration(generation) => {
                StoreWrite::RemoveGeneration(self.generation(*generation))
            }
            Write::RemoveEntry(entry) => StoreWrite::RemoveEntry(self.entry(*entry)),
            Write::SetLength(generation, usual) => StoreWrite::SetLength {
                generation: self.generation(*generation),
                total_len: if *usual { TOTAL_LEN } else { TOTAL_LEN - 1 },
            },
            Write::Refresh(generation, until) => StoreWrite::Refresh {
                generation: self.generation(*generation),
                freshness: Freshness {
                    validated_unix: 5,
                    fresh_until_unix: *until,
                    must_revalidate: *until % 2 == 0,
                },
            },
            Write::Touch(entry, generation, segments, at_unix) => StoreWrite::Touch {
                entry: self.entry(*entry),
                generation: self.generation(*generation),
                segments: numbers(segments),
                at_unix: *at_unix,
            },
            Write::Pin(entry, pinned) => StoreWrite::Pin {
                entry: self.entry(*entry),
                pinned: *pinned,
            },
            Write::ReplaceJobs(entry, jobs) => StoreWrite::ReplaceJobs {
                entry: self.entry(*entry),
                jobs: placed(jobs),
            },
        }
    }

    fn entry(&self, name: u8) -> EntryId {
        named(&self.entries, name).unwrap_or(EntryId::new(987_654_321))
    }

    fn generation(&self, name: u8) -> GenerationId {
        named(&self.generations, name).unwrap_or(GenerationId::new(987_654_321))
    }

    fn entry_name(&self, id: EntryId) -> Option<usize> {
        self.entries.iter().position(|&given| given == id)
    }

    fn generation_name(&self, id: GenerationId) -> Option<usize> {
        self.generations.iter().position(|&given| given == id)
    }

    fn entry_view(&self, entry: EntryRecord) -> impl std::fmt::Debug {
        (
            self.entry_name(entry.id),
            entry.key.path().to_owned(),
            entry.pinned,
            entry.accessed_unix,
            entry.current.map(|current| self.generation_view(current)),
        )
    }

    fn generation_view(&self, generation: GenerationRecord) -> impl std::fmt::Debug + use<> {
        (
            (
                self.generation_name(generation.id),
                self.entry_name(generation.entry),
            ),
            generation.representation,
            generation.accepts_ranges,
            (generation.segment_size, generation.nonce),
            generation.freshness,
            generation.recorded_bytes,
        )
    }

    /// An answer as text: errors by kind, because their wording is each store's own.
    fn told<T: std::fmt::Debug>(&self, answer: Result<T, ChunkStoreError>) -> String {
        match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(ChunkStoreError::Missing { what }) => format!("missing {what}"),
            Err(ChunkStoreError::Refused { .. }) => "refused".to_owned(),
            Err(other) => panic!("a store that works fails with {other:?}"),
        }
    }
}

fn named<T: Copy>(given: &[T], name: u8) -> Option<T> {
    let place = usize::from(name).checked_sub(1)?;
    given.get(place.checked_rem(given.len())?).copied()
}

fn key_of(number: u8) -> CacheKey {
    key(&format!("/{number}"))
}

fn new_generation(nonce: u8, has_length: bool, is_wide: bool) -> NewGeneration {
    NewGeneration {
        representation: if has_length {
            full_representation()
        } else {
            Representation::with_len(None)
        },
        accepts_ranges: nonce.is_multiple_of(2),
        segment_size: if is_wide {
            2 * SEGMENT_SIZE
        } else {
            SEGMENT_SIZE
        },
        nonce: u64::from(nonce),
        freshness: Freshness::default(),
    }
}

/// Jobs after one another with gaps as given; where a start is 0, right on the one before, so that some
/// overlap.
fn placed(jobs: &[(u8, u8, u8)]) -> Vec<JobRange> {
    let mut end: u64 = 0;
    jobs.iter()
        .map(|&(gap, len, sequence)| {
            let start = match gap {
                0 => end.saturating_sub(1),
                gap => end + u64::from(gap - 1),
            };
            end = start + u64::from(len) * BLOCK_SIZE;
            JobRange {
                range: ByteRange::new(start, end).expect("a range"),
                priority: if sequence.is_multiple_of(2) {
                    Priority::Medium
                } else {
                    Priority::Low
                },
                sequence: u64::from(sequence),
            }
        })
        .collect()
}
