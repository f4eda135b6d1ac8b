//! The scheduler's rules about readers, held runs and sources of several kinds.

use std::time::Duration;

use chunk_core::scheduler::{Action, Config, Input, Start};
use chunk_core::{BLOCK_SIZE, Priority, RangeSet};

use crate::driver::{File, World, range, source};
use crate::scenes::{KIB, MIB, NO_PAUSE, chunk, in_flight, player, starts, with_runs};

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
    // Not only the slot is its own, but the line: the others have enough.
    assert_eq!(world.scheduler.held_runs(), 4);
    // It starts with a tenth of a second's delay or none: no confirmation is waited for.
    assert!(world.requests.values().all(|run| !run.is_aborted));
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
fn the_block_that_a_seek_cut_is_completed_once_its_reader_has_gone_on() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(MIB + 1_000), None);
    world.settle();
    let head = |world: &World| {
        let present = &world.files[&source(1)].present;
        present.contains_range(range(MIB, MIB + 1_000))
    };
    world.take(1, MIB - 1, NO_PAUSE);
    world.pass(Duration::from_secs(1));
    world.settle();
    assert!(!head(&world), "it may be looking only");
    world.take(1, 1, NO_PAUSE);
    world.pass(Duration::from_secs(1));
    world.settle();
    assert!(head(&world));
    assert!(!world.files[&source(1)].present.contains(MIB - 1));
}

#[test]
fn a_scrub_of_250_seeks_leaves_nothing_to_fetch() {
    let mut world = with_runs(4);
    world.open(1, 2_000 * MIB);
    world.read(1, 1, Start::At(0), None);
    for seek in 1..=250 {
        world.confirm_aborts();
        let (run, _) = *world.runs_of(1).last().unwrap();
        world.answer(run);
        world.progress(run, 256 * KIB);
        world.take(1, 256 * KIB, NO_PAUSE);
        world.seek(1, seek * 7 * MIB + 1_000);
        world.pass(Duration::from_millis(20));
    }
    world.leave(1);
    world.confirm_aborts();
    let came = world.bytes_received;
    let asked = world.fetches;
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    assert_eq!((world.bytes_received, world.fetches), (came, asked));
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
fn a_pre_cache_goes_on_with_the_run_that_opened_its_file() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    world.progress(run, 8 * KIB);
    world.request(1, range(0, 100 * MIB), Priority::Medium);
    world.leave(1);
    let runs = world.runs_of(1);
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].0, run, "the same request goes on");
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

#[test]
fn readers_far_inside_one_run_get_runs_that_do_not_overlap() {
    let mut world = with_runs(4);
    let file = File {
        len: 1_000 * MIB,
        is_length_told: true,
        has_ranges: true,
    };
    world.open_file(source(1), file, false, RangeSet::new());
    world.read(0, 1, Start::At(0), None);
    world.read(1, 1, Start::At(900 * MIB), None);
    world.read(2, 1, Start::At(500 * MIB), None);
    // One run probes; its answer shows that the others can have runs of their own, at once.
    let probe = world.runs_of(1)[0].0;
    assert_eq!(world.fetches, 1);
    world.answer(probe);
    let mut runs: Vec<_> = world
        .runs_of(1)
        .iter()
        .map(|(_, run)| (run.head, run.end))
        .collect();
    runs.sort_unstable();
    assert_eq!(
        runs,
        [
            (0, 500 * MIB),
            (500 * MIB, 900 * MIB),
            (900 * MIB, 1_000 * MIB)
        ]
    );
}

#[test]
fn r05_ending_a_held_run_takes_no_slot() {
    let mut world = with_runs(1);
    world.open(1, 100 * MIB);
    world.open(2, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    let run = world.runs_of(1)[0].0;
    world.answer(run);
    while world.progress(run, MIB) > 0 {}
    world.read(2, 2, Start::At(0), None);
    world.leave(1);
    world.pass(Duration::from_secs(1));
    assert!(world.requests[&run].is_aborted);
    assert_eq!((in_flight(&world), world.most_in_flight), (vec![2], 1));
}

#[test]
fn fault13_an_end_without_a_byte_is_a_failure_and_no_loop() {
    let mut world = with_runs(1);
    world.open(1, MIB);
    world.read(1, 1, Start::At(0), None);
    for _ in 0..20 {
        for (run, _) in world.runs_of(1) {
            world.requests.remove(&run);
            world.input(Input::Finished { run });
        }
        world.pass(Duration::from_secs(60));
    }
    assert!(world.log.contains(&Action::GaveUp { source: source(1) }));
    assert_eq!(world.fetches, 6);
}

#[test]
fn fault35_a_probe_past_the_end_of_a_short_file_ends_well() {
    let mut world = with_runs(1);
    let file = File {
        len: 1_000,
        is_length_told: true,
        has_ranges: true,
    };
    world.open_file(source(1), file, false, RangeSet::new());
    world.read(1, 1, Start::At(5_000), None);
    world.request(1, range(4_000, 6_000), Priority::High);
    world.settle();
    assert!(world.requests.is_empty() && world.scheduler.queue().is_empty());
}

#[test]
fn a_player_that_comes_back_finds_its_connection_open() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    player(&mut world, 1, 1);
    let (run, _) = world.runs_of(1)[0];
    world.leave(1);
    assert!(world.requests[&run].is_held, "kept, and not read");
    world.pass(Duration::from_millis(300));
    let (fetched, position) = (world.fetches, world.requests[&run].head);
    world.read(2, 1, Start::At(position), None);
    assert_eq!(world.fetches, fetched, "nothing is asked for anew");
    assert!(world.requests[&run].may_read());
}

#[test]
fn who_does_not_come_back_costs_a_second_of_an_idle_connection() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    player(&mut world, 1, 1);
    world.leave(1);
    world.pass(Duration::from_millis(999));
    assert!(world.requests.values().all(|run| !run.is_aborted));
    world.pass(Duration::from_millis(1));
    assert!(world.requests.values().all(|run| run.is_aborted));
}

#[test]
fn whose_rate_is_unknown_leaves_nothing_that_is_read() {
    let mut world = with_runs(4);
    world.open(1, 100 * MIB);
    world.read(1, 1, Start::At(0), None);
    let (run, _) = world.runs_of(1)[0];
    world.answer(run);
    world.progress(run, 64 * KIB);
    world.leave(1);
    assert!(world.requests[&run].is_aborted);
}
