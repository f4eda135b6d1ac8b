//! The queue's rules, one by one.

use chunk_core::{ByteRange, DemandQueue, Priority};

const CHUNK: u64 = 10 * 1024 * 1024;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

fn chunk(index: u64) -> ByteRange {
    range(index * CHUNK, (index + 1) * CHUNK)
}

fn order<K: Copy + Ord>(queue: &DemandQueue<K>) -> Vec<(K, ByteRange)> {
    queue
        .iter()
        .map(|demand| (demand.key, demand.range))
        .collect()
}

#[test]
fn r01_trap02_registering_twice_is_one_request() {
    let mut queue = DemandQueue::new();
    let first = queue.push(1, range(0, 100), Priority::Medium);
    assert_eq!((first.added, first.promoted), (100, 0));
    for _ in 0..10 {
        assert!(
            queue
                .push(1, range(0, 100), Priority::Medium)
                .is_duplicate()
        );
        assert!(
            queue
                .push(1, range(20, 80), Priority::Medium)
                .is_duplicate()
        );
    }
    assert_eq!((queue.len(), queue.bytes()), (1, 100));
    assert_eq!(queue.pop().map(|demand| demand.range), Some(range(0, 100)));
    assert_eq!(queue.pop(), None);
}

#[test]
fn r01_a_lower_priority_does_not_demote() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, 100), Priority::High);
    assert!(queue.push(1, range(0, 100), Priority::Low).is_duplicate());
    assert_eq!(queue.priority_at(1, 50), Some(Priority::High));
}

#[test]
fn r01_a_higher_priority_promotes_exactly_the_bytes_asked_for() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, 100), Priority::Low);
    let pushed = queue.push(1, range(30, 130), Priority::Critical);
    assert_eq!((pushed.added, pushed.promoted), (30, 70));
    assert_eq!(order(&queue), [(1, range(30, 130)), (1, range(0, 30))]);
    assert_eq!(queue.bytes(), 130);
}

#[test]
fn r03_critical_goes_first_behind_100_000_low() {
    let mut queue = DemandQueue::new();
    // Two entries in turn, so that nothing merges and there are 100,000 intervals indeed.
    for index in 0..50_000 {
        queue.push(1, chunk(index), Priority::Low);
        queue.push(2, chunk(index), Priority::Low);
    }
    assert_eq!(queue.len(), 100_000);
    queue.push(3, range(7, 8), Priority::Critical);
    let first = queue.pop().unwrap();
    assert_eq!((first.key, first.range), (3, range(7, 8)));
    assert_eq!(queue.pop().unwrap().priority, Priority::Low);
}

#[test]
fn r03_levels_go_in_order_whatever_the_order_of_arrival() {
    let mut queue = DemandQueue::new();
    for (key, level) in [
        (1, Priority::Low),
        (2, Priority::High),
        (3, Priority::Critical),
        (4, Priority::Medium),
    ] {
        queue.push(key, range(0, 10), level);
    }
    let keys: Vec<_> = queue.iter().map(|demand| demand.key).collect();
    assert_eq!(keys, [3, 2, 4, 1]);
}

#[test]
fn r11_trap01_ties_go_in_order_of_arrival() {
    for level in Priority::ALL {
        let mut queue = DemandQueue::new();
        for key in [5, 1, 4, 2, 3] {
            queue.push(key, range(0, 10), level);
        }
        let keys: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|d| d.key).collect();
        assert_eq!(keys, [5, 1, 4, 2, 3], "{level}");
    }
}

#[test]
fn r11_ties_within_an_entry_go_in_order_of_arrival_and_not_of_offset() {
    let mut queue = DemandQueue::new();
    for index in [7, 3, 5] {
        queue.push(1, chunk(index), Priority::High);
    }
    assert_eq!(order(&queue), [(1, chunk(7)), (1, chunk(3)), (1, chunk(5))]);
}

