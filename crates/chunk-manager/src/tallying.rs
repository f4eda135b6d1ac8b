//! Sums that go on from where the last process left them.
//!
//! What is counted is kept every few seconds and at an orderly end, apart from everything else: it is told to no
//! reader, and no byte depends on it. A process that is killed takes the last seconds of it along.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_ports::{ChunkStoreError, Tally, TallyStore};

use crate::inner::Inner;
use crate::manager::ChunkManager;
use crate::status::Statistics;
use crate::timely::LOOK_UP;

/// How often sums that have changed are kept: seldom enough that it is nothing beside a commit in every half second of
/// playback.
const EVERY: Duration = Duration::from_secs(5);

/// The sums of earlier processes, and where all are kept.
#[derive(Debug, Default)]
pub(crate) struct Tallying {
    store: Option<Arc<dyn TallyStore>>,
    /// Unknown until the store has told it: what is kept before that would be lost.
    before: Mutex<Option<Tally>>,
    /// What the store has. Held while it is given something else, so that the last one is the largest.
    kept: tokio::sync::Mutex<Option<Tally>>,
}

impl Tallying {
    pub(crate) fn new(store: Option<Arc<dyn TallyStore>>) -> Self {
        Self {
            store,
            ..Self::default()
        }
    }

    fn before(&self) -> Option<Tally> {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Learns the sums of earlier processes; without them, the present one's are shown and not kept.
    pub(crate) async fn recall_tally(&self) {
        let mut kept = self.tallying.kept.lock().await;
        let Some(store) = &self.tallying.store else {
            return;
        };
        if kept.is_some() {
            return;
        }
        match self.in_time(store.tally()).await {
            Ok(tally) => {
                *kept = Some(tally);
                let before = &self.tallying.before;
                *before.lock().unwrap_or_else(PoisonError::into_inner) = Some(tally);
            }
            Err(error) => tracing::debug!(%error, "what was counted before is not known now"),
        }
    }

    /// Keeps the sums every few seconds, for as long as the manager lives.
    pub(crate) async fn keep_tallying(self: Arc<Self>) {
        loop {
            self.clock.sleep_until(self.clock.now() + EVERY).await;
            if self.is_closed.load(Ordering::Acquire) {
                // Whoever closed keeps what is left.
                return;
            }
            self.keep_tally().await;
        }
    }

    /// Keeps the sums, where they have changed. That it cannot be done is no reason for anything.
    pub(crate) async fn keep_tally(&self) {
        let Some(store) = &self.tallying.store else {
            return;
        };
        self.recall_tally().await;
        let mut kept = self.tallying.kept.lock().await;
        if kept.is_none() {
            return;
        }
        let tally = self.tally();
        if *kept == Some(tally) {
            return;
        }
        match self.in_time(store.keep_tally(tally)).await {
            Ok(()) => *kept = Some(tally),
            Err(error) => tracing::debug!(%error, "what was counted could not be kept"),
        }
    }

    fn tally(&self) -> Tally {
        let now = of_this_process(&self.counters.snapshot());
        self.tallying.before().unwrap_or_default().plus(now)
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, ChunkStoreError>> + Send,
    ) -> Result<T, ChunkStoreError> {
        let enough = self.clock.now() + LOOK_UP;
        tokio::select! {
            biased;
            outcome = call => outcome,
            () = self.clock.sleep_until(enough) => {
                Err(ChunkStoreError::Unavailable("it does not answer".into()))
            }
        }
    }
}

impl ChunkManager {
    /// What was counted since the cache was made, this process included. Without a
    /// [`TallyStore`](crate::Builder::tally) it is what this one has counted.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.inner.tally()
    }
}

const fn of_this_process(statistics: &Statistics) -> Tally {
    Tally {
        bytes_served: statistics.bytes_served,
        bytes_served_from_cache: statistics.bytes_served_from_cache,
        bytes_from_origin: statistics.bytes_from_origin,
        bytes_wasted: statistics.bytes_wasted,
        hits: statistics.hits,
        misses: statistics.misses,
        origin_requests: statistics.origin_requests,
        evicted_bytes: statistics.evicted_bytes,
        checksum_failures: statistics.checksum_failures,
    }
}
