//! Closing the entries that nobody uses any more.

use std::sync::Arc;
use std::time::Duration;

use chunk_core::scheduler::{Input, SourceId};

use crate::driver::Driver;
use crate::live::Live;

/// How long an entry stays open after its last reader: players close and reopen.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// When to look again where somebody has an unused entry in hand for a moment: no multiple of what else
/// happens now and then, so that the two do not meet each time.
const RECHECK: Duration = Duration::from_secs(7);
/// How long an entry of which nothing is known stays open: as long as its failure is remembered.
const UNKNOWN_IDLE: Duration = chunk_core::RetryPolicy::DEFAULT.negative_ttl;

impl Driver {
    /// Something may use it until then.
    pub(crate) fn stays_open_for_now(&mut self, live: &Live) {
        let closes_at = self.inner.clock.now() + stays_open(live);
        self.idle.insert(live.source, closes_at);
    }

    pub(crate) fn close_idle(&mut self) {
        let now = self.inner.clock.now();
        let due: Vec<SourceId> = self
            .idle
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(&source, _)| source)
            .collect();
        for source in due {
            self.idle.remove(&source);
            let Some(live) = self.lives.get(&source).map(Arc::clone) else {
                continue;
            };
            // Durable work goes on once its bytes can be stored.
            let is_mending = live.lock().is_mending;
            let has_work = {
                let jobs = self.inner.jobs();
                jobs.waits(live.entry) || is_mending && jobs.has(live.entry)
            };
            let is_used = live.reader_count() > 0 || has_work || self.scheduler.is_in_use(source);
            if is_used {
                self.idle.insert(source, now + IDLE);
                continue;
            }
            let closes_at = live.left_at() + stays_open(&live);
            if closes_at > now {
                // Nobody told of its last readers.
                self.idle.insert(source, closes_at);
                continue;
            }
            if !self.inner.release(&live) {
                self.idle.insert(source, now + RECHECK);
                continue;
            }
            self.inner.dirty.mark(&live);
            self.close(&live);
            let leaves_no_trace = live.lock().meta.as_ref().is_none_or(|meta| !meta.storable);
            if leaves_no_trace {
                // Nothing came of it, or nothing of it may be kept: its name leaves no trace in the index.
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move { inner.remove_unused(&live).await });
            }
        }
    }

    pub(crate) fn close(&mut self, live: &Arc<Live>) {
        self.inner.unregister(live);
        live.close();
        self.handle(Input::SourceClosed {
            source: live.source,
        });
        self.act();
        self.lives.remove(&live.source);
        self.idle.remove(&live.source);
        self.errors.remove(&live.source);
    }
}

/// How long an entry stays open without readers.
fn stays_open(live: &Live) -> Duration {
    if live.lock().meta.is_some() {
        IDLE
    } else {
        UNKNOWN_IDLE
    }
}
