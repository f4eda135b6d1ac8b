//! The scheduler's rules, one by one.

use std::time::Duration;

use chunk_core::scheduler::{Action, Config, Failure, Input, Outcome, Start};
use chunk_core::{BLOCK_SIZE, ChunkSize, Priority, RangeSet};

use crate::driver::{File, World, range, source};
use crate::scenes::{CHUNK, KIB, MIB, NO_PAUSE, chunk, in_flight, player, starts, with_runs};

const BROKEN: Failure = Failure::Transient { retry_after: None };

#[test]
fn r01_trap02_many_registrations_are_one_request() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    for priority in [
        Priority::Medium,
        Priority::Low,
        Priority::High,
        Priority::High,
    ] {
        world.request(1, chunk(3), priority);
    }
    assert_eq!(world.fetches, 1);
    world.settle();
    assert_eq!((world.fetches, world.bytes_received), (1, CHUNK));
}

#[test]
fn r01_r11_a_promoted_request_goes_first_and_a_lower_one_does_not_demote() {
    let mut world = with_runs(1);
    for id in 1..=3 {
        world.open(id, CHUNK);
        world.request(id, chunk(0), Priority::Low);
    }
    world.request(3, chunk(0), Priority::Medium);
    world.request(3, chunk(0), Priority::Low);
    let order = order_of_ends(&mut world);
    assert_eq!(order, [3, 1, 2]);
}

#[test]
fn r02_seek_before_read_ahead_before_fill() {
    let mut world = with_runs(1);
    world.open(1, 500 * MIB);
    world.open(2, 500 * MIB);
    world.open(3, 500 * MIB);
    player(&mut world, 1, 1);
    world.request(3, chunk(0), Priority::Low);
    // Read-ahead has the only slot, and fill waits.
    assert_eq!(in_flight(&world), [1]);
    // Another viewer seeks: read-ahead gives its slot up.
    world.read(2, 2, Start::At(300 * MIB), Some(300 * MIB + 64 * KIB));
    assert_eq!(in_flight(&world), [2]);
    // Once that is served, read-ahead goes on, and fill comes last.
    let order = order_of_starts(&mut world);
    assert_eq!(order.first(), Some(&(2, Priority::Critical)));
    assert_eq!(order.last(), Some(&(3, Priority::Low)));
}

#[test]
fn r03_critical_before_100_000_low() {
    let mut world = with_runs(4);
    for id in 1..=8 {
        world.open(id, 2_000_000 * KIB);
    }
    // Every other piece, so that they stay 100,000 demands.
    for index in 0..100_000 {
        let start = (index / 8) * 128 * KIB;
        world.queue_request(1 + index % 8, range(start, start + 64 * KIB), Priority::Low);
    }
    assert_eq!(world.scheduler.queue().len(), 100_000);
    let runs: Vec<_> = world.requests.keys().copied().collect();
    for run in runs {
        world.answer(run);
    }
    world.open(9, CHUNK);
    world.request(9, range(77, 1_000), Priority::Critical);
    // Every slot is given up for it; the first that is free is its own.
    let given_up = world.requests.iter().find(|(_, run)| run.is_aborted);
    let run = *given_up.expect("lower work gives way").0;
    world.finish(run);
    let last = world.last.iter().find_map(|action| match action {
        Action::Fetch { source, start, .. } => Some((source.get(), *start)),
        _ => None,
    });
    assert_eq!(last, Some((9, Start::At(77))));
}

#[test]
fn r03_r11_a_level_is_first_come_first_served() {
    let mut world = with_runs(1);
    for id in [5, 3, 9, 1, 7] {
        world.open(id, CHUNK);
        world.request(id, chunk(0), Priority::Medium);
    }
    assert_eq!(order_of_ends(&mut world), [5, 3, 9, 1, 7]);
}

#[test]
fn r05_trap03_limit_exact_at_every_instant() {
    for limit in 1..=5 {
        let mut world = with_runs(limit);
        // One would have too few connections for all of them.
        world.origins = 2;
        for id in 1..=20 {
            world.open(id, 3 * CHUNK);
            world.request(id, chunk(id % 3), Priority::ALL[(id % 4) as usize]);
            world.read(id, id, Start::At(id * 1_000), None);
        }
        // The driver counts after every single action.
        world.settle();
        assert_eq!(world.most_in_flight, limit);
    }
}

