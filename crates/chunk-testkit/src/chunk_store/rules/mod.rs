//! The rules, one function each. They panic where a store breaks them.

pub use chunk_ports::ChunkStore;

use chunk_core::{EntryId, GenerationId};
use chunk_ports::{ChunkStoreError, GenerationRecord};

/// Rules are functions of a store of any kind; only their bodies differ.
macro_rules! rules {
    ($($(#[$doc:meta])+ fn $name:ident($store:ident) $body:block)+) => {
        $(
            $(#[$doc])+
            pub async fn $name<S: ChunkStore + ?Sized>($store: &S) $body
        )+
    };
}

mod batches;
mod entries;
mod jobs;
mod segments;

pub use batches::*;
pub use entries::*;
pub use jobs::*;
pub use segments::*;

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
