//! Random operations on a store and on a model, side by side.

use std::future::Future;

use chunk_core::GenerationId;
use chunk_ports::{ByteStore, SegmentKey};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::content::{assert_right, bytes_at};

/// Segments are written below this offset, so that random ranges meet.
const SPAN: u64 = 20_000;

/// One operation on a byte store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Writes the right content.
    #[non_exhaustive]
    Write {
        /// Where.
        key: SegmentKey,
        /// From which byte on.
        offset: u64,
        /// How many bytes.
        len: usize,
        /// Cut into pieces of at most this length.
        piece: usize,
    },
    /// Reads and compares.
    #[non_exhaustive]
    Read {
        /// Where.
        key: SegmentKey,
        /// From which byte on.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// Flushes a segment.
    Flush(SegmentKey),
    /// Removes a segment.
    Remove(SegmentKey),
    /// Removes a generation.
    RemoveGeneration(GenerationId),
    /// Compares the lists of generations.
    Generations,
}

/// Random operations on a few keys that share generations and segments.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = (0..3_u64, 0..3_u32, 0..2_u32).prop_map(|(generation, segment, epoch)| SegmentKey {
        // 0, 1 and 256: two of them share their lowest byte.
        generation: GenerationId::new([0, 1, 256][generation as usize]),
        segment,
        epoch,
    });
    let op = prop_oneof![
        6 => (key.clone(), 0..SPAN, 1..6_000_usize, 1..3_000_usize).prop_map(
            |(key, offset, len, piece)| Op::Write { key, offset, len, piece }
        ),
        6 => (key.clone(), 0..SPAN + 8_000, 1..9_000_usize)
            .prop_map(|(key, offset, len)| Op::Read { key, offset, len }),
        1 => key.clone().prop_map(Op::Flush),
        1 => key.clone().prop_map(Op::Remove),
        1 => key.prop_map(|key| Op::RemoveGeneration(key.generation)),
        1 => Just(Op::Generations),
    ];
    prop::collection::vec(op, 1..60)
}

/// Runs random operations on fresh pairs of a store and a model and compares every answer.
///
/// `fresh` makes the store under test (with whatever must live as long as it does), `fresh_model` the
/// model, which must be strict: its reads end where a hole begins. Where the model has nothing, the store
/// may give zeros or nothing, as the contract allows.
///
/// # Panics
/// With the smallest failing operations found, where an answer differs.
pub fn assert_like_model<S, G, M, Fresh, Fut>(cases: u32, fresh: Fresh, fresh_model: impl Fn() -> M)
where
    S: ByteStore,
    M: ByteStore,
    Fresh: Fn() -> Fut,
    Fut: Future<Output = (S, G)>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&ops(), |ops| {
        runtime.block_on(async {
            let (store, _alive) = fresh().await;
            run_ops(&store, &fresh_model(), &ops).await;
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Runs `ops` on both and compares every answer: also the way to name a failure that was found.
///
/// # Panics
/// Where an answer differs.
pub async fn run_ops<S, M>(store: &S, model: &M, ops: &[Op])
where
    S: ByteStore + ?Sized,
    M: ByteStore + ?Sized,
{
    for op in ops {
        match *op {
            Op::Write {
                key,
                offset,
                len,
                piece,
            } => {
                let whole = bytes_at(key, offset, len);
                let pieces: Vec<_> = (0..len)
                    .step_by(piece)
                    .map(|at| whole.slice(at..len.min(at + piece)))
                    .collect();
                store.write(key, offset, pieces).await.unwrap();
                model.write(key, offset, vec![whole]).await.unwrap();
            }
            Op::Read { key, offset, len } => compare_read(store, model, key, offset, len).await,
            Op::Flush(key) => {
                store.flush(key).await.unwrap();
                model.flush(key).await.unwrap();
            }
            Op::Remove(key) => {
                store.remove(vec![key]).await.unwrap();
                model.remove(vec![key]).await.unwrap();
            }
            Op::RemoveGeneration(generation) => {
                store.remove_generation(generation).await.unwrap();
                model.remove_generation(generation).await.unwrap();
            }
            Op::Generations => {
                let mut found = store.generations().await.unwrap();
                let mut expected = model.generations().await.unwrap();
                found.sort();
                expected.sort();
                assert_eq!(found, expected);
            }
        }
    }
}

async fn compare_read<S, M>(store: &S, model: &M, key: SegmentKey, offset: u64, len: usize)
where
    S: ByteStore + ?Sized,
    M: ByteStore + ?Sized,
{
    let found = store
        .read(key, offset, len)
        .await
        .unwrap()
        .unwrap_or_default();
    let expected = model
        .read(key, offset, len)
        .await
        .unwrap()
        .unwrap_or_default();
    assert!(
        found.len() >= expected.len() && found.len() <= len,
        "{key:?} at {offset}: {} bytes of {len}, {} were written",
        found.len(),
        expected.len()
    );
    let (written, beyond) = found.split_at(expected.len());
    assert_eq!(written, expected, "{key:?} at {offset}");
    assert_right(key, offset, written);
    // Beyond a hole the store may go on; then every byte is a hole's zero or the right one.
    for (at, byte) in (offset + expected.len() as u64..).zip(beyond) {
        match model.read(key, at, 1).await.unwrap() {
            Some(_) => assert_right(key, at, &[*byte]),
            None => assert_eq!(*byte, 0, "{key:?} at {at}: a byte that nobody wrote"),
        }
    }
}