#[test]
fn r10_failure_refills_slots() {
    let mut world = with_runs(2);
    for id in 1..=4 {
        world.open(id, CHUNK);
        world.request(id, chunk(0), Priority::Medium);
    }
    assert_eq!(in_flight(&world), [1, 2]);
    let run = world.runs_of(1)[0].0;
    world.fail(run, Failure::Permanent);
    assert_eq!(in_flight(&world), [2, 3]);
    assert!(world.log.contains(&Action::Ended {
        source: source(1),
        range: chunk(0),
        outcome: Outcome::Failed
    }));
    // A failure that is worth a retry leaves the slot to others while it waits.
    let run = world.runs_of(2)[0].0;
    world.fail(run, BROKEN);
    assert_eq!(in_flight(&world), [3, 4]);
    world.settle();
    assert!(world.files[&source(2)].present.contains_range(chunk(0)));
}

#[test]
fn trap05_a_permanent_failure_is_reported_at_once() {
    let mut world = with_runs(4);
    world.open(1, CHUNK);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.fail(run, Failure::Permanent);
    assert!(world.last.contains(&Action::GaveUp { source: source(1) }));
    assert!(world.requests.is_empty());
    // A reader that asks again starts over.
    world.take(1, 1, NO_PAUSE);
    assert_eq!(world.runs_of(1).len(), 1);
}

/// Forty seconds of three copies at two slots, of whom the first has had the line for `alone` seconds. Each connection
/// brings 64 KiB in 10 ms, however many there are. Returns what each got in that time, and the world after it.
fn three_copies(alone: usize) -> ([u64; 3], World) {
    let mut world = with_runs(2);
    let begin = |world: &mut World, id: u64| {
        world.open(id, 20_000 * MIB);
        world.read(id, id, Start::At(0), None);
    };
    let second = |world: &mut World, copies: u64| {
        let mut got = [0_u64; 3];
        for _ in 0..100 {
            for run in world.requests.keys().copied().collect::<Vec<_>>() {
                world.answer(run);
                world.progress(run, 64 * KIB);
                world.finish(run);
            }
            for id in 1..=copies {
                got[id as usize - 1] += world.take(id, MIB, NO_PAUSE);
            }
            world.pass(Duration::from_millis(10));
        }
        got
    };
    begin(&mut world, 1);
    for _ in 0..alone {
        second(&mut world, 1);
    }
    begin(&mut world, 2);
    begin(&mut world, 3);
    let mut got = [0; 3];
    for _ in 0..40 {
        for (sum, more) in got.iter_mut().zip(second(&mut world, 3)) {
            *sum += more;
        }
    }
    (got, world)
}

#[test]
fn r11_copies_take_turns_where_there_are_more_than_slots() {
    // Who has been alone has found out that more connections bring more, and then the slots' runs are short.
    for alone in [0_usize, 2] {
        let (got, world) = three_copies(alone);
        let of_a_slot = got.iter().sum::<u64>() / 2;
        // Who waits for 5 s is first, and keeps the slot for as long at least: that is half of the time, but for
        // the turn that is not over at its end.
        for copy in got {
            assert!(copy >= of_a_slot / 2 - of_a_slot / 8, "{alone}: {got:?}");
        }
        // Two as each copy begins; and at each turn one, and one behind what was brought beforehand.
        let turns = (alone + 40) / 5;
        let requests = world.fetches - world.stripes;
        assert!(requests <= 6 + 2 * turns, "{alone}: {requests} requests");
        // Two share the line from the start, so that nobody has it alone, not while one takes the other's slot either.
        assert_eq!(world.stripes > 0, alone > 0, "{} stripes", world.stripes);
    }
}

#[test]
fn r14_trap04_10_000_chunks_through_limit_3() {
    let mut world = with_runs(3);
    for id in 1..=10 {
        world.open(id, 2_000 * BLOCK_SIZE);
        for index in 0..1_000 {
            let start = 2 * index * BLOCK_SIZE;
            world.queue_request(id, range(start, start + BLOCK_SIZE), Priority::Medium);
        }
    }
    let fetched = world.fetches;
    assert_eq!(fetched, 3);
    // No call but what runs report: the queue drains by itself.
    world.settle();
    assert_eq!(world.bytes_received, 10_000 * BLOCK_SIZE);
    assert!(world.scheduler.queue().is_empty());
    assert_eq!(world.scheduler.active_runs(), 0);
}

