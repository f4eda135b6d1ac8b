//! The scheduler's rules, one by one.

use std::time::Duration;

use chunk_core::scheduler::{Action, Config, Failure, Input, Outcome, Start};
use chunk_core::{BLOCK_SIZE, ChunkSize, Priority, RangeSet};

use crate::driver::{File, World, range, reader, source};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const CHUNK: u64 = 10 * MIB;
const NO_PAUSE: Duration = Duration::ZERO;
const BROKEN: Failure = Failure::Transient { retry_after: None };

fn chunk(index: u64) -> chunk_core::ByteRange {
    range(index * CHUNK, (index + 1) * CHUNK)
}

fn with_runs(runs: usize) -> World {
    World::new(Config::default().with_max_runs(runs))
}

/// A reader that has had its start-up, and pauses, as a player does: its window is not critical.
fn player(world: &mut World, id: u64, of: u64) {
    world.read(id, of, Start::At(0), None);
    world.input(Input::ReaderRate {
        reader: reader(id),
        rate: Some(1_000_000),
    });
    for _ in 0..400 {
        let Some((run, _)) = world.runs_of(of).first().copied() else {
            break;
        };
        world.answer(run);
        world.progress(run, 64 * KIB);
        world.take(id, 32 * KIB, NO_PAUSE);
        if world.present_of(of) >= 8 * MIB {
            break;
        }
    }
}

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

#[test]
fn r11_copies_take_turns_where_there_are_more_than_slots() {
    let mut world = with_runs(2);
    for id in 1..=3 {
        world.open(id, 2_000 * MIB);
        world.read(id, id, Start::At(0), None);
    }
    let mut got = [0; 4];
    for _ in 0..12_000 {
        for run in world.requests.keys().copied().collect::<Vec<_>>() {
            world.answer(run);
            world.progress(run, 64 * KIB);
            world.finish(run);
        }
        for id in 1..=3 {
            let taken = world.take(id, MIB, NO_PAUSE);
            got[id as usize] += taken;
        }
        world.pass(Duration::from_millis(10));
    }
    for id in 1..=3 {
        assert!(got[id] > 200 * MIB, "copy {id} starves: {got:?}");
    }
    assert!(world.fetches < 100, "{} requests", world.fetches);
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
        world.pass(Duration::from_secs(60));
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

#[test]
fn r29_a_far_seek_splits_a_long_run() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let first = world.runs_of(1)[0].0;
    world.answer(first);
    world.progress(first, MIB);
    // A second viewer far ahead, in what the first run would come to in a minute.
    world.read(2, 1, Start::At(500 * MIB + 1), None);
    assert_eq!(starts(&world).last(), Some(&Start::At(500 * MIB + 1)));
    assert_eq!(world.requests[&first].end, 500 * MIB + 1);
    assert!(!world.requests[&first].is_aborted);
}

#[test]
fn an_explicit_request_far_ahead_of_a_reader_is_not_reached_by_reading_everything() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    player(&mut world, 1, 1);
    let before = world.present_of(1);
    world.request(1, chunk(50), Priority::Medium);
    world.settle();
    assert!(world.present_of(1) < before + 50 * MIB);
    assert!(world.files[&source(1)].present.contains_range(chunk(50)));
}

#[test]
fn a_byte_near_the_head_is_waited_for() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let first = world.runs_of(1)[0].0;
    world.answer(first);
    world.progress(first, MIB / 2);
    world.seek(1, MIB / 2 + 200 * KIB);
    assert_eq!((world.fetches, world.in_flight()), (1, 1));
    assert!(!world.requests[&first].is_aborted);
}

#[test]
fn a_held_run_resumes_without_a_new_request() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    while world.progress(run, MIB) > 0 {}
    assert_eq!(
        (world.scheduler.active_runs(), world.scheduler.held_runs()),
        (0, 1)
    );
    world.pass(Duration::from_secs(5));
    world.take(1, 900 * KIB, Duration::from_secs(5));
    assert_eq!((world.scheduler.active_runs(), world.fetches), (1, 1));
    assert!(world.progress(run, MIB) > 0);
}

