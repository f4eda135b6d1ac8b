//! Waiting for a change of shared state without losing one.
//!
//! Whoever waits looks and registers under one lock; whoever changes the state finds the waiters
//! under that same lock and wakes them after it is released. These two functions are the only place where that
//! happens. They are generic over the lock, so that every interleaving of them can be tried out.

use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::waiters::{Token, Waiters};

/// A lock around a `T`, as far as waiting needs one.
pub(crate) trait Mutual<T> {
    /// Does `work` while nobody else can get at the state.
    fn hold<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

impl<T> Mutual<T> for Mutex<T> {
    fn hold<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// State that is waited for.
pub(crate) trait Awaited {
    /// Those who wait for it.
    fn waiters(&mut self) -> &mut Waiters;
}

/// What a look at the state comes to.
pub(crate) enum Look<R> {
    /// No need to wait.
    Done(R),
    /// Wait for the byte at `offset`; see [`Waiters::register`].
    Await {
        offset: u64,
        requested_from: Option<u64>,
    },
}

/// Looks at the state and, where that comes to waiting, registers before anybody can change it.
pub(crate) fn poll_for<T: Awaited, R>(
    state: &impl Mutual<T>,
    token: &mut Option<Token>,
    waker: &Waker,
    look: impl FnOnce(&mut T, Option<Token>) -> Look<R>,
) -> Poll<R> {
    state.hold(|state| match look(state, *token) {
        Look::Done(result) => {
            state.waiters().remove(token);
            Poll::Ready(result)
        }
        Look::Await {
            offset,
            requested_from,
        } => {
            state
                .waiters()
                .register(token, offset, requested_from, waker);
            Poll::Pending
        }
    })
}

/// Changes the state, then wakes those whom the change concerns; never under the lock.
pub(crate) fn change<T, R>(
    state: &impl Mutual<T>,
    change: impl FnOnce(&mut T) -> (R, Vec<Waker>),
) -> R {
    let (result, woken) = state.hold(change);
    for waker in woken {
        waker.wake();
    }
    result
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use chunk_core::{ByteRange, RangeSet};
    use shuttle::sync::Mutex;
    use shuttle::{check_random, future, thread};

    use super::*;
    use crate::waiters::Told;

    const SCHEDULES: usize = 2_000;

    impl<T> Mutual<T> for Mutex<T> {
        fn hold<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
            work(&mut self.lock().unwrap())
        }
    }

    /// What of an open file waiting depends on.
    #[derive(Default)]
    struct File {
        waiters: Waiters,
        readable: RangeSet,
        failures: u64,
    }

    impl Awaited for File {
        fn waiters(&mut self) -> &mut Waiters {
            &mut self.waiters
        }
    }

    type Shared = Arc<Mutex<File>>;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Ending {
        Bytes,
        Failed,
        Cancelled,
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    /// A reader's or a request's wait for all of `wanted`, as the manager does it.
    fn wait(file: &Shared, wanted: ByteRange) -> Ending {
        let mut token = None;
        let ending = future::block_on(poll_fn(|cx| {
            poll_for(&**file, &mut token, cx.waker(), |file, token| {
                let Some(gap) = file.readable.last_gap(wanted) else {
                    return Look::Done(Ending::Bytes);
                };
                if file.waiters.told(token).is_some() {
                    return Look::Done(Ending::Cancelled);
                }
                if file.failures > 0 {
                    return Look::Done(Ending::Failed);
                }
                Look::Await {
                    offset: gap.last(),
                    requested_from: Some(wanted.start()),
                }
            })
        }));
        assert!(token.is_none(), "a waiter stays behind");
        ending
    }

    fn publish(file: &Shared, bytes: ByteRange) {
        change(&**file, |file| {
            file.readable.insert(bytes);
            ((), file.waiters.of(bytes, None))
        });
    }

    fn fail(file: &Shared) {
        change(&**file, |file| {
            file.failures += 1;
            ((), file.waiters.all())
        });
    }

    fn cancel(file: &Shared, bytes: ByteRange) {
        change(&**file, |file| {
            (
                (),
                file.waiters.tell(bytes, &Told::Cancelled, &file.readable),
            )
        });
    }

    /// Runs `work` on a thread of the schedule.
    fn go<R: Send + 'static>(
        file: &Shared,
        work: impl FnOnce(&Shared) -> R + Send + 'static,
    ) -> thread::JoinHandle<R> {
        let file = Arc::clone(file);
        thread::spawn(move || work(&file))
    }

