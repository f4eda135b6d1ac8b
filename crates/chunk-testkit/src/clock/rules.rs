//! The rules of the clock's contract, one function each.
//!
//! Each takes a clock whose time is the paused time of the runtime it runs in, and panics where the rule is
//! broken.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use chunk_core::Tick;
use chunk_ports::Clock;
use futures_util::future::join_all;

/// A timer may be as coarse as this: tokio's ticks are a millisecond.
const COARSE: Duration = Duration::from_millis(2);

const SECOND: Duration = Duration::from_secs(1);

/// However often it is looked at, and whatever happens in between, it is never earlier than it was.
pub async fn now_never_goes_back<C: Clock + ?Sized>(clock: &C) {
    let mut last = clock.now();
    for step in 0..1000u32 {
        match step % 4 {
            0 => clock.sleep_until(last + Duration::from_micros(300)).await,
            1 => tokio::task::yield_now().await,
            2 => tokio::time::sleep(Duration::from_nanos(7)).await, // why: virtual time, as little as there is
            _ => {}
        }
        let now = clock.now();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
}

/// Time that passes is time that the clock shows.
pub async fn now_goes_on_with_time<C: Clock + ?Sized>(clock: &C) {
    let begun = clock.now();
    tokio::time::sleep(SECOND).await; // why: virtual time that the clock is to show
    let shown = clock.now().since(begun);
    assert!((SECOND..=SECOND + COARSE).contains(&shown), "{shown:?}");
}

/// A sleeper finds its deadline reached, and little more.
pub async fn a_sleep_ends_at_its_deadline_and_not_before<C: Clock + ?Sized>(clock: &C) {
    for wait in [1, 250, 60_000, 24 * 3_600_000].map(Duration::from_millis) {
        let deadline = clock.now() + wait;
        clock.sleep_until(deadline).await;
        let now = clock.now();
        assert!(now >= deadline, "{now:?} is before {deadline:?}");
        assert!(now.since(deadline) <= COARSE, "{now:?} for {deadline:?}");
    }
}

/// What is over, or is just now, is not waited for.
pub async fn a_deadline_that_has_passed_is_no_wait<C: Clock + ?Sized>(clock: &C) {
    tokio::time::sleep(SECOND).await; // why: virtual time, so that there is a past
    let begun = clock.now();
    for deadline in [Tick::ZERO, begun - SECOND / 2, begun] {
        clock.sleep_until(deadline).await;
    }
    assert!(clock.now().since(begun) <= COARSE, "it waited");
}

/// Many sleepers wake one after the other, each at its time, in whatever order they lay down.
pub async fn sleeps_end_in_the_order_of_their_deadlines<C: Clock + ?Sized>(clock: &C) {
    let begun = clock.now();
    let ended = AtomicUsize::new(0);
    let waits = [7u32, 3, 9, 1, 5];
    let places = join_all(waits.map(|wait| {
        let ended = &ended;
        async move {
            clock.sleep_until(begun + SECOND * wait).await;
            ended.fetch_add(1, Ordering::Relaxed)
        }
    }))
    .await;
    assert_eq!(places, [3, 1, 4, 0, 2]);
}

/// Dropping the wait takes back the wish to be woken.
pub async fn a_dropped_sleep_wakes_nobody<C: Clock + ?Sized>(clock: &C) {
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    {
        let mut sleep = pin!(clock.sleep_until(clock.now() + SECOND));
        let polled = sleep.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Pending);
    }
    tokio::time::sleep(SECOND * 2).await; // why: virtual time, past the deadline that was given up
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);

    // The same wait, kept, does wake: the count above is no accident.
    let mut sleep = pin!(clock.sleep_until(clock.now() + SECOND));
    let polled = sleep.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(polled, Poll::Pending);
    tokio::time::sleep(SECOND * 2).await; // why: virtual time, past the deadline
    assert!(woken.0.load(Ordering::Relaxed) > 0);
}

/// Who waits for the same instant as somebody who gave up still wakes.
pub async fn a_dropped_sleep_disturbs_no_other<C: Clock + ?Sized>(clock: &C) {
    let deadline = clock.now() + SECOND;
    let mut stays = pin!(clock.sleep_until(deadline));
    {
        let mut leaves = pin!(clock.sleep_until(deadline));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(stays.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(leaves.as_mut().poll(&mut cx), Poll::Pending);
    }
    stays.await;
    assert!(clock.now() >= deadline);
}

/// [`Tick::NEVER`] is later than everything: a wait for it does not end, and does not overflow either.
pub async fn never_does_not_come<C: Clock + ?Sized>(clock: &C) {
    // 584 years from the clock's start: some clocks cannot tell it from never, and no timer holds it.
    for deadline in [Tick::NEVER, Tick::from_nanos(u64::MAX - 1)] {
        let year = Duration::from_secs(365 * 24 * 3600);
        let waited = tokio::time::timeout(year, clock.sleep_until(deadline)).await;
        assert!(waited.is_err(), "{deadline:?} has come");
    }
}

/// What is written down can be read by others: seconds since 1970, later than this rule was written.
pub async fn the_wall_clock_counts_from_1970<C: Clock + ?Sized>(clock: &C) {
    let unix = clock.unix_seconds();
    assert!((1_600_000_000..1 << 40).contains(&unix), "{unix}");
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
