//! Which durable orders may go on, by the room there is for what they would bring.
//!
//! An order whose bytes could not be kept would fetch them for nothing, and again later. So it *rests*: its
//! requests stay, durable, and nothing is fetched for them. Orders are weighed in the order of the queue, each
//! as a whole: one that is begun must not be what keeps an earlier one from its end. They are weighed anew
//! whenever room may have come or gone, and at no other time.
//!
//! A file system tells nobody when others free space on it. While an order waits for that, and only then, it is
//! looked at now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunk_core::scheduler::Input;
use chunk_core::{ByteRange, EntryId};
use chunk_ports::CacheEvent;

use crate::error::OpenError;
use crate::inner::Inner;
use crate::live::{Caching, Live};
use crate::waiters::Told;
use crate::writer::BATCH;

/// How often to look again while an order waits for what nobody tells of: free space, or room that the books promise.
const LOOK: Duration = Duration::from_secs(30);

/// Why an order rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// What it would bring has no room for now.
    Room,
    /// Nothing but other limits, or fewer pins, can make room for it.
    Hopeless,
    /// The stores fail, and are tried again in their own time.
    Store,
}

/// What an order leaves to others, as it was last weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whether it makes no room for itself with bytes of its own entry.
    pub(crate) keeps_own: bool,
    /// Whether an earlier order may take the room that it has, because neither could go on otherwise.
    pub(crate) yields: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            keeps_own: true,
            yields: false,
        }
    }
}

/// An order on the scales.
#[derive(Clone, Copy, Debug)]
struct Order {
    /// Bytes on disk of its entry.
    held: u64,
    /// Bytes that it has yet to bring.
    missing: u64,
    /// Whether it wants all of its file that is not there: then it cannot use its own bytes' room.
    is_whole: bool,
    /// Whether it could go on if it had room.
    is_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    Waits,
    /// It waits, and an earlier one may take its room.
    Yields,
}

/// Which of the orders, first come first, may go on where at most `most` bytes fit and `fixed` of them cannot
/// be evicted and are no order's.
fn weigh(most: u64, fixed: u64, orders: &[Order]) -> Vec<Verdict> {
    // Wide enough for any number of files.
    let most = u128::from(most);
    let all_held: u128 = orders.iter().map(|order| u128::from(order.held)).sum();
    let taken = u128::from(fixed) + all_held;
    let mut claimed = 0;
    let mut verdicts: Vec<Verdict> = orders
        .iter()
        .map(|order| {
            let own = if order.is_whole { 0 } else { order.held };
            let (own, missing) = (u128::from(own), u128::from(order.missing));
            if missing == 0 {
                Verdict::Fits
            } else if taken - own + claimed + missing > most {
                Verdict::Waits
            } else {
                if order.is_ready {
                    claimed += missing;
                }
                Verdict::Fits
            }
        })
        .collect();
    let goes_on = |(order, verdict): (&Order, &Verdict)| {
        order.is_ready && order.missing > 0 && *verdict == Verdict::Fits
    };
    if orders.iter().zip(&verdicts).any(goes_on) {
        return verdicts;
    }
    // What they have keeps all of them from having the rest.
    let waits = |index: usize| verdicts.get(index) == Some(&Verdict::Waits);
    let helped = orders.iter().enumerate().find(|&(index, order)| {
        let yielded: u128 = (index + 1..orders.len())
            .filter(|&later| waits(later))
            .filter_map(|later| orders.get(later))
            .map(|later| u128::from(later.held))
            .sum();
        let needed = taken - yielded + u128::from(order.missing);
        order.is_ready && waits(index) && needed <= most
    });
    if let Some((helped, _)) = helped {
        for (index, verdict) in verdicts.iter_mut().enumerate().skip(helped) {
            if index == helped {
                *verdict = Verdict::Fits;
            } else if *verdict == Verdict::Waits {
                *verdict = Verdict::Yields;
            }
        }
    }
    verdicts
}