#[test]
fn a_held_run_is_ended_when_nobody_comes() {
    let mut world = with_runs(4);
    world.open(1, 1_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    while world.progress(run, MIB) > 0 {}
    world.pass(Config::default().hold_limit);
    assert!(world.last.contains(&Action::Abort { run }));
    world.finish(run);
    assert_eq!(world.scheduler.poll_timeout(), None);
}

#[test]
fn a_fifth_viewer_starts_at_once_while_four_read_ahead() {
    let mut world = with_runs(4);
    for id in 1..=5 {
        world.open(id, 1_000 * MIB);
    }
    for id in 1..=4 {
        player(&mut world, id, id);
    }
    assert_eq!(in_flight(&world), [1, 2, 3, 4]);
    world.read(5, 5, Start::At(123), None);
    assert_eq!(starts(&world).last(), Some(&Start::At(123)));
    assert_eq!(world.scheduler.held_runs(), 1);
    // It starts with a tenth of a second's delay or none: no confirmation is waited for.
    assert!(world.requests.values().all(|run| !run.is_aborted));
}

#[test]
fn a_viewer_whose_bytes_are_missing_goes_before_those_who_read_ahead() {
    let mut world = with_runs(1);
    world.open(1, 1_000 * MIB);
    world.open(2, 1_000 * MIB);
    // No rate is known of either; both are past their start-up.
    world.read(2, 2, Start::At(0), None);
    let run = world.runs_of(2)[0].0;
    world.answer(run);
    while world.present_of(2) < 4 * MIB {
        world.progress(run, 64 * KIB);
        world.take(2, 64 * KIB, NO_PAUSE);
    }
    world.take(2, 0, Duration::from_secs(1));
    // The second one's read-ahead goes on until the first one's window is full; then the other way round.
    world.read(1, 1, Start::At(0), None);
    assert_eq!(in_flight(&world), [1]);
    while world.take(2, MIB, NO_PAUSE) > 0 {}
    assert_eq!(
        in_flight(&world),
        [1],
        "a critical one is not robbed at every byte"
    );
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    world.pass(Duration::from_millis(300));
    world.progress(run, 64 * KIB);
    world.take(1, 64 * KIB, NO_PAUSE);
    assert_eq!(in_flight(&world), [2]);
}

#[test]
fn a_one_byte_cold_read_fetches_at_most_one_block() {
    for position in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, 5 * MIB + 77] {
        let mut world = with_runs(4);
        world.open(1, 100 * MIB);
        world.read(1, 1, Start::At(position), Some(position + 1));
        world.settle();
        assert!(world.bytes_received <= BLOCK_SIZE);
        assert!(world.files[&source(1)].present.contains(position));
    }
}

#[test]
fn two_bytes_of_a_browser_start_no_prefetch() {
    let mut world = with_runs(4);
    world.open(1, 1 << 33);
    world.read(1, 1, Start::At(0), Some(2));
    let Some(&Action::Fetch { end, until, .. }) = world.log.first() else {
        panic!("{:?}", world.log);
    };
    assert_eq!((end, until), (Some(BLOCK_SIZE), BLOCK_SIZE));
    world.settle();
    assert!(world.bytes_received <= BLOCK_SIZE);
}

#[test]
fn the_block_that_a_seek_cut_is_completed_afterwards() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(MIB + 1_000), None);
    world.settle();
    assert!(
        world.files[&source(1)]
            .present
            .contains_range(range(MIB, MIB + 1_000))
    );
    assert!(!world.files[&source(1)].present.contains(MIB - 1));
}

#[test]
fn background_rests_while_something_is_critical_and_resumes_by_itself() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.open(2, 100 * MIB);
    world.request(1, chunk(0), Priority::Medium);
    assert_eq!(in_flight(&world), [1]);
    world.read(1, 2, Start::At(0), Some(64 * KIB));
    let run = world.runs_of(2)[0].0;
    assert!(world.runs_of(1).is_empty());
    world.confirm_aborts();
    world.answer(run);
    world.progress(run, 64 * KIB);
    world.finish(run);
    assert_eq!(world.in_flight(), 0);
    world.pass(Duration::from_millis(199));
    assert_eq!(world.in_flight(), 0);
    // Nothing but the timer.
    world.pass(Duration::from_millis(1));
    assert_eq!(in_flight(&world), [1]);
}

