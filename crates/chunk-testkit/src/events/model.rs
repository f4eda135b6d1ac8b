//! Random operations on an event bus; every event is accounted for.

use chunk_ports::{EventSink, EventSource, EventSubscription, Received};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::rules::{number_of, numbered, poll_once};

/// One operation on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Publishes this many events.
    Publish(u64),
    /// Adds a subscriber.
    Subscribe,
    /// Receives this many times, as far as there is something.
    #[non_exhaustive]
    Receive {
        /// Which subscriber, modulo their number.
        who: usize,
        /// How many times.
        times: usize,
    },
    /// Drops a subscriber.
    Unsubscribe(usize),
}

/// Random operations.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1..40_u64).prop_map(Op::Publish),
        2 => Just(Op::Subscribe),
        4 => (any::<usize>(), 1..40_usize).prop_map(|(who, times)| Op::Receive { who, times }),
        1 => any::<usize>().prop_map(Op::Unsubscribe),
    ];
    prop::collection::vec(op, 1..60)
}

/// Runs random operations on fresh buses: each subscriber gets, in order, every event published since it
/// subscribed, or is told of exactly as many as are gone.
///
/// # Panics
/// With the smallest failing operations found.
pub fn assert_no_event_vanishes<B>(cases: u32, fresh: impl Fn() -> B)
where
    B: EventSink + EventSource,
{
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&ops(), |ops| {
        run_ops(&fresh(), &ops);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Runs `ops` and accounts for every event: also the way to name a failure that was found.
///
/// # Panics
/// Where an event vanished, came twice or came out of order.
pub fn run_ops<B: EventSink + EventSource>(bus: &B, ops: &[Op]) {
    let mut published = 0;
    // Each subscriber with the number of the event it must see next.
    let mut subscribers: Vec<(Box<dyn EventSubscription>, u64)> = Vec::new();
    for op in ops {
        match *op {
            Op::Publish(count) => {
                for number in published..published + count {
                    bus.publish(numbered("a", number));
                }
                published += count;
            }
            Op::Subscribe => subscribers.push((bus.subscribe(), published)),
            Op::Receive { who, times } => {
                let count = subscribers.len();
                if let Some((subscription, next)) = subscribers.get_mut(who % count.max(1)) {
                    for _ in 0..times {
                        receive(&mut **subscription, next, published);
                    }
                }
            }
            Op::Unsubscribe(who) => {
                if !subscribers.is_empty() {
                    subscribers.swap_remove(who % subscribers.len());
                }
            }
        }
    }
    for (subscription, next) in &mut subscribers {
        while *next < published {
            receive(&mut **subscription, next, published);
        }
        assert_eq!(poll_once(&mut **subscription), None);
    }
}

fn receive(subscription: &mut dyn EventSubscription, next: &mut u64, published: u64) {
    match poll_once(subscription) {
        None => assert_eq!(*next, published, "an event is missing"),
        Some(Received::Lagged(gone)) => {
            assert!(gone > 0, "a lag of nothing");
            *next += gone;
            assert!(*next <= published, "more gone than there were");
        }
        Some(Received::Event(event)) => {
            assert_eq!(number_of(&event), Some(("a".to_owned(), *next)));
            *next += 1;
        }
        Some(other) => panic!("the bus lives, and yet: {other:?}"),
    }
}