    #[test]
    fn fault28_no_wake_up_is_lost() {
        let schedule = || {
            let file = Shared::default();
            let waiters = [(0, 1), (5, 15), (0, 20)]
                .map(|(start, end)| go(&file, move |file| wait(file, range(start, end))));
            let writers = [(10, 20), (0, 10)]
                .map(|(start, end)| go(&file, move |file| publish(file, range(start, end))));
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Ending::Bytes);
            }
            for writer in writers {
                writer.join().unwrap();
            }
            assert_eq!(file.lock().unwrap().waiters.len(), 0);
        };
        check_random(schedule, SCHEDULES);
    }

    #[test]
    fn fault29_a_failure_reaches_everybody_although_bytes_arrive_just_then() {
        let schedule = || {
            let file = Shared::default();
            let waiters = [0, 5, 15].map(|at| go(&file, move |file| wait(file, range(at, at + 1))));
            let writer = go(&file, |file| publish(file, range(0, 10)));
            let failure = go(&file, fail);
            let endings = waiters.map(|waiter| waiter.join().unwrap());
            assert_eq!(endings[2], Ending::Failed, "byte 15 never comes");
            writer.join().unwrap();
            failure.join().unwrap();
            assert_eq!(file.lock().unwrap().waiters.len(), 0);
        };
        check_random(schedule, SCHEDULES);
    }

    #[test]
    fn r21_a_cancelled_wait_ends_although_some_of_its_bytes_arrive_just_then() {
        let schedule = || {
            let file = Shared::default();
            let request = go(&file, |file| wait(file, range(0, 20)));
            let writer = go(&file, |file| publish(file, range(15, 20)));
            // Somebody who came too late for the cancellation is none of this test's business.
            while file.lock().unwrap().waiters.len() == 0 {
                thread::yield_now();
            }
            cancel(&file, range(0, 20));
            assert_eq!(request.join().unwrap(), Ending::Cancelled);
            writer.join().unwrap();
        };
        check_random(schedule, SCHEDULES);
    }

    #[test]
    fn fault31_a_waiter_that_leaves_is_forgotten_whoever_wakes_it() {
        let schedule = || {
            let file = Shared::default();
            let leaver = go(&file, |file| {
                let mut token = None;
                let _ = poll_for(&**file, &mut token, Waker::noop(), |_, _| {
                    Look::<()>::Await {
                        offset: 5,
                        requested_from: None,
                    }
                });
                file.lock().unwrap().waiters.remove(&mut token);
            });
            let stayer = go(&file, |file| wait(file, range(5, 6)));
            let writer = go(&file, |file| publish(file, range(0, 10)));
            leaver.join().unwrap();
            assert_eq!(stayer.join().unwrap(), Ending::Bytes);
            writer.join().unwrap();
            assert_eq!(file.lock().unwrap().waiters.len(), 0);
        };
        check_random(schedule, SCHEDULES);
    }

    /// That these tests can fail: a look and a registration under two locks lose a wake-up.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn trap06_looking_first_and_registering_later_loses_a_wake_up() {
        let schedule = || {
            let file = Shared::default();
            let writer = go(&file, |file| publish(file, range(0, 10)));
            let mut token = None;
            future::block_on(poll_fn(|cx| {
                if file.lock().unwrap().readable.contains(5) {
                    return Poll::Ready(());
                }
                let mut file = file.lock().unwrap();
                file.waiters.register(&mut token, 5, None, cx.waker());
                Poll::Pending
            }));
            writer.join().unwrap();
        };
        check_random(schedule, SCHEDULES);
    }
}