impl Inner {
    /// Weighs orders whenever room may have come or gone, for as long as the manager lives.
    pub(crate) async fn keep_orders(self: Arc<Self>) {
        loop {
            if self.waits_unheard() {
                let look = self.clock.now() + LOOK;
                tokio::select! {
                    biased;
                    () = self.space.changes() => {}
                    () = self.clock.sleep_until(look) => {
                        self.observe_free_space().await;
                        self.evict_again().await;
                    }
                }
            } else {
                self.space.changes().await;
            }
            if self.is_closed.load(Ordering::Acquire) {
                return;
            }
            self.weigh_orders();
        }
    }

    /// Whether an order waits for something that nobody tells: that others have freed space on the disk, or that what
    /// could not be evicted can be.
    fn waits_unheard(&self) -> bool {
        let is_any_waiting = self.jobs().rests_for(Rest::Room);
        is_any_waiting && (self.space.is_bound_by_disk() || self.any_refused().is_some())
    }

    fn any_refused(&self) -> Option<EntryId> {
        let changes = self.space.changes_so_far();
        self.jobs().any_refused(changes)
    }

    /// Tries to make the room that the books promise and an order did not get; not by its runs, each of which would ask
    /// the origin first.
    async fn evict_again(self: &Arc<Self>) {
        let Some(entry) = self.any_refused() else {
            return;
        };
        // More than the books promise: that was not to be had.
        let wanted = self.space.lock().ledger.room().saturating_add(BATCH);
        match self.make_room(wanted, Some(entry)).await {
            // Where nothing was to be evicted, others had the room reserved.
            Ok(_) => self.space.change(),
            Err(error) => tracing::warn!(%error, "nothing could be evicted for an order"),
        }
    }

    /// The order rests from now on.
    pub(crate) fn rest_order(self: &Arc<Self>, live: &Arc<Live>, why: Rest) {
        {
            // Told under the lock, so that the scheduler hears of rest and resumption in this order.
            let mut jobs = self.jobs();
            if !jobs.rest(live.entry, why) {
                return;
            }
            self.tell(Input::OrdersSuspended {
                source: live.source,
            });
        }
        if why == Rest::Store {
            self.mend_later(live);
        }
    }

    /// The order may go on.
    pub(crate) fn lift_order(&self, live: &Live) {
        let mut jobs = self.jobs();
        jobs.lift(live.entry);
        self.tell(Input::OrdersResumed {
            source: live.source,
        });
    }

    /// Decides which orders go on, if anything has changed since that was last done.
    pub(crate) fn weigh_orders(self: &Arc<Self>) {
        let _alone = self.space.weighing();
        if !self.space.take_change() {
            return;
        }
        let resting: Vec<EntryId> = self.jobs().take_settled();
        for live in resting
            .iter()
            .filter_map(|&entry| self.live_of_entry(entry))
        {
            self.tell(Input::OrdersResumed {
                source: live.source,
            });
        }
        let entries = self.jobs().entries();
        let orders: Vec<(Arc<Live>, Order)> = entries
            .into_iter()
            .filter_map(|entry| self.live_of_entry(entry))
            .map(|live| {
                let order = self.order(&live);
                (live, order)
            })
            .collect();
        if orders.is_empty() {
            return;
        }
        for ((live, order), verdict) in orders.iter().zip(self.verdicts(&orders)) {
            let terms = Terms {
                keeps_own: order.is_whole,
                yields: verdict == Verdict::Yields,
            };
            self.jobs().set_terms(live.entry, terms);
            self.apply(live, order, verdict);
        }
    }

    fn verdicts(&self, orders: &[(Arc<Live>, Order)]) -> Vec<Verdict> {
        let missing: u128 = orders
            .iter()
            .map(|(_, order)| u128::from(order.missing))
            .sum();
        if missing <= u128::from(self.space.unused()) {
            return vec![Verdict::Fits; orders.len()];
        }
        let entries: BTreeSet<EntryId> = orders.iter().map(|(live, _)| live.entry).collect();
        let load = self.load_of(&entries);
        let orders: Vec<Order> = orders
            .iter()
            .map(|(live, order)| Order {
                held: load.held.get(&live.entry).copied().unwrap_or(0),
                ..*order
            })
            .collect();
        weigh(load.most, load.fixed, &orders)
    }

