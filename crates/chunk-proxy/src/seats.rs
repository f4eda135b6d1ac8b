//! Places for connections, up to a bound, and how a newcomer gets one when all are taken.
//!
//! Each connection costs a descriptor, and a process that has none left can open neither a file nor a connection to
//! an origin: so there are only so many places. When they are taken, whoever rests between two requests makes room for
//! who comes; and where nobody rests, a newcomer waits for as long as places do become free. Once none has for a
//! moment, newcomers are told so at once, each of them, in place of being kept waiting one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Who has sent nothing for this long is at rest: clients that go on send their next request within a round trip.
const AT_REST: Duration = Duration::from_millis(250);

/// How long to wait after a place was last taken or became free, and for whoever was asked to make room.
const PATIENCE: Duration = Duration::from_secs(1);

/// The places of a server.
#[derive(Debug)]
pub(crate) struct Seats {
    shared: Arc<Shared>,
}

/// Nobody makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
struct Shared {
    most: usize,
    table: Mutex<Table>,
    /// A place has become free, or somebody who was asked for theirs goes on instead.
    changed: Notify,
}

#[derive(Debug)]
struct Table {
    taken: BTreeMap<u64, Arc<Mutex<Sitting>>>,
    /// Numbers places in the order in which they were taken.
    next: u64,
    /// When a place was last taken or became free.
    moved: Instant,
}

