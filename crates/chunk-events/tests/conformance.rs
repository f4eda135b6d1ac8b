//! The event bus keeps the contracts of the event ports.

use std::num::NonZeroUsize;

use chunk_events::BroadcastEvents;
use chunk_ports::EventSource;

fn fresh(kept: usize) -> BroadcastEvents {
    BroadcastEvents::new(NonZeroUsize::new(kept).unwrap())
}

chunk_testkit::event_bus_conformance!(fresh);

#[test]
fn no_event_vanishes() {
    for kept in [1, 2, 16] {
        chunk_testkit::events::assert_no_event_vanishes(128, || fresh(kept));
    }
}

#[test]
fn an_immense_capacity_is_cut_rather_than_a_panic() {
    let events = BroadcastEvents::new(NonZeroUsize::MAX);
    let _subscription = events.subscribe();
    assert_eq!(events.subscribers(), 1);
}

#[test]
fn dropped_subscriptions_are_not_counted() {
    let events = BroadcastEvents::default();
    let held = events.subscribe();
    drop(events.subscribe());
    assert_eq!(events.subscribers(), 1);
    drop(held);
    assert_eq!(events.subscribers(), 0);
}