    fn order(&self, live: &Live) -> Order {
        let rows = self.jobs().rows(live.entry);
        let is_asleep = {
            let jobs = self.jobs();
            jobs.resting(live.entry) == Some(Rest::Store)
                || jobs.times_unanswered(live.entry).is_some()
        };
        let state = live.lock();
        // How much is missing of a file of unknown length, nobody can tell.
        let total_len = state.total_len();
        let wanted = rows
            .iter()
            .filter_map(|row| row.range.before(total_len.unwrap_or(0)));
        let mut all = state.stored.clone();
        let mut missing = 0;
        for range in wanted {
            missing += all.insert(range);
        }
        let is_whole = total_len
            .and_then(|len| ByteRange::try_new(0, len))
            .is_none_or(|whole| all.contains_range(whole));
        Order {
            held: 0,
            missing,
            is_whole,
            is_ready: !is_asleep && state.last_failure().is_none(),
        }
    }

    fn apply(self: &Arc<Self>, live: &Arc<Live>, order: &Order, verdict: Verdict) {
        let before = self.jobs().resting(live.entry);
        if before == Some(Rest::Store) {
            return;
        }
        if verdict == Verdict::Fits {
            let changes = self.space.changes_so_far();
            if before.is_some() && !self.jobs().is_refused(live.entry, changes) {
                self.resume_order(live);
            }
            return;
        }
        let error = self.never_fits(live).filter(|_| order.is_whole);
        let why = error.as_ref().map_or(Rest::Room, |_| Rest::Hopeless);
        if before != Some(why) {
            self.jobs().lift(live.entry);
            self.rest_order(live, why);
            error
                .into_iter()
                .for_each(|error| self.tell_hopeless(live, &error));
        }
    }

    /// Whoever waits for the bytes of an order that no eviction helps is told, and so is everybody who listens.
    fn tell_hopeless(&self, live: &Live, error: &OpenError) {
        tracing::warn!(key = %live.key, %error, "an order waits for other limits");
        let total_len = live.lock().total_len().unwrap_or(u64::MAX);
        let rows = self.jobs().rows(live.entry);
        for range in rows.iter().filter_map(|row| row.range.before(total_len)) {
            live.tell_waits(range, &Told::Failed(error.clone()));
            self.events.publish(CacheEvent::range_failed(
                Arc::clone(&live.key),
                range,
                error.to_string().into(),
            ));
        }
    }

    /// What came and found no room is offered to the store, and what is missing is asked for.
    fn resume_order(self: &Arc<Self>, live: &Arc<Live>) {
        {
            let mut state = live.lock();
            if let Caching::Failing { retry_at } = &mut state.caching {
                *retry_at = self.clock.now();
            }
        }
        self.lift_order(live);
        let (inner, live) = (Arc::clone(self), Arc::clone(live));
        tokio::spawn(async move { inner.offer_again(&live).await });
    }

    /// Bytes have gone; an order may have waited for them to be recorded.
    pub(crate) fn ask_again_for_lost(&self, live: &Live) {
        let is_of_use = {
            let state = live.lock();
            !state.is_given_up() && state.last_failure().is_none()
        };
        if is_of_use {
            self.resume_jobs(live);
        }
    }

    /// Why the whole file can never be there, if that is so under the present limits and pins.
    pub(crate) fn never_fits(&self, live: &Live) -> Option<OpenError> {
        let total_len = live.lock().total_len()?;
        let max_size = self.limits().max_size?;
        let pinned = self.space.pinned_besides(live.entry);
        (total_len > max_size.saturating_sub(pinned)).then_some(OpenError::TooLarge {
            total_len,
            max_size,
            pinned,
        })
    }