#[test]
fn a_source_without_ranges_has_one_run_from_0() {
    let mut world = with_runs(4);
    let file = File {
        len: 100 * MIB,
        is_length_told: true,
        has_ranges: false,
    };
    // The origin is believed to have ranges until it answers.
    world.open_file(
        source(1),
        File {
            has_ranges: true,
            ..file
        },
        true,
        RangeSet::new(),
    );
    world.files.get_mut(&source(1)).unwrap().file = file;
    for id in 0..3 {
        world.read(id, 1, Start::At(id * 30 * MIB), None);
    }
    assert_eq!(world.runs_of(1).len(), 3);
    for (run, _) in world.runs_of(1) {
        world.answer(run);
    }
    let open = world.runs_of(1);
    assert_eq!((open.len(), open[0].1.head), (1, 0));
    world.settle();
    for id in 0..3 {
        assert!(world.take(id, 1, NO_PAUSE) > 0);
    }
    assert_eq!(world.fetches, 3);
}

#[test]
fn a_fill_of_a_source_without_ranges_outlives_a_seek_elsewhere() {
    let mut world = with_runs(4);
    let file = File {
        len: 100 * MIB,
        is_length_told: true,
        has_ranges: false,
    };
    world.open_file(source(1), file, true, RangeSet::new());
    world.open(2, 100 * MIB);
    world.request(1, range(0, 100 * MIB), Priority::Medium);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    world.progress(run, 50 * MIB);
    world.read(1, 2, Start::At(0), Some(MIB));
    assert!(world.requests[&run].is_held);
    world.settle();
    assert_eq!(world.fetches, 2);
}

#[test]
fn a_suffix_is_found_without_knowing_the_length() {
    let mut world = with_runs(4);
    let file = File {
        len: 100 * MIB,
        is_length_told: true,
        has_ranges: true,
    };
    world.open_file(source(1), file, false, RangeSet::new());
    world.read(1, 1, Start::FromEnd(500), None);
    assert_eq!(starts(&world), [Start::FromEnd(500)]);
    world.settle();
    let end = range(100 * MIB - 500, 100 * MIB);
    assert!(world.files[&source(1)].present.contains_range(end));
    assert!(world.bytes_received <= BLOCK_SIZE);
}

#[test]
fn fault35_offsets_at_the_edge_do_not_overflow() {
    let mut world = with_runs(4);
    let file = File {
        len: u64::MAX,
        is_length_told: true,
        has_ranges: true,
    };
    for (id, is_known) in [(1, true), (2, false)] {
        world.open_file(source(id), file, is_known, RangeSet::new());
        world.read(id, id, Start::At(u64::MAX - 5), None);
        world.request(id, range(u64::MAX - 3, u64::MAX), Priority::Critical);
        world.seek(id, u64::MAX);
        world.seek(id, u64::MAX - 1);
        world.read(10 + id, id, Start::FromEnd(u64::MAX), Some(1));
    }
    world.settle();
    for id in [1, 2] {
        assert!(world.files[&source(id)].present.contains(u64::MAX - 1));
        assert!(world.files[&source(id)].present.contains(0));
    }
}

/// The files with a run in flight, aborted ones not counted.
fn in_flight(world: &World) -> Vec<u64> {
    let mut files: Vec<u64> = world
        .requests
        .values()
        .filter(|run| run.is_in_flight() && !run.is_aborted)
        .map(|run| run.source.get())
        .collect();
    files.sort_unstable();
    files
}

fn starts(world: &World) -> Vec<Start> {
    world
        .log
        .iter()
        .filter_map(|action| match action {
            Action::Fetch { start, .. } => Some(*start),
            _ => None,
        })
        .collect()
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
