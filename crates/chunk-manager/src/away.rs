//! Orders whose origin does not answer: they are kept, and taken up again when it does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chunk_core::scheduler::Input;
use chunk_core::{Admission, ByteRange, RetryPolicy};
use chunk_ports::{CacheEvent, Clock};

use crate::error::OpenError;
use crate::inner::Inner;
use crate::live::Live;
use crate::waiters::Told;

/// When an order asks again: each time the scheduler has made all of its tries already, so later than it does, and
/// often enough that a night's work is not lost. One who finds the origin back tells the others.
const AGAIN: RetryPolicy =
    RetryPolicy::DEFAULT.with_backoff(Duration::from_secs(10), Duration::from_secs(120));

impl Inner {
    /// What was ordered of `live` could not be had, for this reason: where that may pass, it is asked for again in
    /// its time.
    pub(crate) fn order_unanswered(self: &Arc<Self>, live: &Arc<Live>, error: &OpenError) {
        if !error.may_pass() {
            self.jobs().answered(live.entry);
            // Had it answered when the order was given, there would be none. Where bytes of the file are here, it may
            // only be away for a moment.
            let was_ever_there = live.lock().meta.is_some();
            if matches!(error, OpenError::NotFound { .. }) && !was_ever_there {
                self.withdraw(live, error);
            }
            return;
        }
        let Some(times) = self.jobs().unanswered(live.entry) else {
            return;
        };
        let retry_after = match error {
            OpenError::Busy { retry_after, .. } => *retry_after,
            _ => None,
        };
        let pause = AGAIN.delay(times, live.entry.get(), retry_after);
        let again = AskAgain {
            inner: Arc::downgrade(self),
            live: Arc::downgrade(live),
            times,
        };
        tokio::spawn(again.after(Arc::clone(&self.clock), pause));
    }

    /// An origin that could not be connected to has answered somebody: what is ordered from it goes on.
    pub(crate) fn resume_orders_from(&self, origin: &str) {
        let waiting = self.jobs().all_unanswered();
        waiting
            .into_iter()
            .filter_map(|entry| self.live_of_entry(entry))
            .filter(|live| live.key.origin() == origin)
            .for_each(|live| self.resume_jobs(&live));
    }

    /// An order that was taken before anybody could know turns out to be one that can never be carried out: there is
    /// no such file, or nothing of it may be kept. It is withdrawn, and status tells why.
    pub(crate) fn withdraw(&self, live: &Live, error: &OpenError) {
        let Some(whole) = ByteRange::try_new(0, u64::MAX) else {
            return;
        };
        let why: Arc<str> = error.to_string().into();
        if !self.jobs().withdraw(live.entry, Arc::clone(&why)) {
            return;
        }
        self.dirty.mark_jobs(live.entry);
        self.space.change();
        tracing::warn!(key = %live.key, %error, "an order is withdrawn");
        live.tell_waits(whole, &Told::Failed(error.clone()));
        self.tell(Input::Cancelled {
            source: live.source,
            range: whole,
        });
        self.events
            .publish(CacheEvent::range_failed(Arc::clone(&live.key), whole, why));
    }
}

/// Holds neither the manager nor the entry while it waits: both may end meanwhile.
struct AskAgain {
    inner: Weak<Inner>,
    live: Weak<Live>,
    /// After how many failures in a row; after another one somebody else waits.
    times: u32,
}

impl AskAgain {
    async fn after(self, clock: Arc<dyn Clock>, mut pause: Duration) {
        loop {
            clock.sleep_until(clock.now() + pause).await;
            let (Some(inner), Some(live)) = (self.inner.upgrade(), self.live.upgrade()) else {
                return;
            };
            let is_over = inner.is_closed.load(Ordering::Acquire) || live.lock().is_given_up();
            if is_over || inner.jobs().times_unanswered(live.entry) != Some(self.times) {
                return;
            }
            match inner.reach.admit(live.key.origin(), clock.now()) {
                // One looks, for all.
                Admission::Free | Admission::Look => return inner.resume_jobs(&live),
                Admission::Refused { retry_after } => pause = retry_after,
            }
        }
    }
}