#[test]
fn r21_cancel_stops_in_flight_for_nobody() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.request(1, chunk(3), Priority::Medium);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    world.progress(run, MIB);
    world.cancel(1, chunk(3));
    assert!(world.last.contains(&Action::Abort { run }));
    assert!(world.last.contains(&Action::Ended {
        source: source(1),
        range: range(31 * MIB, 40 * MIB),
        outcome: Outcome::Cancelled
    }));
}

#[test]
fn r07_suspended_orders_fetch_nothing_keep_their_place_and_go_on_when_resumed() {
    let mut world = with_runs(2);
    for id in 1..=2 {
        world.open(id, 40 * MIB);
        world.request(id, range(0, 40 * MIB), Priority::Low);
    }
    world.input(Input::OrdersSuspended { source: source(1) });
    world.confirm_aborts();
    assert_eq!(in_flight(&world), [2]);
    // What others want of it is fetched, and not a byte more.
    world.request(1, chunk(1), Priority::High);
    world.read(1, 1, Start::At(25 * MIB), Some(26 * MIB));
    world.settle();
    assert_eq!(world.present_of(2), 40 * MIB);
    assert_eq!(world.present_of(1), CHUNK + MIB);
    assert!(!world.scheduler.queue().is_empty());
    world.input(Input::OrdersResumed { source: source(1) });
    world.settle();
    assert_eq!(world.present_of(1), 40 * MIB);
    assert!(world.scheduler.queue().is_empty());
}

#[test]
fn r21_suspended_orders_can_be_cancelled() {
    let mut world = with_runs(2);
    world.open(1, 40 * MIB);
    world.input(Input::OrdersSuspended { source: source(1) });
    world.request(1, chunk(1), Priority::Medium);
    assert_eq!(world.fetches, 0);
    world.cancel(1, chunk(1));
    assert!(world.last.contains(&Action::Ended {
        source: source(1),
        range: chunk(1),
        outcome: Outcome::Cancelled
    }));
}

#[test]
fn r21_cancel_leaves_a_reader_its_run() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(30 * MIB), None);
    world.request(1, chunk(3), Priority::Medium);
    let run = world.runs_of(1)[0].0;
    world.cancel(1, chunk(3));
    assert!(!world.requests[&run].is_aborted);
    assert_eq!(world.fetches, 1);
}

#[test]
fn r25_present_queues_nothing() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.supply(1, range(0, 50 * MIB));
    world.request(1, chunk(2), Priority::Critical);
    world.read(1, 1, Start::At(0), None);
    assert!(world.scheduler.queue().is_empty());
    assert_eq!(world.fetches, 0);
}

#[test]
fn r29_exact_byte_start_whatever_the_chunk_size() {
    for size in [1, 10 * MIB, 64 * MIB] {
        let chunk_size = ChunkSize::new(size).unwrap();
        let mut world = World::new(Config::default().with_chunk_size(chunk_size));
        world.open(1, 1 << 32);
        world.read(1, 1, Start::At(0), None);
        let position = (1 << 31) + 12_345;
        world.seek(1, position);
        let starts = starts(&world);
        assert_eq!(
            starts.last(),
            Some(&Start::At(position)),
            "chunks of {size}"
        );
    }
}

#[test]
fn trap14_a_reader_that_leaves_stops_its_run() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    world.progress(run, 100 * KIB);
    world.leave(1);
    assert!(world.last.contains(&Action::Abort { run }));
    world.settle();
    assert!(world.bytes_received <= 100 * KIB);
}

#[test]
fn fault13_a_transient_failure_resumes_at_the_exact_byte() {
    let mut world = with_runs(4);
    world.open(1, MIB);
    world.read(1, 1, Start::At(5), None);
    // Breaking after every few bytes is slow, not dead: more breaks than attempts in a row.
    for round in 0..20 {
        let run = world.runs_of(1)[0].0;
        world.answer(run);
        world.progress(run, 777);
        world.fail(run, BROKEN);
        assert!(world.runs_of(1).is_empty(), "not before the back-off");
        let since = world.now;
        while world.runs_of(1).is_empty() && world.now.since(since) < Duration::from_secs(60) {
            world.pass(Duration::from_millis(10));
        }
        assert_eq!(
            starts(&world).last(),
            Some(&Start::At(5 + 777 * (round + 1)))
        );
    }
    assert!(!world.log.contains(&Action::GaveUp { source: source(1) }));
}

