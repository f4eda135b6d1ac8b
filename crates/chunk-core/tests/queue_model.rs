//! The queue against a model that keeps each byte on its own.

use std::collections::BTreeMap;

use chunk_core::{ByteRange, Demand, DemandQueue, Priority};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes per key in the model's universe.
const UNIVERSE: u64 = 40;

#[derive(Clone, Debug)]
enum Op {
    Push(u8, ByteRange, Priority),
    Pop,
    Cancel(u8, ByteRange),
    Satisfy(u8, ByteRange),
    RemoveKey(u8),
}

/// (key, offset) → (level, number of the push that put it there).
#[derive(Default)]
struct Model {
    bytes: BTreeMap<(u8, u64), (Priority, usize)>,
    pushes: usize,
}

impl Model {
    /// Returns (added, promoted).
    fn push(&mut self, key: u8, range: ByteRange, priority: Priority) -> (u64, u64) {
        self.pushes += 1;
        let (mut added, mut promoted) = (0, 0);
        for offset in range.start()..range.end() {
            match self.bytes.get(&(key, offset)) {
                None => added += 1,
                Some(&(level, _)) if priority < level => promoted += 1,
                Some(_) => continue,
            }
            self.bytes.insert((key, offset), (priority, self.pushes));
        }
        (added, promoted)
    }

    fn remove(&mut self, key: u8, range: ByteRange) -> u64 {
        let before = self.bytes.len();
        self.bytes
            .retain(|&(owner, offset), _| owner != key || !range.contains(offset));
        (before - self.bytes.len()) as u64
    }

    /// Every byte with its level, first to go first.
    fn in_order(&self) -> Vec<(u8, u64, Priority)> {
        let mut bytes: Vec<_> = self
            .bytes
            .iter()
            .map(|(&(key, offset), &(priority, push))| (priority, push, key, offset))
            .collect();
        bytes.sort_unstable();
        bytes
            .into_iter()
            .map(|(priority, _, key, offset)| (key, offset, priority))
            .collect()
    }

    /// Bytes of one key inside `range`, by offset.
    fn of(&self, key: u8, range: ByteRange) -> Vec<(u8, u64, Priority)> {
        self.bytes
            .iter()
            .filter(|&(&(owner, offset), _)| owner == key && range.contains(offset))
            .map(|(&(key, offset), &(priority, _))| (key, offset, priority))
            .collect()
    }
}

fn each_byte(demands: impl Iterator<Item = Demand<u8>>) -> Vec<(u8, u64, Priority)> {
    demands
        .flat_map(|demand| {
            (demand.range.start()..demand.range.end())
                .map(move |offset| (demand.key, offset, demand.priority))
        })
        .collect()
}

fn check(queue: &DemandQueue<u8>, model: &Model, base: u64) {
    let expected = model.in_order();
    assert_eq!(each_byte(queue.iter()), expected);
    assert_eq!(queue.bytes(), expected.len() as u64);
    assert_eq!(queue.len(), queue.iter().count());
    assert_eq!(queue.is_empty(), expected.is_empty());
    assert_eq!(queue.peek(), queue.iter().next());
    let all = ByteRange::new(base, base + UNIVERSE).unwrap();
    for key in 0..3 {
        assert_eq!(each_byte(queue.demands(key)), model.of(key, all));
        for offset in base..base + UNIVERSE {
            let level = model.bytes.get(&(key, offset)).map(|&(level, _)| level);
            assert_eq!(queue.priority_at(key, offset), level);
        }
    }
    for level in Priority::ALL {
        let there: Vec<_> = queue.iter().filter(|d| d.priority == level).collect();
        assert_eq!(queue.at(level).collect::<Vec<_>>(), there);
    }
}

fn run(base: u64, ops: &[Op]) {
    let shift = |range: &ByteRange| {
        ByteRange::new(base + range.start(), base + range.end()).expect("shifted")
    };
    let mut queue = DemandQueue::new();
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Push(key, range, priority) => {
                let range = shift(range);
                let pushed = queue.push(*key, range, *priority);
                assert_eq!(
                    (pushed.added, pushed.promoted),
                    model.push(*key, range, *priority)
                );
                let again = queue.push(*key, range, *priority);
                assert!(again.is_duplicate(), "{op:?} twice");
            }
            Op::Pop => {
                let expected = model.in_order();
                match queue.pop() {
                    None => assert!(expected.is_empty()),
                    Some(first) => {
                        let got = each_byte([first].into_iter());
                        assert_eq!(got, expected[..got.len()]);
                        model.remove(first.key, first.range);
                    }
                }
            }
            Op::Cancel(key, range) => {
                let range = shift(range);
                assert_eq!(queue.cancel(*key, range), model.remove(*key, range));
            }
            Op::Satisfy(key, range) => {
                let range = shift(range);
                assert_eq!(
                    each_byte(queue.overlapping(*key, range)),
                    model.of(*key, range)
                );
                assert_eq!(queue.satisfy(*key, range), model.remove(*key, range));
            }
            Op::RemoveKey(key) => {
                let all = ByteRange::new(base, base + UNIVERSE).unwrap();
                assert_eq!(queue.remove_key(*key), model.remove(*key, all));
            }
        }
        check(&queue, &model, base);
    }
    // Draining gives the same order as looking.
    let expected = model.in_order();
    let drained = std::iter::from_fn(|| queue.pop());
    assert_eq!(each_byte(drained), expected);
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}

fn range() -> impl Strategy<Value = ByteRange> {
    (0..UNIVERSE, 1..=UNIVERSE).prop_map(|(start, len)| {
        ByteRange::new(start, (start + len).min(UNIVERSE)).expect("start is inside")
    })
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.as_slice())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u8, range(), priority()).prop_map(|(key, range, p)| Op::Push(key, range, p)),
        2 => Just(Op::Pop),
        2 => (0..3_u8, range()).prop_map(|(key, range)| Op::Cancel(key, range)),
        2 => (0..3_u8, range()).prop_map(|(key, range)| Op::Satisfy(key, range)),
        1 => (0..3_u8).prop_map(Op::RemoveKey),
    ]
}

proptest! {
    #[test]
    fn r03_r22_the_queue_is_the_model(ops in vec(op(), 1..60)) {
        run(0, &ops);
    }

    #[test]
    fn the_queue_is_the_model_at_the_last_offsets(ops in vec(op(), 1..30)) {
        run(u64::MAX - UNIVERSE, &ops);
    }

    /// Sequential pushes are the usual case, and the one in which intervals are appended to.
    #[test]
    fn appended_intervals_keep_the_order(
        steps in vec((0..2_u8, 1..6_u64, prop::bool::weighted(0.2), priority()), 1..40),
    ) {
        let mut next = [0_u64; 2];
        let ops: Vec<_> = steps
            .into_iter()
            .filter_map(|(key, len, jump, priority)| {
                let at = &mut next[usize::from(key)];
                let start = if jump { *at / 2 } else { *at };
                let end = (start + len).min(UNIVERSE);
                *at = if end >= UNIVERSE { 0 } else { end };
                let range = ByteRange::try_new(start, end)?;
                Some(Op::Push(key, range, if jump { priority } else { Priority::Low }))
            })
            .collect();
        run(0, &ops);
    }
}
