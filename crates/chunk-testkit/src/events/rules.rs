//! The rules of the event ports' contracts, one function each.
//!
//! Each takes both ends of one fresh bus and panics where the rule is broken. Both ends are given by
//! ownership, so that a rule can end the bus.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use chunk_core::{ByteRange, CacheKey};
use chunk_ports::{CacheEvent, EventSink, EventSource, EventSubscription, Received};
use futures_util::future::join;

/// How many events the bus under test keeps for a slow subscriber, at least.
pub const KEPT: usize = 16;

/// More events than any bus made for [`KEPT`] keeps.
const MANY: u64 = 20_000;

/// The event with this number, of the publisher named `publisher`.
#[must_use]
pub fn numbered(publisher: &str, number: u64) -> CacheEvent {
    let key = CacheKey::from_parts(publisher, "/film.mkv", "", "");
    // Any number fits: a range's start may be anything below 2⁶⁴ − 1.
    ByteRange::with_len(number, 1).map_or_else(
        |_| CacheEvent::evicted(Arc::new(key.clone()), number),
        |range| CacheEvent::chunk_completed(Arc::new(key.clone()), range),
    )
}

/// The publisher and the number of an event that [`numbered`] made.
#[must_use]
pub fn number_of(event: &CacheEvent) -> Option<(String, u64)> {
    match event {
        CacheEvent::ChunkCompleted {
            cache_key,
            start_byte,
            ..
        } => Some((cache_key.origin().to_owned(), *start_byte)),
        _ => None,
    }
}

/// Polls `recv` once, as a `select!` does that another branch wins.
pub(super) fn poll_once(subscription: &mut dyn EventSubscription) -> Option<Received> {
    let mut recv = pin!(subscription.recv());
    match recv.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(received) => Some(received),
        Poll::Pending => None,
    }
}

async fn expect(subscription: &mut dyn EventSubscription, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        assert_eq!(
            subscription.recv().await,
            Received::Event(numbered("a", number))
        );
    }
}

/// Each subscriber gets each event once, in the order of publication.
pub async fn every_subscriber_sees_every_event_in_order<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut first = source.subscribe();
    let mut second = source.subscribe();
    for number in 0..KEPT as u64 {
        sink.publish(numbered("a", number));
    }
    expect(&mut *first, 0..KEPT as u64).await;
    expect(&mut *second, 0..KEPT as u64).await;
    assert_eq!(poll_once(&mut *first), None, "nothing comes twice");
}

/// What was published before a subscription is not part of it.
pub async fn a_subscription_begins_now<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut early = source.subscribe();
    sink.publish(numbered("a", 0));
    let mut late = source.subscribe();
    sink.publish(numbered("a", 1));
    expect(&mut *late, 1..2).await;
    expect(&mut *early, 0..2).await;
}

/// A sink without subscribers takes events, and serves the subscribers who come later.
pub async fn publishing_to_nobody_is_fine<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    for number in 0..MANY {
        sink.publish(numbered("a", number));
    }
    let mut late = source.subscribe();
    assert_eq!(poll_once(&mut *late), None);
    sink.publish(numbered("a", 7));
    expect(&mut *late, 7..8).await;
}

/// A subscriber that waits is woken by the next event.
pub async fn a_waiting_subscriber_wakes<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut subscription = source.subscribe();
    // `join` polls the waiting side first.
    let (received, ()) = join(subscription.recv(), async {
        sink.publish(numbered("a", 3));
    })
    .await;
    assert_eq!(received, Received::Event(numbered("a", 3)));
}

/// A `recv` that is dropped while it waits takes nothing with it.
pub async fn a_dropped_recv_loses_no_event<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut subscription = source.subscribe();
    assert_eq!(poll_once(&mut *subscription), None);
    sink.publish(numbered("a", 0));
    sink.publish(numbered("a", 1));
    // A future that was made and never polled takes nothing either.
    drop(subscription.recv());
    expect(&mut *subscription, 0..2).await;
}

/// Two publishers on two threads: the order of each is kept, nothing is doubled or lost.
pub async fn one_publishers_events_stay_in_order_beside_others<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut subscription = source.subscribe();
    let publish = |name: &'static str| {
        let sink = Arc::clone(&sink);
        move || {
            for number in 0..KEPT as u64 / 2 {
                sink.publish(numbered(name, number));
            }
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(publish("a"));
        threads.spawn(publish("b"));
    });
    let mut next = [0, 0];
    for _ in 0..KEPT {
        let Received::Event(event) = subscription.recv().await else {
            panic!("fewer events than the bus keeps");
        };
        let (publisher, number) = number_of(&event).unwrap();
        let next = &mut next[usize::from(publisher == "b")];
        assert_eq!(number, *next, "of {publisher}");
        *next += 1;
    }
    assert_eq!(next, [KEPT as u64 / 2; 2]);
}

/// A slow subscriber learns how many events are gone and goes on with the oldest one kept.
pub async fn fault33_a_slow_subscriber_is_told_that_it_lagged<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut slow = source.subscribe();
    for number in 0..MANY {
        sink.publish(numbered("a", number));
    }
    let Received::Lagged(gone) = slow.recv().await else {
        panic!("{MANY} events cannot all be kept: the subscriber must be told");
    };
    assert!(
        gone > 0 && gone <= MANY - KEPT as u64,
        "{gone} of {MANY} gone"
    );
    expect(&mut *slow, gone..MANY).await;
    assert_eq!(poll_once(&mut *slow), None);
}

/// One slow subscriber neither blocks the publisher nor costs another its events.
pub async fn a_slow_subscriber_holds_nobody_up<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let _slow = source.subscribe();
    let mut quick = source.subscribe();
    for number in 0..MANY {
        sink.publish(numbered("a", number));
        expect(&mut *quick, number..number + 1).await;
    }
}

/// A subscriber that left, with events unread, is forgotten.
pub async fn a_dropped_subscription_holds_nobody_up<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut stays = source.subscribe();
    let leaves = source.subscribe();
    sink.publish(numbered("a", 0));
    drop(leaves);
    sink.publish(numbered("a", 1));
    expect(&mut *stays, 0..2).await;
}

/// The end of the bus takes nothing away that was published.
pub async fn what_was_published_comes_before_closed<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut subscription = source.subscribe();
    sink.publish(numbered("a", 0));
    drop((sink, source));
    expect(&mut *subscription, 0..1).await;
    assert_eq!(subscription.recv().await, Received::Closed);
}

/// After the end every call says so.
pub async fn closed_stays_closed<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut subscription = source.subscribe();
    drop((sink, source));
    for _ in 0..3 {
        assert_eq!(subscription.recv().await, Received::Closed);
    }
}

/// A subscriber that waits when the bus ends is woken.
pub async fn a_waiting_subscriber_learns_of_the_end<K, S>(sink: Arc<K>, source: Arc<S>)
where
    K: EventSink + ?Sized,
    S: EventSource + ?Sized,
{
    let mut subscription = source.subscribe();
    let (received, ()) = join(subscription.recv(), async {
        drop((sink, source));
    })
    .await;
    assert_eq!(received, Received::Closed);
}