#[test]
fn r11_a_promoted_request_queues_up_behind_its_new_level() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, 10), Priority::Low);
    queue.push(2, range(0, 10), Priority::High);
    queue.push(1, range(0, 10), Priority::High);
    queue.push(3, range(0, 10), Priority::High);
    let keys: Vec<_> = queue.iter().map(|demand| demand.key).collect();
    assert_eq!(keys, [2, 1, 3]);
}

#[test]
fn r11_late_arrivals_of_a_level_do_not_starve_early_ones() {
    let mut queue = DemandQueue::new();
    queue.push(0, range(0, 10), Priority::Low);
    // One in, one out: the first to come is out first although the level never empties.
    for key in 1..1_000 {
        queue.push(key, range(0, 10), Priority::Low);
        assert_eq!(queue.pop().map(|demand| demand.key), Some(key - 1));
    }
}

#[test]
fn r11_r21_trap08_cancel_removes_exactly_the_bytes_and_moves_no_others() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, 100), Priority::Medium);
    queue.push(2, range(0, 100), Priority::Medium);
    queue.push(1, range(200, 300), Priority::Medium);
    assert_eq!(queue.cancel(1, range(40, 250)), 110);
    assert_eq!(
        order(&queue),
        [(1, range(0, 40)), (2, range(0, 100)), (1, range(250, 300))]
    );
    assert_eq!(queue.cancel(1, range(40, 250)), 0);
    assert_eq!(queue.cancel(9, range(0, u64::MAX)), 0);
}

#[test]
fn r21_cancelled_bytes_that_come_back_arrive_anew() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, 30), Priority::Low);
    queue.push(2, range(0, 30), Priority::Low);
    queue.cancel(1, range(10, 20));
    queue.push(1, range(10, 20), Priority::Low);
    assert_eq!(
        order(&queue),
        [
            (1, range(0, 10)),
            (1, range(20, 30)),
            (2, range(0, 30)),
            (1, range(10, 20))
        ]
    );
}

#[test]
fn r22_the_queue_is_filtered_by_entry_and_by_range() {
    let mut queue = DemandQueue::new();
    queue.push(1, chunk(4), Priority::Low);
    queue.push(1, chunk(2), Priority::High);
    queue.push(2, chunk(0), Priority::Critical);
    let of_one: Vec<_> = queue.demands(1).map(|d| (d.range, d.priority)).collect();
    assert_eq!(
        of_one,
        [(chunk(2), Priority::High), (chunk(4), Priority::Low)]
    );
    let clipped: Vec<_> = queue
        .overlapping(1, range(chunk(2).end() - 5, chunk(4).start() + 5))
        .map(|demand| demand.range.len())
        .collect();
    assert_eq!(clipped, [5, 5]);
    assert_eq!(queue.demands(3).count(), 0);
    assert_eq!(queue.remove_key(1), 2 * CHUNK);
    assert_eq!(order(&queue), [(2, chunk(0))]);
}

#[test]
fn a_million_chunks_in_order_are_one_interval() {
    let mut queue = DemandQueue::new();
    for index in 0..1_000_000 {
        queue.push(1, chunk(index), Priority::Low);
    }
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.bytes(), 1_000_000 * CHUNK);
}

#[test]
fn an_interval_is_not_appended_to_once_another_request_came_between() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, 10), Priority::Low);
    queue.push(2, range(0, 10), Priority::Low);
    queue.push(1, range(10, 20), Priority::Low);
    assert_eq!(
        order(&queue),
        [(1, range(0, 10)), (2, range(0, 10)), (1, range(10, 20))]
    );
}

#[test]
fn bytes_of_two_whole_offset_spaces_do_not_overflow() {
    let mut queue = DemandQueue::new();
    queue.push(1, range(0, u64::MAX), Priority::Low);
    queue.push(2, range(0, u64::MAX), Priority::Low);
    assert_eq!(queue.bytes(), u64::MAX);
    assert_eq!(queue.remove_key(1), u64::MAX);
    assert_eq!(queue.bytes(), u64::MAX);
    assert_eq!(queue.pop().map(|demand| demand.key), Some(2));
    assert_eq!(queue.bytes(), 0);
}
