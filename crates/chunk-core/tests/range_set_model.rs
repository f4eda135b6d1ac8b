//! Ranges and coverage against a model of one boolean per byte.

use chunk_core::{ByteRange, RangeError, RangeSet};
use proptest::collection::vec;
use proptest::prelude::*;

const UNIVERSE: u64 = 48;

fn range() -> impl Strategy<Value = ByteRange> {
    (0..UNIVERSE, 1..=UNIVERSE).prop_map(|(start, len)| {
        ByteRange::new(start, (start + len).min(UNIVERSE)).expect("start is inside")
    })
}

/// The maximal runs of bytes inside `within` for which `wanted` holds.
fn runs(model: &[bool], within: ByteRange, wanted: bool) -> Vec<ByteRange> {
    let mut runs: Vec<ByteRange> = Vec::new();
    for offset in within.start()..within.end() {
        if model[offset as usize] != wanted {
            continue;
        }
        let start = match runs.last() {
            Some(last) if last.end() == offset => runs.pop().expect("it has a last").start(),
            _ => offset,
        };
        runs.push(ByteRange::new(start, offset + 1).unwrap());
    }
    runs
}

fn check(set: &RangeSet, model: &[bool], within: ByteRange) {
    let all = ByteRange::new(0, UNIVERSE).unwrap();
    assert_eq!(set.iter().collect::<Vec<_>>(), runs(model, all, true));
    assert_eq!(set.range_count(), set.iter().count());
    let count = |within: ByteRange| {
        (within.start()..within.end())
            .filter(|&offset| model[offset as usize])
            .count() as u64
    };
    assert_eq!(set.len(), count(all));
    assert_eq!(set.is_empty(), count(all) == 0);
    assert_eq!(set.covered_len(within), count(within));
    assert_eq!(set.contains_range(within), count(within) == within.len());
    assert_eq!(set.intersects(within), count(within) > 0);
    let gaps = runs(model, within, false);
    assert_eq!(set.gaps(within).collect::<Vec<_>>(), gaps);
    assert_eq!(set.first_gap(within), gaps.first().copied());
    assert_eq!(set.last_gap(within), gaps.last().copied());
    let parts: Vec<_> = set.overlapping(within).collect();
    assert_eq!(parts, runs(model, within, true));
    for offset in 0..UNIVERSE {
        assert_eq!(set.contains(offset), model[offset as usize]);
        let ahead = model[offset as usize..]
            .iter()
            .take_while(|&&on| on)
            .count();
        assert_eq!(set.contiguous_from(offset), ahead as u64);
    }
}

