//! Eviction order against a naive model.

use std::collections::BTreeMap;

use chunk_core::{EvictionIndex, Place};
use proptest::collection::vec;
use proptest::prelude::*;

const CREDIT: u64 = 100;

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u64, Place, i64),
    Touch(u8, i64),
    Resize(u8, u64),
    Remove(u8),
    Pin(u8),
    Unpin(u8),
}

#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: u64,
    place: Place,
    accessed: i64,
}

impl Known {
    fn rank(self) -> i64 {
        let credit = if self.place == Place::Middle { 0 } else { 100 };
        self.accessed + credit
    }
}

#[derive(Default)]
struct Model {
    segments: BTreeMap<u8, Known>,
    pins: BTreeMap<u8, u32>,
}

impl Model {
    fn pinned(&self, key: u8) -> bool {
        self.pins.get(&key).is_some_and(|&pins| pins > 0)
    }

    fn victims(&self, needed: u64) -> Vec<(u8, u64)> {
        let mut order: Vec<_> = self
            .segments
            .iter()
            .filter(|&(&key, known)| !self.pinned(key) && known.bytes > 0)
            .map(|(&key, known)| (known.rank(), key, known.bytes))
            .collect();
        order.sort_unstable();
        let mut freed = 0;
        order
            .into_iter()
            .take_while(|&(_, _, bytes)| {
                let wanted = freed < needed;
                freed += bytes;
                wanted
            })
            .map(|(_, key, bytes)| (key, bytes))
            .collect()
    }
}

fn place() -> impl Strategy<Value = Place> {
    prop::sample::select(&[Place::Head, Place::Middle, Place::Middle, Place::Tail][..])
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..8_u8;
    let time = -50..500_i64;
    prop_oneof![
        4 => (key.clone(), 0..50_u64, place(), time.clone())
            .prop_map(|(key, bytes, place, time)| Op::Insert(key, bytes, place, time)),
        3 => (key.clone(), time).prop_map(|(key, time)| Op::Touch(key, time)),
        1 => (key.clone(), 0..50_u64).prop_map(|(key, bytes)| Op::Resize(key, bytes)),
        1 => key.clone().prop_map(Op::Remove),
        2 => key.clone().prop_map(Op::Pin),
        2 => key.prop_map(Op::Unpin),
    ]
}

proptest! {
    #[test]
    fn trap16_the_eviction_order_is_the_model(ops in vec(op(), 1..80), needed in 0..200_u64) {
        let mut index = EvictionIndex::new(CREDIT);
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Insert(key, bytes, place, accessed) => {
                    index.insert(key, bytes, place, accessed);
                    model.segments.insert(key, Known { bytes, place, accessed });
                }
                Op::Touch(key, accessed) => {
                    let known = model.segments.get_mut(&key);
                    prop_assert_eq!(index.touch(key, accessed), known.is_some());
                    if let Some(known) = known {
                        known.accessed = known.accessed.max(accessed);
                    }
                }
                Op::Resize(key, bytes) => {
                    let known = model.segments.get_mut(&key);
                    prop_assert_eq!(index.resize(key, bytes), known.is_some());
                    if let Some(known) = known {
                        known.bytes = bytes;
                    }
                }
                Op::Remove(key) => {
                    let removed = model.segments.remove(&key).map(|known| known.bytes);
                    prop_assert_eq!(index.remove(key), removed);
                }
                Op::Pin(key) => {
                    index.pin(key);
                    *model.pins.entry(key).or_default() += 1;
                }
                Op::Unpin(key) => {
                    prop_assert_eq!(index.unpin(key), model.pinned(key));
                    if let Some(pins) = model.pins.get_mut(&key) {
                        *pins = pins.saturating_sub(1);
                    }
                }
            }
            let victims: Vec<_> = index.victims(needed).map(|v| (v.key, v.bytes)).collect();
            prop_assert_eq!(&victims, &model.victims(needed));
            // Never what is being played.
            prop_assert!(victims.iter().all(|&(key, _)| !index.is_pinned(key)));
            let bytes = |all: bool| {
                model
                    .segments
                    .iter()
                    .filter(|&(&key, _)| all || !model.pinned(key))
                    .map(|(_, known)| known.bytes)
                    .sum::<u64>()
            };
            prop_assert_eq!(index.bytes(), bytes(true));
            prop_assert_eq!(index.evictable_bytes(), bytes(false));
            prop_assert_eq!(index.len(), model.segments.len());
            prop_assert_eq!(index.is_empty(), model.segments.is_empty());
        }
    }

    /// The rule as documented: a head or tail goes only when every unpinned middle was used later than
    /// the head's last use plus the credit.
    #[test]
    fn head_and_tail_outlive_the_middle(
        segments in vec((0..300_i64, place()), 1..40),
        needed in 1..40_u64,
    ) {
        let mut index = EvictionIndex::new(CREDIT);
        for (key, &(accessed, place)) in segments.iter().enumerate() {
            index.insert(key, 1, place, accessed);
        }
        let victims: Vec<_> = index.victims(needed).map(|victim| victim.key).collect();
        prop_assert_eq!(victims.len() as u64, needed.min(segments.len() as u64));
        for &victim in &victims {
            let (accessed, place) = segments[victim];
            if place == Place::Middle {
                continue;
            }
            for (key, &(middle, other)) in segments.iter().enumerate() {
                let is_left = !victims.contains(&key);
                if is_left && other == Place::Middle {
                    prop_assert!(middle >= accessed + CREDIT as i64);
                }
            }
        }
    }

}