    pub(crate) fn live_of_entry(&self, entry: EntryId) -> Option<Arc<Live>> {
        self.live_now(&*self.keys.of(entry)?)
            .filter(|live| live.entry == entry)
    }

    /// Entries whose bytes stay when room is made for `by`.
    ///
    /// Orders leave each other what they have. Somebody who plays a file may take it; only an order for that very
    /// file keeps its bytes, or it would eat what it has fetched and never end.
    pub(crate) fn spared(&self, by: Option<EntryId>) -> BTreeSet<EntryId> {
        let Some(by) = by else {
            return BTreeSet::new();
        };
        let is_played = self
            .all_lives()
            .iter()
            .any(|live| live.entry == by && live.is_played());
        let jobs = self.jobs();
        if is_played {
            let is_going_on = jobs.has(by) && jobs.resting(by).is_none();
            return is_going_on.then_some(by).into_iter().collect();
        }
        jobs.entries()
            .into_iter()
            .filter(|&entry| {
                let terms = jobs.terms(entry);
                if entry == by {
                    terms.keeps_own
                } else {
                    !terms.yields
                }
            })
            .collect()
    }
}

/// What is on disk, as far as it matters to orders.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// The most that could be there.
    pub(crate) most: u64,
    /// What cannot be evicted and is no order's.
    pub(crate) fixed: u64,
    /// What there is of entries with orders.
    pub(crate) held: BTreeMap<EntryId, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn order(held: u64, missing: u64) -> Order {
        Order {
            held,
            missing,
            is_whole: true,
            is_ready: true,
        }
    }

    #[test]
    fn first_come_is_first_served_and_the_second_waits() {
        use Verdict::{Fits, Waits};
        assert_eq!(weigh(12, 0, &[order(0, 9), order(0, 9)]), [Fits, Waits]);
        assert_eq!(weigh(12, 0, &[order(8, 1), order(0, 9)]), [Fits, Waits]);
        assert_eq!(weigh(18, 0, &[order(0, 9), order(0, 9)]), [Fits, Fits]);
        // A smaller one goes on in what is left beside the first, and past one that does not fit.
        assert_eq!(weigh(12, 0, &[order(0, 9), order(0, 3)]), [Fits, Fits]);
        assert_eq!(weigh(12, 4, &[order(0, 9), order(0, 8)]), [Waits, Fits]);
    }

    #[test]
    fn what_fits_exactly_fits() {
        assert_eq!(weigh(12, 3, &[order(0, 9)]), [Verdict::Fits]);
        assert_eq!(weigh(12, 3, &[order(5, 4)]), [Verdict::Fits]);
        assert_eq!(weigh(11, 3, &[order(5, 4)]), [Verdict::Waits]);
    }

    #[test]
    fn orders_that_block_each_other_leave_the_room_to_the_first() {
        use Verdict::{Fits, Waits, Yields};
        assert_eq!(weigh(12, 0, &[order(6, 3), order(5, 4)]), [Fits, Yields]);
        // Not where that does not help.
        assert_eq!(weigh(12, 0, &[order(6, 7), order(5, 8)]), [Waits, Waits]);
        assert_eq!(weigh(12, 0, &[order(0, 13), order(5, 4)]), [Waits, Fits]);
    }

    #[test]
    fn who_cannot_go_on_claims_nothing() {
        let dead = Order {
            is_ready: false,
            ..order(0, 9)
        };
        use Verdict::{Fits, Waits};
        assert_eq!(weigh(12, 0, &[dead, order(0, 9)]), [Fits, Fits]);
        assert_eq!(weigh(12, 0, &[order(0, 0), order(0, 13)]), [Fits, Waits]);
    }

    #[test]
    fn an_order_for_a_part_may_use_the_room_of_the_rest_of_its_file() {
        let part = Order {
            is_whole: false,
            ..order(11, 3)
        };
        assert_eq!(weigh(12, 0, &[part]), [Verdict::Fits]);
        assert_eq!(weigh(12, 10, &[part]), [Verdict::Waits]);
    }
}