#[test]
fn fault10_retry_after_is_honoured_and_bounded() {
    let mut world = with_runs(4);
    world.open(1, MIB);
    world.open(2, MIB);
    world.request(2, range(0, MIB), Priority::Medium);
    world.read(1, 1, Start::At(0), None);
    world.confirm_aborts();
    let run = world.runs_of(1)[0].0;
    let retry_after = Some(Duration::from_secs(9));
    world.fail(run, Failure::Transient { retry_after });
    world.pass(Duration::from_secs(8));
    assert!(world.runs_of(1).is_empty());
    // What waits for one origin keeps nobody from another, background or not.
    assert_eq!(world.runs_of(2).len(), 1);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.runs_of(1).len(), 1);
}

#[test]
fn several_runs_that_break_together_are_one_failure() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    for id in 0..4 {
        world.read(id, 1, Start::At(id * 200 * MIB), None);
    }
    for _ in 0..2 {
        for (run, _) in world.runs_of(1) {
            world.fail(run, BROKEN);
        }
        world.pass(Duration::from_secs(30));
    }
    assert_eq!(world.runs_of(1).len(), 4);
    assert!(!world.log.contains(&Action::GaveUp { source: source(1) }));
}

#[test]
fn an_origin_without_ranges_that_always_breaks_is_given_up() {
    let mut world = with_runs(1);
    let file = File {
        len: MIB,
        is_length_told: true,
        has_ranges: false,
    };
    world.open_file(source(1), file, true, RangeSet::new());
    world.read(1, 1, Start::At(0), None);
    for _ in 0..20 {
        for (run, _) in world.runs_of(1) {
            world.answer(run);
            world.progress(run, 1_000);
            world.fail(run, BROKEN);
        }
        world.pass(Duration::from_secs(60));
    }
    assert!(world.log.contains(&Action::GaveUp { source: source(1) }));
    assert!(world.fetches <= 8, "{} requests", world.fetches);
}

#[test]
fn fault30_when_the_leading_client_leaves_the_fetch_is_handed_over() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    world.progress(run, 100 * KIB);
    world.read(2, 1, Start::At(0), None);
    world.leave(1);
    assert_eq!(world.runs_of(1).len(), 1);
    assert!(!world.requests[&run].is_aborted);
    world.progress(run, 100 * KIB);
    assert_eq!(
        (world.fetches, world.take(2, MIB, NO_PAUSE)),
        (1, 200 * KIB)
    );
}

#[test]
fn fault37_a_seek_storm_leaves_nothing_behind() {
    let mut world = with_runs(4);
    world.open(1, 1 << 33);
    world.read(1, 1, Start::At(0), None);
    for step in 0..500_u64 {
        world.pass(Duration::from_millis(20));
        world.seek(1, step * 7_919 * MIB % (1 << 33));
        // Two seeks ago is stale by now.
        for run in world.requests.keys().copied().collect::<Vec<_>>() {
            world.finish(run);
            world.answer(run);
            world.progress(run, 40 * KIB);
        }
        let open = world.runs_of(1);
        assert!(open.len() <= 1, "{open:?}");
        assert!(world.scheduler.held_runs() == 0);
        assert!(world.scheduler.queue().is_empty());
    }
    assert!(world.bytes_received < 501 * 40 * KIB);
    assert!(world.fetches <= 501);
}

/// Lets the origin serve; the files in the order in which their last byte came.
fn order_of_ends(world: &mut World) -> Vec<u64> {
    world.settle();
    let mut order: Vec<u64> = Vec::new();
    for action in &world.log {
        if let Action::Ended { source, .. } = action {
            order.retain(|&other| other != source.get());
            order.push(source.get());
        }
    }
    order
}

/// Lets the origin serve; the files in the order in which runs started that were not there before.
fn order_of_starts(world: &mut World) -> Vec<(u64, Priority)> {
    let last = world
        .log
        .iter()
        .rposition(|action| matches!(action, Action::Fetch { .. }));
    world.settle();
    world.log[last.unwrap_or(0)..]
        .iter()
        .filter_map(|action| match action {
            Action::Fetch { source, level, .. } => Some((source.get(), *level)),
            _ => None,
        })
        .collect()
}