proptest! {
    #[test]
    fn many_at_once_are_the_same_as_one_by_one(
        there in vec(range(), 0..4),
        added in vec((range(), any::<bool>()), 0..8),
    ) {
        let mut one_by_one: RangeSet = there.into_iter().collect();
        let mut at_once = one_by_one.clone();
        // Those that go on where the one before ended come together.
        let mut ranges: Vec<ByteRange> = Vec::new();
        for (range, goes_on) in added {
            let before = ranges.last().map_or(0, |last| last.end());
            let start = if goes_on { before } else { range.start() };
            ranges.extend(ByteRange::try_new(start, start + range.len()));
        }
        for &range in &ranges {
            one_by_one.insert(range);
        }
        at_once.extend(ranges);
        prop_assert_eq!(at_once.len(), one_by_one.len());
        prop_assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn coverage_is_the_model(ops in vec((any::<bool>(), range(), range()), 1..60)) {
        let mut set = RangeSet::new();
        let mut model = vec![false; UNIVERSE as usize];
        for (insert, range, probe) in ops {
            let mut changed = 0;
            for offset in range.start()..range.end() {
                changed += u64::from(model[offset as usize] != insert);
                model[offset as usize] = insert;
            }
            let reported = if insert { set.insert(range) } else { set.remove(range) };
            prop_assert_eq!(reported, changed);
            check(&set, &model, probe);
        }
        let same: RangeSet = set.iter().collect();
        prop_assert_eq!(&same, &set);
        set.clear();
        prop_assert_eq!(set, RangeSet::default());
    }

    #[test]
    fn r13_one_missing_byte_is_false(range in range(), at in any::<prop::sample::Index>()) {
        let missing = range.start() + at.index(range.len() as usize) as u64;
        let mut set = RangeSet::from_iter([range]);
        prop_assert!(set.contains_range(range));
        set.remove(ByteRange::with_len(missing, 1).unwrap());
        prop_assert!(!set.contains_range(range));
        // Whatever is left on both sides is still there.
        prop_assert_eq!(set.covered_len(range), range.len() - 1);
    }

    #[test]
    fn ranges_are_the_model(a in range(), b in range(), offset in 0..=UNIVERSE) {
        let bytes = |range: ByteRange| (range.start()..range.end()).collect::<Vec<_>>();
        let common: Vec<_> = bytes(a).into_iter().filter(|o| bytes(b).contains(o)).collect();
        prop_assert_eq!(a.len(), bytes(a).len() as u64);
        prop_assert_eq!(a.last(), *bytes(a).last().unwrap());
        prop_assert_eq!(a.contains(offset), bytes(a).contains(&offset));
        prop_assert_eq!(a.contains_range(b), common == bytes(b));
        prop_assert_eq!(a.overlaps(b), !common.is_empty());
        prop_assert_eq!(a.intersection(b).map(bytes).unwrap_or_default(), common);
        let (before, from): (Vec<_>, Vec<_>) = bytes(a).into_iter().partition(|&o| o < offset);
        prop_assert_eq!(a.before(offset).map(bytes).unwrap_or_default(), before);
        prop_assert_eq!(a.from(offset).map(bytes).unwrap_or_default(), from);
    }

    #[test]
    fn a_range_is_never_empty_whatever_it_is_made_of(start in edge(), other in edge()) {
        prop_assert_eq!(ByteRange::new(start, other).is_ok(), start < other);
        prop_assert_eq!(ByteRange::try_new(start, other), ByteRange::new(start, other).ok());
        let with_len = ByteRange::with_len(start, other);
        let fits = start.checked_add(other).is_some() && other > 0;
        prop_assert_eq!(with_len.is_ok(), fits);
        if let Ok(range) = with_len {
            prop_assert_eq!((range.start(), range.len()), (start, other));
        }
        let inclusive = ByteRange::from_inclusive(start, other);
        prop_assert_eq!(inclusive.is_ok(), start <= other && other < u64::MAX);
        if let Ok(range) = inclusive {
            prop_assert_eq!((range.start(), range.last()), (start, other));
        }
    }
}

/// Any offset, small ones and those at the end of 64 bits more often.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, any::<u64>(), u64::MAX - 3..=u64::MAX]
}

#[test]
fn an_empty_or_reversed_range_says_so() {
    assert_eq!(
        ByteRange::new(5, 5),
        Err(RangeError::Empty { start: 5, end: 5 })
    );
    assert_eq!(
        ByteRange::new(6, 5).unwrap_err().to_string(),
        "a byte range needs its end after its start, got 6..5"
    );
    assert!(matches!(
        ByteRange::with_len(u64::MAX, 1),
        Err(RangeError::Overflow { .. })
    ));
}

#[test]
fn coverage_reaches_the_last_offset() {
    let top = ByteRange::new(u64::MAX - 10, u64::MAX).unwrap();
    let all = ByteRange::new(0, u64::MAX).unwrap();
    let mut set = RangeSet::from_iter([top]);
    assert_eq!(set.first_gap(all), ByteRange::try_new(0, u64::MAX - 10));
    assert_eq!(set.insert(all), u64::MAX - 10);
    assert_eq!((set.len(), set.range_count()), (u64::MAX, 1));
    assert_eq!(set.remove(top), 10);
    assert_eq!(set.last_gap(all), Some(top));
}
