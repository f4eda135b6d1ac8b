//! What operations cost, counted in comparisons rather than in time.
//!
//! A test by the clock is a test of the machine. Ordered containers do their work by comparing keys, so a key that
//! counts its comparisons shows the difference between a search and a scan on any machine.

use std::cell::Cell;
use std::cmp::Ordering;

use chunk_core::{ByteRange, DemandQueue, EvictionIndex, Place, Priority};

thread_local! {
    static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

#[derive(Clone, Copy, Debug)]
struct Counted(u64);

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARISONS.with(|count| count.set(count.get() + 1));
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Counted {}

fn comparisons<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COMPARISONS.with(Cell::get);
    let result = work();
    (result, COMPARISONS.with(Cell::get) - before)
}

const INTERVALS: u64 = 100_000;
/// log₂ of 100,000 is 17; a B-tree compares up to 11 keys on each of 5 levels, and an operation makes up to
/// about ten searches. A scan would take 100,000.
const SEARCHES: u64 = 55 * 12;

/// Two entries in turn, so that nothing merges.
fn long_queue() -> DemandQueue<Counted> {
    let mut queue = DemandQueue::new();
    for index in 0..INTERVALS {
        queue.push(Counted(index % 2), unit(index), Priority::Low);
    }
    assert_eq!(queue.len() as u64, INTERVALS);
    queue
}

fn unit(index: u64) -> ByteRange {
    ByteRange::new(index * 10, index * 10 + 10).unwrap()
}

#[test]
fn r21_trap08_cancelling_one_of_100_000_is_a_search_and_not_a_rebuild() {
    let mut queue = long_queue();
    let (cancelled, cost) = comparisons(|| queue.cancel(Counted(0), unit(50_000)));
    assert_eq!(cancelled, 10);
    assert!(cost < SEARCHES, "{cost} comparisons");
    // The middle of an interval is cut out of it at the same price.
    let middle = ByteRange::new(600_003, 600_007).unwrap();
    let (cancelled, cost) = comparisons(|| queue.cancel(Counted(0), middle));
    assert_eq!((cancelled, queue.len() as u64), (4, INTERVALS));
    assert!(cost < SEARCHES, "{cost} comparisons");
}

#[test]
fn push_pop_promote_and_look_are_searches() {
    let mut queue = long_queue();
    let mut costs = Vec::new();
    let mut spend = |work: &mut dyn FnMut(&mut DemandQueue<Counted>)| {
        costs.push(comparisons(|| work(&mut queue)).1);
    };
    spend(&mut |queue| {
        queue.push(Counted(3), unit(7), Priority::Low);
    });
    spend(&mut |queue| {
        // A promotion.
        assert_eq!(
            queue
                .push(Counted(0), unit(50_000), Priority::High)
                .promoted,
            10
        );
    });
    spend(&mut |queue| {
        assert_eq!(queue.pop().map(|demand| demand.range), Some(unit(50_000)));
    });
    spend(&mut |queue| {
        assert_eq!(queue.pop().map(|demand| demand.range), Some(unit(0)));
    });
    spend(&mut |queue| {
        let level = queue.priority_at(Counted(1), unit(77_777).start());
        assert_eq!(level, Some(Priority::Low));
    });
    spend(&mut |queue| assert_eq!(queue.overlapping(Counted(1), unit(77_777)).count(), 1));
    spend(&mut |queue| assert_eq!(queue.demands(Counted(3)).count(), 1));
    assert!(costs.iter().all(|&cost| cost < SEARCHES), "{costs:?}");
}

#[test]
fn an_operation_pays_for_the_pieces_it_touches() {
    let mut queue = long_queue();
    // A thousand intervals of one of the two entries.
    let range = ByteRange::new(200_000, 220_000).unwrap();
    let (cancelled, cost) = comparisons(|| queue.cancel(Counted(0), range));
    assert_eq!(cancelled, 10_000);
    assert!(cost < 1_001 * SEARCHES, "{cost} comparisons");
}

#[test]
fn the_next_victim_is_a_search() {
    let mut index = EvictionIndex::default();
    for key in 0..INTERVALS {
        index.insert(Counted(key), 10, Place::Middle, key.cast_signed());
    }
    // A thousand pinned segments at the front are not stepped over one by one.
    for key in 0..1_000 {
        index.pin(Counted(key));
    }
    let (victim, cost) = comparisons(|| index.victims(1).next());
    assert_eq!(victim.map(|victim| victim.key.0), Some(1_000));
    assert!(cost < SEARCHES, "{cost} comparisons");
    let (_, cost) = comparisons(|| index.touch(Counted(5_000), 999_999));
    assert!(cost < SEARCHES, "{cost} comparisons");
}
