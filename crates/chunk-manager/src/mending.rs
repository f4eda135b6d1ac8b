//! Trying again what could not be stored, without anybody having to come for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chunk_core::ByteRange;
use chunk_core::scheduler::Input;
use chunk_ports::Clock;

use crate::inner::Inner;
use crate::live::{Caching, Live};
use crate::orders::Rest;
use crate::segment::Place;
use crate::writer::{INDEX_WAIT, STORE_RETRY, Writer};

/// The longest pause between two attempts: each may fetch again what durable requests want.
const LONGEST: Duration = Duration::from_secs(80);
/// How long after a failed flush durable work is taken up again.
const REPEAT: Duration = Duration::from_secs(30);

impl Inner {
    /// Sees to it that `live` is stored once that works again, whether or not more bytes come.
    pub(crate) fn mend_later(self: &Arc<Self>, live: &Arc<Live>) {
        if !std::mem::replace(&mut live.lock().is_mending, true) {
            let clock = Arc::clone(&self.clock);
            tokio::spawn(mend(clock, Arc::downgrade(self), Arc::downgrade(live)));
        }
    }

    /// Offers to the stores what they have refused; returns whether nothing is left to do.
    async fn mend_now(self: &Arc<Self>, live: &Arc<Live>) -> bool {
        if self.jobs().resting(live.entry) == Some(Rest::Store) {
            self.lift_order(live);
        }
        let is_answered = self.offer_again(live).await;
        let (has_jobs, waits_for_room) = {
            let jobs = self.jobs();
            let rest = jobs.resting(live.entry);
            let waits_for_room = matches!(rest, Some(Rest::Room | Rest::Hopeless));
            (jobs.has(live.entry), waits_for_room)
        };
        let is_over = self.is_beyond_mending(live);
        let mut state = live.lock();
        // What waits for room is told when there is some.
        let is_done = is_over
            || waits_for_room
            || is_answered && !state.tail.has_left() && (state.caching == Caching::On || !has_jobs);
        state.is_mending = !is_done;
        is_done
    }

    /// Offers to the stores what they have refused, and asks for what durable requests lack then; returns whether
    /// the index answers.
    pub(crate) async fn offer_again(self: &Arc<Self>, live: &Arc<Live>) -> bool {
        if self.is_beyond_mending(live) {
            return true;
        }
        self.index_again(live);
        let enough = self.clock.now() + INDEX_WAIT;
        let generation = tokio::select! {
            biased;
            generation = live.generation() => generation,
            () = self.clock.sleep_until(enough) => None,
        };
        let Some(generation) = generation else {
            return false;
        };
        let writer = Writer::new(Arc::clone(self), Arc::clone(live));
        writer.offer_left(generation).await;
        if !live.lock().tail.has_left() {
            // What was in memory only, and had to go, comes from the origin again.
            self.resume_jobs(live);
        }
        true
    }

    fn is_beyond_mending(&self, live: &Live) -> bool {
        let state = live.lock();
        state.is_given_up()
            || state.is_closed
            || state.caching == Caching::Never
            || self.is_closed.load(Ordering::Acquire)
    }
}

/// Holds neither the manager nor the entry between attempts: both may end meanwhile.
async fn mend(clock: Arc<dyn Clock>, inner: Weak<Inner>, live: Weak<Live>) {
    let mut pause = STORE_RETRY;
    loop {
        clock.sleep_until(clock.now() + pause).await;
        let (Some(inner), Some(live)) = (inner.upgrade(), live.upgrade()) else {
            return;
        };
        if inner.mend_now(&live).await {
            return;
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// A segment's file can no longer be trusted: everything in it is forgotten, and what is written from now on goes
/// to a new epoch.
pub(crate) fn abandon_segment(inner: &Arc<Inner>, live: &Arc<Live>, segment: u32) {
    let range = {
        let mut state = live.lock();
        let Some(meta) = &state.meta else { return };
        let place = Place {
            entry: live.entry,
            generation: live
                .generation_now()
                .unwrap_or(chunk_core::GenerationId::new(0)),
            segment,
            segment_size: meta.segment_size,
            total_len: meta.representation.total_len,
        };
        let Some(range) = place.range() else { return };
        // What is in memory stays readable: it did not come from the file.
        let in_memory: Vec<ByteRange> = state
            .tail
            .unstored()
            .filter_map(|piece| piece.intersection(range))
            .collect();
        state.stored.remove(range);
        state.recorded.remove(range);
        state.trusted.remove(range);
        state.readable.remove(range);
        for range in in_memory {
            state.readable.insert(range);
        }
        // Copies in memory of what was stored go as well, or they would lie under what is fetched again.
        state.tail.drop_stored(range);
        let found = state.segments.entry(segment).or_default();
        found.former = found.begin_epoch();
        found.is_shrunk = true;
        range
    };
    inner.note_forgotten(live, range);
    inner.tell(Input::Forgotten {
        source: live.source,
        range,
    });
    inner.dirty.mark(live);
    if inner.jobs().take_back(live.entry, range) {
        inner.dirty.mark_jobs(live.entry);
    }
    if inner.jobs().has(live.entry) {
        // A durable request ends when its bytes are recorded, and these are not. Not at once: on a bad disk
        // the same bytes would be fetched for ever.
        let (inner, live) = (Arc::clone(inner), Arc::clone(live));
        tokio::spawn(async move {
            inner.clock.sleep_until(inner.clock.now() + REPEAT).await;
            inner.resume_jobs(&live);
        });
    }
}
