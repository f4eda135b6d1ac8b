//! The scheduler under any sequence of facts, with a driver that checks what must always hold.

use std::time::Duration;

use crate::driver::{File, World, reader, source};
use chunk_core::scheduler::{Action, Config, Failure, Hints, Input, RunId, Start};
use chunk_core::{BLOCK_SIZE, ByteRange, Priority, RangeSet};
use proptest::collection::vec;
use proptest::prelude::*;

/// The longest file: several blocks, several times the distance that is waited out.
const LONGEST: u64 = 2 * 1024 * 1024;
const SOURCES: u64 = 3;
const READERS: u64 = 5;

#[derive(Clone, Debug)]
enum Op {
    Open(u64, File, bool, Vec<ByteRange>),
    Close(u64),
    FailSource(u64),
    LearnLength(u64),
    Read(u64, u64, Start, Option<u64>, Hints),
    Take(u64, u64, Duration),
    Seek(u64, u64),
    Bound(u64, Option<u64>),
    Rate(u64, Option<u64>),
    Leave(u64),
    Request(u64, ByteRange, Priority),
    Cancel(u64, ByteRange),
    Suspend(u64),
    Resume(u64),
    Supply(u64, ByteRange),
    Forget(u64, ByteRange),
    Cap(u64, Option<u64>),
    Answer(usize),
    Progress(usize, u64),
    Finish(usize),
    Fail(usize, Failure),
    Pass(Duration),
}

fn offset() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![
        0..LONGEST,
        (0..LONGEST / BLOCK_SIZE).prop_map(|block| block * BLOCK_SIZE),
    ]
}

fn byte_range() -> impl Strategy<Value = ByteRange> {
    let len = prop_oneof![Just(1), 1..LONGEST, Just(BLOCK_SIZE), Just(4 * BLOCK_SIZE)];
    (offset(), len).prop_map(|(start, len)| ByteRange::with_len(start, len).unwrap())
}