#[test]
fn trap16_what_is_being_played_is_never_a_victim() {
    let mut index = EvictionIndex::default();
    for key in 0..10 {
        index.insert(key, 100, Place::Middle, i64::from(key));
    }
    // Two readers; one of them leaves.
    index.pin(0);
    index.pin(0);
    assert!(index.unpin(0));
    assert!(index.victims(u64::MAX).all(|victim| victim.key != 0));
    assert_eq!(index.evictable_bytes(), 900);
    assert!(index.unpin(0));
    assert!(!index.unpin(0));
    assert_eq!(index.victims(1).next().map(|victim| victim.key), Some(0));
}

#[test]
fn a_pin_holds_for_a_segment_that_is_written_later() {
    let mut index = EvictionIndex::default();
    index.pin(1);
    index.insert(1, 100, Place::Middle, 0);
    assert_eq!(index.victims(1).next(), None);
    // Forgetting the segment does not forget its reader.
    index.remove(1);
    index.insert(1, 100, Place::Middle, 0);
    assert_eq!(index.victims(1).next(), None);
}

#[test]
fn age_counts_from_the_last_use() {
    let mut index = EvictionIndex::new(CREDIT);
    index.insert("old", 1, Place::Middle, 10);
    index.insert("head", 1, Place::Head, 10);
    index.insert("new", 1, Place::Middle, 60);
    let older: Vec<_> = index.older_than(50).map(|victim| victim.key).collect();
    assert_eq!(older, ["old"]);
    assert_eq!(index.older_than(10).next(), None, "used at 10, not before");
    index.touch("old", 70);
    // A clock set back makes nothing old again.
    index.touch("old", 0);
    assert_eq!(index.older_than(50).next(), None);
}

#[test]
fn the_ends_of_time_are_times() {
    let mut index = EvictionIndex::new(u64::MAX);
    index.insert(1, u64::MAX, Place::Head, i64::MAX);
    index.insert(2, u64::MAX, Place::Middle, i64::MIN);
    assert_eq!(index.bytes(), u64::MAX);
    assert_eq!(index.victims(1).next().map(|victim| victim.key), Some(2));
    let mut index = EvictionIndex::new(CREDIT);
    index.insert(1, 1, Place::Head, i64::MAX);
    index.insert(2, 1, Place::Middle, 0);
    assert_eq!(index.victims(1).next().map(|victim| victim.key), Some(2));
}