/// What one connection does.
#[derive(Debug, Default)]
struct Sitting {
    /// Since when nothing has been asked of the server by it.
    resting: Option<Instant>,
    /// Since when somebody else wants the place.
    wanted: Option<Instant>,
    waker: Option<Waker>,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    sitting: Arc<Mutex<Sitting>>,
    /// The place's number, and of which places; a connection that somebody else accepted has none.
    of: Option<(u64, Arc<Shared>)>,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        let table = Table {
            taken: BTreeMap::new(),
            next: 0,
            moved: Instant::now(),
        };
        Self {
            shared: Arc::new(Shared {
                most: most.max(1),
                table: Mutex::new(table),
                changed: Notify::new(),
            }),
        }
    }

    /// A place, once there is one. One caller at a time.
    pub(crate) async fn take(&self) -> Result<Seat, Full> {
        loop {
            let until = match self.look() {
                Look::Taken(seat) => return Ok(seat),
                Look::Full => return Err(Full),
                Look::Later(until) => until,
            };
            tokio::select! {
                biased;
                () = self.shared.changed.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Asks whoever has rested longest to go, if anybody rests.
    pub(crate) fn make_room(&self) {
        self.shared.lock().ask(Instant::now());
    }

    fn look(&self) -> Look {
        let now = Instant::now();
        let mut table = self.shared.lock();
        if table.taken.len() < self.shared.most {
            let number = table.next;
            table.next += 1;
            table.moved = now;
            let sitting = Arc::<Mutex<Sitting>>::default();
            table.taken.insert(number, Arc::clone(&sitting));
            return Look::Taken(Seat {
                sitting,
                of: Some((number, Arc::clone(&self.shared))),
            });
        }
        let asked = table.ask(now);
        let since = match asked {
            Asked::Somebody(at) => at.max(table.moved),
            Asked::Nobody | Asked::NotBefore(_) => table.moved,
        };
        let enough = since + PATIENCE;
        if enough <= now {
            return Look::Full;
        }
        Look::Later(match asked {
            Asked::NotBefore(at) => at.min(enough),
            Asked::Somebody(_) | Asked::Nobody => enough,
        })
    }
}

enum Look {
    Taken(Seat),
    Full,
    /// Look again then, or when something has changed.
    Later(Instant),
}

/// Who was asked to make room.
#[derive(Clone, Copy)]
enum Asked {
    /// At that time.
    Somebody(Instant),
    Nobody,
    /// Nobody rests for long enough before that.
    NotBefore(Instant),
}

impl Table {
    /// Asks whoever has rested longest, unless somebody has just been asked and not gone yet.
    fn ask(&self, now: Instant) -> Asked {
        let mut longest: Option<(Instant, &Mutex<Sitting>)> = None;
        for sitting in self.taken.values() {
            let found = lock(sitting);
            match found.wanted {
                Some(at) if now < at + PATIENCE => return Asked::Somebody(at),
                // It has not gone, and will not.
                Some(_) => continue,
                None => {}
            }
            if let Some(since) = found.resting
                && longest.is_none_or(|(other, _)| since < other)
            {
                longest = Some((since, sitting));
            }
        }
        let Some((since, sitting)) = longest else {
            return Asked::Nobody;
        };
        if now < since + AT_REST {
            return Asked::NotBefore(since + AT_REST);
        }
        let mut sitting = lock(sitting);
        // It may have gone on since it was looked at; then the next look finds somebody else.
        if sitting.resting != Some(since) {
            return Asked::NotBefore(now + AT_REST);
        }
        sitting.wanted = Some(now);
        if let Some(waker) = sitting.waker.take() {
            waker.wake();
        }
        Asked::Somebody(now)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The place of a connection that somebody else accepted: nobody asks for it.
    pub(crate) fn elsewhere() -> Self {
        Self {
            sitting: Arc::default(),
            of: None,
        }
    }

    /// From now on nothing is asked of the server; asked again, from now on anew.
    pub(crate) fn rest(&self) {
        lock(&self.sitting).resting = Some(Instant::now());
    }

    /// Something is to be answered: the place is not given up before that is done.
    pub(crate) fn work(&self) {
        let was_wanted = {
            let mut sitting = lock(&self.sitting);
            sitting.resting = None;
            sitting.wanted.take().is_some()
        };
        if was_wanted && let Some((_, shared)) = &self.of {
            shared.changed.notify_one();
        }
    }

    /// Ready when the place is to be given up.
    pub(crate) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut sitting = lock(&self.sitting);
        if sitting.wanted.is_some() {
            return Poll::Ready(());
        }
        match &mut sitting.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((number, shared)) = &self.of {
            {
                let mut table = shared.lock();
                table.taken.remove(number);
                table.moved = Instant::now();
            }
            shared.changed.notify_one();
        }
    }
}

fn lock(sitting: &Mutex<Sitting>) -> MutexGuard<'_, Sitting> {
    sitting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await; // why: paused time
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_longest_makes_room_at_once_and_who_works_does_not() {
        let seats = Seats::new(3);
        let working = seats.take().await.unwrap();
        working.work();
        let first = seats.take().await.unwrap();
        first.rest();
        pass(SECOND).await;
        let second = seats.take().await.unwrap();
        second.rest();
        pass(10 * SECOND).await;
        let came = Instant::now();
        let leaving = async {
            poll_fn(|cx| first.poll_wanted(cx)).await;
            drop(first);
        };
        let (taken, ()) = tokio::join!(seats.take(), leaving);
        assert!(taken.is_ok());
        assert_eq!(came.elapsed(), Duration::ZERO);
        drop(working);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_when_asked_keeps_the_place_and_the_next_is_asked() {
        let seats = Seats::new(2);
        let first = seats.take().await.unwrap();
        first.rest();
        let second = seats.take().await.unwrap();
        pass(SECOND).await;
        second.rest();
        pass(SECOND).await;
        let others = async {
            poll_fn(|cx| first.poll_wanted(cx)).await;
            first.work();
            poll_fn(|cx| second.poll_wanted(cx)).await;
            drop(second);
        };
        let (taken, ()) = tokio::join!(seats.take(), others);
        assert!(taken.is_ok());
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn who_only_just_came_is_no_room() {
        let seats = Seats::new(1);
        let only = seats.take().await.unwrap();
        only.rest();
        let came = Instant::now();
        let leaving = async {
            poll_fn(|cx| only.poll_wanted(cx)).await;
            drop(only);
        };
        let (taken, ()) = tokio::join!(seats.take(), leaving);
        assert!(taken.is_ok());
        assert_eq!(came.elapsed(), AT_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_leaves_all_who_come_are_told_after_one_wait() {
        let seats = Seats::new(2);
        let _taken = (seats.take().await, seats.take().await);
        let came = Instant::now();
        for _ in 0..100 {
            assert_eq!(seats.take().await.unwrap_err(), Full);
        }
        assert_eq!(came.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn where_places_become_free_whoever_comes_gets_one() {
        let seats = Arc::new(Seats::new(2));
        for _ in 0..50 {
            // Each leaves within what the others wait, and all together take far longer.
            let seat = seats.take().await.unwrap();
            tokio::spawn(async move {
                pass(SECOND * 9 / 10).await;
                drop(seat);
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_and_does_not_leave_is_waited_for_no_longer_than_that() {
        let seats = Seats::new(1);
        let only = seats.take().await.unwrap();
        only.rest();
        pass(60 * SECOND).await;
        let came = Instant::now();
        assert!(seats.take().await.is_err());
        assert_eq!(came.elapsed(), PATIENCE);
        assert!(seats.take().await.is_err(), "and not by the next one again");
        assert_eq!(came.elapsed(), PATIENCE);
        drop(only);
        assert!(seats.take().await.is_ok());
    }
}