fn file() -> impl Strategy<Value = File> {
    let has_ranges = prop_oneof![4 => Just(true), 1 => Just(false)];
    let len = prop_oneof![Just(0), Just(1), 1..LONGEST, LONGEST / 2..LONGEST];
    (len, any::<bool>(), has_ranges).prop_map(|(len, is_length_told, has_ranges)| File {
        len,
        is_length_told,
        has_ranges,
    })
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        4 => Just(Failure::Transient { retry_after: None }),
        1 => (0..5u64).prop_map(|seconds| Failure::Transient {
            retry_after: Some(Duration::from_secs(seconds))
        }),
        1 => Just(Failure::Permanent),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..SOURCES;
    let who = 0..READERS;
    let start = prop_oneof![
        4 => offset().prop_map(Start::At),
        1 => (1..LONGEST).prop_map(Start::FromEnd),
    ];
    let end = prop::option::weighted(0.3, offset());
    let hints = (
        prop::option::weighted(0.2, 1..4_000_000u64),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(rate, yields)| Hints::default().with_rate(rate).with_yielding(yields));
    let idle = (0..300u64).prop_map(Duration::from_millis);
    prop_oneof![
        6 => (id.clone(), file(), any::<bool>(), vec(byte_range(), 0..3))
            .prop_map(|(id, file, known, present)| Op::Open(id, file, known, present)),
        1 => id.clone().prop_map(Op::Close),
        1 => id.clone().prop_map(Op::FailSource),
        1 => id.clone().prop_map(Op::LearnLength),
        6 => (who.clone(), id.clone(), start, end.clone(), hints)
            .prop_map(|(who, of, start, end, hints)| Op::Read(who, of, start, end, hints)),
        6 => (who.clone(), 1..LONGEST / 2, idle).prop_map(|(who, most, idle)| Op::Take(who, most, idle)),
        3 => (who.clone(), offset()).prop_map(|(who, to)| Op::Seek(who, to)),
        1 => (who.clone(), end).prop_map(|(who, end)| Op::Bound(who, end)),
        1 => (who.clone(), prop::option::of(0..4_000_000u64)).prop_map(|(who, rate)| Op::Rate(who, rate)),
        2 => who.prop_map(Op::Leave),
        8 => (id.clone(), byte_range(), priority()).prop_map(|(id, range, level)| Op::Request(id, range, level)),
        2 => (id.clone(), byte_range()).prop_map(|(id, range)| Op::Cancel(id, range)),
        1 => id.clone().prop_map(Op::Suspend),
        1 => id.clone().prop_map(Op::Resume),
        1 => (id.clone(), byte_range()).prop_map(|(id, range)| Op::Supply(id, range)),
        2 => (id.clone(), byte_range()).prop_map(|(id, range)| Op::Forget(id, range)),
        1 => (id, prop::option::weighted(0.8, 1..LONGEST / 8)).prop_map(|(id, window)| Op::Cap(id, window)),
        12 => (0..8usize).prop_map(Op::Answer),
        16 => (0..8usize, 1..LONGEST / 4).prop_map(|(run, bytes)| Op::Progress(run, bytes)),
        12 => (0..8usize).prop_map(Op::Finish),
        2 => (0..8usize, failure()).prop_map(|(run, failure)| Op::Fail(run, failure)),
        4 => (0..3_000u64).prop_map(|millis| Op::Pass(Duration::from_millis(millis))),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    (1..5usize, 0..2_000u64).prop_map(|(runs, steady)| {
        let mut config = Config::default().with_max_runs(runs);
        config.steady = Duration::from_millis(steady);
        config.skip = BLOCK_SIZE;
        config.startup = 2 * BLOCK_SIZE;
        config.hold_limit = Duration::from_secs(2);
        config
    })
}

/// The `index`-th request of those there are.
fn nth(world: &World, index: usize) -> Option<RunId> {
    let count = world.requests.len().max(1);
    world.requests.keys().nth(index % count).copied()
}

fn apply(world: &mut World, op: &Op) {
    match op {
        Op::Open(id, file, known, present) => {
            let present: RangeSet = present
                .iter()
                .filter_map(|range| range.before(file.len))
                .collect();
            world.open_file(source(*id), *file, *known, present);
        }
        Op::Close(id) => world.close(
            *id,
            Input::SourceClosed {
                source: source(*id),
            },
        ),
        Op::FailSource(id) => world.close(
            *id,
            Input::SourceFailed {
                source: source(*id),
            },
        ),
        Op::LearnLength(id) => world.learn_length(*id),
        Op::Read(who, of, start, end, hints) => {
            world.read_as(*who, *of, *start, *end, *hints);
        }
        Op::Take(who, most, idle) => {
            world.take(*who, *most, *idle);
        }
        Op::Seek(who, to) => world.seek(*who, *to),
        Op::Bound(who, end) => {
            if let Some(found) = world.readers.get_mut(&reader(*who)) {
                found.2 = *end;
                world.input(Input::ReaderBounded {
                    reader: reader(*who),
                    end: *end,
                });
            }
        }
        Op::Rate(who, rate) => world.input(Input::ReaderRate {
            reader: reader(*who),
            rate: *rate,
        }),
        Op::Leave(who) => world.leave(*who),
        Op::Request(id, range, level) => world.request(*id, *range, *level),
        Op::Suspend(id) => world.input(Input::OrdersSuspended {
            source: source(*id),
        }),
        Op::Resume(id) => world.input(Input::OrdersResumed {
            source: source(*id),
        }),
        Op::Cancel(id, range) => world.cancel(*id, *range),
        Op::Supply(id, range) => world.supply(*id, *range),
        Op::Forget(id, range) => {
            if let Some(open) = world.files.get_mut(&source(*id)) {
                open.present.remove(*range);
                world.input(Input::Forgotten {
                    source: source(*id),
                    range: *range,
                });
            }
        }
        Op::Cap(id, window) => world.cap(*id, *window),
        Op::Answer(index) => {
            if let Some(run) = nth(world, *index) {
                world.answer(run);
            }
        }
        Op::Progress(index, bytes) => {
            if let Some(run) = nth(world, *index) {
                world.progress(run, *bytes);
            }
        }
        Op::Finish(index) => {
            if let Some(run) = nth(world, *index) {
                world.finish(run);
            }
        }
        Op::Fail(index, failure) => {
            if let Some(run) = nth(world, *index) {
                world.fail(run, *failure);
            }
        }
        Op::Pass(time) => world.pass(*time),
    }
}

fn play(config: Config, ops: &[Op]) -> World {
    let mut world = World::new(config);
    world.origins = 2;
    for op in ops {
        apply(&mut world, op);
    }
    world
}

/// With an origin that serves what it is asked for, everything wanted arrives, and then nothing is left.
fn drain(world: &mut World) {
    for id in 0..SOURCES {
        world.input(Input::OrdersResumed { source: source(id) });
    }
    world.settle();
    assert!(world.requests.is_empty(), "{world:#?}");
    assert_eq!(
        (world.scheduler.active_runs(), world.scheduler.held_runs()),
        (0, 0)
    );
    assert!(world.scheduler.queue().is_empty());
    for open in world.files.values() {
        assert!(open.outstanding.is_empty(), "{open:?}");
    }
    for (id, (of, start, end)) in &world.readers {
        let open = &world.files[of];
        let at = match *start {
            Start::At(at) => at,
            Start::FromEnd(len) => open.file.len.saturating_sub(len),
        };
        let is_past_end = at >= open.file.len.min(end.unwrap_or(u64::MAX));
        assert!(
            is_past_end || world.disappointed.contains(id) || open.present.contains(at),
            "reader {id} of {of} waits at {at} for ever: {world:#?}"
        );
    }
}

proptest! {
    #[test]
    fn r05_r14_whatever_happens_the_rules_hold_and_the_queue_drains(
        config in config(),
        ops in vec(op(), 1..80),
    ) {
        let mut world = play(config, &ops);
        drain(&mut world);
    }

    #[test]
    fn r03_explicit_requests_alone_keep_the_order_of_their_levels(
        config in config(),
        ops in vec(
            op().prop_filter("no reader", |op| !matches!(op, Op::Read(..))),
            1..80,
        ),
    ) {
        let mut world = play(config, &ops);
        drain(&mut world);
    }

    #[test]
    fn equal_traces_give_equal_actions(config in config(), ops in vec(op(), 1..60)) {
        let actions = |_| -> Vec<Action> {
            let mut world = play(config, &ops);
            world.settle();
            world.log
        };
        prop_assert_eq!(actions(1), actions(2));
    }
}
